//! IPVS with connections that last: who gets which, and what becomes of them when endpoints, Services and agents go.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::ipvs::{self, Drain, Tables};
use dataplane::nftables::Table;
use dataplane::{Dirty, Plan, Report, Scheduler};

use crate::lab::{Answer, Failure, Lab, Namespace, tcp, tcp_here, udp};
use crate::machine::with_ipvs;
use crate::plans::{Node, Web, plan};
use crate::spellings::Spelling;

/// Where servers answer each byte with their name, for as long as the client likes.
const LASTING: u16 = 9000;
/// The kernel remembers a connection that was reset for ten seconds; software takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

fn open() -> Tables {
    Tables::open(ipvs::Options::default()).unwrap()
}

/// A connection to a lasting server.
struct Connection(TcpStream);

impl Connection {
    fn new(from: &Namespace, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let stream = from.run(move || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // Its end is a reset, after which the kernel need not remember it for minutes.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        Self(stream)
    }

    /// Who is at the other end.
    fn name(&mut self) -> String {
        self.0.write_all(b"?").unwrap();
        let mut length = [0];
        self.0.read_exact(&mut length).expect("the connection is alive");
        let mut name = vec![0; length[0].into()];
        self.0.read_exact(&mut name).unwrap();
        String::from_utf8(name).unwrap()
    }
}

fn serve_lasting(namespace: &Namespace, name: &'static str, addresses: &[&str]) {
    for address in addresses {
        let at = SocketAddr::new(address.parse().unwrap(), LASTING);
        let listener = namespace.run(move || TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        let length = u8::try_from(name.len()).unwrap();
                        let _ = stream.write_all(&[&[length], name.as_bytes()].concat());
                    }
                });
            }
        });
    }
}

/// Service 1 leads to lasting servers on these pods.
fn lasting(revision: u64, pods: &[(u8, u8)]) -> Plan {
    let web = Web { node_port: Some((30_001, false)), ..Web::new(1, pods) };
    let mut plan = plan(revision, &[web.clone(), Web::new(2, &[(1, 3)])]);
    let service = Arc::make_mut(plan.services.get_mut(&web.key()).unwrap());
    for endpoint in service.pools.iter_mut().flat_map(|pool| &mut pool.endpoints) {
        endpoint.port = LASTING;
    }
    plan
}

/// An agent on the lab's node.
struct Agent<'a, S = Tables> {
    node: &'a Namespace,
    tables: Option<S>,
    plan: Plan,
}

impl<'a> Agent<'a> {
    fn start(node: &'a Namespace) -> Self {
        Self { node, tables: Some(node.run(open)), plan: Plan::default() }
    }

