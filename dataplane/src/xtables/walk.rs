//! The way of a connection's first packet through rules: executes them as a kernel would, and says with which probability the
//! packet goes where.
//!
//! The rules are data wherever they are from: what a plan was spelled as, or what `iptables-save` says a kernel has. What rules
//! ask that is not in the packet, [`World`] answers: sets, and the memory of `recent`. A rule that draws divides the packet
//! into two of which each has its part of the probability; those that have become alike are one from there on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use model::types::Protocol;

use super::read::Ruleset;
use super::rule::{Direction, Hook, Mark, Match, Rule, States, Table, Target};
use super::text;
use crate::nftables::walk::Way;
use crate::plan::Family;
use crate::route::{Candidate, Origin, Packet, Source, Verdict};

/// What rules ask that is not in the packet.
pub trait World {
    type Error;

    /// Whether the packet's key, made of these parts of it, is in the set.
    ///
    /// # Errors
    /// When the set cannot be asked.
    fn in_set(&self, set: &str, by: &[Direction], packet: &Seen) -> Result<bool, Self::Error>;

    /// Whether the client is in the list, since at most so many seconds.
    ///
    /// # Errors
    /// When the list cannot be read.
    fn remembers(&self, _list: &str, _client: IpAddr, _seconds: u32) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

/// A world without sets and memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl World for Nothing {
    type Error = Infallible;

    fn in_set(&self, _: &str, _: &[Direction], _: &Seen) -> Result<bool, Infallible> {
        Ok(false)
    }
}

/// Why a way cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E> {
    #[error(transparent)]
    World(E),
    /// The rules lead where none of ours does.
    #[error("the rules do what they never should: {0}")]
    Astray(String),
}

/// A packet on its way, as a rule sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub source: IpAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
    /// What the client asked.
    pub asked: SocketAddr,
    pub here: bool,
    /// From a process of this machine.
    pub own: bool,
    pub mark: u32,
    pub connection_mark: u32,
    /// The destination is another than the one that was asked.
    pub translated: bool,
    pub masqueraded: bool,
    pub untracked: bool,
    /// How long a client is remembered, where the way came by such a question.
    pub seconds: Option<u32>,
    pub remembered: bool,
}

impl Seen {
    pub fn new(packet: &Packet) -> Self {
        let destination = SocketAddr::new(packet.destination, packet.port);
        Self {
            source: packet.client,
            destination,
            protocol: packet.protocol,
            asked: destination,
            here: packet.here,
            own: packet.origin == Origin::ThisNode,
            mark: 0,
            connection_mark: 0,
            translated: false,
            masqueraded: false,
            untracked: false,
            seconds: None,
            remembered: false,
        }
    }

    pub fn family(&self) -> Family {
        Family::of(self.source)
    }
}

/// What a table did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It goes on.
    Pass,
    Drop,
    Reject,
}

/// Where parts of a packet are, each with its probability.
pub type Ends = BTreeMap<(End, Seen), f64>;

/// Leads packets through rules.
pub struct Walker<'a, W> {
    rules: &'a Ruleset,
    world: &'a W,
}

/// Deeper than a kernel would follow.
const MAX_DEPTH: usize = 64;

/// What a chain did, apart from [`End`]: it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Back,
    End(End),
}

/// Parts of a packet, each with its probability.
type Divided<T> = Vec<(T, Seen, f64)>;

type Parts = BTreeMap<(Left, Seen), f64>;

impl<'a, W: World> Walker<'a, W> {
    pub fn new(rules: &'a Ruleset, world: &'a W) -> Self {
        Self { rules, world }
    }

    /// What the rules do with the first packet of a connection.
    ///
    /// # Errors
    /// When the world cannot be asked, or the rules are not ones that this program has made.
    pub fn walk(&self, packet: &Packet) -> Result<Way, WalkError<W::Error>> {
        let mut chains = Vec::new();
        let way = |verdict, chains| Way { verdict, probabilities: Vec::new(), remembered: false, chains };
        if Family::of(packet.client) != Family::of(packet.destination) {
            return Ok(way(Verdict::NotOurs, chains));
        }
        let mut ends = Ends::from([((End::Pass, Seen::new(packet)), 1.0)]);
        for (table, hook) in Self::hooks(packet) {
            ends = self.hook(table, hook, ends, &mut chains)?;
        }
        verdict(packet, &ends, chains)
    }

