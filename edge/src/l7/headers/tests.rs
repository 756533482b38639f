use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};

use super::*;

fn request(line: &str, fields: &[(&str, &str)]) -> Parts {
    let mut words = line.split(' ');
    let mut builder = Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
    builder = builder.version(match words.next() {
        Some("2") => Version::HTTP_2,
        Some("1.0") => Version::HTTP_10,
        _ => Version::HTTP_11,
    });
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn about(secure: bool) -> About {
    About::new("[::ffff:192.0.2.7]:4711".parse().unwrap(), HeaderValue::from(443), secure)
}

/// The request as it leaves, a line per field, sorted.
fn forwarded(mut parts: Parts, body: &impl Body, settings: &HttpSettings) -> String {
    let way = way(&parts);
    let host = match host(&parts) {
        Ok(host) => host,
        Err(refusal) => return refusal.to_string(),
    };
    forward(&mut parts, host, body, way, &about(true), settings).unwrap();
    let mut lines: Vec<String> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    format!("{} {} {:?} {way:?}\n{}", parts.method, parts.uri, parts.version, lines.join("\n"))
}

fn plain(parts: Parts) -> String {
    forwarded(parts, &Empty::<Bytes>::new(), &HttpSettings::default())
}

#[test]
fn what_is_between_neighbours_stays_there() {
    let parts = request(
        "GET /a?b=c",
        &[
            ("Host", "web.example"),
            ("Connection", "close, X-Secret, X-Forwarded-For, Host, cookie"),
            ("X-Secret", "1"),
            ("Cookie", "a=1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "gzip"),
            ("Expect", "100-continue"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("Accept", "*/*"),
        ],
    );
    assert_eq!(
        plain(parts),
        "GET /a?b=c HTTP/1.1 Http1\naccept: */*\ncookie: a=1\nhost: web.example\nx-forwarded-for: 192.0.2.7"
    );
}

#[test]
fn the_client_is_told_of_behind_those_before() {
    let parts = request(
        "GET /",
        &[
            ("Host", "a"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-Proto", "ftp"),
        ],
    );
    let settings = HttpSettings {
        forwarded_proto: true,
        forwarded_port: true,
        forwarded_client_port: true,
        ..HttpSettings::default()
    };
    assert_eq!(
        forwarded(parts, &Empty::<Bytes>::new(), &settings),
        "GET / HTTP/1.1 Http1\nhost: a\nx-forwarded-client-srcport: 4711\n\
         x-forwarded-for: 203.0.113.9, 10.0.0.1, 192.0.2.7\nx-forwarded-port: 443\nx-forwarded-proto: https"
    );
}

#[test]
fn a_body_without_a_length_is_sent_in_chunks_whatever_the_method() {
    let body = Full::new(Bytes::from_static(b"x"));
    let parts = request("GET /", &[("Host", "a"), ("Transfer-Encoding", "chunked")]);
    let sent = forwarded(parts, &body, &HttpSettings::default());
    assert!(sent.contains("\ntransfer-encoding: chunked\n"), "{sent}");
    let parts = request("POST /", &[("Host", "a"), ("Content-Length", "1"), ("Connection", "content-length")]);
    let sent = forwarded(parts, &body, &HttpSettings::default());
    assert!(sent.contains("\ncontent-length: 1\n") || sent.contains("content-length: 1\nhost"), "{sent}");
    assert!(!sent.contains("transfer-encoding"), "{sent}");
}

#[test]
fn http2_becomes_http1_and_grpc_stays() {
    let parts =
        request("POST https://web.example:8443/x 2", &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]);
    assert_eq!(
        plain(parts),
        "POST /x HTTP/1.1 Http1\nconnection: te\ncookie: a=1; b=2\nhost: web.example:8443\nte: trailers\n\
         x-forwarded-for: 192.0.2.7"
    );
    let parts = request("POST https://a/p.S/M 2", &[("content-type", "application/grpc+proto"), ("te", "trailers")]);
    assert_eq!(
        plain(parts),
        "POST http://a/p.S/M HTTP/2.0 Http2\ncontent-type: application/grpc+proto\nte: trailers\n\
         x-forwarded-for: 192.0.2.7"
    );
}

#[test]
fn a_tunnel_is_asked_for_on_but_not_to_http2() {
    let fields = [("Host", "a"), ("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(
        plain(request("GET /ws", &fields)),
        "GET /ws HTTP/1.1 Tunnel\nconnection: upgrade\nhost: a\nupgrade: websocket\nx-forwarded-for: 192.0.2.7"
    );
    for to in ["h2c", "websocket, H2C"] {
        let fields =
            [("Host", "a"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", to), ("HTTP2-Settings", "AAMAAABk")];
        assert_eq!(plain(request("GET /", &fields)), "GET / HTTP/1.1 Http1\nhost: a\nx-forwarded-for: 192.0.2.7");
    }
}

#[test]
fn one_host_and_no_more() {
    let refused = Refusal::Host.to_string();
    assert_eq!(plain(request("GET /", &[])), refused);
    assert_eq!(plain(request("GET /", &[("Host", "a"), ("Host", "a")])), refused);
    assert_eq!(plain(request("GET /", &[("Host", "a, b")])), refused);
    assert_eq!(plain(request("GET /", &[("Host", "u@a")])), refused);
    assert_eq!(plain(request("GET /", &[("Host", "a/b")])), refused);
    assert_eq!(plain(request("GET https://a/ 2", &[("host", "b")])), refused);
    assert_eq!(plain(request("CONNECT a:1", &[("Host", "a")])), Refusal::Connect.to_string());
    // A target with a host wins (RFC 9112 §3.2.2).
    let sent = plain(request("GET http://user@a:80/x", &[("Host", "b")]));
    assert!(sent.starts_with("GET /x HTTP/1.1 Http1\nhost: a:80\n"), "{sent}");
    assert!(plain(request("GET / 1.0", &[])).starts_with("GET / HTTP/1.1"));
    assert!(plain(request("OPTIONS *", &[("Host", "a")])).starts_with("OPTIONS * HTTP/1.1"));
}

#[test]
fn redirects_keep_host_and_path() {
    let redirect = |host: &'static str, uri: &str, port| {
        redirect(&HeaderValue::from_static(host), &uri.parse().unwrap(), port).map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(redirect("a.example:80", "/x?y=z", 443).as_deref(), Some("https://a.example/x?y=z"));
    assert_eq!(redirect("[2001:db8::1]:80", "http://q/x", 8443).as_deref(), Some("https://[2001:db8::1]:8443/x"));
    assert_eq!(redirect("a", "*", 443).as_deref(), Some("https://a/"));
    assert_eq!(redirect("", "/", 443), None);
}
