//! Defaults, families and needs of new Services.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn check(asked: Value, expected: &Expect) {
    expected.assert_eq(&spec(&created(asked)));
}

#[test]
fn the_smallest_service_gets_kubernetes_defaults() {
    check(
        json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        &expect![[r#"
        clusterIP: "10.96.1.1"
        clusterIPs: ["10.96.1.1"]
        internalTrafficPolicy: "Cluster"
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"port":80,"protocol":"TCP","targetPort":80}]
        selector: {"app":"web"}
        sessionAffinity: "None"
        type: "ClusterIP"
    "#]],
    );
}

#[test]
fn node_ports_of_one_port_number_are_one_number() {
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53},
        {"name": "metrics", "port": 9153, "targetPort": "metrics"},
    ]);
    check(
        json!({"type": "NodePort", "selector": {"app": "dns"}, "ports": ports}),
        &expect![[r#"
        clusterIP: "10.96.1.1"
        clusterIPs: ["10.96.1.1"]
        externalTrafficPolicy: "Cluster"
        internalTrafficPolicy: "Cluster"
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"name":"dns","nodePort":31002,"port":53,"protocol":"UDP","targetPort":53},{"name":"dns-tcp","nodePort":31002,"port":53,"protocol":"TCP","targetPort":53},{"name":"metrics","nodePort":31003,"port":9153,"protocol":"TCP","targetPort":"metrics"}]
        selector: {"app":"dns"}
        sessionAffinity: "None"
        type: "NodePort"
    "#]],
    );
}

#[test]
fn a_number_asked_for_one_protocol_serves_the_other() {
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "nodePort": 30053},
    ]);
    let service = created(json!({"type": "NodePort", "ports": ports}));
    assert_eq!(service.spec.ports.iter().map(|p| p.node_port).collect::<Vec<_>>(), [30053, 30053]);
    assert_eq!(holds(&service).node_ports, [30053]);
}

