//! How each list of the served kinds merges. Kubernetes says it in tags of its Go types; k8s-openapi does not
//! publish it, so it is data of our own.
//!
//! Two merges know lists. *Server-side apply* knows `x-kubernetes-list-type` with its map keys. *Strategic merge
//! patch* is older and knows `x-kubernetes-patch-strategy` with one merge key; a list without a strategy is
//! replaced whole. The two differ in places, and so do their columns: Service ports merge by `port` for a patch
//! and by `[port, protocol]` for an apply.

use std::fmt;

/// `x-kubernetes-list-type`.
pub enum ListType {
    Atomic,
    Set,
    /// A list of objects with these keys.
    Map(&'static [&'static str]),
}

/// What a strategic merge patch does with a list.
#[derive(Clone, Copy)]
pub enum Patch {
    /// No strategy: the patch's list replaces the list.
    Replace,
    /// Scalars: what the patch has is added.
    Union,
    /// Objects that have the same value here are one object.
    Key(&'static str),
    /// As `Key`, and kubectl sends `$retainKeys`, because the objects are unions of which one member is set.
    KeyRetaining(&'static str),
}

impl Patch {
    /// `x-kubernetes-patch-strategy`.
    pub fn strategy(self) -> Option<&'static str> {
        match self {
            Self::Replace => None,
            Self::Union | Self::Key(_) => Some("merge"),
            Self::KeyRetaining(_) => Some("merge,retainKeys"),
        }
    }

    /// `x-kubernetes-patch-merge-key`.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Replace | Self::Union => None,
            Self::Key(key) | Self::KeyRetaining(key) => Some(key),
        }
    }
}

/// One list: where it is, and how it merges.
pub struct Row {
    /// The end of the definition's name: `core.v1.PodSpec`.
    pub definition: &'static str,
    pub property: &'static str,
    pub list_type: ListType,
    pub patch: Patch,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.definition, self.property)
    }
}

const fn row(definition: &'static str, property: &'static str, list_type: ListType, patch: Patch) -> Row {
    Row { definition, property, list_type, patch }
}

const fn atomic(definition: &'static str, property: &'static str) -> Row {
    row(definition, property, ListType::Atomic, Patch::Replace)
}

const fn set(definition: &'static str, property: &'static str) -> Row {
    row(definition, property, ListType::Set, Patch::Replace)
}

/// A list whose two columns have the same key.
const fn keyed(definition: &'static str, property: &'static str, keys: &'static [&'static str]) -> Row {
    row(definition, property, ListType::Map(keys), Patch::Key(keys[0]))
}