    /// Lets others undo what was done, ends waiting, and says whether there is any more.
    fn repair(&mut self) -> (Report, bool) {
        let (mut tables, plan) = (self.tables.take().unwrap(), self.plan.clone());
        let (tables, report) = self.node.run(move || {
            let report = tables.repair(&plan).unwrap();
            (tables, report)
        });
        let waiting = tables.is_waiting();
        self.tables = Some(tables);
        (report, waiting)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.repair().1 {
            assert!(Instant::now() < deadline, "{}", servers(self.node));
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl<S: Spelling> Agent<'_, S> {
    fn program(&mut self, plan: Plan) -> Report {
        self.plan = plan.clone();
        let mut tables = self.tables.take().unwrap();
        let (tables, report) = self.node.run(move || {
            let report = tables.must(&plan, &Dirty::All);
            (tables, report)
        });
        self.tables = Some(tables);
        report
    }
}

fn servers(node: &Namespace) -> String {
    node.command("ipvsadm -S -n")
}

/// The weight of a destination of Service 1's ClusterIP.
fn weight(node: &Namespace, destination: &str) -> Option<String> {
    let line = format!("-a -t 10.96.0.1:80 -r {destination}:{LASTING} -m -w ");
    servers(node).lines().find_map(|text| Some(text.strip_prefix(&line)?.trim().to_owned()))
}

/// How often each pod answers, and the order.
fn answers(from: &Namespace, to: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| tcp(from, to).unwrap_or_else(|e| panic!("{to}: {e:?}")).pod).collect()
}

fn tally(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    answers.iter().for_each(|pod| *tally.entry(pod.as_str()).or_default() += 1);
    tally
}

#[test]
fn who_gets_which() {
    with_ipvs("ipvs_connections::who_gets_which", || {
        let lab = Lab::new();
        let mut node = Node::by(&lab.node, open);
        let pods = [(1, 2), (1, 3), (2, 2)];
        let port = |port| Some((port, false));
        node.program(&[
            Web { node_port: port(30_001), ..Web::new(1, &pods) },
            Web { node_port: port(30_002), affinity_seconds: Some(60), ..Web::new(2, &pods) },
        ]);
        turns(&lab);
        affinity(&lab, &mut node);
        weights(&lab);
        schedulers(&lab);
    });
}

/// Three endpoints, nine connections, three each: from wherever, however it is asked.
fn turns(lab: &Lab) {
    for from in [&lab.outside, &lab.other, &lab.pod_b, &lab.node] {
        for to in ["10.96.0.1:80", "[fd00:10:96::1]:80", "172.31.255.11:30001", "[fd00:31::11]:30001"] {
            let got = answers(from, to, 9);
            let counts = tally(&got);
            assert_eq!((counts.len(), counts.values().all(|n| *n == 3)), (3, true), "{to}: {counts:?}");
            // Strictly: the same three in the same order.
            assert!(got.chunks(3).all(|turn| turn == &got[..3]), "{to}: {got:?}");
        }
    }
    let mut datagrams = Vec::new();
    for _ in 0..9 {
        datagrams.push(udp(&lab.outside, "10.96.0.1:80").unwrap().pod);
    }
    assert!(tally(&datagrams).values().all(|n| *n == 3), "{datagrams:?}");
}

/// A client stays with its endpoint until that is gone, and others have others.
fn affinity(lab: &Lab, node: &mut Node<'_, Tables>) {
    for to in ["10.96.0.2:80", "[fd00:10:96::2]:80", "172.31.255.11:30002"] {
        let mut chosen = Vec::new();
        for from in [&lab.outside, &lab.other, &lab.pod_b] {
            let got = answers(from, to, 6);
            assert_eq!(tally(&got).len(), 1, "{to}: {got:?}");
            chosen.push(got[0].clone());
        }
        chosen.sort();
        chosen.dedup();
        assert!(chosen.len() > 1, "{to}: clients do not all have one: {chosen:?}");
    }
    let before = answers(&lab.outside, "10.96.0.2:80", 1).remove(0);
    let pods = [((1, 2), "pod-2"), ((1, 3), "pod-3"), ((2, 2), "remote-2")];
    let others: Vec<_> = pods.iter().filter(|(_, name)| *name != before).map(|(pod, _)| *pod).collect();
    let web = Web { affinity_seconds: Some(60), node_port: Some((30_002, false)), ..Web::new(2, &others) };
    node.program(&[web]);
    let after = answers(&lab.outside, "10.96.0.2:80", 6);
    assert!(tally(&after).len() == 1 && after[0] != before, "{before} is gone: {after:?}");
}

/// Of endpoints that weigh differently each has its share, exactly.
fn weights(lab: &Lab) {
    let mut plan = plan(1_000, &[Web::new(3, &[(1, 2), (1, 3), (2, 2)])]);
    for service in plan.services.values_mut() {
        for pool in &mut Arc::make_mut(service).pools {
            for (endpoint, share) in pool.endpoints.iter_mut().zip([1, 2, 3]) {
                endpoint.share = share;
            }
        }
    }
    lab.node.run(move || drop(open().must(&plan, &Dirty::All)));
    let got = answers(&lab.outside, "10.96.0.3:80", 12);
    assert_eq!(tally(&got), [("pod-2", 2), ("pod-3", 4), ("remote-2", 6)].into());
    assert!(servers(&lab.node).contains("-A -t 10.96.0.3:80 -s wrr"), "{}", servers(&lab.node));
}

/// Every scheduler leads to endpoints, and those by address lead a client to the same one.
fn schedulers(lab: &Lab) {
    for (revision, scheduler) in (2_000..).zip(Scheduler::ALL) {
        let mut plan = plan(revision, &[Web::new(4, &[(1, 2), (1, 3), (2, 2)])]);
        for service in plan.services.values_mut() {
            Arc::make_mut(service).scheduler = Some(scheduler);
        }
        lab.node.run(move || drop(open().must(&plan, &Dirty::All)));
        assert!(servers(&lab.node).contains(&format!("-A -t 10.96.0.4:80 -s {scheduler}")), "{scheduler}");
        let got = answers(&lab.outside, "10.96.0.4:80", 6);
        if matches!(scheduler, Scheduler::SourceHashing | Scheduler::MaglevHashing) {
            assert_eq!(tally(&got).len(), 1, "{scheduler}: {got:?}");
        }
    }
}

#[test]
fn who_leaves() {
    with_ipvs("ipvs_connections::who_leaves", || {
        let lab = Lab::new();
        serve_lasting(&lab.pod_a, "a", &["10.244.1.2", "fd00:244:1::2"]);
        serve_lasting(&lab.pod_b, "b", &["10.244.1.3", "fd00:244:1::3"]);
        serve_lasting(&lab.remote, "remote", &["10.244.2.2", "fd00:244:2::2"]);
        let mut agent = Agent::start(&lab.node);
        endpoint(&lab, &mut agent);
        service(&lab, &mut agent);
        flow(&lab, &mut agent);
        restart(&lab, agent);
    });
}

/// An endpoint that is gone keeps the connections that it has, gets no new ones, and goes with the last.
fn endpoint(lab: &Lab, agent: &mut Agent<'_>) {
    agent.program(lasting(1, &[(1, 2), (2, 2)]));
    for (from, to) in
        [(&lab.outside, "10.96.0.1:80"), (&lab.other, "[fd00:10:96::1]:80"), (&lab.node, "172.31.255.11:30001")]
    {
        let revision = agent.plan.revision;
        let mut both = [Connection::new(from, to), Connection::new(from, to)];
        let at_a = both.iter_mut().position(|connection| connection.name() == "a").unwrap();
        agent.program(lasting(revision + 1, &[(2, 2)]));
        assert_eq!(weight(&lab.node, "10.244.1.2").as_deref(), Some("0"));
        for _ in 0..4 {
            assert_eq!(Connection::new(from, to).name(), "remote", "{to}");
        }
        assert_eq!(both.each_mut().map(Connection::name), if at_a == 0 { ["a", "remote"] } else { ["remote", "a"] });
        agent.repair();
        assert_eq!(both[at_a].name(), "a", "{to}");
        // It comes back, and has new ones again.
        agent.program(lasting(revision + 2, &[(1, 2), (2, 2)]));
        assert_eq!(weight(&lab.node, "10.244.1.2").as_deref(), Some("1"));
        let mut new = [Connection::new(from, to), Connection::new(from, to)];
        assert!(new.iter_mut().any(|connection| connection.name() == "a"), "{to}");
        assert_eq!(both[at_a].name(), "a", "{to}");
    }
    let revision = agent.plan.revision;
    let mut one = Connection::new(&lab.outside, "10.96.0.1:80");
    if one.name() != "a" {
        one = Connection::new(&lab.outside, "10.96.0.1:80");
    }
    assert_eq!(one.name(), "a");
    agent.program(lasting(revision + 1, &[(2, 2)]));
    for _ in 0..3 {
        assert!(agent.repair().1, "its connection is open");
    }
    drop(one);
    agent.wait();
    assert_eq!(weight(&lab.node, "10.244.1.2"), None);
}

/// A Service that is gone refuses new connections; its address stays as long as the others last.
fn service(lab: &Lab, agent: &mut Agent<'_>) {
    let revision = agent.plan.revision;
    let mut connection = Connection::new(&lab.outside, "10.96.0.1:80");
    assert_eq!(connection.name(), "remote");
    let without = |revision| plan(revision, &[Web::new(2, &[(1, 3)])]);
    agent.program(without(revision + 1));
    assert_eq!(connection.name(), "remote");
    let refused = tcp(&lab.outside, "10.96.0.1:80");
    assert!(matches!(refused, Err(Failure::Refused | Failure::TimedOut)), "{refused:?}");
    assert_eq!(tcp(&lab.outside, "10.96.0.2:80").unwrap().pod, "pod-3");
    agent.repair();
    assert_eq!(connection.name(), "remote");
    drop(connection);
    agent.wait();
    assert!(!servers(&lab.node).contains("10.96.0.1:80"), "{}", servers(&lab.node));
    let addresses = lab.node.command("ip -o address show dev portolan-ipvs");
    assert!(!addresses.contains("10.96.0.1/") && addresses.contains("10.96.0.2/"), "{addresses}");
}

/// A UDP client that keeps its socket goes over when its endpoint is gone.
fn flow(lab: &Lab, agent: &mut Agent<'_>) {
    let revision = agent.plan.revision;
    agent.program(plan(revision + 1, &[Web::new(2, &[(1, 2)])]));
    let socket = lab.outside.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect("10.96.0.2:80").unwrap();
    let ask = || {
        let mut buffer = [0; 64];
        socket.send(b"?").ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let eventually = |name: &str| (0..10).any(|_| ask().is_some_and(|text| text.starts_with(name)));
    assert!(eventually("pod-2"));
    agent.program(plan(revision + 2, &[Web::new(2, &[(2, 3)])]));
    assert!(eventually("remote-3"), "the flow goes over");
}

/// No connection notices that an agent was restarted, and what is there is what there was.
fn restart(lab: &Lab, mut agent: Agent<'_>) {
    let revision = agent.plan.revision;
    agent.program(lasting(revision + 1, &[(1, 2), (2, 2)]));
    let mut both = [(); 2].map(|()| Connection::new(&lab.outside, "10.96.0.1:80"));
    let names = both.each_mut().map(Connection::name);
    let before = servers(&lab.node);
    drop(agent);
    let mut agent = Agent::start(&lab.node);
    let report = agent.program(lasting(1, &[(1, 2), (2, 2)]));
    assert!(report.adopted, "{report:?}");
    assert_eq!(servers(&lab.node), before);
    assert_eq!(both.each_mut().map(Connection::name), names);
    // What went while nobody was there leaves as it would have.
    drop(agent);
    let mut agent = Agent::start(&lab.node);
    agent.program(lasting(1, &[(1, 3), (2, 2)]));
    assert_eq!(weight(&lab.node, "10.244.1.2").as_deref(), Some("0"));
    assert_eq!(both.each_mut().map(Connection::name), names);
    drop(both);
    agent.wait();
    assert_eq!(weight(&lab.node, "10.244.1.2"), None);
}

/// Everything of a node that a dataplane could leave behind. Counters, and what moves by itself, are left out.
fn everything(node: &Namespace) -> Vec<String> {
    let mut all = Vec::new();
    for program in ["iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"] {
        let text = node.command(program);
        // A table or chain without rules is as good as none.
        all.extend(text.lines().filter(|line| line.starts_with('-')).map(|line| format!("{program}: {line}")));
    }
    let chains = |text: String| text.lines().filter(|l| l.contains("PORTOLAN")).map(str::to_owned).collect::<Vec<_>>();
    for program in ["iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"] {
        all.extend(chains(node.command(program)));
    }
    for line in
        ["ipvsadm -S -n", "ipset save", "ip -o address", "ip route show table all", "ip -6 route show table all"]
    {
        // An interface that is made anew has another number.
        let plain = |text: &str| text.split_once(": ").map_or(text, |(_, rest)| rest).to_owned();
        // Nor the same address of its link.
        let made_up = |text: &&str| text.contains("fe80:") && text.contains("portolan-ipvs");
        let text = node.command(line);
        all.extend(text.lines().filter(|text| !made_up(text)).map(|text| format!("{line}: {}", plain(text))));
    }
    let links = node.command("ip -o link");
    all.extend(links.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned));
    for wanted in ipvs::settings::WANTED {
        let value = node.run(move || wanted.setting.get());
        all.push(format!("{} {value:?}", wanted.setting.path));
    }
    // Nothing but the rules of a chain has an order, and of those only what is missing is looked for.
    all.sort();
    all
}

fn same(now: &[String], before: &[String], what: &str) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    assert!(now == before, "after {what}, too much: {:#?}, too little: {:#?}", only(now, before), only(before, now));
}

