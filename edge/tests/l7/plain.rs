//! HTTP/1.1 without TLS: where requests go, what is said when they cannot, and what is never done.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use model::types::{HttpSettings, ListenerProtocol, Scheduler, StickyKind, StickySession};

use crate::support::{Edge, Message, backend, echo, listener, nobody, server};

fn http() -> model::types::Listener {
    listener(ListenerProtocol::Http)
}

fn who(answer: &Message) -> &str {
    answer.body.split(' ').next().unwrap()
}

#[test]
fn a_request_reaches_its_backend_with_what_it_needs() {
    let edge = Edge::new(http(), &[echo("a")]);
    let mut client = edge.connect();
    let answer = client.ask(
        "POST /x?y HTTP/1.1\r\nHost: web.example\r\nConnection: keep-alive, x-forwarded-for\r\nContent-Length: 5\r\n\
         X-Forwarded-For: 203.0.113.1\r\nTE: gzip\r\n\r\nhello",
    );
    assert_eq!(answer.code(), 200);
    let mut lines: Vec<_> = answer.body.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["POST /x?y HTTP/1.1", "a 0", "content-length: 5", "hello", "host: web.example", "x-forwarded-for: 127.0.0.1"]
    );
    // In chunks, on the same connection of the client, by the same one to the backend.
    let answer = client.ask(
        "GET /z HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\n",
    );
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!((lines[0], lines[1], lines.last().copied()), ("a 0", "GET /z HTTP/1.1", Some("abc")));
    assert!(lines.contains(&"transfer-encoding: chunked") && !answer.body.contains("length"), "{answer:?}");
}

#[test]
fn turns_are_exact_and_connections_are_kept() {
    let mut edge = Edge::new(http(), &[echo("a"), echo("b")]);
    let count = |edge: &Edge, of: &str| {
        let mut client = edge.connect();
        (0..40).filter(|_| who(&client.get("/")) == of).count()
    };
    assert_eq!(count(&edge, "a"), 20);
    edge.listener.scheduler = Scheduler::Wrr;
    edge.backends[0].weight = 25;
    edge.backends[1].weight = 75;
    assert_eq!(edge.set(), []);
    assert_eq!(count(&edge, "a"), 10);
    edge.backends[1].weight = 0;
    edge.set();
    assert_eq!(count(&edge, "a"), 40);
}

#[test]
fn who_does_not_take_connections_costs_nobody_a_request() {
    let edge = Edge::new(http(), &[nobody(), echo("b"), nobody()]);
    let mut client = edge.connect();
    for _ in 0..20 {
        let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
        assert_eq!((answer.code(), who(&answer)), (200, "b"));
    }
}

#[test]
fn what_went_wrong_is_told() {
    let mut edge = Edge::new(http(), &[]);
    let answer = edge.connect().get("/");
    assert_eq!(answer.code(), 503);
    assert!(answer.body.contains("none of the Service's endpoints"), "{answer:?}");

    edge.backends = vec![backend(nobody(), 100)];
    edge.set();
    let answer = edge.connect().get("/");
    assert_eq!(answer.code(), 502);
    assert!(answer.body.contains("cannot reach any endpoint"), "{answer:?}");

    let no_http = server(|mut wire, _| {
        wire.try_hear();
        wire.say("SSH-2.0\r\n\r\n");
    });
    edge.backends = vec![backend(no_http, 100)];
    edge.set();
    let answer = edge.connect().get("/");
    assert_eq!(answer.code(), 502);
    assert!(answer.body.contains("sent no HTTP"), "{answer:?}");

    let silent = server(|mut wire, _| {
        wire.try_hear();
        std::thread::sleep(Duration::from_secs(10));
    });
    edge.backends = vec![backend(silent, 100)];
    edge.listener.http.as_mut().unwrap().request_seconds = 1;
    edge.set();
    let (start, answer) = (Instant::now(), edge.connect().get("/"));
    assert_eq!(answer.code(), 504);
    assert!(answer.body.contains("did not begin"), "{answer:?}");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(8));
}

/// Closes each connection after the first answer, without having said that it would.
fn closes_in_silence(seen: mpsc::Sender<String>) -> std::net::SocketAddr {
    server(move |mut wire, connection| {
        let Some(request) = wire.try_hear() else { return };
        let line = request.head.lines().next().unwrap().to_owned();
        seen.send(line).unwrap();
        // The second request on a connection is read, and the connection ends without an answer.
        wire.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{connection:02}"));
        if let Some(request) = wire.try_hear() {
            seen.send(format!("lost {}", request.head.lines().next().unwrap())).unwrap();
        }
    })
}

