//! Streams taken apart without I/O: lines out of chunks, the members of a JSON object out of its bytes, and the
//! items out of a Kubernetes list that is still arriving.
//!
//! None of this checks JSON. It only finds where a value begins and ends, which takes knowing strings, escapes and
//! brackets; serde reads the pieces and refuses what is wrong in them. serde_json's own `RawValue` would give the
//! members too, but not the items of a list that is not there yet.

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// A line, or one object of a list, may have this many bytes. Kubernetes itself takes no object over 3 MiB.
pub(super) const MAX_OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// A list without its items: `kind`, `apiVersion`, `metadata`.
const MAX_ENVELOPE_BYTES: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineTooLong {
    pub limit: usize,
}

/// Collects chunks and gives out whole lines. A line that came in one chunk is a part of that, and is not copied.
pub(super) struct Lines {
    /// The beginning of a line whose end is not there yet.
    begun: BytesMut,
    /// What came after it.
    chunk: Bytes,
    limit: usize,
}

impl Lines {
    pub fn new() -> Self {
        Self::with_limit(MAX_OBJECT_BYTES)
    }

    pub fn with_limit(limit: usize) -> Self {
        Self { begun: BytesMut::new(), chunk: Bytes::new(), limit }
    }

    /// Takes a chunk; all lines of the one before were asked for, or else they are copied.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunk = if self.chunk.is_empty() {
            chunk
        } else {
            let mut both = BytesMut::from(&self.chunk[..]);
            both.extend_from_slice(&chunk);
            both.freeze()
        };
    }

    /// The next whole line, without its newline. `None` when more must be pushed first.
    pub fn next(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        let found = memchr::memchr(b'\n', &self.chunk);
        let length = found.unwrap_or(self.chunk.len());
        if self.begun.len() + length > self.limit {
            return Err(LineTooLong { limit: self.limit });
        }
        let rest = self.chunk.split_to(length);
        if found.is_some() {
            self.chunk.advance(1);
            if self.begun.is_empty() {
                return Ok(Some(rest));
            }
        }
        self.begun.extend_from_slice(&rest);
        Ok(found.map(|_| self.begun.split().freeze()))
    }
}

/// The type and the object of a watch event that is written as Kubernetes writes it: `{"type":"…","object":{…}}`. Nobody has to
/// look at each byte of the object for that.
pub(super) fn usual_event(line: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let rest = line.strip_prefix(b"{\"type\":\"")?;
    let kind = &rest[..memchr::memchr2(b'"', b'\\', rest)?];
    let object = rest[kind.len()..].strip_prefix(b"\",\"object\":")?;
    let start = line.len() - object.len();
    (object.starts_with(b"{") && object.ends_with(b"}}")).then_some((kind, start..line.len() - 1))
}

/// Where the value of the member `name` of a JSON object stands, if the object has it before anything malformed.
pub(super) fn member(json: &[u8], name: &str) -> Option<Range<usize>> {
    let start = value_of(json, blanks(json, 0), name)?;
    Some(start..value(json, start)?)
}

/// Where the resourceVersion of an object stands, quotes included, by the first `metadata` in it: no kind that is watched has
/// another before its own. What stands before may be thousands of bytes of endpoints, and is not taken apart; nor is it
/// mistaken, since within a string the quotes would be escaped.
pub(super) fn resource_version(object: &[u8]) -> Option<Range<usize>> {
    const METADATA: &[u8] = b"\"metadata\":";
    let metadata = memchr::memmem::find(object, METADATA)? + METADATA.len();
    let start = value_of(object, metadata, "resourceVersion")?;
    Some(start..string(object, start)?)
}

/// Where the value of the member `name` of the object that begins at `from` begins.
fn value_of(json: &[u8], from: usize, name: &str) -> Option<usize> {
    if json.get(from) != Some(&b'{') {
        return None;
    }
    let mut at = from + 1;
    loop {
        let key = blanks(json, at);
        let key_end = string(json, key)?;
        let colon = blanks(json, key_end);
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let start = blanks(json, colon + 1);
        if &json[key + 1..key_end - 1] == name.as_bytes() {
            return Some(start);
        }
        at = blanks(json, value(json, start)?);
        if json.get(at) != Some(&b',') {
            return None;
        }
        at += 1;
    }
}

fn blanks(json: &[u8], from: usize) -> usize {
    json[from..].iter().position(|b| !b.is_ascii_whitespace()).map_or(json.len(), |p| from + p)
}