#[test]
fn what_others_do_and_what_is_left() {
    with_ipvs("ipvs_connections::what_others_do_and_what_is_left", || {
        let lab = Lab::new();
        // Modules, and tables that are made by looking at them.
        everything(&lab.node);
        let before = everything(&lab.node);
        let web = |number| Web { node_port: Some((30_000 + number, true)), ..Web::new(number, &[(1, 3), (2, 3)]) };
        let mut agent = Agent::start(&lab.node);
        agent.program(plan(1, &[web(1), web(2)]));
        works(&lab);
        let programmed = everything(&lab.node);
        assert_eq!(agent.repair().0.repairs, dataplane::Repairs::default(), "nobody did anything");
        for harm in [
            "ipvsadm -C",
            "ipvsadm -d -t 10.96.0.1:80 -r 10.244.1.3:8080",
            "ipvsadm -E -t 10.96.0.1:80 -s lc",
            "ip address del 10.96.0.1/32 dev portolan-ipvs",
            "ip link set portolan-ipvs down",
            "ip link del portolan-ipvs",
            "ipset flush PORTOLAN-4-SERVERS",
            "ipset del PORTOLAN-4-ADDRESSES 10.96.0.1",
            "iptables -t nat -F",
            "iptables -F",
            "iptables -t mangle -F",
            "sysctl -w net.ipv4.vs.conntrack=0",
        ] {
            lab.node.command(harm);
            agent.repair();
            same(&everything(&lab.node), &programmed, harm);
            works(&lab);
        }
        drop(agent);
        assert!(lab.node.run(|| ipvs::cleanup().unwrap()));
        same(&everything(&lab.node), &before, "the cleanup");
        assert!(!lab.node.run(|| ipvs::cleanup().unwrap()), "nothing is left");
        drained(&lab, &before);
    });
}

