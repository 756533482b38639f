//! Metadata, the division between spec and status, and Services on their way through. The other kinds are tested
//! beside their rules, with the helpers of this module.

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::events;
use crate::schema::tests::any_document;

pub(crate) fn cluster() -> Cluster {
    Cluster { families: vec![Family::V4, Family::V6] }
}

/// What is stored, in the form in which it is, or the errors, a line each.
pub(crate) fn create(resource: Resource, mut object: Value) -> Result<Value, String> {
    identify(resource, &mut object);
    events::to_stored(resource, &mut object);
    match prepare_create(resource, &mut object, &cluster()) {
        Ok(_) => Ok(object),
        Err(errors) => Err(lines(&errors)),
    }
}

/// As [`create`], of an object that replaces `old`.
pub(crate) fn update(resource: Resource, sub: Subresource, old: &Value, mut new: Value) -> Result<Value, String> {
    identify(resource, &mut new);
    events::to_stored(resource, &mut new);
    let old = Object::decode(resource.stored(), Bytes::from(old.to_string())).expect("an object");
    match prepare_update(resource, sub, &old, &old.value().unwrap(), &mut new, &cluster()) {
        Ok(_) => Ok(new),
        Err(errors) => Err(lines(&errors)),
    }
}

/// The errors of a create that must fail.
pub(crate) fn refused(resource: Resource, object: Value) -> String {
    create(resource, object).expect_err("must be refused")
}

/// Fills in what the API fills in.
fn identify(resource: Resource, object: &mut Value) {
    object["kind"] = resource.info().kind.into();
    object["apiVersion"] = resource.info().api_version().into();
    if resource.info().namespaced && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = "default".into();
    }
}

