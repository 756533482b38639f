//! Our server beside NSD, which serves the same names from a zone file: 10,000 Services with 10 endpoints each, asked by dnsperf on
//! loopback in a network namespace of their own, one after the other, several times.
//!
//! Both have one thread (one process with NSD), no rate limit, and turn their answers round; so has CoreDNS with its `file` plugin, which
//! is asked too where `make coredns` has built it. Half of the Services are headless.
//! Questions: A and AAAA of Services and of endpoints, SRV, and one in seven for a name that is not there. Every answer that the
//! zone file holds is one that [`dns::answer`] gave. Printed: queries a second (medians), their ratio, times at half of our rate, and
//! the memory of our process. `PORTOLAN_BENCH_SMALL=1` runs a toy size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dns::{Answer, Metrics, Names, Options, Rates, Server, Upstream, Zone, answer};
use hickory_proto::rr::{Name, RecordType};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, Service, ServicePort, ServiceSpec,
};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENDPOINTS: usize = 10;
const OURS: &str = "127.0.0.1:5301";
const NSD: &str = "127.0.0.1:5302";
const COREDNS: &str = "127.0.0.1:5303";
const INSIDE: &str = "PORTOLAN_BENCH_INSIDE";

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    measure();
}

fn small() -> bool {
    std::env::var_os("PORTOLAN_BENCH_SMALL").is_some()
}

fn services() -> usize {
    if small() { 100 } else { 10_000 }
}

/// Runs this program again, in a network of its own.
fn enter() {
    let myself = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]).arg(myself).env(INSIDE, "1");
    assert!(command.status().unwrap().success());
}

/// What a server of names and nothing else is: the snapshot, the names, and threads.
fn serve() {
    let snapshot = snapshot();
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    names.load(&snapshot);
    let options = Options {
        listen: vec![OURS.parse().unwrap()],
        upstream: Upstream::Servers(Vec::new()),
        rates: Rates::new(0),
        threads: NonZeroUsize::new(1),
        ..Options::default()
    };
    let _server = Server::start(options, Arc::new(RwLock::new(names)), Metrics::new()).unwrap();
    println!("ready");
    // The snapshot stays, as an agent has it; the end of the input is the end.
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    drop(snapshot);
}

fn key(service: usize) -> Key {
    Key::new(&format!("ns-{}", service % 50), &format!("service-{service}"))
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { revision: 1, ..Snapshot::default() };
    snapshot.service_cidrs = vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/64".parse().unwrap()];
    for number in 0..services() {
        let key = key(number);
        snapshot.namespaces.insert(key.namespace.as_ref().into());
        let cluster_ips = if number % 2 == 0 {
            vec![format!("10.96.{}.{}", number / 250, number % 250 + 1), format!("fd00:96::{:x}", number + 1)]
        } else {
            vec!["None".to_owned()]
        };
        let port = ServicePort { name: "http".into(), port: 80, protocol: "TCP".into(), ..ServicePort::default() };
        let spec = ServiceSpec {
            cluster_ip: cluster_ips[0].clone(),
            cluster_ips,
            ports: vec![port],
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        };
        snapshot.services.insert(key.clone(), Arc::new(Service { metadata, spec, ..Service::default() }));
        let slices = snapshot.slices.entry(key).or_default();
        for (family, v4) in [("IPv4", true), ("IPv6", false)] {
            // The endpoints of every fifth Service have IPv6.
            if v4 != (number % 5 == 1) {
                slices.insert(family.to_owned(), Arc::new(slice(number, family, v4)));
            }
        }
    }
    snapshot
}

fn slice(service: usize, family: &str, v4: bool) -> EndpointSlice {
    let endpoints = (0..ENDPOINTS).map(|endpoint| {
        let number = service * ENDPOINTS + endpoint;
        let address = match v4 {
            true => format!("10.{}.{}.{}", 128 + number / 62_500, number / 250 % 250, number % 250 + 1),
            false => format!("fd00:244::{:x}:{:x}", service + 1, endpoint + 1),
        };
        Endpoint {
            addresses: vec![address],
            conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
            hostname: (service % 4 == 1).then(|| format!("pod-{endpoint}")),
            ..Endpoint::default()
        }
    });
    let port = EndpointPort {
        name: Some("http".into()),
        port: Some(8080),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: endpoints.collect(),
        ports: vec![port],
        ..EndpointSlice::default()
    }
}

