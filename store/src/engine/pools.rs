//! AddressPools: what they may say beside each other, and what is told of their use.
//!
//! An address belongs to one pool at most, or nobody could say by whose rules it is given; and to no range of Services
//! or pods, which nodes answer for. What is used of a pool is derived from the load balancers in the transaction that
//! changes it, with the place of the next search and the addresses that were freed of late ([`allocator::Turn`]): so
//! turns outlive a restart. A pool that is deleted gives nothing any more, and goes with the last of its addresses.

use std::net::IpAddr;
use std::sync::Arc;

use allocator::{Span, Turn};
use model::types::{AddressPool, AddressPoolSpec, AddressPoolStatus, PoolUse};
use model::{FieldError, Object, Resource};
use serde::Deserialize;
use serde_json::Value;

use super::Engine;
use super::collect::set_finalizers;
use super::report::Report;
use super::stamp::{Managers, broken, cannot_handle};
use crate::config::BalancerLimits;
use crate::error::Refusal;
use crate::request::{Outcome, Written};

/// The finalizer of a pool that waits until its addresses are free.
const IN_USE: &str = "portolan.dev/addresses-in-use";

/// Refused parts of a pool that one answer names.
const ERRORS_MOST: usize = 8;

impl Engine {
    /// Takes the limits in use, and has the pools tell what is used of them now.
    pub(crate) fn start_pools(&mut self, limits: BalancerLimits) -> Result<(), Refusal> {
        self.limits = limits;
        self.report_shared_addresses()?;
        self.settle_pools(&[])
    }

    pub(super) fn create_pool(&mut self, mut value: Value, managers: &Managers) -> Result<Arc<Object>, Refusal> {
        let pool = read(&value)?;
        self.check_pool(None, &pool)?;
        self.set_status(&mut value, &pool.spec, &AddressPoolStatus::default(), &[])?;
        self.put_managed(Resource::AddressPools, value, managers.of_new())
    }

    /// None if nothing changes.
    pub(super) fn replace_pool(
        &mut self,
        old: &Arc<Object>,
        mut value: Value,
        managers: &Managers,
    ) -> Result<Option<Arc<Object>>, Refusal> {
        let (pool, before) = (read(&value)?, old.address_pool().cloned().unwrap_or_default());
        if pool.spec != before.spec {
            self.check_pool(Some((old, &before)), &pool)?;
        }
        self.set_status(&mut value, &pool.spec, &before.status, &[])?;
        self.put_changed(value, old, managers)
    }

    pub(super) fn delete_pool(&mut self, old: &Arc<Object>, mut finalizers: Vec<String>) -> Result<Written, Refusal> {
        let used = self.used(&spans_of(old));
        finalizers.retain(|finalizer| finalizer != IN_USE);
        if used > 0 {
            finalizers.push(IN_USE.to_owned());
        }
        let mut answer = self.delete_or_mark(old, finalizers, 0)?;
        if used > 0 && answer.outcome == Outcome::Deleting {
            answer.warnings.push(format!(
                "{used} of its addresses are in use by load balancers: the pool gives no more, and goes when the last \
                 is free"
            ));
        }
        Ok(answer)
    }

    /// Has every pool tell what is used of it, after these addresses were given (true) or freed; and lets go of those
    /// that are deleted and not used any more.
    pub(super) fn settle_pools(&mut self, turns: &[(IpAddr, bool)]) -> Result<(), Refusal> {
        let pools: Vec<Arc<Object>> = self.state.shelf(Resource::AddressPools).all().cloned().collect();
        for old in pools {
            let Some(pool) = old.address_pool() else { continue };
            let (mut value, _) = old.value_and_managers().map_err(broken)?;
            self.set_status(&mut value, &pool.spec, &pool.status, turns)?;
            let released = old.meta().terminating()
                && old.meta().finalizers.iter().any(|finalizer| finalizer == IN_USE)
                && self.used(&spans(&pool.spec)) == 0;
            if released {
                let left: Vec<String> =
                    old.meta().finalizers.iter().filter(|finalizer| *finalizer != IN_USE).cloned().collect();
                set_finalizers(&mut value, &left);
            }
            if let Some(now) = self.put_changed(value, &old, &Managers::Keep)? {
                self.end_deletion(&now)?;
            }
        }
        Ok(())
    }

