//! The flags by which a machine joins, as a node or as an edge node: the line that `portolan token create` prints.

use clap::Args;
use proxy_agent::client::authority::CaHash;

/// Where to join, by what, and whom to believe.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Where the server is, as https://192.0.2.1:6443.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// What lets this machine join; of no use afterwards.
    #[arg(long, value_name = "TOKEN", env = "PORTOLAN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// By what the server's authority is known before anything is sent to it.
    #[arg(long, value_name = "sha256:HASH")]
    pub ca_hash: Option<CaHash>,
}
