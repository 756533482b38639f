//! A file that begins anew when it is full, and the older ones beside it: `audit.log`, `audit-2026-01-02T03-04-05.678.log`.
//!
//! The names are those that kube-apiserver gives. Which of the older ones go is decided by their names alone, so nothing
//! else in the folder is ever touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan, tz::TimeZone};

use super::AuditConfig;

const MEGABYTE: u64 = 1024 * 1024;

/// How the time of its end stands in the name of an older file.
const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// The file that is written to.
pub struct Rotating {
    config: AuditConfig,
    file: File,
    size: u64,
}

impl Rotating {
    /// Opens the file, whose beginning may be there already.
    ///
    /// # Errors
    /// As the file system gives them.
    pub fn open(config: AuditConfig) -> io::Result<Self> {
        let file = append(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Self { config, file, size })
    }

    /// Appends whole lines; begins a new file first if they would make this one too long.
    ///
    /// # Errors
    /// As the file system gives them. The next attempt opens the file anew.
    pub fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.size > 0 && self.size + length > self.config.max_size.max(1) * MEGABYTE {
            self.rotate(now)?;
        }
        if let Err(error) = self.file.write_all(lines) {
            if let Ok(file) = append(&self.config.path) {
                self.size = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = file;
            }
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let path = &self.config.path;
        fs::rename(path, older(path, now))?;
        self.file = append(path)?;
        self.size = 0;
        self.prune(now);
        Ok(())
    }

    /// Removes older files that are too many or too old. What cannot be removed now is tried again at the next turn.
    fn prune(&self, now: Timestamp) {
        let (folder, _, _) = parts(&self.config.path);
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        for name in superseded(&self.config, names, now) {
            let _ = fs::remove_file(folder.join(name));
        }
    }
}

/// Of these names, those of older files that are to go.
fn superseded(config: &AuditConfig, names: Vec<String>, now: Timestamp) -> Vec<String> {
    let (_, stem, extension) = parts(&config.path);
    let ended = |name: &str| {
        let time = name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension)?;
        DateTime::strptime(TIME, time).ok()
    };
    let mut older: Vec<(DateTime, String)> =
        names.into_iter().filter_map(|name| ended(&name).map(|ended| (ended, name))).collect();
    older.sort_by(|a, b| b.cmp(a));
    let oldest = match config.max_age {
        0 => None,
        days => now.checked_sub((i64::from(days) * 24).hours()).ok().map(|at| at.to_zoned(TimeZone::UTC).datetime()),
    };
    let kept = if config.max_backup == 0 { usize::MAX } else { config.max_backup };
    let goes = |index: usize, ended: DateTime| index >= kept || oldest.is_some_and(|oldest| ended < oldest);
    older
        .into_iter()
        .enumerate()
        .filter(|(index, (ended, _))| goes(*index, *ended))
        .map(|(_, (_, name))| name)
        .collect()
}

fn older(path: &Path, now: Timestamp) -> PathBuf {
    let (folder, stem, extension) = parts(path);
    folder.join(format!("{stem}-{}{extension}", now.strftime(TIME)))
}

/// The folder of a file, its name without extension, and that with its dot.
fn parts(path: &Path) -> (PathBuf, String, String) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}")).unwrap_or_default();
    (folder.to_owned(), text(path.file_stem()).unwrap_or_default(), extension)
}

/// Only its owner may read it.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(path: &Path) -> AuditConfig {
        AuditConfig { path: path.to_owned(), max_size: 1, max_backup: 2, max_age: 3 }
    }

    #[test]
    fn files_begin_anew_when_they_are_full_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        fs::write(dir.path().join("audit-notes.log"), "mine").unwrap();
        let begun: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let line = vec![b'x'; 600 * 1024];
        let mut file = Rotating::open(config(&path)).unwrap();
        for hour in 0..5 {
            file.write(&line, begun.checked_add(hour.hours()).unwrap()).unwrap();
        }
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let older = ["audit-2026-01-02T06-04-05.678.log", "audit-2026-01-02T07-04-05.678.log"];
        assert_eq!(names, [older[0], older[1], "audit-notes.log", "audit.log"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // What was begun goes on.
        drop(file);
        Rotating::open(config(&path)).unwrap().write(b"one more\n", begun).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 600 * 1024 + 9);
    }

    #[test]
    fn what_goes_is_told_by_its_name() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let names = [
            "a-2026-01-09T00-00-00.000.log",
            "a-2026-01-08T00-00-00.000.log",
            "a-2026-01-01T00-00-00.000.log",
            "a-2026-01-02T00-00-00.000.txt",
            "a-b-2026-01-02T00-00-00.000.log",
            "a.log",
        ];
        let goes = |max_backup, max_age| {
            let config = AuditConfig { path: "/var/log/a.log".into(), max_size: 1, max_backup, max_age };
            superseded(&config, names.map(str::to_owned).to_vec(), now).join(" ")
        };
        assert_eq!(goes(0, 0), "");
        assert_eq!(goes(2, 0), names[2]);
        assert_eq!(goes(0, 2), names[2]);
        assert_eq!(goes(1, 0), format!("{} {}", names[1], names[2]));
    }
}
