//! The folder of manifests: looked at when the kernel says that something in it changed, and every [`RESCAN`] in any
//! case, as a kubelet does, since not every file system tells.
//!
//! A file that was written to a moment ago may be half written: it is looked at again a little later, and until then is
//! what it was. A folder that cannot be read changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::board::Scan;
use super::files::{self, MAX_FILE_BYTES, is_manifest};
use super::manifest::Wanted;

/// Between two looks that nobody asked for; kubelet's `fileCheckFrequency`.
const RESCAN: Duration = Duration::from_secs(20);
/// For how long a file must have been left alone.
const SETTLED: Duration = Duration::from_millis(150);
/// What comes in so short a time is one change.
const GATHER: Duration = Duration::from_millis(50);
/// Files of the folder at most.
const MAX_FILES: usize = 1024;

/// Looks at `dir` for as long as somebody reads what it holds.
pub async fn watch(dir: PathBuf, node: String, scans: mpsc::Sender<Scan>) {
    let mut reader = Reader { dir, node, known: BTreeMap::new() };
    let mut watched: Option<AsyncFd<Ears>> = None;
    let mut told = Ok(());
    let mut last = None;
    loop {
        // First listen and then look, or a change in between is not heard of. A folder that was replaced is another
        // one.
        watched = match watched.filter(|ears| ears.get_ref().still(&reader.dir)) {
            Some(watched) => Some(watched),
            None => Ears::listen(&reader.dir).ok(),
        };
        let looked = tokio::task::spawn_blocking(move || {
            let look = reader.look(SystemTime::now());
            (reader, look)
        });
        let Ok((back, look)) = looked.await else { return };
        reader = back;
        let mut pause = RESCAN;
        match look {
            Ok(Look { scan, young }) => {
                if told.is_err() {
                    info!("the folder {} can be read again", reader.dir.display());
                    told = Ok(());
                }
                if young {
                    pause = SETTLED;
                }
                if last.as_ref() != Some(&scan) {
                    last = Some(scan.clone());
                    if scans.send(scan).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                if told.as_ref().err() != Some(&text) {
                    warn!("the folder {} cannot be read, so Pods stay as they are: {text}", reader.dir.display());
                    told = Err(text);
                }
                pause = RESCAN / 10;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed(watched.as_ref()) => tokio::time::sleep(GATHER).await,
            () = scans.closed() => return,
        }
    }
}

/// Completes when the kernel tells of a change.
async fn changed(ears: Option<&AsyncFd<Ears>>) {
    let Some(ears) = ears else { return std::future::pending().await };
    loop {
        let Ok(mut guard) = ears.readable().await else { return std::future::pending().await };
        match ears.get_ref().inotify.read_events() {
            Err(nix::errno::Errno::EAGAIN) => guard.clear_ready(),
            _ => return,
        }
    }
}

/// What hears of changes.
struct Ears {
    inotify: Inotify,
    /// Device and number of the folder.
    place: (u64, u64),
}

impl AsRawFd for Ears {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

impl Ears {
    fn listen(dir: &Path) -> io::Result<AsyncFd<Self>> {
        let ears = Self::open(dir)?;
        // SAFETY: it owns its descriptor, and neither replaces nor closes it while it lives.
        Ok(unsafe { AsyncFd::register(ears) }?)
    }

    fn open(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let place = place(&fs::metadata(dir)?);
        let mask = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(dir, mask)?;
        Ok(Self { inotify, place })
    }

    fn still(&self, dir: &Path) -> bool {
        fs::metadata(dir).is_ok_and(|now| place(&now) == self.place)
    }
}

fn place(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What the folder holds, and whether some of that is still being written.
struct Look {
    scan: Scan,
    young: bool,
}

type Content = Result<Vec<Arc<Wanted>>, String>;

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Reads the folder, and what has changed in it.
struct Reader {
    dir: PathBuf,
    node: String,
    known: BTreeMap<String, (Stamp, Content)>,
}

impl Reader {
    fn look(&mut self, now: SystemTime) -> io::Result<Look> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            match entry?.file_name().into_string() {
                Ok(name) if is_manifest(&name) => names.push(name),
                _ => {}
            }
        }
        // In order, so that of two files with one name the same is first everywhere.
        names.sort_unstable();
        let (mut next, mut young) = (BTreeMap::new(), false);
        for (index, name) in names.into_iter().enumerate() {
            let path = self.dir.join(&name);
            let metadata = match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata,
                // A folder, or gone since; a link that leads nowhere is as good as gone.
                _ => continue,
            };
            let stamp = Stamp {
                place: place(&metadata),
                len: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            };
            let known = self.known.remove(&name);
            if let Some(known) = known.as_ref().filter(|(known, _)| *known == stamp) {
                next.insert(name, known.clone());
                continue;
            }
            let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
            if age.is_some_and(|age| age < SETTLED) {
                young = true;
                next.extend(known.map(|known| (name, known)));
                continue;
            }
            let content = if index < MAX_FILES {
                self.read(&name, &path)
            } else {
                Err(format!("it is one too many: {MAX_FILES} files can be in the folder"))
            };
            next.insert(name, (stamp, content));
        }
        self.known = next;
        let files = self.known.iter().map(|(name, (_, content))| (name.clone(), content.clone())).collect();
        Ok(Look { scan: Scan { files }, young })
    }

    fn read(&self, name: &str, path: &Path) -> Content {
        use io::Read;
        let mut text = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text))
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let pods = files::read(name, &text, &self.node)?;
        Ok(pods.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: a}]}\n";

    fn pods(scan: &Scan) -> String {
        let line = |(file, content): (&String, &Content)| match content {
            Ok(pods) => {
                let names: Vec<&str> = pods.iter().map(|pod| pod.name.name.as_str()).collect();
                format!("{file}: {}", names.join(" "))
            }
            Err(error) => format!("{file}! {error}"),
        };
        scan.files.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_file_that_is_being_written_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = Reader { dir: dir.path().into(), node: "vm".into(), known: BTreeMap::new() };
        let file = dir.path().join("web.yaml");
        fs::write(&file, POD.replace("NAME", "web")).unwrap();
        fs::write(dir.path().join("README"), "no manifest").unwrap();
        fs::create_dir(dir.path().join("more.yaml")).unwrap();
        let now = || SystemTime::now();
        let first = reader.look(now()).unwrap();
        assert!(first.young && first.scan.files.is_empty());
        let later = reader.look(now() + SETTLED).unwrap();
        assert!(!later.young);
        assert_eq!(pods(&later.scan), "web.yaml: web-vm");
        fs::write(&file, "").unwrap();
        let writing = reader.look(now()).unwrap();
        assert_eq!((writing.young, pods(&writing.scan)), (true, "web.yaml: web-vm".into()));
        let empty = reader.look(now() + SETTLED).unwrap();
        assert_eq!(pods(&empty.scan), "web.yaml! there is no Pod in it");
        fs::remove_file(&file).unwrap();
        assert_eq!(pods(&reader.look(now()).unwrap().scan), "");
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(reader.look(now()).is_err());
    }

    #[tokio::test]
    async fn changes_are_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pods");
        let (scans, mut seen) = mpsc::channel(8);
        let task = tokio::spawn(watch(folder.clone(), "vm".into(), scans));
        // It is not there yet: that is no empty folder.
        assert!(tokio::time::timeout(Duration::from_millis(100), seen.recv()).await.is_err());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.yaml"), POD.replace("NAME", "a")).unwrap();
        let limit = Duration::from_secs(15);
        let mut wait_for = async |expected: &str| {
            let waiting = async {
                loop {
                    let text = pods(&seen.recv().await.unwrap());
                    if text == expected {
                        return;
                    }
                }
            };
            tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("{expected}"));
        };
        wait_for("a.yaml: a-vm").await;
        let next = folder.join("a.yaml.new");
        fs::write(&next, POD.replace("NAME", "b")).unwrap();
        fs::rename(&next, folder.join("a.yaml")).unwrap();
        wait_for("a.yaml: b-vm").await;
        fs::remove_file(folder.join("a.yaml")).unwrap();
        wait_for("").await;
        drop(seen);
        task.await.unwrap();
    }
}
