//! TLS: who is shown which certificate, what is spoken, who is let in, and what happens when a Secret is no good.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;

use edge::l7::Material;
use jiff::{Timestamp, ToSpan};
use model::types::{DomainCertificate, ListenerProtocol, SecretReference, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::support::{Edge, Wire, echo, listener, server};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key in PEM, valid until so many hours from now.
    fn issue(&self, names: &[&str], hours: i64) -> (String, String) {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        let until = Timestamp::now() + hours.hours();
        let day = until.to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_after =
            rcgen::date_time_ymd(day.year().into(), day.month().cast_unsigned(), day.day().cast_unsigned());
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &*self.0).unwrap().pem(), key.serialize_pem())
    }

    pub fn material(&self, names: &[&str]) -> Arc<Material> {
        let (certificate, key) = self.issue(names, 24 * 30);
        Arc::new(Material::new(certificate.as_bytes(), key.as_bytes(), b""))
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

pub fn secret(name: &str) -> SecretReference {
    SecretReference { namespace: "default".to_owned(), name: name.to_owned() }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A handshake, done; what the client says of it if not.
fn dial(edge: &Edge, config: ClientConfig, name: &str) -> Result<Wire<Stream>, String> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TcpStream::connect(edge.at).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|e| e.to_string())?;
    }
    Ok(Wire::over(StreamOwned::new(connection, stream)))
}

fn speaking(roots: RootCertStore, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let mut config =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

fn client(roots: RootCertStore) -> ClientConfig {
    speaking(roots, &[&TLS12, &TLS13], &[])
}

fn https(tls: TlsSettings) -> model::types::Listener {
    model::types::Listener { tls: Some(tls), ..listener(ListenerProtocol::Https) }
}

#[test]
fn names_find_their_certificates_and_new_ones_need_no_restart() {
    let authority = Authority::new();
    let tls = TlsSettings {
        certificates: vec![secret("first"), secret("more")],
        domains: vec![DomainCertificate { domain: "*.shop.example".to_owned(), secret: secret("shop") }],
        ..TlsSettings::default()
    };
    let material = BTreeMap::from([
        (secret("first"), authority.material(&["web.example"])),
        (secret("more"), authority.material(&["more.example"])),
        (secret("shop"), authority.material(&["*.shop.example"])),
    ]);
    let (mut edge, problems) = Edge::with(https(tls), &[echo("a")], material);
    assert_eq!(problems, []);
    for name in ["web.example", "MORE.example", "a.shop.example"] {
        let answer = dial(&edge, client(authority.roots()), name).unwrap().get("/");
        assert_eq!(answer.code(), 200, "{name}");
    }
    // Nobody has this one: the first is shown, which the client does not want.
    let refused = dial(&edge, client(authority.roots()), "a.b.shop.example").err().unwrap();
    assert!(refused.contains("not valid for name"), "{refused}");

    let mut open = dial(&edge, client(authority.roots()), "web.example").unwrap();
    edge.material.insert(secret("first"), authority.material(&["new.example"]));
    assert_eq!(edge.set(), []);
    dial(&edge, client(authority.roots()), "new.example").unwrap();
    assert!(dial(&edge, client(authority.roots()), "web.example").is_err());
    assert_eq!(open.get("/").code(), 200);
}

#[test]
fn a_bad_secret_is_told_and_takes_nothing_away() {
    let authority = Authority::new();
    let tls = TlsSettings { certificates: vec![secret("web")], ..TlsSettings::default() };
    let (mut edge, problems) = Edge::with(https(tls), &[echo("a")], BTreeMap::new());
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].message.starts_with("Secret default/web: it does not exist"), "{problems:?}");
    assert!(dial(&edge, client(authority.roots()), "web.example").is_err());

    let (certificate, key) = authority.issue(&["web.example"], 24 * 30);
    edge.material.insert(secret("web"), Arc::new(Material::new(certificate.as_bytes(), key.as_bytes(), b"")));
    assert_eq!(edge.set(), []);
    dial(&edge, client(authority.roots()), "web.example").unwrap();

    let (_, other) = authority.issue(&["web.example"], 24);
    for (certificate, key, word) in [
        (certificate.as_str(), other.as_str(), "tls.key is not the key of tls.crt"),
        ("", key.as_str(), "tls.crt holds no certificate"),
        (certificate.as_str(), "", "tls.key is no key"),
    ] {
        edge.material.insert(secret("web"), Arc::new(Material::new(certificate.as_bytes(), key.as_bytes(), b"")));
        let problems = edge.set();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains(word), "{problems:?}");
        assert!(problems[0].message.ends_with("; until then, what it held before is used"), "{problems:?}");
        dial(&edge, client(authority.roots()), "web.example").unwrap();
    }
    edge.material.clear();
    assert!(edge.set()[0].message.contains("it does not exist"));
    dial(&edge, client(authority.roots()), "web.example").unwrap();

    let (certificate, key) = authority.issue(&["web.example"], -48);
    edge.material.insert(secret("web"), Arc::new(Material::new(certificate.as_bytes(), key.as_bytes(), b"")));
    let problems = edge.set();
    assert!(
        problems[0].message.contains("has expired at") && problems[0].message.ends_with("; renew it"),
        "{problems:?}"
    );
}

