use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::*;

const SHORT: Patience = Patience {
    attempt: Duration::from_millis(200),
    total: Duration::from_millis(500),
    retransmit: Duration::from_millis(120),
};

/// A server on 127.0.0.1 that answers by a script; it ends with its test.
struct Scripted {
    address: SocketAddr,
    udp: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Scripted {
    /// `script` fills in what is answered; whether it came by TCP; `false`: nothing is.
    async fn start(script: impl Fn(&Message, &mut Message, bool) -> bool + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, socket);
            }
        };
        let address = socket.local_addr().unwrap();
        let (udp, tcp) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, answers) = (udp.clone(), script.clone());
        let by_udp = tokio::spawn(async move {
            let mut bytes = [0; 4_096];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(said) = say(&*answers, &bytes[..length], false) {
                    socket.send_to(&said, from).await.unwrap();
                }
            }
        });
        let count = tcp.clone();
        let by_tcp = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let length = stream.read_u16().await.unwrap();
                let mut bytes = vec![0; length.into()];
                stream.read_exact(&mut bytes).await.unwrap();
                if let Some(said) = say(&*script, &bytes, true) {
                    stream.write_u16(u16::try_from(said.len()).unwrap()).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                }
            }
        });
        Self { address, udp, tcp, tasks: [by_udp, by_tcp] }
    }

    fn asked(&self) -> (usize, usize) {
        (self.udp.load(Ordering::SeqCst), self.tcp.load(Ordering::SeqCst))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn say(script: &dyn Fn(&Message, &mut Message, bool) -> bool, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(bytes).unwrap();
    let mut said = Message::response(asked.metadata.id, asked.metadata.op_code);
    said.metadata.message_type = MessageType::Response;
    said.metadata.recursion_available = true;
    said.add_queries(asked.queries.iter().cloned());
    script(&asked, &mut said, tcp).then(|| said.to_vec().unwrap())
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn a(owner: &Name, ttl: u32, last: u8) -> Record {
    Record::from_rdata(owner.clone(), ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
}

fn soa(ttl: u32) -> Record {
    let soa = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, 60);
    Record::from_rdata(name("example."), ttl, RData::SOA(soa))
}

/// One address of TTL 60, its last byte as given.
fn address(last: u8) -> impl Fn(&Message, &mut Message, bool) -> bool + Send + Sync + 'static {
    move |asked, said, _| {
        said.add_answer(a(asked.queries[0].name(), 60, last));
        true
    }
}

fn code(code: ResponseCode) -> impl Fn(&Message, &mut Message, bool) -> bool + Send + Sync + 'static {
    move |_, said, _| {
        said.metadata.response_code = code;
        true
    }
}

fn silent(_: &Message, _: &mut Message, _: bool) -> bool {
    false
}

fn forwarder(servers: &[&Scripted]) -> Forwarder {
    let servers = servers.iter().map(|server| server.address).collect();
    Forwarder::with_patience(Upstream::Servers(servers), Vec::new(), SHORT).unwrap()
}

async fn ask(forwarder: &Forwarder, text: &str) -> Forwarded {
    forwarder.ask(&name(text), RecordType::A, Flags::default()).await
}

fn last_byte(said: &Forwarded) -> u8 {
    let RData::A(A(address)) = said.answers.last().unwrap().data else { panic!("no address: {said:?}") };
    address.octets()[3]
}

