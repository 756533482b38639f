//! The flags of the server's limits and of its audit log. Where kube-apiserver has one, it bears the same name.

use std::path::PathBuf;
use std::time::Duration;

use api::{AuditConfig, Limits};
use clap::{Args, value_parser};

#[derive(Clone, Debug, Args)]
pub struct LimitArgs {
    /// Requests that read at the same time, counted in seats: a seat is about a millisecond of a core, and a long list takes
    /// several. Further ones wait, their users served in turn.
    #[arg(long, value_name = "SEATS", default_value_t = 400, value_parser = value_parser!(u32).range(1..=100_000))]
    pub max_requests_inflight: u32,
    /// The same for requests that write.
    #[arg(long, value_name = "SEATS", default_value_t = 200, value_parser = value_parser!(u32).range(1..=100_000))]
    pub max_mutating_requests_inflight: u32,
    /// How much of seats, room for bodies and connections one user may have at a time.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = value_parser!(u8).range(1..=100))]
    pub max_user_share: u8,
    /// Requests of one user that wait for a seat; further ones get 429.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub max_queued_requests_per_user: u32,
    /// How long a request waits for a seat; then it gets 429.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = value_parser!(u32).range(1..=60))]
    pub request_queue_timeout: u32,
    /// Watches of one user, and requests that wait as watches do; further ones get 429.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub max_watches_per_user: u32,
    /// Bytes of a request's body; a longer one gets 413.
    #[arg(long, value_name = "BYTES", default_value_t = 3 * 1024 * 1024,
        value_parser = value_parser!(u32).range(64 * 1024..=3 * 1024 * 1024))]
    pub max_request_bytes: u32,
    /// How long the head of a request may take from its first byte on.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    pub request_header_timeout: u32,
    /// How long the body of a request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = value_parser!(u32).range(1..=3600))]
    pub request_body_timeout: u32,
    /// How long a connection may be silent on which nobody has shown yet who they are, TLS handshake included.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    pub unauthenticated_connection_timeout: u32,
    /// How long any other connection may be silent.
    #[arg(long, value_name = "SECONDS", default_value_t = 100, value_parser = value_parser!(u32).range(1..=86_400))]
    pub idle_connection_timeout: u32,
    /// Connections at the same time; further ones wait to be accepted. Less where the system allows fewer open files.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = value_parser!(u32).range(10..=1_000_000))]
    pub max_connections: u32,
    /// Of these, connections on which nobody has shown yet who they are; for each further one the oldest is closed,
    /// those without TLS first.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub max_unauthenticated_connections: u32,
    /// Requests at the same time on one HTTP/2 connection.
    #[arg(long = "http2-max-streams-per-connection", value_name = "N", default_value_t = 250,
        value_parser = value_parser!(u32).range(1..=10_000))]
    pub http2_max_streams_per_connection: u32,
}

impl LimitArgs {
    /// As the API takes them, where the system allows so many open files.
    pub fn limits(&self, open_files: u64) -> Limits {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        // The database, logs, and what the runtime has open.
        let descriptors = u32::try_from(open_files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX);
        Limits {
            requests: self.max_requests_inflight,
            mutating_requests: self.max_mutating_requests_inflight,
            user_share: self.max_user_share,
            queued_per_user: self.max_queued_requests_per_user as usize,
            queue_timeout: seconds(self.request_queue_timeout),
            watches_per_user: self.max_watches_per_user,
            request_bytes: self.max_request_bytes as usize,
            header_timeout: seconds(self.request_header_timeout),
            body_timeout: seconds(self.request_body_timeout),
            stranger_timeout: seconds(self.unauthenticated_connection_timeout),
            idle_timeout: seconds(self.idle_connection_timeout),
            connections: self.max_connections.min(descriptors).max(10),
            strangers: self.max_unauthenticated_connections,
            streams: self.http2_max_streams_per_connection,
        }
    }
}

/// Descriptors that are no connections.
const OTHER_FILES: u64 = 64;

#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// Write a line of JSON for each request to this file: who, what, from where, and the answer (Events of audit.k8s.io/v1
    /// at level Metadata). "-" is the standard output. Default: no audit log.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes of that file after which a new one is begun.
    #[arg(long, value_name = "MB", default_value_t = 100, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub audit_log_maxsize: u32,
    /// Older files that are kept; 0: all.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub audit_log_maxbackup: u32,
    /// Days after which an older file goes; 0: never.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u32,
}

impl AuditArgs {
    /// None where there is to be no log.
    pub fn config(&self) -> Option<AuditConfig> {
        self.audit_log_path.clone().map(|path| AuditConfig {
            path,
            max_size: self.audit_log_maxsize.into(),
            max_backup: self.audit_log_maxbackup as usize,
            max_age: self.audit_log_maxage,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        audit: AuditArgs,
    }

    #[test]
    fn without_flags_the_limits_are_those_of_the_api() {
        let flags = Flags::parse_from(["server"]);
        assert_eq!(flags.limits.limits(65_536), Limits::default());
        assert_eq!(flags.limits.limits(1_024).connections, 960);
        assert!(flags.audit.config().is_none());
    }
}
