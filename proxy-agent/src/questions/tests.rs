use std::collections::VecDeque;
use std::sync::Mutex;

use dataplane::{Dirty, Report};

use super::*;
use crate::testing::{Asked as Request, Fake, Reply};

/// Knows one kind of question.
struct Kernel;

impl Program for Kernel {
    type Error = std::convert::Infallible;

    fn program(&mut self, _: &Plan, _: &Dirty) -> Result<Report, Self::Error> {
        Ok(Report::default())
    }

    fn hopeless(error: &Self::Error) -> bool {
        match *error {}
    }

    fn answer(&mut self, plan: &Plan, kind: &str, question: &Value) -> Option<Answer> {
        let sum = json!({"sum": question["a"].as_u64()? + plan.revision});
        match kind {
            "Sum" => Some(Answer::Now(sum)),
            "LongSum" => Some(Answer::Later(Box::new(|| sum))),
            _ => None,
        }
    }
}

#[tokio::test]
async fn every_question_has_an_answer() {
    let plan = Plan { revision: 7, ..Plan::default() };
    let ask = async |question: Value| {
        let (answer, answered) = oneshot::channel();
        reply(&mut Kernel, &plan, Asked { question, answer });
        answered.await.unwrap()
    };
    assert_eq!(ask(json!({"kind": "Ping"})).await, json!({"kind": "Pong", "revision": "7"}));
    assert_eq!(ask(json!({"kind": "Sum", "a": 3})).await, json!({"sum": 10}));
    assert_eq!(ask(json!({"kind": "LongSum", "a": 3})).await, json!({"sum": 10}), "on another thread");
    for (question, text) in [
        (json!({"kind": "Song"}), "this agent does not know questions of kind \"Song\""),
        (json!({"a": 3}), "a question is an object with a kind"),
        (json!([1]), "a question is an object with a kind"),
        (json!({"kind": 3}), "a question is an object with a kind"),
    ] {
        let answer = ask(question).await;
        assert_eq!((&answer["kind"], &answer["code"]), (&json!("Status"), &json!(400)));
        assert_eq!(answer["message"], text);
    }
}

/// A server that has these polls to answer, one after the other, and takes every answer.
async fn server(polls: Vec<Reply>) -> Fake {
    let polls = Mutex::new(VecDeque::from(polls));
    Fake::start(move |request: &Request| match request.method.as_str() {
        "GET" => polls.lock().unwrap().pop_front().unwrap_or_else(|| Reply::json(200, &json!({"items": []}))),
        _ => Reply::json(201, &json!({"kind": "Status", "status": "Success"})),
    })
    .await
}

async fn answers(fake: &Fake, count: usize) -> Vec<(String, Value)> {
    for _ in 0..1000 {
        let answers: Vec<_> = fake.asked().iter().filter(|r| r.method == "POST").cloned().collect();
        if answers.len() >= count {
            return answers.iter().map(|r| (r.target.clone(), r.json())).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no answers: {:?}", fake.asked());
}

#[tokio::test]
async fn what_is_asked_at_the_server_is_answered_there() {
    let items = json!({"items": [{"id": "x-1", "question": {"kind": "Ping"}}, {"id": "x-2", "question": {"n": 2}}]});
    let fake = server(vec![
        Reply::status(503, "ServiceUnavailable", "starting"),
        Reply::json(200, &json!({"items": 3})),
        Reply::json(200, &items),
    ])
    .await;
    let broken = Arc::new(Notify::new());
    let (sender, mut receiver) = mpsc::channel::<Asked>(1);
    let client = Client::new(&fake.url(), None, None).unwrap();
    let task = tokio::spawn(listen(client, "n1".into(), sender, Arc::clone(&broken)));
    tokio::spawn(async move {
        while let Some(asked) = receiver.recv().await {
            let _ = asked.answer.send(json!({"heard": asked.question}));
        }
    });
    broken.notified().await;
    let mut all = answers(&fake, 2).await;
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let root = "/apis/portolan.dev/v1alpha1/nodes/n1";
    assert_eq!(all[0], (format!("{root}/answers/x-1"), json!({"heard": {"kind": "Ping"}})));
    assert_eq!(all[1], (format!("{root}/answers/x-2"), json!({"heard": {"n": 2}})));
    assert_eq!(fake.asked()[0].target, format!("{root}/questions?timeoutSeconds=30"));
    task.abort();
}

#[tokio::test]
async fn a_core_loop_that_has_ended_ends_no_poll() {
    let items = json!({"items": [{"id": "x-1", "question": {"kind": "Ping"}}]});
    let fake = server(vec![Reply::json(200, &items)]).await;
    let (sender, receiver) = mpsc::channel::<Asked>(1);
    drop(receiver);
    let client = Client::new(&fake.url(), None, None).unwrap();
    let task = tokio::spawn(listen(client, "n1".into(), sender, Arc::new(Notify::new())));
    for _ in 0..1000 {
        if fake.asked().len() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fake.asked().iter().all(|r| r.method == "GET"));
    task.abort();
}
