//! Questions and what is printed for them.

use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use model::types::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::compile::compile;
use crate::plan::Local;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Three nodes: node-1 with client and web-1, node-2 with web-2 and the Pods that are not well, node-3 with nobody.
struct World(Cluster);

impl World {
    fn new() -> Self {
        let mut world = Self(Cluster::default());
        for n in 1..=3 {
            let node = json!({
                "metadata": {"name": format!("node-{n}"), "labels": {"topology.kubernetes.io/zone": format!("zone-{n}")}},
                "spec": {"podCIDRs": [format!("10.244.{n}.0/24"), format!("fd00:244:{n}::/64")]},
                "status": {"addresses": [
                    {"type": "Hostname", "address": format!("node-{n}")},
                    {"type": "InternalIP", "address": format!("172.31.255.1{n}")},
                    {"type": "InternalIP", "address": format!("fd00:31::1{n}")},
                ]},
            });
            world.0.snapshot.nodes.insert(format!("node-{n}"), Arc::new(object(node)));
        }
        world.0.snapshot.service_cidrs = vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()];
        world.pod("client", "1.7", &json!({}), true);
        world
    }

    /// A Pod with the address 10.244.NODE.HOST.
    fn pod(&mut self, name: &str, at: &str, metadata: &Value, ready: bool) -> &mut Self {
        let (node, host) = at.split_once('.').unwrap();
        let mut metadata = metadata.clone();
        metadata["name"] = json!(name);
        metadata["namespace"] = json!("default");
        let pod = json!({
            "metadata": metadata,
            "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
            "status": {
                "phase": "Running", "podIP": format!("10.244.{node}.{host}"),
                "podIPs": [{"ip": format!("10.244.{node}.{host}")}, {"ip": format!("fd00:244:{node}::{host}")}],
                "conditions": [{
                    "type": "Ready", "status": if ready { "True" } else { "False" },
                    "lastTransitionTime": "2026-10-01T12:03:00Z",
                }],
            },
        });
        self.0.pods.insert(Key::new("default", name), object(pod));
        self
    }

    fn service(&mut self, name: &str, spec: Value) -> &mut Self {
        let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.0.snapshot.services.insert(Key::new("default", name), Arc::new(object(service)));
        self
    }

    /// Endpoints of a Service: `NODE.HOST` and what differs from a ready one.
    fn slice(&mut self, service: &str, port: &str, endpoints: &[(&str, Value)]) -> &mut Self {
        let endpoint = |(at, other): &(&str, Value)| {
            let (node, _) = at.split_once('.').unwrap();
            let mut endpoint = json!({
                "addresses": [format!("10.244.{at}")], "nodeName": format!("node-{node}"),
                "conditions": {"ready": true, "serving": true, "terminating": false},
            });
            other.as_object().unwrap().iter().for_each(|(k, v)| endpoint[k] = v.clone());
            endpoint
        };
        let slice: EndpointSlice = object(json!({
            "addressType": "IPv4", "ports": [{"name": port, "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        }));
        let slices = self.0.snapshot.slices.entry(Key::new("default", service)).or_default();
        slices.insert(format!("{service}-1"), Arc::new(slice));
        self
    }

    /// Web with two Pods and everything that a Service can have.
    fn web(&mut self) -> &mut Self {
        let labels = json!({"labels": {"app": "web"}});
        self.pod("web-1", "1.2", &labels, true).pod("web-2", "2.2", &labels, true);
        self.service("web", web());
        self.slice("web", "http", &[("1.2", json!({})), ("2.2", json!({}))])
    }

    fn ask(&self, from: &str, to: &str) -> String {
        self.ask_at(from, to, None)
    }

    fn ask_at(&self, from: &str, to: &str, at: Option<&str>) -> String {
        let request = Request {
            protocol: Protocol::Tcp,
            from: from.to_owned(),
            at: at.map(str::to_owned),
            to: to.to_owned(),
            namespace: "default".to_owned(),
        };
        let (head, mut next) = match resolve(&self.0, &request) {
            Ok(resolved) => resolved,
            Err(problem) => return format!("{problem}\n"),
        };
        let mut text = head.to_string();
        while let Some(step) = next {
            let plan = compile(&self.0.snapshot, &Local::new(&step.node));
            let hop = Hop::of(&self.0, &plan, &step);
            let _ = write!(text, "{hop}");
            next = hop.next(&self.0, &step);
        }
        text
    }
}

fn web() -> Value {
    json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.17", "clusterIPs": ["10.96.0.17", "fd00:10:96::17"],
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    })
}

/// `web` with these fields of its spec.
fn web_with(fields: Value) -> Value {
    let mut spec = web();
    fields.as_object().unwrap().iter().for_each(|(k, v)| spec[k] = v.clone());
    spec
}

fn node_port(policy: &str) -> Value {
    web_with(json!({
        "type": "NodePort", "externalTrafficPolicy": policy,
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}],
    }))
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[test]
fn to_a_service() {
    let mut world = World::new();
    world.web();
    check(
        &world.ask("client", "web"),
        expect![[r#"
        TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-1, from a pod of this node
          asks        ClusterIP of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees 10.244.1.7
          replies     pass node-1, where the endpoint is
                      pass node-1, where the client is
    "#]],
    );
    check(
        &world.ask("node-2", "web.default.svc.cluster.local:http"),
        expect![[r#"
        TCP from node node-2 (172.31.255.12) to web.default.svc.cluster.local:http (10.96.0.17:80)
          name        web.default.svc.cluster.local is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-2, from this node
          asks        ClusterIP of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees 172.31.255.12
          replies     pass node-2, where the endpoint is
                      pass node-2, where the client is
    "#]],
    );
    check(
        &world.ask_at("203.0.113.7", "10.96.0.17:80", Some("node-1")),
        expect![[r#"
        TCP from 203.0.113.7 to 10.96.0.17:80
        at node-1, from outside
          asks        ClusterIP of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees 203.0.113.7
          replies     pass node-1, where the endpoint is
                      go to the client, who only knows them if its route leads through node-1 (--cluster-cidr hides strangers)
    "#]],
    );
    check(
        &world.ask("web-1", "web:80"),
        expect![[r#"
        TCP from pod default/web-1 on node-1 (10.244.1.2) to web:80 (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-1, from a pod of this node
          asks        ClusterIP of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1, sees node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2, sees 10.244.1.2
          replies     pass node-1, where the endpoint is
                      pass node-1, where the client is
    "#]],
    );
}

#[test]
fn how_endpoints_are_chosen() {
    let labels = json!({"labels": {"app": "web"}});
    let mut world = World::new();
    world.web().pod("web-3", "2.3", &labels, false).pod("web-4", "2.4", &labels, true);
    world.service("web", web_with(json!({"internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"})));
    check(
        &world.ask("client", "web"),
        expect![[r#"
        TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-1, from a pod of this node
          asks        ClusterIP of Service default/web, port http
          choice      internalTrafficPolicy Local keeps to node-1: 1 of 2
                      not used: default/web-3 is running, but not Ready since 2026-10-01T12:03:00Z
          client      stays with its endpoint until it has opened no connection for 10800 s
          endpoints   100.0 %  10.244.1.2:8080  pod default/web-1 on node-1
          source      the endpoint sees 10.244.1.7
          replies     pass node-1, where the endpoint is
    "#]],
    );
    let zone = |n: u8| json!({"hints": {"forZones": [{"name": format!("zone-{n}")}]}});
    world.service("web", web_with(json!({"trafficDistribution": "PreferSameZone"})));
    world.slice("web", "http", &[("1.2", zone(1)), ("2.2", zone(2)), ("2.4", zone(2))]);
    check(
        &world.ask("node-2", "web"),
        expect![[r#"
        TCP from node node-2 (172.31.255.12) to web (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-2, from this node
          asks        ClusterIP of Service default/web, port http
          choice      trafficDistribution PreferSameZone keeps to zone zone-2: 2 of 3
                      not used: default/web-3 is running, but not Ready since 2026-10-01T12:03:00Z
          endpoints    50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
                       50.0 %  10.244.2.4:8080  pod default/web-4 on node-2
          source      the endpoint sees 172.31.255.12
          replies     pass node-2, where the endpoint is
    "#]],
    );
    let leaving = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
    world.slice("web", "http", &[("1.2", leaving)]);
    check(
        &world.ask("node-2", "web"),
        expect![[r#"
        TCP from node node-2 (172.31.255.12) to web (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-2, from this node
          asks        ClusterIP of Service default/web, port http
          choice      none is Ready; those are used that still serve while they terminate
                      not used: default/web-3 is running, but not Ready since 2026-10-01T12:03:00Z
          endpoints   100.0 %  10.244.1.2:8080  pod default/web-1 on node-1
          source      the endpoint sees 172.31.255.12
          replies     pass node-2, where the client is
    "#]],
    );
}

#[test]
fn by_a_node_port() {
    let mut world = World::new();
    world.web().service("web", node_port("Cluster"));
    check(
        &world.ask("203.0.113.7", "node-3:30080"),
        expect![[r#"
        TCP from 203.0.113.7 to node-3:30080 (172.31.255.13:30080)
          name        node-3 is a Node, 172.31.255.13 and fd00:31::13
        at node-3, from outside
          asks        node port of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees node-3
          replies     go to node-3, which the endpoint takes for its client
    "#]],
    );
    check(
        &world.ask("client", "node-2:30080"),
        expect![[r#"
        TCP from pod default/client on node-1 (10.244.1.7) to node-2:30080 (172.31.255.12:30080)
          name        node-2 is a Node, 172.31.255.12 and fd00:31::12
        at node-1, from a pod of this node
          untouched   172.31.255.12 is an address of node-2, where the packet goes as it is
        at node-2, from outside
          asks        node port of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1, sees node-2
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2, sees 10.244.1.7
          replies     pass node-2, where the endpoint is
                      go to node-2, which the endpoint takes for its client
    "#]],
    );
    check(
        &world.ask("node-1", "127.0.0.1:30080"),
        expect![[r#"
        TCP from node node-1 (127.0.0.1) to 127.0.0.1:30080
        at node-1, from this node
          asks        node port of Service default/web, port http
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees node-1
          replies     pass node-1, where the endpoint is
                      go to node-1, which the endpoint takes for its client
    "#]],
    );
    world.service("web", node_port("Local"));
    check(
        &world.ask("203.0.113.7", "172.31.255.13:30080"),
        expect![[r#"
        TCP from 203.0.113.7 to 172.31.255.13:30080
        at node-3, from outside
          asks        node port of Service default/web, port http
          dropped     externalTrafficPolicy is Local and node-3 has no endpoint; node-1 has 1 and node-2 has 1
          unless      an endpoint runs on node-3
                      the client asks node-1 or node-2
                      externalTrafficPolicy: Cluster lets every node answer, and hides the client's address
    "#]],
    );
    check(
        &world.ask("node-3", "172.31.255.13:30080"),
        expect![[r#"
        TCP from node node-3 (172.31.255.13) to 172.31.255.13:30080
        at node-3, from this node
          asks        node port of Service default/web, port http
          choice      externalTrafficPolicy Local does not bind clients on the node
          endpoints    50.0 %  10.244.1.2:8080  pod default/web-1 on node-1
                       50.0 %  10.244.2.2:8080  pod default/web-2 on node-2
          source      the endpoint sees 172.31.255.13
          replies     pass node-3, where the client is
    "#]],
    );
    check(
        &world.ask("203.0.113.7", "node-1:30081"),
        expect![[r#"
        TCP from 203.0.113.7 to node-1:30081 (172.31.255.11:30081)
          name        node-1 is a Node, 172.31.255.11 and fd00:31::11
        at node-1, from outside
          untouched   no Service has node port 30081/TCP: the packet is for node-1 itself
    "#]],
    );
}

#[test]
fn nobody_serves() {
    let labels = json!({"labels": {"app": "web"}});
    let mut world = World::new();
    world.service("web", web());
    check(
        &world.ask("client", "web"),
        expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
              name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
            at node-1, from a pod of this node
              asks        ClusterIP of Service default/web, port http
              rejected    nobody serves Service default/web
                          no Pod in namespace default matches its selector app=web
              unless      a Pod with the labels app=web is started, or the selector corrected
        "#]],
    );
    world.pod("web-1", "1.2", &labels, false).pod("web-2", "2.2", &labels, false);
    world.pod("web-3", "2.3", &json!({"labels": {"app": "web"}, "annotations": {"portolan.dev/weight": "0"}}), true);
    let unready = json!({"conditions": {"ready": false, "serving": false, "terminating": false}});
    world.slice("web", "http", &[("1.2", unready.clone()), ("2.2", unready)]);
    check(
        &world.ask("client", "web"),
        expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
              name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
            at node-1, from a pod of this node
              asks        ClusterIP of Service default/web, port http
              rejected    nobody serves Service default/web
                          3 Pods match its selector app=web, none can be used:
                          - default/web-1 is running, but not Ready since 2026-10-01T12:03:00Z
                          - default/web-2 is running, but not Ready since 2026-10-01T12:03:00Z
                          - default/web-3 has weight 0 (portolan.dev/weight)
              unless      one of them becomes Ready: look at its readiness probe and its log
                          spec.publishNotReadyAddresses: true sends to Pods that are not Ready, too
                          one of them gets a weight above 0
        "#]],
    );
    world.service("web", web_with(json!({"selector": {}})));
    check(
        &world.ask("client", "web"),
        expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
              name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
            at node-1, from a pod of this node
              asks        ClusterIP of Service default/web, port http
              rejected    nobody serves Service default/web
                          its EndpointSlices have 2 endpoints for port 80; none of them can be used
              unless      the EndpointSlices, which no selector fills, get an endpoint that is ready
        "#]],
    );
    world.0.snapshot.slices.clear();
    check(
        &world.ask("client", "web"),
        expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to web (10.96.0.17:80)
              name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
            at node-1, from a pod of this node
              asks        ClusterIP of Service default/web, port http
              rejected    nobody serves Service default/web
                          it has no selector, and no EndpointSlice has the label kubernetes.io/service-name: web
              unless      an EndpointSlice with the label kubernetes.io/service-name: web is made
        "#]],
    );
}

#[test]
fn not_for_this_client() {
    let mut world = World::new();
    world.web().service("web", web_with(json!({"internalTrafficPolicy": "Local"})));
    check(
        &world.ask("node-3", "web"),
        expect![[r#"
        TCP from node node-3 (172.31.255.13) to web (10.96.0.17:80)
          name        web is Service default/web, 10.96.0.17 and fd00:10:96::17
        at node-3, from this node
          asks        ClusterIP of Service default/web, port http
          dropped     internalTrafficPolicy is Local and node-3 has no endpoint; node-1 has 1 and node-2 has 1
          unless      an endpoint runs on node-3
                      internalTrafficPolicy: Cluster uses the endpoints of all nodes
    "#]],
    );
    let balanced = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": web_with(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]})),
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}]}},
    });
    world.0.snapshot.services.insert(Key::new("default", "web"), Arc::new(object(balanced)));
    check(
        &world.ask_at("203.0.113.7", "192.0.2.1:80", Some("node-1")),
        expect![[r#"
        TCP from 203.0.113.7 to 192.0.2.1:80
        at node-1, from outside
          asks        load balancer's address of Service default/web, port http
          dropped     source 203.0.113.7 is not in the Service's loadBalancerSourceRanges: 198.51.100.0/24
          unless      a range that holds 203.0.113.7 is added to spec.loadBalancerSourceRanges
    "#]],
    );
    check(
        &world.ask_at("203.0.113.7", "192.0.2.2:80", Some("node-1")),
        expect![[r#"
        TCP from 203.0.113.7 to 192.0.2.2:80
        at node-1, from outside
          untouched   192.0.2.2 has ipMode Proxy: nodes leave connections to Service default/web to its load balancer
    "#]],
    );
    check(
        &world.ask_at("198.51.100.7", "192.0.2.1:81", Some("node-1")),
        expect![[r#"
        TCP from 198.51.100.7 to 192.0.2.1:81
        at node-1, from outside
          untouched   81/TCP is not one of the ports of Service default/web: 80/TCP (http)
    "#]],
    );
}

#[test]
fn what_is_not_there() {
    let mut world = World::new();
    world.web();
    world.service("db", json!({"type": "ExternalName", "externalName": "db.example.com"}));
    world.service("peers", json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    world.slice("peers", "", &[("1.2", json!({})), ("2.2", json!({}))]);
    let mut foreign = json!({"metadata": {"name": "mesh", "namespace": "default"}, "spec": web()});
    foreign["spec"]["clusterIPs"] = json!(["10.96.0.18"]);
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    world.0.snapshot.services.insert(Key::new("default", "mesh"), Arc::new(object(foreign)));
    for (from, to, expected) in [
        (
            "client",
            "10.96.0.17:81",
            expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to 10.96.0.17:81
            at node-1, from a pod of this node
              rejected    81/TCP is not one of the ports of Service default/web: 80/TCP (http)
        "#]],
        ),
        (
            "client",
            "10.96.0.99:80",
            expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to 10.96.0.99:80
            at node-1, from a pod of this node
              dropped     no Service has the address 10.96.0.99; it lies in the ServiceCIDR 10.96.0.0/16
        "#]],
        ),
        (
            "client",
            "198.51.100.1:80",
            expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to 198.51.100.1:80
            at node-1, from a pod of this node
              untouched   no Service has the address 198.51.100.1
        "#]],
        ),
        (
            "client",
            "10.244.2.2:8080",
            expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to 10.244.2.2:8080
            at node-1, from a pod of this node
              untouched   10.244.2.2 is the address of Pod default/web-2, where the packet goes as it is
        "#]],
        ),
        (
            "client",
            "mesh:80",
            expect![[r#"
            TCP from pod default/client on node-1 (10.244.1.7) to mesh:80 (10.96.0.18:80)
              name        mesh is Service default/mesh, 10.96.0.18
            at node-1, from a pod of this node
              untouched   Service default/mesh belongs to another proxy (service.kubernetes.io/service-proxy-name: mesh)
        "#]],
        ),
        (
            "client",
            "db:5432",
            expect![[r#"
            TCP from pod default/client on node-1 to db:5432
              name        db is Service default/db of type ExternalName: another name for db.example.com, which no node translates
        "#]],
        ),
        (
            "client",
            "peers",
            expect![[r#"
            TCP from pod default/client on node-1 to peers
              name        peers is the headless Service default/peers: its name leads straight to its endpoints (10.244.1.2 and 10.244.2.2)
        "#]],
        ),
    ] {
        check(&world.ask(from, to), expected);
    }
}

#[test]
fn questions_that_cannot_be_asked() {
    let mut world = World::new();
    world.web().service("two", web_with(json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]})));
    let mut text = String::new();
    for (from, to) in [
        ("nobody", "web"),
        ("shop/client", "web"),
        ("client", "shop"),
        ("client", "web.shop"),
        ("client", "two"),
        ("client", "two:c"),
        ("client", "10.96.0.99"),
        ("client", "10.96.0.99:x"),
        ("client", "[fd00::1"),
        ("client", "[fd00::1]80"),
        ("203.0.113.7", "web"),
        ("203.0.113.7", "[fd00:10:96::17]:80"),
        ("127.0.0.1", "web"),
        ("client", "127.0.0.1:80"),
    ] {
        let _ = write!(text, "{from} {to}: {}", world.ask(from, to));
    }
    let _ = write!(text, "{}", world.ask_at("client", "web", Some("node-9")));
    check(
        &text,
        expect![[r#"
            nobody web: nobody is no address, no Node, and no Pod in namespace default
            shop/client web: there is no Pod client in namespace shop
            client shop: there is no Service shop in namespace default
            client web.shop: there is no Service web in namespace shop; there is one in default
            client two: say which port of Service default/two is asked for; it has 1/TCP (a) and 2/TCP (b)
            client two:c: Service default/two has no TCP port c; it has 1/TCP (a) and 2/TCP (b)
            client 10.96.0.99: 10.96.0.99 needs a port, as in 10.96.0.99:80
            client 10.96.0.99:x: x is no port; write a number from 1 to 65535
            client [fd00::1: [fd00::1 is no address and port; write it as [fd00::1]:80
            client [fd00::1]80: [fd00::1]80 is no address and port; write it as [fd00::1]:80
            203.0.113.7 web: say with --at at which node a packet of 203.0.113.7 comes in: node-1, node-2 and node-3
            203.0.113.7 [fd00:10:96::17]:80: 203.0.113.7 has no IPv6 address, and fd00:10:96::17 no other
            127.0.0.1 web: 127.0.0.1 is an address of every machine; say which node sends
            client 127.0.0.1:80: 127.0.0.1 is asked by processes of a node itself alone; say --from NODE
            there is no Node node-9; there are node-1, node-2 and node-3
        "#]],
    );
}

#[test]
fn what_a_kernel_says() {
    let same = Kernel {
        agrees: true,
        differences: Vec::new(),
        revision: Some("41".to_owned()),
        chains: vec!["output".to_owned(), "inside".to_owned()],
        remembered: Some("10.244.1.2:8080".parse().unwrap()),
    };
    let differs = Kernel {
        agrees: false,
        differences: vec!["lacks endpoint 10.244.2.2:8080".to_owned()],
        remembered: None,
        ..same.clone()
    };
    let silent = Kernel {
        differences: vec!["not asked: no agent of node node-1 listens for questions".to_owned()],
        revision: None,
        chains: Vec::new(),
        ..differs.clone()
    };
    check(
        // Three hops of which nothing else is printed.
        &format!("hop\n{same}hop\n{differs}hop\n{silent}"),
        expect![[r#"
            hop
              kernel      does the same (revision 41)
                          the client was here before and goes to 10.244.1.2:8080
                          chains: output, inside
            hop
              kernel      DIFFERS (revision 41):
                          lacks endpoint 10.244.2.2:8080
                          chains: output, inside
            hop
              kernel      not asked: no agent of node node-1 listens for questions
        "#]],
    );
}

/// What programs read.
#[test]
fn as_json() {
    let mut world = World::new();
    world.web().service("web", node_port("Local"));
    let request = Request {
        protocol: Protocol::Tcp,
        from: "node-3".to_owned(),
        at: None,
        to: "web:80".to_owned(),
        namespace: "default".to_owned(),
    };
    let (head, step) = resolve(&world.0, &request).unwrap();
    let step = step.unwrap();
    let hop = Hop::of(&world.0, &compile(&world.0.snapshot, &Local::new(&step.node)), &step);
    let text = serde_json::to_string_pretty(&json!([head, hop])).unwrap();
    check(
        &text,
        expect![[r#"
        [
          {
            "client": "172.31.255.13",
            "destination": "10.96.0.17:80",
            "from": "node node-3",
            "name": [
              "web is Service default/web, 10.96.0.17 and fd00:10:96::17"
            ],
            "protocol": "TCP",
            "to": "web:80"
          },
          {
            "endpoints": [
              {
                "endpoint": "10.244.1.2:8080",
                "node": "node-1",
                "pod": "default/web-1",
                "probability": 0.5,
                "reply": "ToTheClientHere",
                "sees": "172.31.255.13"
              },
              {
                "endpoint": "10.244.2.2:8080",
                "node": "node-2",
                "pod": "default/web-2",
                "probability": 0.5,
                "reply": "ToTheClientHere",
                "sees": "172.31.255.13"
              }
            ],
            "frontend": "ClusterIP of Service default/web, port http",
            "node": "node-3",
            "origin": "ThisNode",
            "outcome": "Forwarded"
          }
        ]"#]],
    );
}
