//! Questions to nodes, carried by the server.

use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::{Answer, App};

const ROOT: &str = "/apis/portolan.dev/v1alpha1/nodes";

async fn ask(app: &App, node: &str, question: Value) -> Answer {
    app.post(&format!("{ROOT}/{node}/questions"), &question).await
}

/// What an agent hears next.
async fn hear(app: &App, node: &str) -> Vec<(String, Value)> {
    let answer = app.get(&format!("{ROOT}/{node}/questions?timeoutSeconds=5")).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let list = answer.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("QuestionList"), &json!("portolan.dev/v1alpha1")));
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| (item["id"].as_str().unwrap().to_owned(), item["question"].clone())).collect()
}

#[tokio::test]
async fn a_question_finds_its_node_and_the_answer_its_asker() {
    let app = App::new().await;
    // Two questions at once, answered in the other order.
    let agent = async {
        let mut heard = hear(&app, "n1").await;
        while heard.len() < 2 {
            heard.extend(hear(&app, "n1").await);
        }
        for (id, question) in heard.into_iter().rev() {
            let path = format!("{ROOT}/n1/answers/{id}");
            let answer = app.post(&path, &json!({"heard": question})).await;
            assert_eq!(answer.code, 201, "{}", answer.text());
            assert_eq!(app.post(&path, &json!(1)).await.code, 404, "answered once");
        }
    };
    let asker = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::join!(ask(&app, "n1", json!({"kind": "A"})), ask(&app, "n1", json!({"kind": "B"})))
    };
    let ((), (a, b)) = tokio::join!(agent, asker);
    assert_eq!((a.code.as_u16(), a.json()), (200, json!({"heard": {"kind": "A"}})));
    assert_eq!((b.code.as_u16(), b.json()), (200, json!({"heard": {"kind": "B"}})));
    assert!(
        app.get(&format!("{ROOT}/n1/questions?timeoutSeconds=0")).await.json()["items"].as_array().unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_refusal_comes_with_its_code() {
    let app = App::new().await;
    let refusal = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "BadRequest", "code": 400});
    let agent = async {
        let (id, _) = hear(&app, "n1").await.remove(0);
        app.post(&format!("{ROOT}/n1/answers/{id}"), &refusal).await
    };
    let asker = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask(&app, "n1", json!({})).await
    };
    let (_, answer) = tokio::join!(agent, asker);
    assert_eq!(answer.status(), "400 BadRequest: no");
}

#[tokio::test]
async fn who_is_not_there_cannot_be_asked() {
    let app = App::new().await;
    app.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    let mut answers = String::new();
    for answer in [
        ask(&app, "n1", json!({})).await,
        ask(&app, "nobody", json!({})).await,
        app.with_body("POST", &format!("{ROOT}/n1/questions"), "application/json", "{").await,
        app.with_body("POST", &format!("{ROOT}/n1/questions"), "text/plain", "{}").await,
        app.post(&format!("{ROOT}/n1/answers/1-1"), &json!({})).await,
        app.get(&format!("{ROOT}/n1/questions?timeoutSeconds=x")).await,
        app.delete(&format!("{ROOT}/n1/questions")).await,
    ] {
        answers += &format!("{}\n", answer.status());
    }
    expect![[r#"
        504 Timeout: Timeout: no agent of node n1 listens for questions
        404 NotFound: nodes "nobody" not found
        400 BadRequest: the body is not JSON: EOF while parsing an object at line 1 column 1
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json
        404 NotFound: nobody waits for the answer to question "1-1"
        400 BadRequest: invalid timeoutSeconds: "x" is no number of seconds
        405 MethodNotAllowed: the server does not allow this method on the requested resource
    "#]].assert_eq(&answers);
}

/// Whoever asks does not wait for ever, and the question goes with them.
#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_given_up() {
    let app = App::new().await;
    let agent = async {
        let heard = hear(&app, "n1").await;
        tokio::time::sleep(Duration::from_secs(11)).await;
        app.post(&format!("{ROOT}/n1/answers/{}", heard[0].0), &json!({})).await
    };
    let asker = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask(&app, "n1", json!({})).await
    };
    let (late, answer) = tokio::join!(agent, asker);
    assert_eq!(answer.status(), "504 Timeout: Timeout: the agent of node n1 has not answered within 10 s");
    assert_eq!(late.code, 404);
}
