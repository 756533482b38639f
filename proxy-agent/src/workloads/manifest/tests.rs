use serde_json::{Value, json};

use super::*;

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
    });
    change(&mut pod);
    pod
}

fn of_file(pod: &Value) -> Result<Wanted, String> {
    wanted(pod, "vm-1", &Origin::File("web.yaml".into()))
}

#[test]
fn a_mirror_pod_has_kubelets_name_and_annotations() {
    let wanted = of_file(&pod(|_| {})).unwrap();
    assert_eq!(wanted.name.to_string(), "default/web-vm-1");
    assert_eq!(wanted.object["metadata"]["name"], "web-vm-1");
    assert_eq!(wanted.object["spec"]["nodeName"], "vm-1");
    assert_eq!(wanted.object["spec"]["hostNetwork"], true);
    let annotations = &wanted.object["metadata"]["annotations"];
    assert_eq!(annotations[HASH], annotations[MIRROR]);
    assert_eq!(annotations[HASH], *wanted.hash);
    assert_eq!((annotations[SOURCE].as_str(), annotations[ORIGIN].as_str()), (Some("file"), Some("file web.yaml")));
    assert_eq!(wanted.settled["spec"]["containers"][0]["ports"][0]["hostPort"], 8080);
    assert_eq!(wanted.grace, Duration::from_secs(30));
    assert_eq!(Origin::of("file web.yaml"), Some(wanted.origin));
    assert_eq!((Origin::of("socket"), Origin::of("else")), (Some(Origin::Socket), None));
}

#[test]
fn the_hash_is_of_what_is_meant() {
    let one = of_file(&pod(|_| {})).unwrap().hash;
    let again: Value = serde_json::from_str(
        r#"{"kind":"Pod","spec":{"containers":[{"ports":[{"containerPort":8080}],"name":"web"}]},
            "metadata":{"labels":{"app":"web"},"name":"web"},"apiVersion":"v1"}"#,
    )
    .unwrap();
    assert_eq!(of_file(&again).unwrap().hash, one);
    assert_eq!(one.len(), 32);
    let other = pod(|pod| pod["metadata"]["labels"]["app"] = "shop".into());
    assert_ne!(of_file(&other).unwrap().hash, one);
    assert_ne!(wanted(&pod(|_| {}), "vm-2", &Origin::Socket).unwrap().hash, one);
}

#[test]
fn what_kubectl_printed_can_be_a_manifest() {
    let saved = pod(|pod| {
        pod["metadata"]["uid"] = "x".into();
        pod["metadata"]["resourceVersion"] = "7".into();
        pod["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
        pod["status"] = json!({"phase": "Running"});
        pod["spec"]["nodeName"] = "vm-1".into();
    });
    let wanted = of_file(&saved).unwrap();
    assert!(wanted.object.get("status").is_none() && wanted.object["metadata"].get("uid").is_none());
}

#[test]
fn an_address_of_its_own() {
    let at = |ips: &str| of_file(&pod(|pod| pod["metadata"]["annotations"] = json!({ POD_IP: ips })));
    let wanted = at("192.0.2.7, 2001:db8::7").unwrap();
    assert_eq!(wanted.addresses, ["192.0.2.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    assert!(wanted.object["spec"].get("hostNetwork").is_none(), "it does not share the node's");
    for wrong in ["", "here", "192.0.2.7,192.0.2.8", "127.0.0.1", "0.0.0.0", "ff02::1"] {
        let error = at(wrong).unwrap_err();
        assert!(error.starts_with("metadata.annotations[portolan.dev/pod-ip]: "), "{wrong}: {error}");
    }
}

#[test]
fn each_mistake_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 14] = [
        (|pod| pod["kind"] = "Deployment".into(), "it is a Deployment of v1; only Pods of v1 can be here"),
        (|pod| pod["kind"] = Value::Null, "apiVersion and kind are needed, and are v1 and Pod"),
        (|pod| pod["spec"]["contianers"] = json!([]), "unknown field \"spec.contianers\""),
        (|pod| pod["spec"]["hostNetwork"] = "yes".into(), "json: cannot unmarshal string into Go struct field"),
        (|pod| pod["metadata"]["name"] = "".into(), "metadata.name: Required value"),
        (|pod| pod["metadata"]["name"] = "Web".into(), "metadata.name: Invalid value: \"Web-vm-1\": "),
        (
            |pod| pod["metadata"]["finalizers"] = json!(["x/y"]),
            "metadata.finalizers: the Pod of a manifest can have none",
        ),
        (|pod| pod["spec"] = Value::Null, "spec: Required value"),
        (|pod| pod["spec"]["nodeName"] = "vm-2".into(), "spec.nodeName: it is a Pod of vm-2, and this node is vm-1"),
        (|pod| pod["spec"]["containers"] = json!([]), "spec.containers: Required value"),
        (
            |pod| pod["spec"]["serviceAccountName"] = "x".into(),
            "spec.serviceAccountName: the Pod of a manifest cannot refer",
        ),
        (
            |pod| pod["spec"]["volumes"] = json!([{"name": "a", "secret": {"secretName": "s"}}]),
            "spec.volumes[0].secret: the Pod of a manifest cannot refer",
        ),
        (
            |pod| pod["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "x"}}]),
            "spec.containers[0].envFrom[0].configMapRef: ",
        ),
        (
            |pod| pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 70_000.into(),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: ",
        ),
    ];
    for (change, expected) in cases {
        let error = of_file(&pod(change)).unwrap_err();
        assert!(error.starts_with(expected), "expected {expected}, got {error}");
    }
}
