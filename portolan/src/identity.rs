//! Who this machine is in the cluster, and by what: for the agent and for an edge node.

use std::path::{Path, PathBuf};

use model::syntax;
use proxy_agent::join::{self, Role, credentials};

use crate::Failure;
use crate::cli::JoinArgs;

/// What the command line says of it.
pub struct Told<'a> {
    pub role: Role,
    pub kubeconfig: Option<&'a Path>,
    pub join: &'a JoinArgs,
    pub data_dir: &'a Path,
    pub name: Option<&'a str>,
}

pub struct Identity {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub join: Option<join::Options>,
}

/// By a kubeconfig that somebody has written, or else by what the machine is given when it joins. Its name is that of the
/// flag, else of the credentials that are there, else of the machine.
///
/// # Errors
/// When the token or the machine's name cannot be used, or what is stored cannot be read.
pub fn find(told: &Told<'_>) -> Result<Identity, Failure> {
    let role = told.role;
    if let Some(kubeconfig) = told.kubeconfig {
        let name = told.name.map_or_else(|| hostname(role), |name| Ok(name.to_owned()))?;
        return Ok(Identity { name, kubeconfig: kubeconfig.to_owned(), join: None });
    }
    let token = told.join.token.as_deref().map(|text| token(text, role)).transpose()?;
    let stored = || credentials::load(told.data_dir, role).map_err(|e| Failure::new("using the data directory", &e));
    let name = match told.name {
        Some(name) => name.to_owned(),
        None => match stored()? {
            Some(stored) => stored.facts.node,
            None => hostname(role)?,
        },
    };
    let join = join::Options {
        directory: told.data_dir.to_owned(),
        role,
        node: name.clone(),
        server: told.join.server.clone(),
        token,
        ca_hash: told.join.ca_hash,
    };
    Ok(Identity { name, kubeconfig: credentials::path(told.data_dir, role), join: Some(join) })
}

/// A join token, `ID.SECRET`. What is wrong with it is not shown: it goes to screens and logs.
fn token(text: &str, role: Role) -> Result<String, Failure> {
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    match text.trim().split_once('.') {
        Some((id, secret)) if fits(id) && fits(secret) => Ok(text.trim().to_owned()),
        _ => Err(Failure::text(format!("--token is not whole; copy the line of `{}` again", role.token_command()))),
    }
}

/// This machine's own name: in small letters, as kubelet takes it.
fn hostname(role: Role) -> Result<String, Failure> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    match syntax::dns1123_subdomain(&name).first() {
        None => Ok(name),
        Some(problem) => {
            let flag = role.name_flag();
            Err(Failure::text(format!("this machine's name, {name:?}, can be no {role}'s; give {flag}: {problem}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_whole_is_not_repeated() {
        assert_eq!(token(" abc123.0123456789 ", Role::Node).unwrap(), "abc123.0123456789");
        for wrong in ["", "abc123", "abc123.", ".0123", "abc123.SECRET", "abc123.se cret"] {
            let error = token(wrong, Role::Edge).unwrap_err().to_string();
            assert!(error.contains("portolan token create --edge-join") && !error.contains("ecret"), "{error}");
        }
    }
}
