//! ServiceCIDRs: the finalizer that keeps one while its addresses are in use, and the condition that says so.
//!
//! Kubernetes has a controller for this; here a ServiceCIDR is ready when it is created, and goes in the transaction that
//! removes the last address that only it covers. A terminating one gives out nothing.

use std::sync::Arc;

use allocator::{AddressRange, Span};
use model::types::{Condition, ServiceCidr};
use model::{FieldError, Object, Resource, View};

use super::stamp::Managers;
use super::start::DEFAULT_CIDR;
use super::state::nets;
use super::{Engine, written};
use crate::error::Refusal;
use crate::request::{Outcome, Written};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

const STILL_USED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

impl Engine {
    pub(super) fn create_cidr(&mut self, mut cidr: ServiceCidr, managers: Managers) -> Result<Arc<Object>, Refusal> {
        self.check_ranges(&cidr)?;
        if !cidr.metadata.finalizers.iter().any(|f| f == FINALIZER) {
            cidr.metadata.finalizers.push(FINALIZER.to_owned());
        }
        cidr.status.conditions = vec![self.ready("True", "", "Kubernetes Service CIDR is ready")];
        self.put_whole_managed(Resource::ServiceCidrs, cidr, None, managers)
    }

    /// Every network must be one that addresses can be given from, and that load balancers have none of.
    pub(super) fn check_ranges(&self, cidr: &ServiceCidr) -> Result<(), Refusal> {
        let wrong = |(i, net): (usize, ipnet::IpNet)| {
            let pool =
                || self.pool_that_meets(&Span::of_net(net)).map(|pool| format!("overlaps with AddressPool {pool}"));
            let error = AddressRange::new(net).err().map(|error| error.to_string()).or_else(pool)?;
            Some(FieldError::invalid(format!("spec.cidrs[{i}]"), net.to_string(), error))
        };
        let errors: Vec<FieldError> = nets(cidr).into_iter().enumerate().filter_map(wrong).collect();
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Invalid(errors)) }
    }

    fn ready(&self, status: &str, reason: &str, message: &str) -> Condition {
        Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Some(self.timestamp()),
            observed_generation: None,
        }
    }

    pub(super) fn delete_cidr(&mut self, old: &Arc<Object>, finalizers: Vec<String>) -> Result<Written, Refusal> {
        let View::ServiceCidr(cidr) = &old.view else { return self.delete_or_mark(old, finalizers, 0) };
        if old.meta().terminating() {
            return self.delete_or_mark(old, finalizers, 0);
        }
        let mut cidr = (**cidr).clone();
        cidr.metadata.finalizers = finalizers;
        cidr.metadata.deletion_timestamp = Some(self.timestamp());
        cidr.metadata.deletion_grace_period_seconds = Some(0);
        cidr.metadata.generation = cidr.metadata.generation.map(|g| g + 1);
        cidr.status.conditions = vec![self.ready("False", "Terminating", STILL_USED)];
        let marked = self.put_whole(Resource::ServiceCidrs, cidr, Some(old))?;
        Ok(match self.settle_cidr(&marked)? {
            Some(settled) => settled,
            None => written(marked, Outcome::Deleting, Vec::new()),
        })
    }

    /// Lets go of the terminating ServiceCIDRs whose addresses are no longer in use.
    pub(super) fn settle_cidrs(&mut self) -> Result<(), Refusal> {
        let terminating: Vec<_> =
            self.state.shelf(Resource::ServiceCidrs).all().filter(|o| o.meta().terminating()).cloned().collect();
        for object in terminating {
            self.settle_cidr(&object)?;
        }
        Ok(())
    }

    /// Takes our finalizer from a terminating ServiceCIDR, and with the last finalizer the object; None while an address in
    /// it is held that no other range covers.
    fn settle_cidr(&mut self, object: &Arc<Object>) -> Result<Option<Written>, Refusal> {
        let View::ServiceCidr(cidr) = &object.view else { return Ok(None) };
        let nets = nets(cidr);
        let pool = self.state.addresses();
        let in_use = pool.held().any(|address| nets.iter().any(|net| net.contains(&address)) && !pool.covers(address));
        let ours = cidr.metadata.finalizers.iter().any(|f| f == FINALIZER);
        if (in_use && ours) || (!ours && !cidr.metadata.finalizers.is_empty()) {
            return Ok(None);
        }
        let mut cidr = (**cidr).clone();
        cidr.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER);
        let last = cidr.metadata.finalizers.is_empty();
        let released = self.put_whole(Resource::ServiceCidrs, cidr, Some(object))?;
        if !last {
            return Ok(Some(written(released, Outcome::Deleting, Vec::new())));
        }
        let removed = self.remove(&released)?;
        Ok(Some(written(removed, Outcome::Deleted, Vec::new())))
    }
}

/// Why a ServiceCIDR may not be deleted, if so.
pub(super) fn undeletable(name: &str) -> Option<&'static str> {
    (name == DEFAULT_CIDR).then_some("it is the cluster's own service range, which the server is started with")
}
