//! The messages of nf_tables: objects of the layout and elements, written into a batch.

use super::balancer::plain_balancers;
use super::changes::Changes;
use super::element::{Element, family_name};
use super::expr::family_number;
use super::layout::{Chain, Rule, chains};
use super::netlink::Writer;
use super::netlink::batch::{Batch, NLM_F_CREATE, NLM_F_EXCL};
use super::set::{Set, comment};
use super::timeout;
use crate::plan::Family;

// NFT_MSG_*
const NEW_TABLE: u8 = 0;
pub(super) const GET_TABLE: u8 = 1;
pub(super) const DELETE_TABLE: u8 = 2;
pub(super) const NEW_CHAIN: u8 = 3;
pub(super) const GET_CHAIN: u8 = 4;
const DELETE_CHAIN: u8 = 5;
pub(super) const NEW_RULE: u8 = 6;
pub(super) const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;
const DELETE_ELEMENTS: u8 = 14;

const NLM_F_APPEND: u16 = 0x800;

/// `NFTA_TABLE_NAME`, which is also what the other messages call the table.
pub(super) const NAME: u16 = 1;
/// `NFTA_CHAIN_NAME`.
pub(super) const CHAIN_NAME: u16 = 3;
/// A list of elements is one attribute, and an attribute's length has 16 bits.
const ELEMENTS_BYTES: usize = 56 << 10;

/// How firmly a table is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Only this socket changes the table, `nft flush ruleset` passes it by, and it stays when the socket closes:
    /// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`, Linux 6.9.
    Owned,
    /// Anyone with the right to may change it.
    Open,
}

impl Ownership {
    fn flags(self) -> u32 {
        match self {
            Self::Owned => 0x2 | 0x4,
            Self::Open => 0,
        }
    }
}

/// Removes the table, if there is one.
pub(super) fn remove_table(batch: &mut Batch, family: Family) {
    let table = batch.owner.table();
    // Creating what may exist and deleting it is the way that every kernel knows.
    let what = |verb: &str| format!("{verb} table {} {table}", family_name(family));
    let number = family_number(family);
    batch.message(number, NEW_TABLE, NLM_F_CREATE, what("replacing"), |w| w.text(NAME, table));
    batch.message(number, DELETE_TABLE, 0, what("removing"), |w| w.text(NAME, table));
}

/// Takes a table that has the layout, and empties its sets: what is not remembered of clients, and what is not part of
/// the layout. Whoever owned it before must be gone.
pub(super) fn adopt_table(batch: &mut Batch, family: Family, ownership: Ownership) {
    let table = batch.owner.table();
    let number = family_number(family);
    if ownership == Ownership::Owned {
        let what = format!("adopting table {} {table}", family_name(family));
        batch.message(number, NEW_TABLE, 0, what, |w| {
            w.text(NAME, table);
            w.u32(2, ownership.flags());
        });
    }
    for set in Set::all().filter(|set| !matches!(set, Set::Affinity | Set::Balancers)) {
        let what = format!("emptying {} {}", family_name(family), set.name());
        batch.message(number, DELETE_ELEMENTS, 0, what, |w| {
            w.text(NAME, table);
            w.text(2, set.name());
        });
    }
}

/// Makes an owned table and removes it again: an old kernel refuses it.
pub(super) fn probe_ownership(batch: &mut Batch) {
    const PROBE: &str = "portolan-probe";
    let number = family_number(Family::V4);
    batch.message(number, NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, format!("adding table {PROBE}"), |w| {
        w.text(NAME, PROBE);
        w.u32(2, Ownership::Owned.flags());
    });
    batch.message(number, DELETE_TABLE, 0, format!("removing table {PROBE}"), |w| w.text(NAME, PROBE));
}

