//! Which nodes have fallen silent: a pure machine of signs and moments.
//!
//! A node gives two kinds of signs: beats, every second, and the renewals of its Lease, every ten. One that has beaten is
//! judged by its beats ([`Times::grace`]); one that only renews its Lease, like another program's agent, by that
//! ([`Times::lease_grace`]). One that has given none is not judged: somebody made it by hand.
//!
//! Silence is counted by the server's own clock, from when a sign was *heard*; what clocks nodes have does not matter. And
//! it is counted only while the server listens: a look that comes late by [`STALL`] or more says that the process stood
//! still, so no time has passed for anybody. Where all is well looks are rare ([`Machine::rest`]).
//!
//! **Nobody is blamed for what the server's own network does.** When a node's grace is over, all nodes that were ready
//! vote: one that is *half*-silent (for half of its grace or longer) votes that it is the server who does not hear. With
//! more than half of the votes so, nobody is taken out, until most are heard again, and then everybody has a full grace
//! anew: not all come back in the same moment. Half a grace, because beats are not in step: at the moment when the first
//! of them all reaches its grace, the others have been silent for nearly as long and no longer. A node that is out has no
//! vote, so nodes that die one after the other are all taken out, but for the last.
//!
//! Only those vote whose own grace would be over as well: nodes that renew a Lease every ten seconds know nothing of the
//! last four.
//!
//! **A node that comes and goes is damped** ([`damping`]): it is back at once for the first times, then when it has been
//! heard without a gap for ever longer.

mod damping;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use damping::Falls;

/// A look that comes so late tells of the server's own standstill.
pub const STALL: Duration = Duration::from_secs(1);

/// Between two looks, where a node is out or silent for long.
pub const SOON: Duration = Duration::from_millis(100);

/// Between two looks, where all is well.
const LONGEST: Duration = Duration::from_secs(1);

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A node that has beaten is not ready after so much silence.
    pub grace: Duration,
    /// One that renews its Lease only, after so much.
    pub lease_grace: Duration,
    /// For how long it counts that a node fell silent.
    pub flap_window: Duration,
    /// How long a node that has fallen silent [`FREE_FALLS`](damping::FREE_FALLS) times must be heard without a gap; twice
    /// as long for each time more, up to the window.
    pub flap_hold: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { grace: seconds(4), lease_grace: seconds(40), flap_window: seconds(600), flap_hold: seconds(10) }
    }
}

impl Times {
    /// How often nodes have to beat: one or two that are lost do no harm.
    pub fn beat_interval(&self) -> Duration {
        self.grace / 4
    }
}

/// What is stored of a Node's readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// `True`, or nothing: what runs there is served.
    Ready,
    /// `Unknown` for its silence.
    Silent,
    /// Not ready for a reason of others. It is left alone, and has no vote.
    Otherwise,
}

/// How a node lets itself be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Beat,
    Lease,
}

/// What is to be done about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its condition becomes `Unknown`.
    TakeOut { node: Box<str>, silent: Duration },
    /// Its condition becomes what it was.
    TakeBack { node: Box<str> },
    /// It is heard again, and has to prove itself for so long.
    Damp { node: Box<str>, falls: usize, hold: Duration },
    /// So many of the ready nodes are silent at once that nobody is taken out. Said once.
    Spare { silent: usize, of: usize },
    /// Most are heard again; it lasted so long.
    Relent { lasted: Duration },
}

/// The time between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub elapsed: Duration,
    /// By so much the second came later than it should have.
    pub late: Duration,
}

/// How many nodes are how, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub heard: usize,
    /// Half of their grace or more.
    pub half_silent: usize,
    pub out: usize,
    /// Of those that are out: heard, and damped.
    pub damped: usize,
    /// Never heard, or not ready for a reason of others.
    pub unjudged: usize,
    pub spared: bool,
}

