//! What clients do: few names and values, so that they meet.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The kinds that take part: one with a status, one whose objects derive others, one that cannot be updated blindly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    Service,
    Lease,
}

pub const KINDS: [Kind; 3] = [Kind::Pod, Kind::Service, Kind::Lease];
pub const NAMESPACES: [&str; 2] = ["default", "other"];
pub const TIERS: [&str; 2] = ["a", "b"];
/// Names of the last objects: one for each tier, one without.
pub const LAST: [&str; 3] = ["zz-a", "zz-b", "zz-none"];
const NAMES: [&str; 2] = ["one", "two"];
const VALUES: [&str; 2] = ["x", "y"];
const FINALIZERS: [&str; 2] = ["example.com/a", "example.com/b"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub namespace: &'static str,
    pub name: &'static str,
}

/// The revision that a write names.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    Unnamed,
    /// The newest that the client knows when the round begins.
    Known,
    /// One that was superseded long ago.
    Stale,
}

/// What a whole object says, as far as the model looks at it.
#[derive(Clone, Debug)]
pub struct Content {
    /// The label `tier`.
    pub tier: Option<&'static str>,
    /// A field of the kind's own: see `client::value_path`.
    pub value: Option<&'static str>,
    pub finalizers: Vec<&'static str>,
}

/// A change of a field: `None` takes it away.
type Change = Option<Option<&'static str>>;

/// One operation of a JSON patch, on the label `tier`.
#[derive(Clone, Copy, Debug)]
pub enum JsonOp {
    Test(&'static str),
    Add(&'static str),
    Replace(&'static str),
    Remove,
}

/// Who applies; one of them may apply by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applier {
    First,
    Second,
}

#[derive(Clone, Debug)]
pub enum Op {
    Create(Key, Content),
    Update(Key, Content, Version),
    Merge {
        key: Key,
        tier: Change,
        value: Change,
        finalizers: Option<Vec<&'static str>>,
        version: Version,
    },
    Strategic {
        key: Key,
        tier: Change,
        add: Vec<&'static str>,
        remove: Vec<&'static str>,
    },
    Json(Key, Vec<JsonOp>),
    /// A label of the applier's own, and on a Lease its holder, which others write too.
    Apply {
        key: Key,
        by: Applier,
        label: Option<&'static str>,
        holder: Option<&'static str>,
        force: bool,
    },
    Delete(Key, Version),
    Get(Key),
    List {
        kind: Kind,
        namespace: Option<&'static str>,
        selector: Selector,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Selector {
    All,
    Is(&'static str),
    IsNot(&'static str),
    Has,
    HasNot,
}

impl Selector {
    /// As a query says it.
    pub fn query(self) -> String {
        match self {
            Self::All => String::new(),
            Self::Is(tier) => format!("tier%3D{tier}"),
            Self::IsNot(tier) => format!("tier+notin+({tier})"),
            Self::Has => "tier".to_owned(),
            Self::HasNot => "!tier".to_owned(),
        }
    }

    pub fn matches(self, tier: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Is(wanted) => tier == Some(wanted),
            Self::IsNot(wanted) => tier != Some(wanted),
            Self::Has => tier.is_some(),
            Self::HasNot => tier.is_none(),
        }
    }
}

/// Where a watch begins.
#[derive(Clone, Debug)]
pub enum From {
    /// `resourceVersion=0`: what there is, then what comes.
    Everything,
    /// `sendInitialEvents=true`: the same, with a bookmark between.
    Initial,
    /// After an event of the history, which one the index says.
    Event(Index),
}

#[derive(Clone, Debug)]
pub struct Watch {
    pub kind: Kind,
    pub namespace: Option<&'static str>,
    pub selector: Selector,
    pub from: From,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Requests that are sent together.
    Round(Vec<Op>),
    DeleteCollection {
        kind: Kind,
        namespace: &'static str,
        tier: Option<&'static str>,
    },
    Watch(Watch),
}

fn key() -> impl Strategy<Value = Key> {
    (select(&KINDS[..]), select(&NAMESPACES[..]), select(&NAMES[..])).prop_map(|(kind, namespace, name)| Key {
        kind,
        namespace,
        name,
    })
}

fn some<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = Option<T>> {
    prop::option::of(select(values))
}

fn finalizers() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![3 => Just(Vec::new()), 1 => prop::sample::subsequence(&FINALIZERS[..], 1..=2)]
}

fn content() -> impl Strategy<Value = Content> {
    (some(&TIERS), some(&VALUES), finalizers()).prop_map(|(tier, value, finalizers)| Content {
        tier,
        value,
        finalizers,
    })
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![3 => Just(Version::Unnamed), 4 => Just(Version::Known), 1 => Just(Version::Stale)]
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        2 => Just(Selector::All),
        2 => select(&TIERS[..]).prop_map(Selector::Is),
        1 => select(&TIERS[..]).prop_map(Selector::IsNot),
        1 => Just(Selector::Has),
        1 => Just(Selector::HasNot),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let json = prop_oneof![
        select(&TIERS[..]).prop_map(JsonOp::Test),
        select(&TIERS[..]).prop_map(JsonOp::Add),
        select(&TIERS[..]).prop_map(JsonOp::Replace),
        Just(JsonOp::Remove),
    ];
    let change = |values: &'static [&'static str]| prop::option::of(some(values));
    let applier = prop_oneof![Just(Applier::First), Just(Applier::Second)];
    prop_oneof![
        6 => (key(), content()).prop_map(|(key, content)| Op::Create(key, content)),
        5 => (key(), content(), version()).prop_map(|(key, content, version)| Op::Update(key, content, version)),
        4 => (key(), change(&TIERS), change(&VALUES), prop::option::of(finalizers()), version()).prop_map(
            |(key, tier, value, finalizers, version)| Op::Merge { key, tier, value, finalizers, version }
        ),
        3 => (key(), change(&TIERS), finalizers(), finalizers())
            .prop_map(|(key, tier, add, remove)| Op::Strategic { key, tier, add, remove }),
        2 => (key(), prop::collection::vec(json, 1..4)).prop_map(|(key, ops)| Op::Json(key, ops)),
        4 => (key(), applier, some(&VALUES), some(&VALUES), any::<bool>())
            .prop_map(|(key, by, label, holder, force)| Op::Apply { key, by, label, holder, force }),
        5 => (key(), version()).prop_map(|(key, version)| Op::Delete(key, version)),
        1 => key().prop_map(Op::Get),
        1 => (select(&KINDS[..]), some(&NAMESPACES), selector())
            .prop_map(|(kind, namespace, selector)| Op::List { kind, namespace, selector }),
    ]
}

fn watch() -> impl Strategy<Value = Watch> {
    let from = prop_oneof![Just(From::Everything), Just(From::Initial), any::<Index>().prop_map(From::Event),];
    (select(&KINDS[..]), some(&NAMESPACES), selector(), from).prop_map(|(kind, namespace, selector, from)| Watch {
        kind,
        namespace,
        selector,
        from,
    })
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop::collection::vec(op(), 1..4).prop_map(Step::Round),
        1 => (select(&KINDS[..]), select(&NAMESPACES[..]), some(&TIERS))
            .prop_map(|(kind, namespace, tier)| Step::DeleteCollection { kind, namespace, tier }),
        4 => watch().prop_map(Step::Watch),
    ];
    prop::collection::vec(step, 1..24)
}