/// The same questions in every run.
fn questions() -> Vec<(String, RecordType)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % bound
    };
    let count = services() * 5;
    let mut questions = Vec::with_capacity(count);
    for _ in 0..count {
        let number = dice(services());
        let key = key(number);
        let own = format!("{}.{}.svc.cluster.local.", key.name, key.namespace);
        questions.push(match dice(100) {
            0..=44 => (own, RecordType::A),
            45..=69 => (own, RecordType::AAAA),
            70..=74 if number % 4 == 1 => (format!("pod-{}.{own}", dice(ENDPOINTS)), RecordType::A),
            70..=84 => (format!("_http._tcp.{own}"), RecordType::SRV),
            // As a search path asks.
            85..=92 => (format!("{}.ns-0.{own}", key.name), RecordType::A),
            _ => (format!("no-{own}"), RecordType::AAAA),
        });
    }
    questions
}

/// Everything that our answers to these questions say.
fn zone_file(questions: &[(String, RecordType)]) -> String {
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    names.load(&snapshot());
    let mut lines = BTreeSet::new();
    for (name, kind) in questions {
        // Its addresses, too, by which a name exists for a server that has nothing but the file.
        for kind in [*kind, RecordType::A, RecordType::AAAA] {
            let Answer::Known(reply) = answer(&names, &Name::from_ascii(name).unwrap(), kind) else {
                panic!("{name} is not the cluster's");
            };
            lines.extend(reply.answers.iter().chain(&reply.additionals).map(ToString::to_string));
        }
    }
    let mut text = String::from(
        "$TTL 5\ncluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\n\
         cluster.local. 5 IN NS ns.dns.cluster.local.\nns.dns.cluster.local. 5 IN A 10.96.0.10\n",
    );
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// The directory of all files; it goes also when a measurement fails.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Another server, which ends also when a measurement fails.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure() {
    let dir = std::env::temp_dir().join(format!("portolan-bench-dns-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let _files = Files(dir.clone());
    let asked = questions();
    let data = dir.join("questions");
    std::fs::write(&data, asked.iter().map(|(name, kind)| format!("{name} {kind}\n")).collect::<String>()).unwrap();
    std::fs::write(dir.join("zone"), zone_file(&asked)).unwrap();
    let mut ours = ours();
    let _nsd = nsd(&dir);
    compare(&asked);
    let coredns = coredns(&dir);
    let mut servers = vec![("Portolan", OURS), ("NSD", NSD)];
    servers.extend(coredns.is_some().then_some(("CoreDNS", COREDNS)));
    let (rounds, seconds) = if small() { (1, 1) } else { (7, 4) };
    let mut rates = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (rates, (_, address)) in rates.iter_mut().zip(&servers) {
            rates.push(dnsperf(address, &data, seconds, None).0);
        }
    }
    let memory = resident_mib(ours.id());
    let rates: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
    let half = Some(rates[0] as usize / 2);

    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = std::thread::available_parallelism().unwrap();
    println!("{}, {cores} cores; one thread each, {} Services x {ENDPOINTS} endpoints", &cpu[3..], services());
    println!("| server | queries/s (median of {rounds}) | of NSD | p50 at half load | p99 at half load |");
    println!("|---|---|---|---|---|");
    for ((name, address), rate) in servers.iter().zip(&rates) {
        // Who does not reach that load has no times at it.
        if *rate < rates[0] / 2.0 {
            println!("| {name} | {rate:.0} | {:.2} | | |", rate / rates[1]);
            continue;
        }
        let times = dnsperf(address, &data, seconds, half).1;
        let [p50, p99] = [0.5, 0.99].map(|share| times[(times.len() as f64 * share) as usize] * 1e3);
        println!("| {name} | {rate:.0} | {:.2} | {p50:.3} ms | {p99:.3} ms |", rate / rates[1]);
    }
    println!("Our process, snapshot and names: {memory:.1} MiB resident");

    drop(ours.stdin.take());
    ours.wait().unwrap();
}

fn ours() -> Child {
    let myself = std::env::current_exe().unwrap();
    let mut server = Command::new(myself).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    server
}

fn nsd(dir: &Path) -> Peer {
    let address: SocketAddr = NSD.parse().unwrap();
    let at = dir.display();
    let config = format!(
        "server:\n  server-count: 1\n  ip-address: {}@{}\n  username: \"\"\n  zonesdir: \"{at}\"\n  database: \"\"\n  \
         pidfile: \"{at}/pid\"\n  xfrdfile: \"{at}/xfrd\"\n  zonelistfile: \"{at}/list\"\n  xfrdir: \"{at}\"\n  \
         rrl-ratelimit: 0\n  round-robin: yes\nremote-control:\n  control-enable: no\nzone:\n  name: cluster.local\n  \
         zonefile: zone\n",
        address.ip(),
        address.port(),
    );
    std::fs::write(dir.join("nsd.conf"), config).unwrap();
    let program = ["/usr/sbin/nsd", "nsd"].into_iter().find(|path| PathBuf::from(path).exists()).unwrap_or("nsd");
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).arg(dir.join("nsd.conf"));
    start("nsd", command, address, dir)
}

