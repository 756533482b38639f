//! Updates: what is kept, dropped, refused, released.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn web(fields: Value) -> Value {
    let mut spec = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// The outcome in short: type, addresses, families, node ports, what was allocated and released.
fn outcome(result: Result<(Service, Needs), String>) -> String {
    let (new, needs) = match result {
        Ok(done) => done,
        Err(errors) => return errors,
    };
    let spec = &new.spec;
    let ports: Vec<String> = spec.ports.iter().map(|p| format!("{}/{}:{}", p.port, p.protocol, p.node_port)).collect();
    let mut text = format!(
        "{} {:?} {:?} {} {:?}",
        spec.type_,
        spec.cluster_ips,
        spec.ip_families,
        spec.ip_family_policy.as_deref().unwrap_or("-"),
        ports
    );
    if let Some(port) = spec.health_check_node_port {
        text += &format!(" health {port}");
    }
    if !needs.release_addresses.is_empty() || !needs.release_node_ports.is_empty() {
        text += &format!(" released {:?} {:?}", needs.release_addresses, needs.release_node_ports);
    }
    text + "\n"
}

fn check(old: Value, change: impl FnOnce(&mut Service), expected: &Expect) {
    expected.assert_eq(&outcome(edited(&created(old), change)));
}

#[test]
fn the_same_manifest_changes_nothing() {
    let manifests = [
        web(json!({})),
        web(json!({"type": "NodePort"})),
        web(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"})),
        web(json!({"ipFamilyPolicy": "PreferDualStack"})),
        web(json!({"clusterIP": "None"})),
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "db.example.com"}),
    ];
    for manifest in manifests {
        let stored = created(manifest.clone());
        let (again, needs) = replaced(&stored, service(manifest)).unwrap();
        assert_eq!(again, stored);
        assert_eq!(needs, Needs::default());
    }
}

