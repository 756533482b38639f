//! Who somebody is, and what they may do.
//!
//! Pure: credentials and policy come in as arguments, an answer goes out. What is read from a request or from the store
//! is `api`'s to bring; no name here knows of sockets, HTTP or a clock of its own.
//!
//! *Who*: a certificate ([`Certificate`]), a token that is an object ([`token`]), or a token of a ServiceAccount
//! ([`service_account`]) makes a [`User`]. *May they*: [`decide`] asks in this order: masters may everything, a join token is for
//! joining alone, a node has what nodes have ([`node`]), an edge node what edge nodes have ([`edge`]), everybody has what roles allow them ([`rbac`]). Nothing forbids but the
//! lack of a rule, with one exception: a node's writes are restricted to what is its own whatever a role allows.

mod attributes;
mod certificate;
mod decide;
pub mod defaults;
pub mod edge;
pub mod node;
pub mod rbac;
pub mod service_account;
pub mod token;
pub mod user;

pub use attributes::{Attributes, Item, What};
pub use certificate::{CREDENTIAL_ID, Certificate, CertificateError};
pub use decide::{Decision, decide};
pub use user::User;
