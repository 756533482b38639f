//! Addresses that are seen from outside: who has which, and whose turn it is.
//!
//! Clients, caches and DNS go on sending to an address for a while after its Service is gone, so the next Service
//! should not get it: those that were freed wait until all others had their turn. Two things make that so. A search
//! goes on behind the address that was given last and wraps, as long as the pool has addresses that nobody had for
//! long; and the addresses that were freed of late ([`Turn::freed`]) are kept in order and taken last, the one that is
//! free for longest first. Without the list a search would soon run into an address that was freed just before it;
//! without the place every new address would need one in the list, and lists are bounded.
//!
//! Unlike in the ranges of Services nothing is drawn by chance: turns need an order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::span::{Span, address, number};

/// Freed addresses that are remembered of one family of a pool.
pub const FREED_MOST: usize = 128;

/// Whose turn it is in one family of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Given last.
    pub last: Option<IpAddr>,
    /// Freed since, and not given again; the earliest first, at most [`FREED_MOST`].
    pub freed: Vec<IpAddr>,
}

impl Turn {
    /// An address has been given.
    pub fn give(&mut self, address: IpAddr) {
        self.freed.retain(|freed| *freed != address);
        self.last = Some(address);
    }

    /// An address has been freed.
    pub fn free(&mut self, address: IpAddr) {
        self.freed.retain(|freed| *freed != address);
        if self.freed.len() >= FREED_MOST {
            self.freed.remove(0);
        }
        self.freed.push(address);
    }
}

/// Every external address that is held, whatever pool has it, or none any more. Holders are counted: a damaged database
/// may have two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalAddresses {
    holders: BTreeMap<IpAddr, u32>,
}

impl ExternalAddresses {
    /// One more holder of `address`.
    pub fn hold(&mut self, address: IpAddr) {
        *self.holders.entry(address).or_default() += 1;
    }

