//! Connections that nobody has shown a name on yet: who is to go when there are too many of them. Pure.
//!
//! One goes of the network that has more than its share, else of all: first those without TLS yet, which cost their client
//! nothing, then the oldest. Whoever means to ask something has asked it long before thousands of others have come, and a
//! flood of connections that say nothing pushes itself out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A stranger; those that are to go first are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whether there is TLS on it.
    shaken: bool,
    came: u64,
}

/// The strangers, each with what it is told by that it must go.
pub struct Strangers<T> {
    most: usize,
    most_of_a_network: usize,
    all: BTreeMap<Place, (IpAddr, T)>,
    networks: HashMap<IpAddr, BTreeSet<Place>>,
    came: u64,
}

impl<T> Strangers<T> {
    pub fn new(most: usize, most_of_a_network: usize) -> Self {
        Self { most, most_of_a_network, all: BTreeMap::new(), networks: HashMap::new(), came: 0 }
    }

    /// One more comes; who must go for it is returned, and is no stranger any more.
    pub fn enter(&mut self, network: IpAddr, stranger: T) -> (Place, Option<T>) {
        self.came += 1;
        let place = Place { shaken: false, came: self.came };
        self.put(place, network, stranger);
        // Whoever comes must have a chance, however few places there are.
        let others = |place: &&Place| place.came != self.came;
        let own = self.networks.get(&network).filter(|own| own.len() > self.most_of_a_network);
        let leaving = own.and_then(|own| own.iter().find(others).copied());
        let full = self.all.len() > self.most;
        let leaving = leaving.or_else(|| if full { self.all.keys().find(others).copied() } else { None });
        (place, leaving.and_then(|leaving| self.leave(leaving)))
    }

    /// There is TLS on one now; its new place, unless it has gone.
    pub fn shaken(&mut self, place: Place) -> Option<Place> {
        let (network, _) = self.all.get(&place)?;
        let network = *network;
        let stranger = self.leave(place)?;
        let place = Place { shaken: true, ..place };
        self.put(place, network, stranger);
        Some(place)
    }

    /// One has gone, or has shown its name; None where it had gone already.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let (network, stranger) = self.all.remove(&place)?;
        if let Some(own) = self.networks.get_mut(&network) {
            own.remove(&place);
            if own.is_empty() {
                self.networks.remove(&network);
            }
        }
        Some(stranger)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn put(&mut self, place: Place, network: IpAddr, stranger: T) {
        self.all.insert(place, (network, stranger));
        self.networks.entry(network).or_default().insert(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_oldest_of_a_crowded_network_goes_before_anybody_elses() {
        let mut strangers = Strangers::new(10, 3);
        assert_eq!(strangers.enter(at(1), "quiet").1, None);
        for name in ["a", "b", "c"] {
            assert_eq!(strangers.enter(at(2), name).1, None);
        }
        assert_eq!(strangers.enter(at(2), "d").1, Some("a"));
        assert_eq!(strangers.enter(at(2), "e").1, Some("b"));
        assert_eq!(strangers.len(), 4);
    }

    #[test]
    fn when_all_is_full_the_oldest_goes() {
        let mut strangers = Strangers::new(3, 3);
        let first = strangers.enter(at(1), "a").0;
        strangers.enter(at(2), "b");
        strangers.enter(at(3), "c");
        assert_eq!(strangers.leave(first), Some("a"));
        assert_eq!(strangers.leave(first), None);
        assert_eq!(strangers.enter(at(4), "d").1, None);
        assert_eq!(strangers.enter(at(5), "e").1, Some("b"));
        assert!(strangers.networks.len() == 3 && !strangers.networks.contains_key(&at(2)));
    }

    #[test]
    fn those_with_tls_go_last() {
        let mut strangers = Strangers::new(10, 3);
        let first = strangers.enter(at(1), "a").0;
        let first = strangers.shaken(first).unwrap();
        for name in ["b", "c"] {
            strangers.enter(at(1), name);
        }
        assert_eq!(strangers.enter(at(1), "d").1, Some("b"));
        assert_eq!(strangers.enter(at(1), "e").1, Some("c"));
        assert_eq!(strangers.leave(first), Some("a"));
        assert_eq!(strangers.shaken(first), None);
    }

    #[test]
    fn whoever_comes_has_a_chance() {
        let mut strangers = Strangers::new(0, 0);
        assert_eq!(strangers.enter(at(1), "a").1, None);
        assert_eq!(strangers.enter(at(1), "b").1, Some("a"));
    }
}
