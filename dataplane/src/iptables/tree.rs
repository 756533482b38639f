//! Chains that lead to one of many numbers (addresses, ports) in a few steps, where a chain that asked for each would be walked
//! by every new connection.
//!
//! A tree over bits, four a level. A chain that stands for few numbers asks for each of them; any other has one rule for each
//! of the up to 16 next digits that there are, and what all its numbers have in common is skipped. So the chain for a number
//! follows from its first bits alone, and a number that comes or goes changes the chains that stand for its own first bits,
//! and no others: but where a chain becomes large enough to be divided, or small enough not to be. That is found by comparing
//! [shapes](shape) before and after.

use std::collections::BTreeMap;

/// Bits a level.
const STEP: u8 = 4;
/// As many numbers stand in one chain. A level is worth it beyond that: it costs up to 16 rules itself.
const FEW: usize = 16;
/// How deep a tree grows, whatever the numbers: the kernel follows sixteen chains, and others come before and after these.
const DEEPEST: u8 = 7;

/// The first `length` bits of numbers, the others being 0. The shortest prefix is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub bits: u128,
    pub length: u8,
}

/// What a chain asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Each number.
    Few,
    /// The next digits of those that there are.
    Many(Vec<Prefix>),
}

/// The chains of a tree over these numbers of `width` bits, which are sorted and without duplicates. The root is always there.
pub fn shape(numbers: &[u128], width: u8) -> BTreeMap<Prefix, Node> {
    let mut nodes = BTreeMap::new();
    grow(numbers, width, Prefix { bits: 0, length: 0 }, 0, &mut nodes);
    nodes
}

fn grow(numbers: &[u128], width: u8, at: Prefix, depth: u8, nodes: &mut BTreeMap<Prefix, Node>) {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        nodes.insert(at, Node::Few);
        return;
    };
    if numbers.len() <= FEW || depth == DEEPEST {
        nodes.insert(at, Node::Few);
        return;
    }
    // Sorted, so what the first and the last have in common all have.
    let common = u8::try_from((first ^ last).leading_zeros()).unwrap_or(u8::MAX).saturating_sub(128 - width);
    let length = (common / STEP * STEP + STEP).min(width);
    let mut digits = Vec::new();
    for group in numbers.chunk_by(|a, b| cut(*a, width, length) == cut(*b, width, length)) {
        let Some(number) = group.first() else { continue };
        let child = Prefix { bits: cut(*number, width, length), length };
        grow(group, width, child, depth + 1, nodes);
        digits.push(child);
    }
    nodes.insert(at, Node::Many(digits));
}

/// The number with only its first bits.
pub fn cut(number: u128, width: u8, length: u8) -> u128 {
    let below = u32::from(width - length.min(width));
    number.checked_shr(below).and_then(|n| n.checked_shl(below)).unwrap_or(0)
}

impl Prefix {
    /// Whether the number begins so.
    pub fn covers(self, number: u128, width: u8) -> bool {
        cut(number, width, self.length) == self.bits
    }

    /// The largest number that begins so.
    pub fn last(self, width: u8) -> u128 {
        let below = u32::from(width - self.length.min(width));
        self.bits | 1u128.checked_shl(below).map_or(u128::MAX, |n| n - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The chain in which a number is asked for, and how many rules are tried on the way there.
    fn find(nodes: &BTreeMap<Prefix, Node>, numbers: &[u128], width: u8, number: u128) -> (Prefix, usize) {
        let (mut at, mut tried) = (Prefix { bits: 0, length: 0 }, 0);
        while let Node::Many(children) = &nodes[&at] {
            let Some(index) = children.iter().position(|child| child.covers(number, width)) else { break };
            tried += index + 1;
            at = children[index];
        }
        tried += numbers.iter().filter(|n| at.covers(**n, width) && **n <= number).count();
        (at, tried)
    }

    #[test]
    fn ten_thousand_addresses_are_some_tens_of_rules_deep() {
        let numbers: Vec<u128> = (0..10_000).map(|n| (10 << 24) + (96 << 16) + 1 + n).collect();
        let nodes = shape(&numbers, 32);
        let tried: Vec<usize> = numbers.iter().map(|n| find(&nodes, &numbers, 32, *n).1).collect();
        assert!(tried.iter().sum::<usize>() / tried.len() < 40, "{}", tried.iter().sum::<usize>() / tried.len());
        assert!(tried.iter().max() < Some(&65));
        assert!(nodes.len() < 800, "{}", nodes.len());
    }

    #[test]
    fn edges() {
        let root = Prefix { bits: 0, length: 0 };
        assert_eq!(shape(&[], 32), [(root, Node::Few)].into());
        assert_eq!(root.last(128), u128::MAX);
        assert_eq!(root.last(16), 0xffff);
        assert_eq!(Prefix { bits: 0x7530, length: 12 }.last(16), 0x753f);
        assert_eq!(cut(0xffff, 16, 4), 0xf000);
        assert_eq!(cut(u128::MAX, 128, 0), 0);
        // Numbers that differ in the last digit alone, and one far away.
        let mut numbers: Vec<u128> = (0..16).collect();
        numbers.push(u128::MAX);
        let nodes = shape(&numbers, 128);
        assert_eq!(nodes.len(), 3);
    }

    proptest! {
        #[test]
        fn every_number_is_in_a_chain(numbers in prop::collection::btree_set(prop_oneof![any::<u16>(), 30_000..31_000u16], 0..300)) {
            let numbers: Vec<u128> = numbers.into_iter().map(u128::from).collect();
            let nodes = shape(&numbers, 16);
            let mut reached = BTreeSet::from([Prefix { bits: 0, length: 0 }]);
            for number in &numbers {
                let (at, _) = find(&nodes, &numbers, 16, *number);
                prop_assert_eq!(&nodes[&at], &Node::Few);
                let mut below: Vec<_> = nodes.keys().filter(|p| p.covers(*number, 16) && p.length <= at.length).collect();
                below.sort_by_key(|p| p.length);
                reached.extend(below);
                prop_assert!(numbers.iter().filter(|n| at.covers(**n, 16)).count() <= FEW);
            }
            prop_assert_eq!(reached.len(), nodes.len(), "a chain that nothing leads to");
        }
    }
}
