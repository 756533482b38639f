//! The few messages of etcd's API v3 that are sent, as protobuf by hand (field numbers from `rpc.proto`).

/// A put of a key.
pub fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + value.len() + 16);
    bytes(&mut message, 1, key);
    bytes(&mut message, 2, value);
    message
}

/// How many keys there are, of all.
pub fn count() -> Vec<u8> {
    let mut message = every();
    // count_only
    message.extend([9 << 3, 1]);
    message
}

/// A watch of every key, from now on.
pub fn watch() -> Vec<u8> {
    let mut message = Vec::new();
    // create_request
    bytes(&mut message, 1, &every());
    message
}

/// The number in an answer to [`count`].
pub fn counted(message: &[u8]) -> Option<u64> {
    let mut rest = message;
    let mut count = 0;
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let value = number(&mut rest)?;
        match tag & 7 {
            0 if tag >> 3 == 4 => count = value,
            0 => {}
            2 => rest = rest.get(usize::try_from(value).ok()?..)?,
            _ => return None,
        }
    }
    Some(count)
}

/// From the least key to the last: a range without an end is written as a zero byte.
fn every() -> Vec<u8> {
    let mut range = Vec::new();
    bytes(&mut range, 1, &[0]);
    bytes(&mut range, 2, &[0]);
    range
}

fn bytes(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    message.push(field << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        message.push((length as u8) | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(value);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
