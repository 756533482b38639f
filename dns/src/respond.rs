//! Bytes in, bytes out: what a server says at once to what a client sent. No socket, no clock.
//!
//! There are two ways to an answer. A plain question for the addresses of a Service is answered from the index, copied straight
//! into the packet ([`fast`]); that is most of what a cluster asks. Everything else is read by hickory, answered by
//! [`answer`], and written by hickory. A test proves that where both can answer they say the same.
//!
//! Names that are not the cluster's cannot be answered at once: [`Outcome::Ask`] has what must be kept until other
//! servers have been asked, and [`Pending::finish`] writes what they said.

mod fast;

use std::net::IpAddr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::access::Access;
use crate::answer::{Answer, Reply, answer};
use crate::forward::{Flags, Forwarded};
use crate::message::{Content, Envelope, Read, Transport, limit, read, write};
use crate::names::Names;

/// What is known of whoever asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub transport: Transport,
    pub client: IpAddr,
    /// Who may have names looked up that are not the cluster's.
    pub access: &'a Access,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing is sent.
    Silence,
    /// The buffer holds the answer.
    Said(Facts),
    /// Other servers must be asked first.
    Ask(Box<Pending>),
}

/// Who knew the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cluster's names.
    Zone,
    /// Another server, or the cache of what others said.
    Elsewhere,
    /// Nobody was asked.
    Refused,
}

/// What is counted of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: RecordType,
    pub dnssec_ok: bool,
    pub code: ResponseCode,
    pub origin: Origin,
}

/// A question that waits for other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    envelope: Envelope,
    query: Query,
    /// What stands in front of what the others say: a CNAME out of the zone.
    begun: Option<Reply>,
}

/// Answers what a client sent, into `out`.
pub fn respond(names: &Names, asker: Asker<'_>, bytes: &[u8], spin: &mut Spin, out: &mut Vec<u8>) -> Outcome {
    if let Some(facts) = fast::respond(names, asker.transport, bytes, spin, out) {
        return Outcome::Said(facts);
    }
    respond_slowly(names, asker, bytes, spin, out)
}

fn respond_slowly(names: &Names, asker: Asker<'_>, bytes: &[u8], spin: &mut Spin, out: &mut Vec<u8>) -> Outcome {
    let (envelope, query) = match read(bytes) {
        Read::Silence => return Outcome::Silence,
        Read::Unfit(envelope, query, code) => {
            let said = Said { envelope: &envelope, query: query.as_ref(), origin: Origin::Refused };
            return Outcome::Said(said.code(code, asker.transport, out));
        }
        Read::Question(envelope, query) => (envelope, query),
    };
    let others = envelope.recursion_desired && asker.access.allows(asker.client);
    match known(names, query.name(), query.query_type()) {
        Answer::Elsewhere if others => Outcome::Ask(Box::new(Pending { envelope, query, begun: None })),
        Answer::Elsewhere => {
            let said = Said { envelope: &envelope, query: Some(&query), origin: Origin::Refused };
            Outcome::Said(said.code(ResponseCode::Refused, asker.transport, out))
        }
        Answer::Known(reply) if others && reply.follow.is_some() => {
            Outcome::Ask(Box::new(Pending { envelope, query, begun: Some(reply) }))
        }
        Answer::Known(mut reply) => {
            spin.turn_records(&mut reply.answers);
            let said = Said { envelope: &envelope, query: Some(&query), origin: Origin::Zone };
            Outcome::Said(said.reply(&reply, asker.transport, out))
        }
    }
}

/// [`answer`], and for ANY the least that is allowed (RFC 8482, sections 4.2 and 4.3): the CNAME if there is one, otherwise a
/// HINFO that names the RFC. Other servers are never asked for ANY.
fn known(names: &Names, name: &Name, kind: RecordType) -> Answer {
    if kind != RecordType::ANY {
        return answer(names, name, kind);
    }
    let hinfo = || {
        let data = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
        Record::from_rdata(name.clone(), names.zone().ttl, data)
    };
    match answer(names, name, RecordType::HINFO) {
        Answer::Known(reply) if reply.code == ResponseCode::NoError && reply.answers.is_empty() => {
            Answer::Known(Reply { answers: vec![hinfo()], authorities: Vec::new(), ..reply })
        }
        Answer::Known(reply) => Answer::Known(Reply { follow: None, ..reply }),
        Answer::Elsewhere => Answer::Elsewhere,
    }
}

/// What every answer needs, whatever it says.
struct Said<'a> {
    envelope: &'a Envelope,
    query: Option<&'a Query>,
    origin: Origin,
}

