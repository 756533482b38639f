//! How a machine becomes a node, or an edge node: once by a token, and from then on by a certificate of its own.
//!
//! ```text
//! stored? ──yes──▶ use them ◀──────────────────────────┐
//!    │ no                                              │
//!    ▼                                                 │ stored
//! authority by its hash ─▶ key, request ─▶ certificate ┤
//!  (nothing secret sent)     (token)                   │
//!                                renewed long before its end
//! ```
//!
//! What is decided is apart from what is done: [`settle`] says from the stored file and the command line what there is to
//! do, [`judge`](attempt::judge) what an error means, [`renew::due`] when a certificate is to be renewed. A server that
//! cannot be reached is waited for, as machines may start in any order; everything else that goes wrong ends with one
//! sentence ([`JoinError`]). The token is sent once the server is known to be the right one, and never stored.

mod attempt;
pub mod credentials;
mod error;
pub mod renew;
mod role;
mod secret;
mod settle;

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

pub use attempt::IssueError;
use attempt::{Applicant, Verdict};
pub use error::JoinError;
pub use role::Role;
pub use secret::Secret;
pub use settle::{Invitation, Options};
use settle::{Step, settle};

use crate::client::{Client, ClientError};
use credentials::Credentials;

/// How long to wait after the first attempt that failed, and at most; each wait is twice the one before.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_LONGEST: Duration = Duration::from_secs(30);

/// Keeps the machine's certificate from ending for as long as it is polled. It ends only when it cannot go on.
pub type Renewal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client that is the node `node`, by the word of `by`: with a certificate of its own, which nobody stores or renews.
///
/// # Errors
/// When the server gives none, as for the name of a node that is alive.
pub async fn introduce(by: &Client, node: &str) -> Result<Client, IssueError> {
    let credentials = Applicant::new(Role::Node, node)?.introduced(by).await?;
    let client = Client::new(&credentials.server, Some(&credentials.ca_pem), None)?;
    client.identify(&credentials.certificate_pem, &credentials.key_pem)?;
    Ok(client)
}

/// A client of the server, and what keeps its credentials: the machine joins first, where `options` say how, and else the
/// kubeconfig is somebody else's to see to. None: `shutdown` was done before.
///
/// # Errors
/// When the machine cannot join, or the kubeconfig cannot be used.
pub async fn begin<E: From<JoinError> + From<ClientError>>(
    options: Option<Options>,
    kubeconfig: &Path,
    shutdown: impl Future<Output = ()>,
) -> Result<Option<(Client, Renewal)>, E> {
    let Some(options) = options else {
        return Ok(Some((Client::from_kubeconfig(kubeconfig)?, Box::pin(std::future::pending()))));
    };
    let mut chance = crate::chance();
    let credentials = tokio::select! {
        entered = enter(&options, &mut chance) => entered?,
        () = shutdown => return Ok(None),
    };
    let client = Client::from_kubeconfig(kubeconfig)?;
    let renewal = renew::keep(client.clone(), options.directory, credentials, chance);
    Ok(Some((client, Box::pin(renewal))))
}

/// The machine's credentials: those that are stored, or new ones, for which a server that is away is waited for. They stand
/// at [`credentials::path`] then.
///
/// # Errors
/// When this machine cannot become, or go on as, the node; a sentence that says what to do.
pub async fn enter(options: &Options, chance: &mut impl FnMut() -> u64) -> Result<Credentials, JoinError> {
    let stored = credentials::load(&options.directory, options.role)?;
    let step = settle(options, stored.as_ref(), Timestamp::now())?;
    let invitation = match (step, stored) {
        (Step::Use { token_ignored }, Some(stored)) => {
            say_ignored(token_ignored, options);
            return Ok(stored);
        }
        (Step::Move { server, token_ignored }, Some(stored)) => {
            say_ignored(token_ignored, options);
            info!(server, before = stored.server, "the server is looked for at another address");
            let stored = Credentials { server, ..stored };
            credentials::store(&options.directory, &stored)?;
            return Ok(stored);
        }
        (Step::Join(invitation), stored) => {
            if let Some(ended) = stored.map(|stored| stored.facts.not_after) {
                info!(%ended, "the machine's certificate has ended; joining anew");
            }
            invitation
        }
        // What is stored serves only where something is.
        (Step::Use { .. } | Step::Move { .. }, None) => {
            return Err(JoinError::NotJoined {
                directory: options.directory.clone(),
                missing: "--server",
                role: options.role,
            });
        }
    };
    let credentials = join((options.role, &options.node), &invitation, chance).await?;
    credentials::store(&options.directory, &credentials)?;
    let (node, until, directory) = (&options.node, credentials.facts.not_after, options.directory.display());
    info!(node, server = invitation.server, %until, "this machine has joined the cluster; its credentials are in {directory}");
    Ok(credentials)
}

fn say_ignored(token_ignored: bool, options: &Options) {
    if token_ignored {
        let directory = options.directory.display();
        info!("this machine has joined already, with the credentials in {directory}: the token is not needed");
    }
}

/// Tries until there is an answer.
async fn join(
    (role, name): (Role, &str),
    invitation: &Invitation,
    chance: &mut impl FnMut() -> u64,
) -> Result<Credentials, JoinError> {
    let applicant = Applicant::new(role, name)?;
    let mut wait = WAIT_FIRST;
    let mut told = false;
    loop {
        let error = match applicant.attempt(invitation).await {
            Ok(credentials) => return Ok(credentials),
            Err(Verdict::Final(error)) => return Err(*error),
            Err(Verdict::Later(error)) => error,
        };
        let (server, error) = (&invitation.server, crate::chain(&*error));
        if told {
            tracing::debug!(server, error, "not joined yet");
        } else {
            warn!(server, error, "the server cannot be asked to join; trying on");
            told = true;
        }
        // So that many machines that were started together do not come together.
        tokio::time::sleep(renew::between(wait / 2, wait, chance())).await;
        wait = (wait * 2).min(WAIT_LONGEST);
    }
}
