//! Spelling JSON: indented for people, as YAML or protobuf on request. All take finished JSON, so every answer can be
//! spelled by the same few functions and objects stay bytes until somebody asks for more.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use axum::body::Body;
use axum::response::Response;

use crate::negotiate::Format;
use crate::status::Status;

/// How an answer is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelling {
    pub format: Format,
    /// Indented JSON; without effect on the other formats.
    pub pretty: bool,
}

/// A response with this JSON in the wanted spelling.
pub fn response(code: StatusCode, json: Bytes, spelling: Spelling) -> Response {
    let spelled = match spelling {
        Spelling { format: Format::Json, pretty: false } => Ok(json),
        Spelling { format: Format::Json, pretty: true } => Ok(Bytes::from(indent(&json))),
        Spelling { format: Format::Yaml, .. } => yaml(&json),
        Spelling { format: Format::Protobuf, .. } => protobuf(&json),
    };
    match spelled {
        Ok(body) => bytes(code, body, spelling.format),
        // An error about an error would never end: it goes out as JSON.
        Err(problem) => {
            let status = Status::internal(problem);
            bytes(status.code(), Bytes::from(status.to_json()), Format::Json)
        }
    }
}

/// A response whose body is spelled already.
pub fn bytes(code: StatusCode, body: Bytes, format: Format) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// An object in its envelope.
///
/// # Errors
/// With a sentence, when the kind has no message or a value does not fit; what is stored and what is made here fits.
pub fn protobuf(json: &[u8]) -> Result<Bytes, String> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| format!("writing protobuf: {e}"))?;
    model::protobuf::encode(&value).map(Bytes::from).map_err(|e| format!("writing protobuf: {e}"))
}

fn yaml(json: &[u8]) -> Result<Bytes, String> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| format!("writing YAML: {e}"))?;
    serde_saphyr::to_string(&value).map(Bytes::from).map_err(|e| format!("writing YAML: {e}"))
}

/// Indents JSON by two spaces a level and ends it with a line end. The order of fields stays as it is.
///
/// Works on the text itself: the input is JSON that was made here, so nothing but strings needs understanding.
pub fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + json.len() / 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut bytes = json.iter().copied().peekable();
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                match bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            byte if byte.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn indented_json_is_the_same_value_laid_out() {
        let value = json!({"a": {}, "b": [], "c": [1, "x,{}:[]\\\" \\\\", {"d": null}], "e": -1.5});
        let compact = serde_json::to_vec(&value).unwrap();
        let indented = indent(&compact);
        assert_eq!(
            String::from_utf8(indented).unwrap(),
            format!("{}\n", serde_json::to_string_pretty(&value).unwrap())
        );
    }

    #[test]
    fn yaml_reads_back_as_what_it_was() {
        let value = json!({
            "bool": true, "text bool": "true", "yes": "yes", "number": 80, "text number": "80", "float": 1.5,
            "float text": "1e3", "octal text": "0644", "null": null, "null text": "null", "tilde": "~", "empty": "",
            "list": [1, [2, []], {}], "lines": "a\nb\n", "colon": "a: b", "hash": "a #b", "dash": "- a",
            "date": "2024-01-01T00:00:00Z", "wide": "é \u{1f600}", "tab": "a\tb", "star": "*x", "space": " a ",
            "long": "x".repeat(300), "8080": "key",
        });
        let text = yaml(&serde_json::to_vec(&value).unwrap()).unwrap();
        let document = crate::body::decode(&text, Format::Yaml).unwrap();
        assert_eq!(document.value, value, "{text:?}");
        assert_eq!(document.value["octal text"], Value::from("0644"));
    }
}
