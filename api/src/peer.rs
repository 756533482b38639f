//! Who is at the other end of a connection, as far as the connection itself tells: an address, and a certificate that TLS has
//! verified. Every request that came over a socket carries it as an extension; one that a test hands to the router has none.

use std::net::SocketAddr;
use std::sync::Arc;

use access::Certificate;
use tokio_rustls::rustls::ServerConnection;

/// The other end.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub certificate: Option<Arc<Certificate>>,
}

impl Peer {
    /// One that has shown no certificate.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, certificate: None }
    }

    /// One behind TLS. A certificate that names nobody counts as none, and the log says why.
    pub fn behind(address: SocketAddr, session: &ServerConnection) -> Self {
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.and_then(|der| match Certificate::read(der) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err(error) => {
                tracing::info!(%address, "a client's certificate is passed over: {error}");
                None
            }
        });
        Self { address, certificate }
    }
}