#[test]
fn a_local_load_balancer_gets_a_health_check_port() {
    let asked = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    check(
        asked,
        &expect![[r#"
        allocateLoadBalancerNodePorts: true
        clusterIP: "10.96.1.1"
        clusterIPs: ["10.96.1.1"]
        externalTrafficPolicy: "Local"
        healthCheckNodePort: 31003
        internalTrafficPolicy: "Cluster"
        ipFamilies: ["IPv4"]
        ipFamilyPolicy: "SingleStack"
        ports: [{"nodePort":31002,"port":80,"protocol":"TCP","targetPort":80}]
        sessionAffinity: "None"
        type: "LoadBalancer"
    "#]],
    );
}

#[test]
fn a_load_balancer_without_node_ports_keeps_those_it_names() {
    let asked = json!({
        "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30081}],
    });
    let service = created(asked);
    assert_eq!(service.spec.ports.iter().map(|p| p.node_port).collect::<Vec<_>>(), [0, 30081]);
}

/// Which types get which policies: what is reached from outside has an external one, what has an address an internal one.
#[test]
fn policies_follow_the_type() {
    let policies = |mut spec: Value| {
        spec["ports"] = json!([{"port": 80}]);
        let spec = created(spec).spec;
        (spec.external_traffic_policy, spec.internal_traffic_policy, spec.allocate_load_balancer_node_ports)
    };
    let cluster = || Some("Cluster".to_owned());
    assert_eq!(policies(json!({})), (None, cluster(), None));
    assert_eq!(policies(json!({"externalIPs": ["192.0.2.1"]})), (cluster(), cluster(), None));
    assert_eq!(policies(json!({"type": "NodePort"})), (cluster(), cluster(), None));
    assert_eq!(policies(json!({"type": "LoadBalancer"})), (cluster(), cluster(), Some(true)));
    let external = json!({"type": "ExternalName", "externalName": "db.example.com"});
    assert_eq!(policies(external), (None, None, None));
}

#[test]
fn target_ports_follow_the_port() {
    let ports = json!([
        {"name": "a", "port": 80, "targetPort": 0}, {"name": "b", "port": 81, "targetPort": ""},
        {"name": "c", "port": 82, "targetPort": "http"}, {"name": "d", "port": 83, "targetPort": 8083},
    ]);
    for address in [json!({}), json!({"clusterIP": "None"})] {
        let mut spec = address;
        spec["ports"] = ports.clone();
        let targets: Vec<Value> =
            created(spec).spec.ports.iter().map(|port| serde_json::to_value(&port.target_port).unwrap()).collect();
        assert_eq!(targets, [json!(80), json!(81), json!("http"), json!(8083)]);
    }
}

#[test]
fn affinity_is_completed_or_dropped() {
    let affinity = |kind: &str| {
        let config = json!({"clientIP": {"timeoutSeconds": null}});
        created(json!({"sessionAffinity": kind, "sessionAffinityConfig": config, "ports": [{"port": 80}]}))
            .spec
            .session_affinity_config
            .map(|c| c.client_ip.unwrap().timeout_seconds)
    };
    assert_eq!(affinity("ClientIP"), Some(Some(10_800)));
    assert_eq!(affinity("None"), None);
}

/// Every way to ask for families: (policy, families, clusterIP, clusterIPs, selector) on clusters of both kinds.
#[test]
fn families_follow_policy_addresses_and_cluster() {
    let asked: [(&str, Value); 15] = [
        ("nothing", json!({})),
        ("IPv6", json!({"ipFamilies": ["IPv6"]})),
        ("IPv6 address", json!({"clusterIP": "fd00:10:96::5"})),
        ("prefer", json!({"ipFamilyPolicy": "PreferDualStack"})),
        ("prefer IPv6 first", json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]})),
        ("prefer, one address", json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.0.7"})),
        ("require", json!({"ipFamilyPolicy": "RequireDualStack"})),
        ("single, both families", json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]})),
        ("both families", json!({"ipFamilies": ["IPv6", "IPv4"]})),
        ("two addresses", json!({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "fd00:10:96::8"]})),
        ("headless", json!({"clusterIP": "None", "selector": {"app": "db"}})),
        ("headless, prefer", json!({"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": "PreferDualStack"})),
        ("headless, free", json!({"clusterIP": "None"})),
        ("headless, free, single", json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"})),
        ("external name", json!({"type": "ExternalName", "externalName": "db.example.com"})),
    ];
    let mut text = String::new();
    for (name, asked) in asked {
        for (kind, cluster) in [("dual", dual()), ("IPv4 ", single())] {
            let mut asked = asked.clone();
            asked["ports"] = json!([{"port": 80}]);
            let mut service = service(asked);
            let outcome = match prepare_create(&mut service, &cluster) {
                Err(errors) => lines(&errors).trim_end().to_owned(),
                Ok(_) => {
                    Ledger::default().settle(&needs(None, &service), &mut service);
                    let spec = &service.spec;
                    let policy = spec.ip_family_policy.as_deref().unwrap_or("-");
                    format!("{policy} {:?} {} {:?}", spec.ip_families, spec.cluster_ip, spec.cluster_ips)
                }
            };
            text += &format!("{kind} {name}: {outcome}\n");
        }
    }
    expect![[r#"
        dual nothing: SingleStack ["IPv4"] 10.96.1.1 ["10.96.1.1"]
        IPv4  nothing: SingleStack ["IPv4"] 10.96.1.1 ["10.96.1.1"]
        dual IPv6: SingleStack ["IPv6"] fd00:10:96::1 ["fd00:10:96::1"]
        IPv4  IPv6: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        dual IPv6 address: SingleStack ["IPv6"] fd00:10:96::5 ["fd00:10:96::5"]
        IPv4  IPv6 address: spec.clusterIPs[0]: Invalid value: ["fd00:10:96::5"]: IPv6 is not configured on this cluster
        dual prefer: PreferDualStack ["IPv4", "IPv6"] 10.96.1.1 ["10.96.1.1", "fd00:10:96::2"]
        IPv4  prefer: PreferDualStack ["IPv4"] 10.96.1.1 ["10.96.1.1"]
        dual prefer IPv6 first: PreferDualStack ["IPv6", "IPv4"] fd00:10:96::1 ["fd00:10:96::1", "10.96.1.2"]
        IPv4  prefer IPv6 first: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        dual prefer, one address: PreferDualStack ["IPv4", "IPv6"] 10.96.0.7 ["10.96.0.7", "fd00:10:96::1"]
        IPv4  prefer, one address: PreferDualStack ["IPv4"] 10.96.0.7 ["10.96.0.7"]
        dual require: RequireDualStack ["IPv4", "IPv6"] 10.96.1.1 ["10.96.1.1", "fd00:10:96::2"]
        IPv4  require: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        dual single, both families: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
        IPv4  single, both families: spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
        dual both families: RequireDualStack ["IPv6", "IPv4"] fd00:10:96::1 ["fd00:10:96::1", "10.96.1.2"]
        IPv4  both families: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        dual two addresses: RequireDualStack ["IPv4", "IPv6"] 10.96.0.8 ["10.96.0.8", "fd00:10:96::8"]
        IPv4  two addresses: spec.clusterIPs[1]: Invalid value: ["10.96.0.8","fd00:10:96::8"]: IPv6 is not configured on this cluster
        dual headless: SingleStack ["IPv4"] None ["None"]
        IPv4  headless: SingleStack ["IPv4"] None ["None"]
        dual headless, prefer: PreferDualStack ["IPv4", "IPv6"] None ["None"]
        IPv4  headless, prefer: PreferDualStack ["IPv4"] None ["None"]
        dual headless, free: RequireDualStack ["IPv4", "IPv6"] None ["None"]
        IPv4  headless, free: RequireDualStack ["IPv4", "IPv6"] None ["None"]
        dual headless, free, single: SingleStack ["IPv4"] None ["None"]
        IPv4  headless, free, single: SingleStack ["IPv4"] None ["None"]
        dual external name: - []  []
        IPv4  external name: - []  []
    "#]]
    .assert_eq(&text);
}

#[test]
fn odd_spellings_are_taken_with_a_warning_and_kept_in_canonical_form() {
    let mut service = service(json!({
        "type": "LoadBalancer", "clusterIP": "010.96.0.5", "externalIPs": ["::ffff:192.0.2.1", "2001:db8:0:0::1"],
        "loadBalancerSourceRanges": [" 010.0.0.0/8 ", "192.0.2.9/24"], "ports": [{"port": 80}],
        "externalName": "unused.example.com",
    }));
    service.metadata.annotations.insert("service.kubernetes.io/topology-aware-hints".into(), "Auto".into());
    let warnings = prepare_create(&mut service, &dual()).unwrap();
    expect![[r#"
        annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead
        spec.clusterIPs[0]: non-standard IP address "010.96.0.5" will be considered invalid in a future Kubernetes release: use "10.96.0.5"
        spec.externalIPs[0]: non-standard IP address "::ffff:192.0.2.1" will be considered invalid in a future Kubernetes release: use "192.0.2.1"
        spec.externalIPs[1]: IPv6 address "2001:db8:0:0::1" should be in RFC 5952 canonical format ("2001:db8::1")
        spec.loadBalancerSourceRanges[0]: non-standard CIDR value "010.0.0.0/8" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8"
        spec.loadBalancerSourceRanges[1]: CIDR value "192.0.2.9/24" is ambiguous in this context (should be "192.0.2.0/24" or "192.0.2.9/32"?)
        spec.externalName is ignored when spec.type is not "ExternalName"
    "#]]
    .assert_eq(&lines(&warnings));
    assert_eq!(service.spec.cluster_ips, ["10.96.0.5"]);
    assert_eq!(service.spec.external_ips, ["192.0.2.1", "2001:db8:0:0::1"]);
    assert_eq!(service.spec.load_balancer_source_ranges, ["10.0.0.0/8", "192.0.2.9/24"]);
    let mut headless = super::service(json!({
        "clusterIP": "None", "loadBalancerIP": "192.0.2.7", "externalIPs": ["192.0.2.1"],
        "sessionAffinity": "ClientIP", "selector": {"a": "b"},
    }));
    expect![[r#"
        spec.loadBalancerIP is ignored for headless services
        spec.externalIPs is ignored for headless services
        spec.SessionAffinity is ignored for headless services
    "#]]
    .assert_eq(&lines(&prepare_create(&mut headless, &dual()).unwrap()));
    let warnings = |spec: Value| lines(&prepare_create(&mut super::service(spec), &dual()).unwrap());
    // A headless Service without affinity deserves no word about it (Kubernetes 1.34.1 has one).
    assert_eq!(warnings(json!({"clusterIP": "None", "selector": {"a": "b"}})), "");
    expect![[r#"
        spec.clusterIPs[1]: IPv6 address "fd00:10:96:0::9" should be in RFC 5952 canonical format ("fd00:10:96::9")
        spec.loadBalancerIP: non-standard IP address "192.0.02.7" will be considered invalid in a future Kubernetes release: use "192.0.2.7"
        spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "2001:db8:0::/48" should be in RFC 5952 canonical format ("2001:db8::/48")
    "#]]
    .assert_eq(&warnings(json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:10:96:0::9"],
        "loadBalancerIP": "192.0.02.7", "loadBalancerSourceRanges": ["2001:db8:0::/48"], "ports": [{"port": 80}],
    })));
    expect![[r#"
        spec.externalIPs is ignored when spec.type is "ExternalName"
    "#]]
    .assert_eq(&warnings(json!({
        "type": "ExternalName", "externalName": "a.example.com", "externalIPs": ["192.0.2.1"],
    })));
}

#[test]
fn a_dry_run_shows_the_base_address() {
    let mut service = service(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack",
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30000}],
    }));
    prepare_create(&mut service, &dual()).unwrap();
    let needs = needs(None, &service);
    let base = |family| if family == Family::V4 { "10.96.0.0" } else { "fd00::" }.parse().unwrap();
    fill_dry_run(&mut service, &needs, base, 30000);
    assert_eq!(service.spec.cluster_ips, ["10.96.0.0", "fd00::"]);
    assert_eq!(service.spec.ports.iter().map(|p| p.node_port).collect::<Vec<_>>(), [30001, 30000]);
    assert_eq!(service.spec.health_check_node_port, Some(30002));
}

#[test]
fn a_selector_selects_by_every_label_and_an_empty_one_nothing() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let web = service(json!({"selector": {"app": "web", "tier": "front"}}));
    assert!(selects(&web, &labels(&[("app", "web"), ("tier", "front"), ("x", "y")])));
    assert!(!selects(&web, &labels(&[("app", "web")])));
    assert!(!selects(&service(json!({})), &labels(&[("app", "web")])));
    let external = service(json!({"type": "ExternalName", "selector": {"app": "web"}}));
    assert!(!selects(&external, &labels(&[("app", "web")])));
}
