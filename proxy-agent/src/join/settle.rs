//! Whether a machine has what it needs, or has to join: a decision over what is stored and what was told.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::credentials::Credentials;
use super::error::JoinError;
use super::role::Role;
use crate::client::authority::CaHash;

/// What the command line says.
#[derive(Clone)]
pub struct Options {
    /// Where credentials are kept.
    pub directory: PathBuf,
    pub role: Role,
    /// The machine's name as that.
    pub node: String,
    pub server: Option<String>,
    pub token: Option<String>,
    pub ca_hash: Option<CaHash>,
}

/// Without the token.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .field("node", &self.node)
            .field("server", &self.server)
            .field("ca_hash", &self.ca_hash)
            .finish_non_exhaustive()
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The stored credentials serve; `token_ignored`: a token was given all the same.
    Use {
        token_ignored: bool,
    },
    /// They serve at another address of the same server.
    Move {
        server: String,
        token_ignored: bool,
    },
    Join(Invitation),
}

/// Where to join, and by what.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    pub server: String,
    pub token: String,
    pub ca_hash: CaHash,
}

/// Without the token.
impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation")
            .field("server", &self.server)
            .field("ca_hash", &self.ca_hash)
            .finish_non_exhaustive()
    }
}

/// Decides.
///
/// # Errors
/// When what is stored is another node's, another cluster's or over, or too little was told.
pub fn settle(told: &Options, stored: Option<&Credentials>, now: Timestamp) -> Result<Step, JoinError> {
    let Some(stored) = stored else {
        let role = told.role;
        let missing = |missing| move || JoinError::NotJoined { directory: told.directory.clone(), missing, role };
        return Ok(Step::Join(Invitation {
            server: told.server.clone().ok_or_else(missing("--server"))?,
            token: told.token.clone().ok_or_else(missing("--token"))?,
            ca_hash: told.ca_hash.ok_or_else(missing("--ca-hash"))?,
        }));
    };
    is_of(told, stored, &told.directory)?;
    if stored.facts.not_after <= now {
        let (node, ended) = (stored.facts.node.clone(), stored.facts.not_after);
        return match (&told.token, told.ca_hash.or(stored.ca_hash())) {
            (Some(token), Some(ca_hash)) => {
                let server = told.server.as_ref().unwrap_or(&stored.server).clone();
                Ok(Step::Join(Invitation { server, token: token.clone(), ca_hash }))
            }
            _ => Err(JoinError::Ended { node, ended, role: told.role }),
        };
    }
    let token_ignored = told.token.is_some();
    Ok(match &told.server {
        Some(server) if *server != stored.server => Step::Move { server: server.clone(), token_ignored },
        _ => Step::Use { token_ignored },
    })
}

/// Whether these credentials are what was told.
fn is_of(told: &Options, stored: &Credentials, directory: &Path) -> Result<(), JoinError> {
    let directory = || directory.to_owned();
    if told.node != stored.facts.node {
        let (has, name) = (stored.facts.node.clone(), told.node.clone());
        return Err(JoinError::OtherNode { directory: directory(), has, told: name, role: told.role });
    }
    match (told.ca_hash, stored.ca_hash()) {
        (Some(told), Some(has)) if told != has => Err(JoinError::OtherCluster { directory: directory(), has, told }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::tests::credentials;
    use super::*;

    const START: &str = "2024-01-01T00:00:00Z";
    const END: &str = "2024-02-01T00:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn nothing_told() -> Options {
        Options {
            directory: "/d".into(),
            role: Role::Node,
            node: "web".into(),
            server: None,
            token: None,
            ca_hash: None,
        }
    }

    fn all_told(ca_hash: CaHash) -> Options {
        let (server, token) = (Some("https://192.0.2.1:6443".into()), Some("id.secret".into()));
        Options { server, token, ca_hash: Some(ca_hash), ..nothing_told() }
    }

    #[test]
    fn a_new_machine_needs_all_three() {
        let hash = credentials("web", START, END).ca_hash().unwrap();
        let all = all_told(hash);
        let step = settle(&all, None, at(START)).unwrap();
        let (server, token) = ("https://192.0.2.1:6443".into(), "id.secret".into());
        assert_eq!(step, Step::Join(Invitation { server, token, ca_hash: hash }));
        for (told, missing) in [
            (Options { server: None, ..all.clone() }, "--server"),
            (Options { token: None, ..all.clone() }, "--token"),
            (Options { ca_hash: None, ..all.clone() }, "--ca-hash"),
        ] {
            let error = settle(&told, None, at(START)).unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains("portolan token create --node-join"), "{error}");
        }
    }

    #[test]
    fn a_machine_that_has_credentials_needs_nothing() {
        let stored = credentials("web", START, END);
        let hash = stored.ca_hash().unwrap();
        let settled = |told: &Options| settle(told, Some(&stored), at("2024-01-20T00:00:00Z"));
        assert_eq!(settled(&nothing_told()).unwrap(), Step::Use { token_ignored: false });
        assert_eq!(settled(&all_told(hash)).unwrap(), Step::Use { token_ignored: true }, "the line was pasted again");
        let server = Some("https://server.example:6443".to_owned());
        let moved = Step::Move { server: "https://server.example:6443".into(), token_ignored: false };
        assert_eq!(settled(&Options { server, ..nothing_told() }).unwrap(), moved);
    }

    #[test]
    fn credentials_of_another_node_or_cluster_are_not_used() {
        let (stored, other) = (credentials("web", START, END), credentials("db", START, END));
        let settled = |told: &Options| settle(told, Some(&stored), at(START)).unwrap_err();
        let error = settled(&Options { node: "db".into(), ..nothing_told() });
        assert!(matches!(&error, JoinError::OtherNode { .. }) && error.to_string().contains("--data-dir"), "{error}");
        let error = settled(&all_told(other.ca_hash().unwrap()));
        assert!(
            matches!(&error, JoinError::OtherCluster { .. }) && error.to_string().contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn when_the_certificate_has_ended_a_token_is_enough() {
        let stored = credentials("web", START, END);
        let settled = |told: &Options| settle(told, Some(&stored), at(END));
        let error = settled(&nothing_told()).unwrap_err();
        assert!(matches!(&error, JoinError::Ended { .. }) && error.to_string().contains("token create"), "{error}");
        let told = Options { token: Some("t".into()), ..nothing_told() };
        let (server, ca_hash) = (stored.server.clone(), stored.ca_hash().unwrap());
        assert_eq!(settled(&told).unwrap(), Step::Join(Invitation { server, token: "t".into(), ca_hash }));
    }
}
