use expect_test::expect;
use serde_json::json;

use super::*;

fn ports(ports: Value) -> Value {
    json!({ "spec": { "ports": ports } })
}

#[test]
fn an_applier_owns_what_it_says() {
    let mut lab = Lab::services();
    lab.apply("a", json!({ "metadata": { "name": "web", "labels": { "x": "1" } }, "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } }));
    lab.apply(
        "b",
        json!({ "metadata": { "labels": { "y": "2" } }, "spec": { "ports": [{ "port": 443, "name": "tls" }] } }),
    );
    expect![[r#"
        {"metadata":{"labels":{"x":"1","y":"2"},"name":"web"},"spec":{"ports":[{"port":80},{"name":"tls","port":443}],"type":"NodePort"}}
        a Apply  at 1
            .metadata.labels.x
            .spec.type
            .spec.ports[port=80,protocol="TCP"]
            .spec.ports[port=80,protocol="TCP"].port
        b Apply  at 2
            .metadata.labels.y
            .spec.ports[port=443,protocol="TCP"]
            .spec.ports[port=443,protocol="TCP"].name
            .spec.ports[port=443,protocol="TCP"].port"#]].assert_eq(&lab.show());
    // Again: not even a time changes.
    let before = (lab.live.clone(), lab.stored.clone());
    lab.apply("a", json!({ "metadata": { "name": "web", "labels": { "x": "1" } }, "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } }));
    assert_eq!((lab.live.clone(), lab.stored.clone()), before);
    // Each takes out its own, also the last item of a list.
    lab.apply("a", json!({ "spec": { "type": "NodePort" } })).apply("b", json!({ "spec": {} }));
    expect![[r#"
        {"metadata":{"name":"web"},"spec":{"type":"NodePort"}}
        a Apply  at 4
            .spec.type
        b Apply  at 5
            .spec"#]]
    .assert_eq(&lab.show());
}

#[test]
fn conflicts_and_force() {
    let mut lab = Lab::services();
    lab.apply("a", json!({ "metadata": { "labels": { "x": "1" } }, "spec": { "type": "NodePort" } }));
    lab.update(
        "kubectl-edit",
        json!({ "metadata": { "labels": { "x": "1" } }, "spec": { "type": "NodePort", "sessionAffinity": "None" } }),
    );
    let before = lab.show();
    let one = lab.try_apply("b", json!({ "spec": { "type": "ClusterIP" } }), false).unwrap_err();
    let all = json!({ "metadata": { "labels": { "x": "2" } }, "spec": { "type": "ClusterIP", "sessionAffinity": "ClientIP" } });
    let many = lab.try_apply("b", all.clone(), false).unwrap_err();
    expect![[r#"
        Apply failed with 1 conflict: conflict with "a": .spec.type
        Apply failed with 3 conflicts: conflicts with "a":
        - .metadata.labels.x
        - .spec.type
        conflicts with "kubectl-edit" using v1:
        - .spec.sessionAffinity"#]]
    .assert_eq(&format!("{one}\n{many}"));
    assert_eq!(lab.show(), before);
    lab.force("b", all);
    expect![[r#"
        {"metadata":{"labels":{"x":"2"}},"spec":{"sessionAffinity":"ClientIP","type":"ClusterIP"}}
        b Apply  at 5
            .metadata.labels.x
            .spec.sessionAffinity
            .spec.type"#]]
    .assert_eq(&lab.show());
}

#[test]
fn same_value_is_shared() {
    let mut lab = Lab::services();
    lab.apply("a", json!({ "spec": { "type": "NodePort" } }))
        .apply("b", json!({ "spec": { "type": "NodePort", "sessionAffinity": "None" } }));
    assert_eq!(paths(&lab.entries()[0].fields), ".spec.type");
    assert_eq!(paths(&lab.entries()[1].fields), ".spec.sessionAffinity .spec.type");
    // What another one still owns does not go, and is not shared any more.
    lab.apply("a", json!({ "spec": { "externalName": "x" } }));
    assert_eq!(
        lab.live.clone().unwrap()["spec"],
        json!({ "type": "NodePort", "sessionAffinity": "None", "externalName": "x" })
    );
    // The last one takes it along.
    lab.apply("b", json!({ "spec": { "sessionAffinity": "None" } }));
    assert_eq!(lab.live.clone().unwrap()["spec"], json!({ "sessionAffinity": "None", "externalName": "x" }));
    // An update takes a shared field from all.
    lab.apply("a", json!({ "spec": { "sessionAffinity": "None" } }));
    lab.update("c", json!({ "spec": { "sessionAffinity": "ClientIP" } }));
    assert_eq!(
        lab.entries().iter().map(|e| (e.manager.as_str(), paths(&e.fields))).collect::<Vec<_>>(),
        [("c", ".spec.sessionAffinity".to_owned())]
    );
}

#[test]
fn a_dropped_field_that_an_updater_owns_stays() {
    let mut lab = Lab::services();
    lab.apply("a", json!({ "spec": { "type": "NodePort" }, "metadata": { "labels": { "l": "1" } } }));
    lab.update("u", json!({ "spec": { "type": "LoadBalancer" }, "metadata": { "labels": { "l": "1" } } }));
    lab.apply("a", json!({ "metadata": { "labels": { "l": "1" } } }));
    assert_eq!(lab.live.clone().unwrap()["spec"], json!({ "type": "LoadBalancer" }));
}

#[test]
fn items_keep_their_order() {
    let order = |lab: &Lab| -> String {
        let ports = lab.live.clone().unwrap()["spec"]["ports"].clone();
        ports.as_array().unwrap().iter().map(|port| port["port"].to_string()).collect::<Vec<_>>().join(" ")
    };
    let list = |ports: &[i32]| super::applies::ports(ports.iter().map(|port| json!({ "port": port })).collect());
    let after = |live: &[i32], applied: &[i32]| {
        let mut lab = Lab::services();
        lab.update("u", list(live)).apply("a", list(applied));
        order(&lab)
    };
    let lines = [
        after(&[1, 2, 3], &[2]),
        after(&[1, 2, 3], &[3, 1]),
        after(&[1, 2], &[3, 2]),
        after(&[1, 2, 9], &[2, 1, 5]),
        after(&[], &[2, 1]),
        after(&[1, 2, 3], &[4, 5]),
        after(&[1, 2, 3, 4], &[7, 2, 8, 4, 9]),
    ];
    expect![[r#"
        1 2 3
        2 3 1
        1 3 2
        2 9 1 5
        2 1
        1 2 3 4 5
        1 7 2 3 8 4 9"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn one_port_in_two_protocols() {
    let mut lab = Lab::services();
    lab.apply("tcp", ports(json!([{ "port": 53, "name": "t" }])));
    lab.apply("udp", ports(json!([{ "port": 53, "protocol": "UDP", "name": "u" }])));
    lab.apply("tcp", ports(json!([{ "port": 53, "protocol": "TCP", "name": "t" }])));
    assert_eq!(
        lab.live.clone().unwrap()["spec"]["ports"],
        json!([{ "port": 53, "name": "t", "protocol": "TCP" }, { "port": 53, "protocol": "UDP", "name": "u" }])
    );
    lab.apply("tcp", json!({ "spec": {} }));
    assert_eq!(lab.live.clone().unwrap()["spec"]["ports"], json!([{ "port": 53, "protocol": "UDP", "name": "u" }]));
}

#[test]
fn sets_unite_and_atomic_values_are_replaced() {
    let mut lab = Lab::new(Resource::Nodes);
    lab.apply("a", json!({ "metadata": { "finalizers": ["x/a", "x/s"] }, "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] } }));
    lab.apply("b", json!({ "metadata": { "finalizers": ["x/b", "x/s"] } }));
    let conflict = lab.try_apply("b", json!({ "spec": { "taints": [] } }), false).unwrap_err();
    assert_eq!(conflict, "Apply failed with 1 conflict: conflict with \"a\": .spec.taints");
    lab.apply("a", json!({ "metadata": { "finalizers": ["x/a"] } }));
    let live = lab.live.clone().unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/b", "x/s"]));
    assert_eq!(live.pointer("/spec/taints"), None);
    let mut lab = Lab::services();
    lab.apply("a", json!({ "spec": { "selector": { "app": "x", "tier": "y" } } }));
    lab.force("b", json!({ "spec": { "selector": { "app": "z" } } }));
    assert_eq!(lab.live.clone().unwrap()["spec"]["selector"], json!({ "app": "z" }));
    assert_eq!(lab.entries().len(), 1);
}

#[test]
fn nested_lists() {
    let container = |env: Value| json!({ "spec": { "containers": [{ "name": "c", "env": env }] } });
    let mut lab = Lab::pods();
    lab.apply(
        "a",
        json!({ "spec": { "containers": [{ "name": "c", "image": "i", "env": [{ "name": "A", "value": "1" }] }] } }),
    );
    lab.apply("b", container(json!([{ "name": "B", "value": "2" }])));
    let conflict = lab.try_apply("b", container(json!([{ "name": "A", "value": "2" }])), false).unwrap_err();
    assert_eq!(
        conflict,
        r#"Apply failed with 1 conflict: conflict with "a": .spec.containers[name="c"].env[name="A"].value"#
    );
    lab.apply("b", container(json!([{ "name": "C", "value": "3" }])));
    assert_eq!(
        lab.live.clone().unwrap()["spec"]["containers"],
        json!([{ "name": "c", "image": "i", "env": [{ "name": "A", "value": "1" }, { "name": "C", "value": "3" }] }])
    );
    lab.apply("b", json!({ "metadata": { "labels": { "x": "y" } } }));
    assert_eq!(
        lab.live.clone().unwrap()["spec"]["containers"],
        json!([{ "name": "c", "image": "i", "env": [{ "name": "A", "value": "1" }] }])
    );
}

#[test]
fn objects_that_nobody_tracked() {
    let mut lab = Lab::services();
    lab.live = Some(json!({ "metadata": { "name": "old" }, "spec": { "type": "NodePort", "clusterIP": "10.0.0.1" } }));
    let conflict = lab.try_apply("a", json!({ "spec": { "type": "ClusterIP" } }), false).unwrap_err();
    assert_eq!(conflict, "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.type");
    lab.apply("a", json!({ "metadata": { "labels": { "x": "y" } } }));
    expect![[r#"
        {"metadata":{"labels":{"x":"y"},"name":"old"},"spec":{"clusterIP":"10.0.0.1","type":"NodePort"}}
        a Apply  at 2
            .metadata.labels.x
        before-first-apply Update  at 2
            .spec.clusterIP
            .spec.type"#]]
    .assert_eq(&lab.show());
}

#[test]
fn kubectl_takes_over_what_it_applied_itself() {
    let last = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "annotations": {} },
                       "spec": { "type": "NodePort", "sessionAffinity": "None" } });
    let mut lab = Lab::services();
    let annotations = json!({ "kubectl.kubernetes.io/last-applied-configuration": last.to_string() });
    lab.update("kubectl-client-side-apply",
               json!({ "metadata": { "annotations": annotations }, "spec": { "type": "NodePort", "sessionAffinity": "None" } }));
    let config = json!({ "metadata": { "annotations": {} }, "spec": { "type": "ClusterIP" } });
    assert!(lab.try_apply("other", config.clone(), false).is_err());
    lab.apply("kubectl", config);
    let live = lab.live.clone().unwrap();
    assert_eq!(live["spec"], json!({ "type": "ClusterIP", "sessionAffinity": "None" }));
    let annotation =
        live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    expect![[r#"
        {"apiVersion":"v1","kind":"Service","metadata":{"annotations":{}},"spec":{"type":"ClusterIP"}}
    "#]]
    .assert_eq(annotation);
    // Not what somebody else has changed since.
    lab.update(
        "edit",
        json!({ "metadata": { "annotations": live["metadata"]["annotations"] },
                               "spec": { "type": "NodePort", "sessionAffinity": "None" } }),
    );
    let conflict = lab.try_apply("kubectl", json!({ "spec": { "type": "ClusterIP" } }), false).unwrap_err();
    assert_eq!(conflict, "Apply failed with 1 conflict: conflict with \"edit\" using v1: .spec.type");
}

#[test]
fn what_cannot_be_applied() {
    let mut lines = Vec::new();
    let mut refuse = |resource: Resource, config: Value| {
        let author = Author::new(resource, "a".into(), Subresource::None, Timestamp::UNIX_EPOCH);
        lines.push(apply(resource, &author, &config, None, None, true).map(|_| "fine".to_owned()).unwrap_or_else(
            |error| match error {
                ApplyError::Malformed(text) => text,
                ApplyError::Conflicts(conflicts) => conflicts.to_string(),
            },
        ));
    };
    let service = |rest: Value| {
        let mut config =
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" } });
        config.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        config
    };
    refuse(Resource::Services, json!({}));
    refuse(Resource::Services, json!({ "apiVersion": "apps/v1", "kind": "Deployment" }));
    refuse(Resource::Services, service(json!({ "metadata": { "managedFields": [] } })));
    refuse(Resource::Services, service(json!({ "metadata": { "managedFields": null } })));
    refuse(Resource::Services, service(json!({ "spec": { "selectr": {} } })));
    refuse(Resource::Services, service(json!({ "spec": { "ports": {} } })));
    refuse(
        Resource::Services,
        service(json!({ "spec": { "ports": [{ "port": 80 }, { "port": 80, "protocol": "TCP" }] } })),
    );
    refuse(Resource::Services, service(json!({ "metadata": { "finalizers": ["a/b", "a/b"] } })));
    refuse(Resource::Pods, json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "containers": [{ "image": "x" }] } }));
    refuse(Resource::Leases, json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": { "x": 1 } }));
    expect![[r#"
        invalid object type: /, Kind=
        invalid object type: apps/v1, Kind=Deployment
        metadata.managedFields must be nil
        fine
        failed to create typed patch object (default/web; /v1, Kind=Service): .spec.selectr: field not declared in schema
        failed to create typed patch object (default/web; /v1, Kind=Service): json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort
        failed to create typed patch object (default/web; /v1, Kind=Service): .spec.ports: duplicate entries for key [port=80,protocol="TCP"]
        failed to create typed patch object (/; /v1, Kind=Service): .metadata.finalizers: duplicate entries for key [="a/b"]
        failed to create typed patch object (/; /v1, Kind=Pod): .spec.containers: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)
        failed to create typed patch object (/; coordination.k8s.io/v1, Kind=Lease): .spec.x: field not declared in schema"#]].assert_eq(&lines.join("\n"));
}
