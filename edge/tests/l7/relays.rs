//! PROXY headers in front of connections and datagrams, and what becomes of both when a backend leaves.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use edge::Active;
use edge::l7::{Options, Proxy, Routes};
use jiff::Timestamp;
use model::types::{Listener, ListenerProtocol};

use crate::support::{ADDRESS, Edge, backend, echo, listener, nobody, server};

fn relayed(protocol: ListenerProtocol) -> Listener {
    Listener { proxy_protocol: true, ..listener(protocol) }
}

#[test]
fn a_connection_begins_with_who_asks() {
    let backend = server(|mut wire, _| {
        let header = wire.octets(28).unwrap();
        let peer = SocketAddr::from((
            [header[16], header[17], header[18], header[19]],
            u16::from_be_bytes([header[24], header[25]]),
        ));
        assert_eq!(header[20..24], [192, 0, 2, 1]);
        assert_eq!(u16::from_be_bytes([header[26], header[27]]), 80);
        let heard = wire.octets(2).unwrap();
        wire.say(&format!("{peer} {}\r\n\r\n", String::from_utf8(heard).unwrap()));
    });
    let edge = Edge::new(relayed(ListenerProtocol::Tcp), &[nobody(), backend]);
    for _ in 0..4 {
        let mut client = edge.connect();
        client.say("ab");
        assert_eq!(client.hear().head, format!("{} ab", client.stream.local_addr().unwrap()));
        assert!(client.is_over());
    }
}

#[test]
fn connections_to_a_backend_that_left_are_cut_or_drained() {
    for (drain_seconds, stays) in [(None, false), (Some(10), true)] {
        let mut edge = Edge::new(Listener { drain_seconds, ..relayed(ListenerProtocol::Tcp) }, &[skip_header("a")]);
        let mut client = edge.connect();
        assert!(client.get("/").body.starts_with("a "));
        edge.backends = vec![backend(skip_header("b"), 100)];
        edge.set();
        if stays {
            assert!(client.get("/").body.starts_with("a "));
        } else {
            assert!(client.is_over());
        }
        assert!(edge.connect().get("/").body.starts_with("b "));
    }
}

fn skip_header(name: &'static str) -> SocketAddr {
    server(move |mut wire, _| {
        wire.octets(28);
        while let Some(request) = wire.try_hear() {
            let body = format!("{name} {}", request.head);
            wire.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

#[test]
fn a_client_stays_with_its_backend_for_a_while() {
    let mut edge = Edge::new(
        Listener { persistence_seconds: 60, ..relayed(ListenerProtocol::Tcp) },
        &[skip_header("a"), skip_header("b"), skip_header("c")],
    );
    let who = |edge: &Edge| edge.connect().get("/").body.chars().next().unwrap();
    let first = who(&edge);
    assert!((0..6).all(|_| who(&edge) == first));
    edge.listener.persistence_seconds = 0;
    edge.set();
    assert!((0..6).any(|_| who(&edge) != first));
}

#[test]
fn a_silent_connection_is_forgotten() {
    let silent = server(|mut wire, _| while wire.octets(1).is_some() {});
    let edge = Edge::new(Listener { established_seconds: 1, ..relayed(ListenerProtocol::Tcp) }, &[silent]);
    assert!(edge.connect().is_over());
}

#[test]
fn every_datagram_begins_with_who_asks_and_answers_come_back() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let backends = [backend(server.local_addr().unwrap(), 100)];
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            let told = SocketAddr::from((
                [buffer[16], buffer[17], buffer[18], buffer[19]],
                u16::from_be_bytes([buffer[24], buffer[25]]),
            ));
            assert_eq!(buffer[12..14], [0x21, 0x12]);
            let answer = format!("{told} {}", String::from_utf8_lossy(&buffer[28..length]));
            server.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let proxy = Proxy::start(&Options { workers: 1, ..Options::new(vec!["127.0.0.1".parse().unwrap()]) }).unwrap();
    let active = |backends: &[model::balancing::Backend]| Active {
        instance: "lb-1".into(),
        address: ADDRESS,
        listener: Arc::new(relayed(ListenerProtocol::Udp)),
        backends: backends.into(),
    };
    let set = |active: &[Active]| proxy.set(&Routes::new(active, &Default::default()), Timestamp::now());
    assert_eq!(set(&[active(&backends)]), []);
    let at = proxy.udp(ADDRESS, 80).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 2048];
    for word in ["one", "two"] {
        client.send_to(word.as_bytes(), at).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, at);
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("{} {word}", client.local_addr().unwrap()));
    }
    // The same socket for as long as the listener is there.
    set(&[active(&[])]);
    assert_eq!(proxy.udp(ADDRESS, 80), Some(at));
    set(&[]);
    assert_eq!(proxy.udp(ADDRESS, 80), None);
}

/// Whoever comes to the proxy itself, and not to an instance's address, is not served.
#[test]
fn nobody_is_served_who_was_not_translated() {
    let own = "127.0.0.1".parse().unwrap();
    let proxy = Proxy::start(&Options { workers: 1, ..Options::new(vec![own]) }).unwrap();
    let listener = Listener { port: proxy.tcp(false).unwrap().port(), ..listener(ListenerProtocol::Http) };
    let active = Active {
        instance: "lb-1".into(),
        address: own,
        listener: Arc::new(listener),
        backends: [backend(echo("a"), 100)].into(),
    };
    proxy.set(&Routes::new(&[active], &Default::default()), Timestamp::now());
    let stream = std::net::TcpStream::connect(proxy.tcp(false).unwrap()).unwrap();
    assert!(crate::support::Wire::new(stream).is_over());
}