    /// One holder less.
    pub fn release(&mut self, address: IpAddr) {
        let Some(count) = self.holders.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&address);
        }
    }

    pub fn is_held(&self, address: IpAddr) -> bool {
        self.holders.contains_key(&address)
    }

    /// Those that are held within a span, in order.
    pub fn held_in(&self, span: &Span) -> impl Iterator<Item = IpAddr> + '_ {
        self.holders.range(span.first()..=span.last()).map(|(address, _)| *address)
    }

    /// A free address of these spans whose turn it is; holding it is the caller's. None when all are held.
    pub fn choose(&self, spans: &[Span], ipv4: bool, turn: &Turn) -> Option<IpAddr> {
        let mut spans: Vec<(u128, u128)> =
            spans.iter().filter(|span| span.is_ipv4() == ipv4).map(Span::numbers).collect();
        spans.sort_unstable();
        let place = turn.last.filter(|last| last.is_ipv4() == ipv4).map(number);
        let ahead =
            spans.iter().map(|(first, last)| (place.map_or(*first, |p| p.saturating_add(1).max(*first)), *last));
        let behind = spans.iter().filter_map(|(first, last)| Some((*first, place?.min(*last))));
        let never = ahead.chain(behind).find_map(|(first, last)| self.free_between(first, last, ipv4, &turn.freed));
        let within = |freed: &IpAddr| {
            let freed = number(*freed);
            spans.iter().any(|(first, last)| (*first..=*last).contains(&freed))
        };
        let freed = || turn.freed.iter().copied().find(|f| f.is_ipv4() == ipv4 && within(f) && !self.is_held(*f));
        never.or_else(freed)
    }

    /// The first address between two that is neither held nor set aside. As many steps as there are such in a row.
    fn free_between(&self, mut first: u128, last: u128, ipv4: bool, aside: &[IpAddr]) -> Option<IpAddr> {
        while first <= last {
            let candidate = address(ipv4, first);
            if !self.is_held(candidate) && !aside.contains(&candidate) {
                return Some(candidate);
            }
            first = first.checked_add(1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn spans(texts: &[&str]) -> Vec<Span> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A pool of one family, as the writer uses one.
    struct Pool {
        spans: Vec<Span>,
        held: ExternalAddresses,
        turn: Turn,
    }

    impl Pool {
        fn new(texts: &[&str]) -> Self {
            Self { spans: spans(texts), held: ExternalAddresses::default(), turn: Turn::default() }
        }

        fn give(&mut self) -> Option<String> {
            let address = self.held.choose(&self.spans, true, &self.turn)?;
            self.take(address);
            Some(address.to_string())
        }

        fn take(&mut self, address: IpAddr) {
            self.held.hold(address);
            self.turn.give(address);
        }

        fn free(&mut self, text: &str) {
            self.held.release(ip(text));
            self.turn.free(ip(text));
        }
    }

    #[test]
    fn turns_go_round_the_pool_and_freed_ones_come_last() {
        let mut pool = Pool::new(&["192.0.2.8-192.0.2.9", "192.0.2.1-192.0.2.2"]);
        let first: Vec<String> = std::iter::from_fn(|| pool.give()).take(3).collect();
        assert_eq!(first, ["192.0.2.1", "192.0.2.2", "192.0.2.8"]);
        pool.free("192.0.2.2");
        pool.free("192.0.2.1");
        assert_eq!(pool.give().unwrap(), "192.0.2.9", "nobody had it yet");
        assert_eq!(pool.give().unwrap(), "192.0.2.2", "free for longer than the other");
        pool.free("192.0.2.8");
        assert_eq!(pool.give().unwrap(), "192.0.2.1");
        assert_eq!(pool.give().unwrap(), "192.0.2.8", "there is no other");
        assert_eq!(pool.give(), None);
    }

    #[test]
    fn an_address_that_was_asked_for_waits_like_others() {
        let mut pool = Pool::new(&["192.0.2.1-192.0.2.6"]);
        assert_eq!(pool.give().unwrap(), "192.0.2.1");
        pool.take(ip("192.0.2.2"));
        pool.free("192.0.2.2");
        for next in ["192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.2"] {
            assert_eq!(pool.give().unwrap(), next);
        }
    }

    #[test]
    fn what_is_held_outside_a_pool_does_not_count_in_it() {
        let mut held = ExternalAddresses::default();
        for text in ["192.0.2.1", "192.0.2.1", "198.51.100.1", "fd00::1"] {
            held.hold(ip(text));
        }
        let [span, v6] = spans(&["192.0.2.0/24", "fd00::/64"])[..] else { unreachable!() };
        assert_eq!((held.held_in(&span).count(), held.held_in(&v6).count()), (1, 1));
        held.release(ip("192.0.2.1"));
        assert!(held.is_held(ip("192.0.2.1")), "another has it still");
        held.release(ip("192.0.2.1"));
        held.release(ip("192.0.2.1"));
        assert!(!held.is_held(ip("192.0.2.1")));
        assert_eq!(held.choose(&[span, v6], false, &Turn::default()), Some(ip("fd00::")));
        let turn = Turn { last: Some(ip("fd00::")), freed: vec![ip("192.0.2.2")] };
        assert_eq!(held.choose(&[span, v6], false, &turn), Some(ip("fd00::2")));
        assert_eq!(held.choose(&[span, v6], true, &turn), Some(ip("192.0.2.1")));
    }

    #[test]
    fn the_ends_of_the_families_are_found() {
        let mut held = ExternalAddresses::default();
        let all = spans(&["255.255.255.255-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"]);
        held.hold(ip("255.255.255.255"));
        assert_eq!(held.choose(&all, true, &Turn::default()), None);
        let last = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let turn = Turn { last: Some(last), freed: Vec::new() };
        held.hold(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"));
        assert_eq!(held.choose(&all, false, &turn), Some(last));
        held.hold(last);
        assert_eq!(held.choose(&all, false, &turn), None);
    }

    proptest! {
        /// No address has two holders, none that is free is overlooked, and of those that are free it is never one that
        /// was freed later than another.
        #[test]
        fn turns_are_fair(steps in prop::collection::vec((0u8..3, 1u8..=12), 1..200)) {
            let mut pool = Pool::new(&["192.0.2.1-192.0.2.5", "192.0.2.7-192.0.2.12"]);
            let mut holding: Vec<String> = Vec::new();
            let mut freed_at: BTreeMap<String, usize> = BTreeMap::new();
            for (at, (what, which)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        let given = pool.give();
                        prop_assert_eq!(given.is_none(), holding.len() == 11);
                        let Some(given) = given else { continue };
                        prop_assert!(!holding.contains(&given));
                        let waited = freed_at.remove(&given).unwrap_or(0);
                        let others = (1..=12).filter(|n| *n != 6).map(|n| format!("192.0.2.{n}"));
                        for other in others.filter(|other| *other != given && !holding.contains(other)) {
                            prop_assert!(freed_at.get(&other).copied().unwrap_or(0) >= waited, "{other} waited longer");
                        }
                        holding.push(given);
                    }
                    1 if !holding.is_empty() => {
                        let gone = holding.swap_remove(usize::from(which) % holding.len());
                        pool.free(&gone);
                        freed_at.insert(gone, at + 1);
                    }
                    2 if which != 6 => {
                        let wanted = format!("192.0.2.{which}");
                        if !pool.held.is_held(ip(&wanted)) {
                            pool.take(ip(&wanted));
                            freed_at.remove(&wanted);
                            holding.push(wanted);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
