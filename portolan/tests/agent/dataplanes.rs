//! What an agent says of its dataplane, and that nothing of any is left when all is cleaned up.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::support::{PORTOLAN, Server, get, service};
use super::{Agent, METRICS, alone, command, create, eventually, machine, metric};

/// The settings of the network that agents may change.
const SETTINGS: [&str; 5] = ["ipv4/conf", "ipv6/conf", "ipv4/vs", "ipv4/neigh", "netfilter"];

/// What there is of this network namespace that an agent might leave something in.
fn state() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in [
        "ipset save",
        "ip -o link",
        "ip -o address",
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
    ] {
        all.insert(line.to_owned(), command(&line.split(' ').collect::<Vec<_>>()));
    }
    all.insert("nft".to_owned(), ruleset(&command(&["nft", "-s", "list", "ruleset"])));
    for program in ["iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"] {
        all.insert(program.to_owned(), rules(&command(&[program])));
    }
    if Path::new("/proc/net/ip_vs").exists() {
        all.insert("ipvsadm".to_owned(), command(&["ipvsadm", "-Sn"]));
    }
    for folder in SETTINGS {
        let folder = Path::new("/proc/sys/net").join(folder);
        if folder.exists() {
            all.insert(folder.display().to_string(), settings(&folder));
        }
    }
    all
}

/// The chains of a rule set, without those that let everything pass: in a table that others have as well, iptables over nf_tables
/// leaves such chains behind.
fn ruleset(listed: &str) -> String {
    let passes = |chain: &str| {
        let mut lines = chain.lines().skip(1).filter(|line| !line.trim().is_empty() && line.trim() != "}");
        lines.next().is_some_and(|line| line.ends_with("policy accept;")) && lines.next().is_none()
    };
    let mut text = String::new();
    for chain in listed.split_inclusive("\n\t}\n").filter(|chain| chain.contains("\tchain ")) {
        let at = chain.find("\tchain ").unwrap();
        if !passes(&chain[at..]) {
            text += chain[at..].trim_end();
        }
    }
    // Where nothing is left, not even a table is.
    let tables = listed.lines().filter(|line| line.starts_with("table "));
    format!("{}\n{text}", tables.collect::<Vec<_>>().join("\n"))
}

/// Tables without rules are no different from tables that nobody has asked for, and nor are counters.
fn rules(saved: &str) -> String {
    let mut table = "";
    let mut lines = Vec::new();
    for line in saved.lines() {
        let chain = line.strip_prefix(':').and_then(|chain| chain.split_once(" ["));
        match (line.strip_prefix('*'), chain) {
            (Some(name), _) => table = name,
            (None, Some((chain, _))) if !chain.ends_with(" ACCEPT") => lines.push(format!("{table} {chain}")),
            (None, None) if line.starts_with('-') => lines.push(format!("{table} {line}")),
            _ => {}
        }
    }
    lines.join("\n")
}

fn settings(folder: &Path) -> String {
    let mut text = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        // What counts or is drawn by itself is no setting.
        let own = ["nf_conntrack_count", "stable_secret"];
        if path.is_dir() {
            text += &settings(&path);
        } else if !own.iter().any(|name| path.ends_with(name))
            && let Ok(value) = std::fs::read_to_string(&path)
        {
            text += &format!("{} {}\n", path.display(), value.trim());
        }
    }
    text
}

#[track_caller]
fn unchanged(before: &BTreeMap<String, String>, what: &str) {
    let after = state();
    let differences = before.iter().filter(|(name, text)| after.get(*name) != Some(*text));
    let differences: Vec<String> =
        differences.map(|(name, text)| format!("{name}\nbefore:\n{text}\nafter:\n{}", after[name])).collect();
    assert!(differences.is_empty(), "{what} left something:\n{}", differences.join("\n"));
}

/// Services of every kind that leaves something of its own in a kernel.
fn services(server: &Server) {
    let endpoint = |name: &str, address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address]}, {"addresses": ["10.244.2.3"]}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        })
    };
    let ports = json!([{"name": "http", "port": 80}]);
    for (name, more) in [
        ("plain", json!({})),
        ("sticky", json!({"sessionAffinity": "ClientIP"})),
        ("node-port", json!({"type": "NodePort", "externalIPs": ["203.0.113.7"]})),
        ("local", json!({"type": "NodePort", "externalTrafficPolicy": "Local"})),
        (
            "balanced",
            json!({
                "type": "LoadBalancer", "loadBalancerClass": "example.com/by-hand",
                "loadBalancerSourceRanges": ["192.0.2.0/24"],
            }),
        ),
    ] {
        let mut spec = json!({"ports": ports});
        more.as_object().unwrap().iter().for_each(|(key, value)| spec[key] = value.clone());
        create(server, &service(name, spec));
        let client = server.client();
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        super::runtime().block_on(client.post(slices, &endpoint(name, "10.244.1.2"))).unwrap();
    }
    create(server, &service("nobody", json!({"ports": [{"port": 80}]})));
}

