use super::*;

fn instant() -> Instant {
    Instant::now()
}

fn wall() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

fn at(instant: Instant) -> Moment {
    Moment { wall: wall(), instant }
}

/// What an agent says of its revisions of Services and slices, and of what its kernel refused.
fn says(services: u64, slices: u64, refused: &[(&str, &str)]) -> String {
    let refused: Vec<_> = refused
        .iter()
        .map(|(name, error)| serde_json::json!({"namespace": "shop", "name": name, "error": error}))
        .collect();
    let revisions = serde_json::json!({
        "services": services.to_string(), "endpointslices": slices.to_string(), "nodes": "1", "servicecidrs": "1",
    });
    serde_json::json!({"agent": "x", "revisions": revisions, "refused": refused}).to_string()
}

fn take(all: &mut Acknowledged, node: &str, body: &str, now: Instant) -> Result<bool, Unfit> {
    all.take(node, &serde_json::from_str(body).unwrap(), now, || 1)
}

/// `node: programmed, revision[, error]` for each.
fn judged(all: &Acknowledged, target: (u64, u64), service: Option<ServiceName<'_>>, now: Instant) -> Vec<String> {
    let target = Target([target.0, target.1, 0, 0]);
    let nodes = all.judge(target, service, 1000, &Leases::default(), at(now));
    let line = |n: Standing| {
        format!("{}: {} {}{}", n.name, n.programmed, n.revision, n.error.map(|e| format!(" {e}")).unwrap_or_default())
    };
    nodes.into_iter().map(line).collect()
}

#[test]
fn a_node_has_what_it_said_of_each_resource() {
    let (mut all, now) = (Acknowledged::default(), instant());
    take(&mut all, "b", &says(12, 15, &[]), now).unwrap();
    take(&mut all, "a", &says(20, 9, &[]), now).unwrap();
    // In the resource that lags, the node is as far as that.
    assert_eq!(judged(&all, (12, 15), None, now), ["a: false 9", "b: true 15"]);
    assert_eq!(judged(&all, (20, 0), None, now), ["a: true 20", "b: false 12"]);
    assert_eq!(judged(&all, (21, 16), None, now), ["a: false 9", "b: false 12"]);
    assert_eq!(judged(&all, (12, 9), None, now), ["a: true 20", "b: true 15"]);
    let nodes = all.judge(Target([0, 0, 2, 0]), None, 1000, &Leases::default(), at(now));
    assert!(nodes.iter().all(|node| !node.programmed && node.revision == 1), "{nodes:?}");
}

#[test]
fn what_a_kernel_refused_it_does_not_have() {
    let (mut all, now) = (Acknowledged::default(), instant());
    take(&mut all, "a", &says(5, 5, &[("web", "no memory"), ("db", "")]), now).unwrap();
    assert_eq!(judged(&all, (5, 5), Some(("shop", "web")), now), ["a: false 5 no memory"]);
    assert_eq!(judged(&all, (5, 5), Some(("shop", "db")), now), ["a: false 5 refused"]);
    assert_eq!(judged(&all, (5, 5), Some(("shop", "other")), now), ["a: true 5"]);
    // Of the whole it is told, and does not hold everybody up for ever.
    assert_eq!(judged(&all, (5, 5), None, now), ["a: true 5 shop/web: no memory (and 1 more)"]);
    assert!(take(&mut all, "a", &says(5, 5, &[]), now).unwrap(), "that is news");
    assert_eq!(judged(&all, (5, 5), Some(("shop", "web")), now), ["a: true 5"]);
}

#[test]
fn live_is_who_spoke_a_short_while_ago_or_has_a_lease() {
    let (mut all, now) = (Acknowledged::default(), instant());
    take(&mut all, "spoke", &says(5, 5, &[]), now).unwrap();
    take(&mut all, "leased", &says(5, 5, &[]), now).unwrap();
    let leases = Leases::of(&[
        ("leased", wall() + Duration::from_secs(1)),
        ("silent", wall() + Duration::from_secs(1)),
        ("gone", wall()),
    ]);
    let target = Target([5, 5, 0, 0]);
    let names = |now: Instant| -> Vec<(String, bool, Option<u64>)> {
        let nodes = all.judge(target, None, 1000, &leases, at(now));
        nodes.into_iter().map(|n| (n.name, n.programmed, n.age.map(|age| age.as_secs()))).collect()
    };
    let expected = [("leased", true, Some(39)), ("silent", false, None), ("spoke", true, Some(39))];
    let expected = expected.map(|(name, programmed, age)| (name.to_owned(), programmed, age));
    assert_eq!(names(now + LIVE_FOR - Duration::from_secs(1)), expected);
    // Who only spoke is forgotten; who has a Lease keeps what it said.
    let late: Vec<String> = names(now + LIVE_FOR).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(late, ["leased", "silent"]);
    assert!(all.judge(target, None, 1000, &Leases::default(), at(now + LIVE_FOR)).is_empty());
}