#[test]
fn a_lost_request_is_repeated_only_if_that_cannot_harm() {
    let (seen, sees) = mpsc::channel();
    let edge = Edge::new(http(), &[closes_in_silence(seen)]);
    let mut client = edge.connect();
    assert_eq!(client.get("/1").body, "00");
    assert_eq!(client.get("/2").body, "01");
    assert_eq!(sees.try_iter().collect::<Vec<_>>(), ["GET /1 HTTP/1.1", "lost GET /2 HTTP/1.1", "GET /2 HTTP/1.1"]);
    let lost = client.ask("POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(lost.code(), 502);
    assert_eq!(sees.try_iter().collect::<Vec<_>>(), ["lost POST /3 HTTP/1.1"]);
}

#[test]
fn a_backend_that_has_left_finishes_what_it_began() {
    let (begin, begins) = mpsc::channel();
    let begin = std::sync::Mutex::new(begin);
    let slow = server(move |mut wire, _| {
        wire.try_hear();
        begin.lock().unwrap().send(()).unwrap();
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nslo");
        std::thread::sleep(Duration::from_millis(500));
        wire.say("wly");
    });
    let mut edge = Edge::new(http(), &[slow]);
    let mut client = edge.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    begins.recv().unwrap();
    edge.backends = vec![backend(echo("b"), 100)];
    edge.set();
    assert_eq!(client.hear().body, "slowly");
    assert_eq!(who(&client.get("/")), "b");
}

#[test]
fn sessions_stay() {
    let mut edge = Edge::new(http(), &[echo("a"), echo("b"), echo("c")]);
    let sticky = StickySession { kind: StickyKind::Insert, cookie: None, timeout_seconds: 60 };
    edge.listener.http = Some(HttpSettings { sticky: Some(sticky), ..HttpSettings::default() });
    edge.set();
    let mut client = edge.connect();
    let first = client.get("/");
    let cookie = first.field("set-cookie").unwrap();
    assert!(cookie.starts_with("SERVERID=") && cookie.ends_with("; Path=/; HttpOnly; Max-Age=60"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let ask = |edge: &Edge| edge.connect().ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    for _ in 0..10 {
        let answer = ask(&edge);
        assert_eq!(who(&answer), who(&first));
        assert_eq!(answer.field("set-cookie"), None);
    }
    // The backend has gone: another takes over, and says so.
    let gone = ["a", "b", "c"].iter().position(|n| *n == who(&first)).unwrap();
    edge.backends.remove(gone);
    edge.set();
    let answer = ask(&edge);
    assert_ne!(who(&answer), who(&first));
    assert!(answer.field("set-cookie").is_some());
}

#[test]
fn everything_is_sent_to_https() {
    let mut edge = Edge::new(http(), &[echo("a")]);
    edge.listener.http.as_mut().unwrap().redirect_port = Some(8443);
    edge.set();
    let mut client = edge.connect();
    let answer = client.get("/x?y=1");
    assert_eq!((answer.code(), answer.field("location").as_deref()), (301, Some("https://web.example:8443/x?y=1")));
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.code(), answer.field("location").as_deref()), (308, Some("https://a:8443/")));
}

#[test]
fn what_has_two_meanings_has_none() {
    let edge = Edge::new(http(), &[echo("a")]);
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    ] {
        let mut client = edge.connect();
        client.say(request);
        if let Some(answer) = client.try_hear() {
            assert_eq!(answer.code(), 400, "{request:?}");
        }
    }
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut client = edge.connect();
    client.say(&huge);
    assert_eq!(client.try_hear().map(|a| a.code()), Some(431));
}

#[test]
fn octets_go_through_a_tunnel() {
    let backend = server(|mut wire, _| {
        let request = wire.hear();
        assert_eq!(request.field("upgrade").as_deref(), Some("websocket"), "{request:?}");
        assert_eq!(request.field("sec-websocket-key").as_deref(), Some("k"));
        wire.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
        let heard = wire.octets(4).unwrap();
        wire.say(&format!("<{}>", String::from_utf8(heard).unwrap()));
    });
    let edge = Edge::new(http(), &[backend]);
    let mut client = edge.connect();
    let answer = client.ask(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
    );
    assert_eq!(answer.code(), 101);
    assert_eq!(answer.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(client.octets(5).unwrap(), b"first");
    client.say("ping");
    assert_eq!(client.octets(6).unwrap(), b"<ping>");
    assert!(client.is_over());
}

#[test]
fn trailers_go_through() {
    let backend = server(|mut wire, _| {
        let request = wire.hear();
        assert_eq!(request.field("te").as_deref(), Some("trailers"));
        wire.say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
        );
    });
    let edge = Edge::new(http(), &[backend]);
    let answer = edge.connect().ask("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    assert_eq!(answer.body, "abc[x-sum: 1]");
}

#[test]
fn idle_connections_end_and_busy_ones_do_not() {
    let slow = server(|mut wire, _| {
        while wire.try_hear().is_some() {
            std::thread::sleep(Duration::from_secs(5));
            wire.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut edge = Edge::new(http(), &[slow]);
    edge.listener.http.as_mut().unwrap().idle_seconds = 1;
    edge.set();
    let (mut silent, mut letters, mut busy) = (edge.connect(), edge.connect(), edge.connect());
    let start = Instant::now();
    busy.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    letters.say("GET / HT");
    assert!(silent.is_over());
    assert!(letters.is_over());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(busy.hear().code(), 200);
    assert!(busy.is_over());
}

#[test]
fn a_listener_that_goes_lets_its_requests_finish() {
    let slow = server(|mut wire, _| {
        wire.try_hear();
        std::thread::sleep(Duration::from_millis(700));
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let edge = Edge::new(http(), &[slow]);
    let (mut busy, mut idle) = (edge.connect(), edge.connect());
    busy.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    edge.proxy.set(&edge::l7::Routes::default(), jiff::Timestamp::now());
    let answer = busy.hear();
    assert_eq!((answer.code(), answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    assert!(busy.is_over());
    assert!(idle.is_over());
}
