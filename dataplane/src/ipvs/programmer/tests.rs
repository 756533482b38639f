//! A target in memory: what is written, in which order, and what is done when some of it is refused.

use std::io;
use std::time::Duration;

use expect_test::{Expect, expect};
use model::types::Protocol;
use nix::libc;

use super::*;
use crate::iptables::spelling::Spelling;
use crate::ipvs::rules;
use crate::ipvs::state::{Connections, Server};
use crate::plan::NodePlan;
use crate::testing::{Cluster, EndpointSpec, ServiceSpec, State};
use crate::xtables;

/// A machine, and what was done to it.
#[derive(Default)]
pub struct Memory {
    pub found: Found,
    pub servers: BTreeMap<Place, Server>,
    pub rules: xtables::Shadow,
    spelling: Spelling,
    /// Whose rules are beside IPVS.
    node: Option<NodePlan>,
    connections: BTreeMap<SocketAddr, Connections>,
    /// No virtual server can be made here.
    refused: BTreeSet<Place>,
    log: Vec<String>,
}

impl Memory {
    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }
}

fn refusal(number: i32) -> NetlinkError {
    let source = io::Error::from_raw_os_error(number);
    NetlinkError::Refused { what: "a virtual server".into(), detail: String::new(), source }
}

impl Target for Memory {
    fn prepare(&mut self) -> Result<Found, ProgramError> {
        Ok(self.found.clone())
    }

    fn servers(&mut self) -> Result<BTreeMap<Place, Server>, NetlinkError> {
        Ok(self.servers.clone())
    }

    fn server(&mut self, place: Place) -> Result<Option<Server>, NetlinkError> {
        Ok(self.servers.get(&place).cloned())
    }

    fn connections(&mut self, place: Place) -> Result<BTreeMap<SocketAddr, Connections>, NetlinkError> {
        let of = |d: &SocketAddr| (*d, self.connections.get(d).copied().unwrap_or_default());
        Ok(self.servers.get(&place).into_iter().flat_map(|s| s.destinations.keys().map(of)).collect())
    }

    fn command(&mut self, command: &Command) -> Result<(), NetlinkError> {
        let servers = &mut self.servers;
        let line = match command {
            Command::AddServer { place, .. } if self.refused.contains(place) => return Err(refusal(libc::ENOENT)),
            Command::AddServer { place, scheduler, persistence_seconds } => {
                let (scheduler, persistence_seconds) = (*scheduler, *persistence_seconds);
                servers.insert(*place, Server { scheduler, persistence_seconds, destinations: BTreeMap::new() });
                format!("server {place}")
            }
            Command::SetServer { place, scheduler, persistence_seconds } => {
                let server = servers.get_mut(place).unwrap();
                (server.scheduler, server.persistence_seconds) = (*scheduler, *persistence_seconds);
                format!("server {place} {scheduler}")
            }
            Command::RemoveServer { place } => {
                assert!(servers.remove(place).unwrap().destinations.is_empty());
                format!("no server {place}")
            }
            Command::AddDestination { place, destination, weight } => {
                assert_eq!(servers.get_mut(place).unwrap().destinations.insert(*destination, *weight), None);
                format!("{place} -> {destination} {weight}")
            }
            Command::SetWeight { place, destination, weight } => {
                assert!(servers.get_mut(place).unwrap().destinations.insert(*destination, *weight).is_some());
                format!("{place} -> {destination} {weight}")
            }
            Command::RemoveDestination { place, destination } => {
                assert!(servers.get_mut(place).unwrap().destinations.remove(destination).is_some());
                format!("{place} -> no {destination}")
            }
        };
        self.note(line);
        Ok(())
    }

    fn add_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError> {
        for element in elements {
            assert!(self.found.elements.insert(*element), "{element:?}");
            self.note(format!("+ {:?} {:?}", element.set, element.entry));
        }
        Ok(())
    }

    fn remove_elements(&mut self, elements: &[Element]) -> Result<(), NetlinkError> {
        for element in elements {
            self.found.elements.remove(element);
            self.note(format!("- {:?} {:?}", element.set, element.entry));
        }
        Ok(())
    }

    fn add_address(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        assert!(self.found.addresses.insert(address));
        self.note(format!("+ address {address}"));
        Ok(())
    }

    fn remove_address(&mut self, address: IpAddr) -> Result<(), NetlinkError> {
        assert!(self.found.addresses.remove(&address));
        self.note(format!("- address {address}"));
        Ok(())
    }

