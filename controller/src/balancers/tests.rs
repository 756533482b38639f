//! The controller over a real store, with an edge node that is played by the test: what a Service asks for stands in its
//! instance, and what is wrong is told and changes nothing.

use std::cell::Cell;

use model::admission::Subresource;
use model::patch::PatchKind;
use serde_json::{Value, json};
use store::{Config, DeleteOptions, Verb, Write};

use super::*;

const SECONDS: i64 = 1_767_225_600;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(SECONDS) };
    static MICROS: Cell<i32> = const { Cell::new(0) };
}

/// No two moments are the same: Events are named by them.
fn clock() -> Timestamp {
    MICROS.set(MICROS.get() + 1);
    Timestamp::new(NOW.get(), MICROS.get() * 1_000).unwrap()
}

/// Suffix and value.
type Setting<'a> = (&'a str, &'a str);

struct World {
    store: Store,
    balancers: Balancers,
    now: Instant,
    _directory: tempfile::TempDir,
}

fn annotations(of: &[(&str, &str)]) -> Value {
    let annotations = of.iter().map(|(suffix, value)| (format!("portolan.dev/lb-{suffix}"), json!(value)));
    Value::Object(annotations.collect())
}

fn certificate(from: i64, until: i64) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap();
    let day = |seconds: i64| {
        let date = Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(from), day(until));
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

const DAY: i64 = 86_400;