/// CoreDNS with the same zone file, on one thread; `None` where `make coredns` has not built it.
fn coredns(dir: &Path) -> Option<Peer> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/coredns");
    if !program.exists() {
        println!("CoreDNS is left out: make coredns builds it");
        return None;
    }
    let address: SocketAddr = COREDNS.parse().unwrap();
    let config = format!(
        "cluster.local:{} {{\n  bind {}\n  file {}\n  loadbalance round_robin\n}}\n",
        address.port(),
        address.ip(),
        dir.join("zone").display()
    );
    std::fs::write(dir.join("Corefile"), config).unwrap();
    let mut command = Command::new(program);
    command.arg("-conf").arg(dir.join("Corefile")).env("GOMAXPROCS", "1");
    Some(start("coredns", command, address, dir))
}

/// Starts another server, and returns when it answers.
fn start(name: &str, mut command: Command, address: SocketAddr, dir: &Path) -> Peer {
    let log = dir.join(format!("{name}.log"));
    command.stderr(std::fs::File::create(&log).unwrap()).stdout(Stdio::null());
    let process = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}; scripts/install-deps bench has NSD"));
    let mut peer = Peer(process);
    for _ in 0..300 {
        if let Some(status) = peer.0.try_wait().unwrap() {
            panic!("{name}: {status}\n{}", std::fs::read_to_string(&log).unwrap());
        }
        if !say(address, &questions()[0]).is_empty() {
            return peer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{name} does not answer");
}

/// One answer; empty if none comes.
fn say(server: SocketAddr, (name, kind): &(String, RecordType)) -> Vec<u8> {
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), *kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    query.set_edns(edns);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect(server).unwrap();
    socket.send(&query.to_vec().unwrap()).unwrap();
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).unwrap_or(0);
    answer.truncate(length);
    answer
}

/// Both say the same: otherwise one of them has it easier.
fn compare(asked: &[(String, RecordType)]) {
    for question in asked.iter().step_by(asked.len() / 300) {
        let [ours, nsd] = [OURS, NSD].map(|server| {
            let answer = hickory_proto::op::Message::from_vec(&say(server.parse().unwrap(), question)).unwrap();
            // Where not all of them fit, NSD leaves out all.
            let whole = answer.answers.iter().filter(|_| !answer.truncation);
            let records: BTreeSet<_> = whole.map(ToString::to_string).collect();
            (answer.response_code, answer.truncation, records)
        });
        assert_eq!(ours, nsd, "{question:?}");
    }
}

/// Queries a second; with a bound also the seconds that each took, sorted.
fn dnsperf(server: &str, data: &Path, seconds: usize, bound: Option<usize>) -> (f64, Vec<f64>) {
    let (host, port) = server.split_once(':').unwrap();
    let seconds = seconds.to_string();
    let mut command = Command::new("dnsperf");
    command.args(["-s", host, "-p", port, "-l", &seconds, "-c", "8", "-T", "1", "-q", "200", "-e", "-d"]).arg(data);
    if let Some(bound) = bound {
        command.args(["-v", "-Q", &bound.to_string()]);
    }
    let output = command.stderr(Stdio::inherit()).output().expect("dnsperf; scripts/install-deps bench has it");
    let text = String::from_utf8(output.stdout).unwrap();
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:")).expect("a rate");
    let lost = text.lines().find_map(|line| line.trim().strip_prefix("Queries lost:")).unwrap().trim();
    if !lost.starts_with("0 ") {
        eprintln!("{server} lost {lost}");
    }
    let times = text.lines().filter(|line| line.starts_with("> "));
    let mut times: Vec<f64> = times.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    (rate.trim().parse().unwrap(), times)
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kib.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}
