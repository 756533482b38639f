//! IPVS with packets, in a machine whose kernel has it.

use dataplane::ipvs::Tables;
use dataplane::{Dirty, Repairs, compile};

use crate::flow_table;
use crate::flows::every_cell_by;
use crate::lab::Namespace;
use crate::machine::with_ipvs;
use crate::spellings::Spelling;

#[test]
fn every_cell() {
    with_ipvs("ipvs::every_cell", || every_cell_by(|| Tables::open(Default::default()).unwrap()));
}

/// Where IPv6 is turned off, Services of both families are programmed by IPv4, and nothing is mended that cannot be.
#[test]
fn without_ipv6() {
    with_ipvs("ipvs::without_ipv6", || {
        let node = Namespace::new();
        for setting in ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"] {
            node.set(setting, "1");
        }
        node.ip("link add wire type dummy");
        node.add("wire", &["172.31.255.11/24"]);
        node.run(|| {
            let plan = compile(&flow_table::snapshot(), &flow_table::local());
            let mut tables = Tables::open(Default::default()).unwrap();
            assert_eq!(tables.must(&plan, &Dirty::All).refused, []);
            for _ in 0..2 {
                assert_eq!(tables.repair(&plan).unwrap().repairs, Repairs::default());
            }
        });
        let addresses = node.command("ip -o address show dev portolan-ipvs");
        assert!(addresses.contains("10.96.1.16/32") && !addresses.contains("inet6"), "{addresses}");
    });
}
