//! Hints: which clients an endpoint is for, by their zone or node.
//!
//! A Service asks for them in one of two ways. `spec.trafficDistribution` hints every ready endpoint at its own zone, or at
//! its own node too: that depends on nothing but the endpoint. The annotation [`TOPOLOGY_MODE`] `Auto` shares the endpoints
//! among the zones in proportion to their CPU ([`allocation`]), so that a zone with few endpoints borrows some; that depends
//! on all of the Service's endpoints and all Nodes. The annotation wins, also where nothing can be allocated: then there are
//! no hints.
//!
//! Agents use hints only where all ready endpoints have them, so there are none on endpoints that are not ready.
//!
//! Source: Kubernetes' EndpointSlice controller (its topology cache and its traffic distribution).

mod allocation;
mod assign;
#[cfg(test)]
mod tests;
mod zones;

use crate::admission::Family;
use crate::types::{EndpointHints, EndpointSlice, ForNode, ForZone, Service};

use super::pods::{Candidate, Candidates};
use allocation::{Allocation, allocate};
use assign::{Member, assign};

pub use allocation::NoHints;
pub use zones::{Share, Zones};

/// Annotation of a Service: `Auto` or `auto` has its endpoints allocated to zones.
pub const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
/// The older name of [`TOPOLOGY_MODE`]; it wins where both are.
pub const TOPOLOGY_AWARE_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// Which hints a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// None.
    Anywhere,
    /// Allocated to the zones.
    Auto,
    /// `PreferSameZone`, or by its older name `PreferClose`.
    SameZone,
    /// `PreferSameNode`: the node, and for the others the zone.
    SameNode,
}

impl Topology {
    pub fn of(service: &Service) -> Self {
        let annotations = &service.metadata.annotations;
        let mode = annotations.get(TOPOLOGY_AWARE_HINTS).or_else(|| annotations.get(TOPOLOGY_MODE));
        if matches!(mode.map(String::as_str), Some("Auto" | "auto")) {
            return Self::Auto;
        }
        match service.spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }
}

/// What came of the allocation to zones in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    pub family: Family,
    /// Whether any endpoint had hints before.
    pub had_hints: bool,
    pub outcome: Result<(), NoHints>,
}

/// The hint of one endpoint; without node and zone it is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hint<'a> {
    node: Option<&'a str>,
    zone: Option<&'a str>,
}

impl Hint<'_> {
    /// Whether the hints of a slice's endpoint are this.
    pub fn same(&self, hints: Option<&EndpointHints>) -> bool {
        match hints {
            None => *self == Self::default(),
            Some(hints) => {
                *self != Self::default()
                    && hints.for_nodes.iter().map(|node| node.name.as_str()).eq(self.node)
                    && hints.for_zones.iter().map(|zone| zone.name.as_str()).eq(self.zone)
            }
        }
    }

    pub fn build(&self) -> Option<EndpointHints> {
        (*self != Self::default()).then(|| EndpointHints {
            for_nodes: self.node.into_iter().map(|name| ForNode { name: name.to_owned() }).collect(),
            for_zones: self.zone.into_iter().map(|name| ForZone { name: name.to_owned() }).collect(),
        })
    }
}

/// The hints of one family's endpoints.
#[derive(Debug)]
pub(super) enum Hints<'a> {
    None,
    SameZone,
    SameNode,
    /// By the candidate's index.
    Allocated(Vec<Option<&'a str>>),
}

impl<'a> Hints<'a> {
    pub fn of(&self, index: usize, candidate: &Candidate<'a>) -> Hint<'a> {
        match self {
            Self::SameZone if candidate.ready => Hint { node: None, zone: candidate.zone },
            Self::SameNode if candidate.ready => Hint { node: candidate.node_name(), zone: candidate.zone },
            Self::Allocated(zones) => Hint { node: None, zone: zones.get(index).copied().flatten() },
            Self::None | Self::SameZone | Self::SameNode => Hint::default(),
        }
    }

    /// Allocates the ready candidates of a family to the zones; `existing` are its slices.
    pub fn allocate(
        candidates: &Candidates<'a>,
        family: Family,
        existing: &[&'a EndpointSlice],
        zones: &'a Zones,
    ) -> (Self, Allocated) {
        let existing = existing.iter().filter(|slice| slice.address_type == family.as_str());
        let endpoints = || existing.clone().flat_map(|slice| &slice.endpoints);
        let had_hints = endpoints().any(|endpoint| endpoint.hints.is_some());
        let ready: Vec<usize> = (0..candidates.list.len())
            .filter(|&index| candidates.list[index].ready && candidates.list[index].address(family).is_some())
            .collect();
        let allocations = match allocations(candidates, &ready, zones) {
            Ok(allocations) => allocations,
            Err(reason) => return (Self::None, Allocated { family, had_hints, outcome: Err(reason) }),
        };
        let place = |zone: &str| allocations.binary_search_by(|allocation| allocation.zone.cmp(zone)).ok();
        let mut now: Vec<Option<usize>> = vec![None; candidates.list.len()];
        let mut next = 0;
        for endpoint in endpoints() {
            let Some([zone]) = endpoint.hints.as_ref().map(|hints| hints.for_zones.as_slice()) else { continue };
            let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
            if let Some(index) = pod.and_then(|name| candidates.find(name, next)) {
                next = index + 1;
                now[index] = now[index].or_else(|| place(&zone.name));
            }
        }
        let member = |&index: &usize| Member { home: candidates.list[index].zone.and_then(place), zone: now[index] };
        let mut members: Vec<Member> = ready.iter().map(member).collect();
        assign(&allocations, &mut members);
        let mut hints = vec![None; candidates.list.len()];
        for (index, member) in ready.into_iter().zip(members) {
            hints[index] = member.zone.map(|zone| allocations[zone].zone);
        }
        (Self::Allocated(hints), Allocated { family, had_hints, outcome: Ok(()) })
    }
}

fn allocations<'a>(
    candidates: &Candidates<'_>,
    ready: &[usize],
    zones: &'a Zones,
) -> Result<Vec<Allocation<'a>>, NoHints> {
    let allocations = allocate(zones, ready.len())?;
    let ready = ready.iter().map(|&index| &candidates.list[index]);
    match ready.into_iter().find(|candidate| candidate.zone.is_none()) {
        Some(candidate) => Err(NoHints::Zoneless { pod: candidate.pod.metadata.name().to_owned() }),
        None => Ok(allocations),
    }
}
