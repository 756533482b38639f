//! Slices that mirror Endpoints written by hand.

use expect_test::expect;
use serde_json::json;

use super::*;

fn by_hand() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "web", "namespace": "default", "uid": "endpoints-1", "labels": {"by": "hand"},
            "annotations": {
                "note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{}",
                TRIGGER_TIME: "2026-01-01T00:00:07Z",
            },
        },
        "subsets": [
            {
                "addresses": [
                    {"ip": "192.0.2.1", "hostname": "one", "nodeName": "node-1"}, {"ip": "2001:db8::1"},
                    {"ip": "192.0.2.1"},
                ],
                "notReadyAddresses": [{"ip": "192.0.2.2", "targetRef": {"kind": "Pod", "name": "b"}}],
                "ports": [{"port": 5432, "protocol": "TCP"}],
            },
            {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "x", "port": 1, "appProtocol": "http"}]},
        ],
    })
}

fn mirror(slices: &mut Slices, endpoints: Option<&Value>, service: Option<&Service>) -> Vec<SliceChange> {
    let existing: Vec<&EndpointSlice> = slices.by_name.values().collect();
    let mut names = slices.names;
    let changes = mirror_slices(endpoints, service, &existing, &mut || {
        names += 1;
        format!("{names:05}")
    });
    slices.names = names;
    slices.apply(&changes);
    changes
}

#[test]
fn each_family_and_set_of_ports_has_its_slice() {
    let free = service(json!({"selector": {}}));
    let mut slices = Slices::default();
    mirror(&mut slices, Some(&by_hand()), Some(&free));
    expect![[r#"
        web-00001 IPv4 [:5432/TCP] -=192.0.2.1(r--) b=192.0.2.2(---)
        web-00002 IPv4 [x:1/TCP] -=192.0.2.1(r--)
        web-00003 IPv6 [:5432/TCP] -=2001:db8::1(r--)
    "#]]
    .assert_eq(&slices.text());
    expect![[r#"
        {
          "addressType": "IPv4",
          "apiVersion": "discovery.k8s.io/v1",
          "endpoints": [
            {
              "addresses": [
                "192.0.2.1"
              ],
              "conditions": {
                "ready": true
              },
              "hostname": "one",
              "nodeName": "node-1"
            },
            {
              "addresses": [
                "192.0.2.2"
              ],
              "conditions": {
                "ready": false
              },
              "targetRef": {
                "kind": "Pod",
                "name": "b"
              }
            }
          ],
          "kind": "EndpointSlice",
          "metadata": {
            "annotations": {
              "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:07Z",
              "note": "kept"
            },
            "generateName": "web-",
            "generation": 1,
            "labels": {
              "by": "hand",
              "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
              "kubernetes.io/service-name": "web"
            },
            "name": "web-00001",
            "namespace": "default",
            "ownerReferences": [
              {
                "apiVersion": "v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Endpoints",
                "name": "web",
                "uid": "endpoints-1"
              }
            ]
          },
          "ports": [
            {
              "name": "",
              "port": 5432,
              "protocol": "TCP"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&slices.by_name["web-00001"]).unwrap());
    assert_eq!(mirror(&mut slices, Some(&by_hand()), Some(&free)), []);
}

#[test]
fn changes_are_followed_in_place() {
    let free = service(json!({"selector": {}}));
    let mut slices = Slices::default();
    let mut endpoints = by_hand();
    mirror(&mut slices, Some(&endpoints), Some(&free));
    endpoints["subsets"][0]["addresses"][0]["hostname"] = "uno".into();
    endpoints["subsets"][1]["addresses"] = json!([]);
    let mut text = summary(&mirror(&mut slices, Some(&endpoints), Some(&free)));
    endpoints["metadata"]["annotations"]["note"] = "new".into();
    text += "annotated:\n";
    text += &summary(&mirror(&mut slices, Some(&endpoints), Some(&free)));
    expect![[r#"
        update web-00001 IPv4 [:5432/TCP] -=192.0.2.1(r--) b=192.0.2.2(---)
        delete web-00002
        annotated:
        update web-00001 IPv4 [:5432/TCP] -=192.0.2.1(r--) b=192.0.2.2(---)
        update web-00003 IPv6 [:5432/TCP] -=2001:db8::1(r--)
    "#]]
    .assert_eq(&text);
    assert!(slices.by_name.values().all(|s| s.metadata.annotations.get("note").is_some_and(|note| note == "new")));
}

#[test]
fn what_is_not_to_be_mirrored_is_deleted() {
    let free = service(json!({"selector": {}}));
    let mut full = Slices::default();
    mirror(&mut full, Some(&by_hand()), Some(&free));
    let labelled = {
        let mut endpoints = by_hand();
        endpoints["metadata"]["labels"][SKIP_MIRROR] = "true".into();
        endpoints
    };
    let lock = {
        let mut endpoints = by_hand();
        endpoints["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"] = "{}".into();
        endpoints
    };
    let selecting = service(json!({}));
    for (endpoints, of) in [
        (None, Some(&free)),
        (Some(by_hand()), None),
        (Some(by_hand()), Some(&selecting)),
        (Some(labelled), Some(&free)),
        (Some(lock), Some(&free)),
    ] {
        let mut slices = full.clone();
        assert_eq!(mirror(&mut slices, endpoints.as_ref(), of).len(), 3);
        assert!(slices.by_name.is_empty());
    }
    // What cannot be read is left as it was mirrored.
    assert_eq!(mirror(&mut full, Some(&json!({"subsets": 1})), Some(&free)), []);
}

#[test]
fn a_thousand_addresses_of_a_subset_are_mirrored() {
    let addresses: Vec<Value> = (0..1100u32).map(|n| json!({"ip": format!("10.1.{}.{}", n >> 8, n & 0xff)})).collect();
    let endpoints = json!({"metadata": {"name": "web"}, "subsets": [{"addresses": addresses}]});
    let mut slices = Slices::default();
    mirror(&mut slices, Some(&endpoints), Some(&service(json!({"selector": {}}))));
    assert_eq!(slices.by_name.len(), 1);
    assert_eq!(slices.endpoints().count(), MAX_MIRRORED_PER_SLICE);
}
