//! What a pod's `/etc/resolv.conf` and `/etc/hosts` say. Pure: the machine's own files come in as text.
//!
//! Rules and bounds are those of Kubernetes' kubelet (`pkg/kubelet/network/dns`, `pkg/kubelet/kubelet_pods.go`). What exceeds
//! a bound is left out, as there.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::manifest::Manifest;

/// The zone that the cluster's names are in.
const ZONE: &str = "cluster.local";
/// What a name may have fewer dots than and be tried with the search path first.
const NDOTS: &str = "ndots:5";

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Characters of the search path with its spaces.
const MAX_SEARCH_CHARS: usize = 2048;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The `resolv.conf` of a pod; `dns` are the addresses of the cluster's DNS, `host` is the machine's own file.
///
/// On the node's network, and where the cluster has no DNS, `ClusterFirst` means the machine's own.
pub fn resolv_conf(pod: &Manifest, dns: &[IpAddr], host: &str) -> String {
    let spec = &pod.spec;
    let of_cluster = || of_cluster(&[format!("{}.svc.{ZONE}", pod.metadata.namespace())], dns);
    let mut resolver = match spec.dns_policy.as_str() {
        "None" => Resolver::default(),
        "Default" => parse(host),
        _ if dns.is_empty() => parse(host),
        "ClusterFirstWithHostNet" => of_cluster(),
        _ if spec.host_network => parse(host),
        _ => of_cluster(),
    };
    if let Some(config) = &spec.dns_config {
        merge(&mut resolver.nameservers, &config.nameservers);
        merge(&mut resolver.searches, &config.searches);
        for option in &config.options {
            // The pod's own outweighs one of the same name.
            resolver.options.retain(|known| known.split(':').next() != Some(&option.name));
            let value = option.value.as_deref().filter(|value| !value.is_empty());
            resolver.options.push(value.map_or(option.name.clone(), |value| format!("{}:{value}", option.name)));
        }
    }
    resolver.render()
}

/// The `resolv.conf` of a node as `lab exec` shows it: a machine has no namespace of its own.
pub fn node_resolv_conf(dns: &[IpAddr]) -> String {
    of_cluster(&[], dns).render()
}

fn of_cluster(own: &[String], dns: &[IpAddr]) -> Resolver {
    let searches = own.iter().cloned().chain([format!("svc.{ZONE}"), ZONE.to_owned()]);
    Resolver {
        nameservers: dns.iter().map(IpAddr::to_string).collect(),
        searches: searches.collect(),
        options: vec![NDOTS.to_owned()],
    }
}

/// The later `search` counts, as for the C library.
fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect::<Vec<_>>();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => resolver.searches = rest(words),
            Some("options") => resolver.options.extend(rest(words)),
            _ => {}
        }
    }
    resolver
}

fn merge(list: &mut Vec<String>, more: &[String]) {
    for entry in more {
        if !list.contains(entry) {
            list.push(entry.clone());
        }
    }
}

