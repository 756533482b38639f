use jiff::SignedDuration;

use super::*;
use crate::testing::{Asked, Fake, Reply};

fn note(name: &str, message: &str) -> Note {
    Note { about: About::service(Key::new("default", name)), reason: Reason::FailedToProgram, message: message.into() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + seconds)
}

fn written(verdict: Verdict) -> Occurrence {
    match verdict {
        Verdict::Write(occurrence) => occurrence,
        Verdict::Silent => panic!("silent"),
    }
}

#[test]
fn what_repeats_counts_up_in_the_same_object() {
    let mut correlator = Correlator::default();
    let first = written(correlator.judge(&note("web", "no"), at(0)));
    assert_eq!((first.name.as_str(), first.count), ("web.17979cfe362a0000", 1));
    let second = written(correlator.judge(&note("web", "no"), at(5)));
    assert_eq!(second, Occurrence { count: 2, ..first.clone() });
    let other = written(correlator.judge(&note("web", "never"), at(6)));
    assert_eq!(other.count, 1);
    assert_ne!(other.name, first.name);
    correlator.forget(&note("web", "no"));
    assert_eq!(written(correlator.judge(&note("web", "no"), at(7))).count, 1);
}

#[test]
fn much_about_one_object_is_rationed_and_others_have_their_own() {
    let mut correlator = Correlator::default();
    let mut say = |name: &str, seconds| correlator.judge(&note(name, "no"), at(seconds)) != Verdict::Silent;
    assert_eq!((0..100).filter(|_| say("web", 0)).count(), 25);
    assert!(say("db", 0));
    assert!(!say("web", 299));
    assert!(say("web", 301));
    assert!(!say("web", 302));
}

#[test]
fn little_is_remembered() {
    let mut correlator = Correlator::default();
    for n in 0..3000 {
        written(correlator.judge(&note(&format!("web-{n}"), "no"), at(n)));
    }
    assert_eq!(written(correlator.judge(&note("web-2999", "no"), at(3001))).count, 2);
    assert_eq!(written(correlator.judge(&note("web-0", "no"), at(3002))).count, 1);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let dropped = Counter::default();
    let (recorder, mut notes) = Recorder::new(dropped.clone());
    for n in 0..QUEUE + 7 {
        recorder.record(note("web", &format!("{n} {}", "ü".repeat(2000))));
    }
    assert_eq!(dropped.get(), 7);
    assert!(notes.try_recv().unwrap().message.len() <= MAX_MESSAGE_BYTES);
}

/// The requests that came, but for those that ask for the uid.
async fn server(mut answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> (Fake, Recorder, Counter) {
    let fake = Fake::start(move |asked| match asked.method.as_str() {
        "GET" => Reply::json(200, &json!({"metadata": {"uid": "u-1"}})),
        _ => answer(asked),
    })
    .await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let dropped = Counter::default();
    let (recorder, notes) = Recorder::new(dropped.clone());
    tokio::spawn(write(client, "node-1".into(), dropped.clone(), notes));
    (fake, recorder, dropped)
}

async fn writes(fake: &Fake, count: usize) -> Vec<Asked> {
    for _ in 0..1000 {
        let writes: Vec<Asked> = fake.asked().into_iter().filter(|asked| asked.method != "GET").collect();
        if writes.len() >= count {
            return writes;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{count} writes did not come");
}

#[tokio::test]
async fn an_event_is_created_once_and_then_patched() {
    let (fake, recorder, _) = server(|asked| Reply::json(201, &asked.json())).await;
    recorder.record(note("web", "no such file"));
    recorder.record(note("web", "no such file"));
    let writes = writes(&fake, 2).await;
    let event = writes[0].json();
    assert_eq!(writes[0].target, "/api/v1/namespaces/default/events");
    assert_eq!(
        event["involvedObject"],
        json!({"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "web", "uid": "u-1"})
    );
    assert_eq!(event["source"], json!({"component": "portolan-agent", "host": "node-1"}));
    let words = ["type", "reason", "message"].map(|field| event[field].as_str().unwrap());
    assert_eq!(words, ["Warning", "FailedToProgram", "no such file"]);
    assert_eq!(event["count"], 1);
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web."), "{name}");
    assert_eq!(
        (writes[1].method.as_str(), &*writes[1].target),
        ("PATCH", &*format!("/api/v1/namespaces/default/events/{name}"))
    );
    assert_eq!(writes[1].json()["count"], 2);
    assert!(writes[1].json()["lastTimestamp"].is_string());
}

#[tokio::test]
async fn an_event_that_has_expired_is_created_anew_with_its_count() {
    let (fake, recorder, dropped) = server(|asked| match asked.method.as_str() {
        "PATCH" => Reply::status(404, "NotFound", "gone"),
        _ => Reply::json(201, &asked.json()),
    })
    .await;
    recorder.record(note("web", "no"));
    recorder.record(note("web", "no"));
    let writes = writes(&fake, 3).await;
    let methods: Vec<&str> = writes.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
    assert_eq!(writes[2].json()["count"], 2);
    assert_eq!(dropped.get(), 0);
}

#[tokio::test]
async fn what_the_server_refuses_is_dropped_and_the_next_one_is_written() {
    let mut answers = 0;
    let (fake, recorder, dropped) = server(move |asked| {
        answers += 1;
        if answers == 1 { Reply::status(403, "Forbidden", "no") } else { Reply::json(201, &asked.json()) }
    })
    .await;
    recorder.record(note("web", "no"));
    recorder.record(note("web", "no"));
    let writes = writes(&fake, 2).await;
    assert_eq!((dropped.get(), writes[1].json()["count"].as_u64()), (1, Some(1)));
}
