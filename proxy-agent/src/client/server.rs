//! Where the server is and how it is trusted: the URL taken apart, and TLS with exactly the certificates given.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Uri, Version};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::connection::{Connection, Cut, Cuts};
use super::error::ClientError;

/// The versions of HTTP as TLS names them.
const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";
/// How long a connection may take to open, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone is noticed after `KEEPALIVE_IDLE + KEEPALIVE_PROBES * KEEPALIVE_INTERVAL`, 30 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged within this time ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom the client believes, and what it shows of itself. PEM throughout.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    pub ca_pem: Option<Vec<u8>>,
    pub identity: Option<Identity>,
}

/// A client certificate chain and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub certificate_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

/// One server: its address, and how a connection to it is made.
pub(super) struct Server {
    url: String,
    host: String,
    port: u16,
    /// Path before `/api`, without a slash at its end; usually empty.
    prefix: String,
    authority: HeaderValue,
    tls: Option<Tls>,
}

/// How a connection is made secret. What it is made by can be replaced, for the connections that come.
struct Tls {
    connector: RwLock<TlsConnector>,
    name: ServerName<'static>,
    /// Without the identity.
    trust: Trust,
}

impl Server {
    pub fn new(url: &str, tls_server_name: Option<&str>, trust: &Trust) -> Result<Self, ClientError> {
        Self::with(url, tls_server_name, trust, || tls_config(trust))
    }

    /// A server that is believed if this configuration believes it.
    pub fn believed_by(url: &str, config: ClientConfig) -> Result<Self, ClientError> {
        Self::with(url, None, &Trust::default(), || Ok(config))
    }

    fn with(
        url: &str,
        tls_server_name: Option<&str>,
        trust: &Trust,
        config: impl FnOnce() -> Result<ClientConfig, ClientError>,
    ) -> Result<Self, ClientError> {
        let bad = |reason: String| ClientError::Setup { what: "the server URL", reason: format!("{url:?} {reason}") };
        let uri: Uri = url.parse().map_err(|e| bad(format!("is not a URL ({e})")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("must begin with https:// or http://".into())),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host".into()))?;
        if authority.as_str().contains('@') {
            return Err(bad("has a user name in it; use a token".into()));
        }
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("names no host".into()));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let header = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("names no host".into()))?;
        let tls = if secure {
            let name = tls_server_name.unwrap_or(&host).to_owned();
            let name = ServerName::try_from(name.clone())
                .map_err(|_| bad(format!("has a host, {name:?}, that no certificate can name")))?;
            let connector = RwLock::new(TlsConnector::from(Arc::new(config()?)));
            Some(Tls { connector, name, trust: Trust { ca_pem: trust.ca_pem.clone(), identity: None } })
        } else {
            None
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { url: url.to_owned(), host, port, prefix, authority: header, tls })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.trust.ca_pem.as_deref()
    }

    /// Shows another certificate from the next connection on. The sessions that could be resumed are forgotten: the server
    /// would take whoever resumes one for whom he was when it began.
    pub fn identify(&self, identity: Identity) -> Result<(), ClientError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let config = tls_config(&Trust { identity: Some(identity), ..tls.trust.clone() })?;
        *tls.connector.write().unwrap_or_else(PoisonError::into_inner) = TlsConnector::from(Arc::new(config));
        Ok(())
    }

    /// Whether it can be asked for connections that requests share.
    pub fn may_share(&self) -> bool {
        self.tls.is_some()
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands in the `Host` header.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The source address that the kernel would choose for packets to the server.
    pub async fn local_address(&self) -> io::Result<IpAddr> {
        let remote = tokio::net::lookup_host((self.host.as_str(), self.port)).await?.next();
        let remote = remote.ok_or(io::ErrorKind::NotFound)?;
        let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(remote).await?;
        Ok(socket.local_addr()?.ip())
    }

    /// Opens a connection of this version of HTTP, or an older one, within [`CONNECT_TIMEOUT`]. The opening ends whatever is
    /// given up, and the connection when it is.
    pub async fn connect(&self, version: Version, cut: &watch::Sender<Cut>) -> Result<Connection, ClientError> {
        let timeout = |_| ClientError::Timeout { what: "connecting to the server", limit: CONNECT_TIMEOUT };
        let cuts = Cuts::of(cut);
        let (mut given_up, later) = (cuts.clone(), cuts);
        tokio::select! {
            opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open(version, later)) => opened.map_err(timeout)?,
            () = given_up.any() => Err(ClientError::GivenUp),
        }
    }

    async fn open(&self, version: Version, cuts: Cuts) -> Result<Connection, ClientError> {
        let address = self.to_string();
        let stream = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            prepare(&stream)?;
            Ok::<_, io::Error>(stream)
        };
        let stream = stream.await.map_err(|source| ClientError::Connect { address: address.clone(), source })?;
        match &self.tls {
            None => Connection::start(stream, Version::HTTP_11, cuts).await,
            Some(tls) => {
                let connector = tls.connector.read().unwrap_or_else(PoisonError::into_inner).clone();
                let offered = if version == Version::HTTP_2 { [H2, HTTP_11].as_slice() } else { &[HTTP_11] };
                let offered = offered.iter().map(|name| name.to_vec()).collect();
                let stream = connector.with_alpn(offered).connect(tls.name.clone(), stream).await;
                let stream = stream.map_err(|source| ClientError::Handshake { address, source })?;
                let multiplexed = stream.get_ref().1.alpn_protocol() == Some(H2);
                let version = if multiplexed { Version::HTTP_2 } else { Version::HTTP_11 };
                Connection::start(stream, version, cuts).await
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Small requests leave at once, and a host that vanished is noticed while nothing is being sent.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn tls_config(trust: &Trust) -> Result<ClientConfig, ClientError> {
    let bad = |what, reason: String| ClientError::Setup { what, reason };
    let Some(ca_pem) = &trust.ca_pem else {
        let reason = "an https server needs certificate-authority or certificate-authority-data";
        return Err(bad("the certificate authority", reason.into()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the certificate authority", ca_pem)? {
        roots.add(certificate).map_err(ClientError::Tls)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots);
    match &trust.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let chain = certificates("the client certificate", &identity.certificate_pem)?;
            let key = PrivateKeyDer::from_pem_slice(&identity.key_pem)
                .map_err(|e| bad("the client key", format!("it is no PEM private key ({e})")))?;
            builder.with_client_auth_cert(chain, key).map_err(ClientError::Tls)
        }
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let list = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| ClientError::Setup { what, reason: format!("it is no PEM certificate ({e})") })?;
    if list.is_empty() {
        return Err(ClientError::Setup { what, reason: "there is no PEM certificate in it".into() });
    }
    Ok(list)
}
