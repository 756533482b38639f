//! Why a machine does not become a node: each a sentence that says what to do.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::role::Role;
use crate::client::ClientError;
use crate::client::authority::CaHash;

/// How one gets a token; the end of most of these sentences.
fn new_token(role: Role) -> String {
    format!("make a new one on the server with `{}`", role.token_command())
}

/// Why there are no credentials to go on with. None of these goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("cannot use {}; check that the data directory belongs to the agent's user", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be read ({problem}); restore it, or remove it and join again with a token", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "this machine has not joined a cluster: there are no credentials in {}, and {missing} is not given; paste the line \
         that `{}` prints on the server", directory.display(), role.token_command()
    )]
    NotJoined { directory: PathBuf, missing: &'static str, role: Role },
    #[error(
        "{} holds the credentials of {role} {has:?}, not of {told:?}; leave {} out, or give another --data-dir",
        directory.display(), role.name_flag()
    )]
    OtherNode { directory: PathBuf, has: String, told: String, role: Role },
    #[error(
        "{} holds the credentials of another cluster, whose authority is {has} and not {told}; move the directory away to \
         join this one, or give another --data-dir", directory.display()
    )]
    OtherCluster { directory: PathBuf, has: CaHash, told: CaHash },
    #[error("the certificate of {role} {node:?} has ended at {ended}; join again: give --token, and {}", new_token(*role))]
    Ended { node: String, ended: Timestamp, role: Role },
    #[error("--server {server}: {problem}")]
    Server { server: String, problem: String },
    #[error(
        "the server at {server} is not the one that the line was made for: its authority is {}, not {told}; copy \
         --server and --ca-hash from one line", .shown.map_or("not shown".to_owned(), |hash| hash.to_string())
    )]
    WrongAuthority { server: String, told: CaHash, shown: Option<CaHash> },
    #[error(
        "at this machine's time, {now}, the certificate of the server at {server} does not hold; set the clock (as \
         chrony or systemd-timesyncd does) and start the agent again"
    )]
    ServerTime { server: String, now: Timestamp },
    #[error(
        "the certificate of the server at {server} is not for that name; start the server with --tls-san and the name, or \
         give --server one of its own"
    )]
    ServerName { server: String },
    #[error("the server at {server} is not to be believed")]
    Unbelievable {
        server: String,
        #[source]
        source: ClientError,
    },
    #[error("the server does not take the token: it has expired, was revoked, or is not whole; {}", new_token(*role))]
    Token { role: Role },
    #[error("the token is for another purpose, not for joining ({message}); {}", new_token(*role))]
    Purpose { message: String, role: Role },
    #[error("{message}")]
    Taken { message: String },
    #[error("the server refuses to make this machine a node")]
    Refused(#[source] ClientError),
    #[error(
        "this machine's clock says {now}, and the certificate that it was given holds from {from} to {until}; set the \
         clock (as chrony or systemd-timesyncd does) and start the agent again"
    )]
    Clock { now: Timestamp, from: Timestamp, until: Timestamp },
    #[error("the server has answered with something else than a certificate for this node: {0}")]
    Answer(String),
    #[error("making a key")]
    Key(#[source] rcgen::Error),
    #[error("using the credentials")]
    Client(#[source] ClientError),
}
