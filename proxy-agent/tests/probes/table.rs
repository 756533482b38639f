//! One row for each way in which a probe may go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proxy_agent::probes::{MAX_OUTPUT_BYTES, OnFailure};
use serde_json::{Value, json};

use super::Bench;
use super::server::{self, Behaviour, Call, Server, Step, answer};

/// Who is asked.
enum Peer {
    Http(Behaviour),
    Https(Behaviour),
    /// HTTP on another of this machine's addresses.
    At(&'static str, Behaviour),
    Tcp,
    Full,
    Nobody,
    Grpc(Call),
}

/// What comes of it.
enum Result {
    /// Ready, and nothing is said.
    Ready,
    /// Ready, with a warning.
    Warning(&'static str),
    /// Not ready, and this is said. `PORT` stands for the server's port; see [`LONG`].
    Failed(&'static str),
    /// The same, of `Get "http://127.0.0.1:PORT/"`.
    Get(&'static str),
    /// Not made, and this is said.
    Unknown(&'static str),
}

struct Row {
    name: &'static str,
    peer: Peer,
    /// `PORT` stands for the server's port, as a number.
    probe: Value,
    result: Result,
}

/// What stands for longer words.
const LONG: [(&str, &str); 3] = [
    ("BROKEN", "net/http: HTTP/1.x transport connection broken"),
    ("RPC", "error: health rpc probe failed: rpc error: code ="),
    ("UNIMPLEMENTED", "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"),
];
const SLOW: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const SLOW_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
const USUAL: [&str; 5] =
    ["GET / HTTP/1.1", "Host: 127.0.0.1:", "User-Agent: kube-probe/1.37", "Accept: */*", "Connection: close"];

fn row(name: &'static str, peer: Peer, probe: Value, result: Result) -> Row {
    Row { name, peer, probe, result }
}

fn fixed(steps: Vec<Step>) -> Behaviour {
    Arc::new(move |_| steps.clone())
}

/// A server that is content with a request that has these lines, and only those if it lacks the others.
fn wants(lines: &'static [&'static str], lacks: &'static [&'static str]) -> Peer {
    Peer::Http(Arc::new(move |request| {
        let has = |line: &&str| request.split("\r\n").any(|sent| sent.starts_with(line));
        answer(if lines.iter().all(has) && !lacks.iter().any(has) { 200 } else { 500 }, request)
    }))
}

fn with(status: u16) -> Peer {
    Peer::Http(fixed(answer(status, "body")))
}

fn raw(text: &str) -> Peer {
    Peer::Http(fixed(vec![Step::Write(text.to_owned())]))
}

/// Redirects from `/` to here, and is content with anything else.
fn to(location: &'static str) -> Peer {
    Peer::Http(Arc::new(move |request| {
        if request.starts_with("GET / ") {
            vec![Step::Write(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nmove"))]
        } else {
            answer(200, "ok")
        }
    }))
}

fn get(more: Value) -> Value {
    let mut action = json!({"port": "PORT", "path": "/"});
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"httpGet": action})
}

fn headers(list: &[(&str, &str)]) -> Value {
    get(
        json!({"httpHeaders": list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()}),
    )
}

fn run(command: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", command]}})
}

fn plain() -> Value {
    get(json!({}))
}

fn rows() -> Vec<Row> {
    use Result::{Failed, Get, Ready, Unknown, Warning};
    let tcp = |port: &str| json!({"tcpSocket": {"port": port}});
    let grpc = || json!({"grpc": {"port": "PORT"}});
    let slow_body = vec![Step::Write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome".into()), Step::Hang];
    let late = vec![Step::Wait(Duration::from_millis(1300)), answer(200, "ok")[0].clone()];
    vec![
        // What a status means.
        row("status-200", with(200), plain(), Ready),
        row("status-204", raw("HTTP/1.1 204 No Content\r\n\r\n"), plain(), Ready),
        row("status-299", with(299), plain(), Ready),
        row("status-304", raw("HTTP/1.1 304 Not Modified\r\n\r\n"), plain(), Warning("")),
        row("status-399", with(399), plain(), Warning("body")),
        row("status-400", with(400), plain(), Failed("HTTP probe failed with statuscode: 400")),
        row("status-404", with(404), plain(), Failed("HTTP probe failed with statuscode: 404")),
        row("status-503", with(503), plain(), Failed("HTTP probe failed with statuscode: 503")),
        row("status-101", raw("HTTP/1.1 101 X\r\n\r\n"), plain(), Failed("HTTP probe failed with statuscode: 101")),
        row("interim", raw("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), plain(), Ready),
        // Redirects.
        row("redirect-path", to("/ready"), plain(), Ready),
        row("redirect-relative", to("ready?x"), plain(), Ready),
        row("redirect-host", to("http://example.com/"), plain(), Warning("move")),
        row("redirect-nowhere", raw("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), plain(), Warning("")),
        row("redirect-loop", to("/"), plain(), Get("stopped after 10 redirects")),
        // What is sent.
        row("request", wants(&USUAL, &[]), plain(), Ready),
        row("path", wants(&["GET /a%20b?deep=1 HTTP/1.1"], &[]), get(json!({"path": "a b?deep=1"})), Ready),
        row("headers", wants(&["X-One: 1", "X-Two: a b"], &[]), headers(&[("X-One", "1"), ("X-Two", "a b")]), Ready),
        row("host-header", wants(&["Host: shop.example"], &["Host: 127"]), headers(&[("host", "shop.example")]), Ready),
        row("own-agent", wants(&["User-Agent: me"], &["User-Agent: kube"]), headers(&[("User-Agent", "me")]), Ready),
        row("no-agent", wants(&[], &["User-Agent", "Accept"]), headers(&[("User-Agent", ""), ("Accept", "")]), Ready),
        row(
            "bad-header",
            with(200),
            headers(&[("X-One", "1\r\nX-Two: 2")]),
            Get("net/http: invalid header field value for \"X-One\""),
        ),
        // Where it goes.
        row("named-port", with(200), get(json!({"port": "web"})), Ready),
        row("text-port", with(200), get(json!({"port": "TEXT"})), Ready),
        row("no-such-port", Peer::Nobody, get(json!({"port": "db"})), Unknown("couldn't find port: \"db\"")),
        row("host", Peer::At("127.0.0.2", fixed(answer(200, ""))), get(json!({"host": "127.0.0.2"})), Ready),
        row("host-name", with(200), get(json!({"host": "localhost"})), Ready),
        row("ipv6", Peer::At("::1", fixed(answer(200, ""))), get(json!({"host": "::1"})), Ready),
        row(
            "ipv6-says",
            Peer::At("::1", fixed(vec![])),
            get(json!({"host": "::1"})),
            Failed("Get \"http://[::1]:PORT/\": EOF"),
        ),
        // Encryption, which nobody verifies.
        row("https", Peer::Https(fixed(answer(200, "ok"))), get(json!({"scheme": "HTTPS"})), Ready),
        row(
            "https-status",
            Peer::Https(fixed(answer(500, ""))),
            get(json!({"scheme": "HTTPS"})),
            Failed("HTTP probe failed with statuscode: 500"),
        ),
        row(
            "https-of-http",
            raw("HTTP/1.1 400 Bad Request\r\n\r\n"),
            get(json!({"scheme": "HTTPS"})),
            Failed(
                "Get \"https://127.0.0.1:PORT/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            ),
        ),
        // Misbehaviour.
        row("refused", Peer::Nobody, plain(), Get("dial tcp 127.0.0.1:PORT: connect: connection refused")),
        row("unreachable", Peer::Full, plain(), Get(SLOW)),
        row("silent", Peer::Http(fixed(vec![Step::Hang])), plain(), Get(SLOW)),
        row("closes", Peer::Http(fixed(vec![])), plain(), Get("EOF")),
        row("resets", Peer::Http(fixed(vec![Step::Reset])), plain(), Get("read: connection reset by peer")),
        row(
            "no-http",
            raw("220 mail.example ESMTP\r\n"),
            plain(),
            Get("BROKEN: malformed HTTP response \"220 mail.example ESMTP\""),
        ),
        row("half-a-head", raw("HTTP/1.1 200 OK\r\nX: "), plain(), Get("BROKEN: unexpected EOF")),
        row("half-a-body", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), plain(), Get("unexpected EOF")),
        row("hanging-body", Peer::Http(fixed(slow_body)), plain(), Get(SLOW_BODY)),
        row(
            "endless-body",
            Peer::Http(fixed(vec![Step::Write("HTTP/1.1 200 OK\r\n\r\n".into()), Step::Flood])),
            plain(),
            Ready,
        ),
        row(
            "endless-head",
            Peer::Http(fixed(vec![Step::Write("HTTP/1.1 200 OK\r\nX: ".into()), Step::Flood])),
            plain(),
            Get("BROKEN: server response headers exceeded 65536 bytes; aborted"),
        ),
        row("late", Peer::Http(fixed(late.clone())), plain(), Get(SLOW)),
        row(
            "late-but-in-time",
            Peer::Http(fixed(late)),
            {
                let mut probe = plain();
                probe["timeoutSeconds"] = json!(3);
                probe
            },
            Ready,
        ),
        // tcpSocket.
        row("tcp", Peer::Tcp, tcp("PORT"), Ready),
        row("tcp-named", Peer::Tcp, tcp("web"), Ready),
        row(
            "tcp-host",
            Peer::At("127.0.0.3", fixed(vec![])),
            json!({"tcpSocket": {"port": "PORT", "host": "127.0.0.3"}}),
            Ready,
        ),
        row("tcp-refused", Peer::Nobody, tcp("PORT"), Failed("dial tcp 127.0.0.1:PORT: connect: connection refused")),
        row("tcp-full", Peer::Full, tcp("PORT"), Failed("dial tcp 127.0.0.1:PORT: i/o timeout")),
        row("tcp-no-port", Peer::Nobody, tcp("db"), Unknown("couldn't find port: \"db\"")),
        // grpc.
        row("grpc", Peer::Grpc(Call::Serving(1)), grpc(), Ready),
        row("grpc-named", Peer::Grpc(Call::Named("db")), json!({"grpc": {"port": "PORT", "service": "db"}}), Ready),
        row(
            "grpc-unnamed",
            Peer::Grpc(Call::Named("db")),
            json!({"grpc": {"port": "PORT", "service": "web"}}),
            Failed("RPC NotFound desc = unknown service!"),
        ),
        row(
            "grpc-not-serving",
            Peer::Grpc(Call::Serving(2)),
            grpc(),
            Failed("service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        row(
            "grpc-unknown",
            Peer::Grpc(Call::Serving(0)),
            grpc(),
            Failed("service unhealthy (responded with \"UNKNOWN\")"),
        ),
        row(
            "grpc-unimplemented",
            Peer::Grpc(Call::Status("12", "no Health here")),
            grpc(),
            Failed("UNIMPLEMENTED: no Health here"),
        ),
        row(
            "grpc-no-trailers",
            Peer::Grpc(Call::NoTrailers),
            grpc(),
            Failed("RPC Internal desc = server closed the stream without sending trailers"),
        ),
        row(
            "grpc-not-found",
            Peer::Grpc(Call::NotFound),
            grpc(),
            Failed("UNIMPLEMENTED: unexpected HTTP status code received from server: 404 Not Found"),
        ),
        row("grpc-hangs", Peer::Grpc(Call::Hang), grpc(), Failed("timeout: health rpc did not complete within 1s")),
        row(
            "grpc-full",
            Peer::Full,
            grpc(),
            Failed("timeout: failed to connect service \"127.0.0.1:PORT\" within 1s: context deadline exceeded"),
        ),
        row(
            "grpc-refused",
            Peer::Nobody,
            grpc(),
            Failed(
                "error: failed to connect service at \"127.0.0.1:PORT\": dial tcp 127.0.0.1:PORT: connect: connection refused",
            ),
        ),
        // exec.
        row("exec", Peer::Nobody, run("exit 0"), Ready),
        row("exec-1", Peer::Nobody, run("echo no; echo disk >&2; exit 1"), Failed("no\ndisk\n")),
        row("exec-killed", Peer::Nobody, run("kill -9 $$"), Failed("")),
        row("exec-silent", Peer::Nobody, run("exit 3"), Failed("")),
        row(
            "exec-slow",
            Peer::Nobody,
            json!({"exec": {"command": ["sleep", "60"]}}),
            Failed("command timed out: \"sleep 60\" timed out after 1s"),
        ),
        row("exec-leaves-somebody", Peer::Nobody, run("sleep 3 & exit 0"), Ready),
        row("exec-much", Peer::Nobody, run("head -c 1000000 /dev/zero | tr '\\0' x; exit 1"), Failed("MUCH")),
        row(
            "exec-missing",
            Peer::Nobody,
            json!({"exec": {"command": ["/no/such/program"]}}),
            Unknown("no such file or directory"),
        ),
        row("no-handler", Peer::Nobody, json!({}), Unknown("missing probe handler")),
    ]
}

fn long(text: &str) -> String {
    LONG.iter().fold(text.to_owned(), |text, (short, long)| match text.strip_prefix(short) {
        Some(rest) => format!("{long}{rest}"),
        None => text,
    })
}

#[tokio::test]
async fn every_way_in_which_a_probe_may_go() {
    let mut bench = Bench::new();
    let mut servers = Vec::new();
    for row in rows() {
        let server: Server = match &row.peer {
            Peer::Http(behaviour) => server::http("127.0.0.1", false, Arc::clone(behaviour)).await,
            Peer::Https(behaviour) => server::http("127.0.0.1", true, Arc::clone(behaviour)).await,
            Peer::At(ip, behaviour) => server::http(ip, false, Arc::clone(behaviour)).await,
            Peer::Tcp => server::tcp().await,
            Peer::Full => server::full().await,
            Peer::Nobody => server::nobody().await,
            Peer::Grpc(call) => server::grpc(*call).await,
        };
        let port = server.port.to_string();
        let text = row.probe.to_string().replace("\"PORT\"", &port).replace("TEXT", &port);
        let mut probe: Value = serde_json::from_str(&text).unwrap();
        probe["periodSeconds"] = json!(1);
        bench.watch(row.name, "127.0.0.1", server.port, &json!({"readinessProbe": probe}), OnFailure::Report);
        servers.push((row, server));
    }
    let names: Vec<&str> = servers.iter().map(|(row, _)| row.name).collect();
    let known = |bench: &Bench, name: &str| bench.is_ready(name) || bench.said.contains_key(name);
    // Behind the last one's first result, a second for what should not be said.
    bench.listen(20, |bench| names.iter().all(|name| known(bench, name))).await;
    bench.listen(1, |_| false).await;
    let mut wrong = Vec::new();
    for (row, server) in &servers {
        let said = bench.said.get(row.name).map(|said| said[0].clone()).unwrap_or_default();
        let got = (bench.is_ready(row.name), said.0.as_str(), said.1.replace(&format!(":{}", server.port), ":PORT"));
        let much = "x".repeat(MAX_OUTPUT_BYTES);
        let unknown = "Readiness probe errored and resulted in unknown state";
        let expected = match row.result {
            Result::Ready => (true, "", String::new()),
            Result::Warning(body) => (
                true,
                "ProbeWarning",
                format!("Readiness probe warning: Probe terminated redirects, Response body: {body}"),
            ),
            // The recorder keeps what Kubernetes takes of a message.
            Result::Failed("MUCH") => {
                (false, "Unhealthy", format!("Readiness probe failed: {much}")[..1024].to_owned())
            }
            Result::Failed(text) => (false, "Unhealthy", format!("Readiness probe failed: {}", long(text))),
            Result::Get(text) => {
                let text = long(text);
                (false, "Unhealthy", format!("Readiness probe failed: Get \"http://127.0.0.1:PORT/\": {text}"))
            }
            Result::Unknown(text) => (false, "Unhealthy", format!("{unknown}: {text}")),
        };
        if got != (expected.0, expected.1, expected.2.clone()) {
            wrong.push(format!("{}: {got:?}, not {expected:?}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// core/v1 `Probe` and its parts. Those that [`super::timing`] is about are listed there.
const FIELDS: [&str; 15] = [
    "exec",
    "exec.command",
    "grpc",
    "grpc.port",
    "grpc.service",
    "httpGet",
    "httpGet.host",
    "httpGet.httpHeaders",
    "httpGet.path",
    "httpGet.port",
    "httpGet.scheme",
    "tcpSocket",
    "tcpSocket.host",
    "tcpSocket.port",
    "timeoutSeconds",
];

#[test]
fn no_field_is_left_out() {
    let mut used = BTreeSet::new();
    for row in rows() {
        for (field, value) in row.probe.as_object().unwrap() {
            used.insert(field.clone());
            let parts = value.as_object().into_iter().flatten();
            used.extend(parts.map(|(part, _)| format!("{field}.{part}")));
        }
    }
    assert_eq!(used, FIELDS.map(str::to_owned).into());
}