#[test]
fn policies_say_what_is_spoken() {
    let authority = Authority::new();
    let material = BTreeMap::from([(secret("web"), authority.material(&["web.example"]))]);
    let tls = TlsSettings { certificates: vec![secret("web")], ..TlsSettings::default() };
    let (mut edge, _) = Edge::with(https(tls), &[echo("a")], material);
    for (policy, old, new) in [
        ("", true, true),
        ("tls_cipher_policy_1_0", true, true),
        ("tls_cipher_policy_1_1", true, true),
        ("tls_cipher_policy_1_2", true, true),
        ("tls_cipher_policy_1_2_strict", true, false),
        ("tls_cipher_policy_1_2_strict_with_1_3", true, true),
    ] {
        edge.listener.tls.as_mut().unwrap().cipher_policy = policy.to_owned();
        assert_eq!(edge.set(), []);
        for (version, may) in [(&TLS12, old), (&TLS13, new)] {
            let dialled = dial(&edge, speaking(authority.roots(), &[version], &[]), "web.example");
            assert_eq!(dialled.is_ok(), may, "{policy} {version:?}");
        }
    }
    let both = dial(&edge, client(authority.roots()), "web.example").unwrap();
    assert_eq!(both.stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn http2_is_offered_where_it_is_on() {
    let authority = Authority::new();
    let material = BTreeMap::from([(secret("web"), authority.material(&["web.example"]))]);
    let tls = TlsSettings { certificates: vec![secret("web")], ..TlsSettings::default() };
    let (mut edge, _) = Edge::with(https(tls), &[echo("a")], material);
    for (on, expected) in [(false, &b"http/1.1"[..]), (true, b"h2")] {
        edge.listener.http.as_mut().unwrap().http2 = on;
        edge.set();
        let config = speaking(authority.roots(), &[&TLS13], &["http/1.1", "h2"]);
        let wire = dial(&edge, config, "web.example").unwrap();
        assert_eq!(wire.stream.conn.alpn_protocol(), Some(expected));
    }
}

#[test]
fn clients_show_who_they_are_where_they_must() {
    let (authority, theirs) = (Authority::new(), Authority::new());
    let tls =
        TlsSettings { certificates: vec![secret("web")], client_ca: Some(secret("clients")), ..TlsSettings::default() };
    let mut listener = https(tls);
    listener.protocol = ListenerProtocol::TcpSsl;
    let material = BTreeMap::from([(secret("web"), authority.material(&["web.example"]))]);
    let (mut edge, problems) = Edge::with(listener, &[echo("a")], material);
    assert!(problems.iter().any(|p| p.message.contains("no client is let in")), "{problems:?}");
    assert!(dial(&edge, client(authority.roots()), "web.example").is_err());

    let ca = theirs.0.pem();
    edge.material.insert(secret("clients"), Arc::new(Material::new(b"", b"", ca.as_bytes())));
    assert_eq!(edge.set(), []);
    let ask = |config| {
        dial(&edge, config, "web.example").ok().and_then(|mut wire| {
            wire.try_say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            wire.try_hear()
        })
    };
    assert!(ask(client(authority.roots())).is_none());
    let with = |from: &Authority| {
        let (certificate, key) = from.issue(&["client"], 24 * 30);
        ClientConfig::builder()
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap()
    };
    assert!(ask(with(&authority)).is_none());
    assert_eq!(ask(with(&theirs)).unwrap().code(), 200);
}

#[test]
fn tcpssl_is_octets_and_offers_what_its_policy_says() {
    let authority = Authority::new();
    let backend = server(|mut wire, _| {
        let Some(heard) = wire.octets(5) else { return };
        wire.say(&format!("<{}>", String::from_utf8(heard).unwrap()));
    });
    let tls = TlsSettings { certificates: vec![secret("web")], ..TlsSettings::default() };
    let mut listener = https(tls);
    listener.protocol = ListenerProtocol::TcpSsl;
    let material = BTreeMap::from([(secret("web"), authority.material(&["web.example"]))]);
    let (mut edge, _) = Edge::with(listener, &[backend], material);
    let mut wire = dial(&edge, client(authority.roots()), "web.example").unwrap();
    wire.say("hello");
    assert_eq!(wire.octets(7).unwrap(), b"<hello>");
    for (policy, expected) in [
        (None, None),
        (Some("HTTP1Only"), Some(&b"http/1.1"[..])),
        (Some("HTTP2Preferred"), Some(b"h2")),
        (Some("HTTP2Optional"), Some(b"http/1.1")),
    ] {
        edge.listener.tls.as_mut().unwrap().alpn_policy = policy.map(str::to_owned);
        edge.set();
        let config = speaking(authority.roots(), &[&TLS13], &["h2", "http/1.1"]);
        let wire = dial(&edge, config, "web.example").unwrap();
        assert_eq!(wire.stream.conn.alpn_protocol(), expected, "{policy:?}");
    }
}
