//! Whatever nodes do: who is heard is not out for long, who is silent is not in for long, unless most are; and most are
//! never taken out at once.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn silence_alone_decides_and_never_of_most_at_once(
        count in 2usize..=6,
        steps in prop::collection::vec((0usize..6, any::<bool>(), 0u64..12), 1..40),
    ) {
        let names = &NAMES[..count];
        let mut world = World::beating(names);
        world.run(5);
        let mut since: BTreeMap<&str, u64> = names.iter().map(|name| (*name, 0)).collect();
        for (node, on, seconds) in steps {
            let name = names[node % count];
            if world.nodes[name].1.is_some() != on {
                since.insert(name, world.time);
                if on { world.heal(&[name]) } else { world.cut(&[name]) }
            }
            for _ in 0..seconds * 10 {
                let ready = |world: &World| world.stored.values().filter(|stored| **stored == Stored::Ready).count();
                let before = ready(&world);
                world.time += 1;
                let heard: Vec<&str> = world.nodes.iter()
                    .filter(|(_, (_, phase))| phase.is_some_and(|phase| (world.time + phase).is_multiple_of(10)))
                    .map(|(name, _)| *name)
                    .collect();
                heard.iter().for_each(|name| world.machine.hear(name, Sign::Beat, Duration::ZERO));
                world.step(LOOK);
                prop_assert!(ready(&world) >= 1, "the last is not taken out\n{}", world.log);
                prop_assert!((before.saturating_sub(ready(&world))) * 2 <= before, "most at once\n{}", world.log);
                let census = world.machine.census();
                prop_assert_eq!(census.heard + census.half_silent + census.out + census.unjudged, count);
                for name in names {
                    let lasted = world.time - since[name];
                    let (cut, stored) = (world.nodes[name].1.is_none(), world.stored[name]);
                    if !cut && stored == Stored::Silent && census.damped == 0 {
                        prop_assert!(lasted <= 11, "{name} is heard and out\n{}", world.log);
                    }
                    if cut && stored == Stored::Ready && !census.spared {
                        // After most were silent there is a grace for all.
                        prop_assert!(lasted <= 41 || world.log.contains("most are heard"), "{name}\n{}", world.log);
                    }
                }
            }
        }
        // In the end all come back, and all are ready, however they were damped.
        let cut: Vec<&'static str> = names.iter().copied().filter(|name| world.nodes[name].1.is_none()).collect();
        world.heal(&cut);
        world.run(700);
        prop_assert!(world.stored.values().all(|stored| *stored == Stored::Ready), "{}", world.log);
    }
}
