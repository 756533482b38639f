//! Every row of the table has an example that changes what is wanted, and one that is refused; then the rules between rows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::table::ROWS;
use super::super::{BACKEND_TYPE, PREFIXES};
use super::*;
use crate::types::{CheckKind, ListenerProtocol, Scheduler, StickyKind};

/// Ports 80, 443 and 6000 by TCP, 53 by UDP.
fn service(annotations: &[(&str, &str)], spec: Value) -> Service {
    let annotations: TextMap =
        annotations.iter().map(|(suffix, value)| (format!("{}{suffix}", PREFIXES[0]), (*value).to_owned())).collect();
    let mut service = json!({
        "metadata": { "namespace": "n", "name": "web", "uid": "0123-4567", "annotations": annotations },
        "spec": { "type": "LoadBalancer", "ipFamilies": ["IPv4"], "externalTrafficPolicy": "Cluster", "ports": [
            { "name": "a", "port": 80, "nodePort": 30080 }, { "name": "b", "port": 443, "nodePort": 30443 },
            { "name": "c", "port": 6000, "nodePort": 30600 },
            { "name": "d", "port": 53, "nodePort": 30053, "protocol": "UDP" },
        ] },
    });
    json_patch::merge(&mut service["spec"], &spec);
    serde_json::from_value(service).unwrap()
}

fn want(annotations: &[(&str, &str)]) -> Wanted {
    wanted(&service(annotations, json!({}))).unwrap()
}

/// What is wrong, a line each, without the prefix.
fn problems(annotations: &[(&str, &str)], spec: Value) -> Vec<String> {
    let problems = wanted(&service(annotations, spec)).unwrap_err();
    problems.iter().map(|problem| problem.to_string().replace(PREFIXES[0], "")).collect()
}

fn listener(wanted: &Wanted, port: u16) -> &Listener {
    wanted.listeners.iter().find(|listener| listener.port == port).unwrap()
}

/// Suffix and value.
type Setting = (&'static str, &'static str);

const WEB: Setting = ("protocol-port", "http:80,https:443,tcpssl:6000");
const CERT: Setting = ("cert-id", "web");
const CHECKED: Setting = ("health-check-flag", "on");

