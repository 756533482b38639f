//! `lab status` as text.

use std::fmt;
use std::net::IpAddr;

use crate::Status;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, restarts) = (number(self.server.pid), self.server.restarts);
        writeln!(f, "server  {} (process {pid}, {restarts} restarts)", self.server.url)?;
        writeln!(f, "client  {}", joined(&self.client))?;
        writeln!(f, "export KUBECONFIG={}", self.kubeconfig.display())?;
        let nodes = self.nodes.iter().map(|n| {
            [
                n.name.clone(),
                joined(&n.addresses),
                n.dataplane.clone().unwrap_or_else(|| "-".to_owned()),
                number(n.agent_pid),
                n.restarts.to_string(),
                number(n.programmed_revision),
                n.pods.to_string(),
            ]
        });
        table(f, ["NODE", "ADDRESSES", "DATAPLANE", "AGENT", "RESTARTS", "REVISION", "PODS"], nodes.collect())?;
        if !self.edges.is_empty() {
            let edges = self.edges.iter().map(|e| {
                [
                    e.name.clone(),
                    joined(&e.addresses),
                    number(e.pid),
                    e.restarts.to_string(),
                    e.holds.as_ref().map_or_else(|| "-".to_owned(), |holds| joined(holds)),
                ]
            });
            table(f, ["EDGE", "ADDRESSES", "PROCESS", "RESTARTS", "HOLDS"], edges.collect())?;
        }
        if self.pods.is_empty() {
            return writeln!(f, "\nno pods");
        }
        let pods = self.pods.iter().map(|p| {
            let phase = if p.terminating { "Terminating" } else { &p.phase };
            [
                format!("{}/{}", p.namespace, p.name),
                p.node.clone(),
                joined(&p.addresses),
                phase.to_owned(),
                if p.ready { "yes" } else { "no" }.to_owned(),
            ]
        });
        table(f, ["POD", "NODE", "ADDRESSES", "PHASE", "READY"], pods.collect())
    }
}

fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Columns as wide as their widest cell, three spaces apart, as `kubectl` prints them.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, head: [&str; N], rows: Vec<[String; N]>) -> fmt::Result {
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    writeln!(f)?;
    for row in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", cells.join("   ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{EdgeStatus, NodeStatus, PodStatus, ServerStatus, Status};

    #[test]
    fn a_status_reads_as_tables() {
        let status = Status {
            dir: "/tmp/lab".into(),
            kubeconfig: "/tmp/lab/server/admin.kubeconfig".into(),
            server: ServerStatus { url: "https://127.0.0.1:6443".into(), pid: Some(42), restarts: 0 },
            nodes: vec![NodeStatus {
                name: "node-1".into(),
                addresses: vec!["172.31.255.11".parse().unwrap()],
                dataplane: Some("nftables".into()),
                agent_pid: None,
                restarts: 2,
                programmed_revision: Some(17),
                pods: 1,
            }],
            edges: vec![EdgeStatus {
                name: "edge-1".into(),
                addresses: vec!["172.31.255.201".parse().unwrap()],
                pid: Some(43),
                restarts: 0,
                holds: Some(vec!["172.31.255.128".parse().unwrap(), "fd00:31::1:0".parse().unwrap()]),
            }],
            client: vec!["172.31.255.100".parse().unwrap()],
            pods: vec![PodStatus {
                namespace: "default".into(),
                name: "web".into(),
                node: "node-1".into(),
                addresses: vec!["10.244.1.2".parse().unwrap()],
                phase: "Running".into(),
                ready: true,
                terminating: true,
            }],
        };
        let expected = "\
server  https://127.0.0.1:6443 (process 42, 0 restarts)
client  172.31.255.100
export KUBECONFIG=/tmp/lab/server/admin.kubeconfig

NODE     ADDRESSES       DATAPLANE   AGENT   RESTARTS   REVISION   PODS
node-1   172.31.255.11   nftables    -       2          17         1

EDGE     ADDRESSES        PROCESS   RESTARTS   HOLDS
edge-1   172.31.255.201   43        0          172.31.255.128,fd00:31::1:0

POD           NODE     ADDRESSES    PHASE         READY
default/web   node-1   10.244.1.2   Terminating   yes
";
        assert_eq!(status.to_string(), expected);
    }
}
