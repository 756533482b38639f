//! PostgreSQL, and its own load generator: pgbench, with prepared statements over the server's Unix socket.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::histogram::Times;

use super::Running;
use crate::support::target;

/// A server with an empty database, as it comes, that listens to nobody but this machine's own user.
pub struct Postgres {
    child: Running,
    /// The socket, and what pgbench reads and writes; of the user as whom the server runs.
    place: tempfile::TempDir,
    _data: tempfile::TempDir,
}

/// What a round of inserts was like.
pub struct Inserts {
    pub per_second: f64,
    pub times: Times,
}

impl Postgres {
    pub fn start() -> Self {
        std::fs::create_dir_all(target()).unwrap();
        // The name of a socket may have no more than a hundred bytes: target/ may be too deep for it.
        let [data, place] = [tempfile::tempdir_in(target()).unwrap(), tempfile::tempdir().unwrap()];
        for dir in [&data, &place] {
            as_its_own(dir.path());
        }
        let cluster = data.path().join("cluster");
        let made = command("initdb")
            .args(["--auth=trust", "--username=bench", "--encoding=UTF8", "--no-locale", "--pgdata"])
            .arg(&cluster)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = place.path().join("log");
        let child = command("postgres")
            .args(["-c", "listen_addresses=", "-c", "max_connections=200", "-k"])
            .arg(place.path())
            .arg("-D")
            .arg(&cluster)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let postgres = Self { child: Running(child), place, _data: data };
        let table = "CREATE TABLE objects (key text PRIMARY KEY, value text NOT NULL)";
        let began = Instant::now();
        while !postgres.client("psql").args(["-q", "-c", table]).output().unwrap().status.success() {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "PostgreSQL is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        postgres
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Inserts so many rows, each in a transaction of its own.
    pub fn insert(&self, clients: usize, count: usize, value: &str) -> Inserts {
        let script = self.place.path().join("insert.sql");
        // Keys of each client in their order, as ours and etcd get them.
        let text = "\\set n :n + 1\n\
                    INSERT INTO objects VALUES ('s' || :client_id::int || '-' || :n::int, :value);\n";
        std::fs::write(&script, text).unwrap();
        let log = self.place.path().join("times");
        let output = self
            .client("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--log", "-D", "n=0", "-D", &format!("value={value}")])
            .args(["--client", &clients.to_string(), "--transactions", &count.div_ceil(clients).to_string()])
            .arg(format!("--log-prefix={}", log.display()))
            .arg("--file")
            .arg(&script)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
        let rate = words.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        Inserts { per_second: rate.expect("pgbench says the rate"), times: self.times() }
    }

    /// What pgbench has logged: a line for each transaction, with its microseconds third.
    fn times(&self) -> Times {
        let mut times = Times::new();
        for entry in std::fs::read_dir(self.place.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("times.")) {
                for line in std::fs::read_to_string(&path).unwrap().lines() {
                    let micros = line.split(' ').nth(2).and_then(|word| word.parse().ok()).expect("a time");
                    times.record(Duration::from_micros(micros));
                }
                std::fs::remove_file(path).unwrap();
            }
        }
        times
    }

    fn client(&self, program: &str) -> Command {
        let mut command = command(program);
        command
            .envs([("PGUSER", "bench"), ("PGDATABASE", "postgres")])
            .env("PGHOST", self.place.path())
            .current_dir("/");
        command
    }
}

/// The user whom Debian's package makes. PostgreSQL refuses to run as root.
const USER: &str = "postgres";

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A program of PostgreSQL, as a user that it accepts. Debian keeps them beside each other by version, not on the path.
fn command(program: &str) -> Command {
    let path = newest().join(program);
    if !root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(path);
    command
}

fn newest() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| version(path));
    newest.expect("PostgreSQL is there: `scripts/install-deps bench` installs it").join("bin")
}

/// Gives a directory to the user as whom the server runs.
fn as_its_own(dir: &Path) {
    if root() {
        let user = nix::unistd::User::from_name(USER).unwrap().expect("PostgreSQL's package makes a user");
        std::os::unix::fs::chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}
