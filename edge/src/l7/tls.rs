//! Where TLS ends: which certificate is shown to whom, and what is spoken.
//!
//! A listener's configuration is made when something that it depends on changes, and is used by the handshakes that come after;
//! connections that are there keep what they have. A certificate that has gone or cannot be read does not take away the one before it:
//! that is shown until there is a better one, and the listener says what is wrong. Without any, connections are
//! closed; nothing is ever shown in its place.
//!
//! A listener's tickets open no other's door: who has resumed a session was not asked for a certificate again, so the key of
//! tickets is the listener's own, and new with the authority that clients are judged by.

mod material;
mod resolver;

use std::sync::Arc;

use jiff::Timestamp;
use model::types::{ListenerProtocol, SecretReference, TlsSettings};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{ProducesTickets, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

pub use material::Material;
use material::Pair;
use resolver::Resolver;

use super::routes::{Route, references};

/// The configuration for a route that follows another, and what is wrong with it, in words for the listener's status.
/// What the route lacks and `before` had is put into it.
pub fn follow(
    before: Option<(&Route, Option<&Arc<ServerConfig>>)>,
    route: &mut Route,
    now: Timestamp,
) -> (Option<Arc<ServerConfig>>, Vec<String>) {
    let listener = Arc::clone(&route.listener);
    let Some(settings) = listener
        .tls
        .as_ref()
        .filter(|_| matches!(listener.protocol, ListenerProtocol::Https | ListenerProtocol::TcpSsl))
    else {
        return (None, Vec::new());
    };
    let mut problems = Vec::new();
    for reference in references(&listener) {
        keep(before.map(|(b, _)| b), route, reference, &mut problems);
    }
    let authority = settings.client_ca.as_ref();
    for reference in references(&listener).filter(|r| Some(*r) != authority) {
        if let Some(problem) = pair(route, reference).and_then(|p| p.when_not_valid(now)) {
            problems.push(format!("Secret {}: {problem}", name(reference)));
        }
    }
    problems.sort_unstable();
    problems.dedup();

    let same = |b: &Route| b.listener.tls == listener.tls && http2(b) == http2(route) && b.material == route.material;
    if let Some((was, Some(config))) = before
        && same(was)
    {
        return (Some(Arc::clone(config)), problems);
    }
    let same_door = |b: &Route| {
        let tls = b.listener.tls.as_ref();
        tls.and_then(|t| t.client_ca.as_ref()) == authority
            && authority.is_none_or(|a| b.material.get(a) == route.material.get(a))
    };
    let tickets =
        before.filter(|(b, _)| same_door(b)).and_then(|(_, config)| config).map(|config| Arc::clone(&config.ticketer));
    match config(settings, route, tickets) {
        Ok(config) => (Some(Arc::new(config)), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

/// Falls back on what was there before, and says so.
fn keep(before: Option<&Route>, route: &mut Route, reference: &SecretReference, problems: &mut Vec<String>) {
    let is_authority = route.listener.tls.as_ref().and_then(|t| t.client_ca.as_ref()) == Some(reference);
    let trouble = match route.material.get(reference) {
        None => "it does not exist, or is not of type kubernetes.io/tls; create it".to_owned(),
        Some(material) => match if is_authority { material.authority().err() } else { material.pair().err() } {
            None => return,
            Some(problem) => problem.to_owned(),
        },
    };
    let former = before.and_then(|b| b.material.get(reference));
    let former = former.filter(|m| if is_authority { m.authority().is_ok() } else { m.pair().is_ok() });
    let until = if let Some(former) = former {
        route.material.insert(reference.clone(), Arc::clone(former));
        "; until then, what it held before is used"
    } else {
        ""
    };
    problems.push(format!("Secret {}: {trouble}{until}", name(reference)));
}

fn config(
    settings: &TlsSettings,
    route: &Route,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, String> {
    let mut resolver = Resolver::default();
    // What is told first wins: explicit domains, then the names in certificates.
    for domain in &settings.domains {
        if let Some(pair) = pair(route, &domain.secret) {
            resolver.add(&domain.domain, pair);
        }
    }
    for (place, reference) in settings.certificates.iter().enumerate() {
        if let Some(pair) = pair(route, reference) {
            if place == 0 {
                resolver.by_default(pair);
            }
            for name in &pair.names {
                resolver.add(name, pair);
            }
        }
    }
    if resolver.is_empty() {
        return Err("there is no certificate to show, so connections are closed".to_owned());
    }

    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(&settings.cipher_policy))
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(reference) => builder.with_client_cert_verifier(clients(route, reference, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = alpn(settings, route);
    config.ticketer = match tickets {
        Some(tickets) => tickets,
        None => ring::Ticketer::new().map_err(|error| format!("TLS: {error}"))?,
    };
    Ok(config)
}

fn clients(
    route: &Route,
    reference: &SecretReference,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, String> {
    let closed = || format!("without the authority of Secret {} no client is let in", name(reference));
    let roots = route.material.get(reference).and_then(|m| m.authority().ok()).ok_or_else(closed)?;
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
        .build()
        .map_err(|error| format!("Secret {}: ca.crt cannot be used: {error}", name(reference)))
}

fn pair<'a>(route: &'a Route, reference: &SecretReference) -> Option<&'a Pair> {
    route.material.get(reference)?.pair().ok()
}

fn name(reference: &SecretReference) -> String {
    format!("{}/{}", reference.namespace, reference.name)
}

fn http2(route: &Route) -> bool {
    route.listener.http.as_ref().is_some_and(|h| h.http2)
}

static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static FORMER: [&SupportedProtocolVersion; 1] = [&TLS12];

/// A policy names the lowest version, and 1.3 is spoken beside it, except with `1_2_strict`, which is 1.2 alone. The two oldest
/// begin with versions that are forbidden since RFC 8996 (2021), and not spoken here: they mean whatever is spoken at all. CBC
/// and plain RSA, which tell `1_2` from `1_2_strict` in the cloud, are not spoken either.
fn versions(policy: &str) -> &'static [&'static SupportedProtocolVersion] {
    match policy {
        "tls_cipher_policy_1_2_strict" => &FORMER,
        _ => &BOTH,
    }
}

/// What is offered inside of TLS, what is liked best first.
fn alpn(settings: &TlsSettings, route: &Route) -> Vec<Vec<u8>> {
    let protocols: &[&str] = if route.listener.protocol.is_http() {
        if http2(route) { &["h2", "http/1.1"] } else { &["http/1.1"] }
    } else {
        match settings.alpn_policy.as_deref() {
            Some("HTTP1Only") => &["http/1.1", "http/1.0"],
            Some("HTTP2Only") => &["h2"],
            Some("HTTP2Preferred") => &["h2", "http/1.1", "http/1.0"],
            Some("HTTP2Optional") => &["http/1.1", "http/1.0", "h2"],
            _ => &[],
        }
    };
    protocols.iter().map(|p| p.as_bytes().to_vec()).collect()
}
