//! The slices of the API's and the DNS Service.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn dns_service(fields: Value) -> Service {
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"}]);
    let mut all = json!({"selector": {}, "ports": ports, "ipFamilies": ["IPv4", "IPv6"]});
    for (key, value) in fields.as_object().unwrap() {
        all[key] = value.clone();
    }
    service(all)
}

fn dns_node(name: &str, port: Option<&str>, addresses: &[&str], ready: Option<bool>) -> Node {
    let addresses: Vec<Value> =
        addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    let conditions: Vec<Value> =
        ready.iter().map(|ready| json!({"type": "Ready", "status": if *ready { "True" } else { "Unknown" }})).collect();
    let annotations = port.map_or(json!({}), |port| json!({ DNS_PORT: port }));
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": annotations, "labels": { ZONE: "a" }},
        "status": {"addresses": addresses, "conditions": conditions},
    }))
    .unwrap()
}

fn derive(slices: &mut Slices, service: &Service, nodes: &[Node]) -> Vec<SliceChange> {
    let existing: Vec<EndpointSlice> = slices.by_name.values().cloned().collect();
    let existing: Vec<&EndpointSlice> = existing.iter().collect();
    let mut names = slices.names;
    let of_dns = nodes.iter().filter_map(DnsNode::of).collect();
    let changes = dns_slices(service, of_dns, &existing, &mut || {
        names += 1;
        format!("{names:05}")
    });
    slices.names = names;
    keep(slices, &changes);
    changes
}

fn keep(slices: &mut Slices, changes: &[SliceChange]) {
    for change in changes {
        match change {
            SliceChange::Create(slice) | SliceChange::Update(slice) => {
                slices.by_name.insert(change.name().to_owned(), slice.clone());
            }
            SliceChange::Delete { name } => _ = slices.by_name.remove(name),
        }
    }
}

/// Every endpoint with its ports, in words.
fn facts(slices: &Slices) -> BTreeSet<String> {
    let of = |slice: &EndpointSlice| {
        let ports: Vec<String> = slice
            .ports
            .iter()
            .map(|p| format!("{}:{}/{}", p.name.as_deref().unwrap(), p.port.unwrap(), p.protocol.as_deref().unwrap()))
            .collect();
        let ports = ports.join(",");
        let endpoint = |e: &Endpoint| {
            format!(
                "{} {} {} {:?} {ports}",
                slice.address_type,
                e.addresses[0],
                e.node_name.as_deref().unwrap(),
                e.conditions.ready
            )
        };
        slice.endpoints.iter().map(endpoint).collect::<Vec<_>>()
    };
    slices.by_name.values().flat_map(of).collect()
}

#[test]
fn a_node_that_answers_dns_is_an_endpoint_in_each_family() {
    let mut slices = Slices::default();
    let service = dns_service(json!({}));
    let nodes = [
        dns_node("a", Some("10053"), &["192.0.2.1", "192.0.2.9", "2001:db8::1"], None),
        dns_node("b", Some("10053"), &["192.0.2.2"], Some(false)),
        dns_node("c", None, &["192.0.2.3"], Some(true)),
        dns_node("d", Some("0"), &["192.0.2.4"], Some(true)),
        dns_node("e", Some("10053"), &["127.0.0.1", "fe80::1"], Some(true)),
    ];
    derive(&mut slices, &service, &nodes);
    let ports = "dns:10053/UDP,dns-tcp:10053/TCP";
    let wanted = [
        format!("IPv4 192.0.2.1 a Some(true) {ports}"),
        format!("IPv4 192.0.2.2 b Some(false) {ports}"),
        format!("IPv6 2001:db8::1 a Some(true) {ports}"),
    ];
    assert_eq!(facts(&slices), wanted.into());
    for slice in slices.by_name.values() {
        assert_eq!(slice.metadata.labels.get(MANAGED_BY).unwrap(), OWN);
        assert_eq!(slice.metadata.owner_references[0].uid, "service-1");
        assert_eq!(slice.endpoints[0].zone.as_deref(), Some("a"));
    }
    assert_eq!(derive(&mut slices, &service, &nodes), [], "again");
    // With a selector its endpoints are Pods.
    derive(&mut slices, &dns_service(json!({"selector": {"app": "coredns"}})), &nodes);
    assert!(slices.by_name.is_empty(), "{slices:?}");
}

