//! Tables in memory for tests: takes batches as strictly as a kernel, and lets [`super::walk`] execute the rules over
//! them. What a real kernel would refuse panics the test.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::plan::Family;
use crate::route::{Packet, Verdict as Routed};

use super::balancer::{Made, TURN_SHIFT, plain_balancers};
use super::changes::Changes;
use super::element::Element;
use super::layout::{Chain, Owner, chains};
use super::set::{Kind, Set};
use super::walk::{Found, Tables, Walker};
use super::word;

/// What a set of ranges holds: the guard, where there is one, and the range.
type Guarded = (Option<Vec<u8>>, IpNet);

/// Both tables.
pub struct Kernel {
    chains: BTreeMap<(Family, String), Chain>,
    sets: BTreeMap<(Set, Family), BTreeMap<Vec<u8>, Vec<u8>>>,
    ranges: BTreeMap<(Set, Family), BTreeSet<Guarded>>,
    balancers: HashMap<(Family, u32), String>,
    /// Elements of `affinity`, which only the packet path writes: put here by tests.
    pub affinity: HashMap<(IpAddr, u32), u32>,
    /// No element can be added to `affinity`.
    pub affinity_full: bool,
}

impl Kernel {
    pub fn new() -> Self {
        let mut all = BTreeMap::new();
        let mut balancers = HashMap::new();
        for family in Family::ALL {
            for chain in chains(Owner::Agent, family) {
                assert!(all.insert((family, chain.name.to_string()), chain).is_none());
            }
            balancers.extend(plain_balancers().map(|(action, chain)| ((family, action), chain.into_owned())));
        }
        Self {
            chains: all,
            sets: BTreeMap::new(),
            ranges: BTreeMap::new(),
            balancers,
            affinity: HashMap::new(),
            affinity_full: false,
        }
    }

    /// Applies a batch as strictly as a kernel: what is removed must be there, what is added must not.
    pub fn apply(&mut self, changes: &Changes) {
        for (family, chain) in &changes.chains {
            assert!(self.chains.insert((*family, chain.name.to_string()), chain.clone()).is_none(), "{}", chain.name);
        }
        for (set, family, group) in changes.groups() {
            for element in &group.removed {
                if let Some(range) = range(element) {
                    let had = self.ranges.entry((set, family)).or_default().remove(&range);
                    assert!(had, "removing {element}");
                    continue;
                }
                if let Element::Balancer { action, chain, .. } = element {
                    assert_eq!(self.balancers.remove(&(family, *action)).as_deref(), Some(&**chain));
                    continue;
                }
                let (key, value) = encoded(element);
                let had = self.sets.entry((set, family)).or_default().remove(&key);
                assert_eq!(had, Some(value), "removing {element}");
            }
            for element in &group.added {
                if let Element::Balancer { action, chain, .. } = element {
                    assert!(self.chains.contains_key(&(family, chain.to_string())));
                    assert!(self.balancers.insert((family, *action), chain.to_string()).is_none());
                    continue;
                }
                if let Some(range) = range(element) {
                    let all = self.ranges.entry((set, family)).or_default();
                    let overlaps =
                        |(guard, net): &Guarded| *guard == range.0 && (net.contains(&range.1) || range.1.contains(net));
                    assert!(!all.iter().any(overlaps), "adding {element}");
                    all.insert(range);
                    continue;
                }
                let (key, value) = encoded(element);
                let had = self.sets.entry((set, family)).or_default().insert(key, value);
                assert_eq!(had, None, "adding {element}");
            }
        }
        for (family, chain) in &changes.gone {
            assert!(self.chains.remove(&(*family, chain.clone())).is_some(), "removing {chain}");
            assert!(self.balancers.iter().all(|((f, _), to)| f != family || to != chain), "{chain} is led to");
        }
    }

    /// Slots of every pool are 0 to n-1, each leads to an endpoint of its pool, and no endpoint is without slot.
    pub fn check_invariants(&self) {
        for family in Family::ALL {
            let empty = BTreeMap::new();
            let draws = self.sets.get(&(Set::Draws, family)).unwrap_or(&empty);
            let endpoints = self.sets.get(&(Set::Endpoints, family)).unwrap_or(&empty);
            let mut pools: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            let mut ids = BTreeSet::new();
            for (key, id) in draws {
                pools.entry(number(&key[..4])).or_default().push(number(&key[4..]));
                ids.insert([&key[..4], id].concat());
            }
            // The turns of a chain, in place of the pool's.
            let mut chains: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for (key, end) in self.sets.get(&(Set::Turns, family)).unwrap_or(&empty) {
                let (action, slot) = (number(key) >> TURN_SHIFT, number(key) & ((1 << TURN_SHIFT) - 1));
                chains.entry(action).or_default().push(slot);
                ids.insert(end.clone());
            }
            for (action, slots) in &chains {
                let Some(Made::Turns { size, action: named, .. }) = Made::parse(&self.balancers[&(family, *action)])
                else {
                    panic!("turns of chain {action}");
                };
                assert_eq!((size as usize, named), (slots.len(), *action));
            }
            for (pool, mut slots) in pools.into_iter().chain(chains) {
                slots.sort_unstable();
                assert_eq!(slots, (0..u32::try_from(slots.len()).unwrap()).collect::<Vec<_>>(), "pool {pool:#x}");
            }
            assert_eq!(ids, endpoints.keys().cloned().collect());
            for set in [Set::Services, Set::NodePorts, Set::ServicesInside, Set::NodePortsInside] {
                for word in self.sets.get(&(set, family)).unwrap_or(&empty).values() {
                    assert!(self.balancers.contains_key(&(family, number(word) & word::ACTION_MASK)));
                }
            }
        }
    }

