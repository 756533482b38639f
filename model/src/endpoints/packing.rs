//! Packing: endpoints that are wanted, slices that exist, and the fewest writes between them.
//!
//! The steps, for each set of ports of one address type:
//! 1. Walk the slices: what is wanted stays where it is (and is renewed in place), what is not is dropped.
//! 2. What is wanted and has no place goes into slices that are written anyway, the fullest first;
//! 3. then, as a whole, into the one untouched slice that it fills best;
//! 4. then into new slices.
//!
//! At the end a slice to be created takes over the name of one to be deleted, so that one write does for two.
//! Every choice is by order (slices as given, endpoints by index), so the same input gives the same output.

mod slice;

use crate::types::{Endpoint, EndpointPort, EndpointSlice, OwnerReference, TextMap};

use self::slice::{free_name, new_slice, owned, same_metadata, same_ports, updated};
use super::SliceChange;

/// Endpoints that are wanted, by index.
pub(super) trait Wanted {
    fn len(&self) -> usize;
    /// The set of ports that the endpoint has, or `None` if it is not wanted for this address type.
    fn group(&self, index: usize) -> Option<usize>;
    /// The wanted endpoint that an existing one of this group stands for.
    fn find(&self, group: usize, existing: &Endpoint) -> Option<usize>;
    /// Whether the existing endpoint is already what is wanted.
    fn same(&self, index: usize, existing: &Endpoint) -> bool;
    fn build(&self, index: usize) -> Endpoint;
    /// The weights of what wanted endpoints a slice of this group holds, as its annotation says them.
    fn weights(&self, _group: usize, _endpoints: &[Endpoint]) -> Option<String> {
        None
    }
}

/// What the slices of one owner have in common.
pub(super) struct Shape<'a> {
    pub namespace: &'a str,
    /// The name that names are generated from: that of the Service.
    pub base: &'a str,
    pub owner: OwnerReference,
    pub labels: TextMap,
    /// Annotations beside the trigger time; `None` leaves those of existing slices alone, save the weights.
    pub annotations: Option<TextMap>,
    pub trigger_time: Option<&'a str>,
    pub max_endpoints: usize,
    /// Whether an address type without endpoints keeps an empty slice.
    pub placeholder: bool,
    /// Whether slices may be created: not for an owner that is going.
    pub creates: bool,
}

/// A slice that will be written; `existing` is the slice that it replaces.
struct Draft<'a> {
    existing: Option<&'a EndpointSlice>,
    /// The set of ports; `None` for a placeholder, which has none.
    group: Option<usize>,
    endpoints: Vec<Endpoint>,
    /// Whether more than labels and annotations differ from `existing`.
    new_content: bool,
}

/// Where every existing slice and wanted endpoint of one address type stands.
#[derive(Default)]
struct Board<'a> {
    changed: Vec<Draft<'a>>,
    untouched: Vec<(usize, &'a EndpointSlice)>,
    doomed: Vec<&'a EndpointSlice>,
    created: Vec<Draft<'a>>,
}

/// Packs the endpoints of one address type, and appends the changes to `changes`: updates, then creations, then
/// deletions.
pub(super) fn pack<'a>(
    wanted: &dyn Wanted,
    groups: &[Vec<EndpointPort>],
    shape: &Shape<'_>,
    address_type: &str,
    existing: impl Iterator<Item = &'a EndpointSlice>,
    suffix: &mut dyn FnMut() -> String,
    changes: &mut Vec<SliceChange>,
) {
    let mut board = Board::default();
    let mut placed = vec![false; wanted.len()];
    for slice in existing {
        board.sort_in(slice, wanted, groups, shape, &mut placed);
    }
    let mut pending: Vec<(usize, usize)> = (0..wanted.len())
        .filter(|&index| !placed[index])
        .filter_map(|index| wanted.group(index).map(|group| (group, index)))
        .collect();
    pending.sort_unstable();
    for members in pending.chunk_by(|a, b| a.0 == b.0) {
        board.place(members, wanted, shape.max_endpoints);
    }
    if shape.placeholder {
        board.keep_placeholder(shape);
    }
    board.finish(wanted, groups, shape, address_type, suffix, changes);
}