/// The nodes and their silence. All moments are the time that the server has listened.
#[derive(Debug)]
pub struct Machine {
    times: Times,
    now: Duration,
    /// When it was looked before.
    before: Duration,
    nodes: BTreeMap<Box<str>, Node>,
    /// Since when nobody is taken out.
    sparing: Option<Duration>,
}

#[derive(Debug)]
struct Node {
    stored: Stored,
    /// The last sign of any kind.
    heard: Option<Duration>,
    /// The last beat, of one that beats.
    beat: Option<Duration>,
    /// Whether it is to be out.
    out: bool,
    /// Out: since when it has been heard without a gap.
    back_since: Option<Duration>,
    falls: Falls,
}

impl Node {
    fn grace(&self, times: &Times) -> Duration {
        if self.beat.is_some() { times.grace } else { times.lease_grace }
    }

    fn silence(&self, now: Duration) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_sub(heard))
    }

    fn votes(&self) -> bool {
        self.stored == Stored::Ready && !self.out && self.heard.is_some()
    }

    fn is_silent(&self, share: u32, times: &Times, now: Duration) -> bool {
        self.silence(now).is_some_and(|silence| silence >= self.grace(times) / share)
    }
}

/// Votes of nodes that were ready.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    silent: usize,
    of: usize,
}

impl Votes {
    fn add(&mut self, silent: bool) {
        self.of += 1;
        self.silent += usize::from(silent);
    }

    fn most_are_silent(self) -> bool {
        self.silent * 2 > self.of
    }
}

impl Machine {
    pub fn new(times: Times) -> Self {
        Self { times, now: Duration::ZERO, before: Duration::ZERO, nodes: BTreeMap::new(), sparing: None }
    }

    /// There is a Node, with this readiness. One that was out for its silence before this machine began stays so until it
    /// is heard.
    pub fn set(&mut self, node: &str, stored: Stored) {
        let known = self.nodes.entry(node.into()).or_insert_with(|| Node {
            stored,
            heard: None,
            beat: None,
            out: stored == Stored::Silent,
            back_since: None,
            falls: Falls::default(),
        });
        known.stored = stored;
        // A write that was late, or another's.
        known.out |= stored == Stored::Silent;
    }

    /// The Node is gone. Another of the name is another.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// So much time has gone by since the last look; what is heard from here on was heard in it.
    pub fn pass(&mut self, Passed { elapsed, late }: Passed) {
        self.before = self.now;
        if late < STALL {
            self.now += elapsed;
        }
    }

    /// A node was heard so long ago. Signs of what is no Node mean nothing.
    pub fn hear(&mut self, node: &str, sign: Sign, ago: Duration) {
        let (now, times) = (self.now, self.times);
        // Where the server stood still, it was before no time.
        let at = now.saturating_sub(ago).max(self.before);
        let Some(node) = self.nodes.get_mut(node) else { return };
        let gap = node.silence(at).is_none_or(|silence| silence >= node.grace(&times));
        if gap || node.back_since.is_none() {
            node.back_since = Some(at);
        }
        node.heard = node.heard.max(Some(at));
        match sign {
            Sign::Beat => node.beat = Some(at),
            // Its agent beats no more, and lives.
            Sign::Lease => node.beat = node.beat.filter(|beat| now.saturating_sub(*beat) < times.grace),
        }
    }

