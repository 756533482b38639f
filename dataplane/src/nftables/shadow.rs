//! What the kernel has, as it was written last; and from that and a new plan, what is to be written.
//!
//! Nothing is read back: a dump takes seconds where an update takes microseconds. The shadow holds, per Service,
//! the plan that is programmed (shared with whoever made it) and which number and slot each endpoint has; the
//! elements themselves follow from that.
//!
//! Invariants, tested in `tests.rs`: slots of a pool are 0 to n-1; what a sticky client remembers never leads to a
//! stranger, because an endpoint is found by its pool and its id together; a pool's number may come back, but not in the
//! batch that freed it. Numbers and ids are hashes of what they stand for ([`hash`]), so a table that is written anew
//! understands what clients of the former remember.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use model::types::Protocol;
use model::{Key, Revision};

use super::Dirty;
use super::balancer::{Class, Made, hash_action, stay_chains};
use super::changes::Changes;
use super::element::Element;
use super::layout::edge_chains;
use super::set::Set;
use super::word;
use crate::compile::disjoint;
use crate::compile::ranges::node_ports;
use crate::plan::{Action, At, Family, Method, NodePlan, Plan, Pool, PoolKey, ServicePlan};
use crate::spread;

mod arrangement;
mod claims;
pub(crate) mod hash;
mod laid;
mod slots;

use arrangement::Arrangement;
use claims::{Claim, Claims, Counts, Guards, Words};
use laid::Order;

/// More than the tables can number. A rebuild starts counting anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    #[error("there are more than {MAX_POOLS} pools of endpoints")]
    Pools,
}

/// How many pools the tables can tell apart: half of what a word can name, so that a free number is found at once.
const MAX_POOLS: usize = (word::POOL_MASK / word::POOL_STEP / 2) as usize;

/// The state of both tables. A copy is as long as the tables have elements.
#[derive(Clone)]
pub struct Shadow {
    revision: Revision,
    node: NodePlan,
    services: BTreeMap<Arc<Key>, Programmed>,
    claims: Claims,
    guards: Guards,
    cluster_ips: Counts,
    other_proxies: Counts,
    hairpin: Counts,
    echo: Counts,
    numbers: Numbers,
    chains: Chains,
    /// The turns that pools have, by action.
    turns: BTreeSet<(Family, u32)>,
    /// There may be turns that no pool has.
    sweep: bool,
}

/// The chains that were made on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// The action that leads to each.
    pub actions: BTreeMap<(Family, Made), u32>,
    /// The timeouts for which there are [`stay_chains`].
    pub stays: BTreeSet<(Family, u32)>,
    /// Whether there are [`edge_chains`].
    pub edges: bool,
}

/// One Service in the kernel.
#[derive(Clone)]
struct Programmed {
    plan: Arc<ServicePlan>,
    /// Beside `plan.pools`, in the same order.
    pools: Vec<ProgrammedPool>,
}

#[derive(Clone)]
struct ProgrammedPool {
    /// As it stands in a word.
    number: u32,
    action: u32,
    place: Arrangement,
}

/// The numbers of pools.
#[derive(Clone, Default)]
struct Numbers {
    /// In use, or freed in this batch.
    taken: HashSet<u32>,
    /// Freed in this batch.
    freed: Vec<u32>,
}

impl Numbers {
    fn pool(&mut self, service: &Key, key: PoolKey) -> Result<u32, Exhausted> {
        if self.taken.len() >= MAX_POOLS {
            return Err(Exhausted::Pools);
        }
        let mut number = hash::pool(service, key) & word::POOL_MASK;
        // 0 is no pool: a word without one is told apart at a glance.
        while number == 0 || !self.taken.insert(number) {
            number = number.wrapping_add(word::POOL_STEP);
        }
        Ok(number)
    }

    fn settle(&mut self) {
        for number in self.freed.drain(..) {
            self.taken.remove(&number);
        }
    }
}

impl Default for Shadow {
    /// Tables that have their layout and nothing else.
    fn default() -> Self {
        Self {
            revision: 0,
            node: NodePlan::default(),
            services: BTreeMap::new(),
            claims: Claims::default(),
            guards: Guards::default(),
            cluster_ips: Counts::new(Set::ClusterIps),
            other_proxies: Counts::new(Set::OtherProxies),
            hairpin: Counts::new(Set::Hairpin),
            echo: Counts::new(Set::Echo),
            numbers: Numbers::default(),
            chains: Chains::default(),
            turns: BTreeSet::new(),
            sweep: false,
        }
    }
}

