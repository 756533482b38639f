use model::types::{HttpSettings, Listener, ListenerProtocol};

use super::*;

fn counted(port: u16, backends: usize, healthy: usize) -> Counted {
    Counted { listener: Arc::new(Listener { port, ..Listener::default() }), backends, healthy }
}

fn instance(listeners: Vec<Counted>) -> Instance {
    Instance { term: 3, generation: 7, listeners }
}

#[test]
fn every_listener_says_what_keeps_it() {
    let all = instance(vec![counted(80, 2, 1), counted(81, 2, 0), counted(82, 0, 0), counted(443, 2, 2)]);
    let wanted = wanted("edge-1", &all, |c| (c.listener.port == 443).then(|| "there is no certificate".to_owned()));
    let said: Vec<(u16, &str)> = wanted.listeners.iter().map(|l| (l.port, l.message.as_str())).collect();
    assert_eq!(said[0], (80, ""));
    assert!(said[1].1.contains("all are used"), "{said:?}");
    assert!(said[2].1.contains("no backend"), "{said:?}");
    assert_eq!(said[3], (443, "there is no certificate"));
    assert_eq!(wanted.programmed, ProgrammedBy { edge: "edge-1".into(), term: 3, generation: 7 });
}

#[test]
fn a_redirect_needs_no_backends() {
    let http = HttpSettings { redirect_port: Some(443), ..HttpSettings::default() };
    let listener = Listener { port: 80, protocol: ListenerProtocol::Http, http: Some(http), ..Listener::default() };
    let redirect = Counted { listener: Arc::new(listener), backends: 0, healthy: 0 };
    assert_eq!(wanted("edge-1", &instance(vec![redirect]), |_| None).listeners[0].message, "");
}

#[test]
fn what_is_said_is_not_said_again() {
    let wanted = wanted("edge-1", &instance(vec![counted(80, 2, 1)]), |_| None);
    let mut balancer = LoadBalancer::default();
    assert!(!wanted.is_said_by(&balancer));
    balancer.status.programmed = Some(wanted.programmed.clone());
    assert!(!wanted.is_said_by(&balancer));
    balancer.status.listeners = wanted.listeners.clone();
    assert!(wanted.is_said_by(&balancer));
    let patched: LoadBalancer = serde_json::from_value(wanted.patch()).unwrap();
    assert!(wanted.is_said_by(&patched));
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_told_at_once_and_counts_rest() {
    let first = wanted("edge-1", &instance(vec![counted(80, 2, 1)]), |_| None);
    let done = Done { wanted: first.clone(), at: Instant::now() };
    assert_eq!(rests(None, &first), None);
    assert_eq!(rests(Some(&done), &first), Some(done.at + AGAIN));
    let counts = wanted("edge-1", &instance(vec![counted(80, 2, 2)]), |_| None);
    assert_eq!(rests(Some(&done), &counts), Some(done.at + REST));
    tokio::time::advance(REST).await;
    assert_eq!(rests(Some(&done), &counts), None);
    let next = wanted("edge-1", &Instance { generation: 8, ..instance(vec![counted(80, 2, 1)]) }, |_| None);
    assert_eq!(rests(Some(&done), &next), None);
}
