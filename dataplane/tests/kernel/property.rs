//! Random clusters that change at random: after every change the kernel's sets, read back, hold what the plan asks for, and
//! in the end what a table holds that was made from nothing.
//!
//! What numbers pools and slots have depends on what was there before, so two tables are compared by what they mean: each
//! frontend with the endpoints that its word leads to, as often as they can be drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dataplane::Dirty;
use dataplane::nftables::changes::Changes;
use dataplane::nftables::element::Element;
use dataplane::nftables::netlink::socket::Socket;
use dataplane::nftables::read::{self, Value};
use dataplane::nftables::set::Set;
use dataplane::nftables::shadow::Shadow;
use dataplane::nftables::{ProgramError, Table, verify, word};
use dataplane::{Family, Plan, compile_node};
use model::Key;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::cluster::{Cluster, NODE, ServiceSpec, arbitrary_service};
use crate::lab::{Namespace, with_rights};

/// Sequences of changes; the number that the project promises to try, in several pairs of namespaces side by side: most
/// of the time the kernel waits for what it has removed to be out of sight.
const SEQUENCES: u32 = 1000;
const PAIRS: u32 = 4;

/// What happens to the cluster, or to the agent.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, Option<Box<ServiceSpec>>),
    /// Several at once.
    Services(Vec<(usize, Option<ServiceSpec>)>),
    /// The node's pod range, and whether it has node ports on loopback addresses.
    Node(u8, bool),
    /// The agent ends and another begins.
    Restart,
    /// The agent no longer knows what it wrote.
    Forget,
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    let service = || (0..3usize, prop::option::weighted(0.8, arbitrary_service()));
    prop_oneof![
        6 => service().prop_map(|(n, spec)| Step::Service(n, spec.map(Box::new))),
        2 => prop::collection::vec(service(), 2..4).prop_map(Step::Services),
        1 => (1..4u8, any::<bool>()).prop_map(|(range, localhost)| Step::Node(range, localhost)),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

type Bytes = Vec<u8>;

/// Elements of both tables: of each set the keys, and what they lead to. In sets of ranges a key has a second part.
#[derive(Default)]
struct Elements(BTreeMap<(Set, Family), BTreeMap<(Bytes, Bytes), Bytes>>);

/// What they mean: a line each, of bytes as they stand in the kernel.
type Meaning = BTreeSet<Bytes>;

/// Of a pool the endpoints, with how many slots each has.
type Pools = BTreeMap<Bytes, BTreeMap<Bytes, u32>>;

impl Elements {
    fn of_kernel(socket: &Socket) -> Self {
        let mut all = Self::default();
        for family in Family::ALL {
            for set in Set::all().filter(|s| *s != Set::Affinity) {
                let entry = |entry: &read::Entry<'_>| {
                    let value = match entry.value {
                        Value::None => Bytes::new(),
                        Value::Data(bytes) => bytes.to_vec(),
                        Value::Goto(chain) => chain.as_bytes().to_vec(),
                    };
                    let second = entry.key_end.map_or_else(|| vec![u8::from(entry.end)], <[u8]>::to_vec);
                    Some(((entry.key.to_vec(), second), [&value, entry.user_data].concat()))
                };
                let found = settled(|| read::dump(socket, family, set, entry).unwrap());
                all.0.insert((set, family), found);
            }
        }
        all
    }

    fn of_changes(changes: &Changes) -> Self {
        let mut all = Self::default();
        for (set, family, group) in changes.groups() {
            let into = all.0.entry((set, family)).or_default();
            for element in &group.added {
                let (mut key, mut value) = (Bytes::new(), Bytes::new());
                element.key(&mut key);
                element.value(&mut value);
                match element {
                    Element::Range { net, .. } => {
                        into.insert((key, vec![0]), value);
                        into.extend(after(net.broadcast()).map(|end| ((end, vec![1]), Bytes::new())));
                    }
                    Element::Allowed { guard, net } => {
                        let end = [guard.to_be_bytes().to_vec(), octets(net.broadcast())].concat();
                        into.insert((key, end), value);
                    }
                    Element::Balancer { chain, .. } => drop(into.insert((key, vec![0]), chain.as_bytes().to_vec())),
                    Element::Frontend { owner, .. } => {
                        let comment = format!("{}/{}\0", owner.namespace, owner.name);
                        let head = [0, u8::try_from(comment.len()).unwrap()];
                        into.insert((key, vec![0]), [&value[..], &head, comment.as_bytes()].concat());
                    }
                    _ => drop(into.insert((key, vec![0]), value)),
                }
            }
        }
        all
    }

    fn set(&self, set: Set, family: Family) -> impl Iterator<Item = (&Bytes, &Bytes, &Bytes)> {
        self.0.get(&(set, family)).into_iter().flatten().map(|((key, second), value)| (key, second, value))
    }

    fn meaning(&self) -> Meaning {
        let mut lines = Meaning::new();
        for family in Family::ALL {
            let mut line = |set: Set, parts: &[&[u8]]| {
                let head = [set as u8, family as u8];
                lines.insert(std::iter::once(&head[..]).chain(parts.iter().copied()).collect::<Vec<_>>().join(&b'|'));
            };
            let pools = self.pools(family);
            let mut unused: BTreeSet<_> = pools.keys().cloned().collect();
            for set in Set::all() {
                match set {
                    Set::Endpoints | Set::Draws | Set::Affinity | Set::Balancers | Set::Allowed => {}
                    Set::Services | Set::NodePorts | Set::ServicesInside | Set::NodePortsInside => {
                        for (key, _, value) in self.set(set, family) {
                            let to = number(value);
                            let pool = (to & word::POOL_MASK).to_ne_bytes().to_vec();
                            let leads = pools.get(&pool).map_or_else(Bytes::new, flat);
                            unused.remove(&pool);
                            line(set, &[key, &value[4..], &self.chain(family, to & word::ACTION_MASK), &leads]);
                        }
                    }
                    Set::Guards => {
                        for (key, _, guard) in self.set(set, family) {
                            let of = |(from, to, _): (&Bytes, &Bytes, &Bytes)| {
                                (from[..4] == guard[..4]).then(|| [&from[4..], &to[4..]].concat())
                            };
                            line(
                                set,
                                &[key, &self.set(Set::Allowed, family).filter_map(of).collect::<Vec<_>>().concat()],
                            );
                        }
                    }
                    _ => self.set(set, family).for_each(|(key, second, value)| line(set, &[key, second, value])),
                }
            }
            // Pools that nothing leads to belong to Services that another one keeps from their place; so do guards.
            let mut unused: Vec<_> = unused.iter().map(|pool| flat(&pools[pool])).collect();
            unused.sort();
            line(Set::Draws, &[&unused.concat()]);
            let guards: BTreeSet<_> = self.set(Set::Allowed, family).map(|(key, ..)| &key[..4]).collect();
            line(Set::Allowed, &[&[u8::try_from(guards.len()).unwrap()]]);
        }
        lines
    }

    /// What the action does. What a table has from the start is in no list of changes.
    fn chain(&self, family: Family, action: u32) -> Bytes {
        if action < word::FIRST_MADE {
            return action.to_ne_bytes().to_vec();
        }
        let chain = self.set(Set::Balancers, family).find(|(key, ..)| number(key) == action);
        chain.unwrap_or_else(|| panic!("no action {action}")).2.clone()
    }

    /// Every pool, its draws resolved; its slots are 0 to n-1, and no endpoint is without one.
    fn pools(&self, family: Family) -> Pools {
        let mut pools = Pools::new();
        let mut slots: BTreeMap<&[u8], u32> = BTreeMap::new();
        let endpoints = &self.0[&(Set::Endpoints, family)];
        let mut drawn = BTreeSet::new();
        for (key, _, id) in self.set(Set::Draws, family) {
            let at = ([&key[..4], id].concat(), vec![0]);
            let endpoint = endpoints.get(&at).expect("a draw leads to an endpoint of its pool");
            *pools.entry(key[..4].to_vec()).or_default().entry(endpoint.clone()).or_insert(0) += 1;
            let last = slots.entry(&key[..4]).or_default();
            *last = (*last).max(number(&key[4..]) + 1);
            drawn.insert(at);
        }
        for (pool, slots) in slots {
            assert_eq!(pools[pool].values().sum::<u32>(), slots, "slots are 0 to n-1");
        }
        assert_eq!(drawn.len(), endpoints.len(), "an endpoint that is never drawn");
        pools
    }
}

