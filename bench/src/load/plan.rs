//! Which change comes when: decided by its number alone, so a run can be repeated.

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Pod's readiness turns.
    Turn {
        pod: u32,
        ready: bool,
    },
    /// A Pod is deleted and made anew; it was, and will be, as ready as this.
    ReplacePod {
        pod: u32,
        ready: bool,
    },
    ReplaceService {
        service: u32,
    },
}

/// The changes in their order.
#[derive(Debug)]
pub struct Plan {
    pods: u32,
    services: u32,
    replace_pods: u64,
    replace_services: u64,
    /// What each Pod is, or will be when all changes so far are done.
    ready: Vec<bool>,
    next: u64,
    turns: u64,
}

/// A stride that scatters what follows each other, and meets everything before anything twice: a prime beyond any size, which
/// therefore has no factor in common with one.
const STRIDE: u64 = 1_000_003;

impl Plan {
    /// `ready`: what each Pod is now; there is at least one.
    pub fn new(services: u32, ready: Vec<bool>, replace_pods: u8, replace_services: u8) -> Self {
        let pods = u32::try_from(ready.len()).unwrap_or(u32::MAX).max(1);
        Self {
            pods,
            services: services.max(1),
            replace_pods: replace_pods.into(),
            replace_services: replace_services.into(),
            ready,
            next: 0,
            turns: 0,
        }
    }

    /// The next change.
    pub fn step(&mut self) -> Change {
        let n = self.next;
        self.next += 1;
        // 37 has no factor in common with 100: of any hundred changes exactly so many are of each kind, and not in a row.
        let lot = n * 37 % 100;
        if lot < self.replace_services {
            Change::ReplaceService { service: scatter(n, self.services) }
        } else {
            let pod = scatter(self.turns, self.pods);
            self.turns += 1;
            let ready = self.ready.get_mut(pod as usize);
            if lot < self.replace_services + self.replace_pods {
                Change::ReplacePod { pod, ready: ready.is_some_and(|ready| *ready) }
            } else {
                let turned = ready.is_some_and(|ready| {
                    *ready = !*ready;
                    *ready
                });
                Change::Turn { pod, ready: turned }
            }
        }
    }
}

fn scatter(n: u64, among: u32) -> u32 {
    (u128::from(n) * u128::from(STRIDE) % u128::from(among)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pod_turns_before_any_turns_back() {
        let mut plan = Plan::new(2, vec![true; 10], 0, 0);
        let mut seen = BTreeSet::new();
        for _ in 0..10 {
            let change = plan.step();
            let Change::Turn { pod, ready: false } = change else { panic!("{change:?}") };
            assert!(seen.insert(pod));
        }
        assert!((0..10).all(|_| matches!(plan.step(), Change::Turn { ready: true, .. })));
    }

    #[test]
    fn kinds_have_their_share() {
        let mut plan = Plan::new(50, vec![false; 500], 20, 5);
        let changes: Vec<Change> = (0..1000).map(|_| plan.step()).collect();
        let count = |kind: fn(&Change) -> bool| changes.iter().filter(|change| kind(change)).count();
        assert_eq!(count(|c| matches!(c, Change::ReplaceService { .. })), 50);
        assert_eq!(count(|c| matches!(c, Change::ReplacePod { .. })), 200);
    }

    #[test]
    fn a_replaced_pod_stays_as_ready_as_it_is() {
        let mut plan = Plan::new(1, vec![true, false], 100, 0);
        let changes: BTreeSet<_> = (0..2)
            .map(|_| match plan.step() {
                Change::ReplacePod { pod, ready } => (pod, ready),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(changes, BTreeSet::from([(0, true), (1, false)]));
    }
}
