//! Keeping up to date gives what loading anew gives, whatever the order of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Key;
use model::snapshot::Snapshot;
use model::types::{Endpoint, EndpointConditions, EndpointSlice, ObjectMeta, Service, ServiceSpec};
use proptest::prelude::*;

use super::*;

#[test]
fn domains() {
    for (text, domain) in [("cluster.local", "cluster.local."), ("Lab.Example.", "lab.example."), ("k8s", "k8s.")] {
        assert_eq!(Zone::new(text).unwrap().domain.to_string(), domain);
    }
    for wrong in ["", ".", "a..b", "-a.local", "a_b.local", "a b", &"a.".repeat(60), &"a".repeat(64), "ä.local"] {
        assert!(Zone::new(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn nothing_is_known_before_the_first_load() {
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    let mut snapshot = Snapshot::default();
    let web = key(1);
    snapshot.services.insert(web.clone(), Arc::new(service(&web, Kinds::Cluster(9))));
    names.update(&snapshot, [&web]);
    let wire = b"\x02s1\x01n\x03svc\x07cluster\x05local\x00";
    assert_eq!(names.addresses(wire), None);
    names.load(&snapshot);
    assert_eq!(names.addresses(wire).unwrap().v4, ["10.96.0.9".parse::<Ipv4Addr>().unwrap()]);
    for other in [&b"\x02s1\x01m\x03svc\x07cluster\x05local\x00"[..], b"\x02s1\x01n\x03svc\x07cluster\x05local", b""] {
        assert_eq!(names.addresses(other), None);
    }
}

#[derive(Clone, Debug)]
enum Kinds {
    Cluster(u8),
    Headless,
    External(&'static str),
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, Kinds),
    Delete(u8),
    Slice(u8, u8, Vec<(u8, bool, Option<&'static str>)>),
    NoSlice(u8, u8),
    Namespace(u8),
}

fn key(number: u8) -> Key {
    Key::new("n", &format!("s{number}"))
}

fn service(key: &Key, kind: Kinds) -> Service {
    let spec = match kind {
        Kinds::Cluster(last) => {
            let ip = format!("10.96.0.{last}");
            ServiceSpec { cluster_ip: ip.clone(), cluster_ips: vec![ip], ..ServiceSpec::default() }
        }
        Kinds::Headless => ServiceSpec {
            cluster_ip: "None".to_owned(),
            cluster_ips: vec!["None".to_owned()],
            ..ServiceSpec::default()
        },
        Kinds::External(name) => {
            ServiceSpec { type_: "ExternalName".to_owned(), external_name: name.to_owned(), ..ServiceSpec::default() }
        }
    };
    let metadata = ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() };
    Service { metadata, spec, ..Service::default() }
}

fn slice(endpoints: Vec<(u8, bool, Option<&str>)>) -> EndpointSlice {
    let endpoints = endpoints.into_iter().map(|(last, ready, hostname)| Endpoint {
        addresses: vec![format!("10.244.0.{last}")],
        conditions: EndpointConditions { ready: Some(ready), ..EndpointConditions::default() },
        hostname: hostname.map(str::to_owned),
        ..Endpoint::default()
    });
    EndpointSlice { endpoints: endpoints.collect(), ..EndpointSlice::default() }
}

fn kinds() -> impl Strategy<Value = Kinds> {
    prop_oneof![
        (1..5_u8).prop_map(Kinds::Cluster),
        Just(Kinds::Headless),
        prop::sample::select(&["a.example", "s1.n.svc.cluster.local", "10.0.0.1", ""][..]).prop_map(Kinds::External),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let hostname = prop::option::of(prop::sample::select(&["db-0", "DB-1"][..]));
    let endpoints = prop::collection::vec((1..4_u8, any::<bool>(), hostname), 0..4);
    prop_oneof![
        (0..4_u8, kinds()).prop_map(|(s, kind)| Step::Set(s, kind)),
        (0..4_u8).prop_map(Step::Delete),
        (0..4_u8, 0..2_u8, endpoints).prop_map(|(s, n, endpoints)| Step::Slice(s, n, endpoints)),
        (0..4_u8, 0..2_u8).prop_map(|(s, n)| Step::NoSlice(s, n)),
        (0..3_u8).prop_map(Step::Namespace),
    ]
}

proptest! {
    #[test]
    fn an_update_is_as_good_as_a_load(steps in prop::collection::vec(steps(), 1..40)) {
        let mut snapshot = Snapshot::default();
        let zone = Zone::new("cluster.local").unwrap();
        let mut kept = Names::new(zone.clone());
        kept.load(&snapshot);
        for step in steps {
            snapshot.revision += 1;
            if let Step::Namespace(n) = step {
                let name: Box<str> = format!("n{n}").into();
                if !snapshot.namespaces.remove(&name) {
                    snapshot.namespaces.insert(name);
                }
                kept.update_cluster(&snapshot);
                let mut anew = Names::new(zone.clone());
                anew.load(&snapshot);
                prop_assert_eq!(&kept, &anew);
                continue;
            }
            let changed = match step {
                Step::Namespace(_) => continue,
                Step::Set(s, kind) => {
                    snapshot.services.insert(key(s), Arc::new(service(&key(s), kind)));
                    key(s)
                }
                Step::Delete(s) => {
                    snapshot.services.remove(&key(s));
                    key(s)
                }
                Step::Slice(s, n, endpoints) => {
                    let slices: &mut BTreeMap<_, _> = snapshot.slices.entry(key(s)).or_default();
                    slices.insert(n.to_string(), Arc::new(slice(endpoints)));
                    key(s)
                }
                Step::NoSlice(s, n) => {
                    snapshot.slices.entry(key(s)).or_default().remove(&n.to_string());
                    key(s)
                }
            };
            kept.update(&snapshot, [&changed]);
            let mut anew = Names::new(zone.clone());
            anew.load(&snapshot);
            prop_assert_eq!(&kept, &anew);
        }
    }
}
