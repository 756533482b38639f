//! Which zone each endpoint is for, with few changes from what its hint says now.
//!
//! An endpoint keeps its hint as long as no zone falls below its minimum, so that one Pod's change moves at most one
//! endpoint for each zone: a minimum rises by one at most when an endpoint comes. A new endpoint is for its own zone, unless
//! that has its target. Where nobody has a hint yet, every zone gets its target.
//!
//! Kubernetes' controller draws the slices that it writes anyway nearer to the targets each time. Here what is within the
//! threshold stays, because a hint that changes is a slice that every node reads.

use std::collections::BTreeMap;

use super::allocation::Allocation;

/// A ready endpoint. Zones are indices of the allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The zone that it is in; none where that has no allocation.
    pub home: Option<usize>,
    /// The zone that it is for.
    pub zone: Option<usize>,
}

/// Gives every member a zone. The allocations' targets are together the number of members.
pub(super) fn assign(allocations: &[Allocation<'_>], members: &mut [Member]) {
    let mut counts = vec![0usize; allocations.len()];
    for zone in members.iter().filter_map(|member| member.zone) {
        counts[zone] += 1;
    }
    let afresh = members.iter().all(|member| member.zone.is_none());
    settle(allocations, members, &mut counts, afresh);
    let level = |at: usize| if afresh { allocations[at].target } else { allocations[at].minimum };
    let mut moves = moves(allocations, &counts, level);
    if !moves.is_empty() {
        shift(members, &mut moves);
    }
}

/// Places the members that are for no zone: at home, if there is room or nobody has a place yet, or where most are lacking.
fn settle(allocations: &[Allocation<'_>], members: &mut [Member], counts: &mut [usize], afresh: bool) {
    for member in members.iter_mut().filter(|member| member.zone.is_none()) {
        if let Some(home) = member.home.filter(|&home| afresh || counts[home] < allocations[home].target) {
            member.zone = Some(home);
            counts[home] += 1;
        }
    }
    for member in members.iter_mut().filter(|member| member.zone.is_none()) {
        let lack = |at: &usize| (allocations[*at].target.saturating_sub(counts[*at]), std::cmp::Reverse(*at));
        if let Some(most) = (0..allocations.len()).max_by_key(lack) {
            member.zone = Some(most);
            counts[most] += 1;
        }
    }
}

/// How many members go from one zone to another, so that none is below `level`: zones above their target give.
fn moves(
    allocations: &[Allocation<'_>],
    counts: &[usize],
    level: impl Fn(usize) -> usize,
) -> BTreeMap<usize, Vec<(usize, usize)>> {
    let over = |at: usize| (at, counts[at].saturating_sub(allocations[at].target));
    let mut giving = (0..allocations.len()).map(over).filter(|(_, spare)| *spare > 0);
    let mut giver = giving.next();
    let mut moves: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (to, &count) in counts.iter().enumerate() {
        let mut need = level(to).saturating_sub(count);
        while need > 0 {
            let Some((from, spare)) = &mut giver else { return moves };
            let count = need.min(*spare);
            moves.entry(*from).or_default().push((to, count));
            need -= count;
            *spare -= count;
            if *spare == 0 {
                giver = giving.next();
            }
        }
    }
    moves
}

/// Moves members: first those that come home, then those that are not at home anyhow, then the others, by order.
fn shift(members: &mut [Member], moves: &mut BTreeMap<usize, Vec<(usize, usize)>>) {
    for pass in 0..3 {
        for member in members.iter_mut() {
            let Some(quotas) = member.zone.and_then(|zone| moves.get_mut(&zone)) else { continue };
            let at_home = member.home == member.zone;
            let quota = quotas.iter_mut().filter(|(_, left)| *left > 0).find(|(to, _)| match pass {
                0 => member.home == Some(*to),
                1 => !at_home,
                _ => true,
            });
            if let Some((to, left)) = quota {
                *left -= 1;
                member.zone = Some(*to);
            }
        }
    }
}
