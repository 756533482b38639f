//! Load balancers get their addresses in the transaction that makes them, and have them until they are gone.
//!
//! Which pool may give one is said by the pools: by the side that the addresses face, by the Namespaces and Services
//! that they are for, and by `autoAssign` where nobody named a pool or an address. Of several the one with the lowest
//! priority is drawn from first. Each refusal says what stands in the way and what can be done: it is what users read
//! in a condition of their Service. Its variant says which it is: [`Refusal::Invalid`] on `spec.addresses` or
//! `spec.pool` for an address or a pool that cannot be had, [`Refusal::Full`] where all are given out,
//! [`Refusal::Forbidden`] for a quota.

use std::net::IpAddr;
use std::sync::Arc;

use allocator::Span;
use model::types::{AddressPool, AddressPoolSpec, AddressType, LabelSelector, LoadBalancer, PoolUse, ServiceReference};
use model::{FieldError, Object, Resource};
use serde::Deserialize;
use serde_json::Value;

use super::Engine;
use super::pools::{spans, turn_of};
use super::stamp::{Managers, broken, cannot_handle};
use super::standing::read_selector;
use crate::error::Refusal;

const ADDRESSES: &str = "spec.addresses";
const POOL: &str = "spec.pool";

/// Pools, or parts of them, that one refusal names.
const NAMES_MOST: usize = 8;

/// A pool with what it has.
struct Candidate<'a> {
    name: &'a str,
    pool: &'a AddressPool,
    spans: Vec<Span>,
}

impl Engine {
    pub(super) fn create_balancer(&mut self, mut value: Value, managers: &Managers) -> Result<Arc<Object>, Refusal> {
        let balancer = read(&value)?;
        let (count, most) = (self.state.shelf(Resource::LoadBalancers).len(), self.limits.instances);
        if count >= most {
            let detail = format!(
                "exceeded quota: there are {count} of {most} load balancers; delete one, or start the server with a higher \
                 --max-load-balancers"
            );
            return Err(forbidden(balancer.metadata.name(), detail));
        }
        self.check_listeners(balancer.metadata.name(), balancer.spec.listeners.len(), 0)?;
        self.complete(&mut value, &balancer)?;
        self.put_managed(Resource::LoadBalancers, value, managers.of_new())
    }

    /// None if nothing changes.
    pub(super) fn replace_balancer(
        &mut self,
        old: &Arc<Object>,
        mut value: Value,
        managers: &Managers,
    ) -> Result<Option<Arc<Object>>, Refusal> {
        let (balancer, before) = (read(&value)?, old.load_balancer().cloned().unwrap_or_default());
        self.check_listeners(&old.key.name, balancer.spec.listeners.len(), before.spec.listeners.len())?;
        if balancer.spec.pool != before.spec.pool
            && let Some(name) = balancer.spec.pool.as_deref()
        {
            let pools = self.candidates();
            let has = |address: &IpAddr| pools.iter().any(|pool| pool.name == name && pool.has(*address));
            if let Some(address) = balancer.spec.addresses.iter().find(|address| !has(address)) {
                let detail = format!("does not have {address}, and a load balancer keeps its addresses; make another");
                return Err(invalid(POOL, name, detail));
            }
        }
        // One of a damaged database may lack some.
        if balancer.spec.addresses != before.spec.addresses || lacks(&balancer) {
            self.complete(&mut value, &balancer)?;
        }
        self.put_changed(value, old, managers)
    }

    fn check_listeners(&self, name: &str, listeners: usize, before: usize) -> Result<(), Refusal> {
        let most = self.limits.listeners;
        if listeners <= most || listeners <= before {
            return Ok(());
        }
        let detail = format!(
            "exceeded quota: {listeners} listeners are asked for, and one load balancer may have {most}; divide them among \
             several, or start the server with a higher --max-listeners-per-load-balancer"
        );
        Err(forbidden(name, detail))
    }

