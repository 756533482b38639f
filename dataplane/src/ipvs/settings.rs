//! Settings of the network that IPVS needs, each put back when the dataplane goes ([`crate::xtables::settings`] keeps what
//! they were).

use crate::xtables::settings::Setting;

/// A setting, and what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub setting: Setting,
    pub value: &'static str,
}

/// What IPVS needs, in the order in which it is set. Those under `net/ipv4/vs` are there as soon as the module is.
pub const WANTED: [Wanted; 6] = [
    // IPVS tells conntrack of its translations: what it leads elsewhere is then masqueraded and filtered like anything else.
    wanted("vs-conntrack", "net/ipv4/vs/conntrack", "1"),
    // A client whose source port comes round again is led anew: its former connection may have gone to an endpoint that takes
    // no new ones. (Before Linux 5.9 such a client waits for a second.)
    wanted("vs-reuse", "net/ipv4/vs/conn_reuse_mode", "1"),
    // A client that is kept with a destination looks for another one when that has weight 0.
    wanted("vs-quiescent", "net/ipv4/vs/expire_quiescent_template", "1"),
    // A packet of a connection whose destination was removed does not vanish: the kernel forgets the connection, so that
    // the next packet of a UDP flow goes elsewhere and one of TCP is refused.
    wanted("vs-nodest", "net/ipv4/vs/expire_nodest_conn", "1"),
    // Addresses on the dummy interface are not told to the neighbours of others: else a node would take every address of
    // a load balancer away from who holds it.
    wanted("arp-ignore", "net/ipv4/conf/all/arp_ignore", "1"),
    wanted("arp-announce", "net/ipv4/conf/all/arp_announce", "2"),
];

const fn wanted(name: &'static str, path: &'static str, value: &'static str) -> Wanted {
    Wanted { setting: Setting { name, path }, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_remembered() {
        for Wanted { setting, value } in WANTED {
            let mark = setting.mark(value).unwrap();
            assert!(mark.len() <= crate::xtables::name::LONGEST, "{mark}");
            assert_eq!(setting.before(&mark), Some(value));
        }
    }
}
