//! What a Secret of type kubernetes.io/tls holds, read once.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A Secret's certificate, key and authority, as far as each can be used. Two with the same bytes are equal.
pub struct Material {
    bytes: [Vec<u8>; 3],
    pair: Result<Pair, String>,
    authority: Result<Arc<RootCertStore>, String>,
}

impl PartialEq for Material {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

/// The bytes are not shown: a key is among them.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("pair", &self.pair).field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Pair {
    pub key: Arc<CertifiedKey>,
    /// The DNS names and addresses in the certificate.
    pub names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl Material {
    /// From the values of `tls.crt`, `tls.key` and `ca.crt`, each PEM; empty: not there.
    pub fn new(certificate: &[u8], key: &[u8], authority: &[u8]) -> Self {
        Self {
            pair: Pair::read(certificate, key),
            authority: roots(authority),
            bytes: [certificate.to_vec(), key.to_vec(), authority.to_vec()],
        }
    }

    /// To show to clients; else what is wrong with it.
    ///
    /// # Errors
    /// Words for people.
    pub fn pair(&self) -> Result<&Pair, &str> {
        self.pair.as_ref().map_err(String::as_str)
    }

    /// To judge clients by; else what is wrong with it.
    ///
    /// # Errors
    /// Words for people.
    pub fn authority(&self) -> Result<&Arc<RootCertStore>, &str> {
        self.authority.as_ref().map_err(String::as_str)
    }
}

impl Pair {
    fn read(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("tls.crt is not PEM ({error}); put the certificate there, then its issuers"))?;
        let Some(own) = chain.first() else {
            return Err("tls.crt holds no certificate; put the certificate there, then its issuers".to_owned());
        };
        let (_, parsed) = X509Certificate::from_der(own)
            .map_err(|error| format!("the first certificate of tls.crt cannot be read ({error}); renew it"))?;
        let names = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .into_iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("tls.key is no key in PEM ({error}); put the certificate's key there"))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| format!("tls.key is not the key of tls.crt ({error}); put both there from one issue"))?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// In words, if its time is not now.
    pub fn when_not_valid(&self, now: Timestamp) -> Option<String> {
        let time = |seconds| Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string());
        if now.as_second() > self.not_after {
            Some(format!("its certificate has expired at {}; renew it", time(self.not_after)))
        } else if now.as_second() < self.not_before {
            Some(format!("its certificate is not valid before {}; check the clock, or renew it", time(self.not_before)))
        } else {
            None
        }
    }
}

fn roots(authority: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|error| format!("ca.crt is not PEM ({error})"))?;
        roots.add(certificate).map_err(|error| format!("a certificate of ca.crt cannot be used ({error})"))?;
    }
    if roots.is_empty() {
        return Err("ca.crt holds no certificate; put that of the clients' authority there".to_owned());
    }
    Ok(Arc::new(roots))
}
