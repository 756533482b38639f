//! Rows of kinds that have no typed view.

use jiff::Timestamp;
use serde_json::Value;

use super::super::age;
use super::{NONE, Row, first_three, items, text};

/// Ready addresses with each port; a subset without ports shows its addresses alone. Nothing stands where there are
/// subsets and no address in them is ready.
pub fn endpoints(name: Value, endpoints: &Value, age: Value) -> Row {
    let list = items(endpoints, "/subsets").iter().flat_map(|subset| {
        let addresses = items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            return addresses.collect::<Vec<_>>();
        }
        let addresses: Vec<String> = addresses.collect();
        let numbers = ports.iter().map(|port| port["port"].as_i64().unwrap_or(0));
        numbers.flat_map(|number| addresses.iter().map(move |ip| host_port(ip, number))).collect()
    });
    let placeholder = if items(endpoints, "/subsets").is_empty() { NONE } else { "" };
    vec![name, first_three(list, placeholder).into(), age]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

pub fn event(name: Value, event: &Value, now: Timestamp) -> Row {
    let time = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let first = time("/firstTimestamp").or_else(|| time("/eventTime"));
    let last = time("/series/lastObservedTime").or_else(|| time("/lastTimestamp")).or(first);
    let count = event.pointer("/series/count").or_else(|| event.get("count")).and_then(Value::as_i64).unwrap_or(0);
    let object = &event["involvedObject"];
    let (kind, object_name) = (text(object, "/kind").to_lowercase(), text(object, "/name"));
    let target = if object_name.is_empty() { kind } else { format!("{kind}/{object_name}") };
    vec![
        age::since(last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        target.into(),
        text(object, "/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        age::since(first, now).into(),
        count.max(1).into(),
        name,
    ]
}

/// `component, instance`: the new pair of fields, or the old one.
fn source(event: &Value) -> String {
    let (mut component, mut instance) = (text(event, "/source/component"), text(event, "/source/host"));
    if component.is_empty() {
        component = text(event, "/reportingComponent");
    }
    if instance.is_empty() {
        instance = text(event, "/reportingInstance");
    }
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
