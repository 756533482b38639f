//! The legacy Endpoints object.

use expect_test::expect;
use serde_json::json;

use super::*;

fn derived(service: &Service, pods: &[Pod]) -> Value {
    let nodes = nodes();
    let pods: Vec<&Pod> = pods.iter().collect();
    derive_endpoints(service, &pods, &|name| nodes.get(name), Some("2026-01-01T00:00:07Z"))
}

#[test]
fn endpoints_have_ready_and_other_addresses_of_the_first_family() {
    let mut waiting = pod("b", 2);
    unready(&mut waiting);
    let mut going = pod("c", 3);
    going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
    let service = service(json!({
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
            {"name": "x", "port": 81, "targetPort": 81, "protocol": "UDP"},
        ],
    }));
    let endpoints = derived(&service, &[pod("a", 1), waiting, going]);
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Endpoints",
          "metadata": {
            "annotations": {
              "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:07Z"
            },
            "labels": {
              "app": "web",
              "endpoints.kubernetes.io/managed-by": "endpoint-controller"
            },
            "name": "web",
            "namespace": "default"
          },
          "subsets": [
            {
              "addresses": [
                {
                  "ip": "10.244.0.1",
                  "nodeName": "node-1",
                  "targetRef": {
                    "kind": "Pod",
                    "name": "a",
                    "namespace": "default",
                    "uid": "uid-a"
                  }
                }
              ],
              "notReadyAddresses": [
                {
                  "ip": "10.244.0.2",
                  "nodeName": "node-1",
                  "targetRef": {
                    "kind": "Pod",
                    "name": "b",
                    "namespace": "default",
                    "uid": "uid-b"
                  }
                }
              ],
              "ports": [
                {
                  "appProtocol": "http",
                  "name": "http",
                  "port": 8080,
                  "protocol": "TCP"
                },
                {
                  "name": "x",
                  "port": 81,
                  "protocol": "UDP"
                }
              ]
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&endpoints).unwrap());
}

#[test]
fn pods_without_the_ports_are_left_out_and_other_numbers_stand_apart() {
    let mut other = pod("b", 2);
    other.spec.containers[0].ports[0].container_port = 9090;
    let mut none = pod("c", 3);
    none.spec.containers.clear();
    let named = json!([{"port": 80, "targetPort": "http", "protocol": "TCP"}]);
    let pods = [pod("a", 1), other, none];
    let subsets = &derived(&service(json!({"ports": named})), &pods)["subsets"];
    let flat: Vec<String> = subsets
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{} {}", s["ports"], s["addresses"].as_array().unwrap().len()))
        .collect();
    assert_eq!(flat, [r#"[{"port":8080,"protocol":"TCP"}] 1"#, r#"[{"port":9090,"protocol":"TCP"}] 1"#]);
    let headless = service(json!({"clusterIP": "None", "ports": [], "ipFamilies": ["IPv6"]}));
    let endpoints = derived(&headless, &pods);
    assert_eq!(endpoints["subsets"][0]["ports"], Value::Null);
    assert_eq!(endpoints["subsets"][0]["addresses"][2]["ip"], "fd00:244:1::3");
    assert_eq!(endpoints["metadata"]["labels"][HEADLESS], "");
    assert_eq!(derived(&headless, &[]).get("subsets"), None);
}

#[test]
fn a_thousand_addresses_are_the_most_and_ready_ones_stay() {
    let mut pods: Vec<Pod> = (0..1010).map(|n| pod(&format!("p{n:04}"), n)).collect();
    for pod in &mut pods[..20] {
        unready(pod);
    }
    let endpoints = derived(&service(json!({})), &pods);
    assert_eq!(endpoints["metadata"]["annotations"][OVER_CAPACITY], "truncated");
    let count = |key: &str| endpoints["subsets"][0][key].as_array().unwrap().len();
    assert_eq!((count("addresses"), count("notReadyAddresses")), (990, 10));
}

#[test]
fn stored_endpoints_are_written_only_when_they_differ() {
    let service = service(json!({}));
    let first = renew_endpoints(None, derived(&service, &[pod("a", 1)])).unwrap();
    let mut stored = first;
    stored["metadata"]["uid"] = "endpoints-1".into();
    stored["metadata"]["annotations"]["example.com/note"] = "kept".into();
    stored["metadata"]["annotations"][OVER_CAPACITY] = "truncated".into();
    let healed = renew_endpoints(Some(&stored), derived(&service, &[pod("a", 1)])).unwrap();
    assert_eq!(healed["metadata"]["annotations"].get(OVER_CAPACITY), None);
    assert_eq!(renew_endpoints(Some(&healed), derived(&service, &[pod("a", 1)])), None);
    let renewed = renew_endpoints(Some(&healed), derived(&service, &[pod("a", 2)])).unwrap();
    assert_eq!(renewed["subsets"][0]["addresses"][0]["ip"], "10.244.0.2");
    assert_eq!(renewed["metadata"]["uid"], "endpoints-1");
    assert_eq!(renewed["metadata"]["annotations"]["example.com/note"], "kept");
    let mut bare = healed;
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    let renewed = renew_endpoints(Some(&bare), derived(&service, &[])).unwrap();
    assert_eq!(renewed["metadata"]["annotations"][TRIGGER_TIME], "2026-01-01T00:00:07Z");
    assert_eq!(renewed.get("subsets"), None);
}
