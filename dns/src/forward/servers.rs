//! Whom to ask: the servers given, or the host's, without ourselves; those that have just failed come last.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::resolv_conf::{is_stub, nameservers};
use super::{Upstream, UpstreamError};

/// Servers that are kept; CoreDNS' `forward` has the same limit.
const MOST: usize = 15;
/// Servers, or attempts at fewer, that one question goes to.
pub(super) const TRIES: usize = 3;
/// A server that did not answer is asked after the others for so long.
const SHUNNED: Duration = Duration::from_secs(10);
/// How often the host's file is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// `resolv.conf` is not read beyond.
const LONGEST: u64 = 64 * 1024;

/// The servers of one forwarder.
pub(super) struct Servers {
    upstream: Upstream,
    state: Mutex<State>,
}

struct State {
    own: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
    /// Until when a server is asked after the others.
    shunned: HashMap<SocketAddr, Instant>,
    looked: Option<Instant>,
    /// By which a file is seen to have changed.
    seen: [Option<Seen>; 2],
    /// What the log was told of last.
    left_out: Vec<SocketAddr>,
}

/// Device, inode, length and time of change.
type Seen = (u64, u64, u64, i64, i64);

impl Servers {
    pub fn new(upstream: Upstream, own: Vec<SocketAddr>) -> Result<Self, UpstreamError> {
        if let Upstream::Servers(given) = &upstream {
            if given.len() > MOST {
                return Err(UpstreamError::TooMany { given: given.len(), most: MOST });
            }
            if let Some(server) = given.iter().find(|server| is_own(server, &own)) {
                return Err(UpstreamError::Own(*server));
            }
        }
        let state = State {
            own,
            servers: Vec::new(),
            shunned: HashMap::new(),
            looked: None,
            seen: [None, None],
            left_out: Vec::new(),
        };
        let servers = Self { upstream, state: Mutex::new(state) };
        servers.lock().read(&servers.upstream);
        Ok(servers)
    }

    pub fn answers_on(&self, own: Vec<SocketAddr>) {
        let mut state = self.lock();
        if state.own != own {
            state.own = own;
            state.read(&self.upstream);
        }
    }

    /// Whom to ask now, one after the other: those in order that are not shunned, then the others, from the beginning again while
    /// there are fewer than tries.
    pub fn in_turn(&self, now: Instant) -> Vec<SocketAddr> {
        let mut state = self.lock();
        if state.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            state.looked = Some(now);
            if state.seen != seen(&self.upstream) {
                state.read(&self.upstream);
            }
        }
        in_turn(&state.servers, |server| state.shunned.get(server).is_some_and(|until| *until > now))
    }

    pub fn heard(&self, server: SocketAddr, answered: bool, now: Instant) {
        let mut state = self.lock();
        if answered {
            state.shunned.remove(&server);
        } else if state.servers.contains(&server) {
            state.shunned.insert(server, now + SHUNNED);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, upstream: &Upstream) {
        self.seen = seen(upstream);
        let named = match upstream {
            Upstream::Servers(given) => given.clone(),
            Upstream::Host { resolv_conf, behind_stub } => {
                of_host(&nameservers(&text(resolv_conf)), || nameservers(&text(behind_stub)))
            }
        };
        let (own, others): (Vec<_>, Vec<_>) = named.into_iter().partition(|server| is_own(server, &self.own));
        self.tell(upstream, &own, &others);
        self.servers = others;
        self.servers.truncate(MOST);
        self.shunned.retain(|server, _| self.servers.contains(server));
    }

    /// Once for each state of things.
    fn tell(&mut self, upstream: &Upstream, own: &[SocketAddr], others: &[SocketAddr]) {
        let from = match upstream {
            Upstream::Servers(_) => "--dns-upstream".to_owned(),
            Upstream::Host { resolv_conf, .. } => resolv_conf.display().to_string(),
        };
        if self.left_out != own && !own.is_empty() {
            tracing::warn!(servers = ?own, from, "this DNS itself is among its upstreams: left out, it would ask itself in circles");
        }
        self.left_out = own.to_vec();
        if others.is_empty() && (self.looked.is_none() || !self.servers.is_empty()) {
            tracing::warn!(
                from,
                "no upstream server: names outside of the cluster are answered SERVFAIL; name one with --dns-upstream, or in {from}"
            );
        }
    }
}

/// What the host uses: its servers without systemd-resolved's stub; those behind it where there are no others.
fn of_host(named: &[SocketAddr], behind_stub: impl FnOnce() -> Vec<SocketAddr>) -> Vec<SocketAddr> {
    let real: Vec<_> = named.iter().copied().filter(|server| !is_stub(server)).collect();
    if !real.is_empty() || named.is_empty() {
        return real;
    }
    let behind = behind_stub();
    // Something else may listen there.
    if behind.is_empty() { named.to_vec() } else { behind }
}

fn in_turn(servers: &[SocketAddr], shunned: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let (last, first): (Vec<_>, Vec<_>) = servers.iter().partition(|server| shunned(server));
    let all: Vec<SocketAddr> = first.into_iter().chain(last).copied().collect();
    all.iter().copied().cycle().take(if all.is_empty() { 0 } else { TRIES }).collect()
}

/// Whether whoever asks there asks us. Nobody answers on `0.0.0.0` or `::`, so an address is one of the list or it is not.
fn is_own(server: &SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| own.port() == server.port() && own.ip().to_canonical() == server.ip().to_canonical())
}

fn seen(upstream: &Upstream) -> [Option<Seen>; 2] {
    let Upstream::Host { resolv_conf, behind_stub } = upstream else { return [None, None] };
    [resolv_conf, behind_stub].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    })
}

fn text(path: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // What could be read counts; a file that cannot be is one without servers.
        let _ = file.take(LONGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
