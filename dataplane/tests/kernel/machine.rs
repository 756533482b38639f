//! A machine whose kernel has IPVS, for tests that need one: most kernels of test runners have not.
//!
//! Debian's kernel for clouds is booted under qemu with an initramfs that is made of this very test binary, the foreign
//! programs that tests ask (`ip`, `ipvsadm`, …) and their libraries, and the kernel's modules for networks
//! (`machine/archive.rs`). It has no disk and no network card. Its init runs one test, and says on a serial line what the
//! test printed and how it ended. Modules are loaded as on a real host, when somebody asks for them.
//!
//! The processor is emulated: it takes some seconds to boot, and what there is of `/dev/kvm` inside other virtual machines
//! does not always work. `PORTOLAN_TEST_ACCEL=kvm` takes it all the same.
//!
//! `scripts/install-deps test` fetches the kernel, and a static busybox, into `target/tools/kernel`.

#![allow(dead_code, reason = "each test program uses its own part of this")]

// By its path, since tests of other crates take this file, too.
#[path = "machine/archive.rs"]
mod archive;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use archive::Archive;

/// Set inside the machine.
const INSIDE: &str = "PORTOLAN_TEST_MACHINE";
/// qemu's accelerator, where it is not to be `tcg`.
const ACCELERATOR: &str = "PORTOLAN_TEST_ACCEL";
/// Names the test that the machine's init runs; the kernel hands it on from its command line.
const TEST: &str = "PORTOLAN_TEST";
/// What init says first, and last.
const BEGINS: &str = "the test begins";
const ENDED: &str = "the test ended with ";
/// How long a machine may take, in software and on a busy runner too.
const DEADLINE: Duration = Duration::from_secs(420);
/// How long it may take to come up: ten times what it takes.
const BOOT_DEADLINE: Duration = Duration::from_secs(100);
/// How often it is booted. An emulated machine was seen to stop for good, once in hundreds of boots, while its kernel
/// looked at its hardware and before anything of ours had run. What the test does is tried once.
const BOOTS: usize = 3;
/// Beside room for what the machine is made of, which is there twice while it boots.
const MEMORY_MIB: usize = 768;

/// Two machines at a time: most of a test's time is spent in waiting for what must not come, or for clocks.
static TURNS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
/// By which the files of each are told apart.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The programs that the tests call, beside those of busybox.
const PROGRAMS: [&str; 5] = ["ip", "ipset", "ipvsadm", "nft", "conntrack"];
/// Those that a test can do without.
const OPTIONAL: [&str; 1] = ["conntrack"];

/// Runs the test of this name, whose body this is, as root of a machine that has IPVS.
///
/// # Panics
/// When the test fails there, or the machine does not come up.
pub fn with_ipvs(test: &str, body: impl FnOnce()) {
    with_programs(test, &[], body);
}

/// As [`with_ipvs`], in a machine that has these programs as well, where they are here.
///
/// # Panics
/// As [`with_ipvs`].
pub fn with_programs(test: &str, more: &[PathBuf], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return;
    }
    let free = TURNS.iter().find_map(|turn| turn.try_lock().ok());
    let _turn = free.unwrap_or_else(|| TURNS[0].lock().unwrap_or_else(PoisonError::into_inner));
    boot(test, more, &tools());
}

/// Whether this process is inside such a machine.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Where the kernel is: beside what was built, or where the sources say.
fn tools() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let near = me.ancestors().skip(1).map(|folder| folder.join("tools/kernel"));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kernel");
    let found = near.chain([sources]).find(|folder| folder.join("vmlinuz").exists());
    found.expect("no kernel in target/tools/kernel: run scripts/install-deps test")
}

/// The files of one machine, which go with it.
struct Files {
    initramfs: PathBuf,
    console: PathBuf,
    bytes: usize,
}

impl Files {
    fn new(tools: &Path, more: &[PathBuf]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = |name: &str| folder.join(format!("machine-{process}-{number}.{name}"));
        let archive = initramfs(tools, more);
        let files = Self { initramfs: file("cpio"), console: file("console"), bytes: archive.len() };
        std::fs::write(&files.initramfs, archive).unwrap();
        files
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.initramfs, &self.console] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Ends the machine when the test is over, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot(test: &str, more: &[PathBuf], tools: &Path) {
    let files = Files::new(tools, more);
    for boot in 1..=BOOTS {
        let end = run(test, tools, &files);
        if end == End::Status(0) {
            return;
        }
        println!("the machine's console:\n{}", std::fs::read_to_string(&files.console).unwrap_or_default());
        match end {
            End::Never if boot < BOOTS => println!("(it did not come up, and is booted again)"),
            End::Never => panic!("the machine for {test} did not come up in {BOOTS} attempts"),
            End::Gone => panic!("{test} did not come to its end in the machine"),
            End::Status(_) => panic!("{test} failed in the machine"),
        }
    }
}

/// How a machine's life ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The test did, with this status.
    Status(i32),
    /// The machine was gone, or its time over, before the test had ended.
    Gone,
    /// The machine never came as far as the test.
    Never,
}

