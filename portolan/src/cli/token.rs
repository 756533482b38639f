//! The command line of `portolan token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use proxy_agent::join::Role;

use super::Output;

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
    /// How to reach the server; default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token: for machines that join, or for somebody who uses the API. Its secret is shown this once.
    Create(CreateToken),
    /// Show which tokens there are; their secrets nobody has but those who were given them.
    List {
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Delete tokens: nothing is opened by them any more.
    Revoke {
        /// The part of the token before the dot.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// What is printed of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Print {
    /// The line that makes a machine a node, or an edge node.
    Command,
    /// The token alone.
    Token,
    /// A kubeconfig with the token in it.
    Kubeconfig,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("purpose").required(true))]
pub struct CreateToken {
    /// For machines: each that shows it becomes a node, and gets a certificate of its own.
    #[arg(long, group = "purpose")]
    pub node_join: bool,
    /// For machines that are to hold the addresses of load balancers: each that shows it becomes an edge node.
    #[arg(long, group = "purpose")]
    pub edge_join: bool,
    /// For whoever shows it to be this user.
    #[arg(long, value_name = "NAME", group = "purpose")]
    pub user: Option<String>,
    /// A group that the user is in; may be given more than once.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["node_join", "edge_join"])]
    pub group: Vec<String>,
    /// How long it lasts, as 1h or 30m. Default: 1h for machines, 24h for a user; 0: a user's for ever, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = crate::wait::duration)]
    pub ttl: Option<Duration>,
    /// What it is for, in your words.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// Where others reach the server, as https://192.0.2.1:6443; default: as the kubeconfig says, or where that is loopback,
    /// the address that the server advertises.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// What is printed; default: the command for machines, the token for a user.
    #[arg(long, value_enum)]
    pub print: Option<Print>,
    /// Print everything instead, as data.
    #[arg(short, long, value_enum, default_value = "table", conflicts_with = "print")]
    pub output: Output,
}

impl CreateToken {
    /// As what a machine joins by it; none: it is a user's.
    pub fn joins(&self) -> Option<Role> {
        match (self.node_join, self.edge_join) {
            (true, _) => Some(Role::Node),
            (_, true) => Some(Role::Edge),
            _ => None,
        }
    }

    /// `spec.purpose`.
    pub fn purpose(&self) -> &'static str {
        match self.joins() {
            Some(Role::Node) => "NodeJoin",
            Some(Role::Edge) => "EdgeJoin",
            None => "Access",
        }
    }
}
