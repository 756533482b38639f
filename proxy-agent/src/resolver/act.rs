//! Looks at the files of a host, and does what was planned.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::{Action, DELEGATE, DROP_IN, Entry, Host, Plan, RESOLV_CONF, SAVED};
use super::{Done, ResolverError};

/// Where systemd-resolved listens for programs; its folder stays when it has ended, the socket does not answer then.
const SOCKET: &str = "run/systemd/resolve/io.systemd.Resolve";
/// A longer file is none that anybody meant.
const LONGEST: u64 = 64 * 1024;
/// Beside the file that it becomes.
const NEW: &str = ".portolan-new";

/// What is there.
pub(super) fn look(root: &Path) -> Result<Host, ResolverError> {
    let runs = UnixStream::connect(root.join(SOCKET)).is_ok();
    Ok(Host {
        resolved: runs.then(version),
        resolv_conf: entry(root, RESOLV_CONF)?,
        saved: entry(root, SAVED)?,
        drop_in: entry(root, DROP_IN)?,
        delegate: entry(root, DELEGATE)?,
    })
}

fn entry(root: &Path, path: &str) -> Result<Entry, ResolverError> {
    let path = root.join(path);
    let found = match fs::symlink_metadata(&path) {
        Err(error) if missing(&error) => return Ok(Entry::Missing),
        Err(error) => Err(error),
        Ok(meta) if meta.is_symlink() => fs::read_link(&path).map(|target| Entry::Link(target, text(&path).ok())),
        Ok(_) => text(&path).map(Entry::File),
    };
    found.map_err(|source| ResolverError::Read { path, source })
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// systemd's version, of the program that comes with resolved: `systemd 257 (257.7-1)`.
fn version() -> u32 {
    let Ok(said) = Command::new("resolvectl").arg("--version").output() else { return 0 };
    String::from_utf8_lossy(&said.stdout).split_ascii_whitespace().nth(1).map_or(0, leading_number)
}

pub(super) fn leading_number(word: &str) -> u32 {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Does it all, in order.
pub(super) fn act(
    root: &Path,
    plan: Plan,
    reload: impl Fn() -> Result<(), ResolverError>,
) -> Result<Done, ResolverError> {
    let mut done = Done { changed: Vec::new(), left: plan.left };
    let mut written = None;
    for action in plan.actions {
        done.changed.push(match action {
            Action::Write(path, text) => {
                on(root, path, |path| write(path, &text))?;
                written = Some(path);
                format!("wrote /{path}")
            }
            Action::Link(from, to) => {
                on(root, to, |to| link(&root.join(from), to))?;
                format!("kept what /{from} was as /{to}")
            }
            Action::Rename(from, to) => {
                on(root, to, |to| fs::rename(root.join(from), to))?;
                format!("put /{to} back as it was")
            }
            Action::Remove(path) => {
                on(root, path, |path| fs::remove_file(path))?;
                format!("removed /{path}")
            }
            Action::Reload => {
                reload().inspect_err(|_| {
                    // What is not there yet is done again, and read then.
                    if let Some(path) = written {
                        let _ = fs::remove_file(root.join(path));
                    }
                })?;
                "systemd-resolved has read its configuration again".to_owned()
            }
        });
    }
    Ok(done)
}

fn on(root: &Path, path: &str, what: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ResolverError> {
    let path = root.join(path);
    what(&path).map_err(|source| ResolverError::Write { path, source })
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = beside(path);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    // Every program of the machine reads it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// A second name, even of a symbolic link. By way of a third one, since a name that is taken is no new one.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let new = beside(to);
    match fs::remove_file(&new) {
        Err(error) if !missing(&error) => return Err(error),
        _ => {}
    }
    fs::hard_link(from, &new)?;
    fs::rename(&new, to)?;
    // Two names of one file: renaming does nothing then, and leaves both.
    match fs::remove_file(&new) {
        Err(error) if !missing(&error) => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW);
    name.into()
}

/// Restarts it where it cannot reload (before systemd 256).
pub(super) fn reload() -> Result<(), ResolverError> {
    let said = Command::new("systemctl").args(["try-reload-or-restart", "systemd-resolved.service"]).output();
    match said {
        Ok(said) if said.status.success() => Ok(()),
        Ok(said) => Err(ResolverError::Reload(String::from_utf8_lossy(&said.stderr).trim().to_owned())),
        Err(error) => Err(ResolverError::Reload(error.to_string())),
    }
}
