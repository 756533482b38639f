//! Which edge node holds which instance: pure, from how the edges are and what stands in the instances.
//!
//! **An instance stays where it is** as long as its edge has its Lease: each move costs the connections through it.
//! Only to the edge that it prefers it moves from one that lives, once that one has proved itself. Where an edge is
//! silent its instances go to those that live, the one with the fewest first, so that the load of one is shared by all.
//!
//! **Where nobody lives, nothing moves.** The edge that had an instance goes on with it when it is back; and that all
//! are silent at once is most likely the server's own fault.

use std::collections::{BTreeMap, BTreeSet};

use super::liveness::{Seen, Standing};

/// What counts of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub name: Box<str>,
    /// Who holds it.
    pub edge: Option<Box<str>>,
    pub preferred: Option<Box<str>>,
}

/// Why an instance moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody had it.
    New,
    /// Its edge has fallen silent. The Lease has to be taken from it first.
    Silent,
    /// Its edge has no Lease any more.
    Gone,
    /// It prefers another that lives.
    Prefers,
}

/// An instance gets another edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub instance: Box<str>,
    pub to: Box<str>,
    pub why: Why,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub moves: Vec<Move>,
    /// Instances that nobody holds who lives, and that nobody can take.
    pub homeless: BTreeSet<Box<str>>,
}

