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

use std::borrow::Cow;

use super::expr::{Expr, Field, Meta, Reg, Remember, Verdict};
use super::layout::{Chain, KEY, Rule, address_words, goto, rule};
use super::set::Set;
use super::word;
use crate::plan::{Family, MAX_ENDPOINTS};

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
const _: () = assert!(word::FIRST_CLASS as usize + LADDER.len() <= word::FIRST_STICKY as usize);

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
    fixed.into_iter().chain(Class::all().map(|c| (c.action(), c.plain_name())))
}

/// The chains that a table has from the start: two per class, and what they end in.
pub(super) fn plain_chains(family: Family) -> Vec<Chain> {
    let regs = Regs::new(family);
    let draws = Class::all().map(|class| chain(class.draw_name(), vec![rule("", regs.draw(class.size(), None))]));
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
    chains
}

/// The name of the chain for session affinity with this timeout.
pub(super) fn sticky_name(class: Class, seconds: u32) -> String {
    format!("sticky-{}-{seconds}s", class.size())
}

/// The chain for session affinity with this timeout, and the one that it draws with.
///
/// A known client gets the endpoint it had, for another `seconds`. An endpoint that is gone has no element in
/// `endpoints`, so the rule breaks and the client draws again: the kernel needs no help with that.
pub(super) fn sticky_chains(family: Family, class: Class, seconds: u32) -> [Chain; 2] {
    let regs = Regs::new(family);
    let mut known = vec![Expr::Load(Field::Source, KEY)];
    known.extend(regs.load_pool());
    known.push(Expr::Lookup { map: Set::Affinity.name(), key: KEY, to: regs.id });
    known.extend(regs.find_endpoint());
    known.push(regs.remember(Remember::Update, seconds));
    known.extend(regs.deliver());
    let name = sticky_name(class, seconds);
    let draw = format!("draw-{name}");
    let mut rules = vec![rule("a client that was here", known)];
    rules.extend(vec![jump(draw.clone()); class.tries()]);
    // One in thousands, or the set is full: balance without memory.
    rules.push(rule("", vec![Expr::Verdict(Verdict::Goto(class.plain_name()))]));
    [chain(draw, vec![rule("", regs.draw(class.size(), Some(seconds)))]), chain(name, rules)]
}

fn chain(name: impl Into<Cow<'static, str>>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: None, comment: "", rules }
}

fn jump(to: impl Into<Cow<'static, str>>) -> Rule {
    rule("", vec![Expr::Verdict(Verdict::Jump(to.into()))])
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

    /// A rule that draws one endpoint, or breaks and leaves the packet as it was.
    fn draw(&self, below: u32, sticky_seconds: Option<u32>) -> Vec<Expr> {
        let mut exprs = Vec::with_capacity(16);
        if sticky_seconds.is_some() {
            exprs.push(Expr::Load(Field::Source, KEY));
        }
        exprs.extend(self.load_pool());
        exprs.push(Expr::Random { modulus: below, to: self.id });
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