/// (the row, a value, what it needs beside it, a value that is refused; empty: there is none)
#[rustfmt::skip]
const EXAMPLES: &[(&str, &str, &[Setting], &str)] = &[
    ("id", "shared", &[], ""),
    ("force-override-listeners", "true", &[("id", "shared")], "yes"),
    ("name", "front", &[], "00000000001111111111222222222233333333334444444444555555555566666666667777777777-"),
    ("address-type", "intranet", &[], "private"),
    ("ip", "192.0.2.7", &[], "192.0.2.300"),
    ("ip-version", "ipv6", &[("protocol-port", "http:80,https:443,tcpssl:6000"), ("proxy-protocol", "on"), CERT], "ipv5"),
    ("ipv6-address-type", "intranet", &[], "private"),
    ("vswitch-id", "office", &[], ""),
    ("master-zoneid", "edge-1", &[], ""),
    ("hostname", "web.example.com", &[], "192.0.2.1"),
    ("additional-resource-tags", "team=a,tier", &[], "a b=c"),
    ("preserve-lb-on-delete", "false", &[], ""),
    ("protocol-port", "http:80", &[], "ftp:80"),
    ("listener-port-range", "1000-2000:80", &[("backend-type", "eni")], "2000-1000:80"),
    ("scheduler", "wlc", &[], "wrrr"),
    ("persistence-timeout", "60", &[], "3601"),
    ("established-timeout", "10", &[], "9"),
    ("idle-timeout", "60", &[WEB, CERT], "61"),
    ("request-timeout", "180", &[WEB, CERT], "181"),
    ("connection-drain", "on", &[], "true"),
    ("connection-drain-timeout", "10", &[("connection-drain", "on")], "901"),
    ("proxy-protocol", "on", &[], "v2"),
    ("preserve-client-ip", "on", &[], "yes"),
    ("cps", "1000", &[], "1000001"),
    ("acl-status", "on", &[("acl-id", "office"), ("acl-type", "white")], "yes"),
    ("acl-id", "office,home", &[("acl-id", "office"), ("acl-status", "on"), ("acl-type", "white")], ""),
    ("acl-type", "black", &[("acl-id", "office"), ("acl-status", "on"), ("acl-type", "white")], "grey"),
    ("cert-id", "other/web", &[WEB, CERT], "a/b/c"),
    ("domain-extensions", "*.example.com:wild", &[WEB, CERT], "example.com"),
    ("additional-cert-ids", "b,c", &[WEB, CERT], "B_"),
    ("tls-cipher-policy", "tls_cipher_policy_1_2_strict", &[WEB, CERT], "tls_1_2"),
    ("http2-enabled", "off", &[WEB, CERT], "no"),
    ("cacert", "on", &[WEB, CERT, ("cacert-id", "ca")], "yes"),
    ("cacert-id", "other", &[WEB, CERT, ("cacert", "on"), ("cacert-id", "ca")], "a,b"),
    ("alpn", "on", &[WEB, CERT], "h2"),
    ("alpn-policy", "HTTP1Only", &[WEB, CERT, ("alpn", "on")], "h2"),
    ("forward-port", "80:443", &[WEB, CERT], "80"),
    ("sticky-session", "on", &[WEB, CERT, ("sticky-session-type", "insert")], "yes"),
    ("sticky-session-type", "server", &[WEB, CERT, ("sticky-session", "on"), ("sticky-session-type", "insert"), ("cookie", "s")], "rewrite"),
    ("cookie-timeout", "86400", &[WEB, CERT, ("sticky-session", "on"), ("sticky-session-type", "insert")], "86401"),
    ("cookie", "sid", &[WEB, CERT, ("sticky-session", "on"), ("sticky-session-type", "insert")], "a;b"),
    ("xforwardedfor-proto", "on", &[WEB, CERT], "yes"),
    ("xforwardedfor-slbport", "on", &[WEB, CERT], "yes"),
    ("xforwardedfor-clientsrcport", "on", &[WEB, CERT], "yes"),
    ("health-check-flag", "on", &[WEB, CERT], "yes"),
    ("health-check-switch", "off", &[], "no"),
    ("health-check-type", "http", &[], "https"),
    ("health-check-uri", "/ready", &[WEB, CERT, CHECKED], "ready"),
    ("health-check-method", "get", &[WEB, CERT, CHECKED], "post"),
    ("health-check-domain", "web.example.com", &[WEB, CERT, CHECKED], "a b"),
    ("health-check-httpcode", "http_2xx,http_3xx", &[WEB, CERT, CHECKED], "200"),
    ("health-check-connect-port", "8081", &[], "0"),
    ("health-check-interval", "50", &[], "51"),
    ("health-check-connect-timeout", "300", &[], "301"),
    ("health-check-timeout", "300", &[WEB, CERT, CHECKED], "0"),
    ("healthy-threshold", "2", &[], "1"),
    ("unhealthy-threshold", "10", &[], "11"),
    ("backend-type", "eni", &[], "pod"),
    ("backend-label", "disk=ssd", &[], "disk==ssd"),
    ("remove-unscheduled-backend", "on", &[], "true"),
    ("backend-ip-version", "", &[], "ipv6"),
    ("default-weight", "50", &[], "101"),
    ("vgroup-port", "blue:80", &[("id", "shared")], "80"),
    ("weight", "10", &[("id", "shared"), ("vgroup-port", "blue:80")], "-1"),
    ("ignore-weight-update", "on", &[], "yes"),
];

#[test]
fn every_row_that_works_changes_something() {
    let examples: Vec<&str> = EXAMPLES.iter().map(|(suffix, ..)| *suffix).collect();
    let rows: Vec<&str> = ROWS.iter().filter(|row| row.works).map(|row| row.suffix).collect();
    assert_eq!(examples, rows, "an example for each row, in their order");
    for (suffix, value, beside, _) in EXAMPLES {
        let without = want(beside);
        let mut with: Vec<(&str, &str)> = beside.iter().copied().filter(|(name, _)| name != suffix).collect();
        with.push((suffix, value));
        let with = want(&with);
        // The one that chooses among families has its effect where backends are found.
        assert_eq!(with != without, *suffix != "backend-ip-version", "{suffix}: {value}");
        assert_eq!(with.ignored, Vec::<String>::new(), "{suffix}");
    }
}

#[test]
fn every_wrong_value_is_told_by_the_key_where_it_stands() {
    for (suffix, _, beside, wrong) in EXAMPLES.iter().filter(|(_, _, _, wrong)| !wrong.is_empty()) {
        for prefix in PREFIXES {
            let beside: Vec<(&str, &str)> = beside.iter().copied().filter(|(name, _)| name != suffix).collect();
            let mut service = service(&beside, json!({}));
            service.metadata.annotations.insert(format!("{prefix}{suffix}"), (*wrong).to_owned());
            let problems = wanted(&service).unwrap_err();
            let told = problems.iter().any(|problem| problem.place == format!("{prefix}{suffix}"));
            assert!(told, "{prefix}{suffix}: {problems:?}");
        }
    }
}

