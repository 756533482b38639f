//! Who was given a node's certificate and has not been heard of since.
//!
//! A node that is alive keeps its name by its Lease. But between its certificate and its first Lease lie some seconds, and
//! in these another machine may ask for the same name: two clones of one image, started together. So a name that was given
//! is kept for its first machine for a while. Only memory: a server that was restarted in these seconds gives the name twice,
//! and both machines would work as before, as they do under Kubernetes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a machine has until its first Lease: an agent needs seconds. As long as a Lease holds.
pub const KEPT: Duration = Duration::from_secs(40);
/// Names at a time.
const NAMES_MOST: usize = 10_000;

/// The names that were given lately.
#[derive(Default)]
pub struct Joining {
    given: Mutex<BTreeMap<Box<str>, Given>>,
    hash: RandomState,
}

struct Given {
    /// Tells a second request of one machine, whose answer was lost, from that of another.
    request: u64,
    at: Instant,
}

/// Why a name cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another machine has it since so long.
    Taken(Duration),
    /// Too many machines join at a time.
    Full,
}

impl Joining {
    /// Takes the name for who sends this request.
    ///
    /// # Errors
    /// When another machine has it, or there are too many.
    pub fn claim(&self, node: &str, request: &str, now: Instant) -> Result<(), Refused> {
        let request = self.hash.hash_one(request);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, given| now.duration_since(given.at) < KEPT);
        match given.get(node) {
            Some(known) if known.request != request => return Err(Refused::Taken(now.duration_since(known.at))),
            None if given.len() >= NAMES_MOST => return Err(Refused::Full),
            _ => {}
        }
        given.insert(node.into(), Given { request, at: now });
        Ok(())
    }

    /// Keeps the name no longer: nobody got a certificate for it, or who got it has been heard of.
    pub fn release(&self, node: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_for_its_first_machine_for_a_while() {
        let (joining, start) = (Joining::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(joining.claim("web", "first", start), Ok(()));
        assert_eq!(joining.claim("web", "first", after(1)), Ok(()), "its answer was lost");
        assert_eq!(joining.claim("web", "second", after(3)), Err(Refused::Taken(Duration::from_secs(2))));
        assert_eq!(joining.claim("db", "second", after(3)), Ok(()));
        assert_eq!(joining.claim("web", "second", after(41)), Ok(()));
        joining.release("web");
        assert_eq!(joining.claim("web", "third", after(41)), Ok(()));
    }

    #[test]
    fn there_is_room_again_after_a_while() {
        let (joining, start) = (Joining::default(), Instant::now());
        for n in 0..NAMES_MOST {
            joining.claim(&format!("n{n}"), "", start).unwrap();
        }
        assert_eq!(joining.claim("one-more", "", start), Err(Refused::Full));
        assert_eq!(joining.claim("one-more", "", start + KEPT), Ok(()));
    }
}