#[tokio::test]
async fn an_answer_is_asked_once_and_counts_down() {
    let server = Scripted::start(address(1)).await;
    let forwarder = forwarder(&[&server]);
    assert_eq!(last_byte(&ask(&forwarder, "a.example.").await), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    let said = ask(&forwarder, "A.example.").await;
    assert_eq!((said.code, said.answers[0].ttl), (ResponseCode::NoError, 40));
    tokio::time::resume();
    assert_eq!(server.asked(), (1, 0));

    let mut registry = prometheus_client::registry::Registry::default();
    forwarder.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "coredns_cache_hits_total{type=\"success\"} 1".to_owned(),
        "coredns_cache_misses_total 1".to_owned(),
        "coredns_cache_entries{type=\"success\"} 1".to_owned(),
        format!(
            "coredns_proxy_request_duration_seconds_count{{proxy_name=\"forward\",to=\"{}\",rcode=\"NOERROR\"}} 1",
            server.address
        ),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_question_says_what_the_client_said() {
    let server = Scripted::start(|asked, said, _| {
        let edns = asked.edns.as_ref().expect("EDNS");
        assert!(asked.metadata.recursion_desired && edns.max_payload() == 1_232);
        let bits = (u8::from(edns.flags().dnssec_ok) << 1) | u8::from(asked.metadata.checking_disabled);
        said.metadata.authentic_data = true;
        said.add_answer(a(asked.queries[0].name(), 60, bits));
        true
    })
    .await;
    let forwarder = forwarder(&[&server]);
    for (dnssec_ok, checking_disabled, bits) in [(false, false, 0), (true, false, 2), (false, true, 1), (true, true, 3)]
    {
        let flags = Flags { dnssec_ok, checking_disabled };
        assert_eq!(last_byte(&forwarder.ask(&name("a.example."), RecordType::A, flags).await), bits);
    }
    assert_eq!(server.asked(), (4, 0));
}

#[tokio::test]
async fn what_is_cut_off_is_asked_by_tcp() {
    let server = Scripted::start(|asked, said, tcp| {
        said.metadata.truncation = !tcp;
        for last in 0..if tcp { 200 } else { 1 } {
            said.add_answer(a(asked.queries[0].name(), 60, last));
        }
        true
    })
    .await;
    let said = ask(&forwarder(&[&server]), "a.example.").await;
    assert_eq!((said.code, said.answers.len(), server.asked()), (ResponseCode::NoError, 200, (1, 1)));
}

#[tokio::test]
async fn denials_come_with_their_soa_and_are_kept() {
    let server = Scripted::start(|asked, said, _| {
        if asked.queries[0].name() == &name("gone.example.") {
            said.metadata.response_code = ResponseCode::NXDomain;
        }
        said.add_authority(soa(3_600));
        true
    })
    .await;
    let forwarder = forwarder(&[&server]);
    for _ in 0..2 {
        let gone = ask(&forwarder, "gone.example.").await;
        assert_eq!((gone.code, gone.answers.len(), gone.authorities), (ResponseCode::NXDomain, 0, vec![soa(60)]));
        let empty = ask(&forwarder, "empty.example.").await;
        assert_eq!((empty.code, empty.answers.len(), empty.authorities), (ResponseCode::NoError, 0, vec![soa(60)]));
    }
    assert_eq!(server.asked(), (2, 0));
}

#[tokio::test]
async fn a_chain_of_cnames_is_left_as_it_came() {
    let server = Scripted::start(|asked, said, _| {
        let alias = |from: &str, ttl, to: &str| Record::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to))));
        said.add_answer(alias("www.example.", 300, "b.example."));
        said.add_answer(alias("b.example.", 20, "c.example."));
        if asked.queries[0].query_type() == RecordType::A {
            said.add_answer(a(&name("c.example."), 60, 7));
        } else {
            said.add_authority(soa(3_600));
        }
        true
    })
    .await;
    let forwarder = forwarder(&[&server]);
    let said = ask(&forwarder, "www.example.").await;
    let ttls: Vec<_> = said.answers.iter().map(|record| record.ttl).collect();
    assert_eq!((ttls, said.answers[1].name.to_ascii().as_str()), (vec![300, 20, 60], "b.example."));
    // The chain ends at a name without such a record: a denial, kept for the least of its TTLs.
    let said = forwarder.ask(&name("www.example."), RecordType::AAAA, Flags::default()).await;
    assert_eq!((said.answers.len(), said.authorities), (2, vec![soa(60)]));
}

#[tokio::test]
async fn who_cannot_answer_leads_to_the_next() {
    for first in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let (bad, good) = (Scripted::start(code(first)).await, Scripted::start(address(2)).await);
        assert_eq!(last_byte(&ask(&forwarder(&[&bad, &good]), "a.example.").await), 2);
        assert_eq!((bad.asked(), good.asked()), ((1, 0), (1, 0)));
    }
}

#[tokio::test]
async fn other_codes_are_passed_on() {
    for said in [ResponseCode::Refused, ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::NotAuth] {
        let server = Scripted::start(code(said)).await;
        let forwarder = forwarder(&[&server]);
        assert_eq!(ask(&forwarder, "a.example.").await, Forwarded::bare(said));
        let asked = server.asked();
        // And remembered for a moment.
        assert_eq!((ask(&forwarder, "a.example.").await, server.asked()), (Forwarded::bare(said), asked));
    }
}

