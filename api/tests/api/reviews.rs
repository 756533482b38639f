//! Reviews: what `kubectl auth` asks.

use serde_json::{Value, json};

use crate::app::App;

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

async fn ask(app: &App, path: &str, spec: Value) -> Value {
    let answer = app.post(path, &json!({ "spec": spec })).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn the_holder_of_the_token_may_do_everything() {
    let app = App::new().await;
    let path = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let spec = json!({"resourceAttributes": {"verb": "create", "resource": "services", "namespace": "default"}});
    let review = ask(&app, &path, spec.clone()).await;
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("SelfSubjectAccessReview"), &json!("authorization.k8s.io/v1"))
    );
    assert_eq!((&review["spec"], &review["status"]["allowed"]), (&spec, &json!(true)));
    let rules = ask(&app, &format!("{AUTHORIZATION}/selfsubjectrulesreviews"), json!({"namespace": "default"})).await;
    assert_eq!(rules["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    assert_eq!(rules["status"]["incomplete"], false);
}

#[tokio::test]
async fn who_am_i() {
    let app = App::new().await;
    let answer = app.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    expect_test::expect![[r#"
        201 {
          "apiVersion": "authentication.k8s.io/v1",
          "kind": "SelfSubjectReview",
          "metadata": {},
          "status": {
            "userInfo": {
              "groups": [
                "system:masters",
                "system:authenticated"
              ],
              "username": "system:admin"
            }
          }
        }"#]]
    .assert_eq(&answer.golden());
}

#[tokio::test]
async fn the_answer_comes_in_each_format() {
    let app = App::new().await;
    for (media, begin) in [("application/vnd.kubernetes.protobuf", "k8s\0"), ("application/yaml", "apiVersion:")] {
        let request = App::request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").header("Accept", media);
        let answer = app.send(request.body(axum::body::Body::from("{}")).unwrap()).await;
        assert_eq!((answer.code.as_u16(), answer.header("Content-Type")), (201, media));
        assert!(answer.body.starts_with(begin.as_bytes()), "{media}");
    }
}

#[tokio::test]
async fn somebody_else_is_who_the_review_says() {
    let app = App::new().await;
    let path = format!("{AUTHORIZATION}/subjectaccessreviews");
    let question = |user: &str, groups: Value| json!({"user": user, "groups": groups, "resourceAttributes": {"verb": "get", "resource": "pods"}});
    for (user, groups, allowed) in [
        ("system:admin", json!([]), false),
        ("somebody", json!(["system:masters"]), true),
        ("somebody", json!(["system:authenticated"]), false),
    ] {
        let review = ask(&app, &path, question(user, groups)).await;
        assert_eq!(review["status"]["allowed"], allowed, "{review}");
    }
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    let spec = json!({"groups": ["system:masters"], "resourceAttributes": {"verb": "get", "namespace": "default"}});
    assert_eq!(ask(&app, &local, spec).await["status"]["allowed"], true);
}

#[tokio::test]
async fn a_question_that_is_none_is_refused() {
    let app = App::new().await;
    let refusal = async |path: &str, body: Value| app.post(&format!("{AUTHORIZATION}/{path}"), &body).await.status();
    assert_eq!(
        refusal("selfsubjectaccessreviews", json!({"spec": {}})).await,
        "422 Invalid: SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid \
         value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    assert_eq!(
        refusal("subjectaccessreviews", json!({"spec": {"resourceAttributes": {}}})).await,
        "422 Invalid: SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at \
         least one of user or group must be specified"
    );
    let elsewhere = json!({"spec": {"user": "x", "resourceAttributes": {"namespace": "other"}}});
    let text = refusal("namespaces/default/localsubjectaccessreviews", elsewhere).await;
    assert!(text.starts_with("422 Invalid: ") && text.contains("must match metadata.namespace"), "{text}");
    assert_eq!(
        refusal("selfsubjectrulesreviews?fieldValidation=Strict", json!({"spec": {"namespce": "x"}})).await,
        "400 BadRequest: SelfSubjectRulesReview in version \"v1\" cannot be handled as a SelfSubjectRulesReview: strict \
         decoding error: unknown field \"spec.namespce\""
    );
    let answer = app.get(&format!("{AUTHORIZATION}/selfsubjectrulesreviews")).await;
    assert_eq!(answer.code, 405);
}