    fn rules(&mut self, node: &NodePlan, inside: &Plan, dirty: &Dirty) -> Result<(usize, usize), ProgramError> {
        self.note(format!("rules, and inside those for {}", inside.services.len()));
        let updated = self.spelling.update(inside, dirty);
        let mut changes = updated.changes;
        let anew = self.node.replace(node.clone()).as_ref() != Some(node);
        rules::add(node, updated.whole || anew, &mut changes);
        for of in changes.tables.values() {
            assert!(of.jumps.iter().all(|jumps| jumps.is_sorted_by_key(|(hook, _)| *hook)), "as they are read back");
        }
        if updated.whole {
            changes.complete(&self.rules);
        }
        changes.reduce(&self.rules);
        self.rules.apply(changes);
        Ok((0, 0))
    }

    fn mend_rules(&mut self, _: &Plan) -> Result<usize, ProgramError> {
        Ok(0)
    }

    fn forget(&mut self) {}
}

fn spec(hosts: &[u8]) -> ServiceSpec {
    let endpoint = |host: &u8| EndpointSpec { host: *host, local: false, state: State::Ready, weight: 100 };
    ServiceSpec {
        internal_local: false,
        external_local: false,
        affinity: None,
        node_port: false,
        external_ip: false,
        load_balancer: None,
        foreign: false,
        dns: false,
        families: vec![crate::Family::V4],
        endpoints: hosts.iter().map(endpoint).collect(),
    }
}

/// A cluster whose Services have TCP alone.
struct Lab {
    cluster: Cluster,
    programmer: Programmer<Memory>,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        let programmer = Programmer::new(Memory::default(), Scheduler::RoundRobin);
        let mut cluster = Cluster::new();
        cluster.local.cluster_cidrs.clear();
        cluster.local.dns = None;
        Self { cluster, programmer, now: Instant::now() }
    }

    fn set(&mut self, index: usize, spec: Option<ServiceSpec>) -> Key {
        let key = self.cluster.set(index, spec);
        if let Some(service) = self.cluster.snapshot.services.get_mut(&key) {
            Arc::make_mut(service).spec.ports.truncate(1);
        }
        key
    }

    fn program(&mut self, dirty: &Dirty) -> Report {
        let plan = self.cluster.plan();
        self.programmer.program(&plan, dirty, self.now).unwrap()
    }

    fn repair(&mut self) -> Report {
        let plan = self.cluster.plan();
        self.programmer.repair(&plan, self.now).unwrap()
    }

    /// What was done since the last time.
    fn check(&mut self, expected: Expect) {
        let log: String = self.programmer.target.log.drain(..).map(|line| line + "\n").collect();
        let log = log.replace("Port(Place { address: ", "").replace(" })", "").replace("Address(10", "10");
        expected.assert_eq(&log.replace(", protocol: Tcp, port: 80", " TCP 80").replace("1)\n", "1\n"));
    }

    fn place() -> Place {
        Place::new("10.96.0.1".parse().unwrap(), Protocol::Tcp, 80)
    }
}