#[test]
fn an_empty_value_is_the_default() {
    let defaults = want(&[]);
    for row in ROWS.iter().filter(|row| row.works) {
        assert_eq!(want(&[(row.suffix, " ")]), defaults, "{}", row.suffix);
    }
}

#[test]
fn what_has_no_effect_is_listed() {
    let listed: BTreeSet<String> =
        ROWS.iter().filter(|row| !row.works).map(|row| format!("{}{}", PREFIXES[1], row.suffix)).collect();
    let mut service = service(&[], json!({}));
    service.metadata.annotations.extend(listed.iter().map(|key| (key.clone(), "x".to_owned())));
    let misspelt = format!("{}schedular", PREFIXES[2]);
    service.metadata.annotations.insert(misspelt.clone(), "wrr".to_owned());
    service.metadata.annotations.insert("example.com/other".to_owned(), "x".to_owned());
    let found = wanted(&service).unwrap().ignored;
    let expected: Vec<String> = listed.into_iter().chain([misspelt]).collect();
    assert_eq!(found, expected);
}

#[test]
fn of_several_keys_ours_counts_then_the_newer() {
    let scheduler = |keys: &[(&str, &str)]| {
        let mut service = service(&[], json!({}));
        service.metadata.annotations.extend(keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        wanted(&service).unwrap().listeners[0].clone()
    };
    let [own, new, old] = PREFIXES.map(|prefix| format!("{prefix}scheduler"));
    assert_eq!(scheduler(&[(&old, "wlc")]).scheduler, Scheduler::Wlc);
    assert_eq!(scheduler(&[(&old, "wlc"), (&new, "wrr")]).scheduler, Scheduler::Wrr);
    assert_eq!(scheduler(&[(&old, "wlc"), (&new, "")]).scheduler, Scheduler::Rr, "a key that is there counts");
    assert_eq!(scheduler(&[(&old, "wlc"), (&new, "wrr"), (&own, "sch")]).scheduler, Scheduler::Sch);
    assert!(is_eni(&scheduler(&[(BACKEND_TYPE, "eni")]).backends[0]));
}

#[test]
fn whose_services_they_are() {
    let with = |spec: Value, annotation: &str| {
        let mut service = service(&[], spec);
        service.metadata.annotations.insert(CLASS_ANNOTATION.to_owned(), annotation.to_owned());
        handles(&service)
    };
    assert!(with(json!({}), ""));
    assert!(with(json!({ "loadBalancerClass": CLASS }), ""));
    assert!(with(json!({ "loadBalancerClass": NLB_CLASS }), ""));
    assert!(!with(json!({ "loadBalancerClass": "example.com/other" }), ""));
    assert!(!with(json!({ "type": "NodePort" }), ""));
    assert!(!with(json!({}), "alb"));
}

#[test]
fn defaults() {
    let wanted = want(&[WEB, CERT]);
    assert_eq!((wanted.display_name.as_str(), wanted.families.as_slice()), ("a01234567", &[Family::V4][..]));
    let (http, https, tls, udp) =
        (listener(&wanted, 80), listener(&wanted, 443), listener(&wanted, 6000), listener(&wanted, 53));
    assert_eq!((http.health_check.as_ref(), https.health_check.as_ref()), (None, None), "the flag is off");
    let check = tls.health_check.clone().unwrap();
    assert_eq!((check.kind, check.interval_seconds, check.timeout_seconds), (CheckKind::Tcp, 2, 5));
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold, check.path.as_str()), (3, 3, ""));
    assert_eq!(udp.health_check.as_ref().unwrap().kind, CheckKind::Udp);
    assert_eq!((http.drain_seconds, tls.drain_seconds), (Some(60), None));
    assert_eq!((tls.established_seconds, udp.established_seconds), (900, 0));
    assert!(!https.keep_client_address && !udp.keep_client_address);
    assert!(https.http.as_ref().unwrap().http2 && !http.http.as_ref().unwrap().http2);
    assert!(!wanted.short_cut() && want(&[]).short_cut());
}

#[test]
fn client_addresses_are_kept_where_backends_answer_themselves() {
    let keeps = |annotations: &[(&str, &str)], spec: Value| {
        listener(&wanted(&service(annotations, spec)).unwrap(), 80).keep_client_address
    };
    let local = || json!({ "externalTrafficPolicy": "Local" });
    assert!(keeps(&[], local()));
    assert!(keeps(&[("backend-type", "eni")], json!({})));
    assert!(!keeps(&[("preserve-client-ip", "off")], local()));
    assert!(!keeps(&[("proxy-protocol", "on")], local()), "a relay has an address of its own");
    assert!(!keeps(&[("protocol-port", "http:80")], local()));
}

