//! An object's metadata as the bytes that the store keeps, found without reading the object.
//!
//! A table of ten thousand rows carries as many metadata; cut out they are copied, and are whole whatever the typed view
//! leaves out.

use std::ops::Range;

/// The value of a member of a JSON object. The text must be JSON without spaces between its tokens, which is how the
/// store writes; in anything else the member is not found, or what is found is a value all the same.
pub fn member<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 1;
    if json.first() != Some(&b'{') {
        return None;
    }
    loop {
        let key = string(json, at)?;
        if json.get(key.end) != Some(&b':') {
            return None;
        }
        let start = key.end + 1;
        let end = skip(json, start)?;
        if json.get(key.start + 1..key.end - 1)? == name.as_bytes() {
            return json.get(start..end);
        }
        if json.get(end) != Some(&b',') {
            return None;
        }
        at = end + 1;
    }
}

/// The string that begins here, with its quotes.
fn string(json: &[u8], start: usize) -> Option<Range<usize>> {
    if json.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        at += json.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if json[at] == b'"' {
            return Some(start..at + 1);
        }
        at += 2;
    }
}

/// Where the value that begins here ends.
fn skip(json: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = start;
    loop {
        match json.get(at)? {
            b'"' => at = string(json, at)?.end,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ => at += 1,
        }
        if depth == 0 && matches!(json.get(at), None | Some(b',' | b'}' | b']')) {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn members_are_cut_out() {
        let value = json!({
            "apiVersion": "v1", "kind": "a \"quoted\\\" {kind}", "metadata": {"a": [1, {"b": "}"}], "metadata": 1},
            "number": -1.5e3, "null": null, "text": "x", "list": [[], {}], "empty": {},
        });
        let text = value.to_string();
        for (name, expected) in value.as_object().unwrap() {
            let found: Value = serde_json::from_slice(member(text.as_bytes(), name).unwrap()).unwrap();
            assert_eq!(&found, expected);
        }
        assert_eq!(member(text.as_bytes(), "other"), None);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in
            ["", "[]", "{}", "{", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":{", "{\"a\":\"\\", "{\"a\":1,", "{ \"a\": 1}"]
        {
            assert_eq!(member(text.as_bytes(), "b"), None, "{text}");
        }
    }
}
