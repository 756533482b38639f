//! How an endpoint is drawn: uniformly, for any number of endpoints, with a constant number of chains.
//!
//! `numgen` draws below a constant of the rule, so a chain serves one number. A chain for each possible number
//! would be far too many, and a chain for each number in use would come and go with endpoints. So there is a
//! ladder of *classes*: 1 to 8 exactly, then two per doubling. A pool of n endpoints uses the lowest class C with
//! C ≥ n (with weights, n is the sum of the shares: an endpoint has as many elements). Its chain `pick-C` jumps to
//! `draw-C`, which draws below C; a draw at or above n finds no element, which ends its only rule, and the next jump
//! draws again. Every endpoint is as likely as the other, because misses are drawn anew and not folded in. At
//! most a third of the draws miss, so after [`TRIES`] jumps one connection in 6,561 is left; it draws below the
//! next lower class, which cannot miss.
//!
//! The rule that draws stands once and is jumped to, rather than eight times in a row, because of those who write: for
//! each element of a map with data the kernel goes through all rules that look something up in it.
//!
//! For session affinity there is a chain per class *and timeout*, because the timeout is a constant of the rule
//! too. Those are made when a pool first needs one: there are as many as pairs in use, whatever the Services.
//!
//! A pool whose endpoints take turns needs a counter of its own, and the kernel's counters are expressions of rules: so it
//! has a chain of its own (`turn-…`), which goes with the pool, or when its size changes. It holds two rules at most and looks
//! nothing up: it counts, puts the turn into the priority, beside the number of its chain, and leaves the rest to `turned`,
//! which stands once. A turn never misses, so turns are exact. (Rejected: an element per pool that each packet replaces by
//! the next. What a packet deletes stays in the set's memory until it is swept a second later, in the way of every packet
//! that looks for the same key; and two processors that find the same turn both take it.)
//!
//! A pool that is chosen from by the client's address has as many draws as [`crate::spread::table`] has slots, and the hash of
//! the address is the draw.

use std::borrow::Cow;

use super::expr::{Expr, Field, Meta, Reg, Remember, Verdict};
use super::layout::{Chain, KEY, Rule, address_words, goto, rule};
use super::set::Set;
use super::word;
use crate::plan::{Family, MAX_ENDPOINTS};
use crate::spread::TABLES;

/// Where the action stands in a turn; below it is the number of the turn.
pub(super) const TURN_SHIFT: u32 = 16;

/// The sizes of pools that have a chain.
const LADDER: [u32; 34] = [
    1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096,
    6144, 8192, 12_288, 16_384, 24_576, 32_768, 49_152, 65_536,
];
/// Up to here a class holds pools of exactly its size.
const EXACT: u32 = 8;
/// How many times a chain draws before it settles for the class below.
const TRIES: usize = 8;

const _: () = assert!(LADDER[LADDER.len() - 1] as usize == MAX_ENDPOINTS);
const _: () = assert!(MAX_ENDPOINTS <= 1 << TURN_SHIFT && word::ACTION_MASK < 1 << (32 - TURN_SHIFT));
const _: () = assert!(word::FIRST_HASH as usize + TABLES.len() <= word::FIRST_MADE as usize);
const _: () = assert!(word::FIRST_CLASS as usize + LADDER.len() <= word::FIRST_HASH as usize);

/// A rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(u8);

impl Class {
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).take(LADDER.len()).map(Self)
    }

    /// The lowest class that holds so many slots: one for each endpoint, or more where they have weights.
    pub fn of(slots: usize) -> Self {
        let index = LADDER.partition_point(|size| (*size as usize) < slots).min(LADDER.len() - 1);
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// The largest pool in it.
    pub fn size(self) -> u32 {
        LADDER[usize::from(self.0)]
    }

    /// The action in a word for a pool of this class without session affinity.
    pub fn action(self) -> u32 {
        word::FIRST_CLASS + u32::from(self.0)
    }

    fn below(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// How often a draw is to be tried.
    fn tries(self) -> usize {
        if self.size() > EXACT { TRIES } else { 1 }
    }

    fn plain_name(self) -> Cow<'static, str> {
        Cow::Owned(format!("pick-{}", self.size()))
    }

    fn draw_name(self) -> String {
        format!("draw-{}", self.size())
    }
}

/// The elements of `balancers` that a table has from the start.
pub fn plain_balancers() -> impl Iterator<Item = (u32, Cow<'static, str>)> {
    let fixed = [(word::REFUSE, Cow::Borrowed("refuse")), (word::DISCARD, Cow::Borrowed("discard"))];
    let hashes = (word::FIRST_HASH..).zip(TABLES).map(|(action, size)| (action, hash_name(size).into()));
    fixed.into_iter().chain(Class::all().map(|c| (c.action(), c.plain_name()))).chain(hashes)
}