    /// The node had renewed its Lease before the server began to listen: its silence is counted from now.
    pub fn expect(&mut self, node: &str) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(node).filter(|node| !node.out) {
            node.heard.get_or_insert(now);
        }
    }

    /// What follows. A decision is repeated at each look until [`set`](Self::set) says that it is stored; `Damp`, `Spare`
    /// and `Relent` are said once.
    pub fn look(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let (beating, all) = self.count_votes();
        if let Some(since) = self.sparing
            && !beating.most_are_silent()
            && !all.most_are_silent()
        {
            self.sparing = None;
            let now = self.now;
            self.nodes.values_mut().filter(|node| node.votes()).for_each(|node| node.heard = Some(now));
            decisions.push(Decision::Relent { lasted: now.saturating_sub(since) });
        }
        let spared = self.fell(beating, all, &mut decisions);
        if let (None, Some(Votes { silent, of })) = (self.sparing, spared) {
            self.sparing = Some(self.now);
            decisions.push(Decision::Spare { silent, of });
        }
        self.returned(&mut decisions);
        decisions
    }

    /// How long the next look can wait: to when the first node will have been silent for half of its grace, if it is not
    /// heard before. From then on, and while anybody is out, looks are close to each other: whoever is back is served at
    /// once, and a standstill of the server that is shorter than a rest would count as time.
    pub fn rest(&self) -> Duration {
        if self.sparing.is_some() || self.nodes.values().any(|node| node.out) {
            return SOON;
        }
        let until_half = |node: &Node| {
            let silence = node.silence(self.now).unwrap_or_default();
            (node.grace(&self.times) / 2).saturating_sub(silence)
        };
        let first = self.nodes.values().filter(|node| node.votes()).map(until_half).min();
        first.unwrap_or(LONGEST).clamp(SOON, LONGEST)
    }

    /// The votes of the nodes that beat, and of all.
    fn count_votes(&self) -> (Votes, Votes) {
        let (mut beating, mut all) = (Votes::default(), Votes::default());
        for node in self.nodes.values().filter(|node| node.votes()) {
            let silent = node.is_silent(2, &self.times, self.now);
            all.add(silent);
            if node.beat.is_some() {
                beating.add(silent);
            }
        }
        (beating, all)
    }

    /// Takes out whose grace is over; the votes by which somebody was spared.
    fn fell(&mut self, beating: Votes, all: Votes, decisions: &mut Vec<Decision>) -> Option<Votes> {
        let (now, times) = (self.now, self.times);
        let mut spared = None;
        for (name, node) in &mut self.nodes {
            let Some(silence) = node.silence(now).filter(|silence| *silence >= node.grace(&times)) else { continue };
            if node.out {
                // Heard for too short a time.
                if node.back_since.take().is_some() {
                    node.falls.add(now, times.flap_window);
                }
            } else if node.stored == Stored::Ready {
                let votes = if silence >= times.lease_grace { all } else { beating };
                if votes.most_are_silent() {
                    spared = Some(votes);
                    continue;
                }
                node.out = true;
                node.back_since = None;
                node.falls.add(now, times.flap_window);
            }
            if node.out && node.stored == Stored::Ready {
                decisions.push(Decision::TakeOut { node: name.clone(), silent: silence });
            }
        }
        spared
    }

    /// Takes back who is heard, and was heard for long enough.
    fn returned(&mut self, decisions: &mut Vec<Decision>) {
        let (now, times) = (self.now, self.times);
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| node.out) {
            let Some(since) = node.back_since else { continue };
            let falls = node.falls.within(now, times.flap_window);
            let hold = damping::hold(falls, &times);
            if node.is_silent(2, &times, now) {
                continue;
            }
            if now.saturating_sub(since) >= hold {
                if node.stored == Stored::Silent {
                    decisions.push(Decision::TakeBack { node: name.clone() });
                } else {
                    node.out = false;
                }
            } else if node.falls.tell() {
                decisions.push(Decision::Damp { node: name.clone(), falls, hold });
            }
        }
    }

    /// How the nodes are.
    pub fn census(&self) -> Census {
        let mut census = Census { spared: self.sparing.is_some(), ..Census::default() };
        for node in self.nodes.values() {
            if node.out {
                census.out += 1;
                census.damped += usize::from(node.back_since.is_some());
            } else if !node.votes() {
                census.unjudged += 1;
            } else if node.is_silent(2, &self.times, self.now) {
                census.half_silent += 1;
            } else {
                census.heard += 1;
            }
        }
        census
    }
}
