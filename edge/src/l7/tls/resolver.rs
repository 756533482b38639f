//! Which certificate for which name.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::material::Pair;

/// Certificates by the names that clients ask for.
#[derive(Debug, Default)]
pub struct Resolver {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.org`, by what is behind the dot. A wildcard stands for one label (RFC 6125 §6.4.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Resolver {
    /// The first of a name stays.
    pub fn add(&mut self, name: &str, pair: &Pair) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (names, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent.to_owned()),
            None => (&mut self.exact, name),
        };
        names.entry(name).or_insert_with(|| Arc::clone(&pair.key));
    }

    pub fn by_default(&mut self, pair: &Pair) {
        self.default = Some(Arc::clone(&pair.key));
    }

    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.exact.is_empty() && self.wildcard.is_empty()
    }

    pub fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.').map(|(_, parent)| parent)?))
        });
        named.or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).map(Arc::clone)
    }
}
