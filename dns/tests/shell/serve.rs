//! A server on loopback, asked by real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use dns::{Access, Metrics, Options, Rates, Server, Upstream};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use prometheus_client::registry::Registry;

use crate::fixture;

const WEB: &str = "web.default.svc.cluster.local.";
const PATIENCE: Duration = Duration::from_secs(5);

fn loopback(v6: bool) -> SocketAddr {
    if v6 { "[::1]:0".parse().unwrap() } else { "127.0.0.1:0".parse().unwrap() }
}

fn options() -> Options {
    let threads = NonZeroUsize::new(2);
    Options { listen: vec![loopback(false)], upstream: Upstream::Servers(vec![]), threads, ..Options::default() }
}

fn start(options: Options) -> (Server, SocketAddr) {
    let server = Server::start(options, Arc::new(RwLock::new(fixture::names())), Metrics::new()).unwrap();
    let address = server.addresses()[0];
    (server, address)
}

fn query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query.to_vec().unwrap()
}

fn udp(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Message {
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).unwrap();
    Message::from_vec(&answer[..length]).unwrap()
}

fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = udp(server);
    socket.send(&query(1, name, kind)).unwrap();
    receive(&socket)
}

fn tcp(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn take(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    Message::from_vec(&message).unwrap()
}

#[test]
fn by_udp_in_both_families() {
    for v6 in [false, true] {
        let (_server, address) = start(Options { listen: vec![loopback(v6)], ..options() });
        // More clients than one batch or one thread has.
        let clients: Vec<_> = (0..100).map(|_| udp(address)).collect();
        for (id, client) in clients.iter().enumerate() {
            client.send(&query(id as u16, WEB, RecordType::A)).unwrap();
        }
        for (id, client) in clients.iter().enumerate() {
            let answer = receive(client);
            assert_eq!((answer.id, answer.answers.len()), (id as u16, 1));
        }
    }
}

#[test]
fn by_tcp_pipelined_and_larger_than_udp() {
    let (_server, address) = start(options());
    let mut stream = tcp(address);
    let all: Vec<u8> =
        (0..50).flat_map(|id| frame(&query(id, "big.default.svc.cluster.local.", RecordType::A))).collect();
    // In pieces that respect no frame.
    for piece in all.chunks(33) {
        stream.write_all(piece).unwrap();
    }
    for id in 0..50 {
        let answer = take(&mut stream);
        assert_eq!((answer.id, answer.answers.len(), answer.truncation), (id, fixture::BIG, false));
    }
    // What is owed at the end of sending is still sent, and then the server ends too.
    stream.write_all(&frame(&query(9, WEB, RecordType::A))).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(take(&mut stream).id, 9);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_frame_that_is_no_query_ends_the_connection() {
    let (_server, address) = start(options());
    let mut stream = tcp(address);
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).unwrap();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(ask(address, WEB, RecordType::A).answers.len(), 1);
}

/// Who never reads is cut off, and nobody else waits for it.
#[test]
fn a_slow_reader_keeps_nobody_waiting() {
    let (_server, address) = start(options());
    let mut slow = tcp(address);
    slow.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let frame = frame(&query(1, "big.default.svc.cluster.local.", RecordType::AAAA));
    let full = frame.repeat(100);
    let mut written = 0;
    // Until the answers have filled every buffer and nothing more is read.
    while slow.write_all(&full).is_ok() {
        written += full.len();
        assert!(written < 64 << 20, "queries are read without end");
    }
    let began = Instant::now();
    let mut other = tcp(address);
    other.write_all(&self::frame(&query(2, WEB, RecordType::A))).unwrap();
    assert_eq!(take(&mut other).id, 2);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn connections_of_one_client_are_bounded() {
    let (_server, address) = start(options());
    let mut open: Vec<_> = (0..40).map(|_| tcp(address)).collect();
    let answered = open.iter_mut().filter_map(|stream| {
        stream.write_all(&frame(&query(1, WEB, RecordType::A))).ok()?;
        stream.read_exact(&mut [0; 2]).ok()
    });
    assert_eq!(answered.count(), 32);
}

#[test]
fn addresses_come_and_go() {
    let (server, first) = start(options());
    let second = server.listen(loopback(false)).unwrap();
    assert!(server.listen(second).is_err(), "twice");
    assert!(server.listen("0.0.0.0:0".parse().unwrap()).is_err(), "no address");
    for address in [first, second] {
        assert_eq!(ask(address, WEB, RecordType::A).answers.len(), 1);
    }
    server.leave(first);
    assert_eq!(server.addresses(), [second]);
    // Both sockets are free at once.
    std::net::TcpListener::bind(first).unwrap();
    UdpSocket::bind(first).unwrap();
    assert_eq!(ask(second, WEB, RecordType::A).answers.len(), 1);
    assert_eq!(server.listen(first).unwrap(), first);
    assert_eq!(ask(first, WEB, RecordType::A).answers.len(), 1);
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(1));
    UdpSocket::bind(second).unwrap();
}

/// Two servers never share an address, though each has several sockets there.
#[test]
fn an_address_has_one_server() {
    let (_server, address) = start(options());
    let other = Server::start(
        Options { listen: vec![address], ..options() },
        Arc::new(RwLock::new(fixture::names())),
        Metrics::new(),
    );
    let error = other.err().expect("no second server").to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

/// An upstream that answers every question by one address.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let query = Message::from_vec(&bytes[..length]).unwrap();
            let mut answer = Message::response(query.id, OpCode::Query);
            answer.metadata.recursion_available = true;
            answer.add_query(query.queries[0].clone());
            answer.add_answer(Record::from_rdata(query.queries[0].name().clone(), 60, RData::A(A::new(192, 0, 2, 1))));
            let _ = socket.send_to(&answer.to_vec().unwrap(), client);
        }
    });
    address
}

