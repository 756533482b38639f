//! Every form of the specification, and what is none: questions and answers as `table/table.txt` lists them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "table/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use dns::{Answer, Names, Reply, Zone, answer};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use model::Key;
use model::snapshot::Snapshot;
use model::types::{EndpointSlice, Service};
use rows::{Expect, rows};
use serde::Deserialize;

/// What every cluster has.
const EVERYWHERE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00:10:96::1"], ports: [{name: https, port: 443, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:10:96::a"]
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
"#;

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { revision: 7, ..Snapshot::default() };
    snapshot.service_cidrs = ["10.96.0.0/16", "fd00:10:96::/112"].map(|cidr| cidr.parse().unwrap()).to_vec();
    for text in EVERYWHERE.split("\n---\n").chain(include_str!("table/cluster.yaml").split("\n---\n")) {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let kind: Kind = serde_saphyr::from_str(text).unwrap();
        match kind.kind.as_str() {
            "Service" => {
                let mut service: Service = serde_saphyr::from_str(text).unwrap();
                // As the server sets them.
                if service.spec.cluster_ips.is_empty() && !service.spec.cluster_ip.is_empty() {
                    service.spec.cluster_ips = vec![service.spec.cluster_ip.clone()];
                }
                for port in &mut service.spec.ports {
                    if port.protocol.is_empty() {
                        "TCP".clone_into(&mut port.protocol);
                    }
                }
                let key = Key::new(service.metadata.namespace(), service.metadata.name());
                snapshot.services.insert(key, Arc::new(service));
            }
            "EndpointSlice" => {
                let slice: EndpointSlice = serde_saphyr::from_str(text).unwrap();
                let key = Key::new(
                    slice.metadata.namespace(),
                    slice.metadata.labels.get("kubernetes.io/service-name").unwrap(),
                );
                let name = slice.metadata.name().to_owned();
                snapshot.slices.entry(key).or_default().insert(name, Arc::new(slice));
            }
            "Namespace" => {
                let namespace: Service = serde_saphyr::from_str(text).unwrap();
                snapshot.namespaces.insert(namespace.metadata.name().into());
            }
            other => panic!("a {other} in the table's cluster"),
        }
    }
    snapshot
}

fn names() -> Names {
    let mut names = Names::new(Zone::new("cluster.local").unwrap());
    names.load(&snapshot());
    names
}

fn ask(names: &Names, name: &str, kind: &str) -> Answer {
    let kind = match kind {
        "TYPE65" => RecordType::HTTPS,
        kind => RecordType::from_str(kind).unwrap(),
    };
    answer(names, &Name::from_ascii(name).unwrap(), kind)
}

fn texts(records: &[Record]) -> Vec<String> {
    let mut texts: Vec<String> = records
        .iter()
        .map(|record| {
            let data = match &record.data {
                RData::TXT(text) => text.to_string().trim_matches('"').to_owned(),
                data => data.to_string(),
            };
            format!("{} {} {data}", record.name.to_string().to_ascii_lowercase(), record.record_type())
        })
        .collect();
    texts.sort();
    texts
}

/// An answer in the words of the table.
fn as_expected(answer: &Answer) -> Expect {
    let Answer::Known(reply) = answer else { return Expect::default() };
    let soa: Vec<_> = reply.authorities.iter().map(|record| (record.name.to_string(), record.record_type())).collect();
    assert!(soa.iter().all(|(_, kind)| *kind == RecordType::SOA) && soa.len() <= 1, "{soa:?}");
    Expect {
        code: match reply.code {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::ServFail => "SERVFAIL",
            other => panic!("{other}"),
        },
        answers: texts(&reply.answers),
        soa: soa.into_iter().next().map(|(owner, _)| owner),
        additionals: texts(&reply.additionals),
        follow: reply.follow.as_ref().map(ToString::to_string),
    }
}

#[test]
fn the_table() {
    let (names, rows) = (names(), rows());
    let mut wrong = Vec::new();
    for row in &rows {
        let answer = ask(&names, &row.name, &row.kind);
        let found = as_expected(&answer);
        if found != row.expect {
            wrong.push(format!(
                "line {}: {} {}\n  want {:?}\n  have {found:?}",
                row.line, row.name, row.kind, row.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 200, "{} rows", rows.len());
    let distinct: BTreeSet<_> = rows.iter().map(|row| (&row.name, &row.kind)).collect();
    assert_eq!(distinct.len(), rows.len(), "a question stands there twice");
}

#[test]
fn answers_keep_the_case_of_the_question_and_have_the_zones_ttl() {
    let names = names();
    for row in rows() {
        let Answer::Known(reply) = ask(&names, &row.name, &row.kind) else { continue };
        if let Some(first) = reply.answers.first() {
            assert_eq!(first.name.to_string(), row.name);
        }
        let ttl = if row.kind == "TXT" && row.name.to_lowercase().starts_with("dns-version") { 28_800 } else { 5 };
        for record in reply.answers.iter().chain(&reply.authorities).chain(&reply.additionals) {
            assert_eq!(record.ttl, ttl, "{record}");
        }
    }
}

/// A type that nobody has heard of gets the same word on whether the name exists as one that has an answer.
#[test]
fn whether_a_name_exists_does_not_depend_on_the_type() {
    let names = names();
    for row in rows() {
        let code = |kind| match answer(&names, &Name::from_ascii(&row.name).unwrap(), kind) {
            Answer::Known(reply) => Some(reply.code),
            Answer::Elsewhere => None,
        };
        // Of an address outside of the service ranges only the PTR is the cluster's; an alias answers by itself.
        if row.kind == "PTR" || row.kind == "CNAME" || row.expect.code.is_empty() {
            continue;
        }
        let codes: BTreeSet<_> =
            [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT, RecordType::Unknown(4711)]
                .map(|kind| code(kind).map(u16::from))
                .into();
        assert_eq!(codes.len(), 1, "{}: {codes:?}", row.name);
    }
}

#[test]
fn before_the_first_load_nothing_is_denied() {
    let names = Names::new(Zone::new("cluster.local").unwrap());
    for row in rows() {
        let outside = row.expect.code.is_empty();
        match ask(&names, &row.name, &row.kind) {
            Answer::Known(reply) => assert_eq!(reply, Reply::failure(), "{}", row.name),
            Answer::Elsewhere => assert!(outside, "{} is forwarded", row.name),
        }
    }
}

#[test]
fn another_zone_and_no_pods() {
    let mut zone = Zone::new("Lab.Example").unwrap();
    zone.pods = dns::PodRecords::Disabled;
    let mut names = Names::new(zone);
    names.load(&snapshot());
    let texts = |name, kind| match ask(&names, name, kind) {
        Answer::Known(reply) => format!("{} {}", reply.code, texts(&reply.answers).join(",")),
        Answer::Elsewhere => "elsewhere".to_owned(),
    };
    assert_eq!(texts("four.demo.svc.lab.example.", "A"), "No Error four.demo.svc.lab.example. A 10.96.100.2");
    assert_eq!(texts("four.demo.svc.cluster.local.", "A"), "elsewhere");
    assert_eq!(texts("10-244-1-10.demo.pod.lab.example.", "A"), "Non-Existent Domain ");
}