impl<'a> Board<'a> {
    /// Step 1 for one slice.
    fn sort_in(
        &mut self,
        slice: &'a EndpointSlice,
        wanted: &dyn Wanted,
        groups: &[Vec<EndpointPort>],
        shape: &Shape<'_>,
        placed: &mut [bool],
    ) {
        let group = groups.iter().position(|ports| same_ports(ports, &slice.ports));
        let Some(group) = group.filter(|_| owned(slice, shape)) else {
            self.doomed.push(slice);
            return;
        };
        // Stays `None` as long as the slice is right as it is: nothing is copied for a slice that is not written.
        let mut draft: Option<Vec<Endpoint>> = None;
        for (i, endpoint) in slice.endpoints.iter().enumerate() {
            let found = wanted.find(group, endpoint).filter(|&index| !placed[index]);
            if let Some(index) = found {
                placed[index] = true;
                if !wanted.same(index, endpoint) {
                    draft.get_or_insert_with(|| slice.endpoints[..i].to_vec()).push(wanted.build(index));
                } else if let Some(endpoints) = &mut draft {
                    endpoints.push(endpoint.clone());
                }
            } else {
                draft.get_or_insert_with(|| slice.endpoints[..i].to_vec());
            }
        }
        match draft {
            Some(endpoints) if endpoints.is_empty() => self.doomed.push(slice),
            Some(endpoints) => {
                self.changed.push(Draft { existing: Some(slice), group: Some(group), endpoints, new_content: true });
            }
            None if !same_metadata(slice, shape, || wanted.weights(group, &slice.endpoints)) => {
                let endpoints = slice.endpoints.clone();
                self.changed.push(Draft { existing: Some(slice), group: Some(group), endpoints, new_content: false });
            }
            None => self.untouched.push((group, slice)),
        }
    }

    /// Steps 2 to 4 for the endpoints of one group that have no place, as (group, index).
    fn place(&mut self, members: &[(usize, usize)], wanted: &dyn Wanted, max: usize) {
        let Some(&(group, _)) = members.first() else { return };
        let mut pending = members.iter().map(|&(_, index)| wanted.build(index));
        let mut fill: Vec<&mut Draft<'_>> = self.changed.iter_mut().filter(|d| d.group == Some(group)).collect();
        fill.sort_by_key(|draft| std::cmp::Reverse(draft.endpoints.len()));
        for draft in fill {
            let room = max.saturating_sub(draft.endpoints.len());
            draft.new_content |= room > 0 && pending.len() > 0;
            draft.endpoints.extend(pending.by_ref().take(room));
        }
        while pending.len() > 0 {
            let best = self
                .untouched
                .iter()
                .enumerate()
                .filter(|(_, (of, slice))| *of == group && slice.endpoints.len() + pending.len() <= max)
                .max_by_key(|(at, (_, slice))| (slice.endpoints.len(), std::cmp::Reverse(*at)))
                .map(|(at, _)| at);
            if let Some(at) = best {
                let (_, slice) = self.untouched.remove(at);
                let mut endpoints = slice.endpoints.clone();
                endpoints.extend(pending.by_ref());
                self.changed.push(Draft { existing: Some(slice), group: Some(group), endpoints, new_content: true });
            } else {
                let endpoints = pending.by_ref().take(max.max(1)).collect();
                self.created.push(Draft { existing: None, group: Some(group), endpoints, new_content: true });
            }
        }
    }

    /// Readers know from an empty slice that the Service has no endpoints, not that nobody looked yet.
    fn keep_placeholder(&mut self, shape: &Shape<'_>) {
        if !(self.changed.is_empty() && self.untouched.is_empty() && self.created.is_empty()) {
            return;
        }
        let is_placeholder = |slice: &EndpointSlice| {
            slice.endpoints.is_empty()
                && slice.ports.is_empty()
                && owned(slice, shape)
                && same_metadata(slice, shape, || None)
        };
        if let Some(at) = self.doomed.iter().position(|slice| is_placeholder(slice)) {
            self.doomed.remove(at);
        } else {
            self.created.push(Draft { existing: None, group: None, endpoints: Vec::new(), new_content: true });
        }
    }

    fn finish(
        mut self,
        wanted: &dyn Wanted,
        groups: &[Vec<EndpointPort>],
        shape: &Shape<'_>,
        address_type: &str,
        suffix: &mut dyn FnMut() -> String,
        changes: &mut Vec<SliceChange>,
    ) {
        for draft in &mut self.created {
            if let Some(at) = self.doomed.iter().position(|slice| owned(slice, shape)) {
                draft.existing = Some(self.doomed.remove(at));
            }
        }
        let ports = |group: Option<usize>| group.and_then(|g| groups.get(g)).cloned().unwrap_or_default();
        let weights = |draft: &Draft<'_>| draft.group.and_then(|group| wanted.weights(group, &draft.endpoints));
        let (created, renewed): (Vec<_>, Vec<_>) = self.created.into_iter().partition(|d| d.existing.is_none());
        for draft in self.changed.into_iter().chain(renewed) {
            let Some(existing) = draft.existing else { continue };
            let (ports, weights) = (ports(draft.group), weights(&draft));
            changes.push(SliceChange::Update(updated(existing, draft, ports, weights, shape)));
        }
        if shape.creates {
            for draft in created {
                let name = free_name(shape.base, suffix, changes);
                let weights = weights(&draft);
                let slice = new_slice(name, draft.endpoints, ports(draft.group), weights, shape, address_type);
                changes.push(SliceChange::Create(slice));
            }
        }
        changes.extend(self.doomed.into_iter().map(|s| SliceChange::Delete { name: s.metadata.name().to_owned() }));
    }
}
