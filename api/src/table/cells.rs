//! The cells of each resource. Kinds with a typed view are read from it; the others from their JSON.

mod balancer;
mod documents;
mod network;
mod node;
mod pod;
mod rbac;
mod service;

use jiff::Timestamp;
use model::{Object, Resource, View};
use serde_json::Value;

use super::{Row, age};

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// The cells of one object, as many as its resource has columns.
pub fn of(object: &Object, now: Timestamp) -> Row {
    let name = Value::from(object.meta().name());
    let age = Value::from(age::since(object.meta().creation_timestamp.as_deref(), now));
    // `value` fails for no stored object; an unreadable one shows empty cells.
    let document = || object.value().unwrap_or_default();
    match &object.view {
        View::Service(service) => service::row(name, service, age),
        View::Pod(pod) => pod::row(name, pod, &document(), age, now),
        View::Node(_) => node::row(name, object.labels(), &document(), age),
        View::EndpointSlice(slice) => network::endpoint_slice(name, slice, age),
        View::ServiceCidr(cidr) => vec![name, cidr.spec.cidrs.join(",").into(), age],
        View::IpAddress(address) => network::ip_address(name, address),
        View::AddressPool(pool) => balancer::pool(name, pool, age),
        View::LoadBalancer(instance) => balancer::instance(name, instance, age),
        View::AccessList(list) => vec![name, list.spec.entries.len().into(), age],
        View::Document(_) => match object.resource {
            Resource::Namespaces => vec![name, text(&document(), "/status/phase").into(), age],
            Resource::Endpoints => documents::endpoints(name, &document(), age),
            Resource::Events => documents::event(name, &document(), now),
            Resource::Leases => vec![name, text(&document(), "/spec/holderIdentity").into(), age],
            Resource::ServiceAccounts => vec![name, items(&document(), "/secrets").len().into(), age],
            Resource::Roles | Resource::ClusterRoles => {
                vec![name, text(&document(), "/metadata/creationTimestamp").into()]
            }
            Resource::RoleBindings | Resource::ClusterRoleBindings => rbac::binding(name, &document(), age),
            Resource::Tokens => rbac::token(name, &document(), age, now),
            Resource::Secrets => {
                let document = document();
                let count = document.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len);
                vec![name, text(&document, "/type").into(), count.into(), age]
            }
            _ => vec![name, age],
        },
    }
}

/// The text at a JSON pointer, or nothing.
fn text(document: &Value, pointer: &str) -> String {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned()
}

/// The text, or a placeholder where it is empty.
fn or(text: String, placeholder: &str) -> String {
    if text.is_empty() { placeholder.to_owned() } else { text }
}

/// The items of the list at a JSON pointer.
fn items<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    document.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The first three items joined by commas, and how many more there are.
fn first_three(items: impl Iterator<Item = String>, placeholder: &str) -> String {
    const SHOWN: usize = 3;
    let mut shown = Vec::with_capacity(SHOWN);
    let mut more = 0usize;
    for item in items {
        if shown.len() < SHOWN {
            shown.push(item);
        } else {
            more += 1;
        }
    }
    let list = or(shown.join(","), placeholder);
    if more == 0 { list } else { format!("{list} + {more} more...") }
}
