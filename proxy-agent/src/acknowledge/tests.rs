use std::sync::Mutex;

use model::Key;

use super::*;
use crate::testing::{Asked, Fake, Reply};

fn programmed(revision: u64) -> Programmed {
    Programmed { revisions: [Some(revision), Some(revision + 1), Some(2), Some(1), Some(9)], refused: Arc::default() }
}

struct Bench {
    fake: Fake,
    sender: watch::Sender<Programmed>,
    again: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    async fn new(repeat: Duration, answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let fake = Fake::start(answer).await;
        let (sender, receiver) = watch::channel(Programmed::default());
        let again = Arc::new(Notify::new());
        let client = Client::new(&fake.url(), None, None).unwrap();
        let task = tokio::spawn(tell(client, "n1".into(), "me".into(), receiver, Arc::clone(&again), repeat));
        Self { fake, sender, again, task }
    }

    /// What was acknowledged, once there are so many.
    async fn acknowledged(&self, count: usize) -> Vec<Value> {
        for _ in 0..1000 {
            let asked = self.fake.asked();
            if asked.len() >= count {
                return asked.iter().map(Asked::json).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} acknowledgements instead of {count}", self.fake.asked().len());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn taken(interval: u64) -> Reply {
    Reply::json(200, &json!({"kind": "AcknowledgementResponse", "intervalMilliseconds": interval}))
}

#[tokio::test]
async fn what_comes_before_the_next_may_go_is_told_with_it() {
    let bench = Bench::new(REPEAT, |_| taken(300)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(bench.fake.asked().is_empty(), "nothing is programmed yet");
    let refused = [Refused { service: Key::new("shop", "web"), error: "é".repeat(MAX_CAUSE_BYTES) }];
    bench.sender.send_replace(Programmed { refused: refused.into(), ..programmed(5) });
    let first = bench.acknowledged(1).await.remove(0);
    assert_eq!(bench.fake.asked()[0].target, "/apis/portolan.dev/v1alpha1/nodes/n1/acknowledgement");
    let revisions = json!({"services": "5", "endpointslices": "6", "nodes": "2", "servicecidrs": "1"});
    assert_eq!((&first["agent"], &first["revisions"]), (&json!("me"), &revisions));
    let error = first["refused"][0]["error"].as_str().unwrap();
    assert_eq!((&first["refused"][0]["name"], error.len()), (&json!("web"), MAX_CAUSE_BYTES));

    let begun = Instant::now();
    for revision in 6..50 {
        bench.sender.send_replace(programmed(revision));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = bench.acknowledged(2).await.remove(1);
    assert_eq!((&second["revisions"]["services"], &second["refused"]), (&json!("49"), &json!([])));
    assert!(begun.elapsed() >= Duration::from_millis(200), "the server was not given its pause");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.fake.asked().len(), 2, "nothing is new");
}

#[tokio::test]
async fn an_unchanged_state_is_repeated_and_told_again_on_request() {
    let bench = Bench::new(Duration::from_millis(100), |_| taken(0)).await;
    bench.sender.send_replace(programmed(5));
    let all = bench.acknowledged(3).await;
    assert!(all.iter().all(|body| *body == all[0]));

    let bench = Bench::new(REPEAT, |_| taken(0)).await;
    bench.sender.send_replace(programmed(5));
    bench.acknowledged(1).await;
    bench.again.notify_one();
    bench.acknowledged(2).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_told_when_it_is_back() {
    let left = Arc::new(Mutex::new(3));
    let bench = Bench::new(REPEAT, move |_| {
        let mut left = left.lock().unwrap();
        *left -= 1;
        match *left {
            2 => Reply::status(503, "ServiceUnavailable", "starting"),
            1 => Reply::Nothing,
            _ => taken(0),
        }
    })
    .await;
    bench.sender.send_replace(programmed(5));
    bench.acknowledged(1).await;
    bench.sender.send_replace(programmed(6));
    let all = bench.acknowledged(3).await;
    assert_eq!(all[2]["revisions"]["services"], "6", "the newest, not what failed");
}

#[test]
fn waits_double_up_to_a_bound() {
    let waits: Vec<u128> = (1..8).map(|failures| wait(failures).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 2000, 2000, 2000]);
    assert_eq!(wait(u32::MAX), MAX_WAIT);
}