#[test]
fn without_node_ports_backends_are_pods() {
    let spec = || json!({ "allocateLoadBalancerNodePorts": false, "ports": [{ "port": 80 }] });
    assert!(is_eni(&wanted(&service(&[], spec())).unwrap().listeners[0].backends[0]));
    assert_eq!(
        problems(&[("backend-type", "ecs")], spec()),
        ["backend-type: port 80 has no node port; use eni, or set spec.allocateLoadBalancerNodePorts to true"]
    );
    let mut partly = spec();
    partly["ports"][0]["nodePort"] = 30080.into();
    assert!(!is_eni(&wanted(&service(&[], partly)).unwrap().listeners[0].backends[0]));
}

#[test]
fn session_affinity_is_persistence_unless_it_is_said() {
    let affine = || json!({ "sessionAffinity": "ClientIP" });
    let read = |annotations: &[(&str, &str)]| wanted(&service(annotations, affine())).unwrap();
    assert_eq!(listener(&read(&[]), 80).persistence_seconds, 10_800);
    assert_eq!(listener(&read(&[("persistence-timeout", "0")]), 80).persistence_seconds, 0);
    let web = read(&[("protocol-port", "http:80")]);
    assert_eq!((listener(&web, 80).persistence_seconds, listener(&web, 80).scheduler), (0, Scheduler::Sch));
    let sticky = [("protocol-port", "http:80"), ("sticky-session", "on"), ("sticky-session-type", "insert")];
    assert_eq!(listener(&read(&sticky), 80).scheduler, Scheduler::Rr);
    assert_eq!(listener(&read(&sticky), 80).http.as_ref().unwrap().sticky.as_ref().unwrap().kind, StickyKind::Insert);
}

#[test]
fn source_ranges_of_the_field_come_before_the_annotation() {
    let ranges = |annotation: &str, field: &[&str]| {
        let mut service = service(&[], json!({ "loadBalancerSourceRanges": field }));
        let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
        service.metadata.annotations.insert(key.to_owned(), annotation.to_owned());
        let ranges = wanted(&service).unwrap().listeners[0].source_ranges.clone();
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ranges("", &[]), "");
    assert_eq!(ranges(" 192.0.2.1/24 , ", &[]), "192.0.2.0/24");
    assert_eq!(ranges("192.0.2.0/24", &[" 198.51.100.0/24 "]), "198.51.100.0/24");
    assert_eq!(ranges("", &["0.0.0.0/0", "::/0"]), "");
}

