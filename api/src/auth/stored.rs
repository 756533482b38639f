//! Tokens that are worth something as long as an object of the store says so: Tokens themselves, and the tokens of
//! ServiceAccounts. Looked up with each request: what is deleted opens nothing from that moment on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use access::User;
use access::service_account::{Claims, Reference, Signer};
use access::token::{Shown, TokenSpec};
use jiff::Timestamp;
use model::Resource;
use store::Store;

use super::Worthless;

/// Tokens whose signature is remembered: to check one takes longer than the rest of a small request.
const REMEMBERED_MOST: usize = 1024;

/// Knows the tokens of a store.
pub struct StoredTokens {
    store: Store,
    /// None: there are no tokens of ServiceAccounts.
    signer: Option<Arc<Signer>>,
    signed: Mutex<HashMap<Box<str>, Signed>>,
}

/// What a token says that this server has signed.
#[derive(Clone)]
struct Signed {
    claims: Arc<Claims>,
    user: Arc<User>,
}

impl StoredTokens {
    pub fn new(store: Store, signer: Option<Arc<Signer>>) -> Self {
        Self { store, signer, signed: Mutex::default() }
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// When it is worth nothing; the log says why.
    pub fn user(&self, token: &str, now: Timestamp) -> Result<Arc<User>, Worthless> {
        match Shown::parse(token) {
            Some(shown) => self.of_object(shown, now),
            None => self.of_account(token, now),
        }
    }

    fn of_object(&self, shown: Shown<'_>, now: Timestamp) -> Result<Arc<User>, Worthless> {
        let worthless = |why: &dyn std::fmt::Display| {
            tracing::debug!(token = shown.id, "a token is refused: {why}");
            Worthless
        };
        let stored = self.store.get(Resource::Tokens, "", shown.id).ok_or_else(|| worthless(&"there is none"))?;
        if stored.meta().terminating() {
            return Err(worthless(&"it is being deleted"));
        }
        let user = TokenSpec::read(&stored.bytes).and_then(|spec| spec.user(shown, now));
        user.map(Arc::new).map_err(|error| worthless(&error))
    }

    fn of_account(&self, token: &str, now: Timestamp) -> Result<Arc<User>, Worthless> {
        let signed = self.signed(token)?;
        let claims = &signed.claims;
        if let Err(error) = claims.check(now) {
            tracing::debug!(account = claims.sub, "a token of a ServiceAccount is refused: {error}");
            return Err(Worthless);
        }
        let bound = &claims.kubernetes;
        let there = |resource, namespace: &str, reference: &Reference| {
            let object = self.store.get(resource, namespace, &reference.name);
            object.is_some_and(|object| object.meta().uid() == reference.uid)
        };
        let holds = there(Resource::ServiceAccounts, &bound.namespace, &bound.serviceaccount)
            && bound.pod.as_ref().is_none_or(|pod| there(Resource::Pods, &bound.namespace, pod))
            && bound.node.as_ref().is_none_or(|node| there(Resource::Nodes, "", node));
        if !holds {
            tracing::debug!(
                account = claims.sub,
                "a token of a ServiceAccount is refused: what it is bound to is gone"
            );
            return Err(Worthless);
        }
        Ok(signed.user)
    }

    /// What the token says, if this server has signed it.
    fn signed(&self, token: &str) -> Result<Signed, Worthless> {
        let signer = self.signer.as_ref().ok_or(Worthless)?;
        let known = || self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = known().get(token) {
            return Ok(signed.clone());
        }
        let claims = signer.read(token).map_err(|_| Worthless)?;
        let signed = Signed { user: Arc::new(claims.user()), claims: Arc::new(claims) };
        let mut known = known();
        if known.len() >= REMEMBERED_MOST {
            known.clear();
        }
        known.insert(token.into(), signed.clone());
        Ok(signed)
    }
}
