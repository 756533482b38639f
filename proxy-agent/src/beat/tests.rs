//! The thread against a server that does as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;
use crate::testing::{Fake, Reply};

/// Answers, is missing the Node, or says nothing and closes the connection.
const ANSWERS: u8 = 0;
const MISSING: u8 = 1;
const SILENT: u8 = 2;

async fn server() -> (Fake, Arc<AtomicU8>) {
    let mood = Arc::new(AtomicU8::new(MISSING));
    let now = Arc::clone(&mood);
    let fake = Fake::start(move |_| match now.load(Ordering::Relaxed) {
        ANSWERS => Reply::json(200, &json!({ "intervalMilliseconds": 100 })),
        MISSING => Reply::status(404, "NotFound", "nodes \"n\" not found"),
        _ => Reply::Nothing,
    })
    .await;
    (fake, mood)
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} has not come about");
}

#[tokio::test]
async fn it_beats_on_one_connection_of_its_own_at_the_pace_it_is_told() {
    let (fake, mood) = server().await;
    let client = Client::new(&fake.url(), None, None).unwrap();
    let beat = Beat::start(&client, "n").unwrap();
    eventually("a beat before there is a Node", || !fake.asked().is_empty()).await;
    mood.store(ANSWERS, Ordering::Relaxed);
    eventually("many beats", || fake.asked().len() >= 10).await;
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| asked.method == "PUT" && asked.target.ends_with("/nodes/n/heartbeat")));
    assert!(asked.iter().all(|asked| asked.connection == 0));
    assert_eq!(*beat.cuts().borrow(), 0);
    drop(beat);
    let count = fake.asked().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fake.asked().len(), count, "it has ended");
}

#[tokio::test]
async fn after_a_cut_the_other_connections_are_given_up() {
    let (fake, mood) = server().await;
    mood.store(ANSWERS, Ordering::Relaxed);
    let client = Client::new(&fake.url(), None, None).unwrap();
    let beat = Beat::start(&client, "n").unwrap();
    let mut cuts = beat.cuts();
    eventually("a beat", || !fake.asked().is_empty()).await;
    client.put("/other", &json!({})).await.unwrap();
    let on =
        |target: &str| fake.asked().iter().filter(|a| a.target == target).map(|a| a.connection).collect::<Vec<_>>();
    mood.store(SILENT, Ordering::Relaxed);
    tokio::time::sleep(CUT + LIMIT).await;
    mood.store(ANSWERS, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(30), cuts.changed()).await.unwrap().unwrap();
    client.put("/other", &json!({})).await.unwrap();
    let before = on("/other");
    assert_eq!(before[0], before[1], "connections are kept until somebody gives them up");
    client.cut();
    eventually("another connection", || {
        let client = client.clone();
        tokio::spawn(async move { client.put("/other", &json!({})).await });
        on("/other").iter().any(|connection| *connection != before[0])
    })
    .await;
}

#[test]
fn who_is_not_answered_by_a_new_connection_either_gives_the_next_more_time() {
    let limits = [0, 1, 2, 3, 4, 100, u32::MAX].map(|unanswered| limit(unanswered).as_secs());
    assert_eq!(limits, [1, 1, 2, 4, 4, 4, 4]);
}