/// The chains that a table has from the start: two per class, and what they end in.
pub(super) fn plain_chains(family: Family) -> Vec<Chain> {
    let regs = Regs::new(family);
    let draws =
        Class::all().map(|class| chain(class.draw_name(), vec![rule("", regs.draw(Draw::Chance(class.size()), None))]));
    let picks = Class::all().map(|class| {
        let mut rules = vec![jump(class.draw_name()); class.tries()];
        rules.extend(class.below().filter(|_| class.tries() > 1).map(|below| jump(below.draw_name())));
        rules.push(rule("", vec![goto("last")]));
        chain(class.plain_name(), rules)
    });
    let mut chains: Vec<_> = draws.chain(picks).collect();
    // Reached only while a pool's elements are being changed under a packet's feet: the word is from before, what it
    // leads to is from after. Letting the packet pass would leave an untranslated connection behind, which all its
    // repetitions follow; dropped, it is sent again.
    chains.push(Chain {
        comment: "the pool shrank since the word was read",
        ..chain("last", vec![jump("draw-1"), rule("", vec![Expr::Verdict(Verdict::Drop)])])
    });
    chains.push(Chain { comment: "whose turn it is", ..turned(&regs, "turned".to_owned(), None) });
    let hash = |size: u32| {
        let drop = rule("", vec![Expr::Verdict(Verdict::Drop)]);
        chain(hash_name(size), vec![rule("", regs.draw(Draw::Hash { family, size }, None)), drop])
    };
    chains.extend(TABLES.map(hash));
    chains
}

/// The action in a word for a pool that is chosen from by the client's address, with a table of this size.
pub fn hash_action(size: u32) -> u32 {
    (word::FIRST_HASH..).zip(TABLES).find(|(_, table)| *table == size).map_or(word::FIRST_HASH, |(action, _)| action)
}

fn hash_name(size: u32) -> String {
    format!("hash-{size}")
}

/// A chain that is made when a pool first needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    /// For all pools of a class with session affinity.
    Sticky { class: Class, seconds: u32 },
    /// For all pools with a table of this size and session affinity.
    Hash { size: u32, seconds: u32 },
    /// For one pool, whose endpoints have `size` turns together. It goes with the pool.
    Turns { action: u32, size: u32, seconds: Option<u32> },
}

impl Made {
    /// What the balancer leads to.
    pub fn name(self) -> String {
        match self {
            Self::Sticky { class, seconds } => sticky_name(class, seconds),
            Self::Hash { size, seconds } => format!("hash-{size}-{seconds}s"),
            Self::Turns { action, size, seconds: None } => format!("turn-{action}-of-{size}"),
            Self::Turns { action, size, seconds: Some(seconds) } => format!("turn-{action}-of-{size}-{seconds}s"),
        }
    }

    /// For what a chain of this name is.
    pub fn parse(name: &str) -> Option<Self> {
        let made = if let Some(rest) = name.strip_prefix("sticky-") {
            let (size, seconds) = rest.strip_suffix('s')?.split_once('-')?;
            let size: u32 = size.parse().ok()?;
            let class = Class::all().find(|class| class.size() == size)?;
            Self::Sticky { class, seconds: seconds.parse().ok()? }
        } else if let Some(rest) = name.strip_prefix("hash-") {
            let (size, seconds) = rest.strip_suffix('s')?.split_once('-')?;
            let size = size.parse().ok().filter(|size| TABLES.contains(size))?;
            Self::Hash { size, seconds: seconds.parse().ok()? }
        } else {
            let (action, rest) = name.strip_prefix("turn-")?.split_once("-of-")?;
            let (size, seconds) = match rest.split_once('-') {
                Some((size, seconds)) => (size, Some(seconds.strip_suffix('s')?.parse().ok()?)),
                None => (rest, None),
            };
            let size = size.parse().ok().filter(|size| (1..=MAX_ENDPOINTS).contains(&(*size as usize)))?;
            let action = action.parse().ok().filter(|action| *action <= word::ACTION_MASK)?;
            Self::Turns { action, size, seconds }
        };
        // A number can be written in several ways.
        (made.name() == name).then_some(made)
    }

    /// How long clients are remembered.
    pub fn seconds(self) -> Option<u32> {
        match self {
            Self::Sticky { seconds, .. } | Self::Hash { seconds, .. } => Some(seconds),
            Self::Turns { seconds, .. } => seconds,
        }
    }

