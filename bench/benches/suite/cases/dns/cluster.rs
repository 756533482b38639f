//! A cluster of so many Services, half of them headless, and what is asked about them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use dns::{Answer, Names, Zone, answer};
use hickory_proto::rr::{Name, RecordType};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, Service, ServicePort, ServiceSpec,
};

use super::Question;

/// Of each Service.
pub const ENDPOINTS: usize = 10;

fn key(service: usize) -> Key {
    Key::new(&format!("ns-{}", service % 50), &format!("service-{service}"))
}

pub fn snapshot(services: usize) -> Snapshot {
    let mut snapshot = Snapshot { revision: 1, ..Snapshot::default() };
    snapshot.service_cidrs = vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/64".parse().unwrap()];
    for number in 0..services {
        let key = key(number);
        snapshot.namespaces.insert(key.namespace.as_ref().into());
        let cluster_ips = if number % 2 == 0 {
            vec![format!("10.96.{}.{}", number / 250, number % 250 + 1), format!("fd00:96::{:x}", number + 1)]
        } else {
            vec!["None".to_owned()]
        };
        let port = ServicePort { name: "http".into(), port: 80, protocol: "TCP".into(), ..ServicePort::default() };
        let spec = ServiceSpec {
            cluster_ip: cluster_ips[0].clone(),
            cluster_ips,
            ports: vec![port],
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        };
        snapshot.services.insert(key.clone(), Arc::new(Service { metadata, spec, ..Service::default() }));
        let slices = snapshot.slices.entry(key).or_default();
        for (family, v4) in [("IPv4", true), ("IPv6", false)] {
            // The endpoints of every fifth Service have IPv6.
            if v4 != (number % 5 == 1) {
                slices.insert(family.to_owned(), Arc::new(slice(number, family, v4)));
            }
        }
    }
    snapshot
}

fn slice(service: usize, family: &str, v4: bool) -> EndpointSlice {
    let endpoints = (0..ENDPOINTS).map(|endpoint| {
        let number = service * ENDPOINTS + endpoint;
        let address = match v4 {
            true => format!("10.{}.{}.{}", 128 + number / 62_500, number / 250 % 250, number % 250 + 1),
            false => format!("fd00:244::{:x}:{:x}", service + 1, endpoint + 1),
        };
        Endpoint {
            addresses: vec![address],
            conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
            hostname: (service % 4 == 1).then(|| format!("pod-{endpoint}")),
            ..Endpoint::default()
        }
    });
    let port = EndpointPort {
        name: Some("http".into()),
        port: Some(8080),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: endpoints.collect(),
        ports: vec![port],
        ..EndpointSlice::default()
    }
}

/// The same questions in every run.
pub fn questions(services: usize) -> Vec<Question> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % bound
    };
    let count = services * 5;
    let mut questions = Vec::with_capacity(count);
    for _ in 0..count {
        let number = dice(services);
        let key = key(number);
        let own = format!("{}.{}.svc.cluster.local.", key.name, key.namespace);
        questions.push(match dice(100) {
            0..=44 => (own, RecordType::A),
            45..=69 => (own, RecordType::AAAA),
            70..=74 if number % 4 == 1 => (format!("pod-{}.{own}", dice(ENDPOINTS)), RecordType::A),
            70..=84 => (format!("_http._tcp.{own}"), RecordType::SRV),
            // As a search path asks.
            85..=92 => (format!("{}.ns-0.{own}", key.name), RecordType::A),
            _ => (format!("no-{own}"), RecordType::AAAA),
        });
    }
    questions
}

/// Everything that our answers to these questions say.
pub fn zone_file(services: usize, questions: &[Question]) -> String {
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    names.load(&snapshot(services));
    let mut lines = BTreeSet::new();
    for (name, kind) in questions {
        // Its addresses, too, by which a name exists for a server that has nothing but the file.
        for kind in [*kind, RecordType::A, RecordType::AAAA] {
            let Answer::Known(reply) = answer(&names, &Name::from_ascii(name).unwrap(), kind) else {
                panic!("{name} is not the cluster's");
            };
            lines.extend(reply.answers.iter().chain(&reply.additionals).map(ToString::to_string));
        }
    }
    let mut text = String::from(
        "$TTL 5\ncluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\n\
         cluster.local. 5 IN NS ns.dns.cluster.local.\nns.dns.cluster.local. 5 IN A 10.96.0.10\n",
    );
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text
}
