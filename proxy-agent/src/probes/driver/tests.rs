use std::sync::Mutex;
use std::time::Duration;

use model::Key;
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::sync::mpsc;

use super::super::{Before, OnFailure, Place, Probes, Ran, Running};
use super::*;
use crate::events::{About, Recorder};
use crate::probes::orders::Orders;

/// A place where commands take the seconds and have the exit code that their words say.
#[derive(Debug, Default)]
struct Script {
    /// When which command ran.
    ran: Mutex<Vec<(Instant, String)>>,
}

impl Place for Script {
    fn exec(&self, command: &[String]) -> Running {
        self.ran.lock().unwrap().push((now(), command[0].clone()));
        let (pause, code) = (command[1].parse().unwrap(), command[2].parse().unwrap());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok(Ran { code, output: Vec::new() })
        })
    }
}

struct Setting {
    orders: Arc<Orders>,
    place: Arc<Script>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
}

impl Setting {
    fn new(queue: usize) -> Self {
        let (orders, taken) = Orders::new();
        tokio::spawn(run(taken));
        Self { orders, place: Arc::default(), news: mpsc::channel(queue) }
    }

    /// Watches a container whose readiness is asked by `NAME PAUSE CODE`.
    fn watch(&self, name: &str, run: u32, pause: u32, code: u32) {
        let probe = json!({
            "exec": {"command": [name, pause.to_string(), code.to_string()]}, "timeoutSeconds": 60, "failureThreshold": 1,
        });
        let id = Id { uid: "u-1".into(), container: name.into() };
        let target = Target {
            uid: Arc::clone(&id.uid),
            container: Arc::clone(&id.container),
            run,
            since: now(),
            probes: Probes { readiness: Some(serde_json::from_value(probe).unwrap()), ..Probes::default() },
            ip: [127, 0, 0, 1].into(),
            ports: Vec::new(),
            place: Arc::clone(&self.place) as Arc<dyn Place>,
            before: Before::default(),
            on_failure: OnFailure::Report,
            about: About::pod(Key::new("default", "web"), "u-1"),
            events: Recorder::new(Counter::default()).0,
            news: self.news.0.clone(),
        };
        self.orders.put(id, Order::Watch(Box::new(target)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_at_the_start_is_spread_over_the_period() {
    let setting = Setting::new(1000);
    for n in 0..200 {
        setting.watch(&format!("c-{n}"), 0, 0, 0);
    }
    let begun = now();
    tokio::time::sleep(Duration::from_millis(9990)).await;
    let ran = setting.place.ran.lock().unwrap().clone();
    let mut seconds = [0; 10];
    ran.iter().for_each(|(at, _)| seconds[at.duration_since(begun).as_secs() as usize] += 1);
    assert!((190..=200).contains(&ran.len()) && seconds.iter().all(|n| (5..50).contains(n)), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_of_an_earlier_run_is_of_no_interest() {
    let mut setting = Setting::new(10);
    setting.watch("web", 1, 30, 0);
    // Under way, and ready once it comes back.
    tokio::time::sleep(Duration::from_secs(15)).await;
    setting.watch("web", 2, 30, 1);
    tokio::time::sleep(Duration::from_secs(24)).await;
    let mut news = Vec::new();
    while let Ok(News { run, verdict, .. }) = setting.news.1.try_recv() {
        news.push((run, verdict.ready, verdict.why));
    }
    assert_eq!(news, [(1, false, String::new()), (2, false, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_to_listen_hears_the_newest() {
    let mut setting = Setting::new(1);
    setting.watch("first", 0, 0, 0);
    setting.watch("other", 0, 0, 1);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let mut last = std::collections::BTreeMap::new();
    while let Ok(Some(news)) = tokio::time::timeout(Duration::from_secs(1), setting.news.1.recv()).await {
        last.insert(news.container.to_string(), (news.verdict.ready, news.verdict.why));
    }
    assert_eq!(last["first"], (true, String::new()));
    assert_eq!(last["other"], (false, "Readiness probe failed: ".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_thread_ends_with_its_last_handle() {
    let (orders, taken) = Orders::new();
    let driver = tokio::spawn(run(taken));
    drop(orders);
    tokio::time::timeout(Duration::from_secs(1), driver).await.unwrap().unwrap();
}
