//! The lab's agents and edge nodes join as machines do: by a token that each `lab up` makes, and from then on by certificates of their own,
//! which are kept in the lab's directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use proxy_agent::client::authority::CaHash;
use proxy_agent::client::{Client, ClientError};
use proxy_agent::join::{Role, Secret};
use serde_json::json;

/// How long the token lasts. An agent needs it at its first start alone, and those come with the lab; but `lab start` of an
/// agent whose credentials are gone would want it still.
const LASTS: Duration = Duration::from_secs(24 * 3600);

/// What an agent is told so that it joins.
#[derive(Clone)]
pub struct Invitation {
    server: String,
    token: String,
    ca_hash: CaHash,
    /// Where every machine's data directory is.
    machines: PathBuf,
}

/// Makes a token for the nodes, or the edge nodes, of the lab in `dir`.
///
/// # Errors
/// When the server does not take it, or says nothing of its authority.
pub async fn invite(client: &Client, dir: &Path, role: Role) -> Result<Invitation, ClientError> {
    let unusable = |what, reason: &str| ClientError::Setup { what, reason: reason.to_owned() };
    let secret = Secret::new().map_err(|_| unusable("a token", "the system has no random numbers"))?;
    let ca_hash = client.ca_pem().and_then(CaHash::of_pem);
    let ca_hash = ca_hash.ok_or_else(|| unusable("the kubeconfig", "there is no certificate authority in it"))?;
    let (purpose, directory) = match role {
        Role::Node => ("NodeJoin", NODES),
        Role::Edge => ("EdgeJoin", EDGES),
    };
    let expires_at = Timestamp::now().checked_add(LASTS).unwrap_or(Timestamp::MAX);
    let object = json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "Token",
        "metadata": {"name": secret.id},
        "spec": {
            "purpose": purpose,
            "hash": secret.hash(),
            "expiresAt": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "description": format!("the {role}s of this lab"),
        },
    });
    client.post("/apis/portolan.dev/v1alpha1/tokens", &object).await?;
    let (server, token) = (client.server_url().to_owned(), secret.token());
    Ok(Invitation { server, token, ca_hash, machines: dir.join(directory) })
}

/// The directory of the nodes' data directories in that of the lab.
pub const NODES: &str = "nodes";
/// And of the edge nodes'.
pub const EDGES: &str = "edges";

impl Invitation {
    /// Tells the command line of an agent or edge node. The token goes by the environment: arguments are for everybody to read.
    pub fn tell(&self, command: &mut Command, name: &str) {
        command.args(["--server", &self.server, "--ca-hash", &self.ca_hash.to_string(), "--data-dir"]);
        command.arg(self.machines.join(name)).env("PORTOLAN_TOKEN", &self.token);
    }
}