fn works(lab: &Lab) {
    for (from, to) in
        [(&lab.outside, "10.96.0.1:80"), (&lab.pod_a, "10.96.0.2:80"), (&lab.outside, "172.31.255.11:30001")]
    {
        let answer = tcp(from, to);
        assert!(matches!(&answer, Ok(Answer { pod, .. }) if pod == "pod-3" || pod == "remote-3"), "{to}: {answer:?}");
    }
}

/// Another dataplane takes over: connections through IPVS last, new ones go the new way, and in the end nothing is left.
fn drained(lab: &Lab, before: &[String]) {
    serve_lasting(&lab.pod_a, "a", &["10.244.1.2", "fd00:244:1::2"]);
    let mut agent = Agent::start(&lab.node);
    agent.program(lasting(1, &[(1, 2)]));
    let mut old = Connection::new(&lab.outside, "10.96.0.1:80");
    assert_eq!(old.name(), "a");
    drop(agent);
    let mut agent =
        Agent { node: &lab.node, tables: Some(lab.node.run(|| Table::open().unwrap())), plan: Plan::default() };
    agent.program(lasting(1, &[(1, 2)]));
    assert!(lab.node.run(|| dataplane::iptables::cleanup().unwrap()));
    let mut drain = lab.node.run(|| Drain::begin().unwrap()).expect("there is a connection");
    assert_eq!(old.name(), "a");
    let mut new = Connection::new(&lab.outside, "10.96.0.1:80");
    assert_eq!(new.name(), "a");
    let to: IpAddr = "172.31.255.11".parse().unwrap();
    assert!(lab.outside.run(move || tcp_here(SocketAddr::new(to, 22))).is_err());
    drop(old);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (back, ended) = lab.node.run(move || {
            let ended = drain.tend(Instant::now()).unwrap();
            (drain, ended)
        });
        drain = back;
        if ended {
            break;
        }
        assert!(Instant::now() < deadline, "{}", servers(&lab.node));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(new.name(), "a");
    same(&everything(&lab.node), before, "the drain");
}
