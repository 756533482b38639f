//! How many endpoints each zone gets.
//!
//! With n endpoints and a part p of all CPU, a zone should have p·n of them. It must have so many that its clients, which
//! send in proportion to its CPU, put at most a fifth more on one of its endpoints than on an endpoint on average: p·n / 1.2,
//! rounded up, and so one at least. Where the zones need more together than there are, nobody gets hints; with six endpoints
//! for each zone that cannot be, since rounding adds less than one for each zone, and a sixth is spare.
//!
//! Source: the topology cache of Kubernetes' EndpointSlice controller. Unlike there, the numbers are exact: integers of CPU
//! and endpoints, no floating point.

use std::collections::BinaryHeap;

use thiserror::Error;

use super::zones::Zones;

/// The overload that is put up with, as a fraction: 1.2 times the average.
const OVERLOAD: (u128, u128) = (12, 10);

/// Why the endpoints of a Service have no hints although it asks for them to be allocated. Each says what would change it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoHints {
    #[error("a ready Node says no zone (label topology.kubernetes.io/zone) or no allocatable CPU")]
    Nodes,
    #[error("zones with ready Nodes: {zones}; two are needed")]
    Zones { zones: usize },
    #[error("ready endpoints: {endpoints}, fewer than the {zones} zones")]
    Endpoints { endpoints: usize, zones: usize },
    #[error("{endpoints} ready endpoints cannot be shared among {zones} zones without an overload of more than 20 %")]
    Overload { endpoints: usize, zones: usize },
    #[error("Pod {pod} is in no zone")]
    Zoneless { pod: String },
}

/// How many endpoints a zone gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation<'a> {
    pub zone: &'a str,
    /// With fewer its endpoints are overloaded.
    pub minimum: usize,
    /// The number that is nearest to its part; all of them together are the number of endpoints.
    pub target: usize,
}

/// The zones' allocations of `endpoints` ready endpoints, in the order of the zones' names.
pub(super) fn allocate(zones: &Zones, endpoints: usize) -> Result<Vec<Allocation<'_>>, NoHints> {
    if !zones.complete() {
        return Err(NoHints::Nodes);
    }
    if zones.len() < 2 {
        return Err(NoHints::Zones { zones: zones.len() });
    }
    if endpoints < zones.len() {
        return Err(NoHints::Endpoints { endpoints, zones: zones.len() });
    }
    let total: u128 = zones.cpus().map(|(_, cpu)| u128::from(cpu)).sum();
    let minimum = |cpu: u64| {
        let minimum = (endpoints as u128 * u128::from(cpu) * OVERLOAD.1).div_ceil(total * OVERLOAD.0);
        usize::try_from(minimum).unwrap_or(usize::MAX)
    };
    let mut allocations: Vec<Allocation<'_>> = zones
        .cpus()
        .map(|(zone, cpu)| (zone, minimum(cpu)))
        .map(|(zone, minimum)| Allocation { zone, minimum, target: minimum })
        .collect();
    let needed: usize = allocations.iter().map(|allocation| allocation.minimum).sum();
    let Some(spare) = endpoints.checked_sub(needed) else {
        return Err(NoHints::Overload { endpoints, zones: zones.len() });
    };
    share(&mut allocations, zones, spare, endpoints as i128, i128::try_from(total).unwrap_or(i128::MAX));
    Ok(allocations)
}

/// Gives each spare endpoint to the zone that lacks most of its part: of several, to the first.
fn share(allocations: &mut [Allocation<'_>], zones: &Zones, spare: usize, endpoints: i128, total: i128) {
    let lack = |cpu: u64, target: usize| endpoints * i128::from(cpu) - target as i128 * total;
    let mut lacking: BinaryHeap<(i128, std::cmp::Reverse<usize>)> = zones
        .cpus()
        .zip(&*allocations)
        .enumerate()
        .map(|(at, ((_, cpu), allocation))| (lack(cpu, allocation.target), std::cmp::Reverse(at)))
        .collect();
    for _ in 0..spare {
        let Some((lack, std::cmp::Reverse(at))) = lacking.pop() else { return };
        allocations[at].target += 1;
        lacking.push((lack - total, std::cmp::Reverse(at)));
    }
}