impl World {
    /// Two nodes, and a pool of sixteen addresses.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Config::new(directory.path().join("portolan.db"))).await.unwrap();
        let balancers = Balancers::new(store.clone(), Options::default(), clock);
        let world = Self { store, balancers, now: Instant::now(), _directory: directory };
        for (number, name) in ["a", "b"].iter().enumerate() {
            let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
                "status": { "addresses": [{ "type": "InternalIP", "address": format!("10.0.0.{}", number + 1) }] } });
            world.create(Resource::Nodes, "", name, object).await;
        }
        world
            .create(
                Resource::AddressPools,
                "",
                "internet",
                json!({ "spec": { "addresses": ["192.0.2.0-192.0.2.15"] } }),
            )
            .await;
        world
    }

    async fn write(&self, resource: Resource, namespace: &str, name: &str, verb: Verb) {
        let (namespace, name, manager) = (namespace.to_owned(), name.to_owned(), "test".to_owned());
        let what = format!("{resource} {name}");
        let done = self.store.write(Write { resource, namespace, name, verb, manager, dry_run: false }).await;
        done.map_err(|error| panic!("{what}: {error}")).unwrap();
    }

    async fn create(&self, resource: Resource, namespace: &str, name: &str, mut object: Value) {
        object["apiVersion"] = resource.info().api_version().into();
        object["kind"] = resource.info().kind.into();
        object["metadata"]["name"] = name.into();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        self.write(resource, namespace, name, Verb::Create { object }).await;
    }

    async fn patch(&self, resource: Resource, namespace: &str, name: &str, patch: Value, subresource: Subresource) {
        self.write(resource, namespace, name, Verb::Patch { kind: PatchKind::Merge, patch, subresource, strict: true })
            .await;
    }

    /// A Service at ports 80 and 443.
    async fn service(&self, name: &str, of: &[(&str, &str)]) {
        let object = json!({ "metadata": { "annotations": annotations(of) }, "spec": {
            "type": "LoadBalancer", "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80 }, { "name": "https", "port": 443 }] } });
        self.create(Resource::Services, "default", name, object).await;
    }

    async fn annotate(&self, name: &str, of: Value) {
        let patch = json!({ "metadata": { "annotations": of } });
        self.patch(Resource::Services, "default", name, patch, Subresource::None).await;
    }

    async fn secret(&self, namespace: &str, name: &str, (certificate, key): (String, String), more: Value) {
        let mut object =
            json!({ "type": "kubernetes.io/tls", "stringData": { "tls.crt": certificate, "tls.key": key } });
        for (field, value) in more.as_object().unwrap() {
            object[field] = value.clone();
        }
        self.create(Resource::Secrets, namespace, name, object).await;
    }

    async fn delete(&self, resource: Resource, namespace: &str, name: &str) {
        self.write(resource, namespace, name, Verb::Delete { options: DeleteOptions::default() }).await;
    }

    /// Looks until nothing changes any more.
    async fn settle(&mut self) {
        for _ in 0..20 {
            let before = self.store.revision();
            self.balancers.look(self.now).await;
            if self.store.revision() == before {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// What an edge node and the part that assigns it do: every listener has two backends, of which two are healthy.
    async fn program(&mut self) {
        for object in self.store.list(Resource::LoadBalancers, None).1 {
            let balancer = object.load_balancer().unwrap();
            let listeners: Vec<Value> = balancer
                .spec
                .listeners
                .iter()
                .map(|l| json!({ "port": l.port, "protocol": l.protocol, "backends": 2, "healthy": 2 }))
                .collect();
            let status = json!({
                "edge": { "name": "edge-1", "term": 1, "since": clock().to_string() },
                "programmed": { "edge": "edge-1", "term": 1, "generation": balancer.metadata.generation },
                "listeners": listeners,
            });
            let name = object.key.name.to_string();
            self.patch(Resource::LoadBalancers, "", &name, json!({ "status": status }), Subresource::Status).await;
        }
        self.settle().await;
    }

    fn stored(&self, resource: Resource, namespace: &str, name: &str) -> Arc<Object> {
        self.store.get(resource, namespace, name).unwrap()
    }

    fn instance_of(&self, service: &str) -> String {
        self.stored(Resource::Services, "default", service).labels().get(writes::LABEL).unwrap().clone()
    }

    fn instance(&self, name: &str) -> LoadBalancer {
        self.stored(Resource::LoadBalancers, "", name).load_balancer().unwrap().clone()
    }

    /// `status/reason: message` of the Service's condition.
    fn condition(&self, service: &str) -> String {
        let object = self.stored(Resource::Services, "default", service);
        let condition = report::condition(&object.service().unwrap().status);
        condition.map_or_else(String::new, |c| format!("{}/{}: {}", c.status, c.reason, c.message))
    }

    /// `type reason: message` of each Event about a Service, in the order of time.
    fn events(&self, service: &str) -> Vec<String> {
        let (_, mut events) = self.store.list(Resource::Events, Some("default"));
        events.sort_by_key(|event| event.revision);
        let events = events.iter().map(|event| event.value().unwrap());
        let events = events.filter(|event| event["involvedObject"]["name"] == service);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        events.map(|e| format!("{} {}: {}", text(&e["type"]), text(&e["reason"]), text(&e["message"]))).collect()
    }

    fn reasons(&self, service: &str) -> Vec<String> {
        let reason = |event: String| event.split([' ', ':']).nth(1).unwrap().to_owned();
        self.events(service).into_iter().map(reason).collect()
    }
}

#[tokio::test]
async fn a_service_has_an_instance_as_long_as_it_wants_one() {
    let mut world = World::new().await;
    world.service("web", &[("scheduler", "wrr"), ("name", "front")]).await;
    world.settle().await;
    let name = world.instance_of("web");
    let balancer = world.instance(&name);
    let service = world.stored(Resource::Services, "default", "web");
    assert_eq!(balancer.spec.owner.as_ref().unwrap().uid, service.meta().uid());
    assert_eq!((balancer.spec.display_name.as_str(), balancer.spec.listeners.len()), ("front", 2));
    assert_eq!(service.meta().finalizers, [writes::FINALIZER]);
    assert_eq!(world.condition("web"), format!("False/Pending: Load balancer {name} waits for an edge node"));
    assert!(service.service().unwrap().status.load_balancer.ingress.is_empty(), "nobody answers there yet");

    world.program().await;
    let address = world.instance(&name).spec.addresses[0].to_string();
    assert_eq!(world.condition("web"), format!("True/Ensured: Load balancer {name} serves at {address}"));
    let service = world.stored(Resource::Services, "default", "web").value().unwrap();
    let ingress = json!([{ "ip": address, "ipMode": "VIP",
        "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 443, "protocol": "TCP" }] }]);
    assert_eq!(service["status"]["loadBalancer"]["ingress"], ingress);

    // What is taken away goes back to its default, and what somebody changed by hand to what it was.
    world.annotate("web", json!({ "portolan.dev/lb-scheduler": null })).await;
    world.settle().await;
    let right = world.instance(&name).spec;
    assert_eq!(right.listeners[0].scheduler, model::types::Scheduler::Rr);
    let patch = json!({ "metadata": { "labels": { "by": "hand" } }, "spec": { "displayName": "x", "listeners": [] } });
    world.patch(Resource::LoadBalancers, "", &name, patch, Subresource::None).await;
    world.settle().await;
    assert_eq!((world.instance(&name).spec, world.instance(&name).metadata.labels.len()), (right, 0));
    world.program().await;

    world.delete(Resource::Services, "default", "web").await;
    world.settle().await;
    assert!(world.store.get(Resource::Services, "default", "web").is_none());
    assert!(world.store.get(Resource::LoadBalancers, "", &name).is_none());
    let expected = [
        "EnsuringLoadBalancer",
        "EnsuredLoadBalancer",
        "UpdatedLoadBalancer",
        "UpdatedLoadBalancer",
        "DeletingLoadBalancer",
        "DeletedLoadBalancer",
    ];
    assert_eq!(world.reasons("web"), expected);
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_changes_nothing() {
    let mut world = World::new().await;
    let pem = |from, until| certificate(SECONDS + from, SECONDS + until);
    world.secret("default", "good", pem(-DAY, 30 * DAY), json!({})).await;
    world.secret("default", "old", pem(-30 * DAY, -DAY), json!({})).await;
    world.secret("default", "early", pem(DAY, 30 * DAY), json!({})).await;
    world.secret("default", "broken", ("-".to_owned(), "-".to_owned()), json!({})).await;
    world.secret("default", "opaque", pem(-DAY, DAY), json!({ "type": "Opaque" })).await;
    let listener = json!({ "port": 80, "protocol": "TCP", "group": "blue", "backends": [] });
    let other = json!({ "port": 443, "protocol": "TCP",
        "backends": [{ "namespace": "default", "name": "first", "port": 443 }] });
    let shared = json!({ "spec": { "addresses": ["192.0.2.15"], "listeners": [listener, other] } });
    world.create(Resource::LoadBalancers, "", "shared", shared).await;
    world.service("other", &[]).await;
    world.service("web", &[("protocol-port", "https:443"), ("cert-id", "good")]).await;
    world.settle().await;
    world.program().await;
    let (name, others) = (world.instance_of("web"), world.instance_of("other"));
    assert!(world.condition("web").starts_with("True/"), "{}", world.condition("web"));
    let address = world.instance(&name).spec.addresses[0];
    let kept = world.instance(&name).spec;
    let shared = world.instance("shared").spec;

    const HTTPS: (&str, &str) = ("protocol-port", "https:443");
    let owned = [("id", others.as_str())];
    #[rustfmt::skip]
    let cases: Vec<(&[Setting], &str, String)> = vec![
        (&[("scheduler", "random")], "InvalidSettings", "portolan.dev/lb-scheduler: \"random\" is not known; use rr, wrr, wlc or sch".to_owned()),
        (&[HTTPS], "InvalidSettings", "portolan.dev/lb-cert-id: the listener at port 443 needs a certificate; name a Secret of type kubernetes.io/tls".to_owned()),
        (&[HTTPS, ("cert-id", "none")], "CertificateMissing", "there is no Secret default/none; create it (kubectl create secret tls none -n default --cert=… --key=…)".to_owned()),
        (&[HTTPS, ("cert-id", "good"), ("domain-extensions", "a.example.com:none")], "CertificateMissing", "there is no Secret default/none; create it (kubectl create secret tls none -n default --cert=… --key=…)".to_owned()),
        (&[HTTPS, ("cert-id", "old")], "CertificateExpired", "the certificate of Secret default/old has expired at 2025-12-31T00:00:00Z; replace it".to_owned()),
        (&[HTTPS, ("cert-id", "early")], "CertificateInvalid", "the certificate of Secret default/early is valid from 2026-01-02T00:00:00Z on; replace it, or wait".to_owned()),
        (&[HTTPS, ("cert-id", "broken")], "CertificateInvalid", "Secret default/broken: tls.crt has no certificate in PEM; put one there".to_owned()),
        (&[HTTPS, ("cert-id", "opaque")], "CertificateInvalid", "Secret default/opaque is of type \"Opaque\", and must be kubernetes.io/tls; make it anew".to_owned()),
        (&[("acl-status", "on"), ("acl-type", "white"), ("acl-id", "office")], "AccessListMissing", "there is no AccessList office; create it, or correct acl-id".to_owned()),
        (&[("id", "nowhere")], "InstanceNotFound", "there is no load balancer nowhere; make a LoadBalancer of this name, or correct id".to_owned()),
        (&owned, "InstanceNotShared", format!("load balancer {others} was made for Service default/other and goes with it; make a LoadBalancer by hand and name that one with id")),
        (&[("id", "shared"), ("force-override-listeners", "true"), ("vgroup-port", "blue:80")], "PortConflict", "port 443/TCP of load balancer shared serves Service default/first; use another port or another load balancer".to_owned()),
        (&[("id", "shared"), ("force-override-listeners", "true"), ("vgroup-port", "red:443")], "PortConflict", "port 80/TCP of load balancer shared belongs to group blue; join it with vgroup-port: blue:80, or use another port".to_owned()),
        (&[("id", "shared"), ("vgroup-port", "red:80")], "GroupNotFound", "load balancer shared has no listener with group red; add one to it, or correct vgroup-port".to_owned()),
        (&[("address-type", "intranet")], "CannotChange", format!("address-type of load balancer {name} cannot be changed, it is internet; set the annotation back, or delete the Service and make it anew")),
        (&[("ip", "198.51.100.1")], "CannotChange", format!("ip of load balancer {name} cannot be changed, it is {address}; set the annotation back, or delete the Service and make it anew")),
        (&[("vswitch-id", "office")], "CannotChange", format!("vswitch-id of load balancer {name} cannot be changed, it is any; set the annotation back, or delete the Service and make it anew")),
    ];
    for (settings, reason, message) in cases {
        let before = world.events("web").len();
        let mut wrong = annotations(settings);
        for good in ["protocol-port", "cert-id"] {
            let key = format!("portolan.dev/lb-{good}");
            wrong[&key] = wrong.get(&key).cloned().unwrap_or_default();
        }
        world.annotate("web", wrong.clone()).await;
        world.settle().await;
        assert_eq!(world.condition("web"), format!("False/{reason}: {message}"), "{settings:?}");
        let events = world.events("web");
        assert_eq!(events[before..], [format!("Warning SyncLoadBalancerFailed: {message}")], "{settings:?}");
        assert_eq!(world.instance(&name).spec, kept, "{settings:?}");
        assert_eq!(world.instance("shared").spec, shared, "{settings:?}");
        let ingress =
            &world.stored(Resource::Services, "default", "web").service().unwrap().status.load_balancer.ingress.clone();
        assert_eq!(ingress[0].ip, address.to_string(), "{settings:?}");
        // A restart says nothing again.
        world.balancers = Balancers::new(world.store.clone(), Options::default(), clock);
        world.settle().await;
        assert_eq!(world.events("web").len(), before + 1, "{settings:?}");
        let mut undone: Value = wrong.as_object().unwrap().keys().map(|key| (key.clone(), Value::Null)).collect();
        undone["portolan.dev/lb-protocol-port"] = "https:443".into();
        undone["portolan.dev/lb-cert-id"] = "good".into();
        world.annotate("web", undone).await;
        world.settle().await;
        assert!(world.condition("web").starts_with("True/Ensured"), "{settings:?}: {}", world.condition("web"));
    }
}

#[tokio::test]
async fn a_certificate_ends_by_time_and_is_replaced() {
    let mut world = World::new().await;
    world.secret("default", "web", certificate(SECONDS - DAY, SECONDS + 2 * DAY), json!({})).await;
    world.service("web", &[("protocol-port", "https:443"), ("cert-id", "web")]).await;
    world.settle().await;
    world.program().await;
    assert!(world.condition("web").starts_with("True/"));
    NOW.set(SECONDS + 2 * DAY + 1);
    world.settle().await;
    assert!(world.condition("web").starts_with("False/CertificateExpired"), "{}", world.condition("web"));
    world.delete(Resource::Secrets, "default", "web").await;
    world.settle().await;
    assert!(world.condition("web").starts_with("False/CertificateMissing"), "{}", world.condition("web"));
    world.secret("default", "web", certificate(SECONDS, SECONDS + 90 * DAY), json!({})).await;
    world.settle().await;
    assert!(world.condition("web").starts_with("True/"), "{}", world.condition("web"));
}

#[tokio::test]
async fn a_certificate_of_another_namespace_must_be_shared() {
    let mut world = World::new().await;
    world.create(Resource::Namespaces, "", "certs", json!({})).await;
    world.secret("certs", "web", certificate(SECONDS - DAY, SECONDS + 2 * DAY), json!({})).await;
    world.service("web", &[("protocol-port", "https:443"), ("cert-id", "certs/web")]).await;
    world.settle().await;
    assert!(world.condition("web").starts_with("False/CertificateNotShared"), "{}", world.condition("web"));
    for (with, shared) in [("other", false), ("other, default", true), ("", false), ("*", true)] {
        let patch = json!({ "metadata": { "annotations": { certificates::SHARE_WITH: with } } });
        world.patch(Resource::Secrets, "certs", "web", patch, Subresource::None).await;
        world.settle().await;
        let refused = world.condition("web").starts_with("False/CertificateNotShared");
        assert_eq!(refused, !shared, "{with}: {}", world.condition("web"));
    }
}

#[tokio::test]
async fn services_share_an_instance_port_by_port() {
    let mut world = World::new().await;
    let by_hand = json!({ "port": 53, "protocol": "UDP", "backends": [] });
    let shared = json!({ "spec": { "addresses": ["192.0.2.15"], "listeners": [by_hand] } });
    world.create(Resource::LoadBalancers, "", "shared", shared).await;
    let using = [("id", "shared"), ("force-override-listeners", "true")];
    world.service("first", &using).await;
    world.settle().await;
    world.service("second", &using).await;
    world.settle().await;
    assert!(world.condition("second").starts_with("False/PortConflict"), "{}", world.condition("second"));
    let patch = json!({ "spec": { "ports": [{ "name": "other", "port": 8080 }] } });
    world.patch(Resource::Services, "default", "second", patch, Subresource::None).await;
    world.settle().await;
    world.program().await;
    let served = |world: &World| {
        let listeners = world.instance("shared").spec.listeners;
        let line = |l: &model::types::Listener| {
            format!("{}:{}", l.port, l.backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join("+"))
        };
        listeners.iter().map(line).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(served(&world), "53: 80:first 443:first 8080:second");
    for service in ["first", "second"] {
        assert!(world.condition(service).starts_with("True/"), "{}", world.condition(service));
        let object = world.stored(Resource::Services, "default", service);
        let ingress = &object.service().unwrap().status.load_balancer.ingress[0];
        assert_eq!((ingress.ip.as_str(), ingress.ip_mode.as_deref()), ("192.0.2.15", Some("Proxy")));
    }
    // Moved to an instance of its own, and back.
    world
        .annotate("second", json!({ "portolan.dev/lb-id": null, "portolan.dev/lb-force-override-listeners": null }))
        .await;
    world.settle().await;
    assert_eq!(served(&world), "53: 80:first 443:first");
    let own = world.instance_of("second");
    assert!(world.instance(&own).spec.owner.is_some());
    world.annotate("second", annotations(&using)).await;
    world.settle().await;
    assert_eq!(served(&world), "53: 80:first 443:first 8080:second");
    assert!(world.store.get(Resource::LoadBalancers, "", &own).is_none());
    // It is never deleted with a Service.
    world.delete(Resource::Services, "default", "first").await;
    world.settle().await;
    assert_eq!(served(&world), "53: 8080:second");
    assert!(world.store.get(Resource::Services, "default", "first").is_none());
}

#[tokio::test]
async fn services_join_a_group_with_their_weights() {
    let mut world = World::new().await;
    let group = json!({ "port": 8000, "protocol": "TCP", "group": "web", "backends": [] });
    world
        .create(
            Resource::LoadBalancers,
            "",
            "shared",
            json!({ "spec": { "addresses": ["192.0.2.15"], "listeners": [group] } }),
        )
        .await;
    for (name, weight) in [("blue", "90"), ("green", "10")] {
        world.service(name, &[("id", "shared"), ("vgroup-port", "web:80"), ("weight", weight)]).await;
    }
    world.settle().await;
    let weights = |world: &World| {
        let listener = world.instance("shared").spec.listeners[0].clone();
        listener.backends.iter().map(|b| format!("{}={}", b.name, b.weight.unwrap())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(weights(&world), "blue=90 green=10");
    world.annotate("green", annotations(&[("weight", "40")])).await;
    world.settle().await;
    assert_eq!(weights(&world), "blue=90 green=40");
    // By hand, which is put right unless the Service says that it may stay.
    let by_hand = |weight: u8| {
        let mut listener = json!(world.instance("shared").spec.listeners[0]);
        listener["backends"][1]["weight"] = weight.into();
        json!({ "spec": { "listeners": [listener] } })
    };
    let patch = by_hand(70);
    world.patch(Resource::LoadBalancers, "", "shared", patch.clone(), Subresource::None).await;
    world.settle().await;
    assert_eq!(weights(&world), "blue=90 green=40");
    world.annotate("green", annotations(&[("ignore-weight-update", "on")])).await;
    world.settle().await;
    world.patch(Resource::LoadBalancers, "", "shared", patch, Subresource::None).await;
    world.settle().await;
    assert_eq!(weights(&world), "blue=90 green=70");
    world.delete(Resource::Services, "default", "blue").await;
    world.settle().await;
    assert_eq!(weights(&world), "green=70");
}

#[tokio::test]
async fn listeners_of_an_instance_are_left_alone_unless_they_are_to_be_overridden() {
    let mut world = World::new().await;
    let by_hand = json!({ "port": 80, "protocol": "TCP", "scheduler": "wlc", "backends": [] });
    world
        .create(
            Resource::LoadBalancers,
            "",
            "shared",
            json!({ "spec": { "addresses": ["192.0.2.15"], "listeners": [by_hand] } }),
        )
        .await;
    world.service("web", &[("id", "shared")]).await;
    let before = world.instance("shared").spec;
    world.settle().await;
    assert_eq!(world.instance("shared").spec, before);
    world.annotate("web", annotations(&[("force-override-listeners", "true")])).await;
    world.settle().await;
    let ports: Vec<u16> = world.instance("shared").spec.listeners.iter().map(|listener| listener.port).collect();
    assert_eq!(ports, [80, 443], "one that serves nobody is replaced");
    world.annotate("web", annotations(&[("force-override-listeners", "false")])).await;
    world.delete(Resource::Services, "default", "web").await;
    world.settle().await;
    assert_eq!(world.instance("shared").spec.listeners.len(), 2, "they stay");
}

#[tokio::test]
async fn what_has_no_effect_is_told_once() {
    let mut world = World::new().await;
    world.service("web", &[("spec", "slb.s1.small"), ("charge-type", "paybytraffic"), ("schedular", "wrr")]).await;
    world.settle().await;
    world.balancers = Balancers::new(world.store.clone(), Options::default(), clock);
    world.settle().await;
    let told: Vec<String> =
        world.events("web").into_iter().filter(|event| event.contains("FeatureNotSupported")).collect();
    let expected = "Warning FeatureNotSupported: These annotations have no effect here: portolan.dev/lb-charge-type, \
        portolan.dev/lb-schedular, portolan.dev/lb-spec; docs/load-balancer.md says why";
    assert_eq!(told, [expected]);
}

#[tokio::test]
async fn a_lost_instance_is_made_anew_and_one_without_a_service_goes() {
    let mut world = World::new().await;
    world.service("web", &[]).await;
    world.settle().await;
    world.program().await;
    let name = world.instance_of("web");
    let addresses = world.instance(&name).spec.addresses;
    world.delete(Resource::LoadBalancers, "", &name).await;
    world.settle().await;
    assert_eq!(world.instance(&name).spec.addresses, addresses, "at the address that it had");
    let patch = json!({ "metadata": { "finalizers": null } });
    world.delete(Resource::Services, "default", "web").await;
    world.patch(Resource::Services, "default", "web", patch, Subresource::None).await;
    world.settle().await;
    assert!(world.store.get(Resource::LoadBalancers, "", &name).is_none());
}

#[tokio::test]
async fn an_instance_may_outlive_its_service() {
    let mut world = World::new().await;
    world.service("web", &[("preserve-lb-on-delete", "false")]).await;
    world.settle().await;
    world.program().await;
    let name = world.instance_of("web");
    let before = world.instance(&name).spec;
    world.delete(Resource::Services, "default", "web").await;
    world.settle().await;
    let after = world.instance(&name).spec;
    assert_eq!((after.owner, after.addresses, after.listeners), (None, before.addresses, before.listeners));
    assert!(world.reasons("web").contains(&"PreservedOnDelete".to_owned()));
    assert!(world.store.get(Resource::Services, "default", "web").is_none());
}

#[tokio::test]
async fn another_type_or_class_has_no_instance() {
    let mut world = World::new().await;
    world.service("web", &[]).await;
    world.settle().await;
    world.program().await;
    let name = world.instance_of("web");
    let patch = json!({ "spec": { "type": "ClusterIP" } });
    world.patch(Resource::Services, "default", "web", patch, Subresource::None).await;
    world.settle().await;
    assert!(world.store.get(Resource::LoadBalancers, "", &name).is_none());
    let service = world.stored(Resource::Services, "default", "web");
    assert!(service.meta().finalizers.is_empty() && service.labels().is_empty());
    assert_eq!(world.condition("web"), "");
    let patch = json!({ "metadata": { "annotations": { "service.beta.kubernetes.io/class": "alb" } },
        "spec": { "type": "LoadBalancer" } });
    world.patch(Resource::Services, "default", "web", patch, Subresource::None).await;
    world.settle().await;
    assert!(world.store.list(Resource::LoadBalancers, None).1.is_empty());
}

#[tokio::test]
async fn services_without_a_class_may_be_left_to_others() {
    let mut world = World::new().await;
    world.balancers = Balancers::new(world.store.clone(), Options { needs_class: true, ..Options::default() }, clock);
    world.service("theirs", &[]).await;
    let spec =
        json!({ "type": "LoadBalancer", "loadBalancerClass": "portolan.dev/load-balancer", "ports": [{ "port": 80 }] });
    world.create(Resource::Services, "default", "ours", json!({ "spec": spec })).await;
    world.settle().await;
    assert_eq!(world.store.list(Resource::LoadBalancers, None).1.len(), 1);
    assert_eq!((world.condition("theirs"), world.events("theirs").len()), (String::new(), 0));
    assert!(world.condition("ours").starts_with("False/Pending"));
}

#[tokio::test]
async fn what_the_edge_says_is_what_the_service_is_told() {
    let mut world = World::new().await;
    world.service("web", &[]).await;
    world.settle().await;
    let name = world.instance_of("web");
    let status = |status: Value| json!({ "status": status });
    let condition =
        |is: &str| json!([{ "type": "EdgeReady", "status": is, "reason": "x", "message": "No edge node has joined" }]);
    let lb = Resource::LoadBalancers;
    world.patch(lb, "", &name, status(json!({ "conditions": condition("False") })), Subresource::Status).await;
    world.settle().await;
    assert_eq!(world.condition("web"), "False/NoEdge: No edge node has joined");
    world.patch(lb, "", &name, status(json!({ "conditions": condition("True") })), Subresource::Status).await;
    world.program().await;
    assert!(world.condition("web").starts_with("True/"), "{}", world.condition("web"));
    let listeners = |backends: u32, message: &str| {
        let healthy = if message == "none passes" { 0 } else { backends };
        json!([{ "port": 80, "protocol": "TCP", "backends": backends, "healthy": healthy, "message": message },
            { "port": 443, "protocol": "TCP", "backends": 2, "healthy": 2 }])
    };
    for (backends, message, expected) in [
        (0, "", "False/NoBackends: There are no available nodes or endpoints for LoadBalancer"),
        (2, "it does not fit", "False/ListenerFailed: Port 80/TCP: it does not fit"),
        (2, "none passes", "True/BackendsFailing: Port 80/TCP: none passes"),
        (2, "", "True/Ensured"),
    ] {
        let patch = status(json!({ "listeners": listeners(backends, message) }));
        world.patch(lb, "", &name, patch, Subresource::Status).await;
        world.settle().await;
        assert!(world.condition("web").starts_with(expected), "{}", world.condition("web"));
    }
    let told = world.reasons("web");
    assert!(told.contains(&"UnAvailableLoadBalancer".to_owned()), "{told:?}");
    // A take-over that goes well is no news; one that does not is.
    let edge = json!({ "name": "edge-2", "term": 2, "since": clock().to_string() });
    world.patch(lb, "", &name, status(json!({ "edge": edge })), Subresource::Status).await;
    world.settle().await;
    assert!(world.condition("web").starts_with("True/"));
    NOW.set(NOW.get() + report::PATIENCE_SECONDS + 1);
    world.settle().await;
    assert!(world.condition("web").starts_with("False/NotProgrammed: Edge node edge-2"), "{}", world.condition("web"));
}

#[tokio::test]
async fn more_backends_than_an_instance_may_have_are_refused() {
    let mut world = World::new().await;
    world.balancers = Balancers::new(world.store.clone(), Options { backends_most: 1, ..Options::default() }, clock);
    world.service("web", &[]).await;
    world.settle().await;
    let condition = world.condition("web");
    assert!(condition.starts_with("False/QuotaExceeded: the Service has 2 backends, and a load balancer may have 1;"));
    assert!(world.store.list(Resource::LoadBalancers, None).1.is_empty());
    world.delete(Resource::Nodes, "", "b").await;
    world.settle().await;
    assert_eq!(world.store.list(Resource::LoadBalancers, None).1.len(), 1);
}

#[tokio::test]
async fn hostname_and_mode_of_the_ingress() {
    let mut world = World::new().await;
    world.service("named", &[("hostname", "web.example.com")]).await;
    world.service("http", &[("protocol-port", "http:80")]).await;
    world.settle().await;
    world.program().await;
    let ingress = |name: &str| {
        let object = world.stored(Resource::Services, "default", name);
        let ingress = object.service().unwrap().status.load_balancer.ingress[0].clone();
        (ingress.hostname, ingress.ip_mode)
    };
    assert_eq!(ingress("named"), ("web.example.com".to_owned(), None));
    assert_eq!(ingress("http"), (String::new(), Some("Proxy".to_owned())));
}

#[test]
fn a_service_is_due_at_the_first_of_its_times_and_the_wall_clock_is_asked_again() {
    let (now, time) = (Instant::now(), clock());
    let due = |again: Option<i64>, retry: Option<u64>| {
        let again = again.map(|seconds| Timestamp::from_second(time.as_second() + seconds).unwrap());
        let found = Found { again, ..Found::default() };
        let known = Known { found, failures: 0, retry: retry.map(|millis| now + Duration::from_millis(millis)) };
        known.due(now, time).map(|due| (due - now).as_millis())
    };
    assert_eq!(due(None, None), None);
    assert_eq!(due(None, Some(200)), Some(200));
    assert_eq!(due(Some(DAY), None), Some(1_000));
    assert_eq!(due(Some(DAY), Some(200)), Some(200));
    assert_eq!((due(Some(0), None), due(Some(-DAY), Some(200))), (Some(0), Some(0)));
}
