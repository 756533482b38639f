//! Bad input: every case gets the `Status` in the golden file, and changes nothing.
//!
//! The cases stand in `bad_input/cases.txt`, the answers in `bad_input/answers.golden`; `UPDATE_EXPECT=1` writes the
//! latter anew, to be read before it is committed. After every case the store must hold what it held before, at the
//! same revision, with the same addresses and ports in use.
//!
//! `bad_input/rules.txt` lists the rules by which objects are refused. It is complete by construction: a rule that no
//! case breaks fails the test, and so does a cause that no rule has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

use std::fmt::Write as _;

use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use model::Resource;
use serde_json::Value;
use tower::ServiceExt;

const TOKEN: &str = "token-of-this-test";
const CASES: &str = include_str!("bad_input/cases.txt");
/// What the cases run into: objects that take names, addresses and ports.
const GROUND: &str = include_str!("bad_input/ground.txt");
/// What takes every address and port of the cluster that is full.
const GROUND_FULL: &str = include_str!("bad_input/ground_full.txt");
const RULES: &str = include_str!("bad_input/rules.txt");
/// The header by which a case chooses another cluster than the dual-stack one.
const CLUSTER: &str = "Cluster";

struct Case {
    name: String,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Reads `### name`, `METHOD path`, headers `Name: value`, an empty line, and the body up to the next `###`.
/// `{{N TEXT}}` in a body stands for TEXT N times.
fn parse(text: &str) -> Vec<Case> {
    text.split("### ")
        .skip(1)
        .map(|block| {
            let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
            let mut lines = head.lines();
            let name = lines.next().unwrap().trim().to_owned();
            let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
            let headers =
                lines.map(|l| l.split_once(": ").unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let body = repeated(body.trim_end());
            Case { name, method: method.parse().unwrap(), path: path.trim().to_owned(), headers, body }
        })
        .collect()
}

fn repeated(body: &str) -> Vec<u8> {
    let Some((before, rest)) = body.split_once("{{") else { return body.as_bytes().to_vec() };
    let (what, after) = rest.split_once("}}").unwrap();
    let (count, text) = what.split_once(' ').unwrap();
    format!("{before}{}{after}", text.repeat(count.parse().unwrap())).into_bytes()
}

async fn send(router: &axum::Router, case: &Case) -> (u16, Value) {
    let mut request = Request::builder().method(case.method.clone()).uri(&case.path);
    let has = |name: &str| case.headers.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
    if !has("authorization") {
        request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    }
    if !has("content-type") && !case.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    let answer = router.clone().oneshot(request.body(Body::from(case.body.clone())).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|e| panic!("{}: the answer is no JSON ({e}): {}", case.name, String::from_utf8_lossy(&bytes)));
    (code, value)
}

/// Everything the store holds, as text.
fn dump(store: &store::Store) -> String {
    let mut text = format!("revision {}\n", store.revision());
    for resource in Resource::ALL {
        for object in store.list(resource, None).1 {
            writeln!(text, "{resource} {}", String::from_utf8_lossy(&object.bytes)).unwrap();
        }
    }
    text
}

/// Random identifiers would make the golden file differ from run to run.
fn without_uids(text: &str) -> String {
    let is_uid = |s: &str| {
        s.len() == 36
            && s.char_indices()
                .all(|(i, c)| if [8, 13, 18, 23].contains(&i) { c == '-' } else { c.is_ascii_hexdigit() })
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if rest.is_char_boundary(36.min(rest.len())) && rest.len() >= 36 && is_uid(&rest[..36]) {
            out.push_str("UID");
            rest = &rest[36..];
        } else {
            let c = rest.chars().next().unwrap();
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// A cluster that cases are sent to.
struct Cluster {
    name: &'static str,
    router: axum::Router,
    store: store::Store,
    /// What it held when the ground was laid.
    before: String,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn new(name: &'static str, cidrs: &[&str], node_ports: std::ops::RangeInclusive<u16>, ground: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = store::Config {
            service_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            node_ports,
            ..store::Config::new(directory.path().join("portolan.db"))
        };
        // Generated names are the same in every run.
        let environment =
            store::Environment { clock: Box::new(|| "2024-05-01T12:00:00Z".parse().unwrap()), seed: [1, 2, 3, 4] };
        let store = store::Store::open_in(config, environment).await.unwrap();
        let config = api::Config::new(store.clone(), TOKEN, "v0.0.0-test");
        let router = api::router(&config);
        for case in parse(ground) {
            let (code, answer) = send(&router, &case).await;
            assert!(code < 300, "ground: {}: {code} {answer}", case.name);
        }
        Self { name, router, before: dump(&store), store, _directory: directory }
    }
}

/// One line of `rules.txt`.
struct Rule<'a> {
    line: &'a str,
    /// `*` is any.
    kind: &'a str,
    path: &'a str,
    reason: String,
    text: &'a str,
    /// Why no case can break it.
    never: Option<&'a str>,
}

fn rules() -> Vec<Rule<'static>> {
    let lines = RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.split(" | ");
            let mut next = || columns.next().unwrap_or_else(|| panic!("{line}: four columns, please"));
            let (kind, path, reason, text) = (next(), next(), format!("FieldValue{}", next()), next());
            Rule { line, kind, path, reason, text, never: columns.next() }
        })
        .collect()
}

