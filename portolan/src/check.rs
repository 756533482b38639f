//! `portolan check`: whether every node's kernel does what it should, packet by packet.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use dataplane::explain::{Cluster, Oracle, Probe, probes};
use dataplane::{Origin, Packet, Plan};
use jiff::Timestamp;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::routes::{Asked, MAX_PACKETS, Told};
use serde::Serialize;

use crate::cli::CheckArgs;
use crate::output::print;
use crate::{Failure, remote};

/// After which differences are looked at again: the cluster may have moved meanwhile.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Differences that are told of one node.
const MAX_TOLD: usize = 100;

#[derive(Debug, Serialize)]
struct Report {
    /// Every node that was asked or should have been.
    nodes: Vec<NodeReport>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeReport {
    node: String,
    /// Of the newest object that it has programmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    packets: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Its agent is away, so that nobody expects an answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    away: bool,
}

#[derive(Debug, Serialize)]
struct Difference {
    packet: String,
    differences: Vec<String>,
}

/// A probe that went otherwise.
struct Odd {
    probe: Probe,
    differences: Vec<String>,
}

/// What the nodes' kernels were asked, and how they differ.
struct Look {
    revision: String,
    packets: usize,
    odd: Vec<Odd>,
    tampered: Option<String>,
}

/// Prints a line for each node and every difference; exit code 1 if one stays, or a node that lives does not answer.
pub fn run(args: CheckArgs) -> Result<ExitCode, Failure> {
    let client = remote::client(args.kubeconfig)?;
    let report = remote::block_on(async {
        let failed = |e: ClientError| Failure::new("reading the cluster", &e);
        let cluster = remote::cluster(&client).await.map_err(failed)?;
        let live = remote::live_nodes(&client, Timestamp::now()).await.map_err(failed)?;
        let nodes: Vec<String> = match args.node {
            Some(node) if cluster.snapshot.nodes.contains_key(&node) => vec![node],
            Some(node) => return Err(Failure::text(format!("there is no Node {node}"))),
            None => cluster.snapshot.nodes.keys().cloned().collect(),
        };
        let mut report = Report { nodes: Vec::new() };
        for node in nodes {
            report.nodes.push(if live.contains(&node) {
                look_twice(&client, &cluster, node).await
            } else {
                NodeReport { node, away: true, ..NodeReport::default() }
            });
        }
        Ok(report)
    })?;
    print(args.output, &report, &report)?;
    Ok(if report.fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A node, and once more whatever is odd about it.
async fn look_twice(client: &Client, cluster: &Cluster, node: String) -> NodeReport {
    let outcome = async {
        let mut found = look(client, cluster, &node, None).await?;
        if !found.odd.is_empty() || found.tampered.is_some() {
            tokio::time::sleep(SECOND_LOOK).await;
            let now = remote::cluster(client).await?;
            let packets = found.packets;
            let again = found.odd.into_iter().map(|odd| odd.probe).collect();
            found = Look { packets, ..look(client, &now, &node, Some(again)).await? };
        }
        Ok::<_, ClientError>(found)
    };
    match outcome.await {
        Err(error) => {
            let problem = Failure::new("the agent does not answer", &error).to_string();
            NodeReport { node, problem: Some(problem), ..NodeReport::default() }
        }
        Ok(look) => {
            let whole = look.tampered.map(|what| Difference { packet: "any".to_owned(), differences: vec![what] });
            let odd = look.odd.into_iter();
            let odd = odd.map(|odd| Difference { packet: words(&odd.probe), differences: odd.differences });
            NodeReport {
                node,
                revision: Some(look.revision),
                packets: look.packets,
                differences: whole.into_iter().chain(odd).take(MAX_TOLD).collect(),
                ..NodeReport::default()
            }
        }
    }
}

/// Asks a node about these probes, or about all that its plan has.
async fn look(client: &Client, cluster: &Cluster, node: &str, again: Option<Vec<Probe>>) -> Result<Look, ClientError> {
    // What the agent was told on its command line decides which answers are right.
    let first = remote::ask(client, node, Vec::new()).await?;
    let plan = plan(cluster, node, &first.node);
    let oracle = Oracle::new(&plan);
    let object = cluster.snapshot.nodes.get(node);
    let probes = again.unwrap_or_else(|| object.map(|object| probes(&plan, object)).unwrap_or_default());
    let mut look = Look { revision: first.revision, packets: probes.len(), odd: Vec::new(), tampered: first.tampered };
    let mut rest = probes.as_slice();
    while !rest.is_empty() {
        let asked = rest.iter().take(MAX_PACKETS).map(|probe| Asked::from(&probe.packet)).collect();
        let answer = remote::ask(client, node, asked).await?;
        if answer.verdicts.is_empty() {
            return Err(ClientError::Malformed { what: "the agent's answer", reason: "it has no verdicts".to_owned() });
        }
        look.revision = answer.revision;
        look.tampered = answer.tampered;
        let (done, left) = rest.split_at(answer.verdicts.len().min(rest.len()));
        for (probe, routed) in done.iter().zip(answer.verdicts) {
            let differences = routed.differences(&oracle.route(&probe.packet));
            if !differences.is_empty() {
                look.odd.push(Odd { probe: probe.clone(), differences });
            }
        }
        rest = left;
    }
    Ok(look)
}

fn plan(cluster: &Cluster, node: &str, told: &Told) -> Plan {
    told.plan(&cluster.snapshot, node)
}

fn words(probe: &Probe) -> String {
    let Packet { client, origin, destination, protocol, port, .. } = probe.packet;
    let origin = match origin {
        Origin::Pod => "a pod",
        Origin::ThisNode => "the node",
        Origin::Outside => "outside",
    };
    let to = std::net::SocketAddr::new(destination, port);
    let service = probe.service.as_ref().map(|key| format!(", Service {}/{}", key.namespace, key.name));
    format!("{protocol} from {origin} ({client}) to {to}{}", service.unwrap_or_default())
}

impl Report {
    fn fine(&self) -> bool {
        self.nodes.iter().all(|node| node.differences.is_empty() && node.problem.is_none())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.nodes.iter().map(|node| node.node.len()).max().unwrap_or(0).max(4);
        writeln!(f, "{:widest$}  {:>8}  {:>7}  RESULT", "NODE", "REVISION", "PACKETS")?;
        for node in &self.nodes {
            let result = match (&node.problem, node.away, node.differences.len()) {
                (Some(problem), ..) => problem.clone(),
                (None, true, _) => "not asked: its agent has not renewed its Lease".to_owned(),
                (None, false, 0) => "as it should be".to_owned(),
                (None, false, 1) => "1 difference".to_owned(),
                (None, false, many) => format!("{many} differences"),
            };
            let revision = node.revision.as_deref().unwrap_or("-");
            writeln!(f, "{:widest$}  {revision:>8}  {:>7}  {result}", node.node, node.packets)?;
        }
        for node in &self.nodes {
            for difference in &node.differences {
                writeln!(f, "\n{}: {}", node.node, difference.packet)?;
                difference.differences.iter().try_for_each(|text| writeln!(f, "  {text}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use model::Key;
    use model::types::Protocol;

    use super::*;

    #[test]
    fn a_report() {
        let probe = Probe {
            service: Some(Key::new("default", "web")),
            packet: Packet {
                client: "203.0.113.77".parse().unwrap(),
                origin: Origin::Outside,
                destination: "10.96.0.17".parse().unwrap(),
                protocol: Protocol::Tcp,
                port: 80,
                here: false,
            },
        };
        let difference =
            Difference { packet: words(&probe), differences: vec!["lacks endpoint 10.244.2.2:8080".to_owned()] };
        let node = |name: &str| NodeReport {
            node: name.to_owned(),
            revision: Some("41".to_owned()),
            packets: 1312,
            ..NodeReport::default()
        };
        let mut report = Report { nodes: vec![node("node-1")] };
        assert!(report.fine());
        report.nodes.push(NodeReport { node: "node-3".to_owned(), away: true, ..NodeReport::default() });
        assert!(report.fine(), "nobody expects an answer of a node that is away");
        report.nodes.insert(1, NodeReport { differences: vec![difference], ..node("node-2") });
        report.nodes.push(NodeReport {
            node: "node-4".to_owned(),
            problem: Some("the agent does not answer: no agent of node node-4 listens for questions".to_owned()),
            ..NodeReport::default()
        });
        assert!(!report.fine());
        expect![[r#"
            NODE    REVISION  PACKETS  RESULT
            node-1        41     1312  as it should be
            node-2        41     1312  1 difference
            node-3         -        0  not asked: its agent has not renewed its Lease
            node-4         -        0  the agent does not answer: no agent of node node-4 listens for questions

            node-2: TCP from outside (203.0.113.77) to 10.96.0.17:80, Service default/web
              lacks endpoint 10.244.2.2:8080
        "#]]
        .assert_eq(&report.to_string());
    }
}
