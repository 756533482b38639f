//! Virtual servers, sets, the interface of their addresses, and settings in a kernel that has IPVS, seen by `ipvsadm`,
//! `ipset` and `ip`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use dataplane::Scheduler;
use dataplane::ipvs::leaving::Command;
use dataplane::ipvs::link::{self, Links};
use dataplane::ipvs::netlink::{Ipvs, IpvsError};
use dataplane::ipvs::settings::WANTED;
use dataplane::ipvs::state::{Connections, Place};
use model::types::Protocol;

use crate::ipset::run;
use crate::lab::Namespace;
use crate::machine::with_ipvs;

fn place(address: &str, protocol: Protocol) -> Place {
    Place::new(address.parse().unwrap(), protocol, 80)
}

fn seen() -> Vec<String> {
    run("ipvsadm -S -n").unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn as_foreign_eyes_see_it() {
    with_ipvs("ipvs_netlink::as_foreign_eyes_see_it", || {
        missing();
        crate::ipset::sets();
        Namespace::new().run(|| {
            servers();
            settings();
            interface();
        });
    });
}

/// Without the module there is a sentence; with it nobody has to load it.
fn missing() {
    let modprobe = "/proc/sys/kernel/modprobe";
    let before = std::fs::read_to_string(modprobe).unwrap();
    std::fs::write(modprobe, "/bin/false").unwrap();
    let error = Ipvs::open().err().unwrap();
    assert!(matches!(error, IpvsError::Missing), "{error:?}");
    assert!(error.to_string().starts_with("the kernel has no IPVS: the module ip_vs"), "{error}");
    std::fs::write(modprobe, before.trim()).unwrap();
    let ipvs = Ipvs::open().unwrap();
    assert!(ipvs.all().unwrap().is_empty());
}

fn servers() {
    let ipvs = Ipvs::open().unwrap();
    let apply = |command| ipvs.apply(&command).unwrap();
    let mut expected = Vec::new();
    let mut places = Vec::new();
    let cells = [
        ("10.96.0.1", Protocol::Tcp, "-t 10.96.0.1:80", "10.244.1.2:8080"),
        ("10.96.0.1", Protocol::Udp, "-u 10.96.0.1:80", "10.244.1.2:8080"),
        ("10.96.0.1", Protocol::Sctp, "--sctp-service 10.96.0.1:80", "10.244.1.2:8080"),
        ("fd00:10:96::1", Protocol::Tcp, "-t [fd00:10:96::1]:80", "[fd00:244:1::2]:8080"),
    ];
    for (number, (address, protocol, text, destination)) in cells.into_iter().enumerate() {
        let scheduler = Scheduler::ALL[number];
        let persistence_seconds = (number % 2 == 1).then_some(10_800);
        let place = place(address, protocol);
        places.push(place);
        // The second time it is there.
        for _ in 0..2 {
            apply(Command::AddServer { place, scheduler, persistence_seconds });
            apply(Command::AddDestination { place, destination: destination.parse().unwrap(), weight: 1 });
        }
        let persistence = persistence_seconds.map(|s| format!(" -p {s}")).unwrap_or_default();
        expected.push(format!("-A {text} -s {scheduler}{persistence}"));
        expected.push(format!("-a {text} -r {destination} -m -w 1"));
        let found = &ipvs.all().unwrap()[&place];
        assert_eq!((found.server.scheduler, found.server.persistence_seconds), (Some(scheduler), persistence_seconds));
        let there = found.destinations[&destination.parse::<SocketAddr>().unwrap()];
        assert_eq!((there.weight, there.translated, there.connections), (1, true, Connections::default()));
    }
    expected.sort();
    let sorted = || {
        let mut lines = seen();
        lines.sort();
        lines
    };
    assert_eq!(sorted(), expected);
    every_scheduler(&ipvs, places[0]);
    // Weight 0 takes no new connections; what is removed twice is no error.
    let (at, destination) = (places[0], "10.244.1.2:8080".parse().unwrap());
    apply(Command::SetWeight { place: at, destination, weight: 0 });
    assert!(seen().contains(&"-a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 0".to_owned()), "{:?}", seen());
    for _ in 0..2 {
        apply(Command::RemoveDestination { place: at, destination });
    }
    assert_eq!(ipvs.destinations(&at).unwrap().unwrap().len(), 0);
    // What others have is read too, and what they have that is not offered here.
    run("ipvsadm -A -t 192.0.2.1:81 -s dh").unwrap();
    run("ipvsadm -a -t 192.0.2.1:81 -r 192.0.2.2:81 -g").unwrap();
    run("ipvsadm -A -f 7 -s rr").unwrap();
    let all = ipvs.all().unwrap();
    assert_eq!(all.len(), places.len() + 1);
    let foreign = &all[&Place { port: 81, ..place("192.0.2.1", Protocol::Tcp) }];
    assert_eq!(foreign.server.scheduler, None);
    assert!(foreign.destinations.values().all(|d| !d.translated));
    for place in places {
        for _ in 0..2 {
            apply(Command::RemoveServer { place });
        }
        assert_eq!(ipvs.destinations(&place).unwrap(), None);
    }
    // A destination of a server that is not there.
    let lost = ipvs.apply(&Command::AddDestination { place: at, destination, weight: 1 }).unwrap_err();
    assert_eq!(lost.refusal(), Some(nix::libc::ESRCH), "{lost}");
    run("ipvsadm -C").unwrap();
}

fn every_scheduler(ipvs: &Ipvs, place: Place) {
    for scheduler in Scheduler::ALL {
        ipvs.apply(&Command::SetServer { place, scheduler, persistence_seconds: None }).unwrap();
        assert!(seen().contains(&format!("-A -t 10.96.0.1:80 -s {scheduler}")), "{scheduler}: {:?}", seen());
    }
    // Its destination has stayed.
    assert_eq!(ipvs.destinations(&place).unwrap().unwrap().len(), 1);
}

/// Each is there, can be set in a namespace, and is read back.
fn settings() {
    for wanted in WANTED {
        let before = wanted.setting.get().unwrap_or_else(|| panic!("there is no {}", wanted.setting.path));
        assert!(wanted.setting.mark(&before).is_some(), "{}: {before}", wanted.setting.path);
        wanted.setting.set(wanted.value).unwrap();
        let seen = run(&format!("sysctl -n {}", wanted.setting.path.replace('/', "."))).unwrap();
        assert_eq!((seen.trim(), wanted.setting.get().as_deref()), (wanted.value, Some(wanted.value)));
        wanted.setting.set(&before).unwrap();
    }
}

fn interface() {
    let links = Links::open().unwrap();
    let before = (run("ip -o link").unwrap(), run("ip -o address").unwrap(), run("ip route show table all").unwrap());
    assert_eq!(links.find(link::NAME).unwrap(), None);
    let link = links.ensure(link::NAME).unwrap();
    assert_eq!(links.ensure(link::NAME).unwrap(), link);
    let shown = run("ip -o -d link show dev portolan-ipvs").unwrap();
    assert!(shown.contains("NOARP,UP") && shown.contains("dummy"), "{shown}");
    run("ip link set portolan-ipvs down").unwrap();
    assert!(!links.find(link::NAME).unwrap().unwrap().up);
    assert_eq!(links.ensure(link::NAME).unwrap(), link);
    let addresses: Vec<IpAddr> = ["10.96.0.1", "203.0.113.7", "fd00:10:96::1"].map(|a| a.parse().unwrap()).to_vec();
    for address in &addresses {
        assert!(links.add(link, *address).unwrap());
        assert!(!links.add(link, *address).unwrap());
        // At once the machine's own.
        let route = run(&format!("ip route get {address}")).unwrap();
        assert!(route.starts_with("local"), "{route}");
    }
    let ours = || -> BTreeSet<IpAddr> {
        links.addresses().unwrap().into_iter().filter(|(index, _)| *index == link.index).map(|(_, a)| a).collect()
    };
    assert_eq!(ours(), addresses.iter().copied().collect());
    let shown = run("ip -o address show dev portolan-ipvs").unwrap();
    for part in ["inet 10.96.0.1/32 scope host", "inet 203.0.113.7/32 scope host", "inet6 fd00:10:96::1/128"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(shown.lines().any(|l| l.contains("fd00:10:96::1/128") && l.contains("deprecated")), "{shown}");
    assert!(links.addresses().unwrap().iter().any(|(_, address)| address.is_loopback()));
    assert!(links.take(link, addresses[0]).unwrap());
    assert!(!links.take(link, addresses[0]).unwrap());
    assert_eq!(ours(), addresses[1..].iter().copied().collect());
    assert!(links.remove(link::NAME).unwrap());
    assert!(!links.remove(link::NAME).unwrap());
    let after = (run("ip -o link").unwrap(), run("ip -o address").unwrap(), run("ip route show table all").unwrap());
    assert_eq!(after, before);
}
