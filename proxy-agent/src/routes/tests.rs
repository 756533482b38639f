use std::convert::Infallible;

use dataplane::nftables::walk::WalkError;

use super::*;

#[test]
fn a_question_as_it_stands_on_the_wire() {
    let packet = Packet {
        client: "10.244.1.2".parse().unwrap(),
        origin: Origin::ThisNode,
        destination: "10.96.0.10".parse().unwrap(),
        protocol: Protocol::Sctp,
        port: 53,
        here: false,
    };
    let question = Question { kind: ROUTE.to_owned(), packets: vec![Asked::from(&packet)] };
    let text = json!({"kind": "Route", "packets": [
        {"client": "10.244.1.2", "origin": "ThisNode", "destination": "10.96.0.10", "protocol": "SCTP", "port": 53},
    ]});
    assert_eq!(json!(question), text);
    assert_eq!(packets(&text), Ok(vec![packet]));
    for wrong in [json!({"kind": "Route"}), json!({"kind": "Route", "packets": [{"client": "me"}]})] {
        assert!(packets(&wrong).unwrap_err().starts_with("no packets: "));
    }
    let many = Question { packets: vec![Asked::from(&packet); MAX_PACKETS + 1], ..question };
    assert_eq!(packets(&json!(many)).unwrap_err(), "1001 packets; at most 1000 can be asked for at a time");
}

fn routed(way: Way) -> Routed {
    Routed::from(Ok::<_, WalkError<Infallible>>(way))
}

fn way(endpoints: usize) -> Way {
    let candidate = |n: u8| Candidate {
        endpoint: SocketAddr::new([10, 244, 1, n].into(), 8080),
        source: if n.is_multiple_of(2) { Source::Masqueraded } else { Source::Kept },
        share: 1,
    };
    Way {
        verdict: Verdict::Endpoints {
            candidates: (1..).map(candidate).take(endpoints).collect(),
            affinity_seconds: Some(60),
        },
        probabilities: vec![1.0 / endpoints as f64; endpoints],
        remembered: false,
        chains: vec!["output".to_owned(), "inside".to_owned()],
    }
}

#[test]
fn an_answer_as_it_stands_on_the_wire() {
    let node = Told { node_port_ranges: vec!["172.31.255.11/32".parse().unwrap()], ..Told::default() };
    let astray = || WalkError::<Infallible>::Astray("it goes to chain x".to_owned());
    let drop = Way { verdict: Verdict::Drop, probabilities: Vec::new(), chains: Vec::new(), ..way(1) };
    let answer = Routes {
        kind: ROUTES.to_owned(),
        revision: "12".to_owned(),
        node,
        tampered: None,
        verdicts: vec![routed(way(2)), routed(drop), Routed::from(Err(astray()))],
    };
    let text = json!({
        "kind": "Routes", "revision": "12",
        "node": {"nodePortRanges": ["172.31.255.11/32"], "localhostNodePorts": false, "masqueradedClients": []},
        "verdicts": [
            {
                "verdict": "Endpoints",
                "endpoints": [
                    {"endpoint": "10.244.1.1:8080", "masqueraded": false, "probability": 0.5},
                    {"endpoint": "10.244.1.2:8080", "masqueraded": true, "probability": 0.5},
                ],
                "affinitySeconds": 60,
                "chains": ["output", "inside"],
            },
            {"verdict": "Drop"},
            {"verdict": "Unknown", "error": "the table does what it never should: it goes to chain x"},
        ],
    });
    assert_eq!(json!(answer), text);
    assert_eq!(serde_json::from_value::<Routes>(text).unwrap(), answer);
}

#[test]
fn answers_have_a_bound_and_at_least_one_verdict() {
    let verdicts = |sizes: &[usize]| sizes.iter().map(|n| routed(way(*n))).collect::<Vec<_>>().into_iter();
    let up_to = |sizes: &[usize], in_time| up_to(verdicts(sizes), 10, || in_time).len();
    assert_eq!(up_to(&[3, 4, 3, 1], true), 3);
    assert_eq!(up_to(&[30, 1], true), 1);
    assert_eq!(up_to(&[], true), 0);
    assert_eq!(up_to(&[1, 1], false), 1);
}

#[test]
fn differences_in_words() {
    let candidate = |n: u8, source: Source, share: u16| Candidate {
        endpoint: SocketAddr::new([10, 244, 1, n].into(), 8080),
        source,
        share,
    };
    let expected = |candidates: Vec<Candidate>| Verdict::Endpoints { candidates, affinity_seconds: Some(60) };
    let both = expected(vec![candidate(1, Source::Kept, 1), candidate(2, Source::Masqueraded, 1)]);
    let routed = routed(way(2));
    assert_eq!(routed.differences(&both), [""; 0]);
    let one = Routed { remembered: true, endpoints: vec![routed.endpoints[0]], ..routed.clone() };
    assert_eq!(one.differences(&both), [""; 0], "a client that was here goes where it went");
    for (expected, differences) in [
        (Verdict::Drop, &["it is forwarded; expected: it is dropped"][..]),
        (
            expected(vec![candidate(1, Source::Kept, 3), candidate(2, Source::Masqueraded, 1)]),
            &["gives 10.244.1.1:8080 50.00 % instead of 75.00 %", "gives 10.244.1.2:8080 50.00 % instead of 25.00 %"],
        ),
        (
            expected(vec![candidate(1, Source::Masqueraded, 1), candidate(3, Source::Kept, 1)]),
            &[
                "lacks endpoint 10.244.1.3:8080",
                "shows the client to 10.244.1.1:8080",
                "has endpoint 10.244.1.2:8080, which is none",
            ],
        ),
        (
            Verdict::Endpoints {
                candidates: vec![candidate(1, Source::Kept, 1), candidate(2, Source::Masqueraded, 1)],
                affinity_seconds: None,
            },
            &["remembers the client for 60 s instead of not"],
        ),
    ] {
        assert_eq!(routed.differences(&expected), differences);
    }
    let unknown = Routed { error: Some("no".to_owned()), ..Routed::default() };
    assert_eq!(unknown.differences(&both), ["no"]);
}
