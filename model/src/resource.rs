//! The table of served resources: everything that routes, discovery, storage keys and printed errors
//! need to know about a kind stands in one row here. Nothing else lists the kinds.

use std::fmt;

/// A served resource, as it is named in a path (`/api/v1/services`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Resource {
    Namespaces,
    Nodes,
    Pods,
    Services,
    Endpoints,
    Events,
    EndpointSlices,
    ServiceCidrs,
    IpAddresses,
    Leases,
    /// `events.k8s.io/v1`: the objects of [`Events`](Resource::Events) in another form.
    EventsV1,
    ServiceAccounts,
    Roles,
    RoleBindings,
    ClusterRoles,
    ClusterRoleBindings,
    /// `portolan.dev/v1alpha1`: what lets a machine join, or somebody in, as long as it lasts.
    Tokens,
    /// `portolan.dev/v1alpha1`: where load balancers get their addresses from.
    AddressPools,
    /// `portolan.dev/v1alpha1`: one load balancer.
    LoadBalancers,
    /// `portolan.dev/v1alpha1`: addresses that listeners admit or turn away.
    AccessLists,
    Secrets,
}

/// One row of the table.
#[derive(Debug)]
pub struct ResourceInfo {
    pub resource: Resource,
    /// API group; empty for core.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// Lower-case plural, as in paths and in error messages.
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Whether `…/status` is served and the main path ignores `status`.
    pub status: bool,
    /// Whether PUT on a name that does not exist creates it (Kubernetes' AllowCreateOnUpdate).
    pub create_on_update: bool,
    /// Whether PUT needs `metadata.resourceVersion` (no unconditional update).
    pub update_needs_revision: bool,
    /// The resource whose objects these are, where this row is another form of them and nothing is stored under it.
    pub stored_as: Option<Resource>,
}

/// The group of roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The group of Portolan's own kinds.
const OWN: &str = "portolan.dev";
const NO_NAMES: &[&str] = &[];

static TABLE: [ResourceInfo; 21] = [
    row(Resource::Namespaces, "", "Namespace", "namespaces", "namespace", &["ns"], NO_NAMES, false, true, false, false),
    row(Resource::Nodes, "", "Node", "nodes", "node", &["no"], NO_NAMES, false, true, false, false),
    row(Resource::Pods, "", "Pod", "pods", "pod", &["po"], &["all"], true, true, false, false),
    row(Resource::Services, "", "Service", "services", "service", &["svc"], &["all"], true, true, true, false),
    row(Resource::Endpoints, "", "Endpoints", "endpoints", "endpoints", &["ep"], NO_NAMES, true, false, true, false),
    row(Resource::Events, "", "Event", "events", "event", &["ev"], NO_NAMES, true, false, true, false),
    row(
        Resource::EndpointSlices,
        "discovery.k8s.io",
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
        NO_NAMES,
        NO_NAMES,
        true,
        false,
        false,
        false,
    ),
    row(
        Resource::ServiceCidrs,
        "networking.k8s.io",
        "ServiceCIDR",
        "servicecidrs",
        "servicecidr",
        NO_NAMES,
        NO_NAMES,
        false,
        true,
        false,
        false,
    ),
    row(
        Resource::IpAddresses,
        "networking.k8s.io",
        "IPAddress",
        "ipaddresses",
        "ipaddress",
        &["ip"],
        NO_NAMES,
        false,
        false,
        false,
        false,
    ),
    row(
        Resource::Leases,
        "coordination.k8s.io",
        "Lease",
        "leases",
        "lease",
        NO_NAMES,
        NO_NAMES,
        true,
        false,
        true,
        true,
    ),
    ResourceInfo {
        stored_as: Some(Resource::Events),
        ..row(
            Resource::EventsV1,
            "events.k8s.io",
            "Event",
            "events",
            "event",
            &["ev"],
            NO_NAMES,
            true,
            false,
            true,
            false,
        )
    },
    row(
        Resource::ServiceAccounts,
        "",
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        &["sa"],
        NO_NAMES,
        true,
        false,
        false,
        true,
    ),
    row(Resource::Roles, RBAC, "Role", "roles", "role", NO_NAMES, NO_NAMES, true, false, true, false),
    row(
        Resource::RoleBindings,
        RBAC,
        "RoleBinding",
        "rolebindings",
        "rolebinding",
        NO_NAMES,
        NO_NAMES,
        true,
        false,
        true,
        false,
    ),
    row(
        Resource::ClusterRoles,
        RBAC,
        "ClusterRole",
        "clusterroles",
        "clusterrole",
        NO_NAMES,
        NO_NAMES,
        false,
        false,
        true,
        false,
    ),
    row(
        Resource::ClusterRoleBindings,
        RBAC,
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
        NO_NAMES,
        NO_NAMES,
        false,
        false,
        true,
        false,
    ),
    ResourceInfo {
        version: "v1alpha1",
        ..row(Resource::Tokens, OWN, "Token", "tokens", "token", NO_NAMES, NO_NAMES, false, false, false, true)
    },
    ResourceInfo {
        version: "v1alpha1",
        ..row(
            Resource::AddressPools,
            OWN,
            "AddressPool",
            "addresspools",
            "addresspool",
            &["pool"],
            NO_NAMES,
            false,
            true,
            false,
            true,
        )
    },
    ResourceInfo {
        version: "v1alpha1",
        ..row(
            Resource::LoadBalancers,
            OWN,
            "LoadBalancer",
            "loadbalancers",
            "loadbalancer",
            &["lb"],
            NO_NAMES,
            false,
            true,
            false,
            true,
        )
    },
    ResourceInfo {
        version: "v1alpha1",
        ..row(
            Resource::AccessLists,
            OWN,
            "AccessList",
            "accesslists",
            "accesslist",
            &["acl"],
            NO_NAMES,
            false,
            false,
            false,
            true,
        )
    },
    row(Resource::Secrets, "", "Secret", "secrets", "secret", NO_NAMES, NO_NAMES, true, false, false, false),
];

