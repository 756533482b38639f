//! Lists in pages and lists of the past.

use axum::body::Body;
use expect_test::expect;
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

async fn lease(app: &App, name: &str, labels: Value) -> u64 {
    let answer = app.post(LEASES, &json!({"metadata": {"name": name, "labels": labels}})).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    app.store.revision()
}

/// `a b | 5 | 3`: names, whether there is a token, and how many remain.
fn brief(answer: &Answer) -> String {
    let value = answer.json();
    let names: Vec<&str> =
        value["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    let meta = &value["metadata"];
    format!(
        "{} at {}{}{}",
        names.join(" "),
        meta["resourceVersion"].as_str().unwrap(),
        if meta["continue"].is_string() { ", more" } else { "" },
        meta["remainingItemCount"].as_u64().map_or(String::new(), |n| format!(" ({n})")),
    )
}

fn token(answer: &Answer) -> String {
    answer.json()["metadata"]["continue"].as_str().unwrap().to_owned()
}

/// As a client does: every page of a list, in the words of [`brief`].
async fn pages(app: &App, path: &str) -> Vec<String> {
    let mut answer = app.get(path).await;
    let mut pages = vec![brief(&answer)];
    while answer.json()["metadata"]["continue"].is_string() {
        answer = app.get(&format!("{path}&continue={}", token(&answer))).await;
        pages.push(brief(&answer));
    }
    pages
}

#[tokio::test]
async fn pages_show_the_state_of_the_first_one() {
    let app = App::new().await;
    let mut revision = 0;
    for name in ["a", "b", "c", "d", "e"] {
        revision = lease(&app, name, json!({})).await;
    }
    let first = app.get(&format!("{LEASES}?limit=2")).await;
    assert_eq!(brief(&first), format!("a b at {revision}, more (3)"));
    app.delete(&format!("{LEASES}/a")).await;
    app.delete(&format!("{LEASES}/c")).await;
    lease(&app, "bb", json!({})).await;
    let patch = r#"{"spec":{"holderIdentity":"x"}}"#;
    app.with_body("PATCH", &format!("{LEASES}/d"), "application/merge-patch+json", patch).await;
    let second = app.get(&format!("{LEASES}?limit=2&continue={}", token(&first))).await;
    assert_eq!(brief(&second), format!("c d at {revision}, more (1)"));
    assert_eq!(second.json()["items"][1]["spec"]["holderIdentity"], Value::Null);
    // kubectl names a page's size each time; resourceVersion=0 beside a token means nothing.
    let third = app.get(&format!("{LEASES}?limit=500&resourceVersion=0&continue={}", token(&second))).await;
    assert_eq!(brief(&third), format!("e at {revision}"));
    assert_eq!(brief(&app.get(LEASES).await), format!("b bb d e at {}", app.store.revision()));
}

#[tokio::test]
async fn a_page_is_filled_with_what_matches_and_nobody_comes_back_for_nothing() {
    let app = App::new().await;
    let mut revision = 0;
    for n in 0..9 {
        revision = lease(&app, &format!("l{n}"), json!({"odd": (n % 2 == 1).to_string()})).await;
    }
    assert_eq!(
        pages(&app, &format!("{LEASES}?labelSelector=odd%3Dtrue&limit=2")).await,
        [format!("l1 l3 at {revision}, more"), format!("l5 l7 at {revision}")]
    );
    assert_eq!(pages(&app, &format!("{LEASES}?limit=9")).await.len(), 1);
    assert_eq!(
        brief(&app.get(&format!("{LEASES}?limit=0")).await),
        brief(&app.get(&format!("{LEASES}?limit=-1")).await)
    );
    let by_name = format!("{LEASES}?fieldSelector=metadata.name%3Dl4&limit=500");
    assert_eq!(pages(&app, &by_name).await, [format!("l4 at {revision}")]);
    let by_name = format!("{LEASES}?fieldSelector=metadata.name%3Dl44&limit=500");
    assert_eq!(pages(&app, &by_name).await, [format!(" at {revision}")]);
}

#[tokio::test]
async fn pages_go_over_all_namespaces() {
    let app = App::new().await;
    for namespace in ["kube-public", "default", "kube-system"] {
        for name in ["a", "b"] {
            let path = format!("/api/v1/namespaces/{namespace}/services");
            assert_eq!(app.post(&path, &service(name, json!({}))).await.code, 201);
        }
    }
    let revision = app.store.revision();
    assert_eq!(
        pages(&app, "/api/v1/services?limit=4").await,
        [format!("a b a b at {revision}, more (2)"), format!("a b at {revision}")]
    );
    assert_eq!(
        pages(&app, "/api/v1/services?limit=1&fieldSelector=metadata.namespace%3Dkube-public").await,
        [format!("a at {revision}, more"), format!("b at {revision}")]
    );
    let names = pages(&app, "/api/v1/namespaces?limit=3").await;
    assert_eq!(
        names,
        [format!("default kube-node-lease kube-public at {revision}, more (1)"), format!("kube-system at {revision}")]
    );
}

#[tokio::test]
async fn tables_and_metadata_come_in_pages_too() {
    let app = App::new().await;
    for name in ["a", "b", "c"] {
        lease(&app, name, json!({})).await;
    }
    for accept in [
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ] {
        let first = app.get_as(&format!("{LEASES}?limit=2"), accept).await;
        assert_eq!(first.json()["metadata"]["remainingItemCount"], 1);
        let second = app.get_as(&format!("{LEASES}?limit=2&continue={}", token(&first)), accept).await.json();
        let rows = second["rows"].as_array().or(second["items"].as_array()).unwrap().len();
        assert_eq!((rows, &second["metadata"]["continue"]), (1, &Value::Null));
    }
}

#[tokio::test]
async fn a_page_that_came_too_late_may_go_on_with_what_there_is_now() {
    let app = App::with(|config| config.history.max_events = 3).await;
    for name in ["a", "b", "c", "d"] {
        lease(&app, name, json!({})).await;
    }
    let first = app.get(&format!("{LEASES}?limit=1")).await;
    for name in ["e", "bb", "aa", "f"] {
        lease(&app, name, json!({})).await;
    }
    let late = app.get(&format!("{LEASES}?limit=1&continue={}", token(&first))).await;
    expect![[r#"
        410 {
          "apiVersion": "v1",
          "code": 410,
          "kind": "Status",
          "message": "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
          "metadata": {
            "continue": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9"
          },
          "reason": "Expired",
          "status": "Failure"
        }"#]].assert_eq(&late.golden());
    // From there on the pages are of one state again.
    let revision = app.store.revision();
    let second = app.get(&format!("{LEASES}?limit=3&continue={}", token(&late))).await;
    assert_eq!(brief(&second), format!("aa b bb at {revision}, more (4)"));
    app.delete(&format!("{LEASES}/c")).await;
    let third = app.get(&format!("{LEASES}?limit=9&continue={}", token(&second))).await;
    assert_eq!(brief(&third), format!("c d e f at {revision}"));
    assert_eq!(
        app.get(&format!("{LEASES}?resourceVersion=6&resourceVersionMatch=Exact")).await.status(),
        "410 Expired: The resourceVersion for the provided list is too old."
    );
    // A watch says the same by an event: not every client lists again after a 410.
    let watch = app.get(&format!("{LEASES}?watch=1&resourceVersion=6")).await;
    let event = watch.json();
    assert_eq!((watch.code.as_u16(), &event["type"], &event["object"]["code"]), (200, &json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["message"], format!("too old resource version: 6 ({})", revision - 2));
}

#[tokio::test]
async fn what_a_revision_means() {
    let app = App::new().await;
    let one = lease(&app, "a", json!({})).await;
    let two = lease(&app, "b", json!({})).await;
    app.delete(&format!("{LEASES}/a")).await;
    let three = app.store.revision();
    let mut lines = Vec::new();
    for query in [
        String::new(),
        "resourceVersion=0".to_owned(),
        format!("resourceVersion={one}"),
        format!("resourceVersion={one}&limit=5"),
        format!("resourceVersion={two}&limit=1"),
        "resourceVersion=0&limit=5".to_owned(),
        "resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(),
        format!("resourceVersion={one}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={one}&resourceVersionMatch=NotOlderThan&limit=5"),
        format!("resourceVersion={one}&resourceVersionMatch=Exact"),
        format!("resourceVersion={two}&resourceVersionMatch=Exact"),
        format!("resourceVersion={two}&resourceVersionMatch=Exact&limit=1"),
        format!("resourceVersion={three}&resourceVersionMatch=Exact"),
        "resourceVersion=0&resourceVersionMatch=Exact".to_owned(),
        "resourceVersion=9999999".to_owned(),
        "resourceVersion=9999999&limit=1".to_owned(),
        "resourceVersion=9999999&resourceVersionMatch=NotOlderThan".to_owned(),
        "resourceVersion=9999999&resourceVersionMatch=Exact".to_owned(),
        "resourceVersionMatch=NotOlderThan".to_owned(),
        "resourceVersionMatch=Exact".to_owned(),
        "resourceVersion=1&resourceVersionMatch=Roughly".to_owned(),
        "resourceVersion=1&resourceVersionMatch=Exact&continue=x".to_owned(),
        "resourceVersion=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9".to_owned(),
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9".to_owned(),
        "continue=x".to_owned(),
        "resourceVersion=-1".to_owned(),
        "resourceVersion=99999999999999999999".to_owned(),
        "sendInitialEvents=false".to_owned(),
        "limit=x".to_owned(),
    ] {
        let answer = app.get(&format!("{LEASES}?{query}")).await;
        let outcome = if answer.code == 200 { brief(&answer) } else { answer.status() };
        lines.push(format!("{query}\n    {outcome}"));
    }
    let text = lines.join("\n").replace(&format!("={one}"), "=ONE").replace(&format!("={two}"), "=TWO");
    expect![[r#"

            b at 8
        resourceVersion=0
            b at 8
        resourceVersion=ONE
            b at 8
        resourceVersion=ONE&limit=5
            a at 6
        resourceVersion=TWO&limit=1
            a at 7, more (1)
        resourceVersion=0&limit=5
            b at 8
        resourceVersion=0&resourceVersionMatch=NotOlderThan
            b at 8
        resourceVersion=ONE&resourceVersionMatch=NotOlderThan
            b at 8
        resourceVersion=ONE&resourceVersionMatch=NotOlderThan&limit=5
            b at 8
        resourceVersion=ONE&resourceVersionMatch=Exact
            a at 6
        resourceVersion=TWO&resourceVersionMatch=Exact
            a b at 7
        resourceVersion=TWO&resourceVersionMatch=Exact&limit=1
            a at 7, more (1)
        resourceVersion=THREE&resourceVersionMatch=Exact
            b at 8
        resourceVersion=0&resourceVersionMatch=Exact
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"
        resourceVersion=9999999
            504 Timeout: Timeout: Too large resource version: 9999999, current: 8
        resourceVersion=9999999&limit=1
            504 Timeout: Timeout: Too large resource version: 9999999, current: 8
        resourceVersion=9999999&resourceVersionMatch=NotOlderThan
            504 Timeout: Timeout: Too large resource version: 9999999, current: 8
        resourceVersion=9999999&resourceVersionMatch=Exact
            504 Timeout: Timeout: Too large resource version: 9999999, current: 8
        resourceVersionMatch=NotOlderThan
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
        resourceVersionMatch=Exact
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
        resourceVersion=1&resourceVersionMatch=Roughly
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Roughly": supported values: "Exact", "NotOlderThan", ""
        resourceVersion=1&resourceVersionMatch=Exact&continue=x
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided
        resourceVersion=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9
            400 BadRequest: specifying resource version is not allowed when using continue
        continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9
            b at 8
        continue=x
            400 BadRequest: invalid continue token: continue key is not valid: illegal base64 data at input byte 1
        resourceVersion=-1
            400 BadRequest: invalid resource version: resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing "-1": invalid syntax
        resourceVersion=99999999999999999999
            400 BadRequest: invalid resource version: resourceVersion: Invalid value: "99999999999999999999": strconv.ParseUint: parsing "99999999999999999999": value out of range
        sendInitialEvents=false
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list
        limit=x
            400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax"#]].assert_eq(&text.replace(&format!("={three}"), "=THREE"));
}

#[tokio::test]
async fn a_revision_of_the_future() {
    let app = App::new().await;
    let revision = app.store.revision();
    let far = app.get(&format!("{LEASES}?resourceVersion=9999999")).await;
    assert_eq!(far.header("Retry-After"), "1");
    expect![[r#"
        504 {
          "apiVersion": "v1",
          "code": 504,
          "details": {
            "causes": [
              {
                "message": "Too large resource version",
                "reason": "ResourceVersionTooLarge"
              }
            ],
            "retryAfterSeconds": 1
          },
          "kind": "Status",
          "message": "Timeout: Too large resource version: 9999999, current: 5",
          "metadata": {},
          "reason": "Timeout",
          "status": "Failure"
        }"#]]
    .assert_eq(&far.golden());
    // One that is about to come is waited for.
    let path = format!("{LEASES}?resourceVersion={}", revision + 1);
    let (list, _) = tokio::join!(app.get(&path), lease(&app, "a", json!({})));
    assert_eq!(brief(&list), format!("a at {}", revision + 1));
}

#[tokio::test]
async fn a_collective_deletion_takes_a_page_and_no_more() {
    let app = App::new().await;
    for n in 0..6 {
        app.service(&format!("s{n}"), json!({"odd": (n % 2 == 1).to_string()})).await;
    }
    let request = App::request("DELETE", &format!("{SERVICES}?labelSelector=odd%3Dtrue&limit=2"));
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    assert!(brief(&answer).starts_with("s1 s3 at "), "{}", brief(&answer));
    assert!(brief(&app.get(SERVICES).await).starts_with("s0 s2 s4 s5 at "));
}