    /// Whether it goes through the chains of [`stay_chains`].
    pub fn stays(self) -> Option<u32> {
        match self {
            Self::Sticky { .. } => None,
            Self::Hash { seconds, .. } => Some(seconds),
            Self::Turns { seconds, .. } => seconds,
        }
    }

    /// The chain, and what is its alone.
    pub(super) fn chains(self, family: Family) -> Vec<Chain> {
        let regs = Regs::new(family);
        match self {
            Self::Sticky { class, seconds } => sticky_chains(family, class, seconds).to_vec(),
            Self::Hash { size, seconds } => {
                let draw = rule("", regs.draw(Draw::Hash { family, size }, Some(seconds)));
                let full = rule("", vec![Expr::Verdict(Verdict::Goto(hash_name(size).into()))]);
                vec![chain(self.name(), vec![jump(known_name(seconds)), draw, full])]
            }
            Self::Turns { action, size, seconds } => {
                let offset = action << TURN_SHIFT;
                let then = seconds.map_or_else(|| "turned".to_owned(), turned_name);
                let turn = vec![
                    Expr::Turn { modulus: size, offset, to: regs.word },
                    Expr::SetMeta(Meta::Priority, regs.word),
                    Expr::Verdict(Verdict::Goto(then.into())),
                ];
                let mut rules: Vec<_> = seconds.map(|seconds| jump(known_name(seconds))).into_iter().collect();
                rules.push(rule("", turn));
                vec![chain(self.name(), rules)]
            }
        }
    }
}

fn known_name(seconds: u32) -> String {
    format!("known-{seconds}s")
}

fn turned_name(seconds: u32) -> String {
    format!("turned-{seconds}s")
}

/// For how many seconds a chain of this name remembers clients, if it is one of [`stay_chains`].
pub(super) fn parse_stay(name: &str) -> Option<u32> {
    let seconds = name.strip_prefix("known-").or_else(|| name.strip_prefix("turned-"))?.strip_suffix('s')?;
    let seconds = seconds.parse().ok()?;
    [known_name(seconds), turned_name(seconds)].iter().any(|n| n == name).then_some(seconds)
}

/// What all pools with this timeout share that take turns or hash: a client that was here goes where it went; and whose turn
/// it is, remembered.
pub(super) fn stay_chains(family: Family, seconds: u32) -> [Chain; 2] {
    let regs = Regs::new(family);
    let known = chain(known_name(seconds), vec![rule("", regs.known(seconds))]);
    [known, turned(&regs, turned_name(seconds), Some(seconds))]
}

/// What the turn in the priority leads to.
fn turned(regs: &Regs, name: String, seconds: Option<u32>) -> Chain {
    let mut exprs = vec![
        Expr::LoadMeta(Meta::Priority, regs.word),
        Expr::Lookup { map: Set::Turns.name(), key: regs.word, to: regs.pool },
        // As in `find_endpoint`, for both parts of the key.
        Expr::SetMeta(Meta::Priority, regs.pool),
        Expr::LoadMeta(Meta::Priority, regs.pool),
        Expr::SetMeta(Meta::Priority, regs.id),
        Expr::LoadMeta(Meta::Priority, regs.id),
        Expr::SetMeta(Meta::Priority, regs.word),
        Expr::Lookup { map: Set::Endpoints.name(), key: regs.pool, to: regs.address },
    ];
    if let Some(seconds) = seconds {
        exprs.push(Expr::Load(Field::Source, KEY));
        exprs.extend([Remember::Delete, Remember::Update].map(|how| regs.remember(how, seconds)));
    }
    exprs.extend(regs.deliver());
    // The set of clients is full: without memory. Without that, the pool has changed since the turn was taken.
    let rest = seconds.map_or(Verdict::Drop, |_| Verdict::Goto(Cow::Borrowed("turned")));
    chain(name, vec![rule("", exprs), rule("", vec![Expr::Verdict(rest)])])
}

/// The name of the chain for session affinity with this timeout.
fn sticky_name(class: Class, seconds: u32) -> String {
    format!("sticky-{}-{seconds}s", class.size())
}

/// The chain for session affinity with this timeout, and the one that it draws with.
///
/// A known client gets the endpoint it had, for another `seconds`. An endpoint that is gone has no element in
/// `endpoints`, so the rule breaks and the client draws again: the kernel needs no help with that.
fn sticky_chains(family: Family, class: Class, seconds: u32) -> [Chain; 2] {
    let regs = Regs::new(family);
    let name = sticky_name(class, seconds);
    let draw = format!("draw-{name}");
    let mut rules = vec![rule("a client that was here", regs.known(seconds))];
    rules.extend(vec![jump(draw.clone()); class.tries()]);
    // One in thousands, or the set is full: balance without memory.
    rules.push(rule("", vec![Expr::Verdict(Verdict::Goto(class.plain_name()))]));
    [chain(draw, vec![rule("", regs.draw(Draw::Chance(class.size()), Some(seconds)))]), chain(name, rules)]
}

