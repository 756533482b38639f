//! What a shadow had before an update: remembered at little cost, and restored only when the update was refused.

use std::sync::Arc;

use model::Key;

use super::Services;
use crate::nftables::Dirty;
use crate::nftables::shadow::Shadow;
use crate::plan::ServicePlan;

/// The plans of the Services that an update looks at, before it.
pub struct Before(Vec<(Arc<Key>, Arc<ServicePlan>)>);

impl Before {
    pub fn of(shadow: &Shadow, dirty: &Dirty) -> Self {
        let shared = |(key, plan): (&Arc<Key>, &Arc<ServicePlan>)| (Arc::clone(key), Arc::clone(plan));
        Self(match dirty {
            Dirty::All => shadow.services().map(shared).collect(),
            Dirty::Services(keys) => keys.iter().filter_map(|key| shadow.service(key)).map(shared).collect(),
        })
    }

    /// What the shadow had before the update.
    pub fn restore(self, shadow: &Shadow, dirty: &Dirty) -> Services {
        let mut services = match dirty {
            Dirty::All => Services::new(),
            Dirty::Services(keys) => {
                let mut services = plans(shadow);
                services.retain(|key, _| !keys.contains(key));
                services
            }
        };
        services.extend(self.0.into_iter().map(|(key, plan)| (Key::clone(&key), plan)));
        services
    }
}

/// Every Service's plan.
pub fn plans(shadow: &Shadow) -> Services {
    shadow.services().map(|(key, plan)| (Key::clone(key), Arc::clone(plan))).collect()
}