/// Every list of the closure, by definition and property.
pub const LISTS: &[Row] = &[
    atomic("authentication.v1.TokenRequestSpec", "audiences"),
    atomic("authentication.v1.UserInfo", "groups"),
    atomic("authorization.v1.FieldSelectorAttributes", "requirements"),
    atomic("authorization.v1.LabelSelectorAttributes", "requirements"),
    atomic("authorization.v1.NonResourceRule", "nonResourceURLs"),
    atomic("authorization.v1.NonResourceRule", "verbs"),
    atomic("authorization.v1.ResourceRule", "apiGroups"),
    atomic("authorization.v1.ResourceRule", "resourceNames"),
    atomic("authorization.v1.ResourceRule", "resources"),
    atomic("authorization.v1.ResourceRule", "verbs"),
    atomic("authorization.v1.SubjectAccessReviewSpec", "groups"),
    atomic("authorization.v1.SubjectRulesReviewStatus", "nonResourceRules"),
    atomic("authorization.v1.SubjectRulesReviewStatus", "resourceRules"),
    atomic("core.v1.Capabilities", "add"),
    atomic("core.v1.Capabilities", "drop"),
    atomic("core.v1.CephFSVolumeSource", "monitors"),
    atomic("core.v1.ConfigMapProjection", "items"),
    atomic("core.v1.ConfigMapVolumeSource", "items"),
    atomic("core.v1.Container", "args"),
    atomic("core.v1.Container", "command"),
    keyed("core.v1.Container", "env", &["name"]),
    atomic("core.v1.Container", "envFrom"),
    keyed("core.v1.Container", "ports", &["containerPort", "protocol"]),
    atomic("core.v1.Container", "resizePolicy"),
    atomic("core.v1.Container", "restartPolicyRules"),
    keyed("core.v1.Container", "volumeDevices", &["devicePath"]),
    keyed("core.v1.Container", "volumeMounts", &["mountPath"]),
    atomic("core.v1.ContainerImage", "names"),
    set("core.v1.ContainerRestartRuleOnExitCodes", "values"),
    keyed("core.v1.ContainerStatus", "allocatedResourcesStatus", &["name"]),
    keyed("core.v1.ContainerStatus", "volumeMounts", &["mountPath"]),
    atomic("core.v1.DownwardAPIProjection", "items"),
    atomic("core.v1.DownwardAPIVolumeSource", "items"),
    atomic("core.v1.EndpointSubset", "addresses"),
    atomic("core.v1.EndpointSubset", "notReadyAddresses"),
    atomic("core.v1.EndpointSubset", "ports"),
    atomic("core.v1.Endpoints", "subsets"),
    atomic("core.v1.EphemeralContainer", "args"),
    atomic("core.v1.EphemeralContainer", "command"),
    keyed("core.v1.EphemeralContainer", "env", &["name"]),
    atomic("core.v1.EphemeralContainer", "envFrom"),
    keyed("core.v1.EphemeralContainer", "ports", &["containerPort", "protocol"]),
    atomic("core.v1.EphemeralContainer", "resizePolicy"),
    atomic("core.v1.EphemeralContainer", "restartPolicyRules"),
    keyed("core.v1.EphemeralContainer", "volumeDevices", &["devicePath"]),
    keyed("core.v1.EphemeralContainer", "volumeMounts", &["mountPath"]),
    atomic("core.v1.ExecAction", "command"),
    atomic("core.v1.FCVolumeSource", "targetWWNs"),
    atomic("core.v1.FCVolumeSource", "wwids"),
    atomic("core.v1.HTTPGetAction", "httpHeaders"),
    atomic("core.v1.HostAlias", "hostnames"),
    atomic("core.v1.ISCSIVolumeSource", "portals"),
    atomic("core.v1.LinuxContainerUser", "supplementalGroups"),
    atomic("core.v1.LoadBalancerIngress", "ports"),
    atomic("core.v1.LoadBalancerStatus", "ingress"),
    atomic("core.v1.NamespaceSpec", "finalizers"),
    keyed("core.v1.NamespaceStatus", "conditions", &["type"]),
    atomic("core.v1.NodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution"),
    set("core.v1.NodeAllocatableResourceClaimStatus", "containers"),
    row("core.v1.NodeAllocatableResourceClaimStatus", "mapping", ListType::Map(&["name"]), Patch::Replace),
    row("core.v1.NodeAllocatableResourceClaimStatus", "overhead", ListType::Map(&["name"]), Patch::Replace),
    set("core.v1.NodePodPreemptionPolicy", "disableResizePreemption"),
    atomic("core.v1.NodeSelector", "nodeSelectorTerms"),
    atomic("core.v1.NodeSelectorRequirement", "values"),
    atomic("core.v1.NodeSelectorTerm", "matchExpressions"),
    atomic("core.v1.NodeSelectorTerm", "matchFields"),
    row("core.v1.NodeSpec", "podCIDRs", ListType::Set, Patch::Union),
    atomic("core.v1.NodeSpec", "taints"),
    keyed("core.v1.NodeStatus", "addresses", &["type"]),
    keyed("core.v1.NodeStatus", "conditions", &["type"]),
    atomic("core.v1.NodeStatus", "declaredFeatures"),
    atomic("core.v1.NodeStatus", "images"),
    atomic("core.v1.NodeStatus", "runtimeHandlers"),
    atomic("core.v1.NodeStatus", "volumesAttached"),
    atomic("core.v1.NodeStatus", "volumesInUse"),
    atomic("core.v1.PersistentVolumeClaimSpec", "accessModes"),
    atomic("core.v1.PodAffinity", "preferredDuringSchedulingIgnoredDuringExecution"),
    atomic("core.v1.PodAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    atomic("core.v1.PodAffinityTerm", "matchLabelKeys"),
    atomic("core.v1.PodAffinityTerm", "mismatchLabelKeys"),
    atomic("core.v1.PodAffinityTerm", "namespaces"),
    atomic("core.v1.PodAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution"),
    atomic("core.v1.PodAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"),
    atomic("core.v1.PodDNSConfig", "nameservers"),
    atomic("core.v1.PodDNSConfig", "options"),
    atomic("core.v1.PodDNSConfig", "searches"),
    atomic("core.v1.PodExtendedResourceClaimStatus", "requestMappings"),
    atomic("core.v1.PodSecurityContext", "supplementalGroups"),
    atomic("core.v1.PodSecurityContext", "sysctls"),
    keyed("core.v1.PodSpec", "containers", &["name"]),
    keyed("core.v1.PodSpec", "ephemeralContainers", &["name"]),
    keyed("core.v1.PodSpec", "evictionResponders", &["name"]),
    keyed("core.v1.PodSpec", "hostAliases", &["ip"]),
    keyed("core.v1.PodSpec", "imagePullSecrets", &["name"]),
    keyed("core.v1.PodSpec", "initContainers", &["name"]),
    atomic("core.v1.PodSpec", "readinessGates"),
    row("core.v1.PodSpec", "resourceClaims", ListType::Map(&["name"]), Patch::KeyRetaining("name")),
    keyed("core.v1.PodSpec", "schedulingGates", &["name"]),
    atomic("core.v1.PodSpec", "tolerations"),
    keyed("core.v1.PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    row("core.v1.PodSpec", "volumes", ListType::Map(&["name"]), Patch::KeyRetaining("name")),
    keyed("core.v1.PodStatus", "conditions", &["type"]),
    atomic("core.v1.PodStatus", "containerStatuses"),
    atomic("core.v1.PodStatus", "ephemeralContainerStatuses"),
    row("core.v1.PodStatus", "hostIPs", ListType::Atomic, Patch::Key("ip")),
    atomic("core.v1.PodStatus", "initContainerStatuses"),
    keyed("core.v1.PodStatus", "nodeAllocatableResourceClaimStatuses", &["resourceClaimName"]),
    keyed("core.v1.PodStatus", "podIPs", &["ip"]),
    row("core.v1.PodStatus", "resourceClaimStatuses", ListType::Map(&["name"]), Patch::KeyRetaining("name")),
    keyed("core.v1.PodStatus", "volumeHealth", &["name"]),
    row("core.v1.PodVolumeHealth", "healthConditions", ListType::Map(&["status"]), Patch::Replace),
    atomic("core.v1.ProjectedVolumeSource", "sources"),
    atomic("core.v1.RBDVolumeSource", "monitors"),
    row("core.v1.ResourceRequirements", "claims", ListType::Map(&["name"]), Patch::Replace),
    row("core.v1.ResourceStatus", "resources", ListType::Map(&["resourceID"]), Patch::Replace),
    atomic("core.v1.SecretProjection", "items"),
    atomic("core.v1.SecretVolumeSource", "items"),
    atomic("core.v1.ServiceAccount", "imagePullSecrets"),
    keyed("core.v1.ServiceAccount", "secrets", &["name"]),
    atomic("core.v1.ServiceSpec", "clusterIPs"),
    atomic("core.v1.ServiceSpec", "externalIPs"),
    atomic("core.v1.ServiceSpec", "ipFamilies"),
    atomic("core.v1.ServiceSpec", "loadBalancerSourceRanges"),
    keyed("core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    keyed("core.v1.ServiceStatus", "conditions", &["type"]),
    atomic("core.v1.TopologySpreadConstraint", "matchLabelKeys"),
    set("core.v1.VolumeMount", "bindMountOptions"),
    set("discovery.v1.Endpoint", "addresses"),
    atomic("discovery.v1.EndpointHints", "forNodes"),
    atomic("discovery.v1.EndpointHints", "forZones"),
    atomic("discovery.v1.EndpointSlice", "endpoints"),
    atomic("discovery.v1.EndpointSlice", "ports"),
    atomic("meta.v1.DeleteOptions", "dryRun"),
    atomic("meta.v1.FieldSelectorRequirement", "values"),
    atomic("meta.v1.LabelSelector", "matchExpressions"),
    atomic("meta.v1.LabelSelectorRequirement", "values"),
    row("meta.v1.ObjectMeta", "finalizers", ListType::Set, Patch::Union),
    atomic("meta.v1.ObjectMeta", "managedFields"),
    keyed("meta.v1.ObjectMeta", "ownerReferences", &["uid"]),
    atomic("meta.v1.StatusDetails", "causes"),
    atomic("networking.v1.ServiceCIDRSpec", "cidrs"),
    keyed("networking.v1.ServiceCIDRStatus", "conditions", &["type"]),
    set("portolan.v1alpha1.AccessControl", "lists"),
    atomic("portolan.v1alpha1.AccessListSpec", "entries"),
    atomic("portolan.v1alpha1.AddressPoolSpec", "addresses"),
    set("portolan.v1alpha1.AddressPoolSpec", "namespaces"),
    atomic("portolan.v1alpha1.EdgeAssignment", "addresses"),
    atomic("portolan.v1alpha1.HealthCheck", "codes"),
    atomic("portolan.v1alpha1.Listener", "backends"),
    atomic("portolan.v1alpha1.Listener", "sourceRanges"),
    atomic("portolan.v1alpha1.LoadBalancerSpec", "addresses"),
    atomic("portolan.v1alpha1.LoadBalancerSpec", "ipFamilies"),
    atomic("portolan.v1alpha1.LoadBalancerSpec", "listeners"),
    keyed("portolan.v1alpha1.LoadBalancerStatus", "conditions", &["type"]),
    atomic("portolan.v1alpha1.LoadBalancerStatus", "listeners"),
    atomic("portolan.v1alpha1.TlsSettings", "certificates"),
    atomic("portolan.v1alpha1.TlsSettings", "domains"),
    atomic("portolan.v1alpha1.PoolUse", "freed"),
    set("portolan.v1alpha1.TokenSpec", "groups"),
    atomic("rbac.v1.AggregationRule", "clusterRoleSelectors"),
    atomic("rbac.v1.ClusterRole", "rules"),
    atomic("rbac.v1.ClusterRoleBinding", "subjects"),
    atomic("rbac.v1.PolicyRule", "apiGroups"),
    atomic("rbac.v1.PolicyRule", "nonResourceURLs"),
    atomic("rbac.v1.PolicyRule", "resourceNames"),
    atomic("rbac.v1.PolicyRule", "resources"),
    atomic("rbac.v1.PolicyRule", "verbs"),
    atomic("rbac.v1.Role", "rules"),
    atomic("rbac.v1.RoleBinding", "subjects"),
];

/// Objects that server-side apply takes as one value: whole definitions, or one property of a definition.
pub const ATOMIC_MAPS: &[(&str, Option<&str>)] = &[
    ("core.v1.ConfigMapKeySelector", None),
    ("core.v1.EndpointAddress", None),
    ("core.v1.EndpointPort", None),
    ("core.v1.LocalObjectReference", None),
    ("core.v1.NodeSelector", None),
    ("core.v1.NodeSelectorTerm", None),
    ("core.v1.ObjectFieldSelector", None),
    ("core.v1.ObjectReference", None),
    ("core.v1.PodSpec", Some("nodeSelector")),
    ("core.v1.ResourceFieldSelector", None),
    ("core.v1.SecretKeySelector", None),
    ("core.v1.ServiceSpec", Some("selector")),
    ("core.v1.TypedLocalObjectReference", None),
    ("discovery.v1.EndpointPort", None),
    ("meta.v1.LabelSelector", None),
    ("meta.v1.OwnerReference", None),
    ("rbac.v1.RoleRef", None),
    ("rbac.v1.Subject", None),
];

/// Keys of a list that may be left out, and what they are then: the definition of the items, the key, its default.
pub const KEY_DEFAULTS: &[(&str, &str, &str)] =
    &[("core.v1.ContainerPort", "protocol", "TCP"), ("core.v1.ServicePort", "protocol", "TCP")];

/// Objects and lists that Kubernetes' own types hold by value and always write: whoever fills such a field changes it, and
/// does not add it. Beside these, `metadata`, `spec` and `status` of every kind.
pub const ALWAYS_THERE: &[(&str, &str)] = &[
    ("core.v1.Container", "resources"),
    ("core.v1.Event", "involvedObject"),
    ("core.v1.Event", "source"),
    ("core.v1.NodeDaemonEndpoints", "kubeletEndpoint"),
    ("core.v1.NodeStatus", "daemonEndpoints"),
    ("core.v1.NodeStatus", "nodeInfo"),
    ("core.v1.PodSpec", "containers"),
    ("core.v1.ServiceStatus", "loadBalancer"),
    ("rbac.v1.ClusterRoleBinding", "roleRef"),
    ("rbac.v1.RoleBinding", "roleRef"),
];
