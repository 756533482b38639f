use std::io;
use std::sync::{Arc, Mutex};

use dataplane::nftables::netlink::NetlinkError;
use model::types::{Node, NodeAddress, Service, ServicePort};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::*;

/// What sockets and routes there are, in the order in which it came about.
#[derive(Default)]
struct World {
    log: Vec<String>,
    routes: BTreeSet<IpAddr>,
    /// Cannot be bound.
    taken: Option<SocketAddr>,
    /// Cannot be made the machine's own.
    forbidden: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Sockets for Shared {
    fn listen(&self, address: SocketAddr) -> Result<(), AnyError> {
        let mut world = self.0.lock().unwrap();
        if world.taken == Some(address) {
            return Err(io::Error::from(io::ErrorKind::AddrInUse).into());
        }
        world.log.push(format!("listen {address}"));
        Ok(())
    }

    fn leave(&self, address: SocketAddr) {
        self.0.lock().unwrap().log.push(format!("leave {address}"));
    }
}

impl Addresses for Shared {
    fn list(&self) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        Ok(self.0.lock().unwrap().routes.clone())
    }

    fn add(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        let mut world = self.0.lock().unwrap();
        if world.forbidden {
            return Err(NetlinkError::NoAnswer);
        }
        let new = world.routes.insert(address);
        if new {
            world.log.push(format!("route {address}"));
        }
        Ok(new)
    }

    fn retain(&self, kept: &BTreeSet<IpAddr>) -> Result<bool, NetlinkError> {
        let mut world = self.0.lock().unwrap();
        let before = world.routes.len();
        world.routes.retain(|route| kept.contains(route));
        let removed = world.routes.len() < before;
        if removed {
            world.log.push("unroute".into());
        }
        Ok(removed)
    }
}

struct Bench {
    world: Shared,
    answering: Answering,
    told: watch::Receiver<Option<u16>>,
    notes: mpsc::Receiver<Note>,
    snapshot: Snapshot,
    now: Instant,
}

impl Bench {
    fn new(routes: &[&str]) -> Self {
        let world = Shared::default();
        world.0.lock().unwrap().routes = routes.iter().map(|route| route.parse().unwrap()).collect();
        let (told, watched) = watch::channel(None);
        let (events, notes) = Recorder::new(Counter::default());
        let (sockets, addresses) = (Box::new(world.clone()), Box::new(world.clone()));
        let service = Key::new("kube-system", "kube-dns");
        let answering = Answering::new(service, "node-1", 10053, sockets, addresses, told, events);
        let node = Node {
            status: model::types::NodeStatus {
                addresses: ["192.0.2.1", "127.0.0.1"]
                    .map(|address| NodeAddress { type_: "InternalIP".into(), address: address.into() })
                    .into(),
                ..Default::default()
            },
            ..Node::default()
        };
        let snapshot = Snapshot { nodes: [("node-1".to_owned(), Arc::new(node))].into(), ..Snapshot::default() };
        let mut bench = Self { world, answering, told: watched, notes, snapshot, now: Instant::now() };
        bench.service(&["10.96.0.10", "fd00::a"]);
        bench
    }

    fn service(&mut self, addresses: &[&str]) {
        let mut service = Service::default();
        service.spec.cluster_ips = addresses.iter().map(|a| (*a).to_owned()).collect();
        service.spec.cluster_ip = addresses[0].to_owned();
        service.spec.ports =
            vec![ServicePort { name: "dns".into(), protocol: "UDP".into(), port: 53, ..ServicePort::default() }];
        self.snapshot.services.insert(Key::new("kube-system", "kube-dns"), Arc::new(service));
    }

    fn settle(&mut self) -> (bool, Vec<String>) {
        let here = self.answering.settle(&self.snapshot, self.now);
        (here, std::mem::take(&mut self.world.0.lock().unwrap().log))
    }
}

#[test]
fn sockets_come_before_routes_and_both_before_the_plan() {
    let mut bench = Bench::new(&[]);
    let (here, log) = bench.settle();
    let listens = ["listen 10.96.0.10:53", "listen 192.0.2.1:10053", "listen [fd00::a]:53"];
    assert_eq!(log[..3], listens);
    assert_eq!((here, &log[3..]), (true, &["route 10.96.0.10".to_owned(), "route fd00::a".to_owned()][..]));
    assert_eq!(*bench.told.borrow_and_update(), Some(10053));
    assert_eq!(bench.settle(), (true, vec![]), "nothing is done twice");
    // Somebody removes a route.
    bench.world.0.lock().unwrap().routes.clear();
    assert_eq!(bench.settle(), (true, vec!["route 10.96.0.10".into(), "route fd00::a".into()]));
    // The Service has another address, and then none.
    bench.service(&["10.96.0.11"]);
    let (here, log) = bench.settle();
    let moved = ["leave 10.96.0.10:53", "leave [fd00::a]:53", "listen 10.96.0.11:53", "unroute", "route 10.96.0.11"];
    assert_eq!((here, log), (true, moved.map(String::from).into()));
    bench.snapshot.services.clear();
    assert_eq!(bench.settle(), (false, vec!["leave 10.96.0.11:53".into(), "unroute".into()]));
    assert!(!bench.told.has_changed().unwrap(), "the node's own addresses answer on");
}

#[test]
fn what_cannot_be_bound_leads_to_other_nodes_and_is_tried_again() {
    let mut bench = Bench::new(&[]);
    bench.world.0.lock().unwrap().taken = Some("[fd00::a]:53".parse().unwrap());
    let (here, log) = bench.settle();
    assert!(!here && !log.iter().any(|line| line.starts_with("route")), "{log:?}");
    let note = bench.notes.try_recv().unwrap();
    assert!(note.message.contains("node-1") && note.message.contains("other nodes"), "{}", note.message);
    assert_eq!(bench.answering.check_at(), Some(bench.now + CHECK));
    bench.settle();
    assert!(bench.notes.try_recv().is_err(), "it is no news any more");
    bench.world.0.lock().unwrap().taken = None;
    bench.world.0.lock().unwrap().forbidden = true;
    assert!(!bench.settle().0);
    assert!(bench.notes.try_recv().is_ok());
    bench.world.0.lock().unwrap().forbidden = false;
    assert!(bench.settle().0);
}

#[test]
fn an_agent_that_follows_takes_over_what_it_finds() {
    let mut bench = Bench::new(&["10.96.0.10", "10.96.0.99"]);
    let log = std::mem::take(&mut bench.world.0.lock().unwrap().log);
    assert_eq!(log, ["listen 10.96.0.10:53", "listen 10.96.0.99:53"], "before anything is known");
    let (here, log) = bench.settle();
    assert!(here && log.contains(&"leave 10.96.0.99:53".into()) && log.contains(&"unroute".into()), "{log:?}");
    assert!(!log.contains(&"route 10.96.0.10".into()), "it was never away");
}

#[test]
fn whoever_leaves_says_so_first_and_answers_until_the_end() {
    let mut bench = Bench::new(&[]);
    bench.settle();
    bench.answering.prepare_to_leave();
    assert_eq!(*bench.told.borrow_and_update(), None);
    assert_eq!(bench.settle(), (false, vec![]), "no socket is closed");
    bench.answering.end();
    assert!(bench.world.0.lock().unwrap().routes.is_empty());
}
