//! An initramfs: files in the kernel's own format (`cpio -H newc`), and what must be in it for programs to run.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive that is being written. Everything in it is root's.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    /// Paths that are in it.
    there: BTreeSet<String>,
}

impl Archive {
    /// A program's text.
    pub fn script(&mut self, at: &str, text: &str) {
        self.add(at, FILE | 0o755, text.as_bytes());
    }

    /// A copy of a file, or of what a link leads to.
    pub fn file(&mut self, at: &str, from: &Path) {
        let data = std::fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        let mode = std::fs::metadata(from).unwrap().permissions().mode() & 0o777;
        self.add(at, FILE | mode, &data);
    }

    pub fn link(&mut self, at: &str, to: &str) {
        self.add(at, LINK | 0o777, to.as_bytes());
    }

    pub fn folder(&mut self, at: &str) {
        self.add(at, FOLDER | 0o755, &[]);
    }

    /// All files under a folder; returns what they were copied from.
    pub fn tree(&mut self, at: &str, from: &Path) -> Vec<PathBuf> {
        let mut copied = Vec::new();
        let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let at = format!("{at}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                copied.extend(self.tree(&at, &path));
            } else {
                self.file(&at, &path);
                copied.push(path);
            }
        }
        copied
    }

    /// The archive, with the console that the first program speaks to.
    pub fn finish(mut self) -> Vec<u8> {
        self.folder("/dev");
        self.entry("dev/console", DEVICE | 0o600, (5, 1), &[]);
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn add(&mut self, at: &str, mode: u32, data: &[u8]) {
        let at = at.trim_start_matches('/');
        if self.there.contains(at) {
            return;
        }
        if let Some((folder, _)) = at.rsplit_once('/') {
            self.folder(folder);
        }
        self.there.insert(at.to_owned());
        self.entry(at, mode, (0, 0), data);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let number = u32::try_from(self.there.len()).unwrap();
        let length = u32::try_from(data.len()).unwrap();
        let name_length = u32::try_from(name.len() + 1).unwrap();
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, length, device, device that it is, length of the name, checksum.
        let fields = [number, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name_length, 0];
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A program of this machine, also where only root looks for it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// Where iptables has its extensions, which it looks for at the same place in the archive.
pub fn extensions() -> Option<PathBuf> {
    let triple = format!("/usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
    [triple.as_str(), "/usr/lib64/xtables", "/usr/lib/xtables"].iter().map(PathBuf::from).find(|path| path.is_dir())
}

/// What the dynamic linker loads for these.
pub fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").args(programs).output().expect("starting ldd");
    // `libc.so.6 => /lib/libc.so.6 (0x…)`, or the linker itself, `/lib64/ld-linux.so.2 (0x…)`.
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.lines().filter(|line| line.starts_with('\t')).filter_map(|line| {
        let path = line.rsplit_once("=> ").map_or(line, |(_, path)| path);
        path.trim().split(' ').next().filter(|path| path.starts_with('/'))
    });
    paths.map(PathBuf::from).collect()
}
