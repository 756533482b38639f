//! Reading the log into memory, once, at the start: most of what a restart takes is this.
//!
//! Three things go on at the same time, from the newest row to the oldest: SQLite's own thread reads rows, threads of the
//! runtime decode those that matter ([`backwards`]) by the hundred, and the caller puts objects where they belong. What is on
//! its way is bounded.
//!
//! A row through sqlx costs a copy of every column in memory of its own and a place in a queue between threads: more than to
//! read it from the file. So a row that SQLite gives is [`BATCH`] rows of the log: one text with what they say beside their
//! objects, and the objects' bytes, one behind the other.

mod backwards;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use model::{Key, Object, Resource, Revision};
use serde::Deserialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::task::JoinHandle;

use self::backwards::{Backwards, Line, Needed};
use super::open::explain;
use super::{Database, kind_of};
use crate::config::History;
use crate::error::{OpenError, RowError};
use crate::event::{Event, EventKind, SUFFIX};
use crate::published::Published;

/// Rows that are read and decoded together: enough for passing them on to cost nothing beside, and few enough for SQLite,
/// which makes no value of more than 10^9 bytes, if each has as many as an object may have.
const BATCH: usize = 256;

/// The rows before a revision, the newest of them, as one row.
const READ: &str = "SELECT json_group_array(json_array(revision, kind, length(value), resource, namespace, name)), \
                           CAST(group_concat(value, '') AS BLOB), count(*), min(revision) \
                    FROM (SELECT * FROM log WHERE revision < ?1 ORDER BY revision DESC LIMIT ?2)";

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
        let mut below = Some(i64::MAX);
        let mut unread: Option<SqliteRow> = None;
        while below.is_some() || unread.is_some() || !decoding.is_empty() {
            let oldest = if below.is_none() || decoding.len() > most { decoding.pop_front() } else { None };
            // SQLite reads on while what was read before is looked through, decoded, and put where it belongs.
            let (row, taken) = tokio::join!(read(&mut self.connection, below), async {
                if let Some(row) = unread.take() {
                    let batch = wanted(&row, &mut backwards).map_err(|unread| unread.explain(&path))?;
                    decoding.push_back(tokio::task::spawn_blocking(move || {
                        let values = values(&row)?;
                        batch.into_iter().map(|wanted| decode(wanted, values)).collect()
                    }));
                }
                let Some(oldest) = oldest else { return Ok(()) };
                let decoded = oldest.await.map_err(|error| OpenError::Thread(error.into()))?;
                for replayed in decoded.map_err(|unread| unread.explain(&path))? {
                    replay.take(replayed);
                }
                Ok(())
            });
            taken?;
            let row = row.map_err(|source| explain(&path, source))?;
            below = row.as_ref().map(rest).transpose().map_err(|source| explain(&path, source))?.flatten();
            unread = row;
        }
        let published = replay.finish(|resource| backwards.floor(resource));
        Ok(Loaded { published, compacted, superseded: backwards.superseded().into() })
    }
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

/// A row that is to be decoded, and where its object is among those of its batch.
struct Wanted {
    needed: Needed,
    revision: Revision,
    resource: Resource,
    kind: EventKind,
    place: Range<usize>,
}

/// As [`READ`] spells a row: its revision, kind, bytes of the object, resource, namespace and name.
#[derive(Deserialize)]
struct Header<'a>(
    i64,
    i64,
    usize,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
);

async fn read(connection: &mut SqliteConnection, below: Option<i64>) -> Result<Option<SqliteRow>, sqlx::Error> {
    let Some(below) = below else { return Ok(None) };
    sqlx::query(READ).bind(below).bind(BATCH as i64).fetch_one(connection).await.map(Some)
}

/// The revision below which to read on after a batch; None at the end of the log.
fn rest(row: &SqliteRow) -> Result<Option<i64>, sqlx::Error> {
    let rows: i64 = row.try_get(2)?;
    if rows < BATCH as i64 { Ok(None) } else { row.try_get(3) }
}

/// The rows of a batch that matter.
fn wanted(row: &SqliteRow, backwards: &mut Backwards) -> Result<Vec<Wanted>, Unread> {
    let headers = headers(row)?;
    let mut batch = Vec::with_capacity(headers.len());
    for (header, place) in headers {
        let line = line(&header)?;
        let needed = backwards.take(line);
        if needed.any() {
            let Line { revision, resource, kind, .. } = line;
            batch.push(Wanted { needed, revision, resource, kind, place });
        }
    }
    Ok(batch)
}

/// What the rows of a batch say, the newest first, and where their objects are.
fn headers(row: &SqliteRow) -> Result<Vec<(Header<'_>, Range<usize>)>, Unread> {
    let text: &str = row.try_get(0).map_err(Unread::Columns)?;
    let headers: Vec<Header<'_>> =
        serde_json::from_str(text).map_err(|error| Unread::Columns(sqlx::Error::decode(error)))?;
    let mut placed = Vec::with_capacity(headers.len());
    let mut end = 0;
    for header in headers {
        let begin = end;
        end += header.2;
        placed.push((header, begin..end));
    }
    // They are in order, but SQL does not promise in which order rows are gathered.
    placed.sort_unstable_by_key(|(header, _)| Reverse(header.0));
    Ok(placed)
}

fn line<'a>(header: &'a Header<'_>) -> Result<Line<'a>, Unread> {
    let Header(revision, kind, len, plural, namespace, name) = header;
    let revision = *revision as Revision;
    let failed = |source| Unread::Row(revision, source);
    let resource = Resource::all_stored()
        .find(|r| r.info().plural == *plural)
        .ok_or_else(|| failed(RowError::Resource(plural.to_string())))?;
    let kind = kind_of(*kind).ok_or_else(|| failed(RowError::Kind(*kind)))?;
    Ok(Line { revision, resource, namespace, name, kind, len: *len })
}

/// The objects of a batch, one behind the other.
fn values(row: &SqliteRow) -> Result<&[u8], Unread> {
    Ok(row.try_get::<Option<&[u8]>, _>(1).map_err(Unread::Columns)?.unwrap_or_default())
}

fn decode(wanted: Wanted, values: &[u8]) -> Result<Replayed, Unread> {
    let Wanted { needed, revision, resource, kind, place } = wanted;
    let failed = |source| Unread::Row(revision, source);
    let (frame, bytes) = frame(kind, values.get(place).unwrap_or_default());
    let object = Object::decode(resource, bytes).map_err(|error| failed(error.into()))?;
    if object.revision != revision {
        return Err(failed(RowError::Revision(object.revision)));
    }
    Ok(Replayed { needed, kind, object: Arc::new(object), frame })
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