    /// Writes into a load balancer an address of each of its families: what it asks for, or what pools have to give.
    fn complete(&self, value: &mut Value, balancer: &LoadBalancer) -> Result<(), Refusal> {
        let pools = self.candidates();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for family in &balancer.spec.ip_families {
            let ipv4 = family == "IPv4";
            let asked = balancer.spec.addresses.iter().position(|address| address.is_ipv4() == ipv4);
            let own = self.state.get(Resource::LoadBalancers, "", balancer.metadata.name());
            let own = own.and_then(|object| object.load_balancer()).map(|own| own.spec.addresses.as_slice());
            addresses.push(match asked.map(|index| (index, balancer.spec.addresses[index])) {
                Some((_, address)) if own.is_some_and(|own| own.contains(&address)) => address,
                Some((index, address)) => {
                    let detail = self.unavailable(address, &pools, balancer);
                    match detail {
                        Some(detail) => return Err(invalid(&format!("{ADDRESSES}[{index}]"), address, detail)),
                        None => address,
                    }
                }
                None => self.choose(ipv4, &pools, balancer)?,
            });
        }
        if balancer.spec.addresses != addresses {
            value["spec"]["addresses"] = serde_json::to_value(addresses).map_err(broken)?;
        }
        Ok(())
    }

    /// All pools, those that are drawn from first at the front.
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let pools = self.state.shelf(Resource::AddressPools).all();
        let pool = |object: &&'_ Arc<Object>| object.address_pool().is_some();
        let mut pools: Vec<Candidate<'_>> = pools
            .filter(pool)
            .filter_map(|object| {
                let pool = object.address_pool()?;
                Some(Candidate { name: &object.key.name, pool, spans: spans(&pool.spec) })
            })
            .collect();
        pools.sort_by_key(|candidate| (candidate.pool.spec.priority.unwrap_or(0), candidate.name));
        pools
    }

    /// Why an address that is asked for by name cannot be had, if so.
    fn unavailable(&self, address: IpAddr, pools: &[Candidate<'_>], balancer: &LoadBalancer) -> Option<String> {
        let Some(pool) = pools.iter().find(|pool| pool.has(address)) else {
            let fits = |pool: &&Candidate<'_>| self.unfit(pool, balancer).is_none();
            let ranges = pools.iter().filter(fits).flat_map(|pool| &pool.spans);
            let ranges = listed(ranges.filter(|span| span.is_ipv4() == address.is_ipv4()).map(Span::to_string));
            return Some(match ranges.as_str() {
                "" => format!("is in no AddressPool, and there is none that gives addresses to {}", who(balancer)),
                ranges => format!("is in no AddressPool; ask for one of {ranges}, or for none by name"),
            });
        };
        let name = pool.name;
        if let Some(reason) = self.unfit(pool, balancer) {
            return Some(format!("is of AddressPool {name}, which {reason}"));
        }
        let holder = self.holder(address)?;
        Some(format!("is held by {holder}; ask for another, or for none by name"))
    }

    /// An address that nobody has, from the first pool that has one to give.
    fn choose(&self, ipv4: bool, pools: &[Candidate<'_>], balancer: &LoadBalancer) -> Result<IpAddr, Refusal> {
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        let (wanted, who) = (balancer.spec.pool.as_deref(), who(balancer));
        let mut tried = Vec::new();
        for pool in pools.iter().filter(|pool| wanted.is_none_or(|name| pool.name == name)) {
            let unfit = self.unfit(pool, balancer);
            match (wanted, unfit) {
                (Some(name), Some(reason)) => return Err(invalid(POOL, name, reason)),
                (None, Some(_)) => continue,
                (None, None) if pool.pool.spec.auto_assign == Some(false) => continue,
                (_, None) => {}
            }
            let usage = pool.usage(ipv4);
            if let Some(address) = self.state.external().choose(&pool.spans, ipv4, &turn_of(usage)) {
                return Ok(address);
            }
            if let Some(usage) = usage {
                tried.push(format!("{} ({} of {} in use)", pool.name, usage.assigned, usage.total));
            }
        }
        if let Some(name) = wanted.filter(|name| !pools.iter().any(|pool| pool.name == *name)) {
            return Err(invalid(POOL, name, "there is no such AddressPool"));
        }
        let faces = kind(balancer.spec.address_type);
        Err(Refusal::Full(match listed(tried.into_iter()).as_str() {
            "" => format!(
                "no AddressPool gives {family} addresses of type {faces} to {who}: make one (kubectl get addresspools), \
                 or ask for another address type or family"
            ),
            tried => format!(
                "no free {family} address of type {faces} for {who} in AddressPool {tried}: add addresses to it, make \
                 another, or delete a load balancer"
            ),
        }))
    }

    /// Why a pool gives nothing to this load balancer, if so.
    fn unfit(&self, pool: &Candidate<'_>, balancer: &LoadBalancer) -> Option<String> {
        let spec = &pool.pool.spec;
        if pool.pool.metadata.terminating() {
            return Some("is being deleted".to_owned());
        }
        if spec.address_type != balancer.spec.address_type {
            let (has, wanted) = (kind(spec.address_type), kind(balancer.spec.address_type));
            return Some(format!("has addresses of type {has}, and {wanted} is asked for"));
        }
        if balancer.spec.pool.as_deref().is_some_and(|name| name != pool.name) {
            return Some("is not the one that `spec.pool` names".to_owned());
        }
        // Whoever names a pool for an instance of their own may use it: that takes an administrator.
        let named = balancer.spec.owner.is_none() && balancer.spec.pool.is_some();
        (!named && !self.admits(spec, balancer.spec.owner.as_ref())).then(|| format!("is not for {}", who(balancer)))
    }

    fn admits(&self, pool: &AddressPoolSpec, owner: Option<&ServiceReference>) -> bool {
        let selects = |selector: &LabelSelector, object: Option<&Arc<Object>>| {
            let selector = serde_json::to_value(selector).ok().and_then(|value| read_selector(&value));
            selector.is_some_and(|selector| object.is_some_and(|object| selector.matches(object.labels())))
        };
        let everywhere = pool.namespaces.is_empty() && pool.namespace_selector.is_none();
        let Some(owner) = owner else { return everywhere && pool.service_selector.is_none() };
        let namespace = self.state.get(Resource::Namespaces, "", &owner.namespace);
        let in_namespace = everywhere
            || pool.namespaces.contains(&owner.namespace)
            || pool.namespace_selector.as_ref().is_some_and(|selector| selects(selector, namespace));
        let service = self.state.get(Resource::Services, &owner.namespace, &owner.name);
        in_namespace && pool.service_selector.as_ref().is_none_or(|selector| selects(selector, service))
    }

    /// Who holds an address, in words.
    pub(super) fn holder(&self, address: IpAddr) -> Option<String> {
        let has = |object: &&Arc<Object>| {
            object.load_balancer().is_some_and(|balancer| balancer.spec.addresses.contains(&address))
        };
        let object = self.state.shelf(Resource::LoadBalancers).all().find(has)?;
        let owner = object.load_balancer().and_then(|balancer| balancer.spec.owner.as_ref());
        let of = owner.map(|owner| format!(" of Service {}/{}", owner.namespace, owner.name)).unwrap_or_default();
        Some(format!("LoadBalancer {}{of}", object.key.name))
    }
}

impl Candidate<'_> {
    fn has(&self, address: IpAddr) -> bool {
        self.spans.iter().any(|span| span.contains(address))
    }

    fn usage(&self, ipv4: bool) -> Option<&PoolUse> {
        if ipv4 { self.pool.status.v4.as_ref() } else { self.pool.status.v6.as_ref() }
    }
}

