//! Why the store does not do what it was asked.
//!
//! `Display` gives Kubernetes' message for a `Status` where there is one; which HTTP code and reason a refusal becomes
//! is decided in `api` alone.

use std::path::PathBuf;

use model::managed_fields::Conflicts;
use model::{FieldError, Resource, Revision};

/// The store cannot be opened. The message says what to do; the server prints it with its sources and exits.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another portolan server; stop that one, or give this one another --data-dir", path.display())]
    Locked { path: PathBuf },
    #[error("cannot open {}; check that its directory exists and that this user may write there", path.display())]
    Path {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the disk of {} is full; free some space and start again", path.display())]
    DiskFull {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("{} is locked by another program (a backup, a sqlite3 shell?); end it and start again", path.display())]
    Busy {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("{} is damaged or no SQLite database; restore it from a backup, or move it away to start empty", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("{} holds an object at revision {revision} that cannot be read; restore the file from a backup", path.display())]
    Row {
        path: PathBuf,
        revision: Revision,
        #[source]
        source: RowError,
    },
    #[error("{} is a SQLite database of another program; give this server another --data-dir", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{} was written by a newer Portolan (schema {found}, this one knows {known}); start the newer one",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot use the database {}", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the service range {range} cannot be used; give another --service-cidr")]
    ServiceRange {
        range: ipnet::IpNet,
        #[source]
        source: allocator::RangeError,
    },
    #[error("--service-cidr needs at least one range, and at most one per IP family")]
    ServiceRanges,
    #[error("the node port range {first}-{last} is empty; give another --node-port-range")]
    NodePorts { first: u16, last: u16 },
    #[error("cannot create what every cluster has; the database may be of another version, restore a backup")]
    Start(#[source] Refusal),
    #[error("cannot start the store's writer thread")]
    Thread(#[source] std::io::Error),
    #[error("the store's writer ended while it was starting; its log says why")]
    WriterGone,
}

/// Why one row of the log is no object.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("unknown resource {0}")]
    Resource(String),
    #[error("unknown kind of change {0}")]
    Kind(i64),
    #[error("it says of itself that it is revision {0}")]
    Revision(Revision),
    #[error(transparent)]
    Decode(#[from] model::DecodeError),
}

/// A write that did not happen. Nothing of it is in the store; a caller may mend the request and try again, and after
/// [`Busy`](Refusal::Busy) or [`Unavailable`](Refusal::Unavailable) send the same one later.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{} \"{name}\" not found", resource.info().qualified())]
    NotFound { resource: Resource, name: String },
    #[error("{}{} \"{name}\" already exists{}", existing.before(), resource.info().qualified(), existing.after())]
    AlreadyExists { resource: Resource, name: String, existing: Existing },
    /// A create in a namespace that is not there: NotFound of the namespace.
    #[error("namespaces \"{namespace}\" not found")]
    NamespaceMissing { namespace: String },
    /// Forbidden, with cause `NamespaceTerminating`.
    #[error(
        "{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        resource.info().qualified()
    )]
    NamespaceTerminating { resource: Resource, name: String, namespace: String },
    #[error("Operation cannot be fulfilled on {} \"{name}\": {detail}", resource.info().qualified())]
    Conflict { resource: Resource, name: String, detail: String },
    /// An apply would change what others own: Conflict, with a cause for each field.
    #[error("{0}")]
    ApplyConflicts(Conflicts),
    /// A Pod that cannot be bound: a Conflict on `pods/binding`.
    #[error("Operation cannot be fulfilled on pods/binding \"{name}\": {detail}")]
    NotBindable { name: String, detail: String },
    #[error("{} \"{name}\" is forbidden: {detail}", resource.info().qualified())]
    Forbidden { resource: Resource, name: String, detail: String },
    /// Fields of the object; `api` adds kind and name.
    #[error("{}", joined(.0))]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    BadRequest(String),
    /// 413.
    #[error("{0}")]
    TooLarge(String),
    /// A range has nothing left to give: 500 InternalError, as Kubernetes has it.
    #[error("{0}")]
    Full(String),
    /// The queue of the writer is full: 429.
    #[error("the server has too many writes in progress, please try again later")]
    Busy,
    /// The server is about to stop: 503.
    #[error("the store is closed: the server is shutting down")]
    Closed,
    /// The disk does not take the write: 500.
    #[error("{0}")]
    Unavailable(String),
}

/// In what way a name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Plain,
    Terminating,
    /// Every generated name was taken.
    Generated,
}

impl Existing {
    fn before(self) -> &'static str {
        if self == Self::Terminating { "object is being deleted: " } else { "" }
    }

    fn after(self) -> &'static str {
        if self == Self::Generated { ", the server was not able to generate a unique name for the object" } else { "" }
    }
}

fn joined(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A watch asked for changes that have been compacted: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    /// The oldest revision that a watch can start from.
    pub oldest: Revision,
    pub requested: Revision,
}

/// A watcher was so slow that changes it had not read were forgotten: it must list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher was too slow: changes after revision {seen} are no longer held")]
pub struct Lagged {
    pub seen: Revision,
}