    /// Writes into a pool what is used of it.
    fn set_status(
        &self,
        value: &mut Value,
        spec: &AddressPoolSpec,
        before: &AddressPoolStatus,
        turns: &[(IpAddr, bool)],
    ) -> Result<(), Refusal> {
        let spans = spans(spec);
        let status = AddressPoolStatus {
            v4: self.usage(&spans, true, before.v4.as_ref(), turns),
            v6: self.usage(&spans, false, before.v6.as_ref(), turns),
        };
        value["status"] = serde_json::to_value(status).map_err(broken)?;
        Ok(())
    }

    fn usage(&self, spans: &[Span], ipv4: bool, before: Option<&PoolUse>, turns: &[(IpAddr, bool)]) -> Option<PoolUse> {
        let own: Vec<Span> = spans.iter().filter(|span| span.is_ipv4() == ipv4).copied().collect();
        if own.is_empty() {
            return None;
        }
        let within = |address: &IpAddr| own.iter().any(|span| span.contains(*address));
        let mut turn = turn_of(before);
        for (address, given) in turns.iter().filter(|(address, _)| within(address)) {
            if *given { turn.give(*address) } else { turn.free(*address) }
        }
        turn.freed.retain(within);
        let total = own.iter().fold(0_u64, |total, span| total.saturating_add(span.count()));
        Some(PoolUse {
            total: i64::try_from(total).unwrap_or(i64::MAX),
            assigned: i64::try_from(self.used(&own)).unwrap_or(i64::MAX),
            last: turn.last,
            freed: turn.freed,
        })
    }

    /// How many addresses of these are held.
    fn used(&self, spans: &[Span]) -> usize {
        spans.iter().map(|span| self.state.external().held_in(span).count()).sum()
    }

