//! Roles and bindings as Kubernetes has them (rbac.authorization.k8s.io/v1): what is stored goes in as JSON, and an answer comes
//! out.
//!
//! A rule can only allow. So an answer needs the bindings of one user and of their groups, which [`Policy`] keeps by their
//! names, and not the others: it costs lookups in proportion to what somebody is bound to, however many bindings there are.

mod cover;
mod object;
mod policy;
mod rule;

pub use cover::{CoverError, covers};
pub use object::{Binding, ObjectError, Role, RoleRef, Subject};
pub use policy::{Grant, Policy};
pub use rule::PolicyRule;

/// The group of the four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";
