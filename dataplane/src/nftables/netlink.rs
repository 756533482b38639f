//! Netlink in the little that nf_tables needs: attributes, batches, a socket, and answers.
//!
//! Written by hand rather than taken from a crate: nothing here allocates per attribute, a whole table goes
//! out in one `sendmsg`, and an error comes back with the name of the object that it is about.
//!
//! Whoever asks ([`socket::Socket::exchange`]) reads until the kernel says that this was all, so that no answer is left
//! over for the next question.
//!
//! Byte order: headers are the host's, the numbers inside nf_tables' attributes are big-endian. What stands in
//! a register or an element is neither: it is bytes, as the kernel's expression for it reads or writes them.

use std::io;

pub mod batch;
pub mod routes;
pub mod socket;
#[cfg(test)]
pub(crate) mod tests;

/// Talking to netfilter failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// Nothing reached the kernel.
    #[error("sending {bytes} bytes to netfilter")]
    Send { bytes: usize, source: io::Error },
    #[error("reading netfilter's answer")]
    Receive(#[source] io::Error),
    #[error("netfilter did not answer")]
    NoAnswer,
    /// What was read changed while it was read, each time anew.
    #[error("reading {what}: it changed during each of {attempts} attempts")]
    Changing { what: String, attempts: usize },
    /// Of a batch the kernel took back the whole.
    #[error("the kernel refused {what}{}{}", if detail.is_empty() { "" } else { ": " }, detail)]
    Refused {
        /// The message that failed, in words.
        what: String,
        /// The kernel's own explanation, often empty.
        detail: String,
        source: io::Error,
    },
    /// The batch was too large for one piece, and a later one failed: what the kernel has is neither old nor new.
    #[error("a part of the batch took effect before the rest failed")]
    Torn(#[source] Box<Self>),
}

impl NetlinkError {
    /// The kernel's number for why it refused a message.
    pub fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Torn(error) => error.refusal(),
            Self::Send { .. } | Self::Receive(_) | Self::NoAnswer | Self::Changing { .. } => None,
        }
    }
}

/// Appends netlink attributes to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

/// `NLA_F_NESTED`, in an attribute's kind.
pub(super) const NESTED: u16 = 0x8000;
/// An attribute's kind without flags.
pub(super) const KIND: u16 = 0x3fff;
/// Attributes start at multiples of this.
const ALIGNMENT: usize = 4;

impl Writer {
    /// An attribute with these bytes. Its length has 16 bits: callers keep contents below 64 KiB.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(value);
        self.end(start);
    }

    /// A big-endian number of 32 bits.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A big-endian number of 64 bits.
    pub fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string, with the NUL that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.end(start);
    }

    /// Attributes inside an attribute.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.begin(kind | NESTED);
        inner(self);
        self.end(start);
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// The attributes in `bytes`, as (kind without flags, content). Stops at the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    raw_attributes(bytes).map(|(kind, content)| (kind & KIND, content))
}

/// As [`attributes`], the kinds with their flags.
pub(super) fn raw_attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The first attribute of this kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, content)| content)
}
