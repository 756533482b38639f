//! The way of a packet through a table: executes the rules of the layout over elements, and says with which
//! probability the packet goes where.
//!
//! The rules are the same wherever the elements are ([`Tables`]): in the memory of a test, or in a kernel. That every
//! rule can be executed here is what makes the packet-flow tests tests of the rules, and what lets `portolan trace` say
//! what a kernel would do without anything being sent.
//!
//! A rule that draws is executed for every number that it can draw, all of them side by side: one *lane* each, so that
//! what they look up can be asked for together, and lanes that have become alike are one from there on. A packet's
//! probability to end somewhere is the part of the lanes that do.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::plan::Family;
use crate::route::{Candidate, Origin, Packet, Source, Verdict as Routed};

use super::layout::Chain;
use super::set::Set;

mod registers;
mod rule;

use rule::Step;

/// Where chains and elements are.
pub trait Tables {
    type Error;

    /// The chain with this name, if the family's table has it.
    fn chain(&self, family: Family, name: &str) -> Option<Cow<'_, Chain>>;

    /// The elements of these keys, as they stand in registers; `None` where there is none.
    ///
    /// # Errors
    /// When the elements cannot be read.
    fn look_up(&self, family: Family, set: Set, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, Self::Error>;

    /// Whether the packet path can write a new element to `affinity`.
    fn remembers(&self) -> bool {
        true
    }
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is in the set.
    Member,
    Data(Vec<u8>),
    /// A verdict that goes to this chain.
    Chain(String),
}

/// What becomes of a packet, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Candidates are sorted; their shares are 1 and mean nothing.
    pub verdict: Routed,
    /// How likely each candidate is.
    pub probabilities: Vec<f64>,
    /// The client was here before and goes where it went then.
    pub remembered: bool,
    /// The chains on the way to the verdict, in the order in which they are first entered.
    pub chains: Vec<String>,
}

/// Why a way cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E> {
    #[error(transparent)]
    Elements(E),
    /// The table leads where the layout never does: its elements are not what was written.
    #[error("the table does what it never should: {0}")]
    Astray(String),
}

/// Walks packets through tables. What it has looked up once it takes for true until it is told to [forget](Self::forget).
pub struct Walker<'a, T: Tables> {
    tables: &'a T,
    known: RefCell<HashMap<Place, Option<Found>>>,
}

/// A key of a set.
type Place = (Family, Set, Vec<u8>);

/// Where a packet ends, in one hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The chain came to its end or returned, with this in the packet's priority: passes a base chain, goes on behind a
    /// jump.
    Pass(u32),
    Dnat(Translation),
    Masquerade,
    Drop,
    Reject,
    Untrack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Translation {
    endpoint: SocketAddr,
    memory: Memory,
}

/// What a lane had to do with the memory of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Memory {
    found: bool,
    seconds: Option<u32>,
}

type Ends = BTreeMap<End, f64>;

struct Context<'a> {
    packet: &'a Packet,
    family: Family,
    /// The destination as the packet has it now.
    destination: SocketAddr,
    translated: bool,
    chains: RefCell<Vec<String>>,
    /// Where chains end that were entered with a priority: a chain that draws is entered several times.
    ends: RefCell<HashMap<(String, u32), Ends>>,
}

/// `NFT_JUMP_STACK_SIZE`: the kernel refuses deeper tables.
const MAX_DEPTH: usize = 16;

impl<'a, T: Tables> Walker<'a, T> {
    pub fn new(tables: &'a T) -> Self {
        Self { tables, known: RefCell::default() }
    }

    /// Elements may have changed.
    pub fn forget(&mut self) {
        self.known.get_mut().clear();
    }

