//! The wire format: varints, tags, lengths. Everything here is bounded by the bytes that are there.

/// Bytes that are no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("unexpected EOF")]
    End,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag")]
    Tag,
    #[error("proto: unexpected end of group")]
    Group,
}

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Begin,
    End,
    Fixed32,
}

impl Wire {
    pub fn number(self) -> u8 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Bytes => 2,
            Self::Begin => 3,
            Self::End => 4,
            Self::Fixed32 => 5,
        }
    }
}

/// Reads from the front.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed::End)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Overflow)
    }

    /// The next field's number and layout; None at the end.
    pub fn tag(&mut self) -> Result<Option<(u32, Wire)>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Tag)?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::Begin,
            4 => Wire::End,
            5 => Wire::Fixed32,
            _ => return Err(Malformed::Tag),
        };
        if number == 0 { Err(Malformed::Tag) } else { Ok(Some((number, wire))) }
    }

    /// A length and so many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::End)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::End)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Passes over a value that nobody asked for: a field of a newer version.
    pub fn skip(&mut self, wire: Wire) -> Result<(), Malformed> {
        // Groups nest; counting them needs no stack.
        let mut groups = 0usize;
        let mut wire = wire;
        loop {
            match wire {
                Wire::Varint => drop(self.varint()?),
                Wire::Fixed64 => drop(self.take(8)?),
                Wire::Fixed32 => drop(self.take(4)?),
                Wire::Bytes => drop(self.bytes()?),
                Wire::Begin => groups += 1,
                Wire::End => groups = groups.checked_sub(1).ok_or(Malformed::Group)?,
            }
            if groups == 0 {
                return Ok(());
            }
            wire = self.tag()?.ok_or(Malformed::End)?.1;
        }
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_tag(out: &mut Vec<u8>, number: u32, wire: Wire) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire.number()));
}

pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, Wire::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_number(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, Wire::Varint);
    // Negative numbers take all ten bytes, also those of 32 bits.
    put_varint(out, value as u64);
}

/// A field whose length is known only when its content stands: room for a short length is left, and the content is
/// moved when it grew longer.
pub fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, Wire::Bytes);
    let start = out.len();
    out.push(0);
    content(out)?;
    let mut length = Vec::with_capacity(10);
    put_varint(&mut length, (out.len() - start - 1) as u64);
    out.splice(start..=start, length);
    Ok(())
}
