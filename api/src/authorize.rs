//! Authorization: whether somebody may do what a request asks for. What may be done is decided by [`access`], from what the
//! store has now; here the two are brought together, before a handler runs ([`Authorizer::admit`]) and, for what depends on
//! the content of a write, where the store decides it ([`guard`]).
//!
//! An administrator's requests ask no policy and carry no guard.

mod guard;

use std::sync::Arc;

use access::node::Bound;
use access::rbac::{Policy, PolicyRule};
use access::{Attributes, User, decide};
use model::Resource;
use store::{Guard, Store};

use crate::asked::Asked;
use crate::policy::Policies;
use crate::status::Status;

/// Answers for one store.
pub struct Authorizer {
    store: Store,
    policies: Policies,
}

/// An answer, and why; the reason may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub reason: String,
}

/// What holds for somebody in a namespace.
pub struct Rules {
    pub rules: Vec<PolicyRule>,
    /// Whether there is more that no rule says.
    pub incomplete: bool,
}

/// Where the Pods of a store are.
struct Pods<'a>(&'a Store);

impl Bound for Pods<'_> {
    fn node_of_pod(&self, namespace: &str, name: &str) -> Option<String> {
        let pod = self.0.get(Resource::Pods, namespace, name)?;
        pod.pod().map(|pod| pod.spec.node_name.clone())
    }
}

impl Authorizer {
    pub fn new(store: Store) -> Self {
        Self { policies: Policies::new(store.clone()), store }
    }

    /// Whether somebody may do what a request asks for.
    ///
    /// # Errors
    /// 403 with Kubernetes' sentence; 401 for nobody in particular, who may have forgotten to say who they are.
    pub fn admit(&self, user: &User, asked: &Asked) -> Result<(), Status> {
        self.admit_to(user, &asked.attributes(), asked.selected.as_deref())
    }

    /// As [`admit`](Self::admit), for what is asked for besides.
    ///
    /// # Errors
    /// As there.
    pub fn admit_wish(&self, user: &User, wish: &Attributes<'_>) -> Result<(), Status> {
        self.admit_to(user, wish, None)
    }

    fn admit_to(&self, user: &User, wish: &Attributes<'_>, selected: Option<&str>) -> Result<(), Status> {
        if self.may(user, wish, selected) {
            return Ok(());
        }
        Err(if user.is_anonymous() { Status::unauthorized() } else { Status::may_not(&user.name, wish) })
    }

    /// Whether somebody may do this. `selected` is what a list is restricted to ([`Asked::selected`]).
    pub fn may(&self, user: &User, attributes: &Attributes<'_>, selected: Option<&str>) -> bool {
        user.is_master() || decide(&self.policies.now(), user, attributes, selected, &Pods(&self.store)).is_allowed()
    }

    /// As [`may`](Self::may), and why.
    pub fn explain(&self, user: &User, attributes: &Attributes<'_>, selected: Option<&str>) -> Verdict {
        let policy = self.policies.now();
        let decision = decide(&policy, user, attributes, selected, &Pods(&self.store));
        Verdict { allowed: decision.is_allowed(), reason: decision.to_string() }
    }

    /// The rules that hold for somebody in a namespace.
    pub fn rules(&self, user: &User, namespace: &str) -> Rules {
        if user.is_master() {
            let rules = vec![PolicyRule::of("*", "*", "*"), PolicyRule::of_paths("*", "*")];
            return Rules { rules, incomplete: false };
        }
        let policy = self.policies.now();
        let own = if user.is_bootstrapper() { Vec::new() } else { policy.rules(user, namespace) };
        let incomplete = user.node_name().is_some() || user.edge_name().is_some() || user.is_bootstrapper();
        Rules { rules: own.into_iter().cloned().collect(), incomplete }
    }

    /// Who has a say in what somebody writes to this resource; nobody in most cases.
    pub fn guard(&self, user: &Arc<User>, resource: Resource, asked: &Asked) -> Option<Arc<dyn Guard>> {
        if user.is_master() {
            return None;
        }
        let creates = || {
            let Attributes { what, .. } = asked.attributes();
            self.may(user, &Attributes { verb: "create", what }, None)
        };
        guard::of(user, resource, asked, creates, || self.policy())
    }

    fn policy(&self) -> Arc<Policy> {
        self.policies.now()
    }
}