    /// The tables that a packet meets, in order. A packet that was translated is taken to leave the machine.
    fn hooks(packet: &Packet) -> Vec<(Table, Hook)> {
        let mut hooks: Vec<(Table, Hook)> = match packet.origin {
            Origin::ThisNode => [Table::Raw, Table::Mangle, Table::Nat].map(|table| (table, Hook::Output)).into(),
            Origin::Pod | Origin::Outside => {
                [Table::Raw, Table::Mangle, Table::Nat].map(|table| (table, Hook::Prerouting)).into()
            }
        };
        hooks.push((
            Table::Filter,
            match packet.origin {
                Origin::ThisNode => Hook::Output,
                _ if packet.here => Hook::Input,
                _ => Hook::Forward,
            },
        ));
        hooks.push((Table::Nat, Hook::Postrouting));
        hooks
    }

    /// Leads what is left of a packet through a built-in chain of a table. What is not tracked is not translated either. The
    /// chains of ours on the way are noted in the order in which they are first entered.
    ///
    /// # Errors
    /// As [`Walker::walk`].
    pub fn hook(
        &self,
        table: Table,
        hook: Hook,
        ends: Ends,
        chains: &mut Vec<String>,
    ) -> Result<Ends, WalkError<W::Error>> {
        let mut after = Ends::new();
        for ((end, seen), probability) in ends {
            let passes = end != End::Pass || (table == Table::Nat && seen.untracked);
            let Some(rules) = self.rules.chain(seen.family(), table, hook.chain()).filter(|_| !passes) else {
                *after.entry((end, seen)).or_insert(0.0) += probability;
                continue;
            };
            for ((left, seen), part) in self.rules(table, rules, seen, chains, 0)? {
                let end = match left {
                    Left::Back => End::Pass,
                    Left::End(end) => end,
                };
                *after.entry((end, seen)).or_insert(0.0) += probability * part;
            }
        }
        Ok(after)
    }

    fn rules(
        &self,
        table: Table,
        rules: &[Rule],
        seen: Seen,
        chains: &mut Vec<String>,
        depth: usize,
    ) -> Result<Parts, WalkError<W::Error>> {
        let mut done = Parts::new();
        let mut going = BTreeMap::from([(seen, 1.0)]);
        for rule in rules {
            let mut on = BTreeMap::new();
            for (seen, probability) in going {
                for (fits, seen, part) in self.fits(rule, seen)? {
                    let part = probability * part;
                    if !fits {
                        *on.entry(seen).or_insert(0.0) += part;
                        continue;
                    }
                    for (step, seen, p) in self.act(table, rule, seen, chains, depth)? {
                        match step {
                            None => *on.entry(seen).or_insert(0.0) += part * p,
                            Some(left) => *done.entry((left, seen)).or_insert(0.0) += part * p,
                        }
                    }
                }
            }
            going = on;
            if going.is_empty() {
                break;
            }
        }
        for (seen, probability) in going {
            *done.entry((Left::Back, seen)).or_insert(0.0) += probability;
        }
        Ok(done)
    }

    /// Whether a packet fits, or which part of it.
    fn fits(&self, rule: &Rule, mut seen: Seen) -> Result<Divided<bool>, WalkError<W::Error>> {
        let mut part = 1.0;
        for m in &rule.matches {
            let fits = match m {
                Match::Chance { of, share } => {
                    part *= f64::from(text::likelihood(*share, *of)) / f64::from(text::CERTAIN);
                    part > 0.0
                }
                Match::Turn { every, .. } => {
                    part /= f64::from((*every).max(1));
                    true
                }
                Match::Remembered { list, seconds } => {
                    seen.seconds = Some(*seconds);
                    let known = self.world.remembers(list, seen.source, *seconds).map_err(WalkError::World)?;
                    seen.remembered |= known;
                    known
                }
                Match::Remember { .. } => true,
                Match::InSet { set, by, not } => self.world.in_set(set, by, &seen).map_err(WalkError::World)? != *not,
                m => plain(m, &seen),
            };
            if !fits {
                return Ok(vec![(false, seen, 1.0)]);
            }
        }
        if part >= 1.0 {
            return Ok(vec![(true, seen, 1.0)]);
        }
        Ok(vec![(true, seen.clone(), part), (false, seen, 1.0 - part)])
    }