fn chain(name: impl Into<Cow<'static, str>>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: None, comment: "", rules }
}

fn jump(to: impl Into<Cow<'static, str>>) -> Rule {
    rule("", vec![Expr::Verdict(Verdict::Jump(to.into()))])
}

/// By what a slot is drawn.
#[derive(Clone, Copy)]
enum Draw {
    /// Below this number.
    Chance(u32),
    Hash {
        family: Family,
        size: u32,
    },
}

/// Which register holds what. The client stands before the pool, and the pool before the slot that is drawn and, once
/// it is known, the endpoint's id, so that `client . pool`, `pool . slot` and `pool . id` are each in a row.
struct Regs {
    pool: Reg,
    /// The slot first, then the id.
    id: Reg,
    address: Reg,
    port: Reg,
    zero: Reg,
    word: Reg,
}

impl Regs {
    fn new(family: Family) -> Self {
        let words = address_words(family);
        Self {
            pool: Reg(words),
            id: Reg(words + 1),
            address: Reg(words + 2),
            port: Reg(2 * words + 2),
            zero: Reg(2 * words + 3),
            word: Reg(2 * words + 4),
        }
    }

    /// A rule that sends a client that was here where it went, for another `seconds`.
    fn known(&self, seconds: u32) -> Vec<Expr> {
        let mut exprs = vec![Expr::Load(Field::Source, KEY)];
        exprs.extend(self.load_pool());
        exprs.push(Expr::Lookup { map: Set::Affinity.name(), key: KEY, to: self.id });
        exprs.extend(self.find_endpoint());
        exprs.push(self.remember(Remember::Update, seconds));
        exprs.extend(self.deliver());
        exprs
    }

    /// A rule that draws one endpoint, or breaks and leaves the packet as it was.
    fn draw(&self, draw: Draw, sticky_seconds: Option<u32>) -> Vec<Expr> {
        let mut exprs = Vec::with_capacity(16);
        if sticky_seconds.is_some() || matches!(draw, Draw::Hash { .. }) {
            exprs.push(Expr::Load(Field::Source, KEY));
        }
        exprs.extend(self.load_pool());
        exprs.push(match draw {
            Draw::Chance(below) => Expr::Random { modulus: below, to: self.id },
            Draw::Hash { family, size } => {
                Expr::Hash { from: KEY, bytes: 4 * u32::from(address_words(family)), modulus: size, to: self.id }
            }
        });
        exprs.push(Expr::Lookup { map: Set::Draws.name(), key: self.pool, to: self.id });
        exprs.extend(self.find_endpoint());
        if let Some(seconds) = sticky_seconds {
            // An update renews the timeout of an element that is there, and keeps its data.
            exprs.extend([Remember::Delete, Remember::Update].map(|how| self.remember(how, seconds)));
        }
        exprs.extend(self.deliver());
        exprs
    }

    fn load_pool(&self) -> [Expr; 2] {
        [Expr::LoadMeta(Meta::Priority, self.pool), Expr::And(self.pool, word::POOL_MASK)]
    }

    /// From an id to an address and port.
    ///
    /// The id goes through the priority and back for the sake of `nft` (1.0.6 at least), which takes what a map gave
    /// for zero bytes long and aborts a listing in which such a thing is a key. The word is there again before
    /// anything can break.
    fn find_endpoint(&self) -> [Expr; 5] {
        [
            Expr::LoadMeta(Meta::Priority, self.word),
            Expr::SetMeta(Meta::Priority, self.id),
            Expr::LoadMeta(Meta::Priority, self.id),
            Expr::SetMeta(Meta::Priority, self.word),
            Expr::Lookup { map: Set::Endpoints.name(), key: self.pool, to: self.address },
        ]
    }

    fn remember(&self, how: Remember, timeout_seconds: u32) -> Expr {
        Expr::Remember { how, map: Set::Affinity.name(), key: KEY, data: self.id, timeout_seconds }
    }

    /// The priority back to what a packet starts with, and off.
    fn deliver(&self) -> [Expr; 3] {
        [
            Expr::Set(self.zero, 0),
            Expr::SetMeta(Meta::Priority, self.zero),
            Expr::Dnat { address: self.address, port: self.port },
        ]
    }
}
