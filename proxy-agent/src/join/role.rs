//! As what a machine joins, and the words that differ by it.

use std::fmt;

/// As what a machine joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It forwards packets, and may run workloads.
    #[default]
    Node,
    /// It holds the addresses of load balancers.
    Edge,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Node, Self::Edge];

    /// What stands before the machine's name in its certificate.
    pub fn user_prefix(self) -> &'static str {
        match self {
            Self::Node => "system:node:",
            Self::Edge => "system:edge:",
        }
    }

    /// The group that its certificate is to be of.
    pub fn group(self) -> &'static str {
        match self {
            Self::Node => "system:nodes",
            Self::Edge => "portolan:edges",
        }
    }

    /// The name of the file with its credentials.
    pub fn file(self) -> &'static str {
        match self {
            Self::Node => "agent.kubeconfig",
            Self::Edge => "edge.kubeconfig",
        }
    }

    /// The flag that says its name.
    pub fn name_flag(self) -> &'static str {
        match self {
            Self::Node => "--node-name",
            Self::Edge => "--edge-name",
        }
    }

    /// The command that makes a token for it.
    pub fn token_command(self) -> &'static str {
        match self {
            Self::Node => "portolan token create --node-join",
            Self::Edge => "portolan token create --edge-join",
        }
    }

    /// Role and name of the user that a certificate is for; None for anybody else.
    pub fn of_user(user: &str) -> Option<(Self, &str)> {
        let of = |role: Self| Some((role, user.strip_prefix(role.user_prefix())?));
        Self::ALL.into_iter().find_map(of).filter(|(_, name)| !name.is_empty())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Edge => "edge node",
        })
    }
}
