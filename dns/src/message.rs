//! Messages as bytes: a query is read strictly, an answer is written within a bound.
//!
//! hickory reads names, records and options. What is decided here is what a message deserves that is no plain question,
//! and in which order that is looked at. The order is CoreDNS' (its DNS library looks at the header alone first, its
//! server at the class, then at the version of EDNS):
//!
//! | message | answer |
//! |---|---|
//! | shorter than a header, or an answer itself | none: two servers must not talk to each other for ever |
//! | another opcode than QUERY | NOTIMP, the header alone |
//! | not exactly one question; garbage behind the header; bytes behind the last record | FORMERR |
//! | a second OPT, or one outside of the additional section (RFC 6891, section 6.1.1) | FORMERR |
//! | another class than IN, `version.bind` of CH too | REFUSED, as CoreDNS without its `chaos` plugin: nothing is said of the software |
//! | another version of EDNS than 0 (RFC 6891, section 6.1.3) | BADVERS |
//! | AXFR, IXFR | REFUSED: the names are for those who can ask for them one by one |
//! | a type that is no type of records (OPT, TSIG, MAILB …), but for ANY | NOTIMP |

mod write;

use hickory_proto::op::{Edns as Opt, Header, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

pub(crate) use write::OPT_SIZE;
pub use write::{Content, write};

/// Octets of a UDP answer for whoever knows EDNS and asks for more: what passes every path of today without fragments
/// (the bound of DNS Flag Day 2020).
pub const UDP_SIZE_MAX: u16 = 1232;

/// Octets of a UDP answer for whoever does not know EDNS (RFC 1035, section 4.2.1), and the least that EDNS may ask for
/// (RFC 6891, section 6.2.3).
pub const UDP_SIZE_PLAIN: u16 = 512;

/// Octets of a query. A question with a name of full length and every option that is in use has a tenth of that.
pub const QUERY_SIZE_MAX: usize = 4096;

pub(crate) const HEADER_SIZE: usize = 12;

/// The first of the types that are no types of records (RFC 6895, section 3.1), up to ANY.
const META_TYPES_FIRST: u16 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What an OPT record says beside its options, none of which are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Octets that the client takes by UDP.
    pub size: u16,
    pub dnssec_ok: bool,
}

/// What of a query comes back in the answer, beside the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub id: u16,
    pub op_code: OpCode,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    pub edns: Option<Edns>,
}

/// Octets that an answer may have.
pub fn limit(transport: Transport, edns: Option<Edns>) -> usize {
    match (transport, edns) {
        (Transport::Tcp, _) => u16::MAX.into(),
        (Transport::Udp, None) => UDP_SIZE_PLAIN.into(),
        (Transport::Udp, Some(edns)) => edns.size.clamp(UDP_SIZE_PLAIN, UDP_SIZE_MAX).into(),
    }
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Nothing that is answered.
    Silence,
    /// Answered with a code and no record. The question is known if it could be read.
    Unfit(Envelope, Option<Query>, ResponseCode),
    /// One question of class IN for records, or for ANY.
    Question(Envelope, Query),
}

/// Reads what a client sent.
pub fn read(bytes: &[u8]) -> Read {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else {
        return Read::Silence;
    };
    if header.message_type != MessageType::Query {
        return Read::Silence;
    }
    let mut envelope = Envelope {
        id: header.id,
        op_code: header.op_code,
        recursion_desired: header.recursion_desired,
        checking_disabled: header.checking_disabled,
        edns: None,
    };
    if header.op_code != OpCode::Query {
        return Read::Unfit(envelope, None, ResponseCode::NotImp);
    }
    if header.counts.queries != 1 {
        return Read::Unfit(envelope, None, ResponseCode::FormErr);
    }
    let Ok(query) = Query::read(&mut decoder) else {
        return Read::Unfit(envelope, None, ResponseCode::FormErr);
    };
    let version = match read_records(&mut decoder, &header, &mut envelope) {
        Some(version) => version,
        None => return Read::Unfit(envelope, Some(query), ResponseCode::FormErr),
    };
    match refusal(&query, version) {
        Some(code) => Read::Unfit(envelope, Some(query), code),
        None => Read::Question(envelope, query),
    }
}

/// Reads everything behind the question; returns the version of EDNS. `None`: malformed.
fn read_records(decoder: &mut BinDecoder<'_>, header: &Header, envelope: &mut Envelope) -> Option<u8> {
    // Each record takes bytes, so that the counts bound nothing and need no bound.
    for _ in 0..u32::from(header.counts.answers) + u32::from(header.counts.authorities) {
        if Record::read(decoder).ok().filter(is_whole)?.record_type() == RecordType::OPT {
            return None;
        }
    }
    let mut version = 0;
    for _ in 0..header.counts.additionals {
        let record = Record::read(decoder).ok().filter(is_whole)?;
        if record.record_type() != RecordType::OPT {
            continue;
        }
        if envelope.edns.is_some() {
            return None;
        }
        let opt = Opt::from(&record);
        version = opt.version();
        envelope.edns = Some(Edns { size: opt.max_payload(), dnssec_ok: opt.flags().dnssec_ok });
    }
    decoder.is_empty().then_some(version)
}

/// Only updates, which are not served, have records without data. An OPT may be without options.
fn is_whole(record: &Record) -> bool {
    record.record_type() == RecordType::OPT || !record.data.is_update()
}

/// Why a well-formed query is not looked up, if so.
fn refusal(query: &Query, version: u8) -> Option<ResponseCode> {
    if query.query_class() != DNSClass::IN {
        return Some(ResponseCode::Refused);
    }
    if version != 0 {
        return Some(ResponseCode::BADVERS);
    }
    match query.query_type() {
        RecordType::AXFR | RecordType::IXFR => Some(ResponseCode::Refused),
        RecordType::ANY => None,
        RecordType::OPT | RecordType::ZERO => Some(ResponseCode::NotImp),
        kind if (META_TYPES_FIRST..=255).contains(&u16::from(kind)) => Some(ResponseCode::NotImp),
        _ => None,
    }
}
