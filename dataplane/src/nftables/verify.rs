//! Whether the kernel's sets, chains and rules are those of the layout.
//!
//! A table that was found at the start may be kept only if it is what this program would make. The comparison knows
//! nothing of expressions: the batch that would make the layout is taken apart again, and every attribute in it must
//! be in the kernel's answer with the same value. What the kernel says beyond that (handles, counters, defaults) is
//! passed over. This asks of [`super::expr`] that it writes things as the kernel says them, where there are two ways.
//!
//! Rejected: a version in the table's comment. It says what a program meant to write, not what others have done to it.

use std::collections::BTreeMap;

use super::balancer::{Made, parse_stay, stay_chains};
use super::changes::Changes;
use super::layout::{Chain, Owner, edge_chains};
use super::localnet;
use super::message::{NEW_CHAIN, NEW_RULE, NEW_SET, Ownership, add_changes, add_table};
use super::netlink::batch::{Batch, FAMILY_HEADER, NFTABLES};
use super::netlink::socket::{Messages, Socket};
use super::netlink::{KIND, NESTED, NetlinkError, Writer, attribute, raw_attributes};
use super::read::{self, Object};
use crate::plan::Family;

/// Where sets, and rules for their chain, say what they are called.
const NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
/// A set's number in its batch, which the kernel does not keep.
const SET_ID: u16 = 10;

/// Objects of a table by name: those of one name in their order, which matters for rules.
type Named = BTreeMap<String, Vec<Vec<u8>>>;

/// What a batch makes, or what a kernel has.
#[derive(Default)]
struct Shape {
    sets: Named,
    chains: Named,
    rules: Named,
}

/// Whether the family's table is there with exactly the sets, chains and rules of the layout. Chains that are made on
/// demand may be there if they are what would be made today, and so may the note about
/// `route_localnet`. Elements are not looked at.
///
/// # Errors
/// When the kernel refuses to answer, or the tables do not rest.
pub fn same_layout(socket: &Socket, family: Family) -> Result<bool, NetlinkError> {
    Ok(difference(socket, family)?.is_none())
}

/// As [`same_layout`]: `None` if it is, else the first object that is not, in words, e.g. `the rules of chain outside`.
///
/// # Errors
/// As [`same_layout`].
pub fn difference(socket: &Socket, family: Family) -> Result<Option<String>, NetlinkError> {
    let kernels = Shape {
        sets: named(read::sets(socket, family)?),
        chains: named(read::chains(socket, family)?),
        rules: named(read::rules(socket, family)?),
    };
    Ok(compare(socket.owner(), family, &kernels))
}

fn compare(owner: Owner, family: Family, kernels: &Shape) -> Option<String> {
    let mut batch = Batch::of(owner);
    add_table(&mut batch, family, Ownership::Open);
    let mut changes = Changes::default();
    for name in kernels.chains.keys() {
        let mark = Some(localnet::mark()).filter(|mark| family == Family::V4 && *name == mark.name);
        changes.chains.extend(mark.map(|chain| (family, chain)));
        changes.chains.extend(made(family, name).into_iter().map(|chain| (family, chain)));
    }
    add_changes(&mut batch, &changes);
    let ours = Shape::of(&batch);
    let sets = unlike(&ours.sets, &kernels.sets).map(|name| format!("set {name}"));
    let chains = || unlike(&ours.chains, &kernels.chains).map(|name| format!("chain {name}"));
    let rules = || unlike(&ours.rules, &kernels.rules).map(|name| format!("the rules of chain {name}"));
    sets.or_else(chains).or_else(rules)
}

/// What is made on demand under this name: the chain, with those that are its alone.
pub(super) fn made(family: Family, name: &str) -> Vec<Chain> {
    if let Some(made) = Made::parse(name) {
        return made.chains(family);
    }
    let stays = parse_stay(name).map(|seconds| stay_chains(family, seconds));
    stays.into_iter().flatten().chain(edge_chains()).filter(|chain| chain.name == name).collect()
}

impl Shape {
    fn of(batch: &Batch) -> Self {
        let mut shape = Self::default();
        for message in Messages(batch.bytes()) {
            let [_, message_kind] = message.kind.to_be_bytes();
            debug_assert_eq!(message.kind >> 8, NFTABLES, "another subsystem's message");
            let (objects, name) = match message_kind {
                NEW_SET => (&mut shape.sets, NAME),
                NEW_CHAIN => (&mut shape.chains, CHAIN_NAME),
                NEW_RULE => (&mut shape.rules, NAME),
                _ => continue,
            };
            let attributes = message.body.get(FAMILY_HEADER..).unwrap_or_default();
            let name = attribute(attributes, name).unwrap_or_default();
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let mut wanted = Writer::default();
            for (kind, content) in raw_attributes(attributes).filter(|(k, _)| message_kind != NEW_SET || *k != SET_ID) {
                wanted.bytes(kind, content);
            }
            objects.entry(name).or_default().push(wanted.bytes);
        }
        shape
    }
}

