//! Authentication: whoever a request is from ([`access::User`]).
//!
//! A certificate that this cluster's authority has signed goes before a token, as in kube-apiserver. Who shows nothing is `system:anonymous`, who
//! may see the pages that are open to all; who shows something that is worth nothing is told so, and is not anybody. Where the
//! answer stands: as `Arc<User>` among the extensions of the request, for everything behind [`crate::rim`].

mod bearer;
mod impersonate;
mod stored;

use std::sync::Arc;

use access::User;
use http::{HeaderMap, header::AUTHORIZATION};
use jiff::Timestamp;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

use crate::Config;
use crate::peer::Peer;
use bearer::AdminToken;
pub use impersonate::impersonated;
use stored::StoredTokens;

/// Knows every kind of credential.
pub struct Authenticator {
    admin_token: AdminToken,
    admin: Arc<User>,
    anonymous: Arc<User>,
    stored: StoredTokens,
    /// Judges certificates.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// Credentials that are worth nothing: unknown, expired, revoked or meant for something else. Which of these is nobody's
/// business who does not hold better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worthless;

impl Authenticator {
    pub fn new(config: &Config) -> Self {
        Self {
            admin_token: AdminToken::new(&config.token),
            admin: Arc::new(User::admin()),
            anonymous: Arc::new(User::anonymous()),
            stored: StoredTokens::new(config.store.clone(), config.signer.clone()),
            clients: config.clients.clone(),
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
        let shown = peer.and_then(|peer| peer.certificate.as_ref());
        let certificate = shown.and_then(|shown| shown.certificate(self.clients.as_deref()));
        if let Some(certificate) = certificate.filter(|certificate| certificate.holds(now)) {
            return Ok(Arc::clone(&certificate.user));
        }
        match (headers.get(AUTHORIZATION), shown) {
            (None, None) => Ok(self.anonymous()),
            (None, Some(_)) => Err(Worthless),
            (Some(value), _) => {
                let token = bearer::presented(value.as_bytes()).ok_or(Worthless)?;
                if self.admin_token.is(token) {
                    return Ok(Arc::clone(&self.admin));
                }
                self.stored.user(std::str::from_utf8(token).map_err(|_| Worthless)?, now)
            }
        }
    }
}

#[cfg(test)]
mod tests;
