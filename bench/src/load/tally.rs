//! What became of requests: how long they took, and how many failed by what.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_agent::client::ClientError;
use serde::Serialize;

use crate::histogram::Times;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    CreateService,
    CreatePod,
    PodStatus,
    DeletePod,
    DeleteService,
}

impl Kind {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Kind::CreateService => "create a Service",
            Kind::CreatePod => "create a Pod",
            Kind::PodStatus => "a Pod's status",
            Kind::DeletePod => "delete a Pod",
            Kind::DeleteService => "delete a Service",
        }
    }
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    #[serde(flatten)]
    pub times: Times,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, Failed>,
}

/// Failures of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub count: u64,
    /// What the first of them said.
    pub example: String,
}

/// Kinds of failures that are told apart.
const MAX_KINDS: usize = 32;

impl Tally {
    pub fn done(&mut self, time: Duration) {
        self.times.record(time);
    }

    /// A failure takes its time, too: one that ran into a limit would be missing among the slow ones otherwise.
    pub fn failed(&mut self, time: Duration, error: &ClientError) {
        self.times.record(time);
        let kind = error.code().map_or_else(|| kind(error).to_owned(), |code| code.to_string());
        if self.failed.len() < MAX_KINDS || self.failed.contains_key(&kind) {
            let failed = self.failed.entry(kind).or_default();
            failed.count += 1;
            if failed.count == 1 {
                failed.example = error.to_string();
            }
        }
    }

    pub fn failures(&self) -> u64 {
        self.failed.values().map(|failed| failed.count).sum()
    }
}

fn kind(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connect { .. } | ClientError::GivenUp => "connect",
        ClientError::Handshake { .. } | ClientError::Tls(_) => "tls",
        ClientError::Timeout { .. } => "timeout",
        ClientError::Http { .. } => "connection",
        _ => "answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind() {
        let mut tally = Tally::default();
        tally.done(Duration::from_millis(1));
        for _ in 0..2 {
            let error = ClientError::Timeout { what: "a request", limit: Duration::from_secs(40) };
            tally.failed(Duration::from_secs(40), &error);
        }
        assert_eq!((tally.failures(), tally.times.count()), (2, 3));
        assert_eq!(tally.failed["timeout"].count, 2);
    }
}