impl Shadow {
    /// Tables that have their layout, these chains, and nothing else.
    pub fn with_chains(chains: Chains) -> Self {
        Self { chains, sweep: true, ..Self::default() }
    }

    /// The revision of the plan that this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Every Service that it has, with its plan.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<Key>, &Arc<ServicePlan>)> {
        self.services.iter().map(|(key, programmed)| (key, &programmed.plan))
    }

    /// One Service that it has.
    pub fn service(&self, key: &Key) -> Option<(&Arc<Key>, &Arc<ServicePlan>)> {
        self.services.get_key_value(key).map(|(key, programmed)| (key, &programmed.plan))
    }

    /// Becomes `plan` and returns what the kernel lacks for that. After an error, or when the changes did not reach
    /// the kernel, the shadow is of no more use.
    ///
    /// # Errors
    /// See [`Exhausted`].
    pub fn update(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Changes, Exhausted> {
        let mut changes = Changes::default();
        self.update_node(&plan.node, &mut changes);
        match dirty {
            Dirty::Services(keys) => {
                for key in keys {
                    self.update_service(key, plan.services.get(key), &mut changes)?;
                }
            }
            Dirty::All => {
                let gone: BTreeSet<_> =
                    self.services.keys().filter(|k| !plan.services.contains_key(&***k)).cloned().collect();
                for key in &gone {
                    self.update_service(key, None, &mut changes)?;
                }
                for (key, service) in &plan.services {
                    self.update_service(key, Some(service), &mut changes)?;
                }
            }
        }
        self.claims.settle(&mut changes);
        self.cluster_ips.settle(&mut changes);
        self.other_proxies.settle(&mut changes);
        self.hairpin.settle(&mut changes);
        self.echo.settle(&mut changes);
        self.guards.settle(&mut changes);
        self.numbers.settle();
        self.sweep(&mut changes);
        self.revision = plan.revision;
        Ok(changes)
    }

    fn update_node(&mut self, new: &NodePlan, changes: &mut Changes) {
        if self.node == *new {
            return;
        }
        for set in [Set::Loopback, Set::NodeAddresses, Set::LocalClients, Set::MasqueradedClients, Set::ServiceCidrs] {
            difference(&ranges(&self.node, set), &ranges(new, set), changes, |net| Element::Range { set, net });
        }
        let edges = |node: &NodePlan| node.edges.iter().copied().collect::<BTreeSet<_>>();
        for family in Family::ALL {
            difference(&edges(&self.node), &edges(new), changes, |edge| Element::Edge { family, edge });
        }
        if !new.edges.is_empty() && !std::mem::replace(&mut self.chains.edges, true) {
            changes.chains.extend(Family::ALL.into_iter().flat_map(|f| edge_chains().map(|chain| (f, chain))));
        }
        self.node = new.clone();
    }

    fn update_service(
        &mut self,
        key: &Key,
        new: Option<&Arc<ServicePlan>>,
        changes: &mut Changes,
    ) -> Result<(), Exhausted> {
        let known = self.services.get(key);
        if known.map(|p| &p.plan) == new {
            return Ok(());
        }
        let (owner, old) = match self.services.remove_entry(key) {
            Some((owner, old)) => (owner, Some(old)),
            None => (Arc::new(key.clone()), None),
        };
        let (old_plan, mut old_pools) = match old {
            Some(old) => {
                let pools: BTreeMap<PoolKey, _> = old.plan.pools.iter().map(|p| p.key).zip(old.pools).collect();
                (Some(old.plan), pools)
            }
            None => (None, BTreeMap::new()),
        };

        let mut pools = Vec::new();
        for pool in new.map_or(&[][..], |n| n.pools.as_slice()) {
            let before = old_plan.as_ref().and_then(|p| p.pool(pool.key)).zip(old_pools.remove(&pool.key));
            pools.push(self.update_pool(&owner, pool, before, changes)?);
        }
        for (key, programmed) in old_pools {
            if let Some(pool) = old_plan.as_ref().and_then(|p| p.pool(key)) {
                self.remove_pool(pool, programmed, changes);
            }
        }

        for address in old_plan.iter().flat_map(|p| &p.addresses) {
            let foreign = old_plan.as_ref().is_some_and(|p| p.foreign);
            if foreign { &mut self.other_proxies } else { &mut self.cluster_ips }.drop_one(*address);
            if old_plan.as_ref().is_some_and(|p| p.echo) {
                self.echo.drop_one(*address);
            }
        }
        for frontend in old_plan.iter().flat_map(|p| &p.frontends) {
            self.claims.release((frontend.at, frontend.protocol, frontend.port), &owner);
            frontend.sources.iter().for_each(|sources| self.guards.release(sources));
        }
        let Some(new) = new else { return Ok(()) };
        for address in &new.addresses {
            if new.foreign { &mut self.other_proxies } else { &mut self.cluster_ips }.add_one(*address);
            if new.echo {
                self.echo.add_one(*address);
            }
        }
        let word = |action: Action| word_of(action, new, &pools);
        for frontend in &new.frontends {
            let words = Words {
                everybody: word(frontend.action),
                inside: frontend.inside.and_then(word),
                masquerade: matches!(frontend.action, Action::Balance { masquerade: true, .. }),
                guard: frontend.sources.as_ref().map(|sources| self.guards.take(sources)),
                limits: frontend.limits,
            };
            let place = (frontend.at, frontend.protocol, frontend.port);
            self.claims.claim(place, Claim { owner: owner.clone(), words });
        }
        self.services.insert(owner, Programmed { plan: new.clone(), pools });
        Ok(())
    }

    fn update_pool(
        &mut self,
        owner: &Key,
        new: &Pool,
        before: Option<(&Pool, ProgrammedPool)>,
        changes: &mut Changes,
    ) -> Result<ProgrammedPool, Exhausted> {
        let (old, mut pool) = match before {
            Some((old, pool)) => (old.endpoints.as_slice(), pool),
            None => {
                let number = self.numbers.pool(owner, new.key)?;
                (&[][..], ProgrammedPool { number, action: 0, place: Arrangement::default() })
            }
        };
        for endpoint in old.iter().filter(|e| e.local) {
            self.hairpin.drop_one(endpoint.address);
        }
        for endpoint in new.endpoints.iter().filter(|e| e.local) {
            self.hairpin.add_one(endpoint.address);
        }
        let order;
        (pool.action, order) = self.action(new, &pool, changes);
        pool.place.update(pool.number, order, old, &new.endpoints, changes);
        Ok(pool)
    }

    fn remove_pool(&mut self, old: &Pool, mut pool: ProgrammedPool, changes: &mut Changes) {
        for endpoint in old.endpoints.iter().filter(|e| e.local) {
            self.hairpin.drop_one(endpoint.address);
        }
        self.release(old.key.family, &pool);
        pool.place.clear(pool.number, &old.endpoints, changes);
        self.numbers.freed.push(pool.number);
    }

    /// What a word says about a pool, whose elements are still those of before; makes the chain for it if there is none
    /// yet.
    fn action(&mut self, pool: &Pool, before: &ProgrammedPool, changes: &mut Changes) -> (u32, Option<Order>) {
        let family = pool.key.family;
        let slots: usize = pool.endpoints.iter().map(|e| usize::from(e.share)).sum();
        let class = Class::of(slots);
        let size = u32::try_from(slots).unwrap_or(u32::MAX);
        let seconds = pool.affinity_seconds;
        if pool.method == Method::Turns {
            let same = |(f, made): &(Family, Made)| {
                *f == family && matches!(made, Made::Turns { size: s, seconds: t, .. } if *s == size && *t == seconds)
            };
            let fits = |action: &u32, mine: bool| mine == self.turns.contains(&(family, *action));
            let found = |mine: bool| {
                let all = self.chains.actions.iter().filter(|(key, _)| same(key));
                all.map(|(_, action)| *action).find(|a| fits(a, mine) && (!mine || *a == before.action))
            };
            let known = found(true).or_else(|| found(false));
            if known != Some(before.action) {
                self.release(family, before);
            }
            let action = known.or_else(|| {
                let action = self.free_action(family)?;
                self.make(family, Made::Turns { action, size, seconds }, action, changes);
                Some(action)
            });
            if let Some(action) = action {
                self.turns.insert((family, action));
                return (action, Some(Order::Turns { action }));
            }
            tracing::warn!("too many pools whose endpoints take turns; one leaves it to chance");
        } else {
            self.release(family, before);
        }
        let (plain, made, order) = if pool.method == Method::Hash {
            let size = spread::table_size(&pool.endpoints);
            (hash_action(size), seconds.map(|seconds| Made::Hash { size, seconds }), Some(Order::Hash))
        } else {
            (class.action(), seconds.map(|seconds| Made::Sticky { class, seconds }), None)
        };
        let Some(made) = made else { return (plain, order) };
        if let Some(action) = self.chains.actions.get(&(family, made)) {
            return (*action, order);
        }
        let Some(action) = self.free_action(family) else {
            // What still works is balancing.
            tracing::warn!(?seconds, "too many different session affinity timeouts; one is not honoured");
            return (plain, order);
        };
        self.make(family, made, action, changes);
        (action, order)
    }

    /// An action that leads to no chain, and did not before this batch.
    fn free_action(&self, family: Family) -> Option<u32> {
        let taken: HashSet<u32> =
            self.chains.actions.iter().filter(|((f, _), _)| *f == family).map(|(_, action)| *action).collect();
        (word::FIRST_MADE..=word::ACTION_MASK).find(|action| !taken.contains(action))
    }

    fn make(&mut self, family: Family, made: Made, action: u32, changes: &mut Changes) {
        if let Some(seconds) = made.stays().filter(|seconds| self.chains.stays.insert((family, *seconds))) {
            changes.chains.extend(stay_chains(family, seconds).map(|chain| (family, chain)));
        }
        changes.chains.extend(made.chains(family).into_iter().map(|chain| (family, chain)));
        changes.add(Element::Balancer { family, action, chain: made.name().into() });
        self.chains.actions.insert((family, made), action);
    }

    /// The pool has no turn of its own any more.
    fn release(&mut self, family: Family, pool: &ProgrammedPool) {
        self.sweep |= self.turns.remove(&(family, pool.action));
    }

    /// Removes the turns that no pool has.
    fn sweep(&mut self, changes: &mut Changes) {
        if !std::mem::take(&mut self.sweep) {
            return;
        }
        let turns = &self.turns;
        self.chains.actions.retain(|(family, made), action| {
            let stays = !matches!(made, Made::Turns { .. }) || turns.contains(&(*family, *action));
            if !stays {
                changes.remove(Element::Balancer { family: *family, action: *action, chain: made.name().into() });
                changes.gone.push((*family, made.name()));
            }
            stays
        });
    }
}