#[test]
fn types_change_and_release() {
    let full = |type_: &str| web(json!({"type": type_, "ipFamilyPolicy": "PreferDualStack"}));
    let local = web(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
    let to = |type_: &'static str| {
        move |s: &mut Service| {
            s.spec.type_ = type_.into();
            if type_ == "ExternalName" {
                s.spec.external_name = "db.example.com".into();
            }
        }
    };
    let mut text = String::new();
    for (from, change) in [
        (full("ClusterIP"), "NodePort"),
        (full("ClusterIP"), "ExternalName"),
        (full("NodePort"), "ClusterIP"),
        (full("NodePort"), "LoadBalancer"),
        (full("LoadBalancer"), "NodePort"),
        (full("LoadBalancer"), "ExternalName"),
        (local.clone(), "NodePort"),
        (local, "ClusterIP"),
        (json!({"type": "ExternalName", "externalName": "a.example.com", "ports": [{"port": 80}]}), "LoadBalancer"),
    ] {
        let old = created(from);
        text += &format!("{} to {change}: ", old.spec.type_);
        text += &outcome(edited(&old, to(change)));
    }
    expect![[r#"
        ClusterIP to NodePort: NodePort ["10.96.1.1", "fd00:10:96::2"] ["IPv4", "IPv6"] PreferDualStack ["80/TCP:31101"]
        ClusterIP to ExternalName: ExternalName [] [] - ["80/TCP:0"] released [10.96.1.1, fd00:10:96::2] []
        NodePort to ClusterIP: ClusterIP ["10.96.1.1", "fd00:10:96::2"] ["IPv4", "IPv6"] PreferDualStack ["80/TCP:0"] released [] [31003]
        NodePort to LoadBalancer: LoadBalancer ["10.96.1.1", "fd00:10:96::2"] ["IPv4", "IPv6"] PreferDualStack ["80/TCP:31003"]
        LoadBalancer to NodePort: NodePort ["10.96.1.1", "fd00:10:96::2"] ["IPv4", "IPv6"] PreferDualStack ["80/TCP:31003"]
        LoadBalancer to ExternalName: ExternalName [] [] - ["80/TCP:0"] released [10.96.1.1, fd00:10:96::2] [31003]
        LoadBalancer to NodePort: NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:31002"] released [] [31003]
        LoadBalancer to ClusterIP: ClusterIP ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:0"] released [] [31002, 31003]
        ExternalName to LoadBalancer: LoadBalancer ["10.96.1.101"] ["IPv4"] SingleStack ["80/TCP:31102"]
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_only_a_load_balancer_has_goes_with_the_type() {
    let mut old = created(web(json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/lb"})));
    old.status.load_balancer.ingress = serde_json::from_value(json!([{"ip": "192.0.2.1", "ipMode": "VIP"}])).unwrap();
    let (new, _) = edited(&old, |s| s.spec.type_ = "ClusterIP".into()).unwrap();
    assert_eq!(new.spec.load_balancer_class, None);
    assert_eq!(new.spec.allocate_load_balancer_node_ports, None);
    assert_eq!(new.spec.external_traffic_policy, None);
    assert!(new.status.load_balancer.ingress.is_empty());
    // What the client changed at the same time is not dropped in silence.
    let refused = edited(&old, |s| {
        s.spec.type_ = "ClusterIP".into();
        s.spec.load_balancer_class = Some("example.com/other".into());
        s.spec.ports[0].node_port = 30099;
        s.spec.external_traffic_policy = Some("Local".into());
        s.spec.allocate_load_balancer_node_ports = Some(false);
    });
    expect![[r#"
        spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
        spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
    "#]]
    .assert_eq(&refused.unwrap_err());
}

#[test]
fn a_second_family_comes_and_goes() {
    check(
        web(json!({})),
        |s| s.spec.ip_family_policy = Some("PreferDualStack".into()),
        &expect![[r#"
            ClusterIP ["10.96.1.1", "fd00:10:96::101"] ["IPv4", "IPv6"] PreferDualStack ["80/TCP:0"]
        "#]],
    );
    check(
        web(json!({})),
        |s| {
            s.spec.ip_family_policy = Some("RequireDualStack".into());
            s.spec.cluster_ips.push("fd00:10:96::77".into());
        },
        &expect![[r#"
            ClusterIP ["10.96.1.1", "fd00:10:96::77"] ["IPv4", "IPv6"] RequireDualStack ["80/TCP:0"]
        "#]],
    );
    let both = web(json!({"ipFamilyPolicy": "RequireDualStack"}));
    check(
        both.clone(),
        |s| s.spec.ip_family_policy = Some("SingleStack".into()),
        &expect![[r#"
            ClusterIP ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:0"] released [fd00:10:96::2] []
        "#]],
    );
    check(
        both.clone(),
        |s| {
            s.spec.ip_family_policy = Some("SingleStack".into());
            s.spec.cluster_ips.truncate(1);
            s.spec.ip_families.truncate(1);
        },
        &expect![[r#"
            ClusterIP ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:0"] released [fd00:10:96::2] []
        "#]],
    );
    check(
        both.clone(),
        |s| s.spec.cluster_ips.truncate(1),
        &expect![[r#"
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP
    "#]],
    );
    check(
        both,
        |s| s.spec.ip_families.truncate(1),
        &expect![[r#"
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary ipFamily
    "#]],
    );
}

#[test]
fn a_preference_is_not_acted_upon_when_only_the_cluster_changed() {
    let mut old = service(web(json!({"ipFamilyPolicy": "PreferDualStack"})));
    prepare_create(&mut old, &single()).unwrap();
    Ledger::default().settle(&needs(None, &old), &mut old);
    assert_eq!(old.spec.cluster_ips.len(), 1);
    let (new, needs) = edited(&old, |s| s.spec.ports[0].port = 8080).unwrap();
    assert_eq!(new.spec.ip_families, ["IPv4"]);
    assert_eq!(needs, Needs::default());
}

#[test]
fn addresses_and_families_stay() {
    let refused = |old: Value, change: &dyn Fn(&mut Service)| edited(&created(old), |s| change(s)).unwrap_err();
    let both = web(json!({"ipFamilyPolicy": "RequireDualStack"}));
    let mut text = refused(web(json!({})), &|s| s.spec.cluster_ip = "10.96.0.99".into());
    text += &refused(both.clone(), &|s| {
        s.spec.cluster_ip = "10.96.0.99".into();
        s.spec.cluster_ips.clear();
    });
    text += &refused(web(json!({})), &|s| s.spec.cluster_ip = "None".into());
    text += &refused(web(json!({})), &|s| s.spec.cluster_ip = "10.96.0".into());
    text += &refused(web(json!({"clusterIP": "None"})), &|s| s.spec.cluster_ip = "10.96.0.9".into());
    text += &refused(web(json!({"clusterIP": "None"})), &|s| s.spec.type_ = "NodePort".into());
    text += &refused(both.clone(), &|s| s.spec.cluster_ips[1] = "fd00:10:96::99".into());
    text += &refused(both, &|s| s.spec.ip_families.reverse());
    text += &refused(web(json!({})), &|s| s.spec.ip_families = vec!["IPv6".into()]);
    expect![[r#"
        spec.clusterIPs[0]: Invalid value: ["10.96.0.99"]: may not change once set
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP
        spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set
        spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        spec.clusterIPs[0]: Invalid value: ["10.96.0.9"]: may not change once set
        spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
        spec.clusterIPs[1]: Invalid value: ["10.96.1.1","fd00:10:96::99"]: may not change once set
        spec.clusterIPs[0]: Invalid value: "10.96.1.1": expected an IPv6 value as indicated by `ipFamilies[0]`
        spec.clusterIPs[1]: Invalid value: "fd00:10:96::2": expected an IPv4 value as indicated by `ipFamilies[1]`
        spec.clusterIPs[0]: Invalid value: "10.96.1.1": expected an IPv6 value as indicated by `ipFamilies[0]`
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_cleared_address_is_carried_over() {
    let old = created(web(json!({"ipFamilyPolicy": "RequireDualStack"})));
    let cleared: [fn(&mut Service); 3] =
        [|s| s.spec.cluster_ip.clear(), |s| s.spec.cluster_ips.clear(), |s| s.spec.ip_families.clear()];
    for clear in cleared {
        assert_eq!(edited(&old, clear).unwrap().0, old);
    }
}

#[test]
fn load_balancer_class_and_health_check_port_stay() {
    let old = created(web(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/a",
    })));
    let mut text = edited(&old, |s| s.spec.load_balancer_class = None).unwrap_err();
    text += &edited(&old, |s| s.spec.health_check_node_port = Some(30500)).unwrap_err();
    expect![[r#"
        spec.loadBalancerClass: Invalid value: "null": may not change once set
        spec.healthCheckNodePort: Forbidden: field is immutable
    "#]]
    .assert_eq(&text);
    let (kept, _) = edited(&old, |s| s.spec.health_check_node_port = None).unwrap();
    assert_eq!(kept.spec.health_check_node_port, old.spec.health_check_node_port);
}

#[test]
fn node_ports_follow_their_entry() {
    let old = created(json!({"type": "NodePort", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "nodePort": 30053},
        {"name": "http", "port": 80, "nodePort": 30080},
    ]}));
    let ports = |ports: Value| {
        let mut new = old.clone();
        new.spec.ports = serde_json::from_value(ports).unwrap();
        outcome(replaced(&old, new))
    };
    let mut text = String::new();
    // Same names, another order, one with a new port number.
    text += &ports(json!([
        {"name": "http", "port": 8080}, {"name": "dns-tcp", "port": 53}, {"name": "dns", "port": 53, "protocol": "UDP"},
    ]));
    // Renamed.
    text += &ports(json!([{"name": "web", "port": 80}]));
    // One protocol of a shared number goes: the number stays held.
    text += &ports(json!([{"name": "dns", "port": 53, "protocol": "UDP"}]));
    // A number moves to another entry, whose own is released.
    text += &ports(
        json!([{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30080}, {"name": "http", "port": 80}]),
    );
    // A new entry gets a new number, a new number is asked for.
    text += &ports(json!([{"name": "http", "port": 80, "nodePort": 30090}, {"name": "new", "port": 443}]));
    expect![[r#"
        NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["8080/TCP:30080", "53/TCP:30053", "53/UDP:30053"]
        NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:30080"] released [] [30053]
        NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["53/UDP:30053"] released [] [30080]
        NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["53/UDP:30080", "80/TCP:30080"] released [] [30053]
        NodePort ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:30090", "443/TCP:31101"] released [] [30053, 30080]
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_load_balancer_that_does_without_node_ports_lets_go_of_them() {
    let old = created(web(json!({"type": "LoadBalancer"})));
    let without = |s: &mut Service| s.spec.allocate_load_balancer_node_ports = Some(false);
    // What the client sends back stays, what it leaves out goes.
    let mut text = outcome(edited(&old, without));
    text += &outcome(edited(&old, |s| {
        without(s);
        s.spec.ports[0].node_port = 0;
    }));
    expect![[r#"
        LoadBalancer ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:31002"]
        LoadBalancer ["10.96.1.1"] ["IPv4"] SingleStack ["80/TCP:0"] released [] [31002]
    "#]]
    .assert_eq(&text);
}
