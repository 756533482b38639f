//! Whoever a request is from.

use std::collections::BTreeMap;

/// An authenticated client, as Kubernetes' `UserInfo` has it (authentication.k8s.io/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    /// `system:node:web-1`, `system:serviceaccount:shop:robot`, `alice`; never empty.
    pub name: String,
    /// What tells two holders of one name apart in time; empty where nothing does.
    pub uid: String,
    /// `system:authenticated` among them for everybody who is somebody.
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
