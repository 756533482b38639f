//! A rule set of kube-proxy's shape: a chain for each Service and one for each endpoint, an element of a verdict map for each
//! Service, and in each Service's chain an anonymous verdict map to its endpoints' chains. Written by `nft -f`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::Size;
use crate::support::plans::{PORT, cluster_ip, endpoint};
use crate::support::spread;

const TABLE: &str = "ip chains";

/// Loads the rule set, then changes one endpoint of one Service so many times.
pub fn load((services, each): Size, changes: u32) -> Value {
    let begin = Instant::now();
    nft(&whole(services, each));
    let full = begin.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for round in 0..changes {
        let service = round.wrapping_mul(7919) % services;
        // As kube-proxy does: the Service's chain is written anew, without the endpoint or with it again.
        let first = u32::from(round / services % 2 == 0);
        let mut text = format!("flush chain {TABLE} service-{service}\n");
        add_service_rules(&mut text, service, each, first);
        let begin = Instant::now();
        nft(&text);
        times.push(begin.elapsed().as_secs_f64());
    }
    json!({"services": services, "endpointsEach": each, "fullLoadSeconds": full,
        "oneChangeSeconds": spread(&times)})
}

fn whole(services: u32, each: u32) -> String {
    let mut text = format!(
        "add table {TABLE}\nadd map {TABLE} service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         add chain {TABLE} mark-for-masquerade\nadd rule {TABLE} mark-for-masquerade mark set mark or 0x4000\n\
         add chain {TABLE} prerouting {{ type nat hook prerouting priority -100; }}\n\
         add chain {TABLE} output {{ type nat hook output priority -100; }}\n\
         add chain {TABLE} postrouting {{ type nat hook postrouting priority 100; }}\n\
         add rule {TABLE} postrouting mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random\n"
    );
    for hook in ["prerouting", "output"] {
        let _ = writeln!(text, "add rule {TABLE} {hook} ip daddr . meta l4proto . th dport vmap @service-ips");
    }
    for service in 0..services {
        let _ = writeln!(text, "add chain {TABLE} service-{service}");
        for n in 0..each {
            let address = endpoint(service, each, n);
            let _ = writeln!(text, "add chain {TABLE} endpoint-{service}-{n}");
            let _ =
                writeln!(text, "add rule {TABLE} endpoint-{service}-{n} ip saddr {address} jump mark-for-masquerade");
            let _ = writeln!(text, "add rule {TABLE} endpoint-{service}-{n} meta l4proto tcp dnat to {address}:8080");
        }
        add_service_rules(&mut text, service, each, 0);
        let address = cluster_ip(service);
        let _ =
            writeln!(text, "add element {TABLE} service-ips {{ {address} . tcp . {PORT} : goto service-{service} }}");
    }
    text
}

fn add_service_rules(text: &mut String, service: u32, each: u32, first: u32) {
    let endpoints: Vec<_> = (first..each).map(|n| format!("{} : goto endpoint-{service}-{n}", n - first)).collect();
    let _ = writeln!(
        text,
        "add rule {TABLE} service-{service} numgen random mod {} vmap {{ {} }}",
        endpoints.len(),
        endpoints.join(", ")
    );
}

fn nft(text: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is needed");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
