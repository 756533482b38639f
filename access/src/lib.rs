//! Who somebody is, and what they may do.
//!
//! Pure: credentials and policy come in as arguments, an answer goes out. What is read from a request or from the store
//! is `api`'s to bring; no name here knows of sockets, HTTP or a clock of its own.

mod certificate;
pub mod user;

pub use certificate::{CREDENTIAL_ID, Certificate, CertificateError};
pub use user::User;
