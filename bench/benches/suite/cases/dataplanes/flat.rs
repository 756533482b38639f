//! Rules of iptables as other proxies write them: one chain with a rule for each Service, one after the other. What a packet to
//! the last of them pays for that is what the tree of chains spares it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use dataplane::xtables::variant::Variant;

use crate::support::connections::SERVER;
use crate::support::plans::{PORT, cluster_ip};

/// Writes rules for so many Services, of which the last leads to the server.
pub fn write(variant: Variant, services: u32) {
    let mut text = "*nat\n:FLAT - [0:0]\n:FLAT-ELSEWHERE - [0:0]\n:FLAT-LAST - [0:0]\n:FLAT-LAST-1 - [0:0]\n\
        -A PREROUTING -j FLAT\n-A FLAT-LAST -j FLAT-LAST-1\n"
        .to_owned();
    let _ = writeln!(text, "-A FLAT-LAST-1 -p tcp -m tcp -j DNAT --to-destination {SERVER}:8080");
    for n in 0..services {
        let to = if n + 1 == services { "FLAT-LAST" } else { "FLAT-ELSEWHERE" };
        let address = cluster_ip(n);
        let comment = format!("-m comment --comment \"default/service-{n} cluster IP\"");
        let _ = writeln!(text, "-A FLAT -d {address}/32 -p tcp {comment} -m tcp --dport {PORT} -j {to}");
    }
    text.push_str("COMMIT\n");
    let program = format!("iptables-{}-restore", variant.word());
    let mut child = Command::new(program).arg("--noflush").stdin(Stdio::piped()).spawn().expect("iptables is needed");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
