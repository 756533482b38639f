//! The cluster's authority, known by a hash before anything else is: how a machine that has nothing but a line of text finds
//! out that it speaks to the right server, before it says anything that is secret.
//!
//! The server sends its authority's certificate as the last of its chain. It is believed if its public key has the hash that
//! the line names (kubeadm's `--discovery-token-ca-cert-hash` is the same number), and if the server's own certificate is one
//! that it has signed, for the name that was dialled, at this time. So a false server learns nothing, and a false hash
//! joins nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider};
use tokio_rustls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::ClientError;
use super::server::Server;

/// SHA-256 of an authority's public key (its SubjectPublicKeyInfo in DER), written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaHash([u8; 32]);

const ALGORITHM: &str = "sha256:";

impl CaHash {
    /// Of a certificate in DER; `None` if it is none.
    pub fn of_der(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
        digest.as_ref().try_into().ok().map(Self)
    }

    /// Of the first certificate in a PEM text; `None` if there is none.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        CertificateDer::from_pem_slice(pem).ok().and_then(|der| Self::of_der(&der))
    }
}

impl FromStr for CaHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let example =
                "write it as sha256: and 64 hexadecimal digits, as `portolan token create --node-join` prints it";
            format!("{text:?} is no hash of an authority; {example}")
        };
        let digits = text.strip_prefix(ALGORITHM).filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the authority was not found.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// None of the certificates that the server shows has the hash; here is the last one's.
    #[error("the server's authority is not the one that was expected")]
    Other { shown: Option<CaHash> },
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Asks the server at `url` for the certificate of its authority, in PEM. Nothing is sent but the handshake.
///
/// # Errors
/// When the server cannot be reached, is not to be believed, or has another authority.
pub async fn find(url: &str, expected: CaHash) -> Result<String, AuthorityError> {
    let provider = Arc::new(provider::default_provider());
    let verifier = Arc::new(Pinned { expected, provider: Arc::clone(&provider), seen: Mutex::default() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connected = Server::believed_by(url, config)?.connect(http::Version::HTTP_11, &watch::Sender::default()).await;
    let seen = std::mem::take(&mut *verifier.seen.lock().unwrap_or_else(PoisonError::into_inner));
    match (connected, seen) {
        (Ok(_), Seen::Authority(der)) => Ok(pem(&der)),
        (_, Seen::Other(shown)) => Err(AuthorityError::Other { shown }),
        (Err(error), _) => Err(error.into()),
        // Only a server without TLS is not verified, and `url` begins with https://.
        (Ok(_), Seen::Nothing) => Err(AuthorityError::Other { shown: None }),
    }
}

/// What the verifier has met.
#[derive(Debug, Default)]
enum Seen {
    #[default]
    Nothing,
    Other(Option<CaHash>),
    Authority(CertificateDer<'static>),
}

/// Believes a server if the authority with the expected hash does.
#[derive(Debug)]
struct Pinned {
    expected: CaHash,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

impl Pinned {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    fn saw(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = |certificate: &&CertificateDer<'_>| CaHash::of_der(certificate) == Some(self.expected);
        let Some(authority) = intermediates.iter().find(is_it) else {
            self.saw(Seen::Other(intermediates.last().and_then(|certificate| CaHash::of_der(certificate))));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.saw(Seen::Authority(authority.clone().into_owned()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

/// A certificate as text (RFC 7468: lines of 64).
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::testing::{Fake, Reply};

    /// An authority, and what it needs to sign.
    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
    }

    /// A server that shows these certificates after its own.
    async fn server(
        signed_by: &Issuer<'static, KeyPair>,
        params: CertificateParams,
        shown: &[CertificateDer<'static>],
    ) -> Fake {
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, signed_by).unwrap().der().clone()];
        chain.extend(shown.iter().cloned());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Fake::listen("127.0.0.1:0", Some(TlsAcceptor::from(Arc::new(config))), |_| Reply::Nothing).await
    }

    fn for_loopback() -> CertificateParams {
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap()
    }

    fn url(fake: &Fake) -> String {
        format!("https://{}", fake.address)
    }

    #[test]
    fn a_hash_is_that_of_the_public_key() {
        let (der, issuer) = authority();
        let spki = issuer.key().subject_public_key_info();
        let expected = ring::digest::digest(&ring::digest::SHA256, &spki);
        let hash = CaHash::of_der(&der).unwrap();
        assert_eq!(hash.0, expected.as_ref());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().replace("sha256:", "SHA256:").parse::<CaHash>().ok(), None);
        assert_eq!(CaHash::of_pem(pem(&der).as_bytes()), Some(hash));
        for wrong in [
            "",
            "sha256:",
            "sha256:12",
            &hash.to_string()[7..],
            &format!("{hash}0"),
            &format!("sha256:+{}", "0".repeat(63)),
        ] {
            assert!(wrong.parse::<CaHash>().unwrap_err().contains("portolan token create"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_authority_is_found_by_its_hash() {
        let (der, issuer) = authority();
        let fake = server(&issuer, for_loopback(), std::slice::from_ref(&der)).await;
        let found = find(&url(&fake), CaHash::of_der(&der).unwrap()).await.unwrap();
        assert_eq!(CertificateDer::from_pem_slice(found.as_bytes()).unwrap(), der);
        assert!(fake.asked().is_empty(), "nothing was asked");
    }

    #[tokio::test]
    async fn another_authority_is_not_believed() {
        let ((ours, _), (theirs, issuer)) = (authority(), authority());
        let expected = CaHash::of_der(&ours).unwrap();
        let fake = server(&issuer, for_loopback(), std::slice::from_ref(&theirs)).await;
        let error = find(&url(&fake), expected).await.unwrap_err();
        let hash = CaHash::of_der(&theirs);
        assert!(matches!(error, AuthorityError::Other { shown } if shown == hash), "{error:?}");
        // One that shows our authority, which has not signed it.
        let fake = server(&issuer, for_loopback(), std::slice::from_ref(&ours)).await;
        let error = find(&url(&fake), expected).await.unwrap_err();
        assert!(matches!(error, AuthorityError::Client(ClientError::Handshake { .. })), "{error:?}");
        // One that shows none.
        let fake = server(&issuer, for_loopback(), &[]).await;
        let error = find(&url(&fake), expected).await.unwrap_err();
        assert!(matches!(error, AuthorityError::Other { shown: None }), "{error:?}");
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_or_time_is_not_believed() {
        let (der, issuer) = authority();
        let mut over = for_loopback();
        over.not_after = rcgen::date_time_ymd(2020, 1, 1);
        for params in [CertificateParams::new(vec!["192.0.2.1".to_owned()]).unwrap(), over] {
            let fake = server(&issuer, params, std::slice::from_ref(&der)).await;
            let error = find(&url(&fake), CaHash::of_der(&der).unwrap()).await.unwrap_err();
            assert!(matches!(error, AuthorityError::Client(ClientError::Handshake { .. })), "{error:?}");
        }
    }
}