#[test]
fn a_revision_that_was_never_given_out_is_another_databases() {
    let (mut all, now) = (Acknowledged::default(), instant());
    take(&mut all, "a", &says(50, 60, &[]), now).unwrap();
    let judge = |current| all.judge(Target([7, 7, 1, 0]), None, current, &Leases::default(), at(now));
    assert!(judge(60)[0].programmed);
    assert!(!judge(59)[0].programmed && judge(59)[0].revision == 0);
    assert_eq!(all.least_slices(60, &Leases::default(), at(now)), Some(60));
    assert_eq!(all.least_slices(59, &Leases::default(), at(now)), Some(0));
}

#[test]
fn the_least_revision_is_that_of_those_who_spoke_and_live() {
    let (mut all, now) = (Acknowledged::default(), instant());
    assert_eq!(all.least_slices(100, &Leases::of(&[("silent", wall() + LIVE_FOR)]), at(now)), None);
    take(&mut all, "old", &says(5, 3, &[]), now).unwrap();
    take(&mut all, "new", &says(5, 8, &[]), now + LIVE_FOR / 2).unwrap();
    assert_eq!(all.least_slices(100, &Leases::default(), at(now + LIVE_FOR / 2)), Some(3));
    assert_eq!(all.least_slices(100, &Leases::default(), at(now + LIVE_FOR)), Some(8));
}

#[test]
fn the_same_again_is_no_news() {
    let (mut all, now) = (Acknowledged::default(), instant());
    let body = says(5, 5, &[("web", "é\n\"no\"")]);
    assert!(take(&mut all, "a", &body, now).unwrap());
    assert!(!take(&mut all, "a", &body, now + LIVE_FOR).unwrap());
    assert_eq!(judged(&all, (5, 5), None, now + LIVE_FOR).len(), 1, "but a sign of life");
    for other in [says(6, 5, &[("web", "é\n\"no\"")]), says(6, 6, &[("web", "é\n\"no\"")]), says(6, 6, &[("web", "")])]
    {
        assert!(take(&mut all, "a", &other, now).unwrap(), "{other}");
    }
    // Another process may know less: its kernel is what counts.
    let restarted = says(4, 4, &[]).replace("\"x\"", "\"y\"");
    assert!(take(&mut all, "a", &restarted, now).unwrap());
    assert_eq!(judged(&all, (5, 5), None, now), ["a: false 4"]);
}

#[test]
fn memory_is_bounded() {
    let (mut all, now) = (Acknowledged::default(), instant());
    let add = |all: &mut Acknowledged, name: String, now: Instant| {
        all.take(&name, &serde_json::from_str(&says(1, 1, &[])).unwrap(), now, || 2)
    };
    for n in 0..MARGIN + 2 {
        add(&mut all, n.to_string(), now).unwrap();
    }
    assert_eq!(add(&mut all, "more".to_owned(), now), Err(Unfit::Full(MARGIN + 2)));
    assert_eq!(add(&mut all, "0".to_owned(), now), Ok(false), "one that is known");
    assert_eq!(add(&mut all, "more".to_owned(), now + FORGOTTEN_AFTER), Ok(true), "the dead make room");
    assert_eq!(all.nodes.len(), 1);
}

#[test]
fn what_is_not_fit_changes_nothing() {
    let (mut all, now) = (Acknowledged::default(), instant());
    let long = "e".repeat(MAX_REFUSED_BYTES);
    let many: Vec<(&str, &str)> = vec![("x", ""); MAX_REFUSED + 1];
    let told = says(1, 1, &[]);
    for (body, expected) in [
        (told.replace("\"x\"", "\"\""), "agent: must have 1 to 64 bytes"),
        (told.replace("\"x\"", &format!("\"{}\"", "y".repeat(65))), "agent: must have 1 to 64 bytes"),
        (told.replace("\"services\":\"1\"", "\"services\":\"-1\""), "revisions.services: \"-1\" is no revision"),
        (
            told.replace("\"endpointslices\":\"1\"", "\"endpointslices\":\"\""),
            "revisions.endpointslices: \"\" is no revision",
        ),
        (says(1, 1, &[("a", ""), ("b", &long)]), "refused[1]: must have at most 1024 bytes"),
        (says(1, 1, &many), "refused: must have at most 1000 items"),
    ] {
        let Err(Unfit::Field { field, problem }) = take(&mut all, "a", &body, now) else { panic!("{expected}") };
        assert_eq!(format!("{field}: {problem}"), expected);
    }
    assert!(all.nodes.is_empty());
}

#[test]
fn many_agents_speak_less_often() {
    let mut all = Acknowledged::default();
    assert_eq!(all.interval(), MIN_INTERVAL);
    let body = says(1, 1, &[]);
    for (count, milliseconds) in [(3, 20), (100, 100), (1000, 1000), (5000, 5000)] {
        for n in 0..count {
            all.take(&n.to_string(), &serde_json::from_str(&body).unwrap(), instant(), || 10_000).unwrap();
        }
        assert_eq!(all.interval().as_millis(), milliseconds, "{count}");
    }
}
