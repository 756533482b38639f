//! A set that mostly has one member.

use std::borrow::Borrow;
use std::collections::BTreeSet;

/// Members that are kept in a list. To find a place among them is no dearer than in a tree, and to make room moves them.
const FEW: usize = 32;

/// An ordered set. As most have one member or a handful, and there are several sets for each object, few members take what
/// they take: a `BTreeSet` has room for eleven from the first one on.
#[derive(Clone, Debug)]
pub(super) enum SmallSet<T> {
    /// In order.
    Few(Vec<T>),
    Many(BTreeSet<T>),
}

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Ord> SmallSet<T> {
    pub(super) fn insert(&mut self, member: T) {
        match self {
            Self::Few(list) => {
                let Err(at) = list.binary_search(&member) else { return };
                if list.len() < FEW {
                    // One more is what most grow by for good.
                    list.reserve_exact(1);
                    list.insert(at, member);
                } else {
                    let mut all: BTreeSet<T> = std::mem::take(list).into_iter().collect();
                    all.insert(member);
                    *self = Self::Many(all);
                }
            }
            Self::Many(all) => _ = all.insert(member),
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, member: &Q)
    where
        T: Borrow<Q>,
    {
        match self {
            Self::Few(list) => {
                if let Ok(at) = list.binary_search_by(|other| other.borrow().cmp(member)) {
                    list.remove(at);
                }
            }
            Self::Many(all) => _ = all.remove(member),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(all) => all.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(list) => (list.as_slice(), None),
            Self::Many(all) => (&[][..], Some(all)),
        };
        few.iter().chain(many.into_iter().flatten())
    }
}

/// Sets are equal if their members are, however they are kept.
impl<T: Ord> PartialEq for SmallSet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Ord> Eq for SmallSet<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// More come than go, so that lists become trees.
        #[test]
        fn as_a_btree_set(steps in prop::collection::vec((prop::bool::weighted(0.7), 0..80u8), 0..200)) {
            let (mut ours, mut theirs) = (SmallSet::default(), BTreeSet::new());
            for (comes, member) in steps {
                if comes {
                    ours.insert(member);
                    theirs.insert(member);
                } else {
                    ours.remove(&member);
                    theirs.remove(&member);
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (theirs.len(), theirs.is_empty()));
            }
            prop_assert!(ours.iter().eq(&theirs));
            let mut anew = SmallSet::default();
            theirs.into_iter().for_each(|member| anew.insert(member));
            prop_assert_eq!(ours, anew);
        }
    }
}
