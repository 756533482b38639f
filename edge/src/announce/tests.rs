use std::time::Duration;

use super::packet::{Claim, Question, read_arp, read_ndp};
use super::*;

const EDGE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 9]);
const S: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn held(list: &[(&str, &str, u64)]) -> BTreeMap<IpAddr, Held> {
    list.iter()
        .map(|(address, instance, term)| (ip(address), Held { instance: (*instance).into(), term: *term }))
        .collect()
}

fn known(list: &[(&str, u64, bool)]) -> Option<Arc<Known>> {
    Some(Arc::new(list.iter().map(|(name, term, mine)| ((*name).to_owned(), (*term, *mine))).collect()))
}

fn asks(address: &str) -> Heard {
    let asker = if address.contains(':') { "fd00:31::100" } else { "172.31.255.100" };
    let question = Question { address: ip(address), from: CLIENT, asker: Some(ip(asker)) };
    Heard { question: Some(question), claim: None }
}

fn claims(address: &str, by: Mac) -> Heard {
    Heard { question: None, claim: Some(Claim { address: ip(address), by }) }
}

/// What is answered to somebody who asks: nothing, or that the edge has it.
fn answered(announcer: &mut Announcer, now: Boot, standing: Standing, address: &str) -> bool {
    let packets = announcer.hear(now, standing, asks(address), || 0);
    let said = packets.iter().filter_map(|p| if p.v6 { read_ndp(&p.bytes, EDGE) } else { read_arp(&p.bytes) });
    let said: Vec<_> = said.filter_map(|heard| heard.claim).collect();
    assert!(said.iter().all(|claim| *claim == Claim { address: ip(address), by: EDGE }), "{said:?}");
    packets.iter().any(|packet| packet.to == CLIENT)
}

#[test]
fn only_what_is_held_is_answered_for() {
    let mut edge = Announcer::new(EDGE);
    edge.learn(known(&[]));
    edge.set(&held(&[("172.31.255.130", "lb-a", 1), ("fd00:31::1:5", "lb-a", 1)]));
    let sent = edge.step(S, Standing::Leased, || 0);
    assert_eq!(sent.len(), 2, "each is announced");
    for address in ["172.31.255.130", "fd00:31::1:5"] {
        assert!(answered(&mut edge, S, Standing::Leased, address));
        assert!(!answered(&mut edge, S, Standing::Lapsed, address), "the fence");
    }
    assert!(!answered(&mut edge, S, Standing::Leased, "172.31.255.131"));
    edge.set(&held(&[("fd00:31::1:5", "lb-a", 1)]));
    assert!(!answered(&mut edge, S, Standing::Leased, "172.31.255.130"));
}

#[test]
fn the_fence_counts_at_each_answer() {
    let mut edge = Announcer::new(EDGE);
    edge.learn(known(&[]));
    edge.set(&held(&[("172.31.255.130", "lb-a", 1)]));
    assert!(answered(&mut edge, S, Standing::Leased, "172.31.255.130"));
    // No step between: the question itself finds that the time is over.
    assert!(!answered(&mut edge, 3 * S, Standing::Lapsed, "172.31.255.130"));
}

#[test]
fn after_a_lapse_nothing_counts_that_was_not_read_anew() {
    let mut edge = Announcer::new(EDGE);
    edge.set(&held(&[("172.31.255.130", "lb-a", 3), ("172.31.255.131", "lb-b", 5), ("172.31.255.132", "lb-c", 1)]));
    edge.learn(known(&[("lb-a", 3, true), ("lb-b", 5, true), ("lb-c", 1, true)]));
    assert!(answered(&mut edge, S, Standing::Leased, "172.31.255.130"));
    edge.learn(None);
    assert!(!answered(&mut edge, 20 * S, Standing::Leased, "172.31.255.130"), "not read yet");
    // lb-a is another's by now, lb-c is gone.
    edge.learn(known(&[("lb-a", 4, false), ("lb-b", 5, true)]));
    assert!(!answered(&mut edge, 21 * S, Standing::Leased, "172.31.255.130"));
    assert!(answered(&mut edge, 21 * S, Standing::Leased, "172.31.255.131"));
    assert!(!answered(&mut edge, 21 * S, Standing::Leased, "172.31.255.132"));
    // What the watch brings later is newer than what was read.
    edge.set(&held(&[("172.31.255.130", "lb-a", 5), ("172.31.255.133", "lb-d", 1)]));
    assert!(answered(&mut edge, 22 * S, Standing::Leased, "172.31.255.130"));
    assert!(answered(&mut edge, 22 * S, Standing::Leased, "172.31.255.133"));
}

#[test]
fn an_outage_of_the_server_is_not_one_of_the_addresses() {
    let mut edge = Announcer::new(EDGE);
    edge.learn(known(&[]));
    edge.set(&held(&[("172.31.255.130", "lb-a", 1)]));
    edge.step(S, Standing::Leased, || 0);
    assert!(!answered(&mut edge, 3 * S, Standing::Lapsed, "172.31.255.130"));
    for second in 9..20 {
        edge.step(second * S, Standing::Alone, || 0);
    }
    assert_eq!(edge.kept(), 1);
    assert!(answered(&mut edge, 20 * S, Standing::Alone, "172.31.255.130"));
    // Another edge was given it, and has just been reached by the network again.
    edge.hear(20 * S, Standing::Alone, claims("172.31.255.130", OTHER), || 0);
    assert!(!answered(&mut edge, 20 * S, Standing::Alone, "172.31.255.130"));
    assert_eq!((edge.kept(), edge.conflicts()), (0, 1));
}

#[test]
fn who_probes_for_an_owners_address_is_told() {
    let mut edge = Announcer::new(EDGE);
    edge.learn(known(&[]));
    edge.set(&held(&[("172.31.255.130", "lb-a", 1), ("fd00:31::1:5", "lb-a", 1)]));
    edge.step(S, Standing::Leased, || 0);
    for address in ["172.31.255.130", "fd00:31::1:5"] {
        let question = Question { address: ip(address), from: OTHER, asker: None };
        let heard = Heard { question: Some(question), claim: None };
        assert_eq!(edge.hear(S, Standing::Leased, heard, || 0).len(), 1, "{address}");
    }
    // Its own words, which a hub sends back, are nobody else's.
    assert_eq!(edge.conflicts(), 2);
    edge.hear(S, Standing::Leased, claims("172.31.255.130", EDGE), || 0);
    assert_eq!(edge.conflicts(), 2);
}
