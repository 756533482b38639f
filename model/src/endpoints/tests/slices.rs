//! Derived slices: which Pods, with what content, in which slice.

use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn a_slice_says_all_of_its_service_and_pods() {
    let mut slices = Slices::default();
    let mut named = pod("a", 1);
    named.spec.hostname = "a".into();
    named.spec.subdomain = "web".into();
    let service = service(json!({}));
    slices.derive_at(&service, &[named], Some("2026-01-01T00:00:07Z"));
    let slice = serde_json::to_string_pretty(&slices.by_name["web-00001"]).unwrap();
    expect![[r#"
        {
          "addressType": "IPv4",
          "apiVersion": "discovery.k8s.io/v1",
          "endpoints": [
            {
              "addresses": [
                "10.244.0.1"
              ],
              "conditions": {
                "ready": true,
                "serving": true,
                "terminating": false
              },
              "hostname": "a",
              "nodeName": "node-1",
              "targetRef": {
                "kind": "Pod",
                "name": "a",
                "namespace": "default",
                "uid": "uid-a"
              },
              "zone": "a"
            }
          ],
          "kind": "EndpointSlice",
          "metadata": {
            "annotations": {
              "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:07Z"
            },
            "generateName": "web-",
            "generation": 1,
            "labels": {
              "app": "web",
              "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
              "kubernetes.io/service-name": "web"
            },
            "name": "web-00001",
            "namespace": "default",
            "ownerReferences": [
              {
                "apiVersion": "v1",
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": "Service",
                "name": "web",
                "uid": "service-1"
              }
            ]
          },
          "ports": [
            {
              "name": "http",
              "port": 8080,
              "protocol": "TCP"
            }
          ]
        }"#]]
    .assert_eq(&slice);
}

#[test]
fn a_service_without_pods_has_a_placeholder_for_each_family() {
    let mut slices = Slices::default();
    let dual = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    let mut text = summary(&slices.derive(&dual, &[]));
    text += "again: ";
    text += &summary(&slices.derive(&dual, &[]));
    text += "\nfirst Pod:\n";
    text += &summary(&slices.derive(&dual, &[pod("a", 1)]));
    text += "last Pod gone:\n";
    text += &summary(&slices.derive(&dual, &[]));
    expect![[r#"
        create web-00001 IPv6 []
        create web-00002 IPv4 []
        again: 
        first Pod:
        update web-00001 IPv6 [http:8080/TCP] a=fd00:244:1::1(rs-)
        update web-00002 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
        last Pod gone:
        update web-00001 IPv6 []
        update web-00002 IPv4 []
    "#]]
    .assert_eq(&text);
    assert_eq!(slices.by_name["web-00001"].metadata.generation, Some(3));
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let of = |publish: bool, change: fn(&mut Pod)| {
        let mut pod = pod("a", 1);
        change(&mut pod);
        let mut slices = Slices::default();
        slices.derive(&service(json!({"publishNotReadyAddresses": publish})), &[pod]);
        slices.text()
    };
    type Case = (&'static str, fn(&mut Pod));
    let cases: [Case; 10] = [
        ("ready", |_| {}),
        ("not ready", unready),
        ("terminating", |p| p.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into())),
        ("not ready and terminating", |p| {
            unready(p);
            p.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
        }),
        ("succeeded", |p| p.status.phase = "Succeeded".into()),
        ("failed", |p| p.status.phase = "Failed".into()),
        ("without an address", |p| {
            p.status.pod_ip.clear();
            p.status.pod_ips.clear();
        }),
        ("its Node is silent", |p| p.spec.node_name = "node-3".into()),
        ("its Node is gone", |p| p.spec.node_name = "node-9".into()),
        ("without a Node", |p| p.spec.node_name.clear()),
    ];
    let mut text = String::new();
    for (name, change) in cases {
        text += &format!("{name}: {}", of(false, change));
        text += &format!("  published: {}", of(true, change));
    }
    expect![[r#"
        ready: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
        not ready: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(---)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(r--)
        terminating: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(-st)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rst)
        not ready and terminating: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(--t)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(r-t)
        succeeded: web-00001 IPv4 []
          published: web-00001 IPv4 []
        failed: web-00001 IPv4 []
          published: web-00001 IPv4 []
        without an address: web-00001 IPv4 []
          published: web-00001 IPv4 []
        its Node is silent: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(---)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(r--)
        its Node is gone: web-00001 IPv4 []
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
        without a Node: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
          published: web-00001 IPv4 [http:8080/TCP] a=10.244.0.1(rs-)
    "#]]
    .assert_eq(&text);
}

#[test]
fn addresses_are_canonical_and_of_the_family() {
    let mut odd = pod("a", 1);
    odd.status.pod_ips = serde_json::from_value(json!([{"ip": "fd00:0:0::1"}, {"ip": "010.0.0.1"}])).unwrap();
    let mut old = pod("b", 2);
    old.status.pod_ips.clear();
    let mut slices = Slices::default();
    let dual = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let pods = [odd, old];
    slices.derive(&dual, &pods);
    expect![[r#"
        web-00001 IPv4 [http:8080/TCP] a=10.0.0.1(rs-) b=10.244.0.2(rs-)
        web-00002 IPv6 [http:8080/TCP] a=fd00::1(rs-)
    "#]]
    .assert_eq(&slices.text());
    assert_eq!(slices.derive(&dual, &pods), []);
}

#[test]
fn a_named_port_is_looked_up_in_each_pod() {
    let ports = json!([
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
        {"name": "metrics", "port": 9100, "protocol": "TCP", "targetPort": 9100},
        {"name": "quic", "port": 443, "protocol": "UDP", "targetPort": "http", "appProtocol": "h3"},
    ]);
    let with_ports = |name: &str, n: u32, ports: Value| {
        let mut pod = pod(name, n);
        pod.spec.containers[0].ports = serde_json::from_value(ports).unwrap();
        pod
    };
    let mut sidecar = with_ports("e", 5, json!([]));
    sidecar.spec.init_containers = serde_json::from_value(json!([
        {"name": "init", "ports": [{"name": "http", "containerPort": 1}]},
        {"name": "proxy", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 8081}]},
    ]))
    .unwrap();
    let mut pods = [
        pod("a", 1),
        with_ports("b", 2, json!([{"name": "http", "containerPort": 8081, "protocol": "TCP"}])),
        with_ports(
            "c",
            3,
            json!([
                {"name": "http", "containerPort": 443, "protocol": "UDP"}, {"name": "http", "containerPort": 8080},
            ]),
        ),
        with_ports("d", 4, json!([])),
        sidecar,
    ];
    let service = service(json!({"ports": ports}));
    let mut slices = Slices::default();
    slices.derive(&service, &pods);
    let mut text = slices.text();
    // A Pod whose port moves goes to another slice.
    pods[1].spec.containers[0].ports[0].container_port = 8080;
    text += &summary(&slices.derive(&service, &pods));
    expect![[r#"
        web-00001 IPv4 [http:8080/TCP metrics:9100/TCP] a=10.244.0.1(rs-)
        web-00002 IPv4 [http:8081/TCP metrics:9100/TCP] b=10.244.0.2(rs-) e=10.244.0.5(rs-)
        web-00003 IPv4 [http:8080/TCP metrics:9100/TCP quic:443/UDP] c=10.244.0.3(rs-)
        web-00004 IPv4 [metrics:9100/TCP] d=10.244.0.4(rs-)
        update web-00002 IPv4 [http:8081/TCP metrics:9100/TCP] e=10.244.0.5(rs-)
        update web-00001 IPv4 [http:8080/TCP metrics:9100/TCP] a=10.244.0.1(rs-) b=10.244.0.2(rs-)
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_headless_service_may_have_no_ports() {
    let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": []}));
    let mut slices = Slices::default();
    slices.derive(&headless, &[]);
    slices.derive(&headless, &[pod("a", 1)]);
    expect![[r#"
        web-00001 IPv4 [] a=10.244.0.1(rs-)
    "#]]
    .assert_eq(&slices.text());
    assert_eq!(slices.by_name["web-00001"].metadata.labels.get(HEADLESS).map(String::as_str), Some(""));
}

#[test]
fn labels_follow_the_service_but_its_own_stay() {
    let mut service = service(json!({}));
    let mut slices = Slices::default();
    let pods = [pod("a", 1)];
    slices.derive(&service, &pods);
    let before = slices.by_name["web-00001"].clone();
    service.metadata.labels = [("tier", "front"), (SERVICE_NAME, "other"), (MANAGED_BY, "me"), (HEADLESS, "")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let changes = slices.derive_at(&service, &pods, None);
    assert_eq!(changes.len(), 1);
    let after = &slices.by_name["web-00001"];
    expect![[r#"
        {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": "web",
            "tier": "front",
        }
    "#]]
    .assert_eq(&format!("{:#?}\n", after.metadata.labels));
    assert_eq!(after.endpoints, before.endpoints);
    assert_eq!(after.metadata.generation, before.metadata.generation);
}

#[test]
fn the_trigger_time_is_that_of_the_last_write_or_none() {
    let service = service(json!({}));
    let mut slices = Slices::default();
    let mut pods = [pod("a", 1)];
    slices.derive_at(&service, &pods, Some("2026-01-01T00:00:07Z"));
    let time = |slices: &Slices| slices.by_name["web-00001"].metadata.annotations.get(TRIGGER_TIME).cloned();
    assert_eq!(time(&slices).as_deref(), Some("2026-01-01T00:00:07Z"));
    assert_eq!(slices.derive_at(&service, &pods, Some("2026-01-01T00:00:09Z")), []);
    unready(&mut pods[0]);
    slices.derive_at(&service, &pods, None);
    assert_eq!(time(&slices), None);
    assert_eq!(trigger_time(&pods[0]), Some("2026-01-01T00:00:07Z"));
}

#[test]
fn weights_stand_on_the_slice_that_holds_the_address() {
    let dual = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let mut slices = Slices::default();
    let mut pods: Vec<Pod> = (1..=150).map(|n| pod(&format!("p{n:03}"), n)).collect();
    slices.derive(&dual, &pods);
    let mut text = String::new();
    let mut say = |what: &str, slices: &mut Slices, pods: &[Pod], service: &Service| {
        let changes = slices.derive(service, pods);
        text += &format!("{what}:\n");
        for change in &changes {
            let slice = &slices.by_name[change.name()];
            let weights = slice.metadata.annotations.get(weights::WEIGHTS);
            let generation = slice.metadata.generation.unwrap();
            text += &format!("  {} of generation {generation}: {weights:?}\n", change.name());
        }
    };
    let weigh = |pod: &mut Pod, weight: &str| pod.metadata.annotations.insert(weights::WEIGHT.into(), weight.into());
    weigh(&mut pods[6], "50");
    weigh(&mut pods[149], "100");
    say("one of the first hundred", &mut slices, &pods, &dual);
    weigh(&mut pods[2], "0");
    weigh(&mut pods[148], "1");
    say("one more in each slice", &mut slices, &pods, &dual);
    say("again", &mut slices, &pods, &dual);
    slices.by_name.get_mut("web-00001").unwrap().metadata.annotations.remove(weights::WEIGHTS);
    say("somebody took it away", &mut slices, &pods, &dual);
    pods.remove(6);
    say("a Pod went with its weight", &mut slices, &pods, &dual);
    for pod in &mut pods {
        pod.metadata.annotations.clear();
    }
    say("all are full", &mut slices, &pods, &dual);
    weigh(&mut pods[0], "half");
    say("what is no weight", &mut slices, &pods, &dual);
    expect![[r#"
        one of the first hundred:
          web-00001 of generation 1: Some("10.244.0.7=50")
          web-00003 of generation 1: Some("fd00:244:1::7=50")
        one more in each slice:
          web-00001 of generation 1: Some("10.244.0.3=0,10.244.0.7=50")
          web-00002 of generation 1: Some("10.244.0.149=1")
          web-00003 of generation 1: Some("fd00:244:1::3=0,fd00:244:1::7=50")
          web-00004 of generation 1: Some("fd00:244:1::95=1")
        again:
        somebody took it away:
          web-00001 of generation 1: Some("10.244.0.3=0,10.244.0.7=50")
        a Pod went with its weight:
          web-00001 of generation 2: Some("10.244.0.3=0")
          web-00003 of generation 2: Some("fd00:244:1::3=0")
        all are full:
          web-00001 of generation 2: None
          web-00002 of generation 1: None
          web-00003 of generation 2: None
          web-00004 of generation 1: None
        what is no weight:
    "#]]
    .assert_eq(&text);
}
