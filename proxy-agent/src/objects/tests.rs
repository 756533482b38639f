use serde_json::json;

use super::*;

fn bytes(value: serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[test]
fn a_slice_keeps_what_decides_about_traffic() {
    let decoded = decode(
        Resource::EndpointSlices,
        &bytes(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {
                "name": "web-x1", "namespace": "default", "resourceVersion": "17", "uid": "u", "generation": 3,
                "managedFields": [{"manager": "x", "fieldsV1": {"f:a": {}}}],
                "labels": {"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "", "app": "web"},
                "annotations": {
                    "endpoints.kubernetes.io/last-change-trigger-time": "2024-01-02T03:04:05.25Z",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u"}],
            },
            "endpoints": [{
                "addresses": ["10.244.1.2"], "conditions": {"ready": true}, "nodeName": "node-1", "zone": "a",
                "targetRef": {"kind": "Pod", "name": "web-1"}, "hostname": "h",
            }],
            "ports": [{"port": 80, "protocol": "TCP", "name": ""}],
        })),
    )
    .unwrap();
    assert_eq!((decoded.key, decoded.revision), (Key::new("default", "web-x1"), 17));
    let Noun::Slice { slice, service, triggered } = decoded.noun else { panic!("not a slice") };
    assert_eq!(service, Some(Key::new("default", "web")));
    assert_eq!(triggered, Some("2024-01-02T03:04:05.25Z".parse().unwrap()));
    let meta = &slice.metadata;
    assert!(meta.labels.is_empty(), "whose it is was said");
    assert!(meta.annotations.is_empty() && meta.managed_fields.is_empty() && meta.owner_references.is_empty());
    assert_eq!(meta.resource_version, None, "two versions that differ in nothing else are equal");
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.node_name.as_deref(), Some("node-1"));
    assert!(endpoint.target_ref.is_none() && endpoint.zone.is_none());
    assert_eq!(endpoint.hostname.as_deref(), Some("h"), "it is a name of the endpoint's");
}

/// What a server leaves out for agents is what they would not keep.
#[test]
fn a_slim_slice_is_kept_as_the_whole_one() {
    let flags = [json!({}), json!({"ready": null}), json!({"ready": true}), json!({"ready": false})];
    let mut endpoints: Vec<serde_json::Value> = Vec::new();
    for ready in &flags {
        for (serving, terminating) in
            [(json!(null), json!(null)), (json!(true), json!(false)), (json!(false), json!(true))]
        {
            let mut conditions = ready.clone();
            conditions["serving"] = serving;
            conditions["terminating"] = terminating;
            endpoints.push(json!({
                "addresses": ["10.0.0.1", "10.0.0.2"], "conditions": conditions, "hostname": "h", "nodeName": "n", "zone": "z",
                "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
                "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}, "deprecatedTopology": {"a": "b"},
            }));
        }
    }
    endpoints.push(json!({"addresses": ["fd00::1"], "conditions": null, "hints": {}}));
    let labels = json!({"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "", "app": "web"});
    let annotations = json!({
        "endpoints.kubernetes.io/last-change-trigger-time": "2024-01-02T03:04:05.25Z", "portolan.dev/weights": "10.0.0.1=5",
        "other": "x",
    });
    let port = json!({"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "h2c"});
    for (kind, labels, endpoints, ports) in [
        ("IPv4", labels.clone(), json!(endpoints), json!([port, {"name": ""}, {}])),
        ("IPv6", labels.clone(), json!(endpoints), json!(null)),
        ("FQDN", labels, json!(null), json!([])),
        ("IPv4", json!({}), json!([]), json!([port])),
    ] {
        let whole = bytes(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": kind,
            "metadata": {
                "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": labels, "annotations": annotations,
                "deletionTimestamp": "2024-01-02T03:04:05Z", "generation": 3,
            },
            "endpoints": endpoints, "ports": ports,
        }));
        let object = model::Object::decode(Resource::EndpointSlices, whole.clone().into()).unwrap();
        let kept = |bytes: &[u8]| {
            let Decoded { key, revision, noun } = decode(Resource::EndpointSlices, bytes).unwrap();
            let Noun::Slice { slice, service, triggered } = noun else { panic!("not a slice") };
            (key, revision, slice, service, triggered)
        };
        assert_eq!(kept(&slim::slim(&object)), kept(&whole), "{kind}");
    }
}

#[test]
fn a_slice_without_the_label_belongs_to_nobody() {
    let decoded = decode(Resource::EndpointSlices, &bytes(json!({"metadata": {"name": "a", "namespace": "b"}})));
    assert!(matches!(decoded.unwrap().noun, Noun::Slice { service: None, .. }));
}

#[test]
fn a_service_loses_its_selector_and_keeps_its_policies() {
    let decoded = decode(
        Resource::Services,
        &bytes(json!({
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "x", "service.kubernetes.io/service-proxy-name": "other"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "externalTrafficPolicy": "Local"},
        })),
    )
    .unwrap();
    let Noun::Service(service) = decoded.noun else { panic!("not a Service") };
    assert!(service.spec.selector.is_empty());
    assert_eq!(service.spec.external_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(service.metadata.labels.len(), 1);
}

#[test]
fn a_node_leaves_when_it_is_deleted_or_tainted() {
    let leaving = |value| match decode(Resource::Nodes, &bytes(value)).unwrap().noun {
        Noun::Node { leaving, .. } => leaving,
        other => panic!("{other:?}"),
    };
    assert!(!leaving(
        json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}})
    ));
    assert!(!leaving(json!({"metadata": {"name": "n"}, "spec": {"taints": null}})));
    assert!(leaving(
        json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}})
    ));
    assert!(leaving(json!({"metadata": {"name": "n", "deletionTimestamp": "2024-01-01T00:00:00Z"}})));
}

#[test]
fn service_cidrs_that_are_no_ranges_are_left_out() {
    let decoded = decode(
        Resource::ServiceCidrs,
        &bytes(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "x"]}})),
    );
    let Noun::ServiceCidr(ranges) = decoded.unwrap().noun else { panic!("not a ServiceCIDR") };
    assert_eq!(ranges, ["10.96.0.0/16".parse().unwrap()]);
}

#[test]
fn what_cannot_be_read_is_still_known_by_name() {
    let metadata = json!({"name": "web", "namespace": "default", "resourceVersion": "4"});
    let error =
        decode(Resource::Services, &bytes(json!({"metadata": metadata, "spec": {"ports": "many"}}))).unwrap_err();
    assert_eq!((error.key, error.revision), (Some(Key::new("default", "web")), Some(4)));
    let error = decode(Resource::Services, b"{\"metadata\": ").unwrap_err();
    assert_eq!((error.key, error.revision), (None, None));
}

#[test]
fn a_namespace_is_its_name() {
    let decoded = decode(
        Resource::Namespaces,
        &bytes(json!({"metadata": {"name": "shop", "resourceVersion": "5", "labels": {"a": "b"}}, "spec": {"finalizers": ["kubernetes"]}})),
    )
    .unwrap();
    assert_eq!((decoded.key, decoded.revision), (Key::new("", "shop"), 5));
    assert!(matches!(decoded.noun, Noun::Namespace));
}