#[allow(clippy::too_many_arguments, reason = "a table reads better as columns than as 120 lines of field names")]
const fn row(
    resource: Resource,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    status: bool,
    create_on_update: bool,
    update_needs_revision: bool,
) -> ResourceInfo {
    ResourceInfo {
        resource,
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short_names,
        categories,
        namespaced,
        status,
        create_on_update,
        update_needs_revision,
        stored_as: None,
    }
}

impl Resource {
    /// Every served resource, in the order of the enum.
    pub const ALL: [Resource; 21] = [
        Resource::Namespaces,
        Resource::Nodes,
        Resource::Pods,
        Resource::Services,
        Resource::Endpoints,
        Resource::Events,
        Resource::EndpointSlices,
        Resource::ServiceCidrs,
        Resource::IpAddresses,
        Resource::Leases,
        Resource::EventsV1,
        Resource::ServiceAccounts,
        Resource::Roles,
        Resource::RoleBindings,
        Resource::ClusterRoles,
        Resource::ClusterRoleBindings,
        Resource::Tokens,
        Resource::AddressPools,
        Resource::LoadBalancers,
        Resource::AccessLists,
        Resource::Secrets,
    ];

    /// This resource's row.
    pub fn info(self) -> &'static ResourceInfo {
        &TABLE[self as usize]
    }

    /// The resource under which the objects of this one are stored: itself, but for another form of the same objects.
    pub fn stored(self) -> Resource {
        self.info().stored_as.unwrap_or(self)
    }

    /// The resources that have objects of their own, in the order of the enum.
    pub fn all_stored() -> impl Iterator<Item = Resource> {
        Self::ALL.into_iter().filter(|resource| resource.info().stored_as.is_none())
    }

    /// Finds a resource by `apiVersion` and kind, as references to objects name it.
    pub fn find_kind(api_version: &str, kind: &str) -> Option<Resource> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        TABLE.iter().find(|r| r.group == group && r.version == version && r.kind == kind).map(|r| r.resource)
    }

    /// Finds a resource by API group (empty for core), version and plural name.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
        TABLE.iter().find(|r| r.group == group && r.version == version && r.plural == plural).map(|r| r.resource)
    }
}

impl ResourceInfo {
    /// `v1` or `discovery.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `services` or `leases.coordination.k8s.io`: how error messages name a resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_index() {
        for resource in Resource::ALL {
            assert_eq!(resource.info().resource, resource);
            let i = resource.info();
            assert_eq!(Resource::find(i.group, i.version, i.plural), Some(resource));
            assert_eq!(Resource::find_kind(&i.api_version(), i.kind), Some(resource));
            assert_eq!(resource.stored().info().stored_as, None);
        }
    }
}