impl Resolver {
    fn render(&self) -> String {
        let mut text = String::new();
        for nameserver in self.nameservers.iter().take(MAX_NAMESERVERS) {
            let _ = writeln!(text, "nameserver {nameserver}");
        }
        let mut searches = String::new();
        for search in self.searches.iter().take(MAX_SEARCHES) {
            if searches.len() + 1 + search.len() > MAX_SEARCH_CHARS {
                break;
            }
            if !searches.is_empty() {
                searches.push(' ');
            }
            searches.push_str(search);
        }
        if !searches.is_empty() {
            let _ = writeln!(text, "search {searches}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// The `hosts` of a pod: its own names at its addresses, and what `spec.hostAliases` says. On the node's network it is the
/// machine's own with the aliases.
pub fn hosts(pod: &Manifest, addresses: &[IpAddr], host: &str) -> String {
    let spec = &pod.spec;
    let mut text = String::new();
    if spec.host_network {
        text.push_str(host);
        if !host.is_empty() && !host.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str(
            "# Written by the lab for this pod.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             fe00::\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let hostname = pod.hostname();
        for address in addresses {
            if spec.subdomain.is_empty() {
                let _ = writeln!(text, "{address}\t{hostname}");
            } else {
                let domain = format!("{}.{}.svc.{ZONE}", spec.subdomain, pod.metadata.namespace());
                let _ = writeln!(text, "{address}\t{hostname}.{domain}\t{hostname}");
            }
        }
    }
    if !spec.host_aliases.is_empty() {
        text.push_str("\n# spec.hostAliases\n");
        for alias in &spec.host_aliases {
            let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str = "# of the machine\nnameserver 192.0.2.53\nsearch corp.example\noptions edns0\n";

    fn pod(spec: Value) -> Manifest {
        serde_json::from_value(json!({ "metadata": { "name": "web-0", "namespace": "shop" }, "spec": spec })).unwrap()
    }

    fn of(spec: Value) -> String {
        resolv_conf(&pod(spec), &["10.96.0.10".parse().unwrap(), "fd00:10:96::a".parse().unwrap()], HOST)
    }

    const CLUSTER: &str = "nameserver 10.96.0.10\nnameserver fd00:10:96::a\n\
        search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";

    #[test]
    fn the_policy_says_whose_resolver_it_is() {
        let host = "nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n";
        for (spec, wanted) in [
            (json!({}), CLUSTER),
            (json!({ "dnsPolicy": "ClusterFirst" }), CLUSTER),
            (json!({ "dnsPolicy": "ClusterFirst", "hostNetwork": true }), host),
            (json!({ "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true }), CLUSTER),
            (json!({ "dnsPolicy": "Default" }), host),
            (json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["192.0.2.1"] } }), "nameserver 192.0.2.1\n"),
        ] {
            assert_eq!(of(spec.clone()), wanted, "{spec}");
        }
        assert_eq!(resolv_conf(&pod(json!({})), &[], HOST), host, "a cluster without DNS");
        let node = node_resolv_conf(&["10.96.0.10".parse().unwrap()]);
        assert_eq!(node, "nameserver 10.96.0.10\nsearch svc.cluster.local cluster.local\noptions ndots:5\n");
    }

    #[test]
    fn a_pods_own_configuration_is_merged_within_bounds() {
        let config = json!({ "nameservers": ["10.96.0.10", "192.0.2.1", "192.0.2.2"], "searches": ["cluster.local", "a.example"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] });
        assert_eq!(
            of(json!({ "dnsConfig": config })),
            "nameserver 10.96.0.10\nnameserver fd00:10:96::a\nnameserver 192.0.2.1\n\
             search shop.svc.cluster.local svc.cluster.local cluster.local a.example\noptions ndots:2 edns0\n"
        );
        let many: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let text = of(json!({ "dnsPolicy": "None", "dnsConfig": { "searches": many } }));
        assert_eq!(text.split_whitespace().count(), 1 + 32, "{text}");
        let long: Vec<String> = (0..20).map(|n| format!("{n}.{}", "x".repeat(200))).collect();
        let text = of(json!({ "dnsPolicy": "None", "dnsConfig": { "searches": long } }));
        assert!(text.len() <= 2048 + "search \n".len(), "{}", text.len());
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let addresses: Vec<IpAddr> = vec!["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()];
        let aliases = json!([{ "ip": "192.0.2.7", "hostnames": ["db", "db.example"] }]);
        let text = hosts(&pod(json!({ "hostAliases": aliases })), &addresses, "");
        let tail = "10.244.1.2\tweb-0\nfd00:244:1::2\tweb-0\n\n# spec.hostAliases\n192.0.2.7\tdb\tdb.example\n";
        assert!(text.contains("127.0.0.1\tlocalhost\n") && text.ends_with(tail), "{text}");
        let text = hosts(&pod(json!({ "hostname": "one", "subdomain": "db" })), &addresses, "");
        assert!(text.contains("10.244.1.2\tone.db.shop.svc.cluster.local\tone\n"), "{text}");
        let text = hosts(&pod(json!({ "hostNetwork": true })), &addresses, "127.0.0.1 localhost");
        assert_eq!(text, "127.0.0.1 localhost\n");
    }
}