/// Whether a family has no address.
fn lacks(balancer: &LoadBalancer) -> bool {
    balancer.spec.addresses.len() < balancer.spec.ip_families.len()
}

/// For whom the addresses are.
fn who(balancer: &LoadBalancer) -> String {
    match &balancer.spec.owner {
        Some(owner) => format!("Service {}/{}", owner.namespace, owner.name),
        None => "load balancers without a Service".to_owned(),
    }
}

fn kind(type_: AddressType) -> &'static str {
    match type_ {
        AddressType::Internet => "internet",
        AddressType::Intranet => "intranet",
    }
}

/// Some of what there is, with commas.
fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = if all.len() > NAMES_MOST { ", …" } else { "" };
    format!("{}{more}", all.iter().take(NAMES_MOST).map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn invalid(path: &str, value: impl ToString, detail: impl Into<String>) -> Refusal {
    Refusal::Invalid(vec![FieldError::invalid(path, value.to_string(), detail)])
}

fn forbidden(name: &str, detail: String) -> Refusal {
    Refusal::Forbidden { resource: Resource::LoadBalancers, name: name.to_owned(), detail }
}

fn read(value: &Value) -> Result<LoadBalancer, Refusal> {
    LoadBalancer::deserialize(value).map_err(|error| cannot_handle(Resource::LoadBalancers, &error))
}
