//! What a Pod says about its probes: core/v1 `Probe`, read as kubelet reads it.
//!
//! A number that is 0 or missing is the default, so a manifest that never passed the API server (a file of `--pod-dir`)
//! means the same as one that did.

use std::fmt;
use std::time::Duration;

use model::types::IntOrString;
use serde::Deserialize;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Holds the other two back until it succeeds once.
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// In the middle of a sentence: `Container web failed liveness probe, will be restarted`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// At the beginning of a sentence: `Readiness probe failed: …`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// The probes of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    pub startup: Option<Probe>,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
}

impl Probes {
    pub fn get(&self, kind: Kind) -> Option<&Probe> {
        match kind {
            Kind::Startup => self.startup.as_ref(),
            Kind::Liveness => self.liveness.as_ref(),
            Kind::Readiness => self.readiness.as_ref(),
        }
    }

    pub fn is_empty(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.get(*kind).is_none())
    }
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub struct Probe {
    /// None: a probe of a kind that is not known here. It never succeeds.
    pub action: Option<Action>,
    pub timing: Timing,
    /// `terminationGracePeriodSeconds`: what a container gets that failed this probe, in place of its pod's.
    pub grace: Option<Duration>,
}

/// When a probe is made, and how often it must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `initialDelaySeconds`, from the container's start. Default 0.
    pub delay: Duration,
    /// `periodSeconds`. Default 10.
    pub period: Duration,
    /// `timeoutSeconds`. Default 1.
    pub timeout: Duration,
    /// `successThreshold`. Default 1, and always 1 but for readiness.
    pub successes: u32,
    /// `failureThreshold`. Default 3.
    pub failures: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 3,
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Exec(Vec<String>),
    HttpGet(HttpGet),
    TcpSocket(TcpSocket),
    Grpc(Grpc),
}

/// core/v1 `HTTPGetAction`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Empty: the pod's address.
    #[serde(default, deserialize_with = "nullable")]
    pub host: String,
    pub port: IntOrString,
    /// Empty means `/`.
    #[serde(default, deserialize_with = "nullable")]
    pub path: String,
    /// `HTTPS`, or anything else for HTTP.
    #[serde(default, deserialize_with = "nullable")]
    pub scheme: String,
    #[serde(default, deserialize_with = "nullable")]
    pub http_headers: Vec<HttpHeader>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HttpHeader {
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    pub value: String,
}

/// core/v1 `TCPSocketAction`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TcpSocket {
    #[serde(default, deserialize_with = "nullable")]
    pub host: String,
    pub port: IntOrString,
}

/// core/v1 `GRPCAction`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Grpc {
    pub port: u16,
    /// Empty asks for the server as a whole.
    #[serde(default, deserialize_with = "nullable")]
    pub service: String,
}

/// The object as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Wire {
    exec: Option<Exec>,
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    initial_delay_seconds: Option<i64>,
    timeout_seconds: Option<i64>,
    period_seconds: Option<i64>,
    success_threshold: Option<i64>,
    failure_threshold: Option<i64>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Deserialize)]
struct Exec {
    #[serde(default, deserialize_with = "nullable")]
    command: Vec<String>,
}

impl From<Wire> for Probe {
    fn from(wire: Wire) -> Self {
        let usual = Timing::default();
        let positive = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let seconds = |n: Option<i64>| positive(n).map(|n| Duration::from_secs(n.into()));
        let exec = wire.exec.map(|exec| Action::Exec(exec.command));
        let action = exec
            .or_else(|| wire.http_get.map(Action::HttpGet))
            .or_else(|| wire.tcp_socket.map(Action::TcpSocket))
            .or_else(|| wire.grpc.map(Action::Grpc));
        Self {
            action,
            timing: Timing {
                delay: seconds(wire.initial_delay_seconds).unwrap_or(usual.delay),
                period: seconds(wire.period_seconds).unwrap_or(usual.period),
                timeout: seconds(wire.timeout_seconds).unwrap_or(usual.timeout),
                successes: positive(wire.success_threshold).unwrap_or(usual.successes),
                failures: positive(wire.failure_threshold).unwrap_or(usual.failures),
            },
            grace: seconds(wire.termination_grace_period_seconds),
        }
    }
}

/// Reads `null` as the default, as Kubernetes does.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A port of a container, for probes that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub number: u16,
}

/// The number of a port: as given, that of the container's port of this name, or the text as a number.
///
/// # Errors
/// In kubelet's words, when there is none from 1 to 65535.
pub fn port(wanted: &IntOrString, ports: &[NamedPort]) -> Result<u16, String> {
    let number = match wanted {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => match ports.iter().find(|port| port.name == *name) {
            Some(port) => i64::from(port.number),
            None => name.parse().map_err(|_| format!("couldn't find port: {name:?}"))?,
        },
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_or_zero_is_kubernetes_default() {
        for wire in [
            json!({"tcpSocket": {"port": 80}}),
            json!({"tcpSocket": {"port": 80}, "periodSeconds": 0, "timeoutSeconds": null, "failureThreshold": -1}),
        ] {
            let probe: Probe = serde_json::from_value(wire).unwrap();
            assert_eq!((probe.timing, probe.grace), (Timing::default(), None));
        }
        let probe: Probe = serde_json::from_value(json!({
            "httpGet": {"port": "web", "httpHeaders": null}, "initialDelaySeconds": 1, "periodSeconds": 2,
            "timeoutSeconds": 3, "successThreshold": 4, "failureThreshold": 5, "terminationGracePeriodSeconds": 6,
        }))
        .unwrap();
        let s = Duration::from_secs;
        let timing = Timing { delay: s(1), period: s(2), timeout: s(3), successes: 4, failures: 5 };
        assert_eq!((probe.timing, probe.grace), (timing, Some(s(6))));
        assert!(matches!(probe.action, Some(Action::HttpGet(get)) if get.port == IntOrString::String("web".into())));
    }

    #[test]
    fn ports_go_by_number_by_name_and_by_a_number_in_text() {
        let ports = [NamedPort { name: "web".into(), number: 8080 }];
        let text = |text: &str| port(&IntOrString::String(text.into()), &ports);
        assert_eq!(port(&IntOrString::Int(80), &ports), Ok(80));
        assert_eq!((text("web"), text("81")), (Ok(8080), Ok(81)));
        assert_eq!(text("db"), Err("couldn't find port: \"db\"".into()));
        assert_eq!(text("70000"), Err("invalid port number: 70000".into()));
        assert_eq!(port(&IntOrString::Int(0), &ports), Err("invalid port number: 0".into()));
    }
}
