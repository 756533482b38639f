//! What is checked, and how: a listener's health check and a backend, without what they have of no matter. Two listeners that
//! ask the same of the same backend share one check.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::balancing::Backend;
use model::types::{CheckKind, HealthCheckSpec, Listener};

/// One thing that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub at: SocketAddr,
    pub ask: Ask,
    pub pace: Pace,
}

/// The question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// Whether a connection can be opened.
    Tcp,
    /// Whether a datagram is not refused.
    Udp,
    Http(Arc<Request>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// `HEAD` or `GET`.
    pub method: String,
    pub path: String,
    /// Absent: the backend's address.
    pub host: Option<String>,
    /// The first digits of the codes that pass.
    pub codes: Vec<u8>,
}

/// How often it is asked, and what answers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pace {
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
}

/// Everything that must pass for `listener` to use `backend`; nothing, where nothing is checked. With policy Local the
/// node's own word counts beside the listener's check, unless that looks at another port.
pub fn targets(listener: &Listener, backend: &Backend) -> impl Iterator<Item = Target> {
    let spec = listener.health_check.as_ref();
    let own = spec.map(|spec| {
        let port = spec.port.unwrap_or(backend.address.port());
        Target { at: SocketAddr::new(backend.address.ip(), port), ask: ask(spec), pace: pace(spec) }
    });
    let node = spec.filter(|spec| spec.port.is_none()).zip(backend.health_check_node_port);
    let node = node.map(|(spec, port)| Target {
        at: SocketAddr::new(backend.address.ip(), port),
        ask: Ask::Http(Arc::new(Request {
            method: "GET".to_owned(),
            path: "/healthz".to_owned(),
            host: None,
            codes: vec![2],
        })),
        pace: pace(spec),
    });
    own.into_iter().chain(node)
}

fn ask(spec: &HealthCheckSpec) -> Ask {
    match spec.kind {
        CheckKind::Tcp => Ask::Tcp,
        CheckKind::Udp => Ask::Udp,
        CheckKind::Http => Ask::Http(Arc::new(Request {
            method: if spec.method.is_empty() { "HEAD".to_owned() } else { spec.method.clone() },
            path: if spec.path.is_empty() { "/".to_owned() } else { spec.path.clone() },
            host: spec.host.clone().filter(|host| !host.is_empty()),
            codes: if spec.codes.is_empty() { vec![2] } else { spec.codes.clone() },
        })),
    }
}

fn pace(spec: &HealthCheckSpec) -> Pace {
    let seconds = |seconds: u32| Duration::from_secs(seconds.max(1).into());
    Pace {
        interval: seconds(spec.interval_seconds),
        timeout: seconds(spec.timeout_seconds),
        healthy_threshold: spec.healthy_threshold.max(1),
        unhealthy_threshold: spec.unhealthy_threshold.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(check: Option<u16>) -> Backend {
        let address = "172.31.255.11:30080".parse().unwrap();
        Backend { address, weight: 1, node: "node-1".into(), health_check_node_port: check }
    }

    fn listener(spec: Option<HealthCheckSpec>) -> Listener {
        Listener { health_check: spec, ..Listener::default() }
    }

    #[test]
    fn without_a_check_nothing_is_asked() {
        assert_eq!(targets(&listener(None), &backend(Some(32000))).count(), 0);
    }

    #[test]
    fn a_local_node_is_asked_for_its_own_word_unless_a_port_is_told() {
        let spec = HealthCheckSpec { interval_seconds: 2, timeout_seconds: 5, ..HealthCheckSpec::default() };
        let asked = |spec: &HealthCheckSpec, check| -> Vec<String> {
            targets(&listener(Some(spec.clone())), &backend(check)).map(|t| t.at.to_string()).collect()
        };
        assert_eq!(asked(&spec, None), ["172.31.255.11:30080"]);
        assert_eq!(asked(&spec, Some(32000)), ["172.31.255.11:30080", "172.31.255.11:32000"]);
        assert_eq!(asked(&HealthCheckSpec { port: Some(9000), ..spec }, Some(32000)), ["172.31.255.11:9000"]);
    }

    #[test]
    fn what_is_not_told_has_the_defaults_of_the_cloud() {
        let spec = HealthCheckSpec { kind: CheckKind::Http, ..HealthCheckSpec::default() };
        let target = targets(&listener(Some(spec)), &backend(None)).next().unwrap();
        let request = Request { method: "HEAD".into(), path: "/".into(), host: None, codes: vec![2] };
        assert_eq!(target.ask, Ask::Http(Arc::new(request)));
    }
}