/// Rules, sets and links of others, which are none of ours.
fn of_others(variant: &str) {
    for line in [
        "ipset create somebody hash:ip",
        "ipset add somebody 192.0.2.7",
        "ip link add somebody type veth peer name others",
        "nft add table inet somebody",
        "nft add chain inet somebody input { type filter hook input priority 0 ; policy accept ; }",
    ] {
        command(&line.split(' ').collect::<Vec<_>>());
    }
    // Which say that this is the variant that the host uses.
    for family in ["iptables", "ip6tables"] {
        for line in ["-N SOMEBODY", "-A INPUT -j SOMEBODY", "-t nat -N SOMEBODY", "-t nat -A PREROUTING -j SOMEBODY"] {
            command(&[&[format!("{family}-{variant}").as_str()], &line.split(' ').collect::<Vec<_>>()[..]].concat());
        }
    }
}

/// An agent of each of these dataplanes, one after the other, and then nothing.
fn clean_after(test: &str, variant: &'static str, dataplanes: &'static [&'static str]) {
    alone(test, move |dir| {
        of_others(variant);
        let server = Server::start(dir);
        services(&server);
        let before = state();
        for dataplane in dataplanes {
            let agent = Agent::start(&server, &["--dataplane", dataplane, "--dns", "false"]);
            assert!(get(METRICS, "/proxyMode").ends_with(dataplane));
            assert_ne!(state(), before, "{dataplane} does nothing");
            drop(agent);
        }
        command(&[PORTOLAN, "agent", "--cleanup"]);
        unchanged(&before, &format!("{dataplanes:?}"));
        assert!(command(&[PORTOLAN, "agent", "--cleanup"]).starts_with("nothing of Portolan's was there"));
    });
}

#[test]
fn nothing_of_nftables_is_left() {
    clean_after("dataplanes::nothing_of_nftables_is_left", "nft", &["nftables"]);
}

#[test]
fn nothing_of_iptables_is_left_in_the_nft_variant() {
    clean_after("dataplanes::nothing_of_iptables_is_left_in_the_nft_variant", "nft", &["iptables"]);
}

#[test]
fn nothing_of_iptables_is_left_in_the_legacy_variant() {
    clean_after("dataplanes::nothing_of_iptables_is_left_in_the_legacy_variant", "legacy", &["iptables"]);
}

#[test]
fn nothing_is_left_of_several() {
    let dataplanes = &["iptables", "nftables", "iptables", "nftables"];
    clean_after("dataplanes::nothing_is_left_of_several", "nft", dataplanes);
}

#[test]
fn nothing_of_ipvs_is_left() {
    let test = "dataplanes::nothing_of_ipvs_is_left";
    machine::with_programs(test, &[PORTOLAN.into()], || {
        // Modules stay, and some bring what nobody has asked for: an interface dummy0, the settings of IPVS.
        for line in ["ip link add load type dummy", "ip link delete load", "ipvsadm -Ln"] {
            command(&line.split(' ').collect::<Vec<_>>());
        }
        clean_after(test, "nft", &["ipvs", "iptables", "ipvs"]);
    });
}

#[test]
fn what_an_agent_says_of_iptables() {
    alone("dataplanes::what_an_agent_says_of_iptables", |dir| {
        let server = Server::start(dir);
        services(&server);
        let agent = Agent::start(&server, &["--dataplane", "iptables"]);
        assert!(get(METRICS, "/configz").contains(r#""mode":"iptables""#));
        let text = get(METRICS, "/metrics");
        assert!(text.contains("portolan_agent_dataplane{dataplane=\"iptables\"} 1\n"), "{text}");
        assert!(!text.contains("nftables"), "{text}");
        for name in ["iptables_restore_failures_total", "iptables_partial_restore_failures_total"] {
            assert_eq!(metric(&format!("kubeproxy_sync_proxy_rules_{name}")), 0.0);
        }
        let rules = |table: &str| format!("kubeproxy_sync_proxy_rules_iptables_total{{table=\"{table}\"}}");
        assert!(metric(&rules("nat")) > 10.0 && metric(&rules("filter")) > 0.0);

        // What others take away comes back, at the next look.
        let variant = if command(&["iptables", "--version"]).contains("nf_tables") { "nft" } else { "legacy" };
        let nat = || command(&[&format!("iptables-{variant}-save"), "-t", "nat"]);
        let ours = |text: &str| text.matches("PORTOLAN-").count();
        let before = ours(&nat());
        command(&[&format!("iptables-{variant}"), "-t", "nat", "-F"]);
        assert!(ours(&nat()) < before);
        eventually("the repair", || ours(&nat()) == before);
        eventually("the count", || metric("portolan_agent_repairs_total{kind=\"table\"}") >= 1.0);
        drop(agent);
        let log = std::fs::read_to_string(dir.join("agent.log")).unwrap();
        assert!(log.contains("--dataplane iptables says so"), "{log}");
        command(&[PORTOLAN, "agent", "--cleanup"]);
    });
}

#[test]
fn an_agent_chooses_by_itself_and_says_why() {
    alone("dataplanes::an_agent_chooses_by_itself_and_says_why", |dir| {
        let server = Server::start(dir);
        drop(Agent::start(&server, &[]));
        let log = std::fs::read_to_string(dir.join("agent.log")).unwrap();
        assert!(log.contains("nftables can be used here, and is preferred"), "{log}");
        if !Path::new("/proc/net/ip_vs").exists() {
            let line = ["agent", "--dataplane", "ipvs", "--node-name", "node-1", "--kubeconfig", "/dev/null"];
            let refused = Command::new(PORTOLAN).args(line).output().unwrap();
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && text.contains("IPVS cannot be used"), "{text}");
        }
        command(&[PORTOLAN, "agent", "--cleanup"]);
    });
}
