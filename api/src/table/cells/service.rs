//! The row of a Service.

use std::collections::BTreeSet;

use model::types::{Service, ServicePort};
use serde_json::Value;

use super::{NONE, Row, or};

pub fn row(name: Value, service: &Service, age: Value) -> Row {
    let spec = &service.spec;
    let cluster_ip = spec.cluster_ips.first().cloned().unwrap_or_else(|| spec.cluster_ip.clone());
    let selector: Vec<String> = spec.selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    vec![
        name,
        spec.type_.as_str().into(),
        or(cluster_ip, NONE).into(),
        external_ip(service).into(),
        or(spec.ports.iter().map(port).collect::<Vec<_>>().join(","), NONE).into(),
        age,
        or(selector.join(","), NONE).into(),
    ]
}

fn external_ip(service: &Service) -> String {
    let spec = &service.spec;
    match spec.type_.as_str() {
        "ExternalName" => spec.external_name.clone(),
        "LoadBalancer" => {
            let ingress: BTreeSet<&str> = (service.status.load_balancer.ingress.iter())
                .map(|i| if i.ip.is_empty() { i.hostname.as_str() } else { i.ip.as_str() })
                .filter(|text| !text.is_empty())
                .collect();
            let all: Vec<&str> = ingress.into_iter().chain(spec.external_ips.iter().map(String::as_str)).collect();
            or(all.join(","), "<pending>")
        }
        _ => or(spec.external_ips.join(","), NONE),
    }
}

fn port(port: &ServicePort) -> String {
    if port.node_port > 0 {
        format!("{}:{}/{}", port.port, port.node_port, port.protocol)
    } else {
        format!("{}/{}", port.port, port.protocol)
    }
}