#[test]
fn other_names_are_looked_up_and_aliases_completed() {
    let (_server, address) = start(Options { upstream: Upstream::Servers(vec![upstream()]), ..options() });
    let answer = ask(address, "www.Example.com.", RecordType::A);
    assert_eq!((answer.response_code, answer.answers.len(), answer.authoritative), (ResponseCode::NoError, 1, false));
    assert_eq!(answer.queries[0].name().to_ascii(), "www.Example.com.");
    let alias = ask(address, "outside.default.svc.cluster.local.", RecordType::A);
    let kinds: Vec<_> = alias.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::A], "{alias}");
    let mut stream = tcp(address);
    stream.write_all(&frame(&query(3, "www.example.com.", RecordType::A))).unwrap();
    stream.write_all(&frame(&query(4, WEB, RecordType::A))).unwrap();
    let mut ids = [take(&mut stream).id, take(&mut stream).id];
    ids.sort_unstable();
    assert_eq!(ids, [3, 4]);
}

#[test]
fn strangers_are_refused_other_names() {
    let allow = Access::only([]);
    let (_server, address) = start(Options { allow, upstream: Upstream::Servers(vec![upstream()]), ..options() });
    assert_eq!(ask(address, "www.example.com.", RecordType::A).response_code, ResponseCode::Refused);
    assert_eq!(ask(address, WEB, RecordType::A).answers.len(), 1);
}

#[test]
fn who_asks_too_often_is_dropped_or_sent_to_tcp() {
    let (_server, address) = start(Options { rates: Rates::new(100), ..options() });
    let client = udp(address);
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for id in 0..400 {
        client.send(&query(id, WEB, RecordType::A)).unwrap();
    }
    let (mut full, mut cut) = (0, 0);
    let mut bytes = [0; 512];
    while let Ok(length) = client.recv(&mut bytes) {
        let answer = Message::from_vec(&bytes[..length]).unwrap();
        assert_eq!(answer.truncation, answer.answers.is_empty());
        assert_eq!(answer.response_code, ResponseCode::NoError);
        if answer.truncation { cut += 1 } else { full += 1 }
    }
    // A hundred, and what the test took of the next second; half of the others.
    assert!((100..200).contains(&full), "{full}");
    assert!(cut > (400 - full) / 4 && cut < (400 - full) * 3 / 4, "{cut} beside {full}");
}

#[test]
fn counts_have_corednss_names() {
    let metrics = Metrics::new();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let names = Arc::new(RwLock::new(fixture::names()));
    let server = Server::start(options(), names, metrics).unwrap();
    let address = server.addresses()[0];
    for _ in 0..3 {
        ask(address, WEB, RecordType::A);
    }
    ask(address, "no.default.svc.cluster.local.", RecordType::SRV);
    ask(address, WEB, RecordType::AXFR);
    // Answers are counted behind being sent.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let text = text.replace(&address.to_string(), "X");
        let expected = [
            r#"coredns_dns_requests_total{server="dns://X",zone="cluster.local.",view="",proto="udp",family="1",type="A"} 3"#,
            r#"coredns_dns_requests_total{server="dns://X",zone="cluster.local.",view="",proto="udp",family="1",type="SRV"} 1"#,
            r#"coredns_dns_requests_total{server="dns://X",zone="dropped",view="",proto="udp",family="1",type="AXFR"} 1"#,
            r#"coredns_dns_responses_total{server="dns://X",zone="cluster.local.",view="",rcode="NOERROR",plugin="kubernetes"} 3"#,
            r#"coredns_dns_responses_total{server="dns://X",zone="cluster.local.",view="",rcode="NXDOMAIN",plugin="kubernetes"} 1"#,
            r#"coredns_dns_request_duration_seconds_count{server="dns://X",zone="cluster.local.",view=""} 4"#,
            r#"coredns_dns_request_size_bytes_bucket{le="100.0",server="dns://X",zone="cluster.local.",view="",proto="udp"} 4"#,
            r#"coredns_dns_response_size_bytes_count{server="dns://X",zone="cluster.local.",view="",proto="udp"} 4"#,
            "# EOF",
        ];
        let missing: Vec<_> = expected.iter().filter(|line| !text.contains(*line)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{missing:#?} in\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