fn run(test: &str, tools: &Path, files: &Files) -> End {
    let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "tcg".into());
    let began = Instant::now();
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"])
        .args(["-machine", "pc", "-accel", &accelerator, "-cpu", "max", "-smp", "2"])
        .args(["-m", &format!("{}M", MEMORY_MIB + 2 * (files.bytes >> 20))])
        .args(["-serial", &format!("file:{}", files.console.display())])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(tools.join("vmlinuz"))
        .arg("-initrd")
        .arg(&files.initramfs)
        .args(["-append", &format!("console=ttyS0 loglevel=7 panic=-1 mitigations=off {TEST}={test}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .expect("starting qemu-system-x86_64: run scripts/install-deps test");
    let (line, lines) = mpsc::channel();
    let errors = line.clone();
    read(machine.0.stdout.take().unwrap(), line);
    read(machine.0.stderr.take().unwrap(), errors);
    let mut end = End::Never;
    loop {
        let deadline = if end == End::Never { BOOT_DEADLINE } else { DEADLINE };
        match lines.recv_timeout(deadline.saturating_sub(began.elapsed())) {
            Ok(line) if line == BEGINS => {
                end = End::Gone;
                println!("(the machine was up after {:.1} s)", began.elapsed().as_secs_f32());
            }
            Ok(line) => match line.strip_prefix(ENDED) {
                Some(status) => end = status.parse().map_or(End::Gone, End::Status),
                None => println!("| {line}"),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                println!("| (nothing more after {deadline:?})");
                break;
            }
        }
    }
    println!("(the machine lived for {:.1} s)", began.elapsed().as_secs_f32());
    end
}

/// Tells of each line as it comes.
fn read(from: impl std::io::Read + Send + 'static, to: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let _ = to.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
        }
    });
}

/// The first program: makes the usual file systems, runs the test, and turns the machine off.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin PORTOLAN_TEST_MACHINE=1 RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo /bin/modprobe > /proc/sys/kernel/modprobe
ip link set lo up
exec > /dev/ttyS1 2>&1 < /dev/null
ulimit -n 65536
echo the test begins
/test \"$PORTOLAN_TEST\" --exact --nocapture
echo \"the test ended with $?\"
reboot -f
";

/// Everything that the machine has.
fn initramfs(tools: &Path, more: &[PathBuf]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.script("/init", INIT);
    archive.file("/bin/busybox", &tools.join("busybox"));
    archive.tree("/lib/modules", &tools.join("lib/modules"));
    for folder in ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run"] {
        archive.folder(folder);
    }
    let mut programs = vec![("/test".to_owned(), std::env::current_exe().unwrap())];
    programs.extend(more.iter().map(|path| (path.display().to_string(), path.clone())));
    for name in PROGRAMS {
        match archive::find(name) {
            Some(path) => programs.push((format!("/usr/sbin/{name}"), path)),
            None => assert!(OPTIONAL.contains(&name), "{name} is not installed: run scripts/install-deps test"),
        }
    }
    for variant in ["legacy", "nft"] {
        let name = format!("xtables-{variant}-multi");
        let path = archive::find(&name).expect("iptables is not installed: run scripts/install-deps test");
        for family in ["iptables", "ip6tables"] {
            for tool in ["", "-save", "-restore"] {
                archive.link(&format!("/usr/sbin/{family}-{variant}{tool}"), &name);
                // As Debian has it: the names alone are of the variant nft.
                if variant == "nft" {
                    archive.link(&format!("/usr/sbin/{family}{tool}"), &name);
                }
            }
        }
        programs.push((format!("/usr/sbin/{name}"), path));
    }
    let extensions = archive::extensions().expect("the extensions of iptables are not where they are looked for");
    let mut linked: Vec<PathBuf> = programs.iter().map(|(_, path)| path.clone()).collect();
    linked.extend(archive.tree(&extensions.display().to_string(), &extensions));
    for library in archive::libraries(&linked) {
        archive.file(&library.display().to_string(), &library);
    }
    for (at, path) in programs {
        archive.file(&at, &path);
    }
    if Path::new("/etc/protocols").exists() {
        archive.file("/etc/protocols", Path::new("/etc/protocols"));
    }
    archive.finish()
}
