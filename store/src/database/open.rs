//! Opening: the lock, the pragmas, the schema.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::Resource;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::{
    AUTOCHECKPOINT_PAGES, Database, SQLITE_BUSY, SQLITE_CANTOPEN, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_LOCKED,
    SQLITE_NOTADB, SQLITE_READONLY, insert_statements, sqlite_code,
};
use crate::error::OpenError;

/// "Port", in the header of the file: tells a database of ours from another program's.
const APPLICATION_ID: i64 = 0x506f_7274;

/// Numbered, forward only; the database's `user_version` is the number of the last one that was applied.
const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/0001_log.sql")];

impl Database {
    /// Takes the lock, opens or makes the file, and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", (64 << 20).to_string())
            .disable_statement_logging();
        let explain = |source| explain(path, source);
        let connection = connect(&options).await.map_err(explain)?;
        let mut database = Self {
            path: path.to_owned(),
            options,
            connection,
            inserts: insert_statements(),
            plurals: Resource::ALL.map(|resource| Arc::from(resource.info().plural)),
            _lock: lock,
        };
        if let Err(error) = database.migrate().await {
            database.abandon().await;
            return Err(error);
        }
        Ok(database)
    }

    async fn migrate(&mut self) -> Result<(), OpenError> {
        let path = self.path.clone();
        let explain = |source| explain(&path, source);
        let application = self.scalar("PRAGMA application_id").await.map_err(explain)?;
        let found = self.scalar("PRAGMA user_version").await.map_err(explain)?;
        let tables = self.scalar("SELECT count(*) FROM sqlite_schema").await.map_err(explain)?;
        if application != APPLICATION_ID && (application != 0 || tables != 0) {
            return Err(OpenError::Foreign { path });
        }
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(OpenError::Newer { path, found, known });
        }
        for (done, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
            let version = done + 1;
            let sql = format!(
                "BEGIN IMMEDIATE; {migration} PRAGMA application_id = {APPLICATION_ID}; \
                 PRAGMA user_version = {version}; COMMIT"
            );
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map_err(explain)?;
        }
        Ok(())
    }
}

pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    options.connect().await
}

/// `portolan.db` → `portolan.db-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Two servers on one file would each give out the same addresses; SQLite's own locks do not tell them of each other.
fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let failed = |source| OpenError::Path { path: lock_path.clone(), source };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    make_private(path).map_err(|source| OpenError::Path { path: path.to_owned(), source })?;
    Ok(file)
}

/// Makes the database file, for its owner only, before SQLite would make it for everyone.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// The sentence that goes with what SQLite said.
pub(crate) fn explain(path: &Path, source: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    match sqlite_code(&source) {
        Some(SQLITE_FULL) => OpenError::DiskFull { path, source },
        Some(SQLITE_BUSY | SQLITE_LOCKED) => OpenError::Busy { path, source },
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => OpenError::Corrupt { path, source },
        Some(SQLITE_CANTOPEN | SQLITE_READONLY) => {
            OpenError::Path { path, source: io::Error::new(io::ErrorKind::PermissionDenied, source) }
        }
        _ => OpenError::Database { path, source },
    }
}
