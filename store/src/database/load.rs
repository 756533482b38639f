//! Reading the log into memory, once, at the start: most of what a restart takes is this.
//!
//! Three things go on at the same time, from the newest row to the oldest: SQLite's own thread reads rows, threads of the
//! runtime decode those that matter ([`backwards`]) by the hundred, and the caller puts objects where they belong. What is on
//! its way is bounded.

mod backwards;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use futures_util::{TryStream, TryStreamExt};
use model::{Key, Object, Resource, Revision};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::task::JoinHandle;

use self::backwards::{Backwards, Line, Needed};
use super::open::explain;
use super::{Database, kind_of};
use crate::config::History;
use crate::error::{OpenError, RowError};
use crate::event::{Event, EventKind, SUFFIX};
use crate::published::Published;

/// Rows that are decoded together: enough for passing them on to cost nothing beside.
const BATCH: usize = 256;

/// What the file held.
pub(crate) struct Loaded {
    pub(crate) published: Published,
    pub(crate) compacted: Revision,
    /// (revision of the row that replaced it, revision of the row), in that order.
    pub(crate) superseded: VecDeque<(Revision, Revision)>,
}

impl Database {
    /// Replays the log. Changes after the compaction revision go into the watch history as far as its bounds allow.
    pub(crate) async fn load(&mut self, history: &History) -> Result<Loaded, OpenError> {
        let path = self.path.clone();
        let compacted = self
            .scalar("SELECT value FROM meta WHERE name = 'compacted'")
            .await
            .map_err(|source| explain(&path, source))?;
        let compacted = u64::try_from(compacted).unwrap_or(0);
        let mut backwards = Backwards::new(compacted, history);
        let mut replay = Replay::starting_at(compacted);
        // One batch for each processor, and one to go on with.
        let most = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let mut decoding: VecDeque<JoinHandle<Result<Vec<Replayed>, Unread>>> = VecDeque::new();
        {
            let sql = "SELECT revision, resource, kind, value, namespace, name FROM log ORDER BY revision DESC";
            let mut rows = sqlx::query(sql).fetch(&mut self.connection);
            let mut more = true;
            while more || !decoding.is_empty() {
                if more {
                    let batch = batch(&mut rows, &mut backwards).await.map_err(|unread| unread.explain(&path))?;
                    more = batch.len() == BATCH;
                    decoding.push_back(tokio::task::spawn_blocking(move || batch.iter().map(decode).collect()));
                }
                if (!more || decoding.len() > most)
                    && let Some(first) = decoding.pop_front()
                {
                    let decoded = first.await.map_err(|error| OpenError::Thread(error.into()))?;
                    for replayed in decoded.map_err(|unread| unread.explain(&path))? {
                        replay.take(replayed);
                    }
                }
            }
        }
        let published = replay.finish(|resource| backwards.floor(resource));
        Ok(Loaded { published, compacted, superseded: backwards.superseded().into() })
    }
}

/// A row to be decoded, with what it says beside its object.
struct Wanted {
    row: SqliteRow,
    needed: Needed,
    revision: Revision,
    resource: Resource,
    kind: EventKind,
}

/// The next rows that matter; fewer than [`BATCH`] at the end of the log alone.
async fn batch(
    rows: &mut (impl TryStream<Ok = SqliteRow, Error = sqlx::Error> + Unpin),
    backwards: &mut Backwards,
) -> Result<Vec<Wanted>, Unread> {
    let mut batch = Vec::with_capacity(BATCH);
    while batch.len() < BATCH
        && let Some(row) = rows.try_next().await.map_err(Unread::Columns)?
    {
        let line = line(&row)?;
        let needed = backwards.take(line);
        let Line { revision, resource, kind, .. } = line;
        if needed.any() {
            batch.push(Wanted { row, needed, revision, resource, kind });
        }
    }
    Ok(batch)
}

/// A row that was decoded.
#[derive(Clone)]
struct Replayed {
    needed: Needed,
    kind: EventKind,
    object: Arc<Object>,
    frame: bytes::Bytes,
}

