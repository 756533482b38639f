//! Why a request failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Why there is no answer, or what the answer refused.
///
/// A caller that can wait may try again after anything but [`ClientError::Status`] with a 4xx code (other than
/// 429), [`ClientError::Kubeconfig`], [`ClientError::Setup`] and [`ClientError::Tls`]: these stay as they are.
/// After a failed write it is unknown whether the write took place.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered, and refused.
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("reading the kubeconfig {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Something given to the client cannot be used.
    #[error("{what} cannot be used: {reason}")]
    Setup { what: &'static str, reason: String },
    #[error("setting up TLS")]
    Tls(#[source] tokio_rustls::rustls::Error),
    #[error("connecting to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("opening TLS to {address}")]
    Handshake {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The connections were given up while it was being opened ([`Client::cut`](super::Client::cut)).
    #[error("the connection was given up, since the server had not answered on others")]
    GivenUp,
    #[error("{what}")]
    Http {
        what: &'static str,
        #[source]
        source: hyper::Error,
    },
    #[error("{what} took longer than {} s", limit.as_secs())]
    Timeout { what: &'static str, limit: Duration },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: &'static str, limit: usize },
    #[error("{what} is not the JSON that was expected")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// A stream broke off or does not have the shape of a list or a watch.
    #[error("{what}: {reason}")]
    Malformed { what: &'static str, reason: String },
}

/// A Kubernetes `Status` that reports a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StatusError {
    /// HTTP code, e.g. 404.
    pub code: u16,
    /// Kubernetes' reason, e.g. `NotFound`; empty when the answer was no `Status`.
    pub reason: String,
    /// Never empty.
    pub message: String,
}

impl ClientError {
    /// The HTTP code of the server's answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        if let Self::Status(status) = self { Some(status.code) } else { None }
    }

    /// Whether the server said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the server said that the object exists already, or has changed since it was read.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}

impl StatusError {
    /// Reads a `Status` from the body of an answer; what is no `Status` becomes a message of at most 300 characters.
    pub(super) fn read(code: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            code: u16,
            #[serde(default)]
            reason: String,
            #[serde(default)]
            message: String,
        }
        match serde_json::from_slice::<Status>(body) {
            Ok(s) if !(s.message.is_empty() && s.reason.is_empty()) => Self {
                code: if s.code == 0 { code } else { s.code },
                message: if s.message.is_empty() { s.reason.clone() } else { s.message },
                reason: s.reason,
            },
            _ => {
                let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
                let message = if text.is_empty() { format!("the server answered {code}") } else { text };
                Self { code, reason: String::new(), message }
            }
        }
    }

    /// Whether a watch or list position is worth nothing any more: list anew (research B.3; client-go relists on these).
    /// Too old, or of a future that is gone: the server's database was restored to an older state.
    pub fn is_expired(&self) -> bool {
        let future = self.code == 504 && self.message.contains("Too large resource version");
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone" || future
    }
}

/// Why a kubeconfig file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error("it is not a kubeconfig")]
    Parse(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{field} is not set")]
    Missing { field: String },
    /// The context names a cluster or user that is not in the file.
    #[error("there is no {kind} named {name:?}")]
    NoSuch { kind: &'static str, name: String },
    #[error("{field} is not supported{}", if hint.is_empty() { String::new() } else { format!(": {hint}") })]
    Unsupported { field: &'static str, hint: &'static str },
    #[error("{field} is not base64")]
    Base64 {
        field: &'static str,
        #[source]
        source: base64::DecodeError,
    },
    #[error("{field} names {}, which cannot be read", path.display())]
    File {
        field: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
