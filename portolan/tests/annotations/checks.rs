//! Health checks: as backends see them, and what they do to traffic.

use serde_json::json;

use super::world::{At, Case, World, case, holds, pods};

const ALL: [&str; 3] = ["back-1", "back-2", "back-3"];

pub fn cases() -> Vec<Case> {
    let http = |more: &[(&'static str, &'static str)]| {
        [&[("health-check-type", "http"), ("health-check-interval", "1")], more].concat()
    };
    vec![
        case(
            "asked-how",
            &["health-check-type", "health-check-uri", "health-check-method", "health-check-domain"],
            &http(&[
                ("health-check-uri", "/how"),
                ("health-check-method", "get"),
                ("health-check-domain", "shop.test"),
            ]),
            asked_how,
        ),
        case(
            "asked-plainly",
            &["health-check-method", "health-check-domain"],
            &http(&[("health-check-uri", "/plainly")]),
            asked_plainly,
        ),
        case(
            "asked-elsewhere",
            &["health-check-connect-port"],
            &http(&[("health-check-uri", "/elsewhere"), ("health-check-connect-port", "8084")]),
            asked_elsewhere,
        ),
        case("asked-often", &["health-check-interval"], &http(&[("health-check-uri", "/often")]), asked_often),
        case(
            "asked-seldom",
            &["health-check-interval"],
            &[("health-check-type", "http"), ("health-check-interval", "3"), ("health-check-uri", "/seldom")],
            asked_seldom,
        ),
        case(
            "not-asked",
            &["health-check-switch"],
            &http(&[("health-check-uri", "/off"), ("health-check-switch", "off")]),
            not_asked,
        ),
        case(
            "asked-by-request",
            &["health-check-flag"],
            &[
                ("protocol-port", "http:80"),
                ("health-check-flag", "on"),
                ("health-check-interval", "1"),
                ("health-check-uri", "/flag"),
            ],
            asked_by_request,
        ),
        case(
            "not-by-request",
            &["health-check-flag"],
            &[("protocol-port", "http:80"), ("health-check-interval", "1"), ("health-check-uri", "/no-flag")],
            not_by_request,
        ),
        case(
            "codes",
            &["health-check-httpcode"],
            &http(&[("health-check-uri", "/codes"), ("health-check-httpcode", "http_2xx,http_4xx")]),
            codes,
        ),
        case("usual-codes", &["health-check-httpcode"], &http(&[("health-check-uri", "/usual")]), usual_codes),
        case(
            "too-slow",
            &["health-check-connect-timeout"],
            &http(&[("health-check-uri", "/too-slow"), ("health-check-connect-timeout", "1")]),
            too_slow,
        ),
        case(
            "slow-enough",
            &["health-check-connect-timeout"],
            &http(&[("health-check-uri", "/slow-enough")]),
            slow_enough,
        ),
        case(
            "too-slow-requests",
            &["health-check-timeout"],
            &[
                ("protocol-port", "http:80"),
                ("health-check-flag", "on"),
                ("health-check-interval", "1"),
                ("health-check-uri", "/too-slow-requests"),
                ("health-check-timeout", "1"),
            ],
            too_slow_requests,
        ),
        case(
            "soon",
            &["unhealthy-threshold", "healthy-threshold"],
            &http(&[("health-check-uri", "/soon"), ("unhealthy-threshold", "2"), ("healthy-threshold", "2")]),
            soon,
        ),
        case(
            "late",
            &["unhealthy-threshold", "healthy-threshold"],
            &http(&[("health-check-uri", "/late"), ("unhealthy-threshold", "10"), ("healthy-threshold", "10")]),
            late,
        ),
        case("all-fail", &["health-check-uri"], &http(&[("health-check-uri", "/all-fail")]), all_fail),
    ]
}

fn asked_how(world: &World, _: &At) -> Result<(), String> {
    let seen = world.seen("back-1", "/how");
    holds(
        seen.last().is_some_and(|(_, method, host, port)| {
            (method.as_str(), host.as_str(), *port) == ("GET", "shop.test", 8080)
        }),
        seen,
    )
}

