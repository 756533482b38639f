//! The columns of each resource, as data.

use model::Resource;

use super::Column;

const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "string", format: "", description, priority: 0 }
}

/// A column that only wide tables show.
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..column(name, description) }
}

const NAME: Column =
    Column { format: "name", ..column("Name", "The name of the object, unique in its namespace and resource.") };
const AGE: Column = column("Age", "How long ago the object was created.");

static NAMESPACES: [Column; 3] = [NAME, column("Status", "Active, or Terminating once its deletion has begun."), AGE];

static NODES: [Column; 10] = [
    NAME,
    column("Status", "Whether the node is ready, and whether it takes new pods."),
    column("Roles", "The roles that its labels give the node."),
    AGE,
    column("Version", "The version of the node's agent."),
    wide("Internal-IP", "The node's first address of type InternalIP."),
    wide("External-IP", "The node's first address of type ExternalIP."),
    wide("OS-Image", "The operating system that the node reports."),
    wide("Kernel-Version", "The kernel that the node reports."),
    wide("Container-Runtime", "The container runtime that the node reports."),
];

static PODS: [Column; 9] = [
    NAME,
    column("Ready", "How many of the pod's containers are ready."),
    column("Status", "The phase of the pod, or what keeps it from the next one."),
    column("Restarts", "How often its containers were restarted, and when last."),
    AGE,
    wide("IP", "The pod's first address."),
    wide("Node", "The node that the pod is bound to."),
    wide("Nominated Node", "The node that room is being made on for the pod."),
    wide("Readiness Gates", "How many of the pod's readiness gates are met."),
];

static SERVICES: [Column; 7] = [
    NAME,
    column("Type", "How the service is exposed."),
    column("Cluster-IP", "The service's first virtual address."),
    column("External-IP", "The addresses or the name by which it is reached from outside."),
    column("Port(s)", "The ports that it offers, with their node ports."),
    AGE,
    wide("Selector", "The labels of the pods that it sends traffic to."),
];

static ENDPOINTS: [Column; 3] = [NAME, column("Endpoints", "The ready addresses and ports behind the service."), AGE];

static EVENTS: [Column; 10] = [
    column("Last Seen", "How long ago it happened last."),
    column("Type", "Normal or Warning."),
    column("Reason", "A short word for what happened."),
    column("Object", "The object that it happened to."),
    wide("Subobject", "The part of that object."),
    wide("Source", "Who saw it."),
    column("Message", "What happened, in a sentence."),
    wide("First Seen", "How long ago it happened first."),
    wide("Count", "How often it happened."),
    Column { priority: 1, ..NAME },
];

static ENDPOINT_SLICES: [Column; 5] = [
    NAME,
    column("AddressType", "The kind of address that the slice holds."),
    column("Ports", "The ports of every endpoint in the slice."),
    column("Endpoints", "The addresses in the slice, ready or not."),
    AGE,
];

static SERVICE_CIDRS: [Column; 3] = [NAME, column("CIDRs", "The ranges that cluster addresses are taken from."), AGE];

static IP_ADDRESSES: [Column; 2] = [NAME, column("ParentRef", "The object that the address belongs to.")];

static LEASES: [Column; 3] = [NAME, column("Holder", "Who holds the lease."), AGE];

static SERVICE_ACCOUNTS: [Column; 3] = [NAME, column("Secrets", "How many secrets the account names."), AGE];

static ROLES: [Column; 2] =
    [NAME, Column { format: "date-time", ..column("Created At", "When the role was created.") }];

static BINDINGS: [Column; 6] = [
    NAME,
    column("Role", "The role that is given."),
    AGE,
    wide("Users", "The users that have it."),
    wide("Groups", "The groups that have it."),
    wide("ServiceAccounts", "The service accounts that have it."),
];

static SECRETS: [Column; 4] =
    [NAME, column("Type", "What its data is for."), column("Data", "How many values it holds."), AGE];

static ADDRESS_POOLS: [Column; 7] = [
    NAME,
    column("Type", "Which side the addresses face."),
    column("Auto-Assign", "Whether addresses are taken from here for whoever names no pool."),
    column("IPv4", "How many of its IPv4 addresses are used."),
    column("IPv6", "How many of its IPv6 addresses are used."),
    AGE,
    wide("Addresses", "The addresses that it has."),
];

static LOAD_BALANCERS: [Column; 9] = [
    NAME,
    column("Type", "Which side the addresses face."),
    column("Addresses", "The addresses that it has."),
    column("Ports", "The ports that it listens on."),
    column("Edge", "The edge node that holds the addresses."),
    column("Healthy", "How many of the backends are healthy, added up over the listeners."),
    column("Service", "The Service that it was made for."),
    AGE,
    wide("Display-Name", "What people call it."),
];

static ACCESS_LISTS: [Column; 3] = [NAME, column("Entries", "How many entries it has."), AGE];

static TOKENS: [Column; 6] = [
    NAME,
    column("Purpose", "NodeJoin, EdgeJoin or Access."),
    column("User", "Whom its holder asks as."),
    column("Expires", "How long it still holds."),
    AGE,
    wide("Description", "What people want to remember of it."),
];

/// The columns of a resource's table.
pub fn of(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Namespaces => &NAMESPACES,
        Resource::Nodes => &NODES,
        Resource::Pods => &PODS,
        Resource::Services => &SERVICES,
        Resource::Endpoints => &ENDPOINTS,
        Resource::Events | Resource::EventsV1 => &EVENTS,
        Resource::EndpointSlices => &ENDPOINT_SLICES,
        Resource::ServiceCidrs => &SERVICE_CIDRS,
        Resource::IpAddresses => &IP_ADDRESSES,
        Resource::Leases => &LEASES,
        Resource::ServiceAccounts => &SERVICE_ACCOUNTS,
        Resource::Roles | Resource::ClusterRoles => &ROLES,
        Resource::RoleBindings | Resource::ClusterRoleBindings => &BINDINGS,
        Resource::Tokens => &TOKENS,
        Resource::AddressPools => &ADDRESS_POOLS,
        Resource::LoadBalancers => &LOAD_BALANCERS,
        Resource::AccessLists => &ACCESS_LISTS,
        Resource::Secrets => &SECRETS,
    }
}
