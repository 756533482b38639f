use std::collections::VecDeque;
use std::io;

use dataplane::plan::FrontendKind;
use dataplane::{Action, At, Endpoint, Family, Frontend, Limits, Method, Pool, PoolKey, Serving};
use model::types::Protocol;
use tokio::sync::mpsc;

use super::*;

/// A Service on UDP port 53 with this many endpoints.
fn dns(endpoints: u8) -> Arc<ServicePlan> {
    let address = [10, 96, 0, 10].into();
    let frontend = Frontend {
        at: At::Address(address),
        protocol: Protocol::Udp,
        port: 53,
        action: Action::Reject,
        inside: None,
        sources: None,
        kind: FrontendKind::ClusterIp,
        limits: Limits::default(),
    };
    let endpoints = (1..=endpoints).map(|n| ([10, 244, 1, n], 53).into()).collect();
    let serving = vec![Serving { family: Family::V4, port: 53, node_port: 0, endpoints }];
    Arc::new(ServicePlan { addresses: vec![address], frontends: vec![frontend], serving, ..ServicePlan::default() })
}

fn plan(services: &[(&str, &Arc<ServicePlan>)]) -> Plan {
    let services = services.iter().map(|(name, plan)| (Key::new("default", name), Arc::clone(plan))).collect();
    Plan { services, ..Plan::default() }
}

fn only(name: &str) -> Dirty {
    Dirty::Services([Key::new("default", name)].into())
}

/// Whether a clean-up is due, which it then is no more.
async fn is_due(flows: &Flows) -> bool {
    tokio::time::timeout(Duration::from_millis(5), flows.due.notified()).await.is_ok()
}

#[tokio::test]
async fn only_what_can_make_a_flow_stale_calls_for_a_look() {
    let flows = Flows::default();
    flows.programmed(&plan(&[]), &Dirty::All);
    assert!(!is_due(&flows).await, "nothing is served");
    flows.programmed(&plan(&[("dns", &dns(2))]), &only("dns"));
    assert!(is_due(&flows).await, "a Service is served");
    flows.programmed(&plan(&[("dns", &dns(3))]), &only("dns"));
    assert!(!is_due(&flows).await, "an endpoint is added");
    flows.programmed(&plan(&[("dns", &dns(3))]), &Dirty::All);
    assert!(!is_due(&flows).await, "everything is as it was");
    flows.programmed(&plan(&[("dns", &dns(2))]), &only("dns"));
    assert!(is_due(&flows).await, "an endpoint has gone");
    flows.programmed(&plan(&[("dns", &dns(1))]), &only("web"));
    assert!(!is_due(&flows).await, "what is not dirty is not looked at");
    let mut moved = plan(&[("dns", &dns(2))]);
    moved.node.node_port_ranges = vec!["172.31.255.11/32".parse().unwrap()];
    flows.programmed(&moved, &only("web"));
    assert!(is_due(&flows).await, "node ports answer elsewhere");
    assert!(!flows.take().0.is_empty());
    flows.programmed(&plan(&[]), &Dirty::All);
    assert!(flows.take().0.is_empty(), "what is gone is forgotten");
}

#[tokio::test]
async fn clean_ups_are_gathered_and_failures_tried_again() {
    let flows = Arc::new(Flows::default());
    let (done, mut cleaned) = mpsc::unbounded_channel();
    let failed = || Err(NetlinkError::Receive(io::Error::other("no conntrack")));
    let outcomes = [Ok(Report { looked: 9, removed: 2 }), failed(), Ok(Report { looked: 9, removed: 3 })];
    let outcomes = Mutex::new(VecDeque::from(outcomes));
    let removed = Counter::default();
    let rests = Rests { rest: Duration::from_millis(40), retry: Duration::from_millis(120) };
    let clean = move |_: &Index| {
        done.send(tokio::time::Instant::now()).unwrap();
        outcomes.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Report::default()))
    };
    let task = tokio::spawn(keep_clean(Arc::clone(&flows), clean, removed.clone(), rests));
    flows.programmed(&plan(&[("dns", &dns(2))]), &Dirty::All);
    let first = cleaned.recv().await.unwrap();
    // Two at once are one.
    flows.programmed(&plan(&[("dns", &dns(1))]), &only("dns"));
    flows.programmed(&plan(&[("dns", &dns(1)), ("more", &dns(1))]), &only("more"));
    let second = cleaned.recv().await.unwrap();
    assert!(second - first >= rests.rest, "{:?}", second - first);
    let third = cleaned.recv().await.unwrap();
    assert!(third - second >= rests.retry, "it failed: {:?}", third - second);
    tokio::time::sleep(rests.retry * 2).await;
    assert!(cleaned.try_recv().is_err(), "and is then done");
    assert_eq!(removed.get(), 5);
    task.abort();
}

#[tokio::test]
async fn a_repair_calls_for_a_look_also_without_udp() {
    let flows = Flows::default();
    flows.programmed(&plan(&[]), &Dirty::All);
    flows.repaired(&plan(&[]));
    assert!(is_due(&flows).await);
    assert!(flows.take().1.missed.is_some());
    assert!(flows.take().1.missed.is_none(), "once for each repair");
    flows.again(Wanted { missed: Some(Missed { services: Vec::new(), looks: 1 }), ..Wanted::default() });
    assert!(is_due(&flows).await && flows.take().1.missed.is_some(), "unless it failed");
}

/// A Service on TCP port 80 with this many endpoints.
fn web(endpoints: u8) -> Arc<ServicePlan> {
    let key = PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: 80, local: false };
    let endpoint = |n| Endpoint { address: [10, 244, 1, n].into(), port: 8080, local: false, share: 1 };
    let endpoints = (1..=endpoints).map(endpoint).collect();
    let mut plan = ServicePlan::clone(&dns(0));
    plan.serving.clear();
    plan.frontends = plan.frontends.into_iter().map(|f| Frontend { protocol: Protocol::Tcp, port: 80, ..f }).collect();
    plan.pools = vec![Pool { key, method: Method::Chance, affinity_seconds: None, endpoints }];
    Arc::new(plan)
}

#[tokio::test]
async fn who_leaves_is_looked_for_at_the_look_after_the_next() {
    let flows = Flows::default();
    flows.programmed(&plan(&[("web", &web(3))]), &Dirty::All);
    assert!(!is_due(&flows).await, "nobody has left");
    flows.programmed(&plan(&[("web", &web(1))]), &only("web"));
    assert!(is_due(&flows).await, "two have");
    assert!(flows.take().0.is_empty(), "an answer may be on its way");
    assert!(is_due(&flows).await, "so a look is due again");
    // One is back meanwhile.
    flows.programmed(&plan(&[("web", &web(2))]), &only("web"));
    let (index, wanted) = flows.take();
    assert!(!index.is_empty() && !wanted.udp, "of UDP flows there is no index");
    let gone: Vec<_> = wanted.left.iter().map(|left| left.endpoint.to_string()).collect();
    assert_eq!(gone, ["10.244.1.3:8080"]);
    assert!(!is_due(&flows).await);
    flows.again(wanted);
    assert!(is_due(&flows).await && flows.take().1.left.len() == 1, "again, if it failed");
    assert!(flows.take().0.is_empty(), "and then no more");
}
