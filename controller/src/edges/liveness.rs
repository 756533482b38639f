//! Which edge nodes live: a pure machine of Leases and moments.
//!
//! Silence is counted by the server's own clock from when another `renewTime` was *seen*, and only while the server
//! looks: a look that comes late by [`STALL`] or more says that the process stood still, so no time has passed for
//! anybody. So what is counted is never more than what has passed, which the edges' fences rely on
//! ([`model::balancing::lease`]).
//!
//! Leases that are there when the server starts say nothing of now: their edges have [`Times::start_grace`] to be
//! heard, and are given nothing new before. A Lease that is deleted is no goodbye: its edge may go on answering until
//! its own fence ends, so it is silent from when it was heard last.

use std::collections::BTreeMap;
use std::time::Duration;

use model::balancing::lease::{DURATION, EdgeLease};
use model::types::EdgeAddress;

use crate::lifecycle::STALL;

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// An edge is given up after so much silence.
    pub duration: Duration,
    /// It gets new instances while it was heard so lately. More than half of `duration`, and where the server itself
    /// does not hear, everybody would be given up for the sake of somebody who is next.
    pub fresh: Duration,
    /// Edges of before have so long to be heard after the server has started.
    pub start_grace: Duration,
    /// How long an edge must live before the instances that prefer it come back to it.
    pub settled: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            duration: DURATION,
            fresh: Duration::from_secs(1),
            start_grace: Duration::from_secs(5),
            settled: Duration::from_secs(10),
        }
    }
}

/// How an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It renews its Lease. `settled`: for a while already.
    Lives { settled: bool },
    /// It has its Lease, and was not heard just now: it keeps what it has, and gets nothing.
    Quiet,
    /// It is to be given up; the Lease is still its own.
    Silent,
    /// It has no Lease any more: it said goodbye, was given up, or is not known.
    Gone,
}

/// An edge as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub standing: Standing,
    /// For how long it was not heard.
    pub silence: Duration,
    pub addresses: Vec<EdgeAddress>,
    pub zone: Option<String>,
}

/// The edges and their silence. All moments are the time that the server has looked.
#[derive(Debug)]
pub struct Machine {
    times: Times,
    now: Duration,
    edges: BTreeMap<Box<str>, Edge>,
}

#[derive(Debug)]
struct Edge {
    lease: EdgeLease,
    /// None: it was there when the server started, and was not heard since.
    heard: Option<Duration>,
    /// Since when it has been heard without a gap; not heard yet: since when it is known.
    since: Duration,
    /// Whether its Lease object is there.
    there: bool,
}

impl Machine {
    pub fn new(times: Times) -> Self {
        Self { times, now: Duration::ZERO, edges: BTreeMap::new() }
    }

    /// There is a Lease that says this. `found`: it was there before the server looked.
    pub fn set(&mut self, lease: EdgeLease, found: bool) {
        let now = self.now;
        let silent =
            self.edges.get(&*lease.edge).is_none_or(|edge| standing(edge, &self.times, now) == Standing::Silent);
        match self.edges.get_mut(&*lease.edge) {
            None => {
                let heard = (!found).then_some(now);
                self.edges.insert(lease.edge.as_str().into(), Edge { lease, heard, since: now, there: true });
            }
            Some(edge) => {
                // Whoever writes a label on a Lease does not renew it; who takes it, or gives it back, is no sign of
                // life.
                if lease.held && (edge.lease.renewed != lease.renewed || !edge.lease.held || !edge.there) {
                    if silent || !edge.lease.held || edge.heard.is_none() {
                        edge.since = now;
                    }
                    edge.heard = Some(now);
                }
                edge.lease = lease;
                edge.there = true;
            }
        }
    }

    /// The Lease is gone.
    pub fn remove(&mut self, edge: &str) {
        if let Some(edge) = self.edges.get_mut(edge) {
            edge.there = false;
        }
    }

    /// All Leases that there are: those that are not among them are gone.
    pub fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.edges.iter_mut().for_each(|(name, edge)| edge.there &= there(name));
    }

    /// So much more time has passed.
    pub fn advance(&mut self, elapsed: Duration) {
        if elapsed < STALL {
            self.now += elapsed;
        }
        let (now, times) = (self.now, self.times);
        let goes_on = |edge: &Edge| !matches!(standing(edge, &times, now), Standing::Silent | Standing::Gone);
        self.edges.retain(|_, edge| edge.there || goes_on(edge));
    }

    /// Whether there is nobody to be judged.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// The edges that there are, and how they are.
    pub fn seen(&self) -> BTreeMap<Box<str>, Seen> {
        let see = |edge: &Edge| Seen {
            standing: standing(edge, &self.times, self.now),
            silence: self.now.saturating_sub(edge.heard.unwrap_or(edge.since)),
            addresses: edge.lease.addresses.clone(),
            zone: edge.lease.zone.clone(),
        };
        self.edges.iter().map(|(name, edge)| (name.clone(), see(edge))).collect()
    }
}

