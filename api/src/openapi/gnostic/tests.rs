//! The bytes, read by a small reader of its own.

use serde_json::json;

use super::*;

/// A field: its number, and a number or bytes.
#[derive(Debug, PartialEq)]
enum Read<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint that does not end");
}

fn read(mut bytes: &[u8]) -> Vec<(u64, Read<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Read::Number(varint(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Read::Bytes(value)
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Read::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

/// Every message and text on this way through the fields.
fn at<'a>(bytes: &'a [u8], way: &[u64]) -> Vec<&'a [u8]> {
    let mut here = vec![bytes];
    for number in way {
        here = here
            .into_iter()
            .flat_map(read)
            .filter(|(n, _)| n == number)
            .map(|(_, value)| match value {
                Read::Bytes(bytes) => bytes,
                Read::Number(number) => panic!("field holds the number {number}"),
            })
            .collect();
    }
    here
}

fn texts<'a>(bytes: &'a [u8], way: &[u64]) -> Vec<&'a str> {
    at(bytes, way).into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
}

/// Also shows that every key has a number: an unknown one is an assertion that fails.
#[test]
fn the_document_holds_what_kubectl_looks_for() {
    let value = crate::openapi::v2::render("v0");
    let bytes = document(&value);
    assert_eq!(texts(&bytes, &[1]), ["2.0"]);
    assert_eq!(texts(&bytes, &[2, 1]), ["Portolan"]);
    let paths = texts(&bytes, &[8, 2, 1]);
    assert_eq!(paths.len(), value["paths"].as_object().unwrap().len());
    let definitions = texts(&bytes, &[9, 1, 1]);
    let expected: Vec<&String> = value["definitions"].as_object().unwrap().keys().collect();
    assert_eq!(definitions, expected);

    // The patch of a Service says its kind and that it takes `fieldValidation`.
    let item = at(&bytes, &[8, 2])
        .into_iter()
        .find(|item| texts(item, &[1]) == ["/api/v1/namespaces/{namespace}/services/{name}"]);
    let patch = at(item.unwrap(), &[2, 8])[0];
    let extensions: Vec<(&str, &str)> = texts(patch, &[13, 1]).into_iter().zip(texts(patch, &[13, 2, 2])).collect();
    assert!(
        extensions.contains(&("x-kubernetes-group-version-kind", r#"{"group":"","kind":"Service","version":"v1"}"#))
    );
    assert!(texts(patch, &[8, 1, 2, 3, 4]).contains(&"fieldValidation"), "query parameters");
    assert!(texts(patch, &[8, 1, 2, 4, 4]).contains(&"name"), "path parameters");
    assert_eq!(texts(patch, &[8, 1, 1, 2]), ["body"]);
    assert!(texts(patch, &[9, 1, 1]).contains(&"200"));

    // The ports of a Service say how they merge, and what they are lists of.
    let schema = at(&bytes, &[9, 1]).into_iter().find(|s| texts(s, &[1]) == ["io.k8s.api.core.v1.ServiceSpec"]);
    let ports = at(schema.unwrap(), &[2, 25, 1]).into_iter().find(|p| texts(p, &[1]) == ["ports"]).unwrap();
    assert_eq!(texts(ports, &[2, 22, 1]), ["array"]);
    assert_eq!(texts(ports, &[2, 23, 1, 1]), ["#/definitions/io.k8s.api.core.v1.ServicePort"]);
    assert!(texts(ports, &[2, 31, 1]).contains(&"x-kubernetes-patch-merge-key"));
    assert!(texts(ports, &[2, 31, 2, 2]).contains(&"\"port\""));
}

#[test]
fn defaults_are_left_out_and_long_numbers_take_several_bytes() {
    let mut message = Message::default();
    message.flag(1, &json!(false));
    message.text(2, &json!(""));
    message.integer(3, &json!(0));
    message.double(4, &json!(0));
    message.integer(5, &json!(300));
    message.double(6, &json!(1.5));
    message.flag(7, &json!(true));
    assert_eq!(message.into_bytes(), [0x28, 0xac, 0x02, 0x31, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x38, 0x01]);
}
