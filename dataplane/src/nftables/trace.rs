//! A kernel in memory: executes the rules of the layout over the elements that were written, and says with which
//! probability a packet goes where. What it cannot execute, or what a real kernel would refuse, panics the test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::plan::Family;
use crate::route::{Candidate, Origin, Packet, Source, Verdict as Routed};

use super::balancer::plain_balancers;
use super::changes::Changes;
use super::element::Element;
use super::expr::{Ct, Expr, Fib, Field, Meta, Reject, Remember, Verdict};
use super::layout::{Chain, chains};
use super::set::{Kind, Set};
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

/// Where a packet ends, in one hook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The chain came to its end or returned, with this in the packet's priority: passes a base chain, goes on behind a
    /// jump.
    Pass(u32),
    Dnat(SocketAddr),
    Masquerade,
    Drop,
    Reject,
}

type Ends = BTreeMap<End, f64>;

struct Context<'a> {
    packet: &'a Packet,
    family: Family,
    /// The destination as the packet has it now.
    destination: SocketAddr,
    translated: bool,
}

struct Registers {
    bytes: [u8; 64],
    priority: u32,
}

/// How one execution of a rule ends.
enum Step {
    Break,
    End(End),
    Goto(String),
    Jump(String),
}

impl Kernel {
    pub fn new() -> Self {
        let mut all = BTreeMap::new();
        let mut balancers = HashMap::new();
        for family in Family::ALL {
            for chain in chains(family) {
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
            for (pool, mut slots) in pools {
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

    /// Makes the client one that was at this endpoint lately, in every pool that has it.
    pub fn remember(&mut self, client: IpAddr, endpoint: SocketAddr) {
        let element = Element::Endpoint { pool: 0, id: 0, address: endpoint.ip(), port: endpoint.port() };
        let (_, value) = encoded(&element);
        let endpoints = &self.sets[&(Set::Endpoints, Family::of(client))];
        for (key, _) in endpoints.iter().filter(|(_, at)| **at == value) {
            self.affinity.insert((client, number(&key[..4])), number(&key[4..]));
        }
    }

    pub fn count(&self, set: Set, family: Family) -> usize {
        let ranges = self.ranges.get(&(set, family)).map_or(0, BTreeSet::len);
        ranges + self.sets.get(&(set, family)).map_or(0, BTreeMap::len)
    }

    /// Through all hooks. With the probability of each endpoint.
    pub fn route(&self, packet: &Packet) -> (Routed, Vec<f64>) {
        let first = if packet.origin == Origin::ThisNode { "output" } else { "prerouting" };
        let mut context = Context {
            packet,
            family: Family::of(packet.destination),
            destination: SocketAddr::new(packet.destination, packet.port),
            translated: false,
        };
        let ends = self.run_chain(&context, first, 0);
        let total: f64 = ends.values().sum();
        assert!((total - 1.0).abs() < 1e-9, "{ends:?}");
        let mut candidates = BTreeMap::new();
        for (end, probability) in &ends {
            match end {
                End::Dnat(endpoint) => {
                    context.destination = *endpoint;
                    context.translated = true;
                    let after = self.run_chain(&context, "postrouting", 0);
                    assert_eq!(after.len(), 1);
                    let source = match after.keys().next() {
                        Some(End::Pass(_)) => Source::Kept,
                        Some(End::Masquerade) => Source::Masqueraded,
                        other => panic!("{other:?} in postrouting"),
                    };
                    *candidates.entry(Candidate { endpoint: *endpoint, source, share: 1 }).or_insert(0.0) +=
                        probability;
                }
                End::Masquerade => panic!("masquerade before routing"),
                other => {
                    assert_eq!(ends.len(), 1, "{ends:?}");
                    let verdict = match other {
                        End::Drop => Routed::Drop,
                        End::Reject => Routed::Reject,
                        _ => Routed::NotOurs,
                    };
                    return (verdict, Vec::new());
                }
            }
        }
        let probabilities = candidates.values().copied().collect();
        (Routed::Endpoints { candidates: candidates.into_keys().collect(), affinity_seconds: None }, probabilities)
    }

    fn run_chain(&self, context: &Context<'_>, name: &str, priority: u32) -> Ends {
        let chain = self.chains.get(&(context.family, name.to_owned())).unwrap_or_else(|| panic!("no chain {name}"));
        self.run_rules(context, chain, 0, priority)
    }

    fn run_rules(&self, context: &Context<'_>, chain: &Chain, index: usize, priority: u32) -> Ends {
        let mut ends = Ends::new();
        if let Some(rule) = chain.rules.get(index) {
            let below = rule
                .exprs
                .iter()
                .find_map(|e| if let Expr::Random { modulus, .. } = e { Some(*modulus) } else { None });
            let each = 1.0 / f64::from(below.unwrap_or(1));
            let mut broken = 0.0;
            for random in 0..below.unwrap_or(1) {
                let mut registers = Registers { bytes: [0; 64], priority };
                match self.run_rule(context, &rule.exprs, &mut registers, random) {
                    Step::Break => {
                        // Else the next rule reads nonsense. The tables change between any two expressions.
                        assert_eq!(
                            registers.priority, priority,
                            "a rule of {} breaks and changes the packet",
                            chain.name
                        );
                        broken += each;
                    }
                    Step::End(end) => *ends.entry(end).or_insert(0.0) += each,
                    Step::Goto(target) => {
                        for (end, p) in self.run_chain(context, &target, registers.priority) {
                            *ends.entry(end).or_insert(0.0) += p * each;
                        }
                    }
                    Step::Jump(target) => {
                        for (end, p) in self.run_chain(context, &target, registers.priority) {
                            let End::Pass(priority) = end else {
                                *ends.entry(end).or_insert(0.0) += p * each;
                                continue;
                            };
                            for (end, q) in self.run_rules(context, chain, index + 1, priority) {
                                *ends.entry(end).or_insert(0.0) += p * q * each;
                            }
                        }
                    }
                }
            }
            if broken > 0.0 {
                for (end, p) in self.run_rules(context, chain, index + 1, priority) {
                    *ends.entry(end).or_insert(0.0) += p * broken;
                }
            }
            return ends;
        }
        ends.insert(End::Pass(priority), 1.0);
        ends
    }

    fn run_rule(&self, context: &Context<'_>, exprs: &[Expr], r: &mut Registers, random: u32) -> Step {
        let family = context.family;
        let packet = context.packet;
        for expr in exprs {
            match expr {
                Expr::Load(Field::Source, to) => r.address(to.0, packet.client),
                Expr::Load(Field::Destination, to) => r.address(to.0, context.destination.ip()),
                Expr::Load(Field::DestinationPort, to) => r.port(to.0, context.destination.port()),
                Expr::LoadMeta(Meta::Protocol, to) => r.store(to.0, &[packet.protocol.number(), 0, 0, 0]),
                Expr::LoadMeta(Meta::Priority, to) => r.store(to.0, &r.priority.to_ne_bytes()),
                Expr::SetMeta(Meta::Priority, from) => r.priority = r.number(from.0),
                Expr::LoadMeta(Meta::InputInterface, _) => {
                    panic!("no interface is asked for on the way of a connection")
                }
                Expr::SetMeta(..) => panic!("only the priority can be set"),
                Expr::LoadCt(Ct::Status, to) => r.store(to.0, &(u32::from(context.translated) << 5).to_ne_bytes()),
                Expr::LoadCt(Ct::Destination, to) => r.address(to.0, packet.destination),
                Expr::LoadCt(Ct::DestinationPort, to) => r.port(to.0, packet.port),
                Expr::LoadFib(which, to) => {
                    let local = match which {
                        Fib::Source => packet.origin == Origin::ThisNode,
                        Fib::Destination => packet.here,
                    };
                    r.store(to.0, &(if local { 2u32 } else { 1 }).to_ne_bytes());
                }
                Expr::Equals(reg, value) if r.number(reg.0) != *value => return Step::Break,
                Expr::Differs(reg, value) if r.number(reg.0) == *value => return Step::Break,
                Expr::EqualsByte(reg, value) if r.bytes[usize::from(reg.0) * 4] != *value => return Step::Break,
                Expr::Equals(..) | Expr::Differs(..) | Expr::EqualsByte(..) => {}
                Expr::And(reg, mask) => r.store(reg.0, &(r.number(reg.0) & mask).to_ne_bytes()),
                Expr::Set(to, value) => r.store(to.0, &value.to_ne_bytes()),
                Expr::Random { to, .. } => r.store(to.0, &random.to_ne_bytes()),
                Expr::In(set, key) => {
                    if !self.contains(named(set), family, r, key.0) {
                        return Step::Break;
                    }
                }
                Expr::Lookup { map, key, to } => match self.find(named(map), family, r, key.0) {
                    Some(value) => r.store(to.0, &value),
                    None => return Step::Break,
                },
                Expr::LookupVerdict { map, key } => {
                    assert_eq!(named(map), Set::Balancers);
                    match self.balancers.get(&(family, r.number(key.0))) {
                        Some(chain) => return Step::Goto(chain.clone()),
                        None => return Step::Break,
                    }
                }
                Expr::Remember { how, map, .. } => {
                    assert_eq!(named(map), Set::Affinity);
                    if self.affinity_full && *how == Remember::Update {
                        return Step::Break;
                    }
                }
                Expr::Dnat { address, port } => {
                    assert_eq!(r.priority, 0, "the priority must be set back");
                    let port = usize::from(port.0) * 4;
                    let port = u16::from_be_bytes([r.bytes[port], r.bytes[port + 1]]);
                    return Step::End(End::Dnat(SocketAddr::new(r.read_address(address.0, family), port)));
                }
                Expr::Masquerade => return Step::End(End::Masquerade),
                Expr::Reject(Reject::TcpReset | Reject::PortUnreachable) => return Step::End(End::Reject),
                Expr::Verdict(Verdict::Drop) => return Step::End(End::Drop),
                Expr::Verdict(Verdict::Return) => return Step::End(End::Pass(r.priority)),
                Expr::Verdict(Verdict::Goto(chain)) => return Step::Goto(chain.to_string()),
                Expr::Verdict(Verdict::Jump(chain)) => return Step::Jump(chain.to_string()),
            }
        }
        Step::Break
    }

    fn find(&self, set: Set, family: Family, r: &Registers, key: u8) -> Option<Vec<u8>> {
        let bytes = r.key(set, family, key);
        if set == Set::Affinity {
            let words = bytes.len() / 4 - 1;
            let client = r.read_address(key, family);
            return self.affinity.get(&(client, number(&bytes[words * 4..]))).map(|id| id.to_ne_bytes().to_vec());
        }
        self.sets.get(&(set, family))?.get(&bytes).cloned()
    }

    fn contains(&self, set: Set, family: Family, r: &Registers, key: u8) -> bool {
        if set.spec().kind == Kind::Interval {
            let guard = (set == Set::Allowed).then(|| r.bytes[usize::from(key) * 4..][..4].to_vec());
            let address = r.read_address(key + u8::from(guard.is_some()), family);
            let element = |(have, net): &Guarded| *have == guard && net.contains(&address);
            return self.ranges.get(&(set, family)).is_some_and(|all| all.iter().any(element));
        }
        self.find(set, family, r, key).is_some()
    }
}

impl Registers {
    fn store(&mut self, register: u8, bytes: &[u8]) {
        let at = usize::from(register) * 4;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn address(&mut self, register: u8, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.store(register, &a.octets()),
            IpAddr::V6(a) => self.store(register, &a.octets()),
        }
    }

    fn port(&mut self, register: u8, port: u16) {
        let [a, b] = port.to_be_bytes();
        self.store(register, &[a, b, 0, 0]);
    }

    fn number(&self, register: u8) -> u32 {
        let at = usize::from(register) * 4;
        number(&self.bytes[at..at + 4])
    }

    fn read_address(&self, register: u8, family: Family) -> IpAddr {
        let at = usize::from(register) * 4;
        match family {
            Family::V4 => IpAddr::from(<[u8; 4]>::try_from(&self.bytes[at..at + 4]).unwrap()),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(&self.bytes[at..at + 16]).unwrap()),
        }
    }

    fn key(&self, set: Set, family: Family, register: u8) -> Vec<u8> {
        let length: u32 = set.spec().key.iter().map(|t| t.bytes(family)).sum();
        let at = usize::from(register) * 4;
        self.bytes[at..at + length as usize].to_vec()
    }
}

fn named(name: &str) -> Set {
    Set::all().find(|s| s.name() == name).unwrap_or_else(|| panic!("no set {name}"))
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
