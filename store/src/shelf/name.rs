//! A name as the key of a map of objects.
//!
//! A short one lies in the map itself: to look for it among tens of thousands follows no pointer but those of the map, and
//! each of them would be memory that no cache has. Most names are short.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// Bytes that lie in the map: as many as make a short name no larger than a long one.
const SHORT: usize = 22;

/// A name; equal and in order as its bytes are.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Name {
    pub(super) fn new(name: &str) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name.as_bytes());
                Self::Short(name.len() as u8, short)
            }
            None => Self::Long(name.as_bytes().into()),
        }
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (this, that): (&[u8], &[u8]) = (self.borrow(), other.borrow());
        this.cmp(that)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_no_more_than_it_must() {
        assert_eq!(size_of::<Name>(), 24);
    }

    proptest! {
        /// Around the length from which on they lie elsewhere.
        #[test]
        fn ordered_as_texts(a in "[a-b]{0,3}[.-]{18,21}[a-b]{0,3}", b in "[a-b]{0,3}[.-]{18,21}[a-b]{0,3}") {
            let (first, second) = (Name::new(&a), Name::new(&b));
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(first == second, a == b);
            prop_assert_eq!(Borrow::<[u8]>::borrow(&first), a.as_bytes());
        }
    }
}
