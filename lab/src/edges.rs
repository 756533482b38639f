//! The lab's edge nodes: the processes that hold external addresses, what they say of themselves, and the pools that the
//! addresses are from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use proxy_agent::client::{Client, ClientError};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::EdgeStatus;
use crate::addresses::POOLS;
use crate::children::Children;
use crate::joining::Invitation;
use crate::launch::SELF;
use crate::network::EdgeNet;
use crate::revisions;
use crate::unit::Unit;

/// Where an edge node says how it is.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10247);
/// How long requests that are under way may take when it is told to end: the lab has no patience.
const GRACE: &str = "2s";

/// An edge node and its process.
pub struct EdgeNode {
    pub net: Arc<EdgeNet>,
    pub unit: Unit,
}

impl EdgeNode {
    /// Keeps it running.
    pub fn keep(
        net: EdgeNet,
        tasks: &mut JoinSet<()>,
        children: &Children,
        logs: &Path,
        invitation: &Invitation,
    ) -> Self {
        let (net, invitation) = (Arc::new(net), invitation.clone());
        let log: PathBuf = logs.join(format!("{}.log", net.name));
        let machine = Arc::clone(&net);
        let unit = Unit::keep(&net.name, tasks, children, log, move || Ok(command(&machine, &invitation)));
        Self { net, unit }
    }

    pub async fn status(&self) -> EdgeStatus {
        EdgeStatus {
            name: self.net.name.clone(),
            addresses: self.net.addresses.list(),
            pid: self.unit.pid(),
            restarts: self.unit.restarts(),
            holds: self.health().await.ok().map(|health| answered(&health)),
        }
    }

    /// Whether it has programmed its kernel and holds its Lease.
    pub async fn is_ready(&self) -> bool {
        self.health().await.is_ok_and(|health| health["healthy"] == true && health["lease"] == "held")
    }

    async fn health(&self) -> io::Result<Value> {
        let page = revisions::get(&self.net.netns, HEALTH, "/healthz").await?;
        serde_json::from_str(&page).map_err(io::Error::from)
    }
}

fn command(net: &Arc<EdgeNet>, invitation: &Invitation) -> Command {
    let mut command = Command::new(SELF);
    command.arg0("portolan").arg("edge");
    invitation.tell(&mut command, &net.name);
    command.args(["--edge-name", &net.name, "--interface", "eth0", "--grace", GRACE]);
    for address in net.addresses.list() {
        command.arg("--edge-ip").arg(address.to_string());
    }
    let netns = Arc::clone(&net.netns);
    // SAFETY: setns is a bare system call on a descriptor that the closure keeps open.
    unsafe {
        command.pre_exec(move || {
            setns(&*netns, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        })
    };
    command
}

/// The addresses that an edge node says it answers for.
fn answered(health: &Value) -> Vec<IpAddr> {
    let all = health["addresses"].as_object().into_iter().flatten();
    all.filter(|(_, answers)| **answers == true).filter_map(|(address, _)| address.parse().ok()).collect()
}

/// Makes the pools that external addresses are from, unless an earlier run has.
///
/// # Errors
/// When the server does not take one.
pub async fn make_pools(client: &Client) -> Result<(), ClientError> {
    for (name, kind, addresses) in POOLS {
        let pool = json!({
            "apiVersion": "portolan.dev/v1alpha1",
            "kind": "AddressPool",
            "metadata": {"name": name},
            "spec": {"addressType": kind, "addresses": addresses, "autoAssign": true},
        });
        match client.post("/apis/portolan.dev/v1alpha1/addresspools", &pool).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_answered_for_is_held() {
        let health = json!({"addresses": {"172.31.255.130": true, "fd00:31::1:5": true, "172.31.255.131": false}});
        let held: Vec<String> = answered(&health).iter().map(ToString::to_string).collect();
        assert_eq!(held, ["172.31.255.130", "fd00:31::1:5"]);
        assert!(answered(&json!(null)).is_empty());
    }
}