/// Why a row is none of ours.
enum Unread {
    Columns(sqlx::Error),
    Row(Revision, RowError),
}

impl Unread {
    fn explain(self, path: &Path) -> OpenError {
        match self {
            Self::Columns(source) => explain(path, source),
            Self::Row(revision, source) => OpenError::Row { path: path.to_owned(), revision, source },
        }
    }
}

/// What a row says beside its object.
fn line(row: &SqliteRow) -> Result<Line<'_>, Unread> {
    let column = Unread::Columns;
    let revision = row.try_get::<i64, _>(0).map_err(column)? as Revision;
    let failed = |source| Unread::Row(revision, source);
    let plural: &str = row.try_get(1).map_err(column)?;
    let resource = Resource::all_stored()
        .find(|r| r.info().plural == plural)
        .ok_or_else(|| failed(RowError::Resource(plural.to_owned())))?;
    let kind: i64 = row.try_get(2).map_err(column)?;
    let kind = kind_of(kind).ok_or_else(|| failed(RowError::Kind(kind)))?;
    let len = row.try_get::<&[u8], _>(3).map_err(column)?.len();
    let (namespace, name) = (row.try_get(4).map_err(column)?, row.try_get(5).map_err(column)?);
    Ok(Line { revision, resource, namespace, name, kind, len })
}

fn decode(wanted: &Wanted) -> Result<Replayed, Unread> {
    let Wanted { row, needed, revision, resource, kind } = wanted;
    let (revision, resource, kind) = (*revision, *resource, *kind);
    let failed = |source| Unread::Row(revision, source);
    let (frame, bytes) = frame(kind, row.try_get(3).map_err(Unread::Columns)?);
    let object = Object::decode(resource, bytes).map_err(|error| failed(error.into()))?;
    if object.revision != revision {
        return Err(failed(RowError::Revision(object.revision)));
    }
    Ok(Replayed { needed: *needed, kind, object: Arc::new(object), frame })
}

/// The state, from rows that come newest first.
struct Replay {
    published: Published,
    /// What the history is made of, the newest first.
    history: Vec<Replayed>,
}

impl Replay {
    fn starting_at(compacted: Revision) -> Self {
        Self { published: Published::starting_at(compacted), history: Vec::new() }
    }

    fn take(&mut self, replayed: Replayed) {
        if replayed.needed.state {
            self.published.settle(replayed.kind, Arc::clone(&replayed.object));
        }
        if replayed.needed.event || replayed.needed.previous {
            self.history.push(replayed);
        }
    }

    /// Puts the history in its order.
    fn finish(mut self, floor: impl Fn(Resource) -> Revision) -> Published {
        for resource in Resource::ALL {
            self.published.begin_after(resource, floor(resource));
        }
        let mut states: HashMap<(Resource, Key), Arc<Object>> = HashMap::new();
        for Replayed { needed, kind, object, frame } in self.history.into_iter().rev() {
            let key = (object.resource, object.key.clone());
            let previous = match kind {
                EventKind::Deleted => states.remove(&key),
                EventKind::Added | EventKind::Modified => states.insert(key, Arc::clone(&object)),
            };
            if needed.event {
                self.published.remember(Arc::new(Event::new(kind, object, previous, frame)));
            }
        }
        self.published
    }
}

/// The watch frame around stored bytes, and the bytes as a slice of it.
fn frame(kind: EventKind, value: &[u8]) -> (bytes::Bytes, bytes::Bytes) {
    let prefix = kind.prefix();
    let mut frame = Vec::with_capacity(prefix.len() + value.len() + SUFFIX.len());
    frame.extend_from_slice(prefix);
    frame.extend_from_slice(value);
    frame.extend_from_slice(SUFFIX);
    let frame = bytes::Bytes::from(frame);
    let bytes = frame.slice(prefix.len()..prefix.len() + value.len());
    (frame, bytes)
}
