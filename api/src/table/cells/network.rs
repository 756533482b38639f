//! Rows of endpoint slices and addresses.

use model::types::{EndpointSlice, IpAddress};
use serde_json::Value;

use super::{NONE, Row, first_three};

pub fn endpoint_slice(name: Value, slice: &EndpointSlice, age: Value) -> Row {
    let ports = slice.ports.iter().map(|port| match (port.port, &port.name) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "*".to_owned(),
    });
    let addresses = slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned());
    vec![
        name,
        slice.address_type.as_str().into(),
        first_three(ports, "<unset>").into(),
        first_three(addresses, "<unset>").into(),
        age,
    ]
}

pub fn ip_address(name: Value, address: &IpAddress) -> Row {
    let parent = address.spec.parent_ref.as_ref().map_or(NONE.to_owned(), |parent| {
        let mut text = parent.resource.to_lowercase();
        for (separator, part) in [('.', &parent.group), ('/', &parent.namespace), ('/', &parent.name)] {
            if !part.is_empty() {
                text.push(separator);
                text.push_str(&part.to_lowercase());
            }
        }
        text
    });
    vec![name, parent.into()]
}