fn flat(pool: &BTreeMap<Bytes, u32>) -> Bytes {
    pool.iter().flat_map(|(endpoint, slots)| [&endpoint[..], &slots.to_ne_bytes()].concat()).collect()
}

/// What a dump says twice. While the kernel makes a hash table larger or smaller, which it does behind a change, a
/// walk through it meets elements twice and others not at all.
fn settled<K: Ord, V: PartialEq>(dump: impl Fn() -> Vec<(K, V)>) -> BTreeMap<K, V> {
    let mut last: Option<BTreeMap<K, V>> = None;
    for _ in 0..100 {
        let found = dump();
        let count = found.len();
        let found: BTreeMap<_, _> = found.into_iter().collect();
        if found.len() == count && (count < 100 || last.as_ref() == Some(&found)) {
            return found;
        }
        last = Some(found);
    }
    panic!("a set does not rest");
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes[..4].try_into().unwrap())
}

fn octets(address: std::net::IpAddr) -> Bytes {
    match address {
        std::net::IpAddr::V4(a) => a.octets().to_vec(),
        std::net::IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn after(address: std::net::IpAddr) -> Option<Bytes> {
    match address {
        std::net::IpAddr::V4(a) => u32::from(a).checked_add(1).map(|n| n.to_be_bytes().to_vec()),
        std::net::IpAddr::V6(a) => u128::from(a).checked_add(1).map(|n| n.to_be_bytes().to_vec()),
    }
}

fn same(what: &str, have: &Meaning, want: &Meaning) -> Result<(), TestCaseError> {
    let missing: Vec<_> = want.difference(have).collect();
    let beyond: Vec<_> = have.difference(want).collect();
    prop_assert!(missing.is_empty() && beyond.is_empty(), "{what}: missing {missing:#?}, beyond that {beyond:#?}");
    Ok(())
}

/// A kernel's tables, an agent's end of them, and a socket to look.
struct Side {
    table: Table,
    socket: Socket,
}

impl Side {
    /// In the calling thread's namespace.
    fn new() -> Self {
        Self { table: Table::open().unwrap(), socket: Socket::open().unwrap() }
    }

    fn restart(&mut self) {
        // The new one takes the tables only when the old one is gone.
        let fresh = Table::open().unwrap();
        drop(std::mem::replace(&mut self.table, fresh));
    }

    /// A process that another test of this program starts has a copy of every descriptor until it becomes what it is to
    /// be, the former owner's among them: so long the kernel keeps the tables for that one.
    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<(), ProgramError> {
        let begin = Instant::now();
        loop {
            match self.table.program(plan, dirty) {
                Err(ProgramError::Owned(_)) if begin.elapsed() < Duration::from_secs(5) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                programmed => return programmed.map(drop),
            }
        }
    }
}

fn run(side: &mut Side, steps: &[Step]) -> Result<Plan, TestCaseError> {
    let mut cluster = Cluster::new();
    let mut plan = cluster.plan();
    plan.revision = 0;
    side.table.program(&plan, &Dirty::All).unwrap();
    for step in steps {
        let dirty = match step {
            Step::Service(n, spec) => BTreeSet::from([cluster.set(*n, spec.as_deref().cloned())]),
            Step::Services(all) => all.iter().map(|(n, spec)| cluster.set(*n, spec.clone())).collect(),
            Step::Node(range, localhost) => {
                let node = cluster.snapshot.nodes.get_mut(NODE).unwrap();
                std::sync::Arc::make_mut(node).spec.pod_cidrs = vec![format!("10.244.{range}.0/24")];
                cluster.local.localhost_node_ports = *localhost;
                cluster.snapshot.revision += 1;
                BTreeSet::<Key>::new()
            }
            Step::Restart => {
                side.restart();
                BTreeSet::new()
            }
            Step::Forget => {
                side.table.forget();
                BTreeSet::new()
            }
        };
        plan = cluster.plan();
        plan.node = compile_node(&cluster.snapshot, &cluster.local);
        side.program(&plan, &Dirty::Services(dirty)).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        let wanted = Elements::of_changes(&Shadow::default().update(&plan, &Dirty::All).unwrap()).meaning();
        same(&format!("after {step:?}"), &Elements::of_kernel(&side.socket).meaning(), &wanted)?;
    }
    Ok(plan)
}

#[test]
fn the_kernel_holds_the_plan() {
    with_rights("property::the_kernel_holds_the_plan", || {
        let pairs: Vec<_> = (0..PAIRS).map(|_| std::thread::spawn(sequences)).collect();
        let failed: Vec<_> = pairs.into_iter().filter_map(|pair| pair.join().expect("a pair panicked").err()).collect();
        assert!(failed.is_empty(), "{}", failed[0]);
    });
}

/// A pair's part of the sequences.
fn sequences() -> Result<(), String> {
    let (step_by_step, at_once) = (Namespace::new(), Namespace::new());
    let config = Config { cases: SEQUENCES / PAIRS, failure_persistence: None, ..Config::default() };
    let sequence = |steps: Vec<Step>| {
        // The first table is found as the sequence before left it, the second is made from nothing.
        let (plan, stepped) = step_by_step.run(move || {
            let mut side = Side::new();
            let plan = run(&mut side, &steps);
            (plan, Elements::of_kernel(&side.socket).meaning())
        });
        let plan = plan?;
        let (scratch, difference) = at_once.run(move || {
            dataplane::nftables::cleanup().unwrap();
            let mut side = Side::new();
            side.table.program(&plan, &Dirty::All).unwrap();
            let difference = Family::ALL.map(|family| verify::difference(&side.socket, family).unwrap());
            (Elements::of_kernel(&side.socket).meaning(), difference)
        });
        prop_assert_eq!(difference, [None, None]);
        same("step by step, beside from nothing", &stepped, &scratch)
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(arbitrary_step(), 1..5), sequence);
    outcome.map_err(|error| error.to_string())
}