/// The end of the string that begins at `from`.
fn string(json: &[u8], from: usize) -> Option<usize> {
    if json.get(from) != Some(&b'"') {
        return None;
    }
    let mut at = from + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins at `from`.
fn value(json: &[u8], from: usize) -> Option<usize> {
    match json.get(from)? {
        b'"' => string(json, from),
        b'{' | b'[' => brackets(json, from),
        _ => {
            let end = json[from..].iter().position(|b| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace())?;
            (end > 0).then_some(from + end)
        }
    }
}

/// The end of the object or array that begins at `from`. Nearly all of one is strings, so it goes from quote to quote, and
/// looks at each byte only between them.
fn brackets(json: &[u8], from: usize) -> Option<usize> {
    let mut quotes = memchr::memchr_iter(b'"', &json[from..]).map(|p| from + p);
    let (mut depth, mut at) = (0_usize, from);
    loop {
        let quote = quotes.next();
        for (i, byte) in json[at..quote.unwrap_or(json.len())].iter().enumerate() {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => return Some(at + i + 1),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        let begin = quote? + 1;
        // One behind an odd number of backslashes is a character of the string.
        let closes = |end: &usize| json[begin..*end].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0;
        at = quotes.find(closes)? + 1;
    }
}

/// What is wrong with a list that is being taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListFault {
    TooLarge {
        limit: usize,
    },
    /// A bracket closes that was never opened, or something follows the end.
    Unbalanced,
}

/// Takes the JSON of a Kubernetes list apart as it arrives: each object of `items` on its own, and the rest, the
/// envelope, with `items` left empty.
///
/// So a list needs the memory of one object, whatever its length. Which member comes first does not matter.
#[derive(Default)]
pub(super) struct ListSplitter {
    envelope: Vec<u8>,
    item: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Start in `envelope` of the last string at depth 1.
    last_string: usize,
    /// Whether the last key at depth 1 was `items`.
    at_items: bool,
    in_items: bool,
    ended: bool,
}

impl ListSplitter {
    /// Takes a chunk from its front up to the end of the next item, and gives the item. `None`: the chunk is used up.
    pub fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, ListFault> {
        for (at, &byte) in chunk.iter().enumerate() {
            if self.step(byte)? {
                *chunk = chunk.split_off(at + 1);
                return Ok(Some(Bytes::from(std::mem::take(&mut self.item))));
            }
        }
        chunk.clear();
        Ok(None)
    }

    /// The envelope, if the list came to its end.
    pub fn finish(&self) -> Option<&[u8]> {
        self.ended.then_some(self.envelope.as_slice())
    }

    /// Whether `byte` completes an item.
    fn step(&mut self, byte: u8) -> Result<bool, ListFault> {
        if self.in_items && self.depth == 2 && !matches!(byte, b'{' | b']') {
            // Between two items stand commas and blanks; anything else there is not an object and is passed over.
            return Ok(false);
        }
        if self.in_string {
            self.keep(byte)?;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.last_string = self.envelope.len();
                }
            }
            b':' if self.depth == 1 => self.at_items = &self.envelope[self.last_string..] == b"\"items\"",
            b',' if self.depth == 1 => self.at_items = false,
            b'{' | b'[' => {
                if self.ended {
                    return Err(ListFault::Unbalanced);
                }
                if byte == b'[' && self.depth == 1 && self.at_items {
                    self.keep(byte)?;
                    self.in_items = true;
                    self.depth += 1;
                    return Ok(false);
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.checked_sub(1).ok_or(ListFault::Unbalanced)?;
                if self.in_items && self.depth == 1 {
                    self.in_items = false;
                }
                self.ended = self.depth == 0;
            }
            b' ' | b'\t' | b'\r' | b'\n' if !self.in_items => return Ok(false),
            _ => {}
        }
        self.keep(byte)?;
        Ok(self.in_items && self.depth == 2)
    }

    fn keep(&mut self, byte: u8) -> Result<(), ListFault> {
        let (buffer, limit) =
            if self.in_items { (&mut self.item, MAX_OBJECT_BYTES) } else { (&mut self.envelope, MAX_ENVELOPE_BYTES) };
        if buffer.len() == limit {
            return Err(ListFault::TooLarge { limit });
        }
        buffer.push(byte);
        Ok(())
    }
}
