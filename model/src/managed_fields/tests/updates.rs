use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn a_creator_owns_what_is_there() {
    let mut lab = Lab::services();
    let sent = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web" }, "uid": "u", "generation": 1 },
        "spec": {
            "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 8080 }], "selector": { "app": "web" },
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        },
        "status": { "loadBalancer": {} },
    });
    lab.update("kubectl-create", sent);
    // Word for word what a cluster shows.
    expect![[r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}},"manager":"kubectl-create","operation":"Update","time":"1970-01-01T00:00:01Z"}]"#]].assert_eq(lab.stored.as_deref().unwrap());
}

#[test]
fn what_is_allotted_is_nobodys_unless_it_was_asked_for() {
    for (sent, owned) in [(json!({}), ""), (json!({ "spec": { "clusterIP": "10.0.0.1" } }), ".spec.clusterIP")] {
        let mut sent = sent;
        let author = Author::new(Resource::Services, "a".into(), Subresource::None, Timestamp::UNIX_EPOCH);
        let tracking = Tracking::begin(Resource::Services, author, &mut sent);
        let admitted =
            json!({ "spec": { "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"] } });
        let text = match tracking.finish(None, &admitted, None) {
            Change::Replaced(Some(text)) => text.get().to_owned(),
            _ => "[]".to_owned(),
        };
        let sets: Vec<String> = entry::decode(&text).unwrap().iter().map(|entry| paths(&entry.fields)).collect();
        assert_eq!(sets.join("; "), owned);
    }
}

fn pod(image: &str, extra: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": "p", "labels": { "app": "x" } },
        "spec": { "containers": [{ "name": "c", "image": image, "ports": [{ "containerPort": 80 }] }] },
    });
    pod.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    pod
}

