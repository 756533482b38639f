//! Answers as bytes, within a bound: whole records are left out, and TC says so where one of them was asked for.

use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, rdata};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, EncodedSize};

use super::{Envelope, UDP_SIZE_MAX};

/// Octets of an OPT record without options.
pub(crate) const OPT_SIZE: usize = 11;

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub code: ResponseCode,
    pub authoritative: bool,
    /// Says that there is more than this even if all of it fits.
    pub truncated: bool,
    pub answers: &'a [Record],
    pub authorities: &'a [Record],
    pub additionals: &'a [Record],
}

impl Content<'_> {
    /// A code and nothing else.
    pub fn code(code: ResponseCode) -> Self {
        Self { code, authoritative: false, truncated: false, answers: &[], authorities: &[], additionals: &[] }
    }
}

/// Replaces what is in `out` by the answer, in at most `limit` octets (512 at least). Answers go first and what does not fit
/// sets TC; additional records are left out in silence (RFC 2181, section 9). The OPT record has its place kept. If nothing can
/// be encoded, the answer is SERVFAIL with the header alone.
pub fn write(out: &mut Vec<u8>, envelope: &Envelope, query: Option<&Query>, content: &Content<'_>, limit: usize) {
    out.clear();
    if encode(out, envelope, query, content, limit).is_err() {
        out.clear();
        bare(out, envelope);
    }
}

fn encode(
    out: &mut Vec<u8>,
    envelope: &Envelope,
    query: Option<&Query>,
    content: &Content<'_>,
    limit: usize,
) -> Result<(), ProtoError> {
    let bound = limit.saturating_sub(if envelope.edns.is_some() { OPT_SIZE } else { 0 });
    let mut encoder = BinEncoder::new(out);
    let place = encoder.place::<Header>()?;
    let mut counts = HeaderCounts { queries: encoder.emit_all(query.into_iter())? as u16, ..HeaderCounts::default() };
    let mut truncated = content.truncated;
    counts.answers = emit(&mut encoder, content.answers, bound, &mut truncated)?;
    if !truncated {
        counts.authorities = emit(&mut encoder, content.authorities, bound, &mut truncated)?;
    }
    if !truncated {
        counts.additionals = emit(&mut encoder, content.additionals, bound, &mut false)?;
    }
    if envelope.edns.is_some() {
        encoder.emit_all([opt(envelope, content.code)].iter())?;
        counts.additionals = counts.additionals.saturating_add(1);
    }
    let mut metadata = Metadata::new(envelope.id, MessageType::Response, envelope.op_code);
    metadata.authoritative = content.authoritative;
    metadata.truncation = truncated;
    metadata.recursion_desired = envelope.recursion_desired;
    metadata.recursion_available = true;
    metadata.checking_disabled = envelope.checking_disabled;
    metadata.response_code = content.code;
    place.replace(&mut encoder, Header { metadata, counts })
}

/// Writes the records that fit; says if one did not. (hickory's own bound counts a name before it is compressed.)
fn emit(
    encoder: &mut BinEncoder<'_>,
    records: &[Record],
    bound: usize,
    truncated: &mut bool,
) -> Result<u16, ProtoError> {
    let mut count = 0;
    for record in records {
        let before = encoder.offset();
        let fits = match record.emit(encoder) {
            Ok(()) => encoder.offset() <= bound,
            Err(ProtoError::MaxBufferSizeExceeded(_)) => false,
            Err(error) => return Err(error),
        };
        if !fits {
            encoder.set_offset(before);
            encoder.trim();
            *truncated = true;
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// The OPT of an answer: our own size, DO as it came (RFC 3225, section 3), and what of the code has no room in the header.
fn opt(envelope: &Envelope, code: ResponseCode) -> Record {
    let dnssec_ok = envelope.edns.is_some_and(|edns| edns.dnssec_ok);
    let ttl = u32::from(code.high()) << 24 | u32::from(dnssec_ok) << 15;
    let mut record = Record::from_rdata(Name::root(), ttl, RData::OPT(rdata::OPT::default()));
    record.dns_class = DNSClass::for_opt(UDP_SIZE_MAX);
    record
}

fn bare(out: &mut Vec<u8>, envelope: &Envelope) {
    let [high, low] = envelope.id.to_be_bytes();
    let flags = 0x80 | u8::from(envelope.op_code) << 3 | u8::from(envelope.recursion_desired);
    out.extend_from_slice(&[high, low, flags, 0x80 | ResponseCode::ServFail.low()]);
    out.resize(<Header as EncodedSize>::LEN, 0);
}
