//! Reading the log into memory, once, at the start.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use model::{Object, Resource, Revision};
use sqlx::Row;

use super::open::explain;
use super::{Database, kind_of};
use crate::config::History;
use crate::error::{OpenError, RowError};
use crate::event::{Event, EventKind, SUFFIX};
use crate::published::Published;

/// Rows fetched at a time, which bounds the memory of the load.
const PAGE: i64 = 1000;

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
        let mut loaded =
            Loaded { published: Published::starting_at(compacted), compacted, superseded: VecDeque::new() };
        let mut last = 0i64;
        loop {
            let rows = sqlx::query(
                "SELECT revision, resource, kind, value FROM log WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            )
            .bind(last)
            .bind(PAGE)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| explain(&path, source))?;
            let full = rows.len() as i64 == PAGE;
            for row in rows {
                let (revision, resource, kind, value) = columns(&row).map_err(|source| explain(&path, source))?;
                last = revision;
                loaded.take(&path, revision as Revision, resource, kind, value)?;
            }
            loaded.published.trim(history.max_events, history.max_bytes);
            if !full {
                return Ok(loaded);
            }
        }
    }
}

type Columns<'r> = (i64, &'r str, i64, &'r [u8]);

fn columns(row: &sqlx::sqlite::SqliteRow) -> Result<Columns<'_>, sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
}

impl Loaded {
    fn take(
        &mut self,
        path: &Path,
        revision: Revision,
        resource: &str,
        kind: i64,
        value: &[u8],
    ) -> Result<(), OpenError> {
        let failed = |source| OpenError::Row { path: path.to_owned(), revision, source };
        let resource = Resource::all_stored()
            .find(|r| r.info().plural == resource)
            .ok_or_else(|| failed(RowError::Resource(resource.to_owned())))?;
        let kind = kind_of(kind).ok_or_else(|| failed(RowError::Kind(kind)))?;
        let (frame, bytes) = frame(kind, value);
        let object = Object::decode(resource, bytes).map_err(|error| failed(error.into()))?;
        if object.revision != revision {
            return Err(failed(RowError::Revision(object.revision)));
        }
        let previous = self.published.shelf(resource).get(&object.key.namespace, &object.key.name).cloned();
        if let Some(previous) = &previous {
            self.superseded.push_back((revision, previous.revision));
        }
        if kind == EventKind::Deleted {
            self.superseded.push_back((revision, revision));
        }
        let event = Arc::new(Event::new(kind, Arc::new(object), previous, frame));
        if revision > self.compacted {
            self.published.apply(event);
        } else {
            self.published.restore(&event);
        }
        Ok(())
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
