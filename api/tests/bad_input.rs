//! Bad input: every case gets the `Status` in the golden file, and changes nothing.
//!
//! The cases stand in `bad_input/cases.txt`, the answers in `bad_input/answers.golden`; `UPDATE_EXPECT=1` writes the
//! latter anew, to be read before it is committed. After every case the store must hold what it held before, at the
//! same revision, with the same addresses and ports in use.

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

#[tokio::test]
async fn bad_input_gets_its_status_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store::Store::open(store::Config {
        path: dir.path().join("portolan.db"),
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/112".parse().unwrap()],
        node_ports: 30000..=32767,
        history: store::History::default(),
    })
    .await
    .unwrap();
    let router =
        api::router(&api::Config { store: store.clone(), token: TOKEN.to_owned(), version: "v0.0.0-test".to_owned() });
    for case in parse(GROUND) {
        let (code, answer) = send(&router, &case).await;
        assert!(code < 300, "ground: {}: {code} {answer}", case.name);
    }

    let cases = parse(CASES);
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let before = dump(&store);
    let mut answers = String::new();
    for case in &cases {
        let (code, answer) = send(&router, case).await;
        assert!((400..600).contains(&code), "{}: {code} {answer}", case.name);
        assert_eq!(answer["kind"], "Status", "{}: {answer}", case.name);
        assert_eq!(answer["code"], code, "{}", case.name);
        assert_eq!(dump(&store), before, "{}: the store has changed", case.name);
        let pretty = without_uids(&serde_json::to_string_pretty(&answer).unwrap());
        write!(answers, "### {}\n{} {}\n{code}\n{pretty}\n\n", case.name, case.method, case.path).unwrap();
    }
    expect_test::expect_file!["bad_input/answers.golden"].assert_eq(&answers);
}
