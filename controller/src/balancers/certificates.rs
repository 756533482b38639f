//! Whether a Secret has a certificate that a listener can show: it is there, shared with the Service, readable, and its
//! time has come and has not passed. Whether key and certificate belong together the edge node finds out, which loads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::Object;
use model::types::{Listener, SecretReference};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::failure::Failure;

/// Annotation of a Secret: the Namespaces whose Services may show its certificate, with commas between, or `*`.
pub(crate) const SHARE_WITH: &str = "portolan.dev/share-with";

/// The type of a Secret that edge nodes may read.
const TYPE: &str = "kubernetes.io/tls";

/// What is read of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// `tls.crt` and `tls.key`.
    Show,
    /// `ca.crt`.
    Trust,
}

/// The Secrets of a listener, each once for each use.
pub(crate) fn of(listener: &Listener) -> Vec<(SecretReference, Use)> {
    let Some(tls) = &listener.tls else { return Vec::new() };
    let shown = tls.certificates.iter().chain(tls.domains.iter().map(|domain| &domain.secret));
    let shown = shown.map(|secret| (secret.clone(), Use::Show));
    shown.chain(tls.client_ca.iter().map(|secret| (secret.clone(), Use::Trust))).collect()
}

/// Checks a Secret for a Service of this Namespace. Returns when it has to be looked at again: at its end.
///
/// # Errors
/// Why it cannot be used; with a moment if it can be from then on.
pub(crate) fn check(
    name: &SecretReference,
    secret: Option<&Object>,
    of: Use,
    namespace: &str,
    now: Timestamp,
) -> Result<Timestamp, (Failure, Option<Timestamp>)> {
    let shown = format!("{}/{}", name.namespace, name.name);
    let fail = |reason, message: String| (Failure::new(reason, message), None);
    let Some(secret) = secret else {
        let create = format!("kubectl create secret tls {} -n {} --cert=… --key=…", name.name, name.namespace);
        return Err(fail("CertificateMissing", format!("there is no Secret {shown}; create it ({create})")));
    };
    if name.namespace != namespace && !shared(secret, namespace) {
        let message = format!(
            "Secret {shown} is another Namespace's and not shared; have its annotation {SHARE_WITH} name {namespace}"
        );
        return Err(fail("CertificateNotShared", message));
    }
    let value = secret.value().unwrap_or_default();
    if value["type"] != TYPE {
        let message = format!("Secret {shown} is of type {}, and must be {TYPE}; make it anew", value["type"]);
        return Err(fail("CertificateInvalid", message));
    }
    let invalid = |message: &str| fail("CertificateInvalid", format!("Secret {shown}: {message}"));
    let key = if of == Use::Show { "tls.crt" } else { "ca.crt" };
    let pem = data(&value, key).ok_or_else(|| invalid(&format!("{key} is not there; add it in PEM")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates =
        certificates.map_err(|e| invalid(&format!("{key} is not PEM ({e}); put a certificate there")))?;
    let first =
        certificates.first().ok_or_else(|| invalid(&format!("{key} has no certificate in PEM; put one there")))?;
    let (_, certificate) =
        X509Certificate::from_der(first).map_err(|e| invalid(&format!("{key} is no certificate ({e}); replace it")))?;
    if of == Use::Show {
        let pem = data(&value, "tls.key").unwrap_or_default();
        PrivateKeyDer::from_pem_slice(&pem).map_err(|e| invalid(&format!("tls.key is no private key ({e})")))?;
    }
    let validity = certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    let (from, until) = (time(validity.not_before), time(validity.not_after));
    if until < now {
        let message = format!("the certificate of Secret {shown} has expired at {until}; replace it");
        return Err(fail("CertificateExpired", message));
    }
    if now < from {
        let message = format!("the certificate of Secret {shown} is valid from {from} on; replace it, or wait");
        return Err((Failure::new("CertificateInvalid", message), Some(from)));
    }
    Ok(until)
}

fn shared(secret: &Object, namespace: &str) -> bool {
    let with = secret.meta().annotations.get(SHARE_WITH).map(String::as_str).unwrap_or_default();
    with.split(',').map(str::trim).any(|one| one == "*" || one == namespace)
}

fn data(secret: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret["data"][key].as_str()?).ok()
}
