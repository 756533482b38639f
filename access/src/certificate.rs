//! Who a client certificate says somebody is.
//!
//! The name is the subject's CommonName and the groups are its Organizations, as in Kubernetes (apiserver
//! `pkg/authentication/request/x509`). Whether an authority that is trusted here has signed it, and whether the client holds its
//! key, was asked before; when it ends is asked with each request, since a connection may outlive it.

use std::sync::Arc;

use jiff::Timestamp;
use ring::digest;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::User;

/// The key in `extra` by which Kubernetes names the credential that was used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Groups that one certificate may name.
const GROUPS_MOST: usize = 64;

/// What a connection's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub user: Arc<User>,
    /// After this it is worth nothing.
    pub not_after: Timestamp,
}

/// Why a certificate names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate is no X.509 certificate")]
    Malformed,
    #[error("the certificate's subject has no CommonName")]
    Nameless,
    #[error("the certificate's subject has more than {GROUPS_MOST} Organizations")]
    Groups,
}

impl Certificate {
    /// Reads a certificate in DER that was verified.
    ///
    /// # Errors
    /// When it names nobody.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let subject = certificate.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
        let name = subject.iter_common_name().next().and_then(text).filter(|name| !name.is_empty());
        let name = name.ok_or(CertificateError::Nameless)?;
        let mut groups = Vec::new();
        for group in subject.iter_organization() {
            if groups.len() == GROUPS_MOST {
                return Err(CertificateError::Groups);
            }
            groups.push(text(group).ok_or(CertificateError::Malformed)?);
        }
        let mut user = User::named(name, groups);
        user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={}", hex(&sha256(der)))]);
        let ends = certificate.validity().not_after.timestamp();
        let not_after = Timestamp::from_second(ends).map_err(|_| CertificateError::Malformed)?;
        Ok(Self { user: Arc::new(user), not_after })
    }

    /// Whether it is worth something at this moment.
    pub fn holds(&self, now: Timestamp) -> bool {
        now <= self.not_after
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(attributes: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn name_and_groups_are_the_subjects() {
        let der = certificate(&[(DnType::CommonName, "system:node:web-1"), (DnType::OrganizationName, "system:nodes")]);
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.user.node_name(), Some("web-1"));
        assert_eq!(read.user.groups, ["system:nodes", "system:authenticated"]);
        assert!(read.user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(read.not_after, "2031-02-03T00:00:00Z".parse().unwrap());
        assert!(read.holds("2031-02-03T00:00:00Z".parse().unwrap()));
        assert!(!read.holds("2031-02-03T00:00:01Z".parse().unwrap()));
    }

    #[test]
    fn a_certificate_without_a_name_is_nobodys() {
        let der = certificate(&[(DnType::OrganizationName, "system:masters")]);
        assert_eq!(Certificate::read(&der), Err(CertificateError::Nameless));
        assert_eq!(Certificate::read(b"not a certificate"), Err(CertificateError::Malformed));
    }
}
