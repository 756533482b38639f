//! The machine in words: each tenth of a second of a small world, and what was decided in it.

mod properties;

use expect_test::expect;

use super::*;

const LOOK: Duration = Duration::from_millis(100);

/// Nodes that beat each second, each in its own phase, and the store, which does at once what is decided.
struct World {
    machine: Machine,
    /// In looks.
    time: u64,
    /// Name, sign and phase in looks; None: cut off.
    nodes: BTreeMap<&'static str, (Sign, Option<u64>)>,
    stored: BTreeMap<&'static str, Stored>,
    log: String,
}

impl World {
    fn new(nodes: &[(&'static str, Sign)]) -> Self {
        let mut world = Self {
            machine: Machine::new(Times::default()),
            time: 0,
            nodes: BTreeMap::new(),
            stored: BTreeMap::new(),
            log: String::new(),
        };
        for (phase, (name, sign)) in nodes.iter().enumerate() {
            world.nodes.insert(name, (*sign, Some(phase as u64 * 3)));
            world.stored.insert(name, Stored::Ready);
            world.machine.set(name, Stored::Ready);
        }
        world
    }

    fn beating(names: &[&'static str]) -> Self {
        Self::new(&names.iter().map(|name| (*name, Sign::Beat)).collect::<Vec<_>>())
    }

    fn cut(&mut self, names: &[&'static str]) {
        self.say(&format!("cut {}", names.join(" ")));
        for name in names {
            self.nodes.get_mut(name).unwrap().1 = None;
        }
    }

    fn heal(&mut self, names: &[&'static str]) {
        self.say(&format!("heal {}", names.join(" ")));
        for name in names {
            self.nodes.get_mut(name).unwrap().1 = Some(self.time);
        }
    }

    fn say(&mut self, text: &str) {
        self.log += &format!("{:05.1} {text}\n", self.time as f64 / 10.0);
    }

    /// So many seconds go by.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.time += 1;
            for (name, (sign, phase)) in &self.nodes {
                let period = if *sign == Sign::Beat { 10 } else { 100 };
                if phase.is_some_and(|phase| (self.time + phase).is_multiple_of(period)) {
                    self.machine.hear(name, *sign, Duration::ZERO);
                }
            }
            self.step(LOOK);
        }
    }

    fn step(&mut self, elapsed: Duration) {
        self.machine.pass(Passed { elapsed, late: elapsed - LOOK });
        for decision in self.machine.look() {
            let text = match &decision {
                Decision::TakeOut { node, silent } => format!("out {node} after {:.1} s", silent.as_secs_f64()),
                Decision::TakeBack { node } => format!("back {node}"),
                Decision::Damp { node, falls, hold } => format!("damped {node}: {falls} falls, {hold:?}"),
                Decision::Spare { silent, of } => format!("spared: {silent} of {of}"),
                Decision::Relent { lasted } => format!("most are heard again after {:.1} s", lasted.as_secs_f64()),
            };
            self.say(&text);
            let (node, stored) = match &decision {
                Decision::TakeOut { node, .. } => (node, Stored::Silent),
                Decision::TakeBack { node } => (node, Stored::Ready),
                _ => continue,
            };
            self.machine.set(node, stored);
            let name = self.nodes.keys().find(|name| ***name == **node).unwrap();
            self.stored.insert(name, stored);
        }
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log)
    }
}

#[test]
fn a_node_that_falls_silent_is_out_after_its_grace_and_back_at_once() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(10);
    world.cut(&["b"]);
    world.run(20);
    world.heal(&["b"]);
    world.run(20);
    expect![[r#"
        010.0 cut b
        013.6 out b after 4.0 s
        030.0 heal b
        031.0 back b
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn a_gap_within_the_grace_is_nothing() {
    let mut world = World::beating(&["a", "b", "c"]);
    for _ in 0..20 {
        world.run(5);
        world.cut(&["b"]);
        world.run(2);
        world.heal(&["b"]);
    }
    assert!(!world.log().contains("out"));
}

#[test]
fn leases_alone_are_judged_by_the_grace_of_leases() {
    let mut world = World::new(&[("a", Sign::Lease), ("b", Sign::Lease), ("c", Sign::Beat), ("d", Sign::Beat)]);
    world.run(20);
    world.cut(&["a"]);
    world.run(60);
    world.heal(&["a"]);
    world.run(20);
    expect![[r#"
        020.0 cut a
        059.9 out a after 40.0 s
        080.0 heal a
        090.0 back a
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn an_agent_that_beats_no_more_and_lives_is_judged_by_its_lease() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(5);
    // As with an agent of an earlier version: out once, since its Lease is not heard in time, and then no more.
    world.nodes.insert("b", (Sign::Lease, Some(0)));
    world.say("b renews its Lease only");
    world.run(100);
    expect![[r#"
        005.0 b renews its Lease only
        008.6 out b after 4.0 s
        010.0 back b
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn who_was_never_heard_is_not_judged_and_who_only_had_a_lease_is_expected() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.machine.set("made-by-hand", Stored::Ready);
    world.machine.set("left", Stored::Ready);
    world.nodes.insert("left", (Sign::Lease, None));
    world.machine.expect("left");
    world.run(100);
    expect![[r#"
        040.0 out left after 40.0 s
    "#]]
    .assert_eq(&world.log());
    assert_eq!(world.machine.census().unjudged, 1);
}

#[test]
fn a_server_that_hears_nobody_blames_nobody_however_the_beats_fall() {
    // Every phase of three nodes in the second in which the server's network fails.
    for start in 0..10 {
        for outage in [5, 30, 300] {
            let mut world = World::beating(&["a", "b", "c"]);
            world.run(10);
            for _ in 0..start {
                world.time += 1;
                world.step(LOOK);
            }
            world.cut(&["a", "b", "c"]);
            world.run(outage);
            // They come back one by one, the last one late.
            world.heal(&["c"]);
            world.run(1);
            world.heal(&["a"]);
            world.run(3);
            world.heal(&["b"]);
            world.run(60);
            let log = world.log();
            assert!(!log.contains("out"), "{log}");
            assert!(log.contains("spared"), "{log}");
            assert!(log.contains("most are heard again"), "{log}");
        }
    }
}

#[test]
fn more_than_half_are_spared_and_half_are_not() {
    let mut world = World::beating(&["a", "b", "c", "d"]);
    world.run(10);
    world.cut(&["a", "b"]);
    world.run(10);
    world.heal(&["a", "b"]);
    world.run(10);
    world.cut(&["a", "b", "c"]);
    world.run(30);
    // One comes back, so those that stay silent are no majority any more: they get a grace, and go.
    world.heal(&["c"]);
    world.run(30);
    expect![[r#"
        010.0 cut a b
        013.6 out b after 4.0 s
        013.9 out a after 4.0 s
        020.0 heal a b
        021.0 back a
        021.0 back b
        030.0 cut a b c
        033.3 spared: 3 of 4
        060.0 heal c
        061.0 most are heard again after 27.7 s
        065.0 out a after 4.0 s
        065.0 out b after 4.0 s
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn nodes_that_die_one_after_the_other_go_all_but_the_last() {
    let mut world = World::beating(&["a", "b", "c", "d", "e"]);
    world.run(10);
    for node in ["a", "b", "c", "d", "e"] {
        world.cut(&[node]);
        world.run(10);
    }
    expect![[r#"
        010.0 cut a
        013.9 out a after 4.0 s
        020.0 cut b
        023.6 out b after 4.0 s
        030.0 cut c
        033.3 out c after 4.0 s
        040.0 cut d
        043.0 out d after 4.0 s
        050.0 cut e
        053.7 spared: 1 of 1
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn votes_are_of_those_who_could_tell() {
    // The Leases of the others would not be due for long: they know nothing of the last four seconds.
    let all = [("a", Sign::Beat), ("b", Sign::Beat), ("c", Sign::Lease), ("d", Sign::Lease), ("e", Sign::Lease)];
    let mut world = World::new(&all);
    world.run(20);
    world.cut(&["a", "b", "c", "d", "e"]);
    world.run(100);
    assert!(!world.log().contains("out"));
    // A node that beats alone among them is out when they can tell.
    let mut world = World::new(&[("a", Sign::Beat), ("c", Sign::Lease), ("d", Sign::Lease)]);
    world.run(20);
    world.cut(&["a"]);
    world.run(60);
    expect![[r#"
        020.0 cut a
        023.9 spared: 1 of 1
        059.9 out a after 40.0 s
        060.0 most are heard again after 36.1 s
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn the_servers_own_standstill_is_nobodys_silence() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(10);
    for _ in 0..100 {
        // Stopped for a minute, and awake for a moment before anything is read.
        world.step(Duration::from_secs(60));
        world.step(LOOK);
        world.run(1);
    }
    assert_eq!(world.log(), "");
}

#[test]
fn a_node_that_comes_and_goes_waits_ever_longer() {
    let mut world = World::beating(&["a", "b", "c"]);
    for gap in [5, 5, 5, 5, 30] {
        world.run(3);
        world.cut(&["a"]);
        world.run(6);
        world.heal(&["a"]);
        world.run(gap);
    }
    world.run(60);
    // What was long ago counts no more.
    world.run(600);
    world.cut(&["a"]);
    world.run(6);
    world.heal(&["a"]);
    world.run(5);
    let log = world.log();
    expect![[r#"
        003.0 cut a
        006.9 out a after 4.0 s
        009.0 heal a
        010.0 back a
        017.0 cut a
        020.9 out a after 4.0 s
        023.0 heal a
        024.0 back a
        031.0 cut a
        034.9 out a after 4.0 s
        037.0 heal a
        038.0 damped a: 3 falls, 10s
        045.0 cut a
        051.0 heal a
        052.0 damped a: 4 falls, 20s
        059.0 cut a
        065.0 heal a
        066.0 damped a: 5 falls, 40s
        105.9 back a
        755.0 cut a
        758.9 out a after 4.0 s
        761.0 heal a
        762.0 back a
    "#]]
    .assert_eq(&log);
}

#[test]
fn what_others_say_of_a_node_is_theirs() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(5);
    // Not ready for a reason of its own: not ours to change, and no vote.
    world.machine.set("a", Stored::Otherwise);
    world.cut(&["a"]);
    world.run(10);
    world.cut(&["b"]);
    world.run(10);
    expect![[r#"
        005.0 cut a
        015.0 cut b
        018.6 out b after 4.0 s
    "#]]
    .assert_eq(&world.log());
    // Somebody says that a silent node is ready: said again that it is not.
    world.machine.set("b", Stored::Ready);
    world.run(1);
    assert!(world.log().contains("out b"));
    // A write that came late: the node is heard, and what is stored says that it is not.
    world.machine.set("c", Stored::Silent);
    world.run(2);
    assert!(world.log().contains("back c"));
}

#[test]
fn after_a_restart_who_was_out_stays_so_until_it_is_heard() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.cut(&["a"]);
    world.machine.set("a", Stored::Silent);
    world.machine.expect("a");
    world.run(100);
    world.heal(&["a"]);
    world.run(2);
    expect![[r#"
        000.0 cut a
        100.0 heal a
        101.0 back a
    "#]]
    .assert_eq(&world.log());
}

#[test]
fn another_node_of_the_name_begins_anew() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(5);
    world.machine.forget("a");
    world.machine.set("a", Stored::Ready);
    world.cut(&["a"]);
    world.run(60);
    assert!(!world.log().contains("out"), "it was never heard");
}

/// Nodes that beat to the millisecond, and looks that come when they are due.
#[test]
fn rare_looks_find_silence_in_its_moment() {
    const STOPPED: u64 = 60_000;
    let millis = Duration::from_millis;
    for phases in [[0, 0, 0], [0, 300, 900], [150, 151, 650]] {
        let mut machine = Machine::new(Times::default());
        let names = ["a", "b", "c"];
        names.iter().for_each(|name| machine.set(name, Stored::Ready));
        let last_of_b = (1..STOPPED).rev().find(|time| time % 1000 == phases[1]).unwrap();
        let (mut now, mut looks) = (0, 0);
        let (out, silent) = loop {
            let (looked, rest) = (now, machine.rest());
            now += rest.as_millis() as u64;
            machine.pass(Passed { elapsed: rest, late: Duration::ZERO });
            for time in looked + 1..=now {
                for (name, phase) in names.iter().zip(phases) {
                    if time % 1000 == phase && (*name != "b" || time < STOPPED) {
                        machine.hear(name, Sign::Beat, millis(now - time));
                    }
                }
            }
            looks += u64::from(now < STOPPED);
            match machine.look().as_slice() {
                [] => assert!(now < 2 * STOPPED, "b is never out"),
                [Decision::TakeOut { node, silent }] if **node == *"b" => break (now, *silent),
                decisions => panic!("{decisions:?}"),
            }
        };
        assert!((4000..4100).contains(&(out - last_of_b)), "{phases:?}: after {} ms", out - last_of_b);
        assert_eq!(silent, millis(out - last_of_b), "it is counted from the beat and not from a look");
        assert!(looks <= 70, "{phases:?}: {looks} looks");
    }
}

#[test]
fn looks_are_close_while_somebody_is_out_and_a_beat_in_a_standstill_is_no_older_than_it() {
    let mut world = World::beating(&["a", "b", "c"]);
    world.run(3);
    assert!(world.machine.rest() > SOON);
    world.cut(&["a"]);
    world.run(3);
    assert_eq!(world.machine.rest(), SOON, "half of its grace is over");
    world.run(10);
    assert_eq!(world.machine.rest(), SOON, "it is out");
    world.heal(&["a"]);
    world.run(3);
    assert!(world.machine.rest() > SOON);
    let minute = Duration::from_secs(60);
    world.machine.pass(Passed { elapsed: minute, late: minute - LOOK });
    for name in ["a", "b", "c"] {
        world.machine.hear(name, Sign::Beat, minute);
    }
    assert_eq!(world.machine.look(), []);
    assert_eq!(world.machine.census().heard, 3);
}
