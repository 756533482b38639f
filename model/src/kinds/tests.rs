use expect_test::expect;
use serde_json::{Value, json};

use crate::admission::Subresource;
use crate::admission::tests::{create, refused, update};
use crate::resource::Resource;

fn slice(fields: Value) -> Value {
    let mut slice = json!({ "metadata": { "name": "web-1" }, "addressType": "IPv4" });
    for (name, value) in fields.as_object().expect("an object") {
        slice[name] = value.clone();
    }
    slice
}

#[test]
fn endpoint_slice_defaults() {
    let slice = create(Resource::EndpointSlices, slice(json!({ "ports": [{ "port": 80 }], "endpoints": null })));
    let slice = slice.expect("a slice");
    assert_eq!(slice["ports"], json!([{ "name": "", "port": 80, "protocol": "TCP" }]));
    assert_eq!(slice["endpoints"], json!([]));
}

#[test]
fn endpoint_slice_refusals() {
    let wrong = refused(
        Resource::EndpointSlices,
        slice(json!({
            "addressType": "",
            "endpoints": [{ "addresses": [] }],
            "ports": [
                { "name": "A", "port": 0, "protocol": "ICMP", "appProtocol": "a b" },
                { "name": "a" },
                { "name": "a", "port": 80 },
            ],
        })),
    );
    expect![[r#"
        addressType: Required value
        endpoints[0].addresses: Required value: must contain at least 1 address
        ports[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
        ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        ports[0].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        ports[2].name: Duplicate value: "a"
    "#]].assert_eq(&wrong);
    let addresses = ["10.0.0.1", "::1", "127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "x"];
    let wrong = refused(
        Resource::EndpointSlices,
        slice(json!({
            "endpoints": [{ "addresses": addresses, "hostname": "A", "nodeName": "a_b", "hints": {
                "forZones": [{ "name": "z" }, { "name": "z" }, { "name": "not a zone" }],
                "forNodes": (0..9).map(|i| json!({ "name": format!("n{i}") })).collect::<Vec<_>>(),
            }, "deprecatedTopology": { "-": "x" } }],
        })),
    );
    expect![[r#"
        endpoints[0].addresses[1]: Invalid value: "::1": must be a valid IPv4 address
        endpoints[0].addresses[1]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        endpoints[0].addresses[2]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        endpoints[0].addresses[3]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
        endpoints[0].addresses[4]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)
        endpoints[0].addresses[5]: Invalid value: "224.0.0.1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
        endpoints[0].addresses[6]: Invalid value: "x": must be a valid IPv4 address
        endpoints[0].nodeName: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        endpoints[0].deprecatedTopology: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        endpoints[0].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        endpoints[0].hints.forZones[1].name: Duplicate value: "z"
        endpoints[0].hints.forZones[2].name: Invalid value: "not a zone": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items
    "#]].assert_eq(&wrong);
    let many = vec![json!({ "addresses": ["10.0.0.1"] }); 1001];
    expect![[r#"
        endpoints: Too many: 1001: must have at most 1000 items
    "#]]
    .assert_eq(&refused(Resource::EndpointSlices, slice(json!({ "endpoints": many }))));
    let names = json!({ "addressType": "FQDN", "endpoints": [{ "addresses": ["example.com", "example", "a..b", "x.example.com."] }] });
    expect![[r#"
        endpoints[0].addresses[1]: Invalid value: "example": should be a domain with at least two segments separated by dots
        endpoints[0].addresses[2]: Invalid value: "a..b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]].assert_eq(&refused(Resource::EndpointSlices, slice(names)));
    expect![[r#"
        addressType: Unsupported value: "IPX": supported values: "FQDN", "IPv4", "IPv6"
    "#]]
    .assert_eq(&refused(Resource::EndpointSlices, slice(json!({ "addressType": "IPX" }))));

    let old = create(Resource::EndpointSlices, slice(json!({}))).expect("a slice");
    let mut new = old.clone();
    new["addressType"] = "IPv6".into();
    let wrong = update(Resource::EndpointSlices, Subresource::None, &old, new).expect_err("immutable");
    expect![[r#"
        addressType: Invalid value: "IPv6": field is immutable
    "#]]
    .assert_eq(&wrong);
}

#[test]
fn endpoints() {
    let object = |subsets: Value| json!({ "metadata": { "name": "web" }, "subsets": subsets });
    let wrong = refused(
        Resource::Endpoints,
        object(json!([
            {},
            { "addresses": [{ "ip": "127.0.0.1" }, { "ip": "x", "hostname": "A" }], "ports": [{ "port": 1 }, { "port": 0, "name": "a", "protocol": "X" }] },
        ])),
    );
    expect![[r#"
        subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
        subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        subsets[1].addresses[1].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        subsets[1].ports[0].name: Required value
        subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
        subsets[1].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
    "#]].assert_eq(&wrong);
    let right = create(
        Resource::Endpoints,
        object(json!([{ "addresses": [{ "ip": "10.0.0.1" }], "ports": [{ "port": 80 }] }])),
    );
    assert_eq!(right.expect("Endpoints")["subsets"][0]["ports"], json!([{ "port": 80, "protocol": "TCP" }]));
}

#[test]
fn service_cidr() {
    let object = |cidrs: &[&str]| json!({ "metadata": { "name": "extra" }, "spec": { "cidrs": cidrs } });
    let wrong: String = [
        &[][..],
        &["10.0.0.0/8", "11.0.0.0/8"],
        &["10.0.0.0/8", "fd00::/112", "11.0.0.0/8"],
        &["10.0.0.1/8"],
        &["010.0.0.0/8", "FD00::/112"],
        &["x"],
    ]
    .iter()
    .map(|cidrs| refused(Resource::ServiceCidrs, object(cidrs)))
    .collect();
    expect![[r#"
        spec.cidrs: Required value: at least one CIDR required
        spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/8","11.0.0.0/8"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64
        spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/8","fd00::/112","11.0.0.0/8"]}: may only hold up to 2 values
        spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
        spec.cidrs[0]: Invalid value: "010.0.0.0/8": must not have leading 0s in IP
        spec.cidrs[1]: Invalid value: "FD00::/112": must be in canonical form ("fd00::/112")
        spec.cidrs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
    "#]].assert_eq(&wrong);

    let change = |old: &[&str], new: &[&str]| {
        let old = create(Resource::ServiceCidrs, object(old)).expect("a ServiceCIDR");
        update(Resource::ServiceCidrs, Subresource::None, &old, object(new))
    };
    assert!(change(&["10.0.0.0/8"], &["10.0.0.0/8", "fd00::/112"]).is_ok());
    assert!(change(&["10.0.0.0/8"], &["10.0.0.0/8"]).is_ok());
    let wrong: String = [
        change(&["10.0.0.0/8"], &["11.0.0.0/8"]),
        change(&["10.0.0.0/8"], &["11.0.0.0/8", "fd00::/112"]),
        change(&["10.0.0.0/8"], &["10.0.0.0/8", "11.0.0.0/8"]),
        change(&["10.0.0.0/8", "fd00::/112"], &["10.0.0.0/8"]),
    ]
    .into_iter()
    .map(|result| result.expect_err("must be refused"))
    .collect();
    expect![[r#"
        spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable
        spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable
        spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/8","11.0.0.0/8"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64
        spec.cidrs: Invalid value: ["10.0.0.0/8"]: field is immutable
    "#]].assert_eq(&wrong);
}

#[test]
fn ip_address() {
    let object = |parent: Value| json!({ "metadata": { "name": "10.0.0.1" }, "spec": { "parentRef": parent } });
    let wrong: String =
        [Value::Null, json!({}), json!({ "group": "A", "resource": "a/b", "name": "..", "namespace": "a%b" })]
            .into_iter()
            .map(|parent| refused(Resource::IpAddresses, object(parent)))
            .collect();
    expect![[r#"
        spec.parentRef: Required value
        spec.parentRef.resource: Required value
        spec.parentRef.name: Required value
        spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        spec.parentRef.resource: Invalid value: "a/b": may not contain '/'
        spec.parentRef.name: Invalid value: "..": may not be '..'
        spec.parentRef.namespace: Invalid value: "a%b": may not contain '%'
    "#]].assert_eq(&wrong);
    let old =
        create(Resource::IpAddresses, object(json!({ "resource": "services", "name": "a" }))).expect("an IPAddress");
    let changed =
        update(Resource::IpAddresses, Subresource::None, &old, object(json!({ "resource": "services", "name": "b" })));
    expect![[r#"
        spec.parentRef: Invalid value: {"name":"b","resource":"services"}: field is immutable
    "#]]
    .assert_eq(&changed.expect_err("immutable"));
}

#[test]
fn lease() {
    let object = |spec: Value| json!({ "metadata": { "name": "a" }, "spec": spec });
    let wrong: String = [
        json!({ "leaseDurationSeconds": 0, "leaseTransitions": -1 }),
        json!({ "preferredHolder": "a" }),
        json!({ "strategy": "Mine" }),
        json!({ "strategy": "a b/c" }),
    ]
    .into_iter()
    .map(|spec| refused(Resource::Leases, object(spec)))
    .collect();
    expect![[r#"
        spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
        spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        spec.preferredHolder: Forbidden: may only be specified when `strategy` is defined
        spec.strategy: Unsupported value: "Mine": supported values: "OldestEmulationVersion"
        spec.strategy: Invalid value: "a b/c": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]].assert_eq(&wrong);
    let right = json!({ "leaseDurationSeconds": 1, "strategy": "example.com/mine", "preferredHolder": "a" });
    assert!(create(Resource::Leases, object(right)).is_ok());
    assert!(create(Resource::Leases, json!({ "metadata": { "name": "a" } })).is_ok());
}

#[test]
fn event() {
    let object = |namespace: &str, fields: Value| {
        let mut event = json!({ "metadata": { "name": "e", "namespace": namespace } });
        for (name, value) in fields.as_object().expect("an object") {
            event[name] = value.clone();
        }
        event
    };
    let new = "2024-01-01T00:00:00.000000Z";
    let wrong: String = [
        object("a", json!({ "involvedObject": { "namespace": "b" } })),
        object("a", json!({ "involvedObject": { "kind": "Node" } })),
        object("a", json!({ "eventTime": new, "involvedObject": { "namespace": "a" } })),
        object(
            "a",
            json!({ "eventTime": new, "involvedObject": { "namespace": "a" }, "reportingComponent": "a b",
            "reportingInstance": "x".repeat(129), "action": "a", "reason": "r", "message": "x".repeat(1025) }),
        ),
    ]
    .into_iter()
    .map(|event| refused(Resource::Events, event))
    .collect();
    expect![[r#"
        involvedObject.namespace: Invalid value: "b": does not match event.namespace
        involvedObject.namespace: Invalid value: "": does not match event.namespace
        reportingComponent: Required value
        reportingComponent: Invalid value: "": name part must be non-empty
        reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        reportingInstance: Required value
        action: Required value
        reason: Required value
        reportingComponent: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        reportingInstance: Invalid value: "": can have at most 128 characters
        message: Invalid value: "": can have at most 1024 characters
    "#]].assert_eq(&wrong);
    assert!(
        create(Resource::Events, object("default", json!({ "involvedObject": { "kind": "Node", "name": "n" } })))
            .is_ok()
    );
    assert!(
        create(Resource::Events, object("a", json!({ "involvedObject": { "namespace": "a" }, "type": "Normal" })))
            .is_ok()
    );
}

#[test]
fn event_of_the_new_api() {
    let event = |fields: Value| {
        let mut event = json!({
            "metadata": { "name": "e" }, "regarding": { "namespace": "default" }, "reason": "r", "note": "n",
            "type": "Normal", "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/c", "reportingInstance": "i",
        });
        for (name, value) in fields.as_object().expect("an object") {
            event[name] = value.clone();
        }
        event
    };
    let resource = Resource::EventsV1;
    let wrong: String = [
        json!({ "eventTime": null, "type": "Odd", "series": { "count": 1 } }),
        json!({ "reportingController": "", "reportingInstance": "", "action": "" }),
        json!({ "deprecatedCount": 1, "deprecatedSource": { "component": "c" },
            "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:00:00Z" }),
    ]
    .into_iter()
    .map(|fields| refused(resource, event(fields)) + "\n")
    .collect();
    expect![[r#"
        series.count: Invalid value: "": should be at least 2
        series.lastObservedTime: Required value
        eventTime: Required value
        type: Invalid value: "": has invalid value: Odd

        reportingController: Required value
        reportingController: Invalid value: "": name part must be non-empty
        reportingController: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        reportingInstance: Required value
        action: Required value

        firstTimestamp: Invalid value: "": needs to be unset
        lastTimestamp: Invalid value: "": needs to be unset
        count: Invalid value: "": needs to be unset
        source: Invalid value: "": needs to be unset

    "#]].assert_eq(&wrong);

    let stored = create(resource, event(json!({ "deprecatedCount": 0, "deprecatedSource": {} }))).expect("an event");
    assert_eq!(stored["message"], "n");
    let main = Subresource::None;
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" } });
    assert!(update(resource, main, &stored, event(series)).is_ok());
    let changed = json!({ "note": "other", "series": { "count": 1 }, "reportingController": "example.com/d" });
    expect![[r#"
        series.count: Invalid value: "": should be at least 2
        series.lastObservedTime: Required value
        message: Invalid value: "other": field is immutable
        reportingController: Invalid value: "example.com/d": field is immutable
    "#]]
    .assert_eq(&update(resource, main, &stored, event(changed.clone())).unwrap_err());
    // The old API lets a recorder say something else later.
    let mut lenient = stored.clone();
    lenient["message"] = "other".into();
    assert!(update(Resource::Events, main, &stored, lenient).is_ok());
}

#[test]
fn namespace() {
    let created = create(
        Resource::Namespaces,
        json!({ "metadata": { "name": "a", "labels": { "kubernetes.io/metadata.name": "x" } }, "status": { "phase": "Terminating" } }),
    );
    let created = created.expect("a namespace");
    assert_eq!(created["metadata"]["labels"], json!({ "kubernetes.io/metadata.name": "a" }));
    assert_eq!(created["spec"], json!({ "finalizers": ["kubernetes"] }));
    assert_eq!(created["status"], json!({ "phase": "Active" }));
    expect![[r#"
        spec.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
        spec.finalizers[1]: Invalid value: "a b/c": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
    "#]].assert_eq(&refused(Resource::Namespaces, json!({ "metadata": { "name": "a" }, "spec": { "finalizers": ["mine", "a b/c"] } })));

    let updated = update(
        Resource::Namespaces,
        Subresource::None,
        &created,
        json!({ "metadata": { "name": "a" }, "spec": {}, "status": {} }),
    );
    let updated = updated.expect("an update");
    assert_eq!((&updated["spec"], &updated["status"]), (&created["spec"], &created["status"]));
    assert_eq!(updated["metadata"]["labels"], json!({ "kubernetes.io/metadata.name": "a" }));

    let mut terminating = created.clone();
    terminating["status"]["phase"] = "Terminating".into();
    let wrong = update(Resource::Namespaces, Subresource::Status, &created, terminating.clone()).expect_err("wrong");
    expect![[r#"
        status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty
    "#]]
    .assert_eq(&wrong);
    terminating["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    let mut active = terminating.clone();
    active["status"]["phase"] = "Active".into();
    let wrong = update(Resource::Namespaces, Subresource::Status, &terminating, active).expect_err("wrong");
    expect![[r#"
        status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty
    "#]]
    .assert_eq(&wrong);
}

#[test]
fn node() {
    let object = |spec: Value, status: Value| json!({ "metadata": { "name": "n" }, "spec": spec, "status": status });
    for (text, good) in [("10053", true), ("0", false), ("65536", false), ("x", false)] {
        let mut node = object(json!({}), json!({}));
        node["metadata"]["annotations"] = json!({ "portolan.dev/dns-port": text });
        let refused = create(Resource::Nodes, node).err();
        assert_eq!(refused.is_none(), good, "{text}: {refused:?}");
    }
    let created = create(
        Resource::Nodes,
        object(
            json!({ "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"] }),
            json!({ "capacity": { "cpu": "2" }, "addresses": [{ "type": "InternalIP", "address": "1.1.1.1" }] }),
        ),
    );
    let created = created.expect("a node");
    assert_eq!(created["spec"]["podCIDR"], "10.244.1.0/24");
    assert_eq!(created["status"]["allocatable"], json!({ "cpu": "2" }));
    let wrong = refused(
        Resource::Nodes,
        object(
            json!({ "podCIDRs": ["10.244.1.0/24", "10.244.2.0/24", "x"], "taints": [{ "key": "a b", "effect": "" }, { "key": "a", "effect": "X" }, { "key": "a", "effect": "X" }] }),
            json!({ "addresses": [{ "type": "InternalIP", "address": "1.1.1.1" }, { "type": "InternalIP", "address": "1.1.1.1" }] }),
        ),
    );
    expect![[r#"
        spec.podCIDRs[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        spec.podCIDRs: Invalid value: ["10.244.1.0/24","10.244.2.0/24","x"]: may specify no more than one CIDR for each IP family
        spec.taints[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.taints[0].effect: Required value
        spec.taints[1].effect: Unsupported value: "X": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
        spec.taints[2].effect: Unsupported value: "X": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"
        spec.taints[2]: Duplicate value: {"effect":"X","key":"a"}
        status.addresses[1]: Duplicate value: {"address":"1.1.1.1","type":"InternalIP"}
    "#]].assert_eq(&wrong);
    let mut moved = created.clone();
    moved["spec"] = json!({ "podCIDR": "10.244.9.0/24", "providerID": "x" });
    let wrong = update(Resource::Nodes, Subresource::None, &created, moved).expect_err("wrong");
    expect![[r#"
        spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid
    "#]]
    .assert_eq(&wrong);
    // The main path leaves the status alone.
    let kept = update(Resource::Nodes, Subresource::None, &created, object(created["spec"].clone(), Value::Null));
    assert_eq!(kept.expect("an update")["status"], created["status"]);
}

#[test]
fn weights_are_validated_where_they_are_written() {
    let with = |annotation: &str, value: &str| json!({ annotation: value });
    let pod = |value: &str| {
        json!({
            "metadata": { "name": "p", "annotations": with("portolan.dev/weight", value) },
            "spec": { "containers": [{ "name": "c" }] },
        })
    };
    let wrong = refused(Resource::Pods, pod("101"));
    expect![[r#"
        metadata.annotations[portolan.dev/weight]: Invalid value: "101": must be an integer from 0 to 100
    "#]]
    .assert_eq(&wrong);
    let good = create(Resource::Pods, pod("0")).expect("a Pod");
    let mut bad = good.clone();
    bad["metadata"]["annotations"]["portolan.dev/weight"] = "half".into();
    for sub in [Subresource::None, Subresource::Status, Subresource::Finalize] {
        assert!(update(Resource::Pods, sub, &good, bad.clone()).is_err());
        assert!(update(Resource::Pods, sub, &bad, bad.clone()).is_ok(), "it stood there before");
    }

    let metadata = |value: &str| json!({ "name": "web-1", "annotations": with("portolan.dev/weights", value) });
    let wrong = refused(Resource::EndpointSlices, slice(json!({ "metadata": metadata("10.0.0.1=101") })));
    expect![[r#"
        metadata.annotations[portolan.dev/weights]: Invalid value: "10.0.0.1=101": the weight of 10.0.0.1 must be an integer from 0 to 100
    "#]]
    .assert_eq(&wrong);
    create(Resource::EndpointSlices, slice(json!({ "metadata": metadata("10.0.0.1=0,10.0.0.2=50") })))
        .expect("a slice");
    refused(Resource::Endpoints, json!({ "metadata": metadata("10.0.0.1") }));
}
