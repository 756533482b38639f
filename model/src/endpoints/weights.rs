//! Weights: which share of new connections an endpoint gets, from 0 to 100.
//!
//! A Pod says its own in an annotation ([`WEIGHT`]). Agents do not watch Pods, so the weights of a slice's endpoints stand
//! on the slice in one annotation ([`WEIGHTS`]): `10.244.1.2=50,10.244.1.3=0`. An endpoint has no field for it, and a
//! reader that does not know the annotation sees what it always saw. Only weights other than [`FULL`] are written, so
//! slices of Services without weights have no such annotation.
//!
//! A weight is in proportion to the others of the Service, not a percentage: endpoints of 50 and 50 share like endpoints of
//! 100 and 100. Weight 0 is for draining: no new connection, while what is established stays.

use std::collections::BTreeMap;
use std::net::IpAddr;

use thiserror::Error;

use crate::types::ObjectMeta;

#[cfg(test)]
mod tests;

/// Annotation of a Pod: its weight, an integer from 0 to 100.
pub const WEIGHT: &str = "portolan.dev/weight";
/// Annotation of an EndpointSlice: the weights of its addresses; see [`parse`]. Of an Endpoints object, too: mirroring
/// copies it.
pub const WEIGHTS: &str = "portolan.dev/weights";
/// The weight of an endpoint that has none of its own, and the greatest.
pub const FULL: u8 = 100;

/// Why a text is no list of weights. Whoever wrote it must mend it; a reader of stored objects takes all weights as
/// [`FULL`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WeightsError {
    #[error("{0:?} is not of the form ADDRESS=WEIGHT")]
    Entry(String),
    #[error("{0:?} is not an IP address")]
    Address(String),
    #[error("the weight of {address} must be an integer from 0 to 100")]
    Weight { address: IpAddr },
    #[error("{0} has more than one weight")]
    Repeated(IpAddr),
}

/// Reads one weight: decimal digits and nothing else, at most [`FULL`].
pub fn parse_one(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|weight| digits && *weight <= FULL)
}

/// Reads the annotation of a slice: `ADDRESS=WEIGHT` separated by commas, without blanks, in any order. An empty text has
/// no weights. An address that is missing has [`FULL`]; one that is not in the slice means nothing.
pub fn parse(text: &str) -> Result<BTreeMap<IpAddr, u8>, WeightsError> {
    let mut weights = BTreeMap::new();
    for entry in text.split(',').filter(|_| !text.is_empty()) {
        let (address, weight) = entry.split_once('=').ok_or_else(|| WeightsError::Entry(entry.to_owned()))?;
        let address: IpAddr = address.parse().map_err(|_| WeightsError::Address(address.to_owned()))?;
        let weight = parse_one(weight).ok_or(WeightsError::Weight { address })?;
        if weights.insert(address, weight).is_some() {
            return Err(WeightsError::Repeated(address));
        }
    }
    Ok(weights)
}

/// The annotation that says these weights, sorted by address; none where all are [`FULL`], since then it is left out.
pub fn format(weights: &BTreeMap<IpAddr, u8>) -> Option<String> {
    let entries = weights.iter().filter(|(_, weight)| **weight != FULL);
    let entries: Vec<String> = entries.map(|(address, weight)| format!("{address}={weight}")).collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

/// The weight that a Pod says. A text that is none, from before it was validated, counts as [`FULL`].
pub fn of_pod(metadata: &ObjectMeta) -> u8 {
    metadata.annotations.get(WEIGHT).and_then(|text| parse_one(text)).unwrap_or(FULL)
}
