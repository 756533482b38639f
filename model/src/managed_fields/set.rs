//! Sets of fields: what one manager owns of an object.
//!
//! A set is a tree whose steps are kept as `FieldsV1` spells them (`f:spec`, `k:{"port":80,"protocol":"TCP"}`, `v:"a"`), so
//! reading and writing it is a walk without translation, and two steps are equal exactly when their texts are. A node may
//! be a member itself (`.` in `FieldsV1`), have members below it, or both: who owns `f:ports` with a `.` owns that there is
//! a list, and nothing of its items.
//!
//! Source: structured-merge-diff `fieldpath` (`Set`, `serialize.go`). The operations are those of sets of paths; only
//! [`FieldSet::without_branches`] looks at what is below a path.
//!
//! Every write makes some of these and drops them again, so a node is a row in a sorted vector: most objects have a handful of
//! fields a level, and a tree's node is allocated with room for eleven. What takes many rows away, or adds many, does it in
//! one pass, since such a set may come from a client.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::element;

/// The key of `FieldsV1` that says of the object around it that it is a member.
const MEMBER: &str = ".";

/// A set of fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// In the order of their steps. No node is there for nothing: it is a member, or something below it is.
    nodes: Vec<(Box<str>, Node)>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// Whether the set has no field.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field; the empty path is no field.
    pub(super) fn insert<S: AsRef<str>>(&mut self, path: &[S]) {
        match path {
            [] => {}
            [last] => self.entry(last.as_ref()).member = true,
            [step, rest @ ..] => self.entry(step.as_ref()).below.insert(rest),
        }
    }

    /// Where a step is, or would be. Sets are mostly built in order, so the end is looked at first.
    fn place(&self, step: &str) -> Result<usize, usize> {
        let Some((last, above)) = self.nodes.split_last() else { return Err(0) };
        match (*last.0).cmp(step) {
            Ordering::Less => Err(self.nodes.len()),
            Ordering::Equal => Ok(above.len()),
            Ordering::Greater => above.binary_search_by(|(other, _)| (**other).cmp(step)),
        }
    }

    fn node(&self, step: &str) -> Option<&Node> {
        let (_, node) = self.nodes.get(self.place(step).ok()?)?;
        Some(node)
    }

    fn node_mut(&mut self, step: &str) -> Option<&mut Node> {
        let at = self.place(step).ok()?;
        self.nodes.get_mut(at).map(|(_, node)| node)
    }

    /// The node of a step, which is made if there is none.
    fn entry(&mut self, step: &str) -> &mut Node {
        let at = self.place(step).unwrap_or_else(|at| {
            self.nodes.insert(at, (step.into(), Node::default()));
            at
        });
        &mut self.nodes[at].1
    }

    /// Orders rows that came in any order; of those of one step the last counts.
    fn order(&mut self) {
        if !self.nodes.is_sorted_by(|(a, _), (b, _)| a < b) {
            self.nodes.reverse();
            self.nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.nodes.dedup_by(|(later, _), (first, _)| later == first);
        }
    }

    /// Drops what is there for nothing.
    fn sweep(&mut self) {
        self.nodes.retain(|(_, node)| !node.is_empty());
    }

    /// Whether a field of this set itself, not of something below it, has this name.
    pub(super) fn has(&self, step: &str) -> bool {
        self.node(step).is_some_and(|node| node.member)
    }

    /// How many steps lead on from here.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A step from here: whether it is a member, and the set below it.
    pub(super) fn get(&self, step: &str) -> Option<(bool, &FieldSet)> {
        self.node(step).map(|node| (node.member, &node.below))
    }

    /// What the set has below a field; None if that is nothing.
    pub(super) fn below(&self, step: &str) -> Option<&FieldSet> {
        self.node(step).map(|node| &node.below).filter(|set| !set.is_empty())
    }

    /// The steps from here, in order, each with whether it is a member, and the set below it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&str, bool, &FieldSet)> {
        self.nodes.iter().map(|(step, node)| (&**step, node.member, &node.below))
    }

    /// Makes a node of what another set has there; for walks that build one set from another.
    pub(super) fn put(&mut self, step: &str, member: bool, below: FieldSet) {
        let node = Node { member, below };
        if !node.is_empty() {
            *self.entry(step) = node;
        }
    }

    /// Of steps in any order, each a member, with the sets below them; of one step the last counts.
    pub(super) fn of_members(members: impl Iterator<Item = (String, FieldSet)>) -> Self {
        let node = |(step, below): (String, FieldSet)| (step.into_boxed_str(), Node { member: true, below });
        let mut set = Self { nodes: members.map(node).collect() };
        set.order();
        set
    }

    /// Adds every field of the other set.
    pub(super) fn unite(&mut self, other: &FieldSet) {
        let mut missing = Vec::new();
        for (step, node) in &other.nodes {
            match self.node_mut(step) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below.unite(&node.below);
                }
                None => missing.push((step.clone(), node.clone())),
            }
        }
        self.join(missing);
    }

    /// Adds every field of the other set, which is used up.
    pub(super) fn absorb(&mut self, other: FieldSet) {
        let mut missing = Vec::new();
        for (step, node) in other.nodes {
            match self.node_mut(&step) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below.absorb(node.below);
                }
                None => missing.push((step, node)),
            }
        }
        self.join(missing);
    }

    /// Adds nodes of steps that are not there.
    fn join(&mut self, mut missing: Vec<(Box<str>, Node)>) {
        if self.nodes.is_empty() {
            self.nodes = missing;
        } else if !missing.is_empty() {
            self.nodes.append(&mut missing);
            self.nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
    }

    /// Takes every field of the other set away; true if there was one.
    pub(super) fn subtract(&mut self, other: &FieldSet) -> bool {
        let (mut changed, mut emptied) = (false, false);
        for (step, node) in &other.nodes {
            let Some(mine) = self.node_mut(step) else { continue };
            changed |= mine.member && node.member;
            mine.member &= !node.member;
            changed |= mine.below.subtract(&node.below);
            emptied |= mine.is_empty();
        }
        if emptied {
            self.sweep();
        }
        changed
    }

    /// Without the fields of the other set.
    pub(super) fn difference(mut self, other: &FieldSet) -> FieldSet {
        self.subtract(other);
        self
    }

    /// Without the fields of the other set and whatever is below them.
    pub(super) fn without_branches(mut self, other: &FieldSet) -> FieldSet {
        let mut emptied = false;
        for (step, node) in &other.nodes {
            let Some(mine) = self.node_mut(step) else { continue };
            if node.member {
                *mine = Node::default();
            } else {
                mine.below = std::mem::take(&mut mine.below).without_branches(&node.below);
            }
            emptied |= mine.is_empty();
        }
        if emptied {
            self.sweep();
        }
        self
    }

    /// The fields that both sets have.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet::default();
        for (step, node) in &self.nodes {
            if let Some(theirs) = other.node(step) {
                both.put(step, node.member && theirs.member, node.below.intersection(&theirs.below));
            }
        }
        both
    }

    /// Every field as people read it (`.spec.ports[port=80,protocol="TCP"].name`), and as a set of its own, in order.
    pub(super) fn members(&self) -> Vec<(String, FieldSet)> {
        let mut members = Vec::new();
        self.gather(&mut Vec::new(), &mut members);
        members
    }

    fn gather<'a>(&'a self, path: &mut Vec<&'a str>, members: &mut Vec<(String, FieldSet)>) {
        // A field before what is below its neighbours: Kubernetes names the members of a level first.
        for (step, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            path.push(step);
            let mut shown = String::new();
            path.iter().for_each(|step| element::show(step, &mut shown));
            let mut field = FieldSet::default();
            field.insert(path);
            members.push((shown, field));
            path.pop();
        }
        for (step, node) in &self.nodes {
            path.push(step);
            node.below.gather(path, members);
            path.pop();
        }
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members().into_iter().map(|(path, _)| path)).finish()
    }
}

/// As `FieldsV1`.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self, false, serializer)
    }
}

struct Wire<'a>(&'a Node);

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0.below, self.0.member && !self.0.below.is_empty(), serializer)
    }
}

/// A member with nothing below it is an empty object; one with something below it says so with a `.`.
fn serialize<S: Serializer>(set: &FieldSet, member: bool, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(set.nodes.len() + usize::from(member)))?;
    if member {
        map.serialize_entry(MEMBER, &FieldSet::default())?;
    }
    for (step, node) in &set.nodes {
        map.serialize_entry(&**step, &Wire(node))?;
    }
    map.end()
}

/// From `FieldsV1`. Steps of a sort that is not known are passed over: a later version may have more.
impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Node::deserialize(deserializer)?.below)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of FieldsV1")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut node = Node::default();
        while let Some(step) = map.next_key::<String>()? {
            if step == MEMBER {
                map.next_value::<de::IgnoredAny>()?;
                node.member = true;
                continue;
            }
            let mut inner: Node = map.next_value()?;
            let Some(step) = element::canonical(&step).map_err(de::Error::custom)? else { continue };
            inner.member |= inner.below.is_empty();
            node.below.nodes.push((step, inner));
        }
        node.below.order();
        Ok(node)
    }
}
