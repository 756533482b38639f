//! The names of the cluster, kept up to date with what is known of it.
//!
//! [`Keeper`] brings them up to a [`State`]: the agent's core loop has one, and so has [`follow`], which reads the API for
//! the names alone, on a machine that is no node. Names do not wait for the kernel: what is acknowledged as programmed is
//! in the names already, and what a kernel refuses is there all the same.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use dns::{Names, SharedNames};
use model::Key;
use model::snapshot::Snapshot;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::core::BATCH;
use crate::lineage::Lineage;
use crate::reflector::News;
use crate::state::{Renamed, State};
use crate::watch_all;

/// Services that are renamed while those who answer wait; a microsecond or two each.
const AT_ONCE: usize = 64;

/// Writes what the state says into the names.
pub struct Keeper {
    names: SharedNames,
    loaded: bool,
}

impl Keeper {
    /// Of names that nothing was loaded into.
    pub fn new(names: SharedNames) -> Self {
        Self { names, loaded: false }
    }

    /// Brings the names up to the snapshot: all of them when it is the first, else what may be different.
    pub fn take(&mut self, snapshot: &Snapshot, renamed: Renamed) {
        if !self.loaded {
            // Beside the empty ones, so that nobody waits meanwhile.
            let zone = self.names.read().unwrap_or_else(PoisonError::into_inner).zone().clone();
            let mut loaded = Names::new(zone);
            loaded.load(snapshot);
            self.write(|names| *names = loaded);
            self.loaded = true;
            return;
        }
        if renamed.others {
            self.write(|names| names.update_cluster(snapshot));
        }
        let mut services = renamed.services;
        loop {
            let rest = split(&mut services, AT_ONCE);
            self.write(|names| names.update(snapshot, &services));
            if rest.is_empty() {
                return;
            }
            services = rest;
        }
    }

    /// A panic of another thread leaves names that the next load or update puts right.
    fn write(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Leaves the first `count` and gives the others.
fn split(keys: &mut BTreeSet<Key>, count: usize) -> BTreeSet<Key> {
    let first = keys.iter().nth(count).cloned();
    first.map(|key| keys.split_off(&key)).unwrap_or_default()
}

/// Reads the API and keeps the names up to date, for as long as it is polled; they know nothing until everything was read
/// once. Without a server they stay as they are. Returns only when a part of it has ended, which none does by itself.
pub async fn follow(client: Client, names: SharedNames) {
    let mut tasks = JoinSet::new();
    let mut updates = watch_all(&mut tasks, &client, &Lineage::default());
    // Of no node: there is none without a name.
    let mut state = State::new("", Vec::new());
    let mut keeper = Keeper::new(names);
    let mut batch = Vec::new();
    while updates.recv_many(&mut batch, BATCH).await > 0 {
        for News { epoch, update } in batch.drain(..) {
            if state.enter(epoch) {
                state.apply(update);
            }
        }
        if let Some(renamed) = state.take_renamed() {
            keeper.take(state.snapshot(), renamed);
            // What would be for a kernel, and would grow.
            let _ = state.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_change_is_made_in_parts() {
        let mut keys: BTreeSet<Key> = (0..150).map(|i| Key::new("a", &format!("{i:03}"))).collect();
        let mut parts = Vec::new();
        loop {
            let rest = split(&mut keys, 64);
            parts.push(keys.len());
            if rest.is_empty() {
                break;
            }
            keys = rest;
        }
        assert_eq!(parts, [64, 64, 22]);
    }
}