#[test]
fn a_place_is_opened_from_behind_and_closed_from_the_front() {
    let mut lab = Lab::new();
    let key = lab.set(0, Some(spec(&[2])));
    assert!(lab.program(&Dirty::All).full);
    lab.check(expect![[r#"
        + Owned 10.96.0.1 TCP 80
        server TCP 10.96.0.1:80
        TCP 10.96.0.1:80 -> 10.244.2.2:8080 1
        + ClusterIps 10.96.0.1
        + Servers 10.96.0.1 TCP 80
        + Addresses 10.96.0.1
        rules, and inside those for 0
        + address 10.96.0.1
    "#]]);
    let dirty = Dirty::Services([key.clone()].into());
    lab.program(&dirty);
    lab.check(expect![""]);
    lab.set(0, Some(spec(&[3])));
    lab.programmer
        .target
        .connections
        .insert("10.244.2.2:8080".parse().unwrap(), Connections { active: 1, inactive: 0 });
    lab.program(&dirty);
    lab.check(expect![[r#"
        TCP 10.96.0.1:80 -> 10.244.2.3:8080 1
        TCP 10.96.0.1:80 -> 10.244.2.2:8080 0
    "#]]);
    assert!(lab.programmer.is_waiting());
    // The Service goes, its address stays with the connection.
    lab.set(0, None);
    lab.program(&dirty);
    lab.check(expect![[r#"
        TCP 10.96.0.1:80 -> 10.244.2.3:8080 0
        - ClusterIps 10.96.0.1
        - Servers 10.96.0.1 TCP 80
        TCP 10.96.0.1:80 -> no 10.244.2.3:8080
    "#]]);
    lab.programmer.target.connections.clear();
    lab.repair();
    lab.check(expect![[r#"
        TCP 10.96.0.1:80 -> no 10.244.2.2:8080
        no server TCP 10.96.0.1:80
        - Owned 10.96.0.1 TCP 80
        - address 10.96.0.1
        - Addresses 10.96.0.1
    "#]]);
    assert!(!lab.programmer.is_waiting());
}

#[test]
fn an_agent_that_follows_changes_what_is_there() {
    let mut lab = Lab::new();
    lab.set(0, Some(spec(&[2])));
    lab.set(1, Some(spec(&[5])));
    lab.program(&Dirty::All);
    lab.programmer
        .target
        .connections
        .insert("10.244.2.5:8080".parse().unwrap(), Connections { active: 1, inactive: 0 });
    let foreign = Place::new("192.0.2.7".parse().unwrap(), Protocol::Tcp, 80);
    let server = lab.programmer.target.servers[&Lab::place()].clone();
    lab.programmer.target.servers.insert(foreign, server);
    lab.check_nothing();
    let target = std::mem::take(&mut lab.programmer.target);
    lab.programmer = Programmer::new(target, Scheduler::RoundRobin);
    lab.set(0, Some(spec(&[2, 3])));
    lab.set(1, None);
    let report = lab.program(&Dirty::All);
    assert!(report.full && report.adopted);
    lab.check(expect![[r#"
        TCP 10.96.0.1:80 -> 10.244.2.3:8080 1
        TCP 10.96.0.2:80 -> 10.244.2.5:8080 0
        rules, and inside those for 0
        - ClusterIps 10.96.0.2)
        - Servers 10.96.0.2 TCP 80
    "#]]);
    lab.now += Duration::from_secs(15 * 60);
    lab.repair();
    assert_eq!(lab.programmer.target.servers.keys().copied().collect::<Vec<_>>(), [Lab::place(), foreign]);
    assert_eq!(lab.programmer.target.found.addresses.len(), 1);
}

#[test]
fn one_that_is_refused_keeps_nobody_out() {
    let mut lab = Lab::new();
    let key = lab.set(0, Some(spec(&[2])));
    let other = lab.set(1, Some(spec(&[2])));
    lab.programmer.target.refused.insert(Lab::place());
    let report = lab.program(&Dirty::All);
    assert_eq!(report.refused.iter().map(|r| &r.service).collect::<Vec<_>>(), [&key]);
    assert!(report.refused[0].error.starts_with("TCP 10.96.0.1:80: the kernel refused"), "{report:?}");
    assert_eq!(lab.programmer.target.servers.len(), 1);
    // With the next plan it is tried again.
    lab.programmer.target.refused.clear();
    let report = lab.program(&Dirty::Services([other].into()));
    assert_eq!(report.refused, []);
    assert_eq!(lab.programmer.target.servers.len(), 2);
}

#[test]
fn what_others_do_is_undone() {
    let mut lab = Lab::new();
    lab.set(0, Some(spec(&[2, 3])));
    lab.program(&Dirty::All);
    let whole = (lab.programmer.target.servers.clone(), lab.programmer.target.found.clone());
    lab.check_nothing();
    assert_eq!(lab.repair().repairs, Repairs::default());
    lab.programmer.target.servers.clear();
    lab.programmer.target.found = Found::default();
    let repairs = lab.repair().repairs;
    assert!(repairs.elements > 0, "{repairs:?}");
    assert_eq!((lab.programmer.target.servers.clone(), lab.programmer.target.found.clone()), whole);
    let server = lab.programmer.target.servers.get_mut(&Lab::place()).unwrap();
    server.destinations.remove(&"10.244.2.3:8080".parse().unwrap());
    server.destinations.insert("192.0.2.9:80".parse().unwrap(), 7);
    lab.programmer.target.found.addresses.insert("192.0.2.8".parse().unwrap());
    lab.repair();
    assert_eq!((lab.programmer.target.servers.clone(), lab.programmer.target.found.clone()), whole);
}

#[test]
fn a_plan_that_is_older_is_refused() {
    let mut lab = Lab::new();
    lab.set(0, Some(spec(&[2])));
    lab.program(&Dirty::All);
    lab.cluster.snapshot.revision -= 1;
    let plan = lab.cluster.plan();
    let error = lab.programmer.program(&plan, &Dirty::All, lab.now).unwrap_err();
    assert!(matches!(error, ProgramError::Stale { .. }));
    lab.programmer.begin_epoch();
    lab.program(&Dirty::All);
}

impl Lab {
    fn check_nothing(&mut self) {
        self.programmer.target.log.clear();
    }
}