    /// The names of all chains of IPv4.
    pub fn chain_names(&self) -> Vec<&str> {
        self.chains.keys().filter(|(f, _)| *f == Family::V4).map(|(_, name)| name.as_str()).collect()
    }

    /// Makes the client one that was at this endpoint lately, in every pool that has it.
    pub fn remember(&mut self, client: IpAddr, endpoint: SocketAddr) {
        let element = Element::Endpoint { pool: 0, id: 0, address: endpoint.ip(), port: endpoint.port() };
        let (_, value) = encoded(&element);
        let endpoints = &self.sets[&(Set::Endpoints, Family::of(client))];
        for (key, _) in endpoints.iter().filter(|(_, at)| **at == value) {
            self.affinity.insert((client, number(&key[..4])), number(&key[4..]));
        }
    }

    /// Every element, as it stands in registers.
    pub fn elements(&self) -> Vec<String> {
        let sets =
            self.sets.iter().flat_map(|(set, all)| all.iter().map(move |element| format!("{set:?} {element:?}")));
        sets.chain(self.ranges.iter().flat_map(|(set, all)| all.iter().map(move |range| format!("{set:?} {range:?}"))))
            .collect()
    }

    pub fn count(&self, set: Set, family: Family) -> usize {
        let ranges = self.ranges.get(&(set, family)).map_or(0, BTreeSet::len);
        ranges + self.sets.get(&(set, family)).map_or(0, BTreeMap::len)
    }

    /// Through all hooks. With the probability of each endpoint.
    pub fn route(&self, packet: &Packet) -> (Routed, Vec<f64>) {
        let mut way = Walker::new(self).walk(packet).unwrap();
        if let Routed::Endpoints { affinity_seconds, .. } = &mut way.verdict {
            *affinity_seconds = None;
        }
        (way.verdict, way.probabilities)
    }
}

impl Tables for Kernel {
    type Error = Infallible;

    fn chain(&self, family: Family, name: &str) -> Option<Cow<'_, Chain>> {
        self.chains.get(&(family, name.to_owned())).map(Cow::Borrowed)
    }

    fn look_up(&self, family: Family, set: Set, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, Infallible> {
        Ok(keys.iter().map(|key| self.find(family, set, key)).collect())
    }

    fn remembers(&self) -> bool {
        !self.affinity_full
    }
}

impl Kernel {
    fn find(&self, family: Family, set: Set, key: &[u8]) -> Option<Found> {
        let words = |from: usize| number(&key[from..from + 4]);
        match set {
            Set::Balancers => self.balancers.get(&(family, words(0))).cloned().map(Found::Chain),
            Set::Affinity => {
                let pool = key.len() - 4;
                let id = self.affinity.get(&(address(&key[..pool]), words(pool)))?;
                Some(Found::Data(id.to_ne_bytes().to_vec()))
            }
            _ if set.spec().kind == Kind::Interval => {
                let guard = (set == Set::Allowed).then(|| key[..4].to_vec());
                let address = address(&key[guard.as_ref().map_or(0, Vec::len)..]);
                let holds = |(have, net): &Guarded| *have == guard && net.contains(&address);
                self.ranges.get(&(set, family))?.iter().any(holds).then_some(Found::Member)
            }
            _ => {
                let value = self.sets.get(&(set, family))?.get(key)?;
                Some(if value.is_empty() { Found::Member } else { Found::Data(value.clone()) })
            }
        }
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
    }
}

/// What an element of a set of ranges is.
fn range(element: &Element) -> Option<Guarded> {
    match element {
        Element::Range { net, .. } => Some((None, *net)),
        Element::Allowed { guard, net } => Some((Some(guard.to_be_bytes().to_vec()), *net)),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().unwrap())
}

fn encoded(element: &Element) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    element.key(&mut key);
    element.value(&mut value);
    (key, value)
}