    /// Whether a pool may be so, beside everything else that has addresses, and beside what load balancers have of it.
    fn check_pool(&self, before: Option<(&Arc<Object>, &AddressPool)>, pool: &AddressPool) -> Result<(), Refusal> {
        let own = before.map_or("", |(object, _)| &*object.key.name);
        let mut errors = Vec::new();
        let mut checked: Vec<Span> = Vec::new();
        for (index, text) in pool.spec.addresses.iter().enumerate() {
            let problem = match text.parse::<Span>() {
                Err(error) => Some(error.to_string()),
                Ok(span) => {
                    let problem = self.meets(&span, own).or_else(|| {
                        let other = checked.iter().find(|other| other.overlaps(&span))?;
                        Some(format!("overlaps with {other} of this pool"))
                    });
                    checked.push(span);
                    problem
                }
            };
            errors.extend(
                problem.map(|detail| FieldError::invalid(format!("spec.addresses[{index}]"), text.as_str(), detail)),
            );
        }
        if let Some((_, before)) = before {
            self.check_use(before, pool, &checked, &mut errors);
        }
        errors.truncate(ERRORS_MOST);
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Invalid(errors)) }
    }

    /// What load balancers have of a pool stays in it.
    fn check_use(&self, before: &AddressPool, pool: &AddressPool, spans: &[Span], errors: &mut Vec<FieldError>) {
        let held: Vec<IpAddr> = self::spans(&before.spec)
            .iter()
            .flat_map(|span| self.state.external().held_in(span).collect::<Vec<_>>())
            .collect();
        let lost = held.iter().find(|address| !spans.iter().any(|span| span.contains(**address)));
        if let Some(address) = lost {
            let holder = self.holder(*address).unwrap_or_default();
            let detail = format!("would no longer have {address}, which {holder} holds; delete that first");
            errors.push(FieldError::invalid("spec.addresses", Value::from(pool.spec.addresses.clone()), detail));
        }
        if let (Some(address), true) = (held.first(), before.spec.address_type != pool.spec.address_type) {
            let holder = self.holder(*address).unwrap_or_default();
            let detail = format!("may not be changed while addresses are in use: {holder} holds {address}");
            let value = serde_json::to_value(pool.spec.address_type).unwrap_or_default();
            errors.push(FieldError::invalid("spec.addressType", value, detail));
        }
    }

    /// What these addresses belong to already, other than the pool `own`.
    fn meets(&self, span: &Span, own: &str) -> Option<String> {
        let others = self.state.shelf(Resource::AddressPools).all().filter(|object| &*object.key.name != own);
        if let Some((other, name)) = overlap(others, span) {
            return Some(format!("overlaps with {other} of AddressPool {name}"));
        }
        for object in self.state.shelf(Resource::ServiceCidrs).all() {
            let nets = super::state::serving_ranges(object);
            if let Some(net) = nets.iter().find(|net| Span::of_net(**net).overlaps(span)) {
                return Some(format!("overlaps with {net}, which Services get their cluster IPs from"));
            }
        }
        let net = self.state.pod_pools().iter().map(allocator::SubnetPool::net);
        let net = net.into_iter().find(|net| Span::of_net(*net).overlaps(span))?;
        Some(format!("overlaps with {net}, which Pods get their addresses from"))
    }

    /// The pool that has addresses of these.
    pub(super) fn pool_that_meets(&self, span: &Span) -> Option<String> {
        overlap(self.state.shelf(Resource::AddressPools).all(), span).map(|(_, name)| name)
    }

    /// Nothing gives an address twice; a file that was edited, or restored in part, may have one twice.
    fn report_shared_addresses(&mut self) -> Result<(), Refusal> {
        let mut holders: std::collections::BTreeMap<IpAddr, Vec<Arc<Object>>> = std::collections::BTreeMap::new();
        for object in self.state.shelf(Resource::LoadBalancers).all() {
            for address in object.load_balancer().map(|b| b.spec.addresses.clone()).unwrap_or_default() {
                holders.entry(address).or_default().push(Arc::clone(object));
            }
        }
        for (address, objects) in holders {
            for about in objects.iter().skip(1) {
                let note = format!(
                    "Address {address} was assigned to several load balancers; delete all but one, and they get others"
                );
                tracing::warn!(loadbalancer = &*about.key.name, "{note}");
                let reason = "AddressAlreadyAllocated";
                self.report(&Report { about, reason, note, warns: true, component: "portolan-repair" }, Some(reason))?;
            }
        }
        Ok(())
    }
}

/// Whose turn it is.
pub(super) fn turn_of(usage: Option<&PoolUse>) -> Turn {
    usage.map(|usage| Turn { last: usage.last, freed: usage.freed.clone() }).unwrap_or_default()
}

/// What a pool has. What cannot be read was refused, and is nothing.
pub(super) fn spans(spec: &AddressPoolSpec) -> Vec<Span> {
    spec.addresses.iter().filter_map(|text| text.parse().ok()).collect()
}

fn spans_of(object: &Object) -> Vec<Span> {
    object.address_pool().map(|pool| spans(&pool.spec)).unwrap_or_default()
}

fn overlap<'a>(pools: impl Iterator<Item = &'a Arc<Object>>, span: &Span) -> Option<(Span, String)> {
    for object in pools {
        if let Some(other) = spans_of(object).into_iter().find(|other| other.overlaps(span)) {
            return Some((other, object.key.name.to_string()));
        }
    }
    None
}

fn read(value: &Value) -> Result<AddressPool, Refusal> {
    AddressPool::deserialize(value).map_err(|error| cannot_handle(Resource::AddressPools, &error))
}