/// `spec.ports[i].port` for `spec.ports[3].port`; keys of maps stay.
fn pattern(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |pattern, part| match part.split_once(']') {
        Some((index, rest)) if index.bytes().all(|b| b.is_ascii_digit()) => format!("{pattern}[i]{rest}"),
        _ => format!("{pattern}[{part}"),
    })
}

/// The causes of a 422, and which rules they broke.
fn judge(case: &Case, answer: &Value, rules: &[Rule<'_>], broken: &mut [bool], problems: &mut Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let kind = text(&answer["details"]["kind"]);
    for cause in answer["details"]["causes"].as_array().into_iter().flatten() {
        let (path, reason, message) =
            (pattern(&text(&cause["field"])), text(&cause["reason"]), text(&cause["message"]));
        let found = rules.iter().position(|rule| {
            (rule.kind == "*" || rule.kind == kind)
                && rule.path == path
                && rule.reason == reason
                && message.contains(rule.text)
        });
        match found {
            None => problems.push(format!("{}: no rule has {kind} | {path} | {reason} | {message}", case.name)),
            Some(found) if rules[found].never.is_some() => {
                problems.push(format!("{}: this can happen after all: {}", case.name, rules[found].line));
            }
            Some(found) => broken[found] = true,
        }
    }
}

#[tokio::test]
async fn bad_input_gets_its_status_and_changes_nothing() {
    let clusters = [
        Cluster::new("dual-stack", &["10.96.0.0/16", "fd00:10:96::/112"], 30000..=32767, GROUND).await,
        Cluster::new("single-stack", &["10.96.0.0/16"], 30000..=32767, "").await,
        Cluster::new("full", &["10.96.0.0/29"], 30000..=30000, GROUND_FULL).await,
    ];
    let cases = parse(CASES);
    let rules = rules();
    let mut broken = vec![false; rules.len()];
    let mut problems = Vec::new();
    let mut answers = String::new();
    for case in &cases {
        let chosen = case.headers.iter().find(|(name, _)| name == CLUSTER).map_or("dual-stack", |(_, value)| value);
        let cluster = clusters.iter().find(|cluster| cluster.name == chosen).unwrap();
        let (code, answer) = send(&cluster.router, case).await;
        if !(400..600).contains(&code) {
            problems.push(format!("{}: {code} {answer}", case.name));
            continue;
        }
        assert_eq!(answer["kind"], "Status", "{}: {answer}", case.name);
        assert_eq!(answer["code"], code, "{}", case.name);
        if dump(&cluster.store) != cluster.before {
            problems.push(format!("{}: the store has changed, by this case or the one before", case.name));
        }
        if code == 422 {
            judge(case, &answer, &rules, &mut broken, &mut problems);
        }
        let pretty = without_uids(&serde_json::to_string_pretty(&shortened(answer)).unwrap());
        write!(answers, "### {}\n{} {}\n{code}\n{pretty}\n\n", case.name, case.method, case.path).unwrap();
    }
    expect_test::expect_file!["bad_input/answers.golden"].assert_eq(&answers);
    let untested = rules.iter().zip(&broken).filter(|(rule, broken)| !**broken && rule.never.is_none());
    problems.extend(untested.map(|(rule, _)| format!("no case breaks this rule: {}", rule.line)));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Texts that quote a body which is long on purpose, cut.
fn shortened(mut value: Value) -> Value {
    const LONGEST: usize = 2000;
    match &mut value {
        Value::String(text) if text.len() > LONGEST => {
            let kept: String = text.chars().take(200).collect();
            *text = format!("{kept} … {} bytes", text.len());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = shortened(item.take())),
        Value::Object(map) => map.values_mut().for_each(|item| *item = shortened(item.take())),
        _ => {}
    }
    value
}
