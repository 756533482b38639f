use std::net::IpAddr;
use std::sync::Arc;

use dataplane::conntrack::{Connection, Flow, ended};
use model::balancing::Backend;
use model::types::Listener;

use super::*;
use crate::Active;
use crate::l4::Relays;

const VIP: &str = "192.0.2.1";

fn active(drain_seconds: Option<u32>, backends: &[&str]) -> Active {
    let backend = |address: &&str| Backend {
        address: address.parse().unwrap(),
        weight: 1,
        node: "node-1".into(),
        health_check_node_port: None,
    };
    Active {
        instance: "lb-1".into(),
        address: VIP.parse().unwrap(),
        listener: Arc::new(Listener { port: 80, drain_seconds, ..Listener::default() }),
        backends: backends.iter().map(backend).collect(),
    }
}

fn update(drain: &mut Drain, active: &[Active], now: Instant) {
    let (addresses, access_lists, relays) = (BTreeMap::new(), BTreeMap::new(), Relays::default());
    let input = Input { name: "edge-1", addresses: &addresses, active, access_lists: &access_lists, relays: &relays };
    drain.update(&input, now);
}

/// Whether a connection to the backend ends.
fn ends(lasting: &Lasting, backend: &str) -> bool {
    let flow = Flow {
        source: "198.51.100.1:4711".parse().unwrap(),
        destination: "192.0.2.1:80".parse().unwrap(),
        reply_source: backend.parse().unwrap(),
        zone: 0,
    };
    ended(lasting, &Connection { protocol: Protocol::Tcp, flow, answered: true })
}

fn held() -> BTreeSet<IpAddr> {
    [VIP.parse().unwrap()].into()
}

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

#[test]
fn without_draining_they_end_at_once() {
    let (mut drain, now) = (Drain::default(), Instant::now());
    update(&mut drain, &[active(None, &[A, B])], now);
    assert_eq!(drain.due_at(now), None);
    update(&mut drain, &[active(None, &[B])], now);
    assert_eq!(drain.due_at(now), Some(now));
    let lasting = drain.sweep(&held(), now);
    assert!(ends(&lasting, A) && !ends(&lasting, B));
    assert_eq!(drain.due_at(now), None);
    drain.again();
    assert_eq!(drain.due_at(now), Some(now));
}

#[test]
fn who_drains_has_its_time_and_may_come_back() {
    let (mut drain, now) = (Drain::default(), Instant::now());
    let later = |seconds| now + Duration::from_secs(seconds);
    update(&mut drain, &[active(Some(10), &[A, B])], now);
    update(&mut drain, &[active(Some(10), &[B])], now);
    assert_eq!(drain.due_at(now), Some(later(10)));
    // What happens meanwhile does not make it longer.
    update(&mut drain, &[active(Some(10), &[B])], later(5));
    assert!(!ends(&drain.sweep(&held(), later(9)), A));
    assert!(ends(&drain.sweep(&held(), later(10)), A));
    assert_eq!(drain.due_at(later(10)), None);

    update(&mut drain, &[active(Some(10), &[A, B])], later(20));
    update(&mut drain, &[active(Some(10), &[B])], later(21));
    update(&mut drain, &[active(Some(10), &[A, B])], later(22));
    assert_eq!(drain.due_at(later(22)), None, "it is back");
}

#[test]
fn a_listener_that_goes() {
    let (mut drain, now) = (Drain::default(), Instant::now());
    update(&mut drain, &[active(Some(10), &[A])], now);
    update(&mut drain, &[], now);
    assert!(!ends(&drain.sweep(&held(), now), A));
    assert!(ends(&drain.sweep(&held(), now + Duration::from_secs(10)), A));
    assert!(!ends(&drain.lasting(&BTreeSet::new()), A), "the address is another's by now");
}

#[test]
fn what_was_found_at_the_start() {
    let (mut drain, now) = (Drain::default(), Instant::now());
    update(&mut drain, &[active(Some(10), &[A])], now);
    let stray = |port| Stray {
        protocol: Protocol::Tcp,
        destination: SocketAddr::new(VIP.parse().unwrap(), port),
        backend: B.parse().unwrap(),
    };
    drain.found(&[stray(80)].into(), now);
    assert_eq!(drain.due_at(now), Some(now + Duration::from_secs(10)));
    drain.found(&[stray(81)].into(), now);
    assert_eq!(drain.due_at(now), Some(now), "no listener has that port");
}