impl Said<'_> {
    fn code(&self, code: ResponseCode, transport: Transport, out: &mut Vec<u8>) -> Facts {
        self.content(&Content::code(code), transport, out)
    }

    fn reply(&self, reply: &Reply, transport: Transport, out: &mut Vec<u8>) -> Facts {
        let content = Content {
            code: reply.code,
            authoritative: matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain),
            truncated: false,
            answers: &reply.answers,
            authorities: &reply.authorities,
            additionals: &reply.additionals,
        };
        self.content(&content, transport, out)
    }

    fn content(&self, content: &Content<'_>, transport: Transport, out: &mut Vec<u8>) -> Facts {
        write(out, self.envelope, self.query, content, limit(transport, self.envelope.edns));
        Facts {
            kind: self.query.map_or(RecordType::ZERO, Query::query_type),
            dnssec_ok: self.envelope.edns.is_some_and(|edns| edns.dnssec_ok),
            code: content.code,
            origin: self.origin,
        }
    }
}

impl Pending {
    /// What the others are asked: the question itself, or for the name that the cluster's CNAME leads to.
    pub fn target(&self) -> (&Name, RecordType, Flags) {
        let follow = self.begun.as_ref().and_then(|reply| reply.follow.as_ref());
        let dnssec_ok = self.envelope.edns.is_some_and(|edns| edns.dnssec_ok);
        let flags = Flags { dnssec_ok, checking_disabled: self.envelope.checking_disabled };
        (follow.unwrap_or(self.query.name()), self.query.query_type(), flags)
    }

    /// Writes the answer. If nobody could be asked about the end of a CNAME, the CNAME is kept and the code says so.
    pub fn finish(self, found: Forwarded, transport: Transport, spin: &mut Spin, out: &mut Vec<u8>) -> Facts {
        let mut said = Said { envelope: &self.envelope, query: Some(&self.query), origin: Origin::Elsewhere };
        let Some(begun) = self.begun else {
            let mut answers = found.answers;
            spin.turn_records(&mut answers);
            let content = Content {
                answers: &answers,
                authorities: &found.authorities,
                additionals: &found.additionals,
                ..Content::code(found.code)
            };
            return said.content(&content, transport, out);
        };
        said.origin = Origin::Zone;
        let mut answers = begun.answers;
        answers.extend(found.answers);
        spin.turn_records(&mut answers);
        let reply = Reply { code: found.code, answers, authorities: found.authorities, ..begun };
        said.reply(&reply, transport, out)
    }

    /// What is said when others are not asked after all: too many wait already, or the client asks too much.
    pub fn refuse(self, code: ResponseCode, transport: Transport, out: &mut Vec<u8>) -> Facts {
        Said { envelope: &self.envelope, query: Some(&self.query), origin: Origin::Elsewhere }
            .code(code, transport, out)
    }
}

/// What is said to who asks too often. By UDP the question goes back with TC and nothing else: whoever really asked asks again
/// by TCP, and whoever's address was forged gets no more than was sent in its name. By TCP it is REFUSED. `None`: there is no
/// question to give back.
pub fn turn_away(bytes: &[u8], transport: Transport, out: &mut Vec<u8>) -> Option<Facts> {
    let Read::Question(envelope, query) = read(bytes) else {
        return None;
    };
    let said = Said { envelope: &envelope, query: Some(&query), origin: Origin::Refused };
    let content = match transport {
        Transport::Udp => Content { truncated: true, ..Content::code(ResponseCode::NoError) },
        Transport::Tcp => Content::code(ResponseCode::Refused),
    };
    Some(said.content(&content, transport, out))
}

/// Where the records of an answer begin: a small generator (xorshift), so that clients who take the first address are spread
/// over all of them.
#[derive(Clone, Debug)]
pub struct Spin(u64);

impl Spin {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high half is the better one; the bias of a multiplication is a 2^-32th for each address.
        (((self.0 >> 32) * bound as u64) >> 32) as usize
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Turns the addresses, Services and mail servers of an answer; the CNAMEs that lead to them stay in front and in order.
    /// Records of one of these types have one name in an answer: that of the question, or of the last CNAME.
    fn turn_records(&mut self, records: &mut [Record]) {
        for run in records.chunk_by_mut(|a, b| a.record_type() == b.record_type()) {
            let several = matches!(
                run,
                [Record { data: RData::A(_) | RData::AAAA(_) | RData::SRV(_) | RData::MX(_), .. }, _, ..]
            );
            if several {
                run.rotate_left(self.below(run.len()));
            }
        }
    }
}