/// Decides for all instances at once. The same again gives the same, and once it is done, nothing.
pub fn plan(instances: &[Instance], edges: &BTreeMap<Box<str>, Seen>) -> Plan {
    let standing = |edge: &str| edges.get(edge).map_or(Standing::Gone, |seen| seen.standing);
    let lives = |edge: &str| matches!(standing(edge), Standing::Lives { .. });
    let mut loads: BTreeMap<&str, usize> = edges.keys().filter(|edge| lives(edge)).map(|edge| (&**edge, 0)).collect();
    for edge in instances.iter().filter_map(|instance| instance.edge.as_deref()) {
        if let Some(load) = loads.get_mut(edge) {
            *load += 1;
        }
    }
    let mut plan = Plan::default();
    for instance in instances {
        let preferred = instance.preferred.as_deref().filter(|edge| lives(edge));
        let why = match instance.edge.as_deref().map(|edge| (edge, standing(edge))) {
            None => Why::New,
            Some((_, Standing::Silent)) => Why::Silent,
            Some((_, Standing::Gone)) => Why::Gone,
            Some((edge, Standing::Lives { .. } | Standing::Quiet)) => match preferred {
                Some(other) if other != edge && standing(other) == (Standing::Lives { settled: true }) => Why::Prefers,
                _ => continue,
            },
        };
        let least = || loads.iter().min_by_key(|(edge, load)| (**load, **edge)).map(|(edge, _)| *edge);
        let Some(to) = preferred.or_else(least) else {
            plan.homeless.insert(instance.name.clone());
            continue;
        };
        if let Some(load) = loads.get_mut(to) {
            *load += 1;
        }
        if let Some(load) = instance.edge.as_deref().and_then(|edge| loads.get_mut(edge)) {
            *load -= 1;
        }
        plan.moves.push(Move { instance: instance.name.clone(), to: to.into(), why });
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIVES: Standing = Standing::Lives { settled: true };
    const NEW: Standing = Standing::Lives { settled: false };

    fn edges(all: &[(&str, Standing)]) -> BTreeMap<Box<str>, Seen> {
        let seen = |standing| Seen { standing, silence: Duration::ZERO, addresses: Vec::new(), zone: None };
        all.iter().map(|(name, standing)| ((*name).into(), seen(*standing))).collect()
    }

    /// `name`, `name@edge`, `name@edge>preferred`.
    fn instances(all: &[&str]) -> Vec<Instance> {
        let instance = |text: &&str| {
            let (rest, preferred) =
                text.split_once('>').map_or((*text, None), |(rest, edge)| (rest, Some(edge.into())));
            let (name, edge) = rest.split_once('@').map_or((rest, None), |(name, edge)| (name, Some(edge.into())));
            let edge: Option<Box<str>> = edge;
            Instance { name: name.into(), edge: edge.filter(|edge| !edge.is_empty()), preferred }
        };
        all.iter().map(instance).collect()
    }

    fn planned(all: &[&str], on: &[(&str, Standing)]) -> String {
        let plan = plan(&instances(all), &edges(on));
        let moves = plan.moves.iter().map(|m| format!("{}→{} {:?}", m.instance, m.to, m.why));
        moves.chain(plan.homeless.iter().map(|name| format!("{name} homeless"))).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn who_moves_where() {
        let (quiet, silent, gone) = (Standing::Quiet, Standing::Silent, Standing::Gone);
        for (all, on, expected) in [
            (&["a", "b", "c"][..], &[("e1", LIVES), ("e2", NEW)][..], "a→e1 New, b→e2 New, c→e1 New"),
            (&["a"], &[("e1", quiet), ("e2", silent)], "a homeless"),
            (&["a"], &[], "a homeless"),
            (&["a@e1", "b@e1", "c@e2"], &[("e1", LIVES), ("e2", LIVES)], ""),
            (&["a@e1", "b@e1"], &[("e1", quiet), ("e2", LIVES)], ""),
            (
                &["a@e1", "b@e1", "c@e2", "d@e3", "e@e3"],
                &[("e1", silent), ("e2", LIVES), ("e3", LIVES)],
                "a→e2 Silent, b→e2 Silent",
            ),
            (&["a@e1", "b@e2"], &[("e1", gone), ("e2", LIVES)], "a→e2 Gone"),
            (&["a@e9"], &[("e1", LIVES)], "a→e1 Gone"),
            (&["a@e1"], &[("e1", silent), ("e2", quiet)], "a homeless"),
            (&["a@e1>e2"], &[("e1", LIVES), ("e2", LIVES)], "a→e2 Prefers"),
            (&["a@e1>e2"], &[("e1", LIVES), ("e2", NEW)], ""),
            (&["a@e1>e2"], &[("e1", silent), ("e2", NEW)], "a→e2 Silent"),
            (&["a@>e2", "b@e2"], &[("e1", LIVES), ("e2", NEW)], "a→e2 New"),
            (&["a@>e9"], &[("e1", LIVES)], "a→e1 New"),
            (&["a@e1>e1"], &[("e1", LIVES), ("e2", LIVES)], ""),
        ] {
            assert_eq!(planned(all, on), expected, "{all:?} {on:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_planned_once_is_not_planned_again(
            holders in prop::collection::vec((prop::option::of(0usize..6), prop::option::of(0usize..6)), 0..40),
            standings in prop::collection::vec(0usize..5, 0..6),
        ) {
            let all = [LIVES, NEW, Standing::Quiet, Standing::Silent, Standing::Gone];
            let names: Vec<String> = (0..6).map(|n| format!("e{n}")).collect();
            let on: Vec<(&str, Standing)> =
                standings.iter().zip(&names).map(|(standing, name)| (name.as_str(), all[*standing])).collect();
            let edges = edges(&on);
            let name = |n: Option<usize>| n.map(|n| names[n].as_str().into());
            let mut instances: Vec<Instance> = holders.iter().enumerate().map(|(at, (edge, preferred))| Instance {
                name: format!("i{at:02}").into(), edge: name(*edge), preferred: name(*preferred),
            }).collect();
            let first = plan(&instances, &edges);
            for Move { instance, to, .. } in &first.moves {
                let lives = matches!(edges[to].standing, Standing::Lives { .. });
                prop_assert!(lives, "{to} gets an instance");
                let moved = instances.iter_mut().find(|known| known.name == *instance).unwrap();
                prop_assert_ne!(moved.edge.as_ref(), Some(to));
                moved.edge = Some(to.clone());
            }
            let again = plan(&instances, &edges);
            prop_assert_eq!(again.moves, Vec::new());
            prop_assert_eq!(again.homeless, first.homeless);
        }
    }
}
