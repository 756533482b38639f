//! Services as clients send them, and what becomes of them.

mod create;
mod properties;
mod refusals;
mod update;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::admission::Family;

fn dual() -> Cluster {
    Cluster { families: vec![Family::V4, Family::V6] }
}

fn single() -> Cluster {
    Cluster { families: vec![Family::V4] }
}

/// A Service with this spec.
fn service(spec: Value) -> Service {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// An allocator that hands out what is asked for, or the next number, and keeps book.
#[derive(Clone, Debug, Default)]
struct Ledger {
    addresses: BTreeSet<IpAddr>,
    node_ports: BTreeSet<u16>,
    next: u16,
}

impl Ledger {
    fn settle(&mut self, needs: &Needs, service: &mut Service) {
        for need in &needs.addresses {
            let address = need.requested.unwrap_or_else(|| {
                self.next += 1;
                match need.family {
                    Family::V4 => format!("10.96.1.{}", self.next),
                    Family::V6 => format!("fd00:10:96::{}", self.next),
                }
                .parse()
                .unwrap()
            });
            assert!(self.addresses.insert(address), "{address} is handed out twice");
            fill_address(service, need.index, address);
        }
        for need in &needs.node_ports {
            let number = self.port(need.requested);
            fill_node_port(service, need.index, number);
        }
        if let Some(requested) = needs.health_check_node_port {
            let number = self.port(requested);
            fill_health_check_node_port(service, number);
        }
        for address in &needs.release_addresses {
            assert!(self.addresses.remove(address), "{address} was not held");
        }
        for number in &needs.release_node_ports {
            assert!(self.node_ports.remove(number), "{number} was not held");
        }
    }

    fn port(&mut self, requested: Option<u16>) -> u16 {
        let number = requested.unwrap_or_else(|| {
            self.next += 1;
            31_000 + self.next
        });
        assert!(self.node_ports.insert(number), "{number} is handed out twice");
        number
    }

    fn held(&self) -> Held {
        Held {
            addresses: self.addresses.iter().copied().collect(),
            node_ports: self.node_ports.iter().copied().collect(),
        }
    }
}

/// Prepares and fills a new Service.
fn created(spec: Value) -> Service {
    let mut service = service(spec);
    prepare_create(&mut service, &dual()).unwrap();
    Ledger::default().settle(&needs(None, &service), &mut service);
    service
}

/// Prepares and fills an update of `old`, by a client that read it, changed it and sent it back; says what happened.
fn edited(old: &Service, change: impl FnOnce(&mut Service)) -> Result<(Service, Needs), String> {
    let mut new = old.clone();
    change(&mut new);
    replaced(old, new)
}

fn replaced(old: &Service, mut new: Service) -> Result<(Service, Needs), String> {
    prepare_update(old, &mut new, &dual()).map_err(|errors| lines(&errors))?;
    let needs = needs(Some(old), &new);
    let held = holds(old);
    let mut ledger = Ledger {
        addresses: held.addresses.into_iter().collect(),
        node_ports: held.node_ports.into_iter().collect(),
        next: 100,
    };
    ledger.settle(&needs, &mut new);
    assert_eq!(ledger.held(), holds(&new));
    Ok((new, needs))
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

/// The spec as JSON, one field a line.
fn spec(service: &Service) -> String {
    let Value::Object(fields) = serde_json::to_value(&service.spec).unwrap() else { unreachable!() };
    fields.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}
