//! What must hold of any answer to any bytes, whatever they are. Shared with the fuzzer.

use dns::Names;
use dns::access::Access;
use dns::message::Transport;
use dns::respond::{Asker, Outcome, Spin, respond};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;

/// Has a message answered as it would be by `transport`, and judges what is said.
pub fn check(names: &Names, access: &Access, transport: Transport, bytes: &[u8]) -> Option<Message> {
    let asker = Asker { transport, client: [127, 0, 0, 1].into(), access };
    let mut out = b"left over from before".to_vec();
    let asks = match respond(names, asker, bytes, &mut Spin::new(1), &mut out) {
        Outcome::Silence => None,
        Outcome::Said(_) => Some(false),
        Outcome::Ask(pending) => {
            pending.refuse(ResponseCode::ServFail, transport, &mut out);
            Some(true)
        }
    };
    let readable = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
    assert_eq!(asks.is_some(), readable, "queries alone are answered, and all of them");
    let asks = asks?;
    assert!(out.len() >= 12 && out[..2] == bytes[..2], "the id comes back");
    let bound = if transport == Transport::Udp { 1232 } else { 65535 };
    assert!(out.len() <= bound, "{} octets", out.len());
    let answer = Message::from_vec(&out).expect("what is said can be read");
    assert!(out[2] & 0x80 != 0);

    let code = answer.response_code;
    let query = Message::from_vec(bytes);
    if let Ok(query) = &query
        && transport == Transport::Udp
    {
        let asked = query.edns.as_ref().map_or(512, |edns| edns.max_payload()).clamp(512, 1232);
        assert!(out.len() <= asked.into(), "{} octets for who takes {asked}", out.len());
    }
    if OpCode::from_u8(bytes[2] >> 3 & 0xf) != OpCode::Query {
        assert_eq!((code, answer.answers.len()), (ResponseCode::NotImp, 0));
        return Some(answer);
    }
    if bytes[4..6] != [0, 1] || query.is_err() {
        assert_eq!((code, answer.answers.len()), (ResponseCode::FormErr, 0));
    }
    assert_eq!(answer.edns.is_some() && code != ResponseCode::FormErr, asked_edns(&query, code), "OPT for OPT");
    if let Ok(query) = &query
        && code != ResponseCode::FormErr
    {
        assert_eq!(answer.queries.len(), 1);
        assert_eq!(answer.queries[0].name().to_ascii(), query.queries[0].name().to_ascii(), "with its case");
        assert_eq!(answer.queries[0].query_type(), query.queries[0].query_type());
        assert_eq!(answer.recursion_desired, query.recursion_desired);
        match query.queries[0].query_type() {
            RecordType::AXFR | RecordType::IXFR => {
                assert!(!asks && answer.answers.is_empty());
                assert!(code == ResponseCode::Refused || u16::from(code) == 16);
            }
            RecordType::ANY => assert!(answer.answers.len() <= 1 && answer.additionals.is_empty(), "{answer}"),
            _ => {}
        }
    }
    Some(answer)
}

fn asked_edns<E>(query: &Result<Message, E>, code: ResponseCode) -> bool {
    code != ResponseCode::FormErr && query.as_ref().is_ok_and(|query| query.edns.is_some())
}