/// Makes the table with its layout. Chains come before the rules and elements that name them.
pub(super) fn add_table(batch: &mut Batch, family: Family, ownership: Ownership) {
    let table = batch.owner.table();
    let owner = batch.owner;
    let what = format!("adding table {} {table}", family_name(family));
    batch.message(family_number(family), NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, what, |w| {
        w.text(NAME, table);
        w.u32(2, ownership.flags());
        let mut data = Vec::new();
        comment(&mut data, 0, owner.comment());
        w.bytes(6, &data);
    });
    for set in Set::all() {
        let what = format!("adding set {}", set.name());
        batch.message(family_number(family), NEW_SET, NLM_F_CREATE | NLM_F_EXCL, what, |w| {
            w.text(NAME, table);
            set.spec().encode(family, w);
        });
    }
    let chains = chains(owner, family);
    for chain in &chains {
        add_chain(batch, family, chain);
    }
    for chain in &chains {
        add_rules(batch, family, chain);
    }
    let balancers: Vec<_> =
        plain_balancers().map(|(action, chain)| Element::Balancer { family, action, chain: chain.into() }).collect();
    add_elements(batch, family, Set::Balancers, &balancers, true);
}

/// Writes what changed.
pub(super) fn add_changes(batch: &mut Batch, changes: &Changes) {
    for (family, chain) in &changes.chains {
        add_chain(batch, *family, chain);
    }
    for (family, chain) in &changes.chains {
        add_rules(batch, *family, chain);
    }
    for (family, seconds) in &changes.timeouts {
        timeout::add(batch, *family, *seconds);
    }
    for (set, family, group) in changes.groups() {
        add_elements(batch, family, set, &group.removed, false);
        add_elements(batch, family, set, &group.added, true);
    }
    for (family, chain) in &changes.gone {
        let table = batch.owner.table();
        batch.message(family_number(*family), DELETE_CHAIN, 0, format!("removing chain {chain}"), |w| {
            w.text(NAME, table);
            w.text(CHAIN_NAME, chain);
        });
    }
}

pub(super) fn add_chain(batch: &mut Batch, family: Family, chain: &Chain) {
    let table = batch.owner.table();
    let what = format!("adding chain {}", chain.name);
    // What has neither hook nor rules may be there already: adding it again makes no difference.
    let flags = if chain.rules.is_empty() { NLM_F_CREATE } else { NLM_F_CREATE | NLM_F_EXCL };
    batch.message(family_number(family), NEW_CHAIN, flags, what, |w| {
        w.text(NAME, table);
        w.text(CHAIN_NAME, &chain.name);
        if let Some(hook) = chain.hook {
            let (number, priority) = hook.number_and_priority();
            w.nest(4, |w| {
                w.u32(1, number);
                w.bytes(2, &priority.to_be_bytes());
            });
            // NF_ACCEPT
            w.u32(5, 1);
            w.text(7, hook.kind());
        }
        user_comment(w, 12, chain.comment);
    });
}

fn add_rules(batch: &mut Batch, family: Family, chain: &Chain) {
    for rule in &chain.rules {
        add_rule(batch, family, chain, rule);
    }
}

fn add_rule(batch: &mut Batch, family: Family, chain: &Chain, rule: &Rule) {
    let table = batch.owner.table();
    let mut names: Vec<_> = rule.exprs.iter().map(super::expr::Expr::name).collect();
    names.dedup();
    let what = format!("adding a rule to chain {} (it uses: {})", chain.name, names.join(", "));
    batch.message(family_number(family), NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, what, |w| {
        w.text(NAME, table);
        w.text(2, &chain.name);
        w.nest(4, |w| rule.exprs.iter().for_each(|e| e.encode(family, w)));
        user_comment(w, 7, rule.comment);
    });
}

fn user_comment(w: &mut Writer, kind: u16, text: &str) {
    let mut data = Vec::new();
    comment(&mut data, 0, text);
    if !data.is_empty() {
        w.bytes(kind, &data);
    }
}

fn add_elements(batch: &mut Batch, family: Family, set: Set, elements: &[Element], add: bool) {
    let table = batch.owner.table();
    let mut scratch = Vec::new();
    let mut rest = elements.iter().peekable();
    while rest.peek().is_some() {
        let (kind, flags, verb) =
            if add { (NEW_ELEMENTS, NLM_F_CREATE, "adding") } else { (DELETE_ELEMENTS, 0, "removing") };
        let what = format!("{verb} elements of {} {}", family_name(family), set.name());
        batch.message(family_number(family), kind, flags, what, |w| {
            w.text(NAME, table);
            w.text(2, set.name());
            w.nest(3, |w| {
                let start = w.bytes.len();
                while let Some(element) = rest.next_if(|_| w.bytes.len() - start < ELEMENTS_BYTES) {
                    element.encode(add, &mut scratch, w);
                }
            });
        });
    }
}