/// `None` for what no chain of the frontends does.
fn word_of(action: Action, plan: &ServicePlan, pools: &[ProgrammedPool]) -> Option<u32> {
    Some(match action {
        Action::Reject => word::REFUSE,
        Action::Drop => word::DISCARD,
        Action::Here => return None,
        Action::Balance { pool, .. } => {
            let index = plan.pools.binary_search_by_key(&pool, |p| p.key).ok();
            index.and_then(|i| pools.get(i)).map_or(word::REFUSE, |pool| pool.number | pool.action)
        }
    })
}

/// What a set of ranges holds for a node. Ranges of one set must not touch each other.
fn ranges(node: &NodePlan, set: Set) -> BTreeSet<IpNet> {
    const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let mut all = match set {
        Set::NodeAddresses => node_ports(node),
        Set::LocalClients => node.pod_cidrs.clone(),
        Set::MasqueradedClients => node.masqueraded_clients.clone(),
        Set::ServiceCidrs => node.service_cidrs.clone(),
        _ => Vec::new(),
    };
    if set == Set::Loopback && node.localhost_node_ports {
        all.push(LOOPBACK.into());
    }
    disjoint(&all).into_iter().collect()
}

fn difference<T: Ord + Copy>(
    old: &BTreeSet<T>,
    new: &BTreeSet<T>,
    changes: &mut Changes,
    element: impl Fn(T) -> Element,
) {
    old.difference(new).for_each(|t| changes.remove(element(*t)));
    new.difference(old).for_each(|t| changes.add(element(*t)));
}

/// Where a frontend is: what two Services can only claim one after the other.
type Place = (At, Protocol, u16);
type Table<K, V> = HashMap<K, V>;
