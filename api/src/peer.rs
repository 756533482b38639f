//! Who is at the other end of a connection, as far as the connection itself tells: an address, and the certificate that was
//! shown. Every request that came over a socket carries it as an extension; one that a test hands to the router has none.
//!
//! TLS has asked the client for proof that it holds the certificate's key, and for nothing else: a certificate that is worth
//! nothing is to be answered 401, not with a connection that breaks while the first request is written, which is what TLS 1.3
//! makes of an alert. So it is judged here, once for a connection, and its end is asked with each request.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use access::Certificate;
use tokio_rustls::rustls::ServerConnection;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

/// The other end.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub certificate: Option<Arc<Shown>>,
}

/// A certificate that was shown, with those that lead from it to an authority.
#[derive(Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// What it says, if it is worth anything.
    judged: OnceLock<Option<Certificate>>,
}

impl Peer {
    /// One that has shown no certificate.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }

    /// One behind TLS.
    pub fn behind(address: SocketAddr, session: &ServerConnection) -> Self {
        let chain = session.peer_certificates().filter(|chain| !chain.is_empty());
        let shown = |chain: &[CertificateDer<'_>]| {
            let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
            Arc::new(Shown { chain, judged: OnceLock::new() })
        };
        Self { address, certificate: chain.map(shown) }
    }
}

impl Shown {
    /// One that was judged already.
    pub fn judged(certificate: Certificate) -> Self {
        Self { chain: Vec::new(), judged: OnceLock::from(Some(certificate)) }
    }

    /// What the certificate says, if the verifier knows who has signed it. Without one it is worth nothing.
    pub fn certificate(&self, verifier: Option<&dyn ClientCertVerifier>) -> Option<&Certificate> {
        self.judged.get_or_init(|| self.judge(verifier?)).as_ref()
    }

    fn judge(&self, verifier: &dyn ClientCertVerifier) -> Option<Certificate> {
        let (own, between) = self.chain.split_first()?;
        if let Err(error) = verifier.verify_client_cert(own, between, UnixTime::now()) {
            tracing::info!("a client's certificate is refused: {error}");
            return None;
        }
        Certificate::read(own).inspect_err(|error| tracing::info!("a client's certificate is refused: {error}")).ok()
    }
}
