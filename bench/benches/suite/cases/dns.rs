//! Our server beside NSD, which serves the same names from a zone file: 10,000 Services with 10 endpoints each, asked by dnsperf on
//! loopback in a network namespace of their own, one after the other, several times.
//!
//! Both have one thread (one process with NSD), no rate limit, and turn their answers round; so has CoreDNS with its `file` plugin, which
//! is asked too where `make coredns` has built it. Half of the Services are headless.
//! Questions: A and AAAA of Services and of endpoints, SRV, and one in seven for a name that is not there. Every answer that the
//! zone file holds is one that [`dns::answer`] gave, and before anything is measured both are compared. The figures are queries a
//! second (medians), times at half of our rate, and the memory of our process.

mod cluster;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use dns::{Metrics, Names, Options, Rates, Server, Upstream, Zone};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;

use crate::case::Outcome;
use crate::peers::Running;
use crate::plot;
use crate::support::{inside, median, memory, number, part, quantile, target};

const OURS: &str = "127.0.0.1:5301";
const NSD: &str = "127.0.0.1:5302";
const COREDNS: &str = "127.0.0.1:5303";

/// A name and what of it.
type Question = (String, RecordType);

/// What a server of names and nothing else is: the snapshot, the names, and threads.
pub fn serve(services: &str) {
    let snapshot = cluster::snapshot(services.parse().unwrap());
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

pub fn run(outcome: &mut Outcome) {
    inside();
    let (services, rounds, seconds) = outcome.size.pick((100, 1, 1), (10_000, 7, 4), (10_000, 15, 4));
    let dir = tempfile::tempdir().unwrap();
    let asked = cluster::questions(services);
    let data = dir.path().join("questions");
    std::fs::write(&data, asked.iter().map(|(name, kind)| format!("{name} {kind}\n")).collect::<String>()).unwrap();
    std::fs::write(dir.path().join("zone"), cluster::zone_file(services, &asked)).unwrap();
    let mut ours = part(&["dns", &services.to_string()]);
    let mut ours = Running(ours.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(ours.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let _nsd = nsd(dir.path(), &asked[0]);
    compare(&asked);
    let coredns = coredns(dir.path(), &asked[0]);
    let mut servers = vec![("nsd", NSD), ("portolan", OURS)];
    servers.extend(coredns.is_some().then_some(("coredns", COREDNS)));
    let mut rates = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (rates, (_, address)) in rates.iter_mut().zip(&servers) {
            rates.push(dnsperf(address, &data, seconds, None).0);
        }
    }
    let resident = number(&memory(ours.0.id()), "/residentMiB");
    let medians: Vec<f64> = rates.iter().map(|rates| median(rates.clone())).collect();
    let half = medians[1] / 2.0;
    let (mut bars, mut times_at_half) = (Vec::new(), json!({}));
    for ((name, address), rate) in servers.iter().zip(&medians) {
        let beside =
            |figure: Figure, what: &str| if *name == "nsd" { figure } else { figure.beside(&format!("dns/nsd{what}")) };
        let about =
            format!("queries answered by {name}, one thread, {services} Services × {} endpoints", cluster::ENDPOINTS);
        let figure = beside(Figure::rate(&format!("dns/{name}"), *rate, Unit::PerSecond, &about), "");
        outcome.figures.add(if *name == "portolan" { figure.aim(Aim::Ratio(1.0)) } else { figure });
        bars.push(((*name).to_owned(), *rate));
        // Who does not reach that load has no times at it.
        if *rate < half {
            continue;
        }
        let times: Vec<f64> =
            dnsperf(address, &data, seconds, Some(half as usize)).1.into_iter().map(|seconds| seconds * 1e3).collect();
        let about = format!("{name}'s time for an answer at half of Portolan's rate");
        for (what, q) in [("p50", 0.5), ("p99", 0.99)] {
            let time = quantile(times.clone(), q);
            times_at_half[*name][what] = json!(time);
            let figure =
                Figure::cost(&format!("dns/{name}-{what}"), time, Unit::Milliseconds, &format!("{about}, {what}"));
            let figure = beside(figure, &format!("-{what}"));
            let wanted = *name == "portolan" && what == "p99";
            outcome.figures.add(if wanted { figure.aim(Aim::Value(1.5)) } else { figure });
        }
    }
    let about = "memory of a server of names, with all Services and endpoints";
    outcome.figures.add(Figure::cost("dns/memory", resident, Unit::Mebibytes, about).aim(Aim::Value(60.0)));
    plot::bars(&outcome.plot("queries"), "DNS queries per second, one thread each", "/s", &bars);
    outcome.detail = json!({"services": services, "rates": rates, "halfLoadMs": times_at_half});
    // The end of its input is its end.
    drop(ours.0.stdin.take());
    ours.0.wait().unwrap();
}

fn nsd(dir: &Path, question: &Question) -> Running {
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
    let mut command = Command::new("nsd");
    command.args(["-d", "-c"]).arg(dir.join("nsd.conf"));
    start("nsd", command, address, dir, question)
}

/// CoreDNS with the same zone file, on one thread; `None` where `make coredns` has not built it.
fn coredns(dir: &Path, question: &Question) -> Option<Running> {
    let program: PathBuf = target().join("tools/coredns");
    if !program.exists() {
        eprintln!("    CoreDNS is left out: make coredns builds it");
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
    Some(start("coredns", command, address, dir, question))
}

/// Starts another server, and returns when it answers.
fn start(name: &str, mut command: Command, address: SocketAddr, dir: &Path, question: &Question) -> Running {
    let log = dir.join(format!("{name}.log"));
    let mut peer = Running::start(command.stderr(std::fs::File::create(&log).unwrap()));
    let until = Instant::now() + Duration::from_secs(30);
    while say(address, question).is_empty() {
        let ended = peer.0.try_wait().unwrap();
        let log = || std::fs::read_to_string(&log).unwrap();
        assert!(ended.is_none() && Instant::now() < until, "{name} does not answer; {ended:?}\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    peer
}

/// One answer; empty if none comes.
fn say(server: SocketAddr, (name, kind): &Question) -> Vec<u8> {
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), *kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    query.set_edns(edns);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect(server).unwrap();
    // Where nobody listens yet, that is heard by the answer at the latest.
    let _ = socket.send(&query.to_vec().unwrap());
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).unwrap_or(0);
    answer.truncate(length);
    answer
}

/// Both say the same: otherwise one of them has it easier.
fn compare(asked: &[Question]) {
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
