//! `managedFields` in the text of a stored object, found without reading the object.
//!
//! The text is compact JSON of our own writing, whose `metadata` comes before any free content. A quote inside a string is
//! escaped, so `"managedFields":[` cannot begin inside one; and what may stand before it (annotations, labels, the other
//! fields of metadata, and the top-level fields that sort before it) holds no list of that name. A test asks every kind.

use std::ops::Range;

const NAME: &[u8] = b"\"managedFields\":[";

/// Where the list of entries stands in an object's JSON, brackets included.
pub fn find(object: &[u8]) -> Option<Range<usize>> {
    // The first byte is rare enough to look for it alone.
    let mut from = 0;
    let start = loop {
        let at = from + object.get(from..)?.iter().position(|byte| *byte == b'"')?;
        if object[at..].starts_with(NAME) {
            break at + NAME.len() - 1;
        }
        from = at + 1;
    };
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in object[start..].iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(start..start + at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The object's JSON without `managedFields`, and their text; None if it has none.
pub fn split(object: &[u8]) -> Option<(Vec<u8>, &str)> {
    let range = find(object)?;
    let text = std::str::from_utf8(&object[range.clone()]).ok()?;
    // The list goes with its name and one comma: the one behind it, or, if it is the last field, the one before it.
    let mut start = range.start - (NAME.len() - 1);
    let mut end = range.end;
    if object.get(end) == Some(&b',') {
        end += 1;
    } else if start > 0 && object[start - 1] == b',' {
        start -= 1;
    }
    let mut rest = Vec::with_capacity(object.len() - (end - start));
    rest.extend_from_slice(&object[..start]);
    rest.extend_from_slice(&object[end..]);
    Some((rest, text))
}
