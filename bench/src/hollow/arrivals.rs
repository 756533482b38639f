//! When what came to how many nodes.
//!
//! By revision: all nodes get the same events, so the Service is read from the first of each alone, and of the others only
//! the time is kept.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Key, Revision};
use serde::Deserialize;

use crate::load::Known;
use crate::load::arrivals::{Moment, followed};
use crate::record::Sent;

/// Arrivals that are kept; what comes after that many is missing in the end.
const MOST: usize = 100_000_000;
/// Names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All that came.
#[derive(Default)]
pub struct Arrivals {
    of: BTreeMap<Revision, Arrived>,
    count: usize,
}

/// What came with one revision.
struct Arrived {
    service: Option<Key>,
    /// When it came first, in microseconds since 1970.
    first: u64,
    /// How much later it came to each, the first included, in microseconds.
    later: Vec<u32>,
}

impl Arrivals {
    /// An EndpointSlice has come to some node.
    pub fn came(&mut self, revision: Revision, slice: &[u8], now: u64) {
        if self.count >= MOST {
            return;
        }
        self.count += 1;
        let arrived = self.of.entry(revision).or_insert_with(|| Arrived {
            service: service(slice),
            first: now,
            later: Vec::new(),
        });
        arrived.later.push(u32::try_from(now.saturating_sub(arrived.first)).unwrap_or(u32::MAX));
    }

    /// How late what followed from these writes came to so many nodes.
    pub fn lag(&self, sent: &[Sent], nodes: u32) -> Known {
        let mut numbers: HashMap<&Key, u32> = HashMap::new();
        for sent in sent {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            numbers.entry(&sent.service).or_insert(next);
        }
        let mut writes: Vec<Moment> = sent
            .iter()
            .map(|Sent { revision, micros, service }| Moment {
                revision: *revision,
                micros: *micros,
                service: numbers[service],
            })
            .collect();
        writes.sort_by_key(|write| write.revision);
        let seen = self.of.iter().filter_map(|(revision, arrived)| {
            let service = *numbers.get(arrived.service.as_ref()?)?;
            Some(Moment { revision: *revision, micros: arrived.first, service })
        });
        let seen: Vec<Moment> = seen.collect();
        let mut known = Known::default();
        for (write, followed) in writes.iter().zip(followed(&writes, &seen)) {
            let arrived = followed.and_then(|moment| self.of.get(&moment.revision));
            let Some(Arrived { first, later, .. }) = arrived else {
                known.missing += u64::from(nodes);
                continue;
            };
            for later in later {
                let at = first.saturating_add(u64::from(*later));
                known.times.record(Duration::from_micros(at.saturating_sub(write.micros)));
            }
            known.missing += u64::from(nodes).saturating_sub(later.len() as u64);
        }
        known
    }
}

/// Whose slice it is.
fn service(slice: &[u8]) -> Option<Key> {
    #[derive(Deserialize)]
    struct Slice {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        namespace: String,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let Slice { metadata } = serde_json::from_slice(slice).ok()?;
    Some(Key::new(&metadata.namespace, metadata.labels.get(SERVICE_NAME)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(service: &str) -> Vec<u8> {
        let labels = json!({SERVICE_NAME: service});
        json!({"metadata": {"name": "x", "namespace": "shop", "labels": labels}, "endpoints": []}).to_string().into()
    }

    fn sent(revision: Revision, micros: u64, service: &str) -> Sent {
        Sent { revision, micros, service: Key::new("shop", service) }
    }

    #[test]
    fn the_lag_is_that_of_every_node() {
        let mut arrivals = Arrivals::default();
        // One transaction: two Pods, and the slices of their Services behind them.
        for (at, node) in [(10_000, 1), (12_000, 2)] {
            arrivals.came(7, &slice("db"), at);
            arrivals.came(8, &slice("web"), at + node * 1000);
        }
        arrivals.came(11, &slice("else"), 13_000);
        let known = arrivals.lag(&[sent(5, 6_000, "web"), sent(6, 7_000, "db")], 2);
        assert_eq!((known.times.count(), known.missing), (4, 0));
        assert!((known.times.ms(0.0) - 3.0).abs() < 0.1 && (known.times.ms(1.0) - 8.0).abs() < 0.1);
    }

    #[test]
    fn what_did_not_come_to_some_is_missing() {
        let mut arrivals = Arrivals::default();
        arrivals.came(6, &slice("web"), 10_000);
        arrivals.came(7, b"{}", 10_000);
        let known = arrivals.lag(&[sent(5, 6_000, "web"), sent(9, 11_000, "web"), sent(10, 0, "db")], 3);
        assert_eq!((known.times.count(), known.missing), (1, 2 + 3 + 3));
    }
}