#[test]
fn a_port_is_digits() {
    for (text, port) in
        [("53", Some(53)), ("65535", Some(65535)), ("0", None), ("65536", None), ("+53", None), ("", None)]
    {
        assert_eq!(parse_dns_port(text), port, "{text}");
    }
}

proptest! {
    #[test]
    fn slices_of_dns_are_a_scan_of_the_nodes(
        rounds in prop::collection::vec(
            prop::collection::btree_map(0u8..6, (0usize..4, any::<bool>(), prop::option::of(any::<bool>())), 0..6), 1..6),
        dual in any::<bool>(),
    ) {
        let families = if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv6"]) };
        let service = dns_service(json!({"ipFamilies": families}));
        let mut slices = Slices::default();
        for round in rounds {
            let mut nodes = Vec::new();
            let mut wanted = BTreeSet::new();
            for (number, (port, second, ready)) in round {
                let port = [None, Some("10053"), Some("53"), Some("no")][port];
                let (v4, v6) = (format!("192.0.2.{number}"), format!("2001:db8::1{number}"));
                let addresses = if second { vec![v4.as_str(), v6.as_str()] } else { vec![v4.as_str()] };
                nodes.push(dns_node(&format!("n{number}"), port, &addresses, ready));
                let Some(port) = port.filter(|port| *port != "no") else { continue };
                for (address, family) in addresses.iter().zip(["IPv4", "IPv6"]) {
                    if dual || family == "IPv6" {
                        let ports = format!("dns:{port}/UDP,dns-tcp:{port}/TCP");
                        let ready = ready.unwrap_or(true);
                        wanted.insert(format!("{family} {address} n{number} {:?} {ports}", Some(ready)));
                    }
                }
            }
            derive(&mut slices, &service, &nodes);
            prop_assert_eq!(facts(&slices), wanted);
            prop_assert_eq!(derive(&mut slices, &service, &nodes), vec![]);
        }
    }
}

#[test]
fn no_slice_holds_more_than_a_hundred_nodes() {
    let nodes: Vec<Node> = (0..250)
        .map(|n| dns_node(&format!("n{n:03}"), Some("10053"), &[&format!("192.0.{}.{}", 2 + n / 200, n % 200)], None))
        .collect();
    let mut slices = Slices::default();
    derive(&mut slices, &dns_service(json!({})), &nodes);
    let sizes: Vec<usize> = slices.by_name.values().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let changes = derive(&mut slices, &dns_service(json!({})), &nodes[1..]);
    assert_eq!(changes.len(), 1, "one node's change is one write");
}

#[test]
fn the_api_is_where_it_is_advertised() {
    let mut service = service(json!({"selector": {}, "ipFamilies": ["IPv4", "IPv6"]}));
    service.metadata.name = Some("kubernetes".to_owned());
    let api = ["192.0.2.1:6443", "[2001:db8::1]:6443"].map(|text| text.parse::<SocketAddr>().unwrap());
    let mut slices = Slices::default();
    let mut settle = |service: &Service, api: &[SocketAddr]| {
        let existing: Vec<EndpointSlice> = slices.by_name.values().cloned().collect();
        let changes = advertised_slices(service, api, &existing.iter().collect::<Vec<_>>());
        keep(&mut slices, &changes);
        let shown = slices.by_name.values();
        shown
            .map(|s| format!("{} {} {}", s.metadata.name(), s.endpoints[0].addresses[0], s.ports[0].port.unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(settle(&service, &api), ["kubernetes 192.0.2.1 6443", "kubernetes-ipv6 2001:db8::1 6443"]);
    let moved = ["192.0.2.1:443".parse::<SocketAddr>().unwrap()];
    assert_eq!(settle(&service, &moved), ["kubernetes 192.0.2.1 443"]);
    assert_eq!(advertised_endpoints(&service, &moved).unwrap()["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    assert_eq!(settle(&service, &[]), [""; 0]);
    assert_eq!(advertised_endpoints(&service, &[]), None);
    settle(&service, &api);
    service.spec.selector.insert("app".to_owned(), "other".to_owned());
    assert_eq!(settle(&service, &api), [""; 0]);
}