fn asked_plainly(world: &World, _: &At) -> Result<(), String> {
    let seen = world.seen("back-1", "/plainly");
    let pod = world.get("/api/v1/namespaces/default/pods/back-1");
    let own = pod["status"]["podIP"].as_str().unwrap();
    holds(seen.last().is_some_and(|(_, method, host, _)| method == "HEAD" && host.starts_with(own)), (own, seen))
}

fn asked_elsewhere(world: &World, _: &At) -> Result<(), String> {
    let seen = world.seen("back-1", "/elsewhere");
    holds(seen.last().is_some_and(|(.., port)| *port == 8084), seen)
}

/// How often a path was asked for in six seconds.
fn often(world: &World, path: &str) -> usize {
    let before = world.seen("back-1", path).len();
    std::thread::sleep(std::time::Duration::from_secs(6));
    world.seen("back-1", path).len() - before
}

fn asked_often(world: &World, _: &At) -> Result<(), String> {
    let often = often(world, "/often");
    holds((4..=8).contains(&often), often)
}

fn asked_seldom(world: &World, _: &At) -> Result<(), String> {
    let often = often(world, "/seldom");
    holds((1..=3).contains(&often), often)
}

fn not_asked(world: &World, at: &At) -> Result<(), String> {
    world.one(at, json!({}))?;
    holds(often(world, "/off") == 0, world.seen("back-1", "/off"))
}

fn asked_by_request(world: &World, _: &At) -> Result<(), String> {
    let often = often(world, "/flag");
    holds((4..=8).contains(&often), often)
}

fn not_by_request(world: &World, at: &At) -> Result<(), String> {
    world.one(at, json!({}))?;
    holds(often(world, "/no-flag") == 0, world.seen("back-1", "/no-flag"))
}

/// Whether the first backend gets something, which answers its checks so.
fn answers(world: &World, at: &At, path: &str, status: u16, delay: f32, expected: bool) -> Result<(), String> {
    world.set(&["back-1"], path, status, delay);
    std::thread::sleep(std::time::Duration::from_secs(8));
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(counts.contains_key("back-1") == expected && counts.contains_key("back-2"), counts)
}

fn codes(world: &World, at: &At) -> Result<(), String> {
    answers(world, at, "/codes", 404, 0.0, true)
}

fn usual_codes(world: &World, at: &At) -> Result<(), String> {
    answers(world, at, "/usual", 404, 0.0, false)
}

fn too_slow(world: &World, at: &At) -> Result<(), String> {
    answers(world, at, "/too-slow", 200, 2.5, false)
}

fn slow_enough(world: &World, at: &At) -> Result<(), String> {
    answers(world, at, "/slow-enough", 200, 2.5, true)
}

fn too_slow_requests(world: &World, at: &At) -> Result<(), String> {
    answers(world, at, "/too-slow-requests", 200, 2.5, false)
}

/// Out after two failures, in again after two successes.
fn soon(world: &World, at: &At) -> Result<(), String> {
    world.set(&["back-1"], "/soon", 503, 0.0);
    std::thread::sleep(std::time::Duration::from_secs(5));
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(!counts.contains_key("back-1") && counts.len() == 2, &counts)?;
    world.set(&["back-1"], "/soon", 200, 0.0);
    std::thread::sleep(std::time::Duration::from_secs(5));
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(counts.contains_key("back-1"), counts)
}

/// Of ten failures in a row five are not enough.
fn late(world: &World, at: &At) -> Result<(), String> {
    // Once it is healthy: that takes ten successes.
    world.until("checked", || holds(world.seen("back-1", "/late").len() > 12, "not yet"))?;
    world.set(&["back-1"], "/late", 503, 0.0);
    std::thread::sleep(std::time::Duration::from_secs(5));
    let counts = pods(&world.http(at, json!({"n": 12})));
    world.set(&["back-1"], "/late", 200, 0.0);
    holds(counts.contains_key("back-1"), counts)
}

/// Where none is healthy, all are used.
fn all_fail(world: &World, at: &At) -> Result<(), String> {
    world.set(&ALL, "/all-fail", 503, 0.0);
    std::thread::sleep(std::time::Duration::from_secs(8));
    let counts = pods(&world.http(at, json!({"n": 12})));
    holds(counts.len() == 3 && !counts.contains_key("none"), counts)
}
