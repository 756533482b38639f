//! What the lab reads of a Pod. More than the logic of Services does (commands, environments), so it is a view of its
//! own; what is not here is kept by the server and ignored by the lab, as the README says.

use std::net::IpAddr;
use std::time::Duration;

use model::types::{ObjectMeta, PodCondition, TextMap};
use proxy_agent::follow::HasMeta;
use proxy_agent::probes::{NamedPort, Probe, Probes};
use serde::{Deserialize, Deserializer};

use super::machine::{RestartPolicy, Role};

/// Annotation of a Pod that stands for something which runs without the API's doing.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A Pod as the lab sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Manifest {
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    #[serde(deserialize_with = "nullable")]
    pub spec: Spec,
    #[serde(deserialize_with = "nullable")]
    pub status: Reported,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    pub init_containers: Vec<Container>,
    pub dns_config: Option<DnsConfig>,
    #[serde(deserialize_with = "nullable")]
    pub dns_policy: String,
    #[serde(deserialize_with = "nullable")]
    pub host_aliases: Vec<HostAlias>,
    #[serde(deserialize_with = "nullable")]
    pub host_network: bool,
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    #[serde(deserialize_with = "nullable")]
    pub node_name: String,
    #[serde(deserialize_with = "nullable")]
    pub node_selector: TextMap,
    #[serde(deserialize_with = "nullable")]
    pub readiness_gates: Vec<ReadinessGate>,
    #[serde(deserialize_with = "nullable")]
    pub restart_policy: String,
    #[serde(deserialize_with = "nullable")]
    pub scheduler_name: String,
    #[serde(deserialize_with = "nullable")]
    pub scheduling_gates: Vec<serde_json::Value>,
    #[serde(deserialize_with = "nullable")]
    pub subdomain: String,
    pub termination_grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    pub condition_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    #[serde(deserialize_with = "nullable")]
    pub nameservers: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub searches: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub options: Vec<DnsOption>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsOption {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostAlias {
    pub ip: String,
    #[serde(deserialize_with = "nullable")]
    pub hostnames: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    #[serde(deserialize_with = "nullable")]
    pub command: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub args: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<EnvVar>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    pub restart_policy: Option<String>,
    pub startup_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub value: String,
    pub value_from: Option<EnvSource>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvSource {
    pub field_ref: Option<FieldRef>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldRef {
    pub field_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub container_port: u16,
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub protocol: String,
}

/// What an earlier run of the lab wrote.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reported {
    #[serde(deserialize_with = "nullable")]
    pub phase: String,
    #[serde(rename = "podIP", deserialize_with = "nullable")]
    pub pod_ip: String,
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<PodCondition>,
    #[serde(deserialize_with = "nullable")]
    pub container_statuses: Vec<ContainerReported>,
    #[serde(deserialize_with = "nullable")]
    pub init_container_statuses: Vec<ContainerReported>,
    pub start_time: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerReported {
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub restart_count: u32,
}

impl HasMeta for Manifest {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Manifest {
    /// Whether another program runs what this Pod stands for, such as a node's agent.
    pub fn is_mirror(&self) -> bool {
        self.metadata.annotations.contains_key(MIRROR)
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace(), self.metadata.name())
    }

    /// Whether the pod has ended and holds nothing of its node any more.
    pub fn is_over(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    pub fn restart_policy(&self) -> RestartPolicy {
        match self.spec.restart_policy.as_str() {
            "Never" => RestartPolicy::Never,
            "OnFailure" => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// How long its containers may take to end: what the deletion says, else the pod, else 30 s as in Kubernetes.
    pub fn grace(&self) -> Duration {
        let seconds = self.metadata.deletion_grace_period_seconds.or(self.spec.termination_grace_period_seconds);
        Duration::from_secs(seconds.map_or(30, |s| u64::try_from(s).unwrap_or(1)))
    }

    /// Every container with its part, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let init = self
            .spec
            .init_containers
            .iter()
            .map(|c| (if c.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }, c));
        init.chain(self.spec.containers.iter().map(|c| (Role::Main, c)))
    }

    /// How often each container was restarted in earlier runs of the lab, in the order of [`Manifest::containers`].
    /// Coming up again counts as a restart.
    pub fn earlier_restarts(&self) -> Vec<u32> {
        let reported = || self.status.init_container_statuses.iter().chain(&self.status.container_statuses);
        let of = |name: &str| reported().find(|r| r.name == name).map_or(0, |r| r.restart_count.saturating_add(1));
        self.containers().map(|(_, c)| of(&c.name)).collect()
    }

    /// The address that an earlier run gave the pod.
    pub fn earlier_address(&self) -> Option<IpAddr> {
        self.status.pod_ip.parse().ok()
    }

    pub fn hostname(&self) -> &str {
        if self.spec.hostname.is_empty() { self.metadata.name() } else { &self.spec.hostname }
    }
}

impl Container {
    pub fn probes(&self) -> Probes {
        Probes {
            startup: self.startup_probe.clone(),
            liveness: self.liveness_probe.clone(),
            readiness: self.readiness_probe.clone(),
        }
    }

    pub fn named_ports(&self) -> Vec<NamedPort> {
        let named = self.ports.iter().filter(|port| !port.name.is_empty());
        named.map(|port| NamedPort { name: port.name.clone(), number: port.container_port }).collect()
    }
}

/// What a pod's environment may refer to.
#[derive(Clone, Debug)]
pub struct Facts {
    pub pod_ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
}

/// The container's own variables: literal values, and those fields of the pod that Kubernetes offers by `fieldRef`.
/// `$(NAME)` in a value stands for a variable given before it.
pub fn environment(pod: &Manifest, container: &Container, facts: &Facts) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::with_capacity(container.env.len());
    for var in &container.env {
        let value = match var.value_from.as_ref().and_then(|f| f.field_ref.as_ref()) {
            Some(field) => field_value(pod, facts, &field.field_path),
            None => expand(&var.value, &known),
        };
        known.push((var.name.clone(), value));
    }
    known
}

/// Replaces `$(NAME)` by the variable's value. An unknown name stays as it is, and `$$(NAME)` is `$(NAME)` itself:
/// Kubernetes' rule for commands, arguments and environment values.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or("");
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match variables.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn field_value(pod: &Manifest, facts: &Facts, path: &str) -> String {
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let quoted = |map: &TextMap, rest: &str| {
        let key = rest.strip_prefix("['").and_then(|r| r.strip_suffix("']"));
        key.and_then(|k| map.get(k)).cloned().unwrap_or_default()
    };
    match path {
        "metadata.name" => pod.metadata.name().to_owned(),
        "metadata.namespace" => pod.metadata.namespace().to_owned(),
        "metadata.uid" => pod.metadata.uid().to_owned(),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => all(&facts.pod_ips),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => all(&facts.host_ips),
        _ => {
            if let Some(rest) = path.strip_prefix("metadata.labels") {
                quoted(&pod.metadata.labels, rest)
            } else if let Some(rest) = path.strip_prefix("metadata.annotations") {
                quoted(&pod.metadata.annotations, rest)
            } else {
                String::new()
            }
        }
    }
}

/// Reads `null` as the default, as Kubernetes does.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Manifest {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {
                "nodeName": "node-1",
                "initContainers": [{"name": "wait"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "web", "args": null, "env": [
                    {"name": "WHO", "value": "me"},
                    {"name": "GREETING", "value": "hello $(WHO) $(NOBODY) $$(WHO) $5"},
                    {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}
                ]}],
            },
            "status": {"phase": "Running", "containerStatuses": [{"name": "web", "restartCount": 4}]}
        }))
        .unwrap()
    }

    #[test]
    fn containers_come_in_the_order_they_start() {
        let roles: Vec<_> = pod().containers().map(|(role, c)| (role, c.name.clone())).collect();
        assert_eq!(
            roles,
            [(Role::Init, "wait".to_owned()), (Role::Sidecar, "proxy".to_owned()), (Role::Main, "web".to_owned())]
        );
        assert_eq!(pod().earlier_restarts(), [0, 0, 5]);
    }

    #[test]
    fn the_environment_knows_the_pod_and_itself() {
        let facts =
            Facts { pod_ips: vec!["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()], host_ips: vec![] };
        let pod = pod();
        let env = environment(&pod, &pod.spec.containers[0], &facts);
        let get = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("GREETING"), Some("hello me $(NOBODY) $(WHO) $5"));
        assert_eq!(get("IPS"), Some("10.244.1.2,fd00:244:1::2"));
        assert_eq!(get("APP"), Some("web"));
    }

    #[test]
    fn the_deletion_says_how_much_grace_there_is() {
        let mut pod = pod();
        assert_eq!(pod.grace(), Duration::from_secs(30));
        pod.spec.termination_grace_period_seconds = Some(5);
        assert_eq!(pod.grace(), Duration::from_secs(5));
        pod.metadata.deletion_grace_period_seconds = Some(0);
        assert_eq!(pod.grace(), Duration::ZERO);
    }
}
