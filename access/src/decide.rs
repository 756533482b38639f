//! May somebody do something? Every way to an answer, in their order.

use std::fmt;

use crate::User;
use crate::attributes::{Attributes, What};
use crate::edge;
use crate::node::{self, Bound, OWN_GROUP};
use crate::rbac::{Grant, Policy};

/// An answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The user is of `system:masters`.
    Master,
    /// The user is a node, and nodes may.
    Node,
    /// The user is an edge node, and edge nodes may.
    Edge,
    /// The user has a join token, and joins.
    Join,
    /// A role allows it.
    Role(Grant<'a>),
    /// Nothing does.
    Denied,
}

impl Decision<'_> {
    pub fn is_allowed(&self) -> bool {
        *self != Self::Denied
    }
}

/// Why it is allowed; empty where it is not, as Kubernetes' RBAC says nothing then.
impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => write!(f, "members of {} may do everything", crate::user::MASTERS),
            Self::Node => f.write_str("nodes may do this"),
            Self::Edge => f.write_str("edge nodes may do this"),
            Self::Join => f.write_str("a join token is for this"),
            Self::Role(grant) => grant.fmt(f),
            Self::Denied => Ok(()),
        }
    }
}

/// The Tokens of [`OWN_GROUP`].
const TOKENS: &str = "tokens";

/// Whether `user` may do this. `selected` is what a list or watch is restricted to by its field selector: of Pods the node, of
/// Secrets the type.
///
/// Masters first, so that no stored role can shut an administrator out, and the holder of the server's own token waits for
/// nothing. A join token ends here, whatever is bound to whoever is authenticated: it is for its purpose alone.
pub fn decide<'a>(
    policy: &'a Policy,
    user: &'a User,
    attributes: &Attributes<'a>,
    selected: Option<&str>,
    bound: &dyn Bound,
) -> Decision<'a> {
    if user.is_master() {
        return Decision::Master;
    }
    if user.is_bootstrapper() {
        return if joins(attributes) { Decision::Join } else { Decision::Denied };
    }
    if user.node_name().is_some_and(|name| node::allows(name, attributes, selected, bound)) {
        return Decision::Node;
    }
    if user.edge_name().is_some_and(|name| edge::allows(name, attributes, selected)) {
        return Decision::Edge;
    }
    match policy.allows(user, attributes) {
        // Who may make a token may be anybody: only who may be that already.
        Some(_) if is_token(attributes) && !policy.has_everything(user) => Decision::Denied,
        Some(grant) => Decision::Role(grant),
        None => Decision::Denied,
    }
}

fn joins(attributes: &Attributes<'_>) -> bool {
    matches!(attributes.what, What::Resource(item)
        if (item.group, item.resource, item.subresource) == (OWN_GROUP, "nodes", "certificate"))
        && attributes.verb == "create"
}

fn is_token(attributes: &Attributes<'_>) -> bool {
    matches!(attributes.what, What::Resource(item) if (item.group, item.resource) == (OWN_GROUP, TOKENS))
}
