//! The common question: A or AAAA of a Service's own name, with a plain OPT or none. Nothing is allocated: the name is looked up
//! as it stands, the question is copied, and every record is a pointer to it and an address.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{Facts, Origin, Spin};
use crate::message::{Edns, HEADER_SIZE, OPT_SIZE, Transport, UDP_SIZE_MAX, limit};
use crate::names::Names;

/// Octets of a name (RFC 1035, section 2.3.4).
const NAME_SIZE_MAX: usize = 255;
const LABEL_SIZE_MAX: u8 = 63;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;
/// Owner (a pointer to the question), type, class, TTL and length of a record.
const RECORD_HEAD: usize = 12;

/// A question of the common form.
struct Plain {
    /// Where the question ends.
    end: usize,
    /// Octets of the name.
    length: usize,
    kind: u16,
    edns: Option<Edns>,
}

/// Answers the common question. `None`: not that, or nothing to say in that way; `out` is as it was.
pub(super) fn respond(
    names: &Names,
    transport: Transport,
    bytes: &[u8],
    spin: &mut Spin,
    out: &mut Vec<u8>,
) -> Option<Facts> {
    let mut lower = [0; NAME_SIZE_MAX];
    let plain = parse(bytes, &mut lower)?;
    let addresses = names.addresses(lower.get(..plain.length)?)?;
    let head = Head { bytes, plain: &plain, transport, ttl: names.zone().ttl };
    let kind = match plain.kind {
        TYPE_A if !addresses.v4.is_empty() => {
            head.write(addresses.v4, |address| address.octets(), spin, out)?;
            RecordType::A
        }
        TYPE_AAAA if !addresses.v6.is_empty() => {
            head.write(addresses.v6, |address| address.octets(), spin, out)?;
            RecordType::AAAA
        }
        _ => return None,
    };
    let dnssec_ok = plain.edns.is_some_and(|edns| edns.dnssec_ok);
    Some(Facts { kind, dnssec_ok, code: ResponseCode::NoError, origin: Origin::Zone })
}

/// Reads a query with one question of class IN for A or AAAA and at most an OPT without options behind it.
fn parse(bytes: &[u8], lower: &mut [u8; NAME_SIZE_MAX]) -> Option<Plain> {
    let header: &[u8; HEADER_SIZE] = bytes.first_chunk()?;
    // QR, the opcode, then one question and nothing but perhaps one additional record.
    if header[2] & 0xf8 != 0 || header[4..10] != [0, 1, 0, 0, 0, 0] || header[10] != 0 || header[11] > 1 {
        return None;
    }
    let mut at = HEADER_SIZE;
    loop {
        let size = *bytes.get(at)?;
        let next = at + 1 + usize::from(size);
        if size > LABEL_SIZE_MAX || next - HEADER_SIZE > NAME_SIZE_MAX {
            return None;
        }
        let label = bytes.get(at..next)?;
        let into = lower.get_mut(at - HEADER_SIZE..next - HEADER_SIZE)?;
        into.copy_from_slice(label);
        // The octet of the size is below 'A' and stays.
        into.make_ascii_lowercase();
        at = next;
        if size == 0 {
            break;
        }
    }
    let question: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
    let kind = u16::from_be_bytes([question[0], question[1]]);
    if (kind != TYPE_A && kind != TYPE_AAAA) || question[2..] != CLASS_IN.to_be_bytes() {
        return None;
    }
    let end = at + question.len();
    let rest = bytes.get(end..)?;
    let edns = match header[11] {
        0 if rest.is_empty() => None,
        1 => Some(parse_opt(rest)?),
        _ => return None,
    };
    Some(Plain { end, length: at - HEADER_SIZE, kind, edns })
}

/// An OPT of version 0 without options, and nothing behind it.
fn parse_opt(bytes: &[u8]) -> Option<Edns> {
    let &[0, kind_high, kind_low, size_high, size_low, 0, 0, flags, _, 0, 0] = bytes else {
        return None;
    };
    (u16::from_be_bytes([kind_high, kind_low]) == TYPE_OPT)
        .then(|| Edns { size: u16::from_be_bytes([size_high, size_low]), dnssec_ok: flags & 0x80 != 0 })
}

/// What stands in front of the addresses.
struct Head<'a> {
    bytes: &'a [u8],
    plain: &'a Plain,
    transport: Transport,
    ttl: u32,
}

impl Head<'_> {
    /// Writes the whole answer. The records are all that fit, from a random one on.
    fn write<A: Copy, const N: usize>(
        &self,
        addresses: &[A],
        octets: impl Fn(A) -> [u8; N],
        spin: &mut Spin,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let question = self.bytes.get(..self.plain.end)?;
        let opt = if self.plain.edns.is_some() { OPT_SIZE } else { 0 };
        let room = limit(self.transport, self.plain.edns).saturating_sub(question.len() + opt) / (RECORD_HEAD + N);
        let count = addresses.len().min(room);
        out.clear();
        out.extend_from_slice(question);
        let header = out.first_chunk_mut::<HEADER_SIZE>()?;
        // QR and AA; RD stays as it came. RA; CD stays as it came.
        header[2] = 0x84 | (header[2] & 0x01) | if count < addresses.len() { 0x02 } else { 0 };
        header[3] = 0x80 | (header[3] & 0x10);
        [header[6], header[7]] = (count as u16).to_be_bytes();

        let mut record = [0; RECORD_HEAD];
        record[..2].copy_from_slice(&(0xc000 | HEADER_SIZE as u16).to_be_bytes());
        record[2..4].copy_from_slice(&self.plain.kind.to_be_bytes());
        record[4..6].copy_from_slice(&CLASS_IN.to_be_bytes());
        record[6..10].copy_from_slice(&self.ttl.to_be_bytes());
        record[10..].copy_from_slice(&(N as u16).to_be_bytes());
        let (behind, first) = addresses.split_at(spin.below(addresses.len()));
        for address in first.iter().chain(behind).take(count) {
            out.extend_from_slice(&record);
            out.extend_from_slice(&octets(*address));
        }
        if let Some(edns) = self.plain.edns {
            let [size_high, size_low] = UDP_SIZE_MAX.to_be_bytes();
            let flags = if edns.dnssec_ok { 0x80 } else { 0 };
            out.extend_from_slice(&[0, 0, TYPE_OPT as u8, size_high, size_low, 0, 0, flags, 0, 0, 0]);
        }
        Some(())
    }
}