fn named(objects: Vec<Object>) -> Named {
    let mut named = Named::new();
    for object in objects {
        named.entry(object.name).or_default().push(object.attributes);
    }
    named
}

/// The first name under which not both have the same.
fn unlike<'a>(ours: &'a Named, kernels: &'a Named) -> Option<&'a str> {
    let same = |name: &String| match (ours.get(name), kernels.get(name)) {
        (Some(ours), Some(kernels)) => {
            ours.len() == kernels.len() && ours.iter().zip(kernels).all(|(o, k)| covers(o, k))
        }
        _ => false,
    };
    ours.keys().chain(kernels.keys()).find(|name| !same(name)).map(String::as_str)
}

/// Whether every attribute of `ours` is in `kernels` with the same value; several of a kind (a list) must be as many,
/// in the same order.
fn covers(ours: &[u8], kernels: &[u8]) -> bool {
    let kernels = by_kind(kernels);
    by_kind(ours).iter().all(|(kind, ours)| {
        let Some(kernels) = kernels.get(kind).filter(|kernels| kernels.len() == ours.len()) else { return false };
        // Whether something is nested is said by us; the kernel mostly does not.
        let mut pairs = ours.iter().zip(kernels);
        pairs.all(|(o, k)| if o.nested { covers(o.content, k.content) } else { o.content == k.content })
    })
}

struct Attribute<'a> {
    nested: bool,
    content: &'a [u8],
}

fn by_kind(bytes: &[u8]) -> BTreeMap<u16, Vec<Attribute<'_>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (kind, content) in raw_attributes(bytes) {
        all.entry(kind & KIND).or_default().push(Attribute { nested: kind & NESTED != 0, content });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::balancer::Class;

    fn written(body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        body(&mut writer);
        writer.bytes
    }

    /// What a kernel that takes everything as it is would have.
    fn honest(family: Family, timeouts: &[u32]) -> Shape {
        let mut batch = Batch::default();
        add_table(&mut batch, family, Ownership::Owned);
        let mut changes = Changes::default();
        let chains = |seconds: &u32| {
            let sticky = Made::Sticky { class: Class::of(3), seconds: *seconds };
            sticky.chains(family).into_iter().map(move |chain| (family, chain))
        };
        changes.chains.extend(timeouts.iter().flat_map(chains));
        add_changes(&mut batch, &changes);
        Shape::of(&batch)
    }

    #[test]
    fn attributes_are_compared_by_value_and_lists_in_order() {
        let list = |numbers: &[u32]| {
            written(|w| {
                w.text(1, "a");
                w.nest(2, |w| numbers.iter().for_each(|n| w.nest(1, |w| w.u32(7, *n))));
            })
        };
        assert!(covers(&list(&[1, 2]), &list(&[1, 2])));
        for other in [&[2, 1][..], &[1], &[1, 2, 3], &[]] {
            assert!(!covers(&list(&[1, 2]), &list(other)), "{other:?}");
        }
        let more = written(|w| {
            w.u32(9, 9);
            w.bytes(2, &written(|w| w.bytes(1, &written(|w| (w.u32(7, 1), w.u32(8, 8)).0))));
            w.text(1, "a");
        });
        assert!(covers(&list(&[1]), &more), "what the kernel adds is passed over, and it marks no nests");
        assert!(!covers(&more, &list(&[1])));
    }

    #[test]
    fn only_the_layout_and_chains_made_on_demand() {
        for family in Family::ALL {
            assert_eq!(compare(Owner::Agent, family, &honest(family, &[])), None);
            assert_eq!(compare(Owner::Agent, family, &honest(family, &[10, 10_800])), None);
            type Breaking = fn(&mut Shape);
            let breakings: [(Breaking, &str); 8] = [
                (|s| drop(s.chains.remove("refuse")), "chain refuse"),
                (|s| drop(s.sets.remove("draws")), "set draws"),
                (|s| drop(s.rules.remove("source")), "the rules of chain source"),
                (|s| drop(s.chains.insert("mine".into(), vec![Vec::new()])), "chain mine"),
                (|s| s.rules.get_mut("outside").unwrap().reverse(), "the rules of chain outside"),
                (|s| s.rules.get_mut("outside").unwrap().truncate(1), "the rules of chain outside"),
                // Chains of the right name with the rules of others.
                (
                    |s| {
                        let other = s.rules["refuse"].clone();
                        s.rules.insert("sticky-3-10s".into(), other);
                    },
                    "the rules of chain sticky-3-10s",
                ),
                (
                    |s| {
                        let rules = s.rules["sticky-3-10s"].clone();
                        s.rules.insert("sticky-3-11s".into(), rules);
                    },
                    "the rules of chain sticky-3-11s",
                ),
            ];
            for (breaking, found) in breakings {
                let mut shape = honest(family, &[10, 11]);
                breaking(&mut shape);
                assert_eq!(compare(Owner::Agent, family, &shape).as_deref(), Some(found));
            }
            assert!(compare(Owner::Agent, family, &Shape::default()).is_some(), "there is no table");
        }
    }
}
