//! Flags of `portolan register` → the manifest of a Pod. Pure; whether the Pod can be is the agent's to say.

use std::str::FromStr;

use proxy_agent::workloads::POD_IP;
use serde_json::{Map, Value, json};

use crate::cli::RegisterArgs;

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err(format!("{text:?} is no pair; write it as KEY=VALUE")),
        }
    }
}

/// `[NAME=]PORT[/PROTOCOL]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    name: Option<String>,
    number: u16,
    protocol: &'static str,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no port; write it as 8080, http=8080 or dns=53/udp");
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (Some(name.to_owned()), rest),
            None => (None, text),
        };
        let (number, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => "TCP",
            "udp" => "UDP",
            "sctp" => "SCTP",
            _ => return Err(wrong()),
        };
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
        Ok(Self { name, number, protocol })
    }
}

/// What is done to see whether a workload works: a part of a core/v1 `Probe`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe(Value);

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let forms = "http:8080/healthz, https:8443/, tcp:8080, grpc:9090 or \"exec:COMMAND ARG…\"";
            format!("{text:?} is no probe; write it as {forms}")
        };
        let (kind, rest) = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(wrong)?;
        let (port, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // A name where it is no number.
        let port = || match port.parse::<u16>() {
            Ok(number) if number > 0 => Ok(json!(number)),
            _ if port.chars().any(|c| c.is_ascii_alphabetic()) => Ok(json!(port)),
            _ => Err(wrong()),
        };
        let probe = match kind {
            "http" | "https" => {
                let path = if path.is_empty() { "/" } else { path };
                json!({"httpGet": {"port": port()?, "path": path, "scheme": kind.to_ascii_uppercase()}})
            }
            "tcp" if path.is_empty() => json!({"tcpSocket": {"port": port()?}}),
            "grpc" => match port()? {
                number @ Value::Number(_) => {
                    json!({"grpc": {"port": number, "service": path.trim_start_matches('/')}})
                }
                _ => return Err(wrong()),
            },
            "exec" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                if words.is_empty() {
                    return Err(wrong());
                }
                json!({"exec": {"command": words}})
            }
            _ => return Err(wrong()),
        };
        Ok(Self(probe))
    }
}

/// The Pod that the flags describe.
pub fn pod(name: &str, args: &RegisterArgs) -> Value {
    let map = |labels: &[Label]| -> Map<String, Value> {
        labels.iter().map(|label| (label.key.clone(), label.value.clone().into())).collect()
    };
    let mut annotations = map(&args.annotation);
    if !args.pod_ip.is_empty() {
        let ips: Vec<String> = args.pod_ip.iter().map(ToString::to_string).collect();
        annotations.insert(POD_IP.to_owned(), ips.join(",").into());
    }
    let port = |port: &Port| {
        let mut value = json!({"containerPort": port.number, "protocol": port.protocol});
        if let Some(name) = &port.name {
            value["name"] = name.as_str().into();
        }
        value
    };
    // Containers have labels for names, and Pods may have dots in theirs.
    let container = if name.len() <= 63 && !name.contains('.') { name } else { "main" };
    let mut container = json!({"name": container, "ports": args.port.iter().map(port).collect::<Vec<_>>()});
    for (field, probe) in
        [("readinessProbe", &args.readiness), ("livenessProbe", &args.liveness), ("startupProbe", &args.startup)]
    {
        if let Some(Probe(action)) = probe {
            let mut probe = action.clone();
            probe["periodSeconds"] = args.probe_period.into();
            probe["timeoutSeconds"] = args.probe_timeout.into();
            probe["failureThreshold"] = args.probe_failures.into();
            container[field] = probe;
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": args.namespace, "labels": map(&args.labels), "annotations": annotations,
        },
        "spec": {
            "terminationGracePeriodSeconds": args.grace.as_millis().div_ceil(1000),
            "containers": [container],
        },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &[&str]) -> Result<RegisterArgs, String> {
        let line = ["portolan", "register"].iter().chain(line);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Register(args) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn flags_make_a_pod() {
        let args = args(&[
            "--name=web-1",
            "--labels=app=web,tier=front",
            "--port=http=8080",
            "--port=53/udp",
            "--readiness=http:http/healthz",
            "--liveness=tcp:8080",
            "--probe-period=1",
            "--pod-ip=192.0.2.7,2001:db8::7",
            "--grace=1m",
            "--",
            "web",
            "--port=1",
        ])
        .unwrap();
        assert_eq!(args.command, ["web", "--port=1"]);
        let timing = |mut probe: Value| {
            for (field, value) in [("periodSeconds", 1), ("timeoutSeconds", 1), ("failureThreshold", 3)] {
                probe[field] = value.into();
            }
            probe
        };
        let http = json!({"httpGet": {"port": "http", "path": "/healthz", "scheme": "HTTP"}});
        assert_eq!(
            pod("web-1", &args),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "web-1", "namespace": "default", "labels": {"app": "web", "tier": "front"},
                    "annotations": {"portolan.dev/pod-ip": "192.0.2.7,2001:db8::7"},
                },
                "spec": {"terminationGracePeriodSeconds": 60, "containers": [{
                    "name": "web-1",
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"containerPort": 53, "protocol": "UDP"},
                    ],
                    "readinessProbe": timing(http),
                    "livenessProbe": timing(json!({"tcpSocket": {"port": 8080}})),
                }]},
            })
        );
        assert_eq!(pod("a.b", &args)["spec"]["containers"][0]["name"], "main");
    }

    #[test]
    fn probes_are_written_in_a_word() {
        for (text, expected) in [
            ("http:8080", json!({"httpGet": {"port": 8080, "path": "/", "scheme": "HTTP"}})),
            ("https:web/a?b", json!({"httpGet": {"port": "web", "path": "/a?b", "scheme": "HTTPS"}})),
            ("grpc:9090/shop", json!({"grpc": {"port": 9090, "service": "shop"}})),
            ("exec:test -e /run/x", json!({"exec": {"command": ["test", "-e", "/run/x"]}})),
        ] {
            assert_eq!(text.parse(), Ok(Probe(expected)), "{text}");
        }
        for wrong in ["", "http", "http:", "http:0", "http:99999", "tcp:80/x", "grpc:web", "exec: ", "icmp:1"] {
            assert!(wrong.parse::<Probe>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (line, hint) in [
            (&["--name=a", "--port=0"][..], "write it as 8080"),
            (&["--name=a", "--port=80/icmp"], "write it as 8080"),
            (&["--name=a", "--labels=app"], "KEY=VALUE"),
            (&["--name=a", "--probe-period=1500ms"], "whole number of seconds"),
            (&["--name=a", "--file=b"], ""),
            (&["--name=a", "--file=b", "--port=1"], "cannot be used with"),
            (&[], "--name <NAME>"),
        ] {
            match args(line) {
                Ok(_) => assert!(hint.is_empty(), "{line:?}"),
                Err(error) => assert!(!hint.is_empty() && error.contains(hint), "{line:?}: {error}"),
            }
        }
    }
}
