//! What is known about a plan as a whole, kept up to date Service by Service: which of them a load balancer asks this
//! node about, and which have a policy Local and nobody here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane::plan::{FrontendKind, HealthCheck};
use dataplane::{Action, Plan, ServicePlan};
use model::Key;

/// The `healthCheckNodePort` of each Service that has one.
pub type Checks = BTreeMap<Key, HealthCheck>;

#[derive(Debug, Default)]
pub struct Census {
    /// Shared with whoever answers; a change makes a new one.
    checks: Arc<Checks>,
    internal: BTreeSet<Key>,
    external: BTreeSet<Key>,
}

impl Census {
    /// Counts everything anew.
    pub fn all(&mut self, plan: &Plan) {
        *self = Self { checks: Arc::clone(&self.checks), ..Self::default() };
        let known: BTreeSet<Key> =
            self.checks.keys().filter(|key| !plan.services.contains_key(*key)).cloned().collect();
        for key in known {
            self.one(&key, None);
        }
        for (key, service) in &plan.services {
            self.one(key, Some(service));
        }
    }

    /// One Service is now `plan`, or gone.
    pub fn one(&mut self, key: &Key, plan: Option<&ServicePlan>) {
        let check = plan.and_then(|plan| plan.health_check);
        if self.checks.get(key) != check.as_ref() {
            let checks = Arc::make_mut(&mut self.checks);
            match check {
                Some(check) => checks.insert(key.clone(), check),
                None => checks.remove(key),
            };
        }
        // A frontend drops where somebody serves the Service, but nobody on this node.
        let drops = |internal: bool| {
            let frontends = plan.into_iter().flat_map(|plan| &plan.frontends);
            frontends
                .filter(|frontend| (frontend.kind == FrontendKind::ClusterIp) == internal)
                .any(|frontend| frontend.action == Action::Drop)
        };
        for (set, drops) in [(&mut self.internal, drops(true)), (&mut self.external, drops(false))] {
            if drops {
                set.insert(key.clone());
            } else {
                set.remove(key);
            }
        }
    }

    pub fn checks(&self) -> &Arc<Checks> {
        &self.checks
    }

    /// Services with internalTrafficPolicy Local, and with externalTrafficPolicy Local, that have endpoints, but none
    /// on this node.
    pub fn without_local(&self) -> (usize, usize) {
        (self.internal.len(), self.external.len())
    }
}

#[cfg(test)]
mod tests {
    use dataplane::{At, Frontend, Limits};
    use model::types::Protocol;

    use super::*;

    fn service(frontends: &[(FrontendKind, Action)], local_endpoints: Option<usize>) -> ServicePlan {
        let frontend = |(kind, action): &(FrontendKind, Action)| Frontend {
            at: At::Address([10, 96, 0, 1].into()),
            protocol: Protocol::Tcp,
            port: 80,
            action: *action,
            inside: None,
            sources: None,
            kind: *kind,
            limits: Limits::default(),
        };
        ServicePlan {
            frontends: frontends.iter().map(frontend).collect(),
            health_check: local_endpoints.map(|local_endpoints| HealthCheck { port: 30100, local_endpoints }),
            ..ServicePlan::default()
        }
    }

    #[test]
    fn services_come_change_and_go() {
        let web = Key::new("default", "web");
        let mut census = Census::default();
        census.one(&web, Some(&service(&[(FrontendKind::ClusterIp, Action::Drop)], None)));
        assert_eq!((census.without_local(), census.checks().len()), ((1, 0), 0));
        let drops = [(FrontendKind::ClusterIp, Action::Drop), (FrontendKind::NodePort, Action::Drop)];
        census.one(&web, Some(&service(&drops, Some(0))));
        assert_eq!((census.without_local(), census.checks()[&web].local_endpoints), ((1, 1), 0));
        let before = Arc::clone(census.checks());
        census.one(&web, Some(&service(&[(FrontendKind::LoadBalancer, Action::Reject)], Some(0))));
        assert_eq!(census.without_local(), (0, 0), "nobody at all is another matter");
        assert!(Arc::ptr_eq(&before, census.checks()), "the same checks are the same");
        census.one(&web, None);
        assert_eq!((census.without_local(), census.checks().len()), ((0, 0), 0));
    }

    #[test]
    fn counting_all_forgets_who_is_gone() {
        let mut census = Census::default();
        let plan = |names: &[&str]| {
            let drops = Arc::new(service(&[(FrontendKind::ExternalIp, Action::Drop)], Some(3)));
            let services = names.iter().map(|name| (Key::new("default", name), Arc::clone(&drops))).collect();
            Plan { services, ..Plan::default() }
        };
        census.all(&plan(&["a", "b"]));
        assert_eq!((census.without_local(), census.checks().len()), ((0, 2), 2));
        let before = Arc::clone(census.checks());
        census.all(&plan(&["a", "b"]));
        assert!(Arc::ptr_eq(&before, census.checks()));
        census.all(&plan(&["b"]));
        assert_eq!((census.without_local(), census.checks().len()), ((0, 1), 1));
    }
}