#[test]
fn nlb_says_some_things_differently() {
    let nlb = |annotations: &[(&str, &str)]| {
        wanted(&service(annotations, json!({ "loadBalancerClass": NLB_CLASS }))).unwrap()
    };
    let defaults = nlb(&[("protocol-port", "TCPSSL:443"), CERT]);
    assert_eq!(listener(&defaults, 443).protocol, ListenerProtocol::TcpSsl);
    assert!(listener(&defaults, 443).health_check.is_some());
    assert!(nlb(&[("health-check-flag", "off")]).listeners.iter().all(|listener| listener.health_check.is_none()));
    assert_eq!(listener(&nlb(&[("idle-timeout", "900")]), 80).established_seconds, 900);
    assert_eq!(listener(&nlb(&[("idle-timeout", "20")]), 80).established_seconds, 20);
    let both = nlb(&[("protocol-port", "tcpssl:443"), ("cert-id", "a,b"), ("additional-cert-ids", "c")]);
    let names: Vec<&str> =
        listener(&both, 443).tls.as_ref().unwrap().certificates.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn families_of_addresses() {
    let families = |annotations: &[(&str, &str)], spec: Value| {
        let families = wanted(&service(annotations, spec)).unwrap().families;
        families.iter().map(|family| family.as_str()).collect::<Vec<_>>().join(" ")
    };
    let six = || json!({ "ipFamilies": ["IPv6", "IPv4"] });
    assert_eq!(families(&[], json!({})), "IPv4");
    assert_eq!(families(&[], six()), "IPv6");
    assert_eq!(families(&[("ip-version", "DualStack")], six()), "IPv6 IPv4");
    assert_eq!(families(&[("ip", "192.0.2.1")], six()), "IPv4");
    assert_eq!(
        families(&[], json!({ "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack" })),
        "IPv4 IPv6"
    );
    assert_eq!(families(&[], json!({ "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack" })), "IPv4");
}

#[test]
fn what_does_not_go_together_is_refused() {
    #[rustfmt::skip]
    let cases: &[(&[Setting], Value, &str)] = &[
        (&[("ip-version", "ipv4"), ("ip", "fd00::1")], json!({}), "ip-version: an IPv6 address is asked for; use DualStack, or ask for another"),
        (&[("ip", "192.0.2.1,192.0.2.2")], json!({}), "ip: an instance has one address of each family"),
        (&[("address-type", "internet"), ("ipv6-address-type", "intranet")], json!({}), "ipv6-address-type: it differs from address-type, and an instance faces one side; make a Service for each"),
        (&[("protocol-port", "https:443")], json!({}), "cert-id: the listener at port 443 needs a certificate; name a Secret of type kubernetes.io/tls"),
        (&[("protocol-port", "http:53")], json!({}), "protocol-port: port 53 is UDP, which HTTP does not stand on"),
        (&[("protocol-port", "http:80,tcp:80")], json!({}), "protocol-port: port 80 has more than one protocol"),
        (&[("forward-port", "80:443"), ("protocol-port", "http:80")], json!({}), "forward-port: port 443 is no HTTPS listener; add https:443 to protocol-port"),
        (&[("forward-port", "80:443"), ("protocol-port", "https:443"), CERT], json!({}), "forward-port: port 80 is no HTTP listener; add http:80 to protocol-port"),
        (&[("acl-status", "on"), ("acl-type", "white")], json!({}), "acl-id: acl-status is on; name an AccessList, or several with commas between"),
        (&[("acl-status", "on"), ("acl-id", "a")], json!({}), "acl-type: acl-status is on; say white or black"),
        (&[("sticky-session", "on")], json!({}), "sticky-session-type: sticky-session is on; say insert or server"),
        (&[("sticky-session", "on"), ("sticky-session-type", "server")], json!({}), "cookie: sticky-session-type is server; name the application's cookie"),
        (&[("cacert", "on")], json!({}), "cacert-id: cacert is on; name a Secret whose ca.crt has the authority's certificate"),
        (&[("vgroup-port", "blue:80")], json!({}), "vgroup-port: it joins a listener of an instance that is there; name that one with id"),
        (&[("listener-port-range", "1000-2000:80")], json!({}), "listener-port-range: a range of ports is only for TCP and UDP listeners with backend-type eni"),
        (&[("listener-port-range", "400-500:80"), ("backend-type", "eni")], json!({}), "listener-port-range: the listeners at ports 400 and 443 overlap"),
        (&[], json!({ "ports": [{ "port": 80, "protocol": "SCTP" }] }), "spec.ports[0].protocol: SCTP is not balanced; take the port out, or set another loadBalancerClass"),
        (&[], json!({ "loadBalancerIP": "x" }), "spec.loadBalancerIP: \"x\" is not an IP address"),
        (&[("scheduler", "tch")], json!({}), "scheduler: \"tch\" is not known; use rr, wrr, wlc or sch"),
    ];
    for (annotations, spec, expected) in cases {
        assert_eq!(problems(annotations, spec.clone()), [*expected], "{annotations:?}");
    }
    let six = problems(&[("ip-version", "ipv6")], json!({}));
    assert!(six[0].starts_with("ip-version: the listener at port 80 hands on packets"), "{six:?}");
    assert!(
        want(&[("ip-version", "ipv6"), ("protocol-port", "http:80,http:443,http:6000"), ("proxy-protocol", "on")])
            .families
            .contains(&Family::V6)
    );
}

#[test]
fn a_port_number_may_stand_on_both_protocols() {
    let both = || json!({ "ports": [{ "name": "a", "port": 443, "nodePort": 1 }, { "name": "b", "port": 443, "protocol": "UDP", "nodePort": 2 }] });
    let wanted = wanted(&service(&[("protocol-port", "https:443,udp:443,http:81"), CERT], both())).unwrap();
    let protocols: Vec<ListenerProtocol> = wanted.listeners.iter().map(|listener| listener.protocol).collect();
    assert_eq!(protocols, [ListenerProtocol::Https, ListenerProtocol::Udp]);
}

#[test]
fn others_listeners_are_left_alone() {
    let left = want(&[("id", "shared")]);
    assert!(left.listeners.is_empty() && !left.manages_listeners && !left.short_cut());
    let joined =
        want(&[("id", "shared"), ("force-override-listeners", "true"), ("vgroup-port", "blue:80"), ("weight", "20")]);
    assert_eq!((joined.listeners.len(), joined.joins.len()), (3, 1));
    assert_eq!((joined.joins[0].group.as_str(), joined.joins[0].source.weight), ("blue", Some(20)));
    assert!(joined.listeners.iter().all(|listener| listener.backends[0].weight.is_none()));
}
