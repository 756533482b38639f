//! A batch: messages that the kernel takes all together or not at all.
//!
//! `NFNL_MSG_BATCH_BEGIN`, messages of any family, `NFNL_MSG_BATCH_END`, in one `sendmsg`. Each message has a
//! sequence number of its own, so that an error can be traced to it.
//!
//! A batch may be bound to a generation of the ruleset, which every commit of anybody in the network namespace moves
//! on by one: if somebody else has committed since, the kernel refuses the batch with `ERESTART`.

use super::Writer;
use crate::nftables::layout::Owner;

/// `struct nlmsghdr` and `struct nfgenmsg`.
pub(super) const HEADER: usize = 16;
pub(in crate::nftables) const FAMILY_HEADER: usize = 4;
/// Where `nlmsg_flags` stands in a message.
pub(super) const FLAGS_AT: usize = 6;

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// `NLM_F_ROOT | NLM_F_MATCH`: every object.
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_BATCH_GENID`, and the bytes that it takes in the first message.
const GENERATION: u16 = 1;
const GENERATION_BYTES: usize = 8;
/// `NFNL_SUBSYS_NFTABLES`, which stands in the high byte of every message's type.
pub const NFTABLES: u16 = 10;

/// Messages in the order in which they take effect.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) writer: Writer,
    pub(super) messages: Vec<Message>,
    /// The generation in which alone it may take effect; `None`: in any. 0 is none.
    pub(in crate::nftables) generation: Option<u32>,
    /// Whose tables it is about.
    pub(in crate::nftables) owner: Owner,
    /// The kernel is to say whether it would take it, and to do nothing: it does nothing that has no end.
    pub(in crate::nftables) trial: bool,
}

/// The generation after `generation`; the kernel leaves out 0.
pub fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Where a message starts, and what it does, in words.
#[derive(Debug)]
pub(super) struct Message {
    pub start: usize,
    pub what: String,
}

impl Batch {
    /// A batch about the tables of `owner`.
    pub fn of(owner: Owner) -> Self {
        Self { owner, ..Self::default() }
    }

    /// Adds a message of nf_tables. `what` names it in errors, e.g. `adding chain pick-3`.
    pub fn message(&mut self, family: u8, kind: u8, flags: u16, what: String, body: impl FnOnce(&mut Writer)) {
        let start = self.writer.bytes.len();
        let kind = NFTABLES << 8 | u16::from(kind);
        // Sequence 0 is the frame's.
        let sequence = u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX);
        header(&mut self.writer.bytes, kind, flags | NLM_F_REQUEST, sequence, family, 0);
        body(&mut self.writer);
        finish(&mut self.writer.bytes, start);
        self.messages.push(Message { start, what });
    }

    /// Bytes of the messages, without the frame.
    pub fn len(&self) -> usize {
        self.writer.bytes.len()
    }

    /// The messages themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.writer.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Cuts the batch into frames of at most `limit` bytes where that is possible: one frame as a rule. Messages
    /// keep their order and are never cut. The last message of each frame asks for an acknowledgement.
    pub(in crate::nftables) fn frames(&self, limit: usize) -> impl Iterator<Item = Frame> {
        let room = limit.saturating_sub(2 * (HEADER + FAMILY_HEADER) + GENERATION_BYTES);
        let mut next = 0;
        let mut generation = self.generation;
        std::iter::from_fn(move || {
            let first = next;
            let start = self.messages.get(first)?.start;
            let end_of = |i: usize| self.messages.get(i + 1).map_or(self.len(), |m| m.start);
            next += 1;
            while next < self.messages.len() && end_of(next) - start <= room {
                next += 1;
            }
            let last = next - 1;
            let frame = 2 * (HEADER + FAMILY_HEADER) + GENERATION_BYTES;
            let mut writer = Writer { bytes: Vec::with_capacity(end_of(last) - start + frame) };
            header(&mut writer.bytes, BATCH_BEGIN, NLM_F_REQUEST, 0, 0, NFTABLES);
            if let Some(number) = generation {
                writer.u32(GENERATION, number);
                // The frame before this one has moved it on.
                generation = Some(next_generation(number));
            }
            let mut bytes = writer.bytes;
            finish(&mut bytes, 0);
            let offset = bytes.len();
            bytes.extend_from_slice(&self.writer.bytes[start..end_of(last)]);
            let flags_at = offset + self.messages[last].start - start + FLAGS_AT;
            let flags = u16::from_ne_bytes([bytes[flags_at], bytes[flags_at + 1]]) | NLM_F_ACK;
            bytes[flags_at..flags_at + 2].copy_from_slice(&flags.to_ne_bytes());
            if !self.trial {
                let end = bytes.len();
                header(&mut bytes, BATCH_END, NLM_F_REQUEST, 0, 0, NFTABLES);
                finish(&mut bytes, end);
            }
            Some(Frame { bytes, last: u32::try_from(last + 1).unwrap_or(u32::MAX) })
        })
    }

    /// What the message with this sequence number does.
    pub(super) fn what(&self, sequence: u32) -> &str {
        let index = usize::try_from(sequence).ok().and_then(|s| s.checked_sub(1));
        index.and_then(|i| self.messages.get(i)).map_or("the batch", |m| &m.what)
    }
}

/// What goes out in one `sendmsg`.
pub(in crate::nftables) struct Frame {
    pub bytes: Vec<u8>,
    /// The sequence number that is acknowledged when everything went well.
    pub last: u32,
}

pub(in crate::nftables) fn header(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
) {
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    // struct nfgenmsg: family, version 0, resource id (big-endian).
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
}

/// Writes the length of the message that starts at `start` and ends here.
pub(in crate::nftables) fn finish(bytes: &mut [u8], start: usize) {
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}
