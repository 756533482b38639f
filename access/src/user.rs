//! Whoever a request is from, and the names that Kubernetes has for those who are no people.

use std::collections::BTreeMap;

/// The group of those who may do everything, whatever is stored.
pub const MASTERS: &str = "system:masters";
/// Everybody who is somebody.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// The group of those who hold a token to join by.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The group of all ServiceAccounts; with `:NAMESPACE` behind it, of those of one namespace.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The holder of the server's own token, by the name that Kubernetes gives to the credentials that an installation
/// begins with.
pub const ADMIN: &str = "system:admin";

/// The group of all edge nodes: machines that hold the addresses of load balancers and run no workloads.
pub const EDGES: &str = "portolan:edges";
/// The group of those who hold a token to join by as an edge node, beside [`BOOTSTRAPPERS`].
pub const EDGE_BOOTSTRAPPERS: &str = "system:bootstrappers:portolan:edges";

const EDGE_PREFIX: &str = "system:edge:";
const NODE_PREFIX: &str = "system:node:";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

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
    /// Somebody of this name, in these groups and in `system:authenticated`.
    pub fn named(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut user = Self {
            name: name.into(),
            groups: groups.into_iter().collect(),
            uid: String::new(),
            extra: BTreeMap::new(),
        };
        if !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        user
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The holder of the server's own token.
    pub fn admin() -> Self {
        Self::named(ADMIN, [MASTERS.to_owned()])
    }

    /// A node by its own certificate.
    pub fn node(name: &str) -> Self {
        Self::named(format!("{NODE_PREFIX}{name}"), [NODES.to_owned()])
    }

    /// Who holds the join token of this id.
    pub fn bootstrapper(id: &str) -> Self {
        Self::named(format!("system:bootstrap:{id}"), [BOOTSTRAPPERS.to_owned()])
    }

    /// Who holds the join token of this id, which is for edge nodes.
    pub fn edge_bootstrapper(id: &str) -> Self {
        Self::named(format!("system:bootstrap:{id}"), [BOOTSTRAPPERS.to_owned(), EDGE_BOOTSTRAPPERS.to_owned()])
    }

    /// An edge node by its own certificate.
    pub fn edge(name: &str) -> Self {
        Self::named(format!("{EDGE_PREFIX}{name}"), [EDGES.to_owned()])
    }

    /// A ServiceAccount; `uid` is that of the object.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let mut user = Self::named(service_account_name(namespace, name), service_account_groups(namespace));
        user.uid = uid.to_owned();
        user
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Whether the user may do everything.
    pub fn is_master(&self) -> bool {
        self.in_group(MASTERS)
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// The node that the user is. Name and group are asked for, as Kubernetes' node authorizer does: a name alone is what
    /// anybody's token may have been made for.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())?;
        self.in_group(NODES).then_some(name)
    }

    /// The edge node that the user is; name and group are asked for, as of a node.
    pub fn edge_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(EDGE_PREFIX).filter(|name| !name.is_empty())?;
        self.in_group(EDGES).then_some(name)
    }

    /// Whether the user holds a token to join by.
    pub fn is_bootstrapper(&self) -> bool {
        self.in_group(BOOTSTRAPPERS)
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// Namespace and name of the ServiceAccount that a user's name is of.
pub fn split_service_account_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of the ServiceAccounts of a namespace.
pub fn service_account_groups(namespace: &str) -> [String; 2] {
    [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_by_name_and_group() {
        assert_eq!(User::node("web-1").node_name(), Some("web-1"));
        assert_eq!(User::named("system:node:web-1", []).node_name(), None);
        assert_eq!(User::named("web-1", [NODES.to_owned()]).node_name(), None);
        assert_eq!(User::named("system:node:", [NODES.to_owned()]).node_name(), None);
    }

    #[test]
    fn everybody_but_nobody_is_authenticated() {
        for user in [User::admin(), User::node("a"), User::bootstrapper("abcdef"), User::service_account("a", "b", "c")]
        {
            assert!(user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED), "{user:?}");
            assert_eq!(user.is_master(), user.name == ADMIN, "{user:?}");
        }
        assert!(User::anonymous().in_group(UNAUTHENTICATED) && !User::anonymous().in_group(AUTHENTICATED));
    }

    #[test]
    fn names_of_service_accounts_are_read_back() {
        let user = User::service_account("shop", "robot", "1-2-3");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]);
        assert_eq!(split_service_account_name(&user.name), Some(("shop", "robot")));
        for none in ["system:serviceaccount:shop", "system:serviceaccount::x", "system:serviceaccount:a:b:c", "alice"] {
            assert_eq!(split_service_account_name(none), None, "{none}");
        }
    }
}
