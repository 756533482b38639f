use super::*;

fn counts(order: &Order, turns: std::ops::Range<u64>, usable: impl Fn(usize) -> bool + Copy) -> Vec<u32> {
    let mut counts = vec![0; order.weights.len()];
    for turn in turns {
        let chosen = order.choose(Asked { turn, client: hash(turn.to_be_bytes()) }, |_| 0, |b| mix(b as u64), usable);
        if let Some(chosen) = chosen {
            counts[chosen] += 1;
        }
    }
    counts
}

#[test]
fn rr_is_even_whatever_the_weights() {
    let order = Order::new(Scheduler::Rr, &[100, 1, 0, 7]);
    assert_eq!(counts(&order, 5..305, |_| true), [100, 100, 0, 100]);
}

#[test]
fn wrr_is_exact_and_spread() {
    let order = Order::new(Scheduler::Wrr, &[100, 50, 0, 250]);
    assert_eq!(order.ring.len(), 8);
    assert_eq!(counts(&order, 0..8000, |_| true), [2000, 1000, 0, 5000]);
    // Never more than two in a row of one that has five of eight turns.
    let twice: Vec<_> = order.ring.iter().chain(&order.ring).collect();
    assert!(!twice.windows(3).any(|w| w[0] == w[1] && w[1] == w[2]), "{twice:?}");
}

#[test]
fn who_cannot_be_used_is_passed_over() {
    let order = Order::new(Scheduler::Wrr, &[2, 1]);
    assert_eq!(counts(&order, 0..90, |b| b == 1), [0, 90]);
    assert_eq!(counts(&order, 0..90, |_| false), [0, 0]);
    assert!(Order::new(Scheduler::Sch, &[0, 0]).is_empty());
    assert_eq!(counts(&Order::new(Scheduler::Rr, &[]), 0..3, |_| true), Vec::<u32>::new());
}

#[test]
fn wlc_takes_the_least_busy_for_its_weight() {
    let order = Order::new(Scheduler::Wlc, &[1, 2, 0]);
    let choose = |loads: [u32; 3], turn| order.choose(Asked { turn, client: 0 }, |b| loads[b], |_| 0, |_| true);
    assert_eq!(choose([0, 0, 0], 0), Some(1));
    assert_eq!(choose([1, 2, 0], 0), Some(1));
    assert_eq!(choose([1, 4, 0], 0), Some(0));
    // (3 + 1) / 1 is (7 + 1) / 2: whose turn it is.
    assert_eq!(choose([3, 7, 0], 0), Some(0));
    assert_eq!(choose([3, 7, 0], 1), Some(1));
}

#[test]
fn sch_keeps_its_clients_and_moves_those_of_the_lost_alone() {
    let order = Order::new(Scheduler::Sch, &[100; 5]);
    let choose = |client: u64, turn, lost: usize| {
        order.choose(Asked { turn, client: hash(client.to_be_bytes()) }, |_| 0, |b| mix(b as u64), |b| b != lost)
    };
    let mut moved = 0;
    for client in 0..5000 {
        let before = choose(client, client, 9);
        assert_eq!(before, choose(client, 77, 9));
        let after = choose(client, 3, 2);
        if before == Some(2) {
            moved += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!((900..1100).contains(&moved), "{moved}");
}

#[test]
fn sch_follows_weights() {
    let shares = counts(&Order::new(Scheduler::Sch, &[100, 300]), 0..8000, |_| true);
    assert!((1800..2200).contains(&shares[0]), "{shares:?}");
}

#[test]
fn a_ring_has_a_bound() {
    let order = Order::new(Scheduler::Wrr, &[65_535, 65_534, 1]);
    assert!(order.ring.len() as u64 <= RING_MOST + 3);
    assert!(counts(&order, 0..order.ring.len() as u64, |_| true).iter().all(|c| *c > 0));
}