#[tokio::test]
async fn who_is_silent_is_given_up_and_asked_last_from_then_on() {
    let (bad, good) = (Scripted::start(silent).await, Scripted::start(address(2)).await);
    let forwarder = forwarder(&[&bad, &good]);
    assert_eq!(last_byte(&ask(&forwarder, "a.example.").await), 2);
    assert_eq!(bad.asked(), (2, 0), "once again after a while");
    assert_eq!(last_byte(&ask(&forwarder, "b.example.").await), 2);
    assert_eq!((bad.asked(), good.asked()), ((2, 0), (2, 0)));
}

#[tokio::test]
async fn when_nobody_answers_it_is_servfail_in_time_and_for_a_while() {
    let bad = Scripted::start(silent).await;
    let forwarder = forwarder(&[&bad]);
    let start = std::time::Instant::now();
    assert_eq!(ask(&forwarder, "a.example.").await, Forwarded::bare(ResponseCode::ServFail));
    assert!(start.elapsed() >= SHORT.total && start.elapsed() < SHORT.total * 3, "{:?}", start.elapsed());
    let asked = bad.asked();
    assert_eq!(ask(&forwarder, "a.example.").await, Forwarded::bare(ResponseCode::ServFail));
    assert_eq!(bad.asked(), asked);
}

#[tokio::test]
async fn without_a_server_it_is_servfail_at_once() {
    let forwarder = Forwarder::new(Upstream::Servers(Vec::new()), Vec::new()).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(ask(&forwarder, "a.example.").await, Forwarded::bare(ResponseCode::ServFail));
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn what_was_known_is_served_while_upstreams_are_away() {
    let server = Scripted::start(address(3)).await;
    let forwarder = forwarder(&[&server]);
    ask(&forwarder, "a.example.").await;
    drop(server);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let said = ask(&forwarder, "a.example.").await;
    assert_eq!((last_byte(&said), said.answers[0].ttl, forwarder.metrics().served_stale.get()), (3, 30, 1));
}

#[tokio::test]
async fn many_who_ask_the_same_make_one_question() {
    let server = Scripted::start(address(4)).await;
    let forwarder = Arc::new(forwarder(&[&server]));
    let all: Vec<_> = (0..50)
        .map(|_| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move { last_byte(&ask(&forwarder, "a.example.").await) })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), 4);
    }
    assert_eq!(server.asked(), (1, 0));
    assert!(forwarder.asking.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_goes_away_leaves_the_question_to_those_who_stay() {
    let server = Scripted::start(silent).await;
    let forwarder = Arc::new(forwarder(&[&server]));
    let start = |forwarder: &Arc<Forwarder>| {
        let forwarder = forwarder.clone();
        tokio::spawn(async move { ask(&forwarder, "a.example.").await.code })
    };
    let (first, second) = (start(&forwarder), start(&forwarder));
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    assert_eq!(second.await.unwrap(), ResponseCode::ServFail);
    let third = start(&forwarder);
    third.abort();
    let _ = third.await;
    assert!(forwarder.asking.lock().unwrap().is_empty());
}

/// The server sends every question back to the forwarder, as a host's dnsmasq would that knows nobody else.
#[tokio::test]
async fn a_loop_through_another_goes_round_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let forwarder = Forwarder::with_patience(Upstream::Servers(vec![address]), Vec::new(), SHORT).unwrap();
    let forwarder = Arc::new(forwarder);
    let rounds = Arc::new(AtomicUsize::new(0));
    let (back, count) = (forwarder.clone(), rounds.clone());
    let other = tokio::spawn(async move {
        let mut bytes = [0; 4_096];
        loop {
            let (length, _) = socket.recv_from(&mut bytes).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let asked = Message::from_vec(&bytes[..length]).unwrap().queries[0].name().clone();
            let back = back.clone();
            tokio::spawn(async move { back.ask(&asked, RecordType::A, Flags::default()).await });
        }
    });
    assert_eq!(ask(&forwarder, "a.example.").await.code, ResponseCode::ServFail);
    tokio::time::sleep(SHORT.total).await;
    let rounds = rounds.load(Ordering::SeqCst);
    assert!(rounds <= 6, "{rounds} packets for one question");
    other.abort();
}
