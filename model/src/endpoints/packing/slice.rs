//! A slice as it is written, and what it is compared by.

use crate::endpoints::weights::WEIGHTS;
use crate::endpoints::{SliceChange, TRIGGER_TIME};
use crate::types::{Endpoint, EndpointPort, EndpointSlice, ObjectMeta, TextMap};

use super::{Draft, Shape};

/// The longest base of a generated name: 63 less the five characters that follow.
const MAX_BASE: usize = 58;
/// How often a generated name is drawn again when a slice has it; the store refuses what is still taken.
const MAX_DRAWS: usize = 8;

/// A slice of an owner that has the same name but was deleted before is not ours to change.
pub(super) fn owned(slice: &EndpointSlice, shape: &Shape<'_>) -> bool {
    slice.metadata.owner_references.iter().any(|owner| owner.kind == shape.owner.kind && owner.uid == shape.owner.uid)
}

/// The order of ports says nothing; writers other than this one have another.
pub(super) fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    a == b || (a.len() == b.len() && a.iter().all(|port| b.contains(port)))
}

/// `weights` is asked only where it makes the difference.
pub(super) fn same_metadata(
    slice: &EndpointSlice,
    shape: &Shape<'_>,
    weights: impl FnOnce() -> Option<String>,
) -> bool {
    let annotations = &slice.metadata.annotations;
    slice.metadata.labels == shape.labels
        && match &shape.annotations {
            Some(wanted) => annotations.iter().filter(|(key, _)| *key != TRIGGER_TIME).eq(wanted.iter()),
            None => annotations.get(WEIGHTS) == weights().as_ref(),
        }
}

pub(super) fn updated(
    existing: &EndpointSlice,
    draft: Draft<'_>,
    ports: Vec<EndpointPort>,
    weights: Option<String>,
    shape: &Shape<'_>,
) -> EndpointSlice {
    let mut metadata = existing.metadata.clone();
    if metadata.labels != shape.labels {
        metadata.labels.clone_from(&shape.labels);
    }
    annotate(&mut metadata, weights, shape);
    if draft.new_content {
        metadata.generation = Some(metadata.generation.unwrap_or(0) + 1);
    }
    EndpointSlice {
        address_type: existing.address_type.clone(),
        api_version: existing.api_version.clone(),
        endpoints: draft.endpoints,
        kind: existing.kind.clone(),
        metadata,
        ports: if same_ports(&ports, &existing.ports) { existing.ports.clone() } else { ports },
    }
}

pub(super) fn new_slice(
    name: String,
    endpoints: Vec<Endpoint>,
    ports: Vec<EndpointPort>,
    weights: Option<String>,
    shape: &Shape<'_>,
    address_type: &str,
) -> EndpointSlice {
    let mut metadata = ObjectMeta {
        generate_name: Some(name_base(shape.base)),
        generation: Some(1),
        labels: shape.labels.clone(),
        name: Some(name),
        namespace: Some(shape.namespace.to_owned()),
        owner_references: vec![shape.owner.clone()],
        ..ObjectMeta::default()
    };
    annotate(&mut metadata, weights, shape);
    EndpointSlice {
        address_type: address_type.to_owned(),
        api_version: "discovery.k8s.io/v1".to_owned(),
        endpoints,
        kind: "EndpointSlice".to_owned(),
        metadata,
        ports,
    }
}

/// The trigger time is of this write: where it is unknown, that of an earlier write must go.
fn annotate(metadata: &mut ObjectMeta, weights: Option<String>, shape: &Shape<'_>) {
    match &shape.annotations {
        Some(annotations) => metadata.annotations.clone_from(annotations),
        None => set(&mut metadata.annotations, WEIGHTS, weights),
    }
    set(&mut metadata.annotations, TRIGGER_TIME, shape.trigger_time.map(str::to_owned));
}

fn set(annotations: &mut TextMap, key: &str, value: Option<String>) {
    match value {
        Some(value) => annotations.insert(key.to_owned(), value),
        None => annotations.remove(key),
    };
}

/// `metadata.generateName` of a slice: the owner's name and a dash.
fn name_base(owner: &str) -> String {
    let mut base = format!("{owner}-");
    // Names of Services and Endpoints are ASCII, so no character is cut in two.
    base.truncate(MAX_BASE);
    base
}

pub(super) fn free_name(owner: &str, suffix: &mut dyn FnMut() -> String, changes: &[SliceChange]) -> String {
    let base = name_base(owner);
    let mut name = format!("{base}{}", suffix());
    for _ in 1..MAX_DRAWS {
        if !changes.iter().any(|change| change.name() == name) {
            break;
        }
        name = format!("{base}{}", suffix());
    }
    name
}
