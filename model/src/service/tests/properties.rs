//! Whatever a client sends, what is held is what was handed out.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn one_of(values: &[Value]) -> impl Strategy<Value = Value> + use<> {
    prop::sample::select(values.to_vec())
}

/// Specs that are often valid: few values, so that changes between two of them meet in the same places.
fn any_spec() -> impl Strategy<Value = Value> {
    let null = Value::Null;
    let port = (
        one_of(&[json!(53), json!(80), json!(443)]),
        one_of(&[null.clone(), json!("TCP"), json!("UDP")]),
        one_of(&[null.clone(), null.clone(), json!(30053), json!(30080)]),
    );
    let fields = (
        one_of(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].map(Value::from)),
        one_of(&[null.clone(), null.clone(), json!("None"), json!("10.96.0.10"), json!("fd00:10:96::10")]),
        one_of(&[
            null.clone(),
            null.clone(),
            json!("SingleStack"),
            json!("PreferDualStack"),
            json!("RequireDualStack"),
        ]),
        one_of(&[null.clone(), null.clone(), json!(["IPv4"]), json!(["IPv6"]), json!(["IPv6", "IPv4"])]),
        one_of(&[null.clone(), json!("Local")]),
        one_of(&[null.clone(), json!(false)]),
        one_of(&[null.clone(), null.clone(), json!(30500)]),
        one_of(&[null.clone(), json!({"app": "web"})]),
        prop::collection::vec(port, 1..4),
    );
    fields.prop_map(|(type_, ip, policy, families, external, allocate, health, selector, ports)| {
        let ports: Vec<Value> = ports
            .into_iter()
            .enumerate()
            .map(|(i, (port, protocol, node_port))| {
                let node_port = if type_ == "ClusterIP" || type_ == "ExternalName" { Value::Null } else { node_port };
                json!({"name": format!("p{i}"), "port": port, "protocol": protocol, "nodePort": node_port})
            })
            .collect();
        let balanced = type_ == "LoadBalancer";
        let outside = balanced || type_ == "NodePort";
        let mut spec = Map::new();
        let mut put = |key: &str, value: Value, when: bool| {
            if when && !value.is_null() {
                spec.insert(key.to_owned(), value);
            }
        };
        put("externalName", json!("db.example.com"), type_ == "ExternalName");
        put("clusterIP", ip, type_ != "ExternalName");
        put("ipFamilyPolicy", policy, type_ != "ExternalName");
        put("ipFamilies", families, type_ != "ExternalName");
        put("healthCheckNodePort", health, balanced && !external.is_null());
        put("externalTrafficPolicy", external, outside);
        put("allocateLoadBalancerNodePorts", allocate, balanced);
        put("selector", selector, true);
        put("ports", ports.into(), true);
        put("type", type_, true);
        spec.into()
    })
}

/// Takes over fields that a client which had read `old` would send back.
fn merged(old: &Service, spec: &Value) -> Service {
    let mut whole = serde_json::to_value(&old.spec).unwrap();
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    service(whole)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn what_is_held_is_what_was_handed_out(first in any_spec(), writes in prop::collection::vec((any_spec(), any::<bool>()), 0..5)) {
        let mut ledger = Ledger::default();
        let mut stored = service(first.clone());
        if prepare_create(&mut stored, &dual()).is_err() {
            return Ok(());
        }
        ledger.settle(&needs(None, &stored), &mut stored);
        prop_assert_eq!(ledger.held(), holds(&stored));

        // The manifest, sent again, changes nothing. One that names the first of two families takes the second
        // back, which Kubernetes refuses too.
        let mut again = service(first);
        if again.spec.ip_families.is_empty() || again.spec.ip_families.len() == stored.spec.ip_families.len() {
            prepare_update(&stored, &mut again, &dual()).map_err(|e| TestCaseError::fail(lines(&e)))?;
            prop_assert_eq!(&again, &stored);
        }

        for (spec, sends_all) in writes {
            let mut new = if sends_all { merged(&stored, &spec) } else { service(spec) };
            if prepare_update(&stored, &mut new, &dual()).is_err() {
                continue;
            }
            let wanted = needs(Some(&stored), &new);
            let before = ledger.clone();
            ledger.settle(&wanted, &mut new);
            prop_assert_eq!(ledger.held(), holds(&new));
            // Released and kept are what the old one held.
            let kept = before.held().node_ports.into_iter().filter(|p| ledger.node_ports.contains(p));
            prop_assert_eq!(kept.count() + wanted.release_node_ports.len(), before.node_ports.len());

            let spec = &new.spec;
            if spec.type_ != "ExternalName" && !new.headless() {
                prop_assert_eq!(spec.cluster_ips.len(), spec.ip_families.len());
                prop_assert_eq!(&spec.cluster_ips[0], &spec.cluster_ip);
                for (ip, family) in new.addresses().zip(&spec.ip_families) {
                    prop_assert_eq!(Family::of(ip).as_str(), family);
                }
            }
            if spec.type_ == "NodePort" {
                prop_assert!(spec.ports.iter().all(|p| p.node_port != 0));
            }
            // A stored Service is a fixed point.
            let mut same = new.clone();
            prepare_update(&new, &mut same, &dual()).map_err(|e| TestCaseError::fail(lines(&e)))?;
            prop_assert_eq!(&same, &new);
            prop_assert_eq!(needs(Some(&new), &same), Needs::default());
            stored = new;
        }
    }

    #[test]
    fn no_text_makes_preparation_panic(type_ in ".{0,12}", ip in ".{0,24}", name in ".{0,20}", port in any::<i32>()) {
        let mut service = service(json!({
            "type": type_, "clusterIP": ip, "externalIPs": [ip], "externalName": name, "ipFamilies": [name],
            "loadBalancerSourceRanges": [ip], "sessionAffinity": name,
            "ports": [{"name": name, "port": port, "nodePort": port, "targetPort": name, "protocol": name}],
        }));
        if prepare_create(&mut service, &dual()).is_ok() {
            needs(None, &service);
        }
    }
}
