//! Authentication: whoever a request is from ([`access::User`]).
//!
//! A certificate that TLS has verified goes before a token, as in kube-apiserver. Who shows nothing is `system:anonymous`, who
//! may see the pages that are open to all; who shows something that is worth nothing is told so, and is not anybody. Where the
//! answer stands: as `Arc<User>` among the extensions of the request, for everything behind [`crate::rim`].

mod bearer;

use std::sync::Arc;

use access::User;
use http::{HeaderMap, header::AUTHORIZATION};
use jiff::Timestamp;

use crate::peer::Peer;
use bearer::AdminToken;

/// Knows every kind of credential.
pub struct Authenticator {
    admin_token: AdminToken,
    admin: Arc<User>,
    anonymous: Arc<User>,
}

/// Credentials that are worth nothing: unknown, expired, revoked or meant for something else. Which of these is nobody's
/// business who does not hold better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worthless;

impl Authenticator {
    /// `token` is the admin's; an empty one is nobody's.
    pub fn new(token: &str) -> Self {
        Self {
            admin_token: AdminToken::new(token),
            admin: Arc::new(User::admin()),
            anonymous: Arc::new(User::anonymous()),
        }
    }

    /// Nobody in particular.
    pub fn anonymous(&self) -> Arc<User> {
        Arc::clone(&self.anonymous)
    }

    /// Who sends a request with these headers over this connection.
    ///
    /// # Errors
    /// For credentials that are worth nothing.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        now: Timestamp,
    ) -> Result<Arc<User>, Worthless> {
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        if let Some(certificate) = certificate.filter(|certificate| certificate.holds(now)) {
            return Ok(Arc::clone(&certificate.user));
        }
        match (headers.get(AUTHORIZATION), certificate) {
            (None, None) => Ok(self.anonymous()),
            (None, Some(_)) => Err(Worthless),
            (Some(value), _) => {
                let token = bearer::presented(value.as_bytes()).ok_or(Worthless)?;
                if self.admin_token.is(token) { Ok(Arc::clone(&self.admin)) } else { Err(Worthless) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