fn lines(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

fn lease(metadata: Value) -> Result<Value, String> {
    create(Resource::Leases, json!({ "metadata": metadata }))
}

#[test]
fn what_a_client_may_not_say_is_wiped() {
    let lease = lease(json!({
        "name": "a", "uid": "x", "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 1, "selfLink": "/x", "generation": 7, "labels": null,
    }));
    assert_eq!(lease.expect("a lease")["metadata"], json!({ "name": "a", "namespace": "default" }));
    let service = create(
        Resource::Services,
        json!({
            "metadata": { "name": "a" },
            "spec": { "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "1.1.1.1" }] } },
        }),
    );
    assert_eq!(service.expect("a service")["status"], json!({ "loadBalancer": {} }));
}

#[test]
fn names() {
    let mut out = String::new();
    for (resource, metadata) in [
        (Resource::Leases, json!({})),
        (Resource::Leases, json!({ "name": "A" })),
        (Resource::Leases, json!({ "generateName": "a_" })),
        (Resource::Leases, json!({ "name": "a", "namespace": "B" })),
        (Resource::Services, json!({ "name": "1-a" })),
        (Resource::Namespaces, json!({ "name": "a.b" })),
        (Resource::Namespaces, json!({ "name": "a", "namespace": "b" })),
        (Resource::IpAddresses, json!({ "name": "010.0.0.1" })),
        (Resource::IpAddresses, json!({ "name": "2001:DB8::1" })),
        (Resource::IpAddresses, json!({ "name": "web" })),
    ] {
        let spec = match resource {
            Resource::Services => json!({ "ports": [{ "port": 80 }] }),
            Resource::IpAddresses => json!({ "parentRef": { "resource": "services", "name": "a" } }),
            _ => Value::Null,
        };
        out.push_str(&refused(resource, json!({ "metadata": metadata, "spec": spec })));
    }
    expect![[r#"
        metadata.name: Required value: name or generateName is required
        metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        metadata.generateName: Invalid value: "a_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        metadata.namespace: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        metadata.name: Invalid value: "1-a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
        metadata.name: Invalid value: "a.b": must not contain dots
        metadata.namespace: Forbidden: not allowed on this type
        metadata.name: Invalid value: "010.0.0.1": must not have leading 0s
        metadata.name: Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")
        metadata.name: Invalid value: "web": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
    "#]].assert_eq(&out);
    assert!(lease(json!({ "generateName": "web-" })).is_ok());
    assert!(
        create(
            Resource::IpAddresses,
            json!({
                "metadata": { "name": "2001:db8::1" },
                "spec": { "parentRef": { "resource": "services", "name": "a", "namespace": "default" } },
            })
        )
        .is_ok()
    );
}

#[test]
fn metadata_content() {
    let wrong = lease(json!({
        "name": "a",
        "labels": { "-k": "v", "a/b/c": "v", "k": "not a value" },
        "annotations": { "UPPER.case/x": "fine", "a b": "", "large": "x".repeat(256 * 1024) },
        "finalizers": ["orphan", "foregroundDeletion", "plain", "example.com/mine", "a b/c"],
        "ownerReferences": [
            { "apiVersion": "", "kind": "", "name": "", "uid": "" },
            { "apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1", "controller": true },
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "2", "controller": true },
        ],
    }));
    expect![[r#"
        metadata.labels: Invalid value: "-k": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.labels: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        metadata.labels: Invalid value: "not a value": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        metadata.annotations: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.annotations: Too long: may not be more than 262144 bytes
        metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty
        metadata.ownerReferences.kind: Invalid value: "": must not be empty
        metadata.ownerReferences.name: Invalid value: "": must not be empty
        metadata.ownerReferences.uid: Invalid value: "": must not be empty
        metadata.ownerReferences: Invalid value: {"apiVersion":"v1","controller":true,"kind":"Event","name":"e","uid":"1"}: /v1, Kind=Event is disallowed from being an owner
        metadata.ownerReferences: Invalid value: [{"apiVersion":"","kind":"","name":"","uid":""},{"apiVersion":"v1","controller":true,"kind":"Event","name":"e","uid":"1"},{"apiVersion":"apps/v1","controller":true,"kind":"Deployment","name":"d","uid":"2"}]: Only one reference can have Controller set to true. Found "true" in references for Event/e and Deployment/d
        metadata.finalizers: Invalid value: "a b/c": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        metadata.finalizers: Invalid value: ["orphan","foregroundDeletion","plain","example.com/mine","a b/c"]: finalizer orphan and foregroundDeletion cannot be both set
        metadata.finalizers[2]: Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified
    "#]].assert_eq(&wrong.expect_err("wrong"));
}

#[test]
fn metadata_on_update() {
    let old = json!({ "metadata": {
        "name": "a", "namespace": "default", "uid": "1", "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2021-01-01T00:00:00Z", "finalizers": ["a/b"],
    } });
    let kept = update(Resource::Leases, Subresource::None, &old, json!({ "metadata": { "labels": { "a": "b" } } }));
    let expected = json!({
        "name": "a", "namespace": "default", "uid": "1", "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2021-01-01T00:00:00Z", "labels": { "a": "b" },
    });
    assert_eq!(kept.expect("an update")["metadata"], expected);
    let changed = json!({ "metadata": { "name": "b", "namespace": "c", "uid": "2", "finalizers": ["a/b", "c/d"] } });
    let wrong = update(Resource::Leases, Subresource::None, &old, changed);
    expect![[r#"
        metadata.name: Invalid value: "b": field is immutable
        metadata.namespace: Invalid value: "c": field is immutable
        metadata.uid: Invalid value: "2": field is immutable
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}
    "#]].assert_eq(&wrong.expect_err("wrong"));
}

#[test]
fn spec_and_status_are_written_apart() {
    let spec = json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30000 }], "selector": { "a": "b" },
        "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true });
    let old = json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": "a", "namespace": "default", "uid": "1" }, "spec": spec,
        "status": { "loadBalancer": { "ingress": [{ "ip": "1.1.1.1", "ipMode": "VIP" }] } } });
    let mut new = old.clone();
    new["spec"]["selector"] = json!({ "c": "d" });
    new["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "2.2.2.2" }] } });

    let main = update(Resource::Services, Subresource::None, &old, new.clone()).expect("an update");
    assert_eq!((&main["spec"]["selector"], &main["status"]), (&json!({ "c": "d" }), &old["status"]));

    let status = update(Resource::Services, Subresource::Status, &old, new).expect("an update");
    assert_eq!(status["spec"], old["spec"]);
    assert_eq!(status["status"]["loadBalancer"]["ingress"], json!([{ "ip": "2.2.2.2", "ipMode": "VIP" }]));
}

#[test]
fn a_services_metadata_and_spec_are_reported_together() {
    let wrong = refused(
        Resource::Services,
        json!({
            "metadata": { "name": "a", "labels": { "k": "not a value" } },
            "spec": { "ports": [{ "port": 99_999 }] },
        }),
    );
    expect![[r#"
        metadata.labels: Invalid value: "not a value": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive
    "#]].assert_eq(&wrong);
}

#[test]
fn wrong_types_are_refused() {
    expect![[r#"
        patch: Invalid value: json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort
    "#]].assert_eq(&refused(Resource::Services, json!({ "metadata": { "name": "a" }, "spec": { "ports": "x" } })));
    let mut text = Value::from("x");
    assert!(prepare_create(Resource::Pods, &mut text, &cluster()).is_err());
}

#[test]
fn generation_counts_changes_of_content() {
    let slice = json!({ "metadata": { "name": "a" }, "addressType": "IPv4" });
    let old = create(Resource::EndpointSlices, slice.clone()).expect("a slice");
    assert_eq!(old["metadata"]["generation"], 1);
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    let same = update(Resource::EndpointSlices, Subresource::None, &old, labelled).expect("an update");
    assert_eq!(same["metadata"]["generation"], 1);
    let mut changed = old.clone();
    changed["ports"] = json!([{ "port": 80 }]);
    let changed = update(Resource::EndpointSlices, Subresource::None, &old, changed).expect("an update");
    assert_eq!(changed["metadata"]["generation"], 2);
}

/// An object of each kind that is right.
fn samples() -> Vec<(Resource, Value)> {
    let named = |spec: Value| json!({ "metadata": { "name": "a" }, "spec": spec });
    vec![
        (Resource::Namespaces, named(json!({}))),
        (
            Resource::Nodes,
            named(json!({ "podCIDR": "10.244.1.0/24", "taints": [{ "key": "a", "effect": "NoExecute" }] })),
        ),
        (
            Resource::Pods,
            named(
                json!({ "containers": [{ "name": "a", "ports": [{ "containerPort": 80 }] }], "volumes": [{ "name": "v" }] }),
            ),
        ),
        (Resource::Services, named(json!({ "ports": [{ "port": 80 }], "selector": { "a": "b" }, "type": "NodePort" }))),
        (Resource::Services, named(json!({ "ports": [{ "port": 80 }], "clusterIP": "None" }))),
        (Resource::Services, named(json!({ "type": "ExternalName", "externalName": "example.com" }))),
        (
            Resource::Endpoints,
            json!({ "metadata": { "name": "a" }, "subsets": [{ "addresses": [{ "ip": "10.0.0.1" }], "ports": [{ "port": 80 }] }] }),
        ),
        (
            Resource::Events,
            json!({ "metadata": { "name": "a" }, "involvedObject": { "namespace": "default" }, "reason": "r" }),
        ),
        (
            Resource::EndpointSlices,
            json!({ "metadata": { "name": "a" }, "addressType": "IPv4", "endpoints": [{ "addresses": ["10.0.0.1"] }], "ports": [{ "port": 80 }] }),
        ),
        (Resource::ServiceCidrs, named(json!({ "cidrs": ["10.0.0.0/8"] }))),
        (
            Resource::IpAddresses,
            json!({ "metadata": { "name": "10.0.0.1" }, "spec": { "parentRef": { "resource": "services", "name": "a" } } }),
        ),
        (Resource::Leases, named(json!({ "holderIdentity": "a" }))),
        (
            Resource::EventsV1,
            json!({
                "metadata": { "name": "a" }, "regarding": { "namespace": "default" }, "reason": "r", "note": "n",
                "type": "Normal", "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "example.com/c", "reportingInstance": "i",
            }),
        ),
        (Resource::ServiceAccounts, json!({ "metadata": { "name": "a" }, "automountServiceAccountToken": false })),
        (
            Resource::Roles,
            json!({ "metadata": { "name": "a" }, "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
        ),
        (
            Resource::RoleBindings,
            json!({ "metadata": { "name": "a" }, "roleRef": { "kind": "Role", "name": "a" }, "subjects": [{ "kind": "User", "name": "a" }] }),
        ),
        (Resource::ClusterRoles, json!({ "metadata": { "name": "a:b" }, "rules": null })),
        (
            Resource::ClusterRoleBindings,
            json!({ "metadata": { "name": "a" }, "roleRef": { "kind": "ClusterRole", "name": "a:b" } }),
        ),
        (
            Resource::Tokens,
            json!({
                "metadata": { "name": "abcdef" },
                "spec": { "purpose": "Access", "hash": format!("sha256:{}", "0".repeat(64)), "user": "a" },
            }),
        ),
        (Resource::Secrets, json!({ "metadata": { "name": "a" }, "stringData": { "a": "b" } })),
        (
            Resource::AddressPools,
            json!({ "metadata": { "name": "a" }, "spec": { "addresses": ["192.0.2.1-192.0.2.9", "2001:db8::/64"] } }),
        ),
        (
            Resource::LoadBalancers,
            json!({
                "metadata": { "name": "lb-a" },
                "spec": { "listeners": [{
                    "port": 443, "protocol": "HTTPS", "http": {}, "healthCheck": { "kind": "HTTP" },
                    "backends": [{ "namespace": "a", "name": "b", "port": 80 }],
                    "tls": { "certificates": [{ "namespace": "a", "name": "c" }] },
                }] },
            }),
        ),
        (
            Resource::AccessLists,
            json!({ "metadata": { "name": "a" }, "spec": { "entries": [{ "cidr": "192.0.2.1" }] } }),
        ),
    ]
}

#[test]
fn an_update_that_changes_nothing_changes_nothing() {
    let samples = samples();
    for resource in Resource::ALL {
        assert!(samples.iter().any(|(sample, _)| *sample == resource), "no sample of {resource}");
    }
    for (resource, sample) in samples {
        let stored = create(resource, sample).unwrap_or_else(|e| panic!("{resource}: {e}"));
        let again = update(resource, Subresource::None, &stored, stored.clone());
        assert_eq!(again.as_ref(), Ok(&stored), "{resource}");
        if resource.info().status {
            let status = update(resource, Subresource::Status, &stored, stored.clone());
            assert_eq!(status.as_ref(), Ok(&stored), "{resource}/status");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is let in can be read again by the typed views and fits the schema.
    #[test]
    fn what_is_let_in_can_be_stored((resource, mut object) in any_document(), named: bool) {
        if named {
            object["metadata"] = json!({ "name": "a" });
        }
        if object.is_object() && object["metadata"].is_object() {
            for sub in [Subresource::None, Subresource::Status] {
                for (_, old) in samples().into_iter().filter(|(sample, _)| *sample == resource) {
                    let old = create(resource, old).expect("a sample");
                    if let Ok(updated) = update(resource, sub, &old, object.clone()) {
                        stores(resource, &updated);
                    }
                }
            }
            if let Ok(created) = create(resource, object) {
                stores(resource, &created);
            }
        }
    }
}

fn stores(resource: Resource, object: &Value) {
    let resource = resource.stored();
    assert_eq!(schema::check(resource, object).mismatched, Vec::<String>::new());
    Object::decode(resource, Bytes::from(object.to_string())).expect("a stored object");
}
