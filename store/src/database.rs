//! SQLite: the file, its lock, its schema, and the four things that are done with it: load, append, compact, checkpoint.
//!
//! A statement through sqlx costs about 0.1 ms whatever it does, so a group of writes is one statement. Its text depends on
//! the number of rows; counts are padded to powers of two, and rows that are not bound are NULL and filtered out, so eleven
//! prepared statements serve all sizes. `synchronous=FULL`: when `append` returns, the rows survive a loss of power.

mod load;
mod open;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Resource, Revision};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection, Row};

use crate::event::{Event, EventKind};

pub(crate) use open::explain;

/// Rows that one statement carries at most: six variables each, and SQLite takes 32,766 of them.
const ROWS_PER_STATEMENT: usize = 1024;

/// Pages of 4 KiB in the write-ahead log at which SQLite checkpoints by itself, in the middle of a commit. The writer
/// does it in idle moments before; this is for a server that has none.
const AUTOCHECKPOINT_PAGES: u32 = 8192;

pub(crate) struct Database {
    path: PathBuf,
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    /// `INSERT` statements for 1, 2, 4, … rows.
    inserts: Vec<Arc<str>>,
    /// Plural names by `Resource as usize`.
    plurals: [Arc<str>; Resource::ALL.len()],
    /// Held while the database is open; the system releases it however the process ends.
    _lock: File,
}

impl Database {
    /// Appends one row for each event: all of them durably, or none.
    pub(crate) async fn append(&mut self, events: &[Arc<Event>]) -> Result<(), sqlx::Error> {
        if events.len() <= ROWS_PER_STATEMENT {
            let (sql, arguments) = self.insert(events)?;
            sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut self.connection).await?;
            return Ok(());
        }
        let statements =
            events.chunks(ROWS_PER_STATEMENT).map(|chunk| self.insert(chunk)).collect::<Result<Vec<_>, _>>()?;
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for (sql, arguments) in statements {
            sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    fn insert(&self, events: &[Arc<Event>]) -> Result<(Arc<str>, SqliteArguments), sqlx::Error> {
        let size = events.len().next_power_of_two().trailing_zeros() as usize;
        let sql = self.inserts.get(size).cloned().ok_or(sqlx::Error::InvalidArgument("too many rows".to_owned()))?;
        let mut arguments = SqliteArguments::default();
        arguments.reserve(6 * events.len(), 0);
        for event in events {
            let object = &event.object;
            let plural = Arc::clone(&self.plurals[object.resource as usize]);
            // Revisions stay far below 2^63.
            arguments.add(event.revision as i64).map_err(sqlx::Error::Encode)?;
            arguments.add(plural).map_err(sqlx::Error::Encode)?;
            arguments.add(&*object.key.namespace).map_err(sqlx::Error::Encode)?;
            arguments.add(&*object.key.name).map_err(sqlx::Error::Encode)?;
            arguments.add(kind_number(event.kind)).map_err(sqlx::Error::Encode)?;
            arguments.add(&*object.bytes).map_err(sqlx::Error::Encode)?;
        }
        Ok((sql, arguments))
    }

    /// Makes the file agree with the writer after a commit that was reported as failed: opens a new connection and deletes
    /// what is newer than `revision`. Such rows were refused to their clients, and their revisions will be used again.
    pub(crate) async fn rewind(&mut self, revision: Revision) -> Result<(), sqlx::Error> {
        self.connection = open::connect(&self.options).await?;
        sqlx::query("DELETE FROM log WHERE revision > ?1").bind(revision as i64).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Deletes superseded rows and records that history now begins after `horizon`, in one transaction.
    pub(crate) async fn compact(&mut self, horizon: Revision, rows: &[Revision]) -> Result<(), sqlx::Error> {
        let result = self.try_compact(horizon, rows).await;
        // On a full disk SQLite rolls back by itself, sqlx does not count that, and would refuse every later transaction
        // of the connection.
        if result.is_err()
            && let Ok(fresh) = open::connect(&self.options).await
        {
            self.connection = fresh;
        }
        result
    }

    async fn try_compact(&mut self, horizon: Revision, rows: &[Revision]) -> Result<(), sqlx::Error> {
        let list = format!("[{}]", rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE meta SET value = ?1 WHERE name = 'compacted' AND value < ?1")
            .bind(horizon as i64)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM log WHERE revision IN (SELECT value FROM json_each(?1))")
            .bind(list)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Moves what the write-ahead log holds into the database file. PASSIVE waits for no one; TRUNCATE also gives the log's
    /// disk space back.
    pub(crate) async fn checkpoint(&mut self, truncate: bool) -> Result<(), sqlx::Error> {
        let sql = if truncate { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
        sqlx::query(sql).fetch_all(&mut self.connection).await?;
        Ok(())
    }

    /// Bytes of the database file and of its write-ahead log.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let size = |path: PathBuf| std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        (size(self.path.clone()), size(open::beside(&self.path, "-wal")))
    }

    /// Checkpoints and closes; the lock goes with it.
    pub(crate) async fn close(mut self) -> Result<(), sqlx::Error> {
        let moved = self.checkpoint(true).await;
        self.connection.close().await?;
        moved
    }

    /// Closes after a fault, without touching the file: when this returns, nothing of ours has it open.
    pub(crate) async fn abandon(self) {
        // The fault that led here is the one to report.
        let _ = self.connection.close().await;
    }

    async fn scalar(&mut self, sql: &'static str) -> Result<i64, sqlx::Error> {
        sqlx::query(sql).fetch_one(&mut self.connection).await?.try_get(0)
    }
}

fn kind_number(kind: EventKind) -> i64 {
    match kind {
        EventKind::Added => 0,
        EventKind::Modified => 1,
        EventKind::Deleted => 2,
    }
}

fn kind_of(number: i64) -> Option<EventKind> {
    match number {
        0 => Some(EventKind::Added),
        1 => Some(EventKind::Modified),
        2 => Some(EventKind::Deleted),
        _ => None,
    }
}

/// `INSERT` texts for 1, 2, 4, … rows.
fn insert_statements() -> Vec<Arc<str>> {
    (0..=ROWS_PER_STATEMENT.ilog2())
        .map(|power| {
            let rows = vec!["(?,?,?,?,?,?)"; 1 << power].join(",");
            format!(
                "INSERT INTO log (revision, resource, namespace, name, kind, value) \
                 SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL"
            )
            .into()
        })
        .collect()
}

/// SQLite's primary result code of an error, e.g. 13 for a full disk.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

pub(crate) const SQLITE_BUSY: i32 = 5;
pub(crate) const SQLITE_LOCKED: i32 = 6;
pub(crate) const SQLITE_READONLY: i32 = 8;
pub(crate) const SQLITE_IOERR: i32 = 10;
pub(crate) const SQLITE_CORRUPT: i32 = 11;
pub(crate) const SQLITE_FULL: i32 = 13;
pub(crate) const SQLITE_CANTOPEN: i32 = 14;
pub(crate) const SQLITE_NOTADB: i32 = 26;