#[test]
fn writers_take_what_they_change() {
    let mut lab = Lab::pods();
    lab.update("a", pod("one", json!({}))).update("b", pod("two", json!({})));
    expect![[r#"
        {"metadata":{"labels":{"app":"x"},"name":"p"},"spec":{"containers":[{"image":"two","name":"c","ports":[{"containerPort":80}]}]}}
        a Update  at 1
            .metadata.labels
            .metadata.labels.app
            .spec.containers[name="c"]
            .spec.containers[name="c"].name
            .spec.containers[name="c"].ports
            .spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]
            .spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort
        b Update  at 2
            .spec.containers[name="c"].image"#]].assert_eq(&lab.show());
    // Nothing changes: not even a time.
    let before = lab.stored.clone();
    lab.update("c", pod("two", json!({}))).update("a", pod("two", json!({})));
    assert_eq!(lab.stored, before);
    // What is gone is nobody's, and who owns nothing is gone.
    lab.update("c", json!({ "metadata": { "name": "p" }, "spec": {} }));
    assert_eq!(lab.entries(), []);
}

#[test]
fn status_is_written_through_its_own_path() {
    let mut lab = Lab::pods();
    lab.update("a", pod("one", json!({ "status": { "phase": "Pending" } })));
    lab.update_at("kubelet", Subresource::Status, pod("one", json!({ "status": { "phase": "Running" } })));
    lab.update_at(
        "kubelet",
        Subresource::Status,
        pod("one", json!({ "status": { "phase": "Failed", "podIP": "10.0.0.1" } })),
    );
    let entries = lab.entries();
    assert_eq!(paths(&entries[1].fields), ".status.phase .status.podIP");
    assert_eq!((entries[1].manager.as_str(), entries[1].subresource.as_str()), ("kubelet", "status"));
    assert!(!paths(&entries[0].fields).contains("status"));
    let claims = json!([{ "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}, "manager": "x", "operation": "Update" }]);
    let mut through_status = pod("one", json!({ "status": { "phase": "Running", "podIP": "10.0.0.1" } }));
    through_status["metadata"]["managedFields"] = claims;
    lab.update_at("kubelet", Subresource::Status, through_status);
    assert_eq!(lab.entries().len(), 2, "managedFields are not the status path's to write");
}

#[test]
fn the_short_way_agrees_with_the_long_one() {
    let status = |ready: &str, at: &str| {
        pod(
            "one",
            json!({ "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": ready, "lastTransitionTime": at }, { "type": "Other", "status": "True" }] } }),
        )
    };
    let mut lab = Lab::pods();
    lab.update("a", pod("one", json!({ "status": { "phase": "Pending" } })));
    lab.update_at("kubelet", Subresource::Status, status("False", "1"));
    let before = lab.entries();
    lab.update_at("kubelet", Subresource::Status, status("True", "2"));
    let after = lab.entries();
    assert_eq!(before[1].fields, after[1].fields);
    assert_eq!((before[0].clone(), after[1].time), (after[0].clone(), Timestamp::from_second(3).ok()));
    // One second has two writes: the text stays byte for byte.
    lab.seconds -= 1;
    let text = lab.stored.clone();
    lab.update_at("kubelet", Subresource::Status, status("False", "3"));
    assert_eq!(lab.stored, text);
    // Somebody else takes a field: no short way.
    lab.update_at("other", Subresource::Status, status("True", "3"));
    assert_eq!(paths(&lab.entries()[2].fields), r#".status.conditions[type="Ready"].status"#);
    lab.update_at("kubelet", Subresource::Status, status("False", "3"));
    assert_eq!(lab.entries().len(), 2);
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut lab = Lab::services();
    let mut labels = json!({ "keep": "x" });
    for n in 0..14 {
        labels[format!("l{n}")] = "x".into();
        lab.update(&format!("m{n}"), json!({ "metadata": { "labels": labels } }));
    }
    let entries = lab.entries();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0].manager, "ancient-changes");
    assert_eq!(entries[0].time, Timestamp::from_second(5).ok());
    expect![[r#".metadata.labels .metadata.labels.keep .metadata.labels.l0 .metadata.labels.l1 .metadata.labels.l2 .metadata.labels.l3 .metadata.labels.l4"#]].assert_eq(&paths(&entries[0].fields));
    lab.apply("applier", json!({ "metadata": { "labels": { "keep": "x" } } }));
    assert_eq!(lab.entries().len(), 11, "appliers do not count");
}

#[test]
fn what_clients_write_into_managed_fields() {
    let with = |managers: Value| {
        let mut object = pod("one", json!({}));
        object["metadata"]["managedFields"] = managers;
        object
    };
    let lab = || {
        let mut lab = Lab::pods();
        lab.update("a", pod("one", json!({})));
        lab
    };
    for reset in [json!([]), json!([{}])] {
        let mut lab = lab();
        lab.update("b", with(reset));
        assert_eq!(lab.stored, None);
        lab.update("b", pod("two", json!({})));
        assert_eq!(lab.stored, None, "nobody knows who wrote the rest");
    }
    let valid = json!({ "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:x": {} } },
                        "manager": "z", "operation": "Apply" });
    let mut taken = lab();
    taken.update("b", with(json!([valid])));
    expect![[r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:x":{}}},"manager":"z","operation":"Apply"}]"#]]
        .assert_eq(taken.stored.as_deref().unwrap());
    for (field, wrong) in
        [("operation", "Guess"), ("fieldsType", ""), ("apiVersion", ""), ("time", "yesterday"), ("fieldsV1", "x")]
    {
        let mut entry = valid.clone();
        entry[field] = wrong.into();
        let mut lab = lab();
        let before = lab.stored.clone();
        lab.update("b", with(json!([entry])));
        assert_eq!(lab.stored, before, "{field}");
    }
    let mut null = lab();
    let before = null.stored.clone();
    null.update("b", with(Value::Null));
    assert_eq!(null.stored, before);
}

#[test]
fn lists_of_every_sort() {
    let mut lab = Lab::new(Resource::Nodes);
    lab.update("a", json!({ "metadata": { "finalizers": ["x/a"] }, "spec": { "podCIDRs": ["10.0.0.0/24"], "taints": [{ "key": "k" }] } }));
    lab.update(
        "b",
        json!({ "metadata": { "finalizers": ["x/a", "x/b"] },
                "spec": { "podCIDRs": ["10.0.1.0/24"], "taints": [{ "key": "k" }, { "key": "l" }] } }),
    );
    expect![[r#"
        {"metadata":{"finalizers":["x/a","x/b"]},"spec":{"podCIDRs":["10.0.1.0/24"],"taints":[{"key":"k"},{"key":"l"}]}}
        a Update  at 1
            .metadata.finalizers
            .metadata.finalizers[="x/a"]
            .spec.podCIDRs
        b Update  at 2
            .metadata.finalizers[="x/b"]
            .spec.taints
            .spec.podCIDRs[="10.0.1.0/24"]"#]]
    .assert_eq(&lab.show());
}

/// Node addresses may have one type twice, which no key tells apart: then the items are owned as one.
#[test]
fn items_that_no_key_tells_apart() {
    let addresses = |addresses: Value| json!({ "status": { "addresses": addresses } });
    let mut lab = Lab::new(Resource::Nodes);
    lab.update_at("a", Subresource::Status, addresses(json!([{ "type": "InternalIP", "address": "1" }])));
    lab.update_at(
        "b",
        Subresource::Status,
        addresses(json!([{ "type": "InternalIP", "address": "1" }, { "type": "InternalIP", "address": "2" }])),
    );
    assert_eq!(paths(&lab.entries()[1].fields), r#".status.addresses[type="InternalIP"]"#);
    let before = lab.entries();
    lab.update_at(
        "c",
        Subresource::Status,
        addresses(json!([{ "type": "InternalIP", "address": "1" }, { "type": "InternalIP", "address": "3" }])),
    );
    assert_eq!((lab.entries().len(), before.len()), (2, 2));
    assert_eq!(lab.entries()[1].manager, "c");
    lab.update_at("d", Subresource::Status, addresses(json!([{ "type": "InternalIP", "address": "1" }])));
    assert_eq!(
        paths(&lab.entries()[1].fields),
        r#".status.addresses[type="InternalIP"] .status.addresses[type="InternalIP"].address .status.addresses[type="InternalIP"].type"#
    );
}
