//! What the kernel's own elements say about packets is what the oracle says.

use dataplane::Dirty;
use dataplane::nftables::inspect::Inspector;
use dataplane::nftables::walk::Way;
use dataplane::nftables::{Owner, Ownership, Table};
use dataplane::{Origin, Packet, Plan, Verdict, compile, route};
use model::types::Protocol;

use crate::flow_table;
use crate::lab::{Lab, Namespace, tcp, with_rights};
use crate::plans::{Node, Web, plan};

fn packet(origin: Origin, client: &str, destination: &str, port: u16) -> Packet {
    let (client, destination) = (client.parse().unwrap(), destination.parse().unwrap());
    // The last is the kernel's to know.
    Packet { client, origin, destination, protocol: Protocol::Tcp, port, here: false }
}

/// Where the way differs from what the oracle says.
fn difference(plan: &Plan, packet: &Packet, way: &Way) -> Option<String> {
    let mut expected = route(plan, packet);
    let mut shares = Vec::new();
    if let Verdict::Endpoints { candidates, .. } = &mut expected {
        candidates.sort_unstable();
        shares = candidates.iter().map(|c| f64::from(c.share)).collect();
        candidates.iter_mut().for_each(|c| c.share = 1);
    }
    let total: f64 = shares.iter().sum();
    let close = |(share, p): (&f64, &f64)| (share / total - p).abs() < 0.002;
    let same = way.verdict == expected && shares.iter().zip(&way.probabilities).all(close);
    (!same).then(|| format!("{packet:?}: {way:?}, expected {expected:?}"))
}

/// The packet-flow table once more, by what the kernel has.
#[test]
fn every_cell() {
    with_rights("inspect::every_cell", || {
        let lab = Lab::new();
        lab.node.run(|| {
            let plan = compile(&flow_table::snapshot(), &flow_table::local());
            let mut table = Table::open().unwrap();
            table.program(&plan, &Dirty::All).unwrap();
            let inspector = Inspector::open().unwrap();
            assert_eq!(inspector.difference().unwrap(), None);
            let packets: Vec<_> = flow_table::all().iter().map(|cell| cell.packet()).collect();
            let blind: Vec<_> = packets.iter().map(|p| Packet { here: false, ..*p }).collect();
            let ways = inspector.ways(&blind);
            let differences: Vec<_> =
                packets.iter().zip(ways).filter_map(|(packet, way)| difference(&plan, packet, &way.unwrap())).collect();
            assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), packets.len(), differences.join("\n"));
        });
    });
}

#[test]
fn large_pools_and_clients_that_were_here() {
    with_rights("inspect::large_pools_and_clients_that_were_here", || {
        let lab = Lab::new();
        let mut node = Node::new(&lab.node);
        let many: Vec<_> = (1..=200).map(|host| (3, host)).collect();
        let sticky = Web { affinity_seconds: Some(60), ..Web::new(2, &[(1, 2), (1, 3), (2, 2)]) };
        let services = [Web::new(1, &many), sticky];
        node.program(&services);
        let seen = tcp(&lab.outside, "10.96.0.2:80").unwrap();
        lab.node.run(move || {
            let plan = plan(1, &services);
            let inspector = Inspector::open().unwrap();
            let outside = |destination| packet(Origin::Outside, "172.31.255.100", destination, 80);
            let walk = |packet: &Packet| inspector.ways([packet]).next().unwrap().unwrap();
            let (large, known) = (walk(&outside("10.96.0.1")), walk(&outside("10.96.0.2")));
            assert_eq!(difference(&plan, &outside("10.96.0.1"), &large), None);
            assert_eq!(large.chains[..4], ["prerouting", "outside", "balance", "pick-256"].map(str::to_owned));
            assert!(!large.remembered);

            // The client was at one of three, and gets that one again.
            let Verdict::Endpoints { candidates, affinity_seconds } = &known.verdict else { panic!("{known:?}") };
            assert_eq!((candidates.len(), *affinity_seconds, known.remembered), (1, Some(60), true), "{known:?}");
            let host = candidates[0].endpoint.ip().to_string();
            assert!(host.ends_with(seen.pod.split_once('-').unwrap().1), "{host} is not {}", seen.pod);
            let stranger = packet(Origin::Outside, "172.31.255.101", "10.96.0.2", 80);
            let way = walk(&stranger);
            assert_eq!(difference(&plan, &stranger, &way), None);
        });
    });
}

#[test]
fn what_others_do_shows() {
    with_rights("inspect::what_others_do_shows", || {
        let namespace = Namespace::new();
        namespace.run(|| {
            let plan = plan(1, &[Web::new(1, &[(1, 2), (2, 2)])]);
            let mut table = Table::open_with(Owner::Agent, Ownership::Open).unwrap();
            table.program(&plan, &Dirty::All).unwrap();
            let inspector = Inspector::open().unwrap();
            let ask = packet(Origin::Outside, "172.31.255.100", "10.96.0.1", 80);
            let walk = || inspector.ways([&ask]).next().unwrap().unwrap();
            assert_eq!(difference(&plan, &ask, &walk()), None);
            let nft = |line: &str| {
                assert!(std::process::Command::new("nft").args(line.split(' ')).status().unwrap().success());
            };
            nft("flush map ip portolan draws");
            assert_eq!(walk().verdict, Verdict::Drop, "the frontend leads to nobody");
            nft("flush map ip portolan services");
            assert_eq!(walk().verdict, Verdict::Reject, "the address has no such port");
            assert_eq!(inspector.difference().unwrap(), None);
            nft("delete table ip portolan");
            assert_eq!(walk().verdict, Verdict::NotOurs);
            assert!(inspector.difference().unwrap().is_some_and(|what| what.starts_with("ip: ")));
        });
    });
}