fn standing(edge: &Edge, times: &Times, now: Duration) -> Standing {
    if !edge.lease.held {
        return Standing::Gone;
    }
    let Some(heard) = edge.heard else {
        return if now < edge.since + times.start_grace { Standing::Quiet } else { Standing::Silent };
    };
    let silence = now.saturating_sub(heard);
    if silence >= times.duration {
        Standing::Silent
    } else if silence < times.fresh && edge.there {
        Standing::Lives { settled: now.saturating_sub(edge.since) >= times.settled }
    } else {
        Standing::Quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    fn lease(edge: &str, renewed: u64) -> EdgeLease {
        EdgeLease { edge: edge.to_owned(), held: true, renewed: renewed.to_string(), ..EdgeLease::default() }
    }

    struct World {
        machine: Machine,
        renewals: u64,
    }

    impl World {
        fn new() -> Self {
            Self { machine: Machine::new(Times::default()), renewals: 0 }
        }

        fn renew(&mut self, edge: &str) {
            self.renewals += 1;
            self.machine.set(lease(edge, self.renewals), false);
        }

        /// So many tenths of a second, in which these edges renew their Leases twice a second.
        fn run(&mut self, tenths: u32, edges: &[&str]) -> &mut Self {
            for tenth in 0..tenths {
                if tenth % 5 == 0 {
                    edges.iter().for_each(|edge| self.renew(edge));
                }
                self.machine.advance(LOOK);
            }
            self
        }

        fn of(&self, edge: &str) -> Option<Standing> {
            self.machine.seen().get(edge).map(|seen| seen.standing)
        }
    }

    const NEW: Option<Standing> = Some(Standing::Lives { settled: false });
    const LIVES: Option<Standing> = Some(Standing::Lives { settled: true });

    #[test]
    fn an_edge_is_given_up_after_two_seconds_and_gets_nothing_after_one() {
        let mut world = World::new();
        world.renew("a");
        assert_eq!(world.of("a"), NEW);
        assert_eq!(world.run(101, &["a"]).of("a"), LIVES);
        assert_eq!(world.run(8, &[]).of("a"), LIVES, "one renewal that is lost does no harm");
        assert_eq!(world.run(1, &[]).of("a"), Some(Standing::Quiet));
        assert_eq!(world.run(9, &[]).of("a"), Some(Standing::Quiet));
        assert_eq!(world.run(1, &[]).of("a"), Some(Standing::Silent));
        world.renew("a");
        assert_eq!(world.of("a"), NEW, "it has to prove itself anew");
    }

    #[test]
    fn a_server_that_stood_still_blames_nobody() {
        let mut world = World::new();
        world.run(20, &["a"]);
        for _ in 0..10 {
            world.machine.advance(Duration::from_secs(3));
        }
        assert_eq!(world.of("a"), NEW);
        // Looks that are late by less count.
        world.machine.advance(Duration::from_millis(900));
        world.machine.advance(Duration::from_millis(900));
        assert_eq!(world.of("a"), Some(Standing::Silent));
    }

    #[test]
    fn edges_of_before_have_time_to_be_heard() {
        let mut world = World::new();
        for edge in ["a", "b"] {
            world.machine.set(lease(edge, 0), true);
        }
        world.machine.set(lease("a", 0), false);
        assert_eq!((world.of("a"), world.of("b")), (Some(Standing::Quiet), Some(Standing::Quiet)));
        world.run(30, &["b"]);
        assert_eq!((world.of("a"), world.of("b")), (Some(Standing::Quiet), NEW));
        world.run(20, &["b"]);
        assert_eq!((world.of("a"), world.of("b")), (Some(Standing::Silent), NEW));
        // The history has forgotten where the server was: everything is read anew.
        world.machine.set(lease("c", 0), true);
        assert_eq!(world.of("c"), Some(Standing::Quiet));
    }

    #[test]
    fn only_a_renewal_is_a_sign_of_life() {
        let mut world = World::new();
        world.renew("a");
        world.run(15, &[]);
        let labelled = EdgeLease { zone: Some("z".to_owned()), ..lease("a", 1) };
        world.machine.set(labelled, false);
        assert_eq!(world.of("a"), Some(Standing::Quiet));
        assert_eq!(world.machine.seen()["a"].zone.as_deref(), Some("z"));
        world.machine.set(EdgeLease { held: false, ..lease("a", 2) }, false);
        assert_eq!(world.of("a"), Some(Standing::Gone));
        world.renew("a");
        assert_eq!(world.of("a"), NEW);
    }

    #[test]
    fn a_lease_that_is_deleted_is_no_goodbye() {
        let mut world = World::new();
        world.run(5, &["a", "b"]);
        world.machine.remove("a");
        world.machine.retain(|edge| edge != "b");
        assert_eq!(world.of("a"), Some(Standing::Quiet));
        assert_eq!(world.run(14, &[]).of("a"), Some(Standing::Quiet));
        assert_eq!(world.run(1, &[]).of("a"), None);
        world.renew("b");
        assert_eq!(world.of("b"), NEW);
        world.machine.set(EdgeLease { held: false, ..lease("b", 99) }, false);
        world.machine.remove("b");
        assert_eq!(world.run(1, &[]).of("b"), None, "nothing is kept of who is gone");
    }
}
