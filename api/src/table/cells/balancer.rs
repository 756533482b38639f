//! Rows of load balancing: instances, where their addresses come from, and who may ask.

use std::net::IpAddr;

use model::types::{AddressPool, AddressType, LoadBalancer, PoolUse};
use serde_json::Value;

use super::super::Row;
use super::{NONE, or};

const PENDING: &str = "<pending>";

fn side(type_: AddressType) -> &'static str {
    match type_ {
        AddressType::Internet => "internet",
        AddressType::Intranet => "intranet",
    }
}

/// `12/62`: how many of how many.
fn share(used: Option<&PoolUse>) -> Value {
    used.map_or_else(|| NONE.to_owned(), |used| format!("{}/{}", used.assigned, used.total)).into()
}

pub fn pool(name: Value, pool: &AddressPool, age: Value) -> Row {
    let automatic = pool.spec.auto_assign.unwrap_or(true);
    vec![
        name,
        side(pool.spec.address_type).into(),
        automatic.to_string().into(),
        share(pool.status.v4.as_ref()),
        share(pool.status.v6.as_ref()),
        age,
        pool.spec.addresses.join(",").into(),
    ]
}

pub fn instance(name: Value, balancer: &LoadBalancer, age: Value) -> Row {
    let spec = &balancer.spec;
    let addresses: Vec<String> = spec.addresses.iter().map(IpAddr::to_string).collect();
    let ports: Vec<String> = spec.listeners.iter().map(|listener| listener.port.to_string()).collect();
    let owner = spec.owner.as_ref().map(|owner| format!("{}/{}", owner.namespace, owner.name)).unwrap_or_default();
    let edge = balancer.status.edge.as_ref().map(|edge| edge.name.clone()).unwrap_or_default();
    let (healthy, all) =
        balancer.status.listeners.iter().fold((0, 0), |(healthy, all), l| (healthy + l.healthy, all + l.backends));
    vec![
        name,
        side(spec.address_type).into(),
        or(addresses.join(","), PENDING).into(),
        or(ports.join(","), NONE).into(),
        or(edge, PENDING).into(),
        format!("{healthy}/{all}").into(),
        or(owner, NONE).into(),
        age,
        spec.display_name.clone().into(),
    ]
}