    /// What the tables do with the first packet of a connection.
    ///
    /// # Errors
    /// When elements cannot be read, or the table is not one that this program has made.
    pub fn walk(&self, packet: &Packet) -> Result<Way, WalkError<T::Error>> {
        let first = if packet.origin == Origin::ThisNode { "output" } else { "prerouting" };
        let mut context = Context {
            packet,
            family: Family::of(packet.destination),
            destination: SocketAddr::new(packet.destination, packet.port),
            translated: false,
            chains: RefCell::default(),
            ends: RefCell::default(),
        };
        let mut way =
            Way { verdict: Routed::NotOurs, probabilities: Vec::new(), remembered: false, chains: Vec::new() };
        if Family::of(packet.client) != context.family {
            return Ok(way);
        }
        let raw = if packet.origin == Origin::ThisNode { "raw-output" } else { "raw-prerouting" };
        if self.run_chain(&context, raw, 0, 0)?.contains_key(&End::Untrack) {
            return Ok(Way { verdict: Routed::Here, chains: context.chains.take(), ..way });
        }
        // As good as every packet comes through there untouched, which is no news.
        context.chains.get_mut().clear();
        let ends = self.run_chain(&context, first, 0, 0)?;
        way.chains = context.chains.take();
        let mut candidates: BTreeMap<Candidate, f64> = BTreeMap::new();
        let mut seconds = None;
        for (end, probability) in &ends {
            let Translation { endpoint, memory } = match end {
                End::Dnat(translation) => *translation,
                End::Untrack => return Err(WalkError::Astray("untracked too late".to_owned())),
                End::Masquerade => return Err(WalkError::Astray("a new source before the destination".to_owned())),
                _ if ends.len() > 1 => {
                    return Err(WalkError::Astray(format!("{end:?} for a part of the packets alone")));
                }
                End::Drop => return Ok(Way { verdict: Routed::Drop, ..way }),
                End::Reject => return Ok(Way { verdict: Routed::Reject, ..way }),
                End::Pass(_) => return Ok(way),
            };
            context.destination = endpoint;
            context.translated = true;
            context.ends.get_mut().clear();
            let after = self.run_chain(&context, "postrouting", 0, 0)?;
            let source = match after.keys().next() {
                Some(End::Pass(_)) if after.len() == 1 => Source::Kept,
                Some(End::Masquerade) if after.len() == 1 => Source::Masqueraded,
                _ => return Err(WalkError::Astray(format!("{after:?} behind the translation"))),
            };
            way.remembered |= memory.found;
            seconds = seconds.or(memory.seconds);
            *candidates.entry(Candidate { endpoint, source, share: 1 }).or_insert(0.0) += probability;
        }
        way.probabilities = candidates.values().copied().collect();
        let candidates = candidates.into_keys().collect();
        Ok(Way { verdict: Routed::Endpoints { candidates, affinity_seconds: seconds }, ..way })
    }

    fn run_chain(
        &self,
        context: &Context<'_>,
        name: &str,
        priority: u32,
        depth: usize,
    ) -> Result<Ends, WalkError<T::Error>> {
        let entry = (name.to_owned(), priority);
        if let Some(ends) = context.ends.borrow().get(&entry) {
            return Ok(ends.clone());
        }
        let chain = self.tables.chain(context.family, name).filter(|_| depth < MAX_DEPTH);
        let chain = chain.ok_or_else(|| WalkError::Astray(format!("it goes to chain {name}")))?;
        {
            let mut chains = context.chains.borrow_mut();
            if !chains.iter().any(|c| c == name) {
                chains.push(name.to_owned());
            }
        }
        let ends = self.run_rules(context, &chain, 0, priority, depth)?;
        context.ends.borrow_mut().insert(entry, ends.clone());
        Ok(ends)
    }

    /// The rules of a chain from one on.
    fn run_rules(
        &self,
        context: &Context<'_>,
        chain: &Chain,
        index: usize,
        priority: u32,
        depth: usize,
    ) -> Result<Ends, WalkError<T::Error>> {
        let Some(rule) = chain.rules.get(index) else { return Ok([(End::Pass(priority), 1.0)].into()) };
        let mut ends = Ends::new();
        let mut add = |end: End, probability: f64| *ends.entry(end).or_insert(0.0) += probability;
        for (step, part) in self.run_rule(context, chain, &rule.exprs, priority)? {
            match step {
                Step::End(end) => add(end, part),
                Step::Break => {
                    let rest = self.run_rules(context, chain, index + 1, priority, depth)?;
                    rest.into_iter().for_each(|(end, p)| add(end, part * p));
                }
                Step::Goto(target, priority) => {
                    let there = self.run_chain(context, &target, priority, depth + 1)?;
                    there.into_iter().for_each(|(end, p)| add(end, part * p));
                }
                Step::Jump(target, priority) => {
                    for (end, p) in self.run_chain(context, &target, priority, depth + 1)? {
                        let End::Pass(priority) = end else {
                            add(end, part * p);
                            continue;
                        };
                        let back = self.run_rules(context, chain, index + 1, priority, depth)?;
                        back.into_iter().for_each(|(end, q)| add(end, part * p * q));
                    }
                }
            }
        }
        Ok(ends)
    }
}
