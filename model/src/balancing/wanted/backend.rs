//! Which backends a Service's listeners have.

use super::super::annotations::Reader;
use crate::types::{BackendMode, BackendSource, Service};

/// Of each backend, unless said otherwise: the greatest weight.
const WEIGHT: u8 = 100;

/// The source of a Service's backends, without port and protocol.
pub(super) fn read(service: &Service, reader: &Reader<'_>) -> BackendSource {
    let mode = reader.choice("backend-type", &[("eni", BackendMode::Eni), ("ecs", BackendMode::Node)]);
    let without = service.spec.ports.iter().find(|port| port.node_port == 0);
    let allocates = service.spec.allocate_load_balancer_node_ports != Some(false);
    let mode = match (mode, without) {
        (Some(BackendMode::Node), Some(port)) if !allocates => {
            let message = format!(
                "port {} has no node port; use eni, or set spec.allocateLoadBalancerNodePorts to true",
                port.port
            );
            reader.refuse_setting("backend-type", message);
            BackendMode::Node
        }
        (None, Some(_)) if !allocates => BackendMode::Eni,
        (mode, _) => mode.unwrap_or_default(),
    };
    let number = |suffix| reader.number(suffix, 0..=100).and_then(|number| u8::try_from(number).ok());
    let weight = number("weight");
    BackendSource {
        namespace: service.metadata.namespace().to_owned(),
        name: service.metadata.name().to_owned(),
        mode,
        node_labels: reader.pairs("backend-label"),
        skip_unschedulable: reader.switch("remove-unscheduled-backend") == Some(true),
        default_weight: Some(number("default-weight").unwrap_or(WEIGHT)),
        weight,
        ..BackendSource::default()
    }
}