    /// What a rule does with a packet that fits: `None`, it goes on behind it.
    fn act(
        &self,
        table: Table,
        rule: &Rule,
        mut seen: Seen,
        chains: &mut Vec<String>,
        depth: usize,
    ) -> Result<Divided<Option<Left>>, WalkError<W::Error>> {
        let step = match &rule.target {
            Target::Jump(chain) | Target::Goto(chain) => {
                let rules = self.rules.chain(seen.family(), table, chain).filter(|_| depth < MAX_DEPTH);
                let rules = rules.ok_or_else(|| WalkError::Astray(format!("they lead to chain {chain}")))?;
                if !chains.iter().any(|known| known == chain) {
                    chains.push(chain.to_string());
                }
                let goes_on = matches!(rule.target, Target::Jump(_));
                let parts = self.rules(table, rules, seen, chains, depth + 1)?;
                let one = |((left, seen), p)| (Some(left).filter(|left| !(goes_on && *left == Left::Back)), seen, p);
                return Ok(parts.into_iter().map(one).collect());
            }
            Target::Return => Some(Left::Back),
            Target::Accept => Some(Left::End(End::Pass)),
            Target::Drop => Some(Left::End(End::Drop)),
            Target::RejectTcp | Target::RejectPort => Some(Left::End(End::Reject)),
            Target::Dnat(to) => {
                seen.destination = *to;
                seen.translated = true;
                Some(Left::End(End::Pass))
            }
            Target::Masquerade => {
                seen.masqueraded = true;
                Some(Left::End(End::Pass))
            }
            Target::Redirect => {
                seen.translated = true;
                Some(Left::End(End::Pass))
            }
            Target::SetMark(mark) => {
                seen.mark = with(seen.mark, *mark);
                None
            }
            Target::SetConnectionMark(mark) => {
                seen.connection_mark = with(seen.connection_mark, *mark);
                None
            }
            Target::RestoreMark { mask } => {
                seen.mark = with(seen.mark, Mark { value: seen.connection_mark & mask, mask: *mask });
                None
            }
            Target::Untrack => {
                seen.untracked = true;
                None
            }
            Target::Nothing => None,
        };
        Ok(vec![(step, seen, 1.0)])
    }
}

fn with(mark: u32, to: Mark) -> u32 {
    (mark & !to.mask) | to.value
}

/// What the packet itself answers.
fn plain(m: &Match, seen: &Seen) -> bool {
    match m {
        Match::Source { range, not } => range.contains(&seen.source) != *not,
        Match::Destination { range, not } => range.contains(&seen.destination.ip()) != *not,
        Match::Protocol(protocol) => *protocol == seen.protocol,
        Match::DestinationPort(ports) => ports.contains(&seen.destination.port()),
        // Clients have other ports than servers, and send no pings; nor is their link known.
        Match::SourcePort(_) | Match::EchoRequest | Match::SourceMac(_) | Match::Reply => false,
        // What a process sends by way of lo is decided when it leaves; and what guards loopback addresses against others is in
        // place of the kernel's own guard, which no plan speaks of.
        Match::Loopback { .. } => false,
        Match::DestinationLocal => seen.here && !seen.translated,
        Match::SourceLocal { not } => seen.own != *not,
        Match::State { states, not } => in_state(*states, seen) != *not,
        Match::AskedFor(range) => range.contains(&seen.asked.ip()),
        Match::Mark { mark, not } => (seen.mark & mark.mask == mark.value) != *not,
        Match::ConnectionMark { mark, not } => (seen.connection_mark & mark.mask == mark.value) != *not,
        // Asked elsewhere.
        Match::Chance { .. }
        | Match::Turn { .. }
        | Match::Remembered { .. }
        | Match::Remember { .. }
        | Match::InSet { .. } => true,
    }
}

fn in_state(states: States, seen: &Seen) -> bool {
    !seen.untracked && (states.new || (states.dnat && seen.translated))
}

/// What the parts of a packet come to. Drawing must not decide whether there is an answer.
///
/// # Errors
/// When it does.
pub fn verdict<E>(packet: &Packet, ends: &Ends, chains: Vec<String>) -> Result<Way, WalkError<E>> {
    let mut way = Way { verdict: Verdict::NotOurs, probabilities: Vec::new(), remembered: false, chains };
    let mut kinds: Vec<Verdict> = Vec::new();
    let mut candidates: BTreeMap<Candidate, f64> = BTreeMap::new();
    let mut affinity_seconds = None;
    for ((end, seen), probability) in ends {
        let kind = match end {
            End::Drop => Verdict::Drop,
            End::Reject => Verdict::Reject,
            End::Pass if seen.untracked => Verdict::Here,
            End::Pass if !seen.translated => Verdict::NotOurs,
            End::Pass => {
                let source = if seen.masqueraded { Source::Masqueraded } else { Source::Kept };
                let candidate = Candidate { endpoint: seen.destination, source, share: 1 };
                *candidates.entry(candidate).or_insert(0.0) += probability;
                affinity_seconds = affinity_seconds.or(seen.seconds);
                way.remembered |= seen.remembered;
                continue;
            }
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match (kinds.pop(), kinds.is_empty(), candidates.is_empty()) {
        (Some(kind), true, true) => way.verdict = kind,
        (None, _, false) => {
            way.probabilities = candidates.values().copied().collect();
            let candidates = candidates.into_keys().collect();
            way.verdict = Verdict::Endpoints { candidates, affinity_seconds };
        }
        _ => return Err(WalkError::Astray(format!("chance decides whether {} is answered", packet.destination))),
    }
    Ok(way)
}
