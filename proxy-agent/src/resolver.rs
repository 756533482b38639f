//! The resolver of this machine: told to ask this DNS for the cluster's names, and told so no more.
//!
//! ```text
//! look (files of the host) ─▶ Host ─┐
//!                 what is wanted ───┴▶ plan (pure) ─▶ actions on files ─▶ act, reload systemd-resolved
//! ```
//!
//! | what is there | what is made | who asks us |
//! |---|---|---|
//! | systemd-resolved runs and `resolv.conf` leads to its stub, systemd 258 or newer | `/etc/systemd/dns-delegate.d/portolan.dns-delegate` | whoever asks for a name of the cluster, and nobody else |
//! | the same, an older systemd | `/etc/systemd/resolved.conf.d/portolan.conf` | the same; but resolved takes servers of all of the machine for good for every name, so names that belong to no link are asked here too, beside the links' servers |
//! | anything else | `/etc/resolv.conf`: this DNS first, behind it what was there; the former file beside it as `resolv.conf.portolan-saved` | every program of the machine, for every name; if this DNS is away they go on to the next server |
//!
//! Files, not `resolvectl` or D-Bus: settings of a link need a link (resolved takes none for `lo`, and those of networkd's links
//! belong to networkd), and are gone with it. A file survives restarts of everything, and can be read by whoever wonders.
//!
//! What holds: nothing is written over that somebody else wrote or changed, except `resolv.conf` after it was put aside. Each file
//! of ours begins with a line by which it is known and with a sum of the rest: what was edited since is said and left alone.
//! Files are replaced by renaming. The former `resolv.conf` is put aside as a hard link, so it comes back as the very file or symbolic
//! link that it was. Doing anything twice does nothing.

mod act;
mod plan;
#[cfg(test)]
mod tests;
mod text;
mod zones;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use dns::{Names, SharedNames};

/// How often it is looked whether the host is still as wanted: NetworkManager and DHCP clients write `resolv.conf` anew.
const LOOK: Duration = Duration::from_secs(20);
/// How soon it is looked whether everything is known, at start.
const FIRST: Duration = Duration::from_millis(500);

/// What a host's resolver is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Who answers for the domains.
    pub servers: Vec<SocketAddr>,
    /// Domains without the dot at their end: the cluster's, and those of its addresses.
    pub domains: Vec<String>,
    /// Domains that are tried behind short names, before those of the host.
    pub search: Vec<String>,
}

/// What was done, and what was left alone, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub changed: Vec<String>,
    pub left: Vec<String>,
}

/// Why the host's resolver could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("systemd-resolved did not read its configuration again: {0}")]
    Reload(String),
}

/// Makes the host as wanted. `root` is `/`, elsewhere only in tests.
///
/// # Errors
/// When a file cannot be read or written; what was done before stays, and doing it again goes on from there.
pub fn configure(root: &Path, wanted: &Wanted) -> Result<Done, ResolverError> {
    let host = act::look(root)?;
    act::act(root, plan::configure(&host, wanted), act::reload)
}

/// Makes the host as it was, as far as nobody has changed it since.
///
/// # Errors
/// As [`configure`].
pub fn restore(root: &Path) -> Result<Done, ResolverError> {
    let host = act::look(root)?;
    act::act(root, plan::restore(&host), act::reload)
}

/// Keeps the host as wanted for as long as it is polled: from when the names are known, and again when somebody has written
/// over it. `servers`: who answers; `None`: the ClusterIPs of the zone's Service.
pub async fn keep(names: SharedNames, servers: Option<Vec<SocketAddr>>, search: Option<String>) {
    let mut told: Option<Result<Done, String>> = None;
    loop {
        let wanted =
            wanted(&names.read().unwrap_or_else(PoisonError::into_inner), servers.as_deref(), search.as_deref());
        let Some(wanted) = wanted else {
            tokio::time::sleep(FIRST).await;
            continue;
        };
        let done = tokio::task::spawn_blocking(move || configure(Path::new("/"), &wanted)).await;
        let done = match done {
            Ok(done) => done.map_err(|error| crate::chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        tell(&done, told.as_ref());
        told = Some(done);
        tokio::time::sleep(LOOK).await;
    }
}

/// Each thing once, as long as it stays the same.
fn tell(done: &Result<Done, String>, before: Option<&Result<Done, String>>) {
    match done {
        Ok(done) => {
            for line in &done.changed {
                tracing::info!("the machine's resolver: {line}");
            }
            for line in &done.left {
                if !matches!(before, Some(Ok(before)) if before.left.contains(line)) {
                    tracing::warn!("the machine's resolver: {line}");
                }
            }
        }
        Err(error) if !matches!(before, Some(Err(before)) if before == error) => {
            tracing::warn!(error, "the machine's resolver is not set up; it is tried again");
        }
        Err(_) => {}
    }
}

/// `None`: not everything is known yet.
fn wanted(names: &Names, servers: Option<&[SocketAddr]>, search: Option<&str>) -> Option<Wanted> {
    if !names.synced() || names.service_cidrs().is_empty() {
        return None;
    }
    let domain = names.zone().domain.to_ascii().trim_end_matches('.').to_owned();
    let servers = match servers {
        Some(servers) => servers.to_vec(),
        None => cluster_ips(names),
    };
    if servers.is_empty() {
        return None;
    }
    let reverse = names.service_cidrs().iter().flat_map(|range| zones::reverse(*range));
    let search = search.map_or_else(Vec::new, |namespace| {
        vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]
    });
    Some(Wanted { servers, domains: std::iter::once(domain.clone()).chain(reverse).collect(), search })
}

fn cluster_ips(names: &Names) -> Vec<SocketAddr> {
    let service = &names.zone().service;
    let mut own = Vec::new();
    for label in [&*service.name, &*service.namespace, "svc"] {
        own.push(u8::try_from(label.len()).unwrap_or(0));
        own.extend(label.bytes());
    }
    for label in names.zone().domain.iter() {
        own.push(u8::try_from(label.len()).unwrap_or(0));
        own.extend(label.to_ascii_lowercase());
    }
    own.push(0);
    let Some(addresses) = names.addresses(&own) else { return Vec::new() };
    let v4 = addresses.v4.iter().copied().map(IpAddr::V4);
    v4.chain(addresses.v6.iter().copied().map(IpAddr::V6)).map(|ip| SocketAddr::new(ip, 53)).collect()
}
