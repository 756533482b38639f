//! Certificates and how TLS is spoken.

use super::super::annotations::Reader;
use crate::syntax::dns1123_subdomain;
use crate::types::{DomainCertificate, ListenerProtocol, SecretReference, Service, TlsSettings};

pub(super) struct Tls {
    certificates: Vec<SecretReference>,
    domains: Vec<DomainCertificate>,
    cipher_policy: String,
    client_ca: Option<SecretReference>,
    alpn_policy: Option<&'static str>,
}

pub(super) fn read(service: &Service, reader: &Reader<'_>) -> Tls {
    let namespace = service.metadata.namespace();
    let mut certificates = reader.entries("cert-id", |text| secret(text, namespace));
    certificates.extend(reader.entries("additional-cert-ids", |text| secret(text, namespace)));
    let domains = reader.entries("domain-extensions", |part| {
        let (domain, name) = part.split_once(':').ok_or("is not of the form domain:Secret")?;
        let domain = domain.trim().to_ascii_lowercase();
        if let Some(problem) = dns1123_subdomain(domain.strip_prefix("*.").unwrap_or(&domain)).pop() {
            return Err(problem);
        }
        Ok(DomainCertificate { domain, secret: secret(name.trim(), namespace)? })
    });
    Tls {
        certificates,
        domains,
        cipher_policy: cipher_policy(reader),
        client_ca: client_ca(reader, namespace),
        alpn_policy: alpn(reader),
    }
}

impl Tls {
    /// The settings of a listener, if it speaks TLS. It must have a certificate.
    pub(super) fn of(&self, protocol: ListenerProtocol, port: u16, reader: &Reader<'_>) -> Option<TlsSettings> {
        let https = match protocol {
            ListenerProtocol::Https => true,
            ListenerProtocol::TcpSsl => false,
            ListenerProtocol::Tcp | ListenerProtocol::Udp | ListenerProtocol::Http => return None,
        };
        if self.certificates.is_empty() {
            reader.refuse_setting(
                "cert-id",
                format!("the listener at port {port} needs a certificate; name a Secret of type kubernetes.io/tls"),
            );
        }
        Some(TlsSettings {
            certificates: self.certificates.clone(),
            domains: if https { self.domains.clone() } else { Vec::new() },
            cipher_policy: self.cipher_policy.clone(),
            client_ca: self.client_ca.clone(),
            alpn_policy: self.alpn_policy.filter(|_| !https).map(str::to_owned),
        })
    }
}

/// `NAME` in the Service's own Namespace, or `NAMESPACE/NAME`. Whether that one is shared is the Secret's to say.
fn secret(text: &str, namespace: &str) -> Result<SecretReference, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    for part in [namespace, name] {
        if let Some(problem) = dns1123_subdomain(part).pop() {
            return Err(format!("is not of the form NAME or NAMESPACE/NAME: {problem}"));
        }
    }
    Ok(SecretReference { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn cipher_policy(reader: &Reader<'_>) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("tls_cipher_policy_1_0", "tls_cipher_policy_1_0"),
        ("tls_cipher_policy_1_1", "tls_cipher_policy_1_1"),
        ("tls_cipher_policy_1_2", "tls_cipher_policy_1_2"),
        ("tls_cipher_policy_1_2_strict", "tls_cipher_policy_1_2_strict"),
        ("tls_cipher_policy_1_2_strict_with_1_3", "tls_cipher_policy_1_2_strict_with_1_3"),
    ];
    reader.choice("tls-cipher-policy", &WORDS).unwrap_or_default().to_owned()
}

fn client_ca(reader: &Reader<'_>, namespace: &str) -> Option<SecretReference> {
    let mut secrets = reader.entries("cacert-id", |text| secret(text, namespace));
    if secrets.len() > 1 {
        reader.refuse_setting("cacert-id", "name one Secret; its ca.crt may have several certificates");
    }
    if reader.switch("cacert") != Some(true) {
        return None;
    }
    if secrets.is_empty() {
        reader.refuse_setting("cacert-id", "cacert is on; name a Secret whose ca.crt has the authority's certificate");
    }
    secrets.pop()
}

fn alpn(reader: &Reader<'_>) -> Option<&'static str> {
    const DEFAULT: &str = "HTTP2Optional";
    const WORDS: [(&str, &str); 4] = [
        ("HTTP1Only", "HTTP1Only"),
        ("HTTP2Only", "HTTP2Only"),
        ("HTTP2Preferred", "HTTP2Preferred"),
        (DEFAULT, DEFAULT),
    ];
    let policy = reader.choice("alpn-policy", &WORDS);
    (reader.switch("alpn") == Some(true)).then(|| policy.unwrap_or(DEFAULT))
}
