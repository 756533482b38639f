//! The emulated machine itself.

use std::process::Command;

use crate::machine::{inside, with_ipvs};

/// The machine itself: it comes up, loads what it is asked for, and foreign eyes see what it has.
#[test]
fn has_ipvs() {
    with_ipvs("emulated::has_ipvs", || {
        let run = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        for scheduler in ["rr", "wrr", "lc", "wlc", "sh", "mh"] {
            run(&format!("ipvsadm -A -t 192.0.2.1:80 -s {scheduler}"));
            assert_eq!(run("ipvsadm -S -n"), format!("-A -t 192.0.2.1:80 -s {scheduler}\n"));
            run("ipvsadm -C");
        }
        run("ip link add portolan-test type dummy");
        run("ipset create test hash:ip,port");
        for variant in ["legacy", "nft"] {
            run(&format!(
                "iptables-{variant} -A OUTPUT -p tcp -m set --match-set test dst,dst -m recent --set -j REJECT"
            ));
        }
        assert!(inside());
    });
}
