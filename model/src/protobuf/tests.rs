use std::collections::BTreeSet;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::resource::Resource;
use crate::schema;

/// What Go made of one object.
struct Vector {
    name: &'static str,
    json: Value,
    bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../tests/protobuf/vectors.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (blocks, rest) = lines.as_chunks::<3>();
    assert!(rest.is_empty());
    blocks
        .iter()
        .map(|[name, json, hex]| Vector {
            name,
            json: without_nulls(serde_json::from_str(json).expect("JSON")),
            bytes: from_hex(hex),
        })
        .collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let (digits, _) = hex.as_bytes().as_chunks::<2>();
    digits.iter().map(|d| u8::from_str_radix(std::str::from_utf8(d).expect("ASCII"), 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[test]
fn every_kind_has_vectors() {
    let names: BTreeSet<&str> = vectors().iter().map(|v| v.name.rsplit_once(' ').expect("a case").0).collect();
    for (api_version, kind, _) in &KINDS {
        let api_version = if *api_version == "*" { "v1" } else { api_version };
        // Go knows nothing of our own kinds.
        if api_version.starts_with("portolan.dev/") {
            continue;
        }
        assert!(names.contains(format!("{api_version} {kind}").as_str()), "{api_version} {kind}");
    }
    for resource in Resource::ALL {
        let info = resource.info();
        assert!(message_of(&info.api_version(), info.kind).is_some(), "{resource}");
        assert!(message_of(&info.api_version(), &format!("{}List", info.kind)).is_some(), "{resource}");
    }
}

#[test]
fn our_own_kinds_go_there_and_back() {
    let token = serde_json::json!({
        "kind": "Token",
        "apiVersion": "portolan.dev/v1alpha1",
        "metadata": { "name": "k3x9qa", "labels": { "a": "b" } },
        "spec": {
            "purpose": "Access", "hash": "sha256:00", "user": "alice", "groups": ["devs", "ops"],
            "expiresAt": "2026-01-01T00:00:00Z", "description": "the east hall",
        },
    });
    let bytes = encode(&token).expect("a message");
    assert_eq!(without_nulls(decode(&bytes, "", "").expect("an object")), token);
}

#[test]
fn go_s_bytes_read_as_go_s_json() {
    for Vector { name, json, bytes } in vectors() {
        let value = decode(&bytes, "", "").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(value, json, "{name}");
    }
}

#[test]
fn go_s_json_is_written_as_go_s_bytes() {
    for Vector { name, json, bytes } in vectors() {
        let written = encode(&json).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(hex(&written), hex(&bytes), "{name}");
    }
}

/// What comes out of the decoder has no field that the schema does not know, and no value of another type.
#[test]
fn what_is_decoded_fits_the_schema() {
    for Vector { name, json, bytes } in vectors() {
        let resource = Resource::ALL.into_iter().find(|resource| {
            let info = resource.info();
            json["kind"] == info.kind && json["apiVersion"] == info.api_version()
        });
        if let Some(resource) = resource {
            let checked = schema::check(resource, &decode(&bytes, "", "").expect("a vector"));
            assert_eq!(checked, schema::Checked::default(), "{name}");
        }
    }
}

#[test]
fn a_list_of_encoded_objects_is_the_list_encoded() {
    let item = |name: &str| json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name } });
    let mut list = json!({
        "apiVersion": "v1", "kind": "ServiceList",
        "metadata": { "resourceVersion": "7", "continue": "x", "remainingItemCount": 3 },
    });
    let items = [item("a"), item("b")];
    let encoded: Vec<Vec<u8>> = items.iter().map(|item| encode(item).expect("a Service")).collect();
    let joined = super::list(&list, encoded.iter().map(Vec::as_slice)).expect("a list");
    list["items"] = items.into();
    assert_eq!(hex(&joined), hex(&encode(&list).expect("a list")));
}

#[test]
fn a_watch_frame_is_length_type_and_envelope() {
    let object = encode(&json!({ "apiVersion": "v1", "kind": "Status", "code": 410 })).expect("a Status");
    let frame = watch_frame("ERROR", &object);
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
    assert_eq!(length, frame.len() - 4);
    expect!["0a054552524f52122b"].assert_eq(&hex(&frame[4..13]));
    assert_eq!(hex(&frame[15..]), hex(&object));
}

#[test]
fn an_envelope_without_a_kind_takes_the_caller_s() {
    let bytes = from_hex("6b387300120a0a080a06") // The message's name, and that is all.
        .into_iter()
        .chain(*b"web-01")
        .collect::<Vec<u8>>();
    let value = decode(&bytes, "v1", "Namespace").expect("a Namespace");
    let expected = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "web-01" }, "spec": {}, "status": {},
    });
    assert_eq!(value, expected);
    assert_eq!(decode(&bytes, "", ""), Err(DecodeError::NoKind));
}

/// A field that holds a message may be repeated; its parts are one. The later of two scalars counts.
#[test]
fn messages_in_pieces_are_merged() {
    let service = "6b387300 0a0d 0a02 7631 1207 53657276696365";
    let parts = [
        "120d",           // The message: metadata twice, spec twice.
        "0a03 0a01 61",   // metadata.name: a
        "0a04 0a00 3801", // metadata.name: "", metadata.generation: 1
        "1200",
    ];
    let bytes = from_hex(&format!("{service}{}", parts.concat()).replace(' ', ""));
    let value = decode(&bytes, "", "").expect("a Service");
    assert_eq!(value["metadata"], json!({ "generation": 1 }));
}

#[test]
fn packed_numbers_and_unknown_fields_are_read() {
    let pod = "6b387300 0a09 0a02 7631 1203 506f64";
    let parts = [
        "1212",         // The message.
        "1210",         // spec
        "720a",         // spec.securityContext
        "2203 0102 03", // supplementalGroups, packed
        "2004",         // and one alone
        "9a06 00",      // an unknown field
        "9b06 9c06",    // an unknown group
    ];
    let bytes = from_hex(&format!("{pod}{}", parts.concat()).replace(' ', ""));
    let value = decode(&bytes, "", "").expect("a Pod");
    assert_eq!(value["spec"]["securityContext"]["supplementalGroups"], json!([1, 2, 3, 4]));
}

#[test]
fn what_is_wrong_is_said() {
    let status = |message: &str| format!("6b387300 0a0c 0a02 7631 1206 537461747573 {message}");
    let cases = [
        ("nothing", String::new()),
        ("magic alone", "6b387300".to_owned()),
        ("JSON", "7b7d".to_owned()),
        ("no kind", "6b387300 1200".to_owned()),
        ("unknown kind", "6b387300 0a0a 0a02 7631 1204 4e6f7065".to_owned()),
        ("gzip", "6b387300 1a04 677a6970".to_owned()),
        ("a length beyond the end", status("12ff ffff ff0f 00")),
        ("a length of eleven bytes", status("12ff ffff ffff ffff ffff ff01")),
        ("text as a number", status("1202 1001")),
        ("a number as text", status("1203 3201 61")),
        ("no UTF-8", status("1203 1201 ff")),
        ("field 0", status("1202 0201")),
        ("layout 7", status("1202 1701")),
        ("the end of a group that did not begin", status("1202 cc06")),
        ("a group that does not end", status("1202 cb06")),
    ];
    let mut out = String::new();
    for (what, hex) in cases {
        let error = decode(&from_hex(&hex.replace(' ', "")), "", "").expect_err(what);
        out.push_str(&format!("{what}: {error}\n"));
    }
    expect![[r#"
        nothing: empty data
        magic alone: empty data
        JSON: provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]
        no kind: Object 'Kind' is missing in the envelope
        unknown kind: no kind "Nope" is registered for version "v1"
        gzip: the content encoding "gzip" of the envelope is not served
        a length beyond the end: unexpected EOF for field Unknown.raw
        a length of eleven bytes: proto: integer overflow for field Unknown.raw
        text as a number: proto: wrong wireType = 0 for field Status.status
        a number as text: proto: wrong wireType = 2 for field Status.code
        no UTF-8: proto: invalid UTF-8 in string for field Status.status
        field 0: proto: illegal tag
        layout 7: proto: illegal tag
        the end of a group that did not begin: proto: unexpected end of group
        a group that does not end: unexpected EOF
    "#]]
    .assert_eq(&out);
}

#[test]
fn values_with_a_form_of_their_own_are_checked() {
    let lease = |time: &str| {
        let spec = format!("22{:02x}{time}", time.len() / 2);
        let message = format!("12{:02x}{spec}", spec.len() / 2);
        from_hex(&format!("6b38730012{:02x}{message}", message.len() / 2))
    };
    let renewed =
        |time: &str| decode(&lease(time), "coordination.k8s.io/v1", "Lease").map(|v| v["spec"]["renewTime"].clone());
    assert_eq!(renewed(""), Ok(Value::Null));
    assert_eq!(renewed("0800"), Ok(json!("1970-01-01T00:00:00.000000Z")));
    assert_eq!(renewed("08001080897a"), Ok(json!("1970-01-01T00:00:00.002000Z")));
    // A fraction of a whole second, a negative one, and a second that no calendar has.
    for time in ["1080a8d6b907", "10ffffffffffffffffff01", "08ffffffffffffffff7f"] {
        let error = renewed(time).expect_err(time).to_string();
        assert_eq!(error, "time out of range for field LeaseSpec.renewTime");
    }
    let encode = |service: Value| encode(&service).map(drop);
    let wrong = |field: &str| Err(EncodeError::Field { field: field.to_owned() });
    let service = |spec: Value| json!({ "apiVersion": "v1", "kind": "Service", "spec": spec });
    assert_eq!(encode(service(json!({ "clusterIP": 1 }))), wrong("ServiceSpec.clusterIP"));
    assert_eq!(encode(service(json!({ "ports": [{ "targetPort": 1.5 }] }))), wrong("ServicePort.targetPort"));
    assert_eq!(encode(service(json!({ "ports": [{ "port": 1u64 << 31 }] }))), wrong("ServicePort.port"));
    assert_eq!(encode(service(json!({ "ports": {} }))), wrong("ServiceSpec.ports"));
    assert_eq!(encode(service(json!({ "ports": [null], "selector": { "a": null }, "type": null }))), Ok(()));
    let table = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "Table" });
    assert!(matches!(encode(table), Err(EncodeError::UnknownKind { .. })));
}

fn same_values(resource: Resource, one: &Value, other: &Value) -> bool {
    same(resource, one.as_object().expect("an object"), other.as_object().expect("an object"), &[])
}

/// Objects that were Go structs for a while are still the same.
#[test]
fn what_go_adds_and_drops_makes_no_difference() {
    let node = json!({ "metadata": { "name": "n", "labels": {} }, "spec": { "taints": [], "podCIDR": "" } });
    let same = |other: Value| same_values(Resource::Nodes, &node, &other);
    assert!(same(json!({ "metadata": { "name": "n" } })));
    assert!(same(json!({ "metadata": { "name": "n" }, "spec": {}, "status": { "nodeInfo": { "machineID": "" } } })));
    assert!(!same(json!({ "metadata": { "name": "n" }, "spec": { "unschedulable": true } })));
    assert!(!same(json!({ "metadata": { "name": "n" }, "spec": { "configSource": {} } })), "a pointer");
    assert!(!same(json!({ "metadata": { "name": "n", "labels": { "a": "" } } })));
    assert!(!same(json!({ "metadata": { "name": "n" }, "spec": { "taints": [{}] } })));
    let pod = |volume: Value| json!({ "spec": { "volumes": [volume] } });
    let (empty, host) = (pod(json!({ "name": "v", "emptyDir": {} })), pod(json!({ "name": "v", "hostPath": {} })));
    assert!(same_values(Resource::Pods, &empty, &empty) && !same_values(Resource::Pods, &empty, &host));
}

/// Two bytes each on the wire, several hundred in memory.
#[test]
fn a_body_cannot_become_gigabytes() {
    let endpoints = [0x12, 0x00].repeat(1024 * 1024);
    let mut bytes = MAGIC.to_vec();
    wire::put_bytes(&mut bytes, 2, &endpoints);
    assert_eq!(decode(&bytes, "v1", "Endpoints"), Err(DecodeError::TooMany));
}

/// Documents as clients may send them in JSON, without what fits no field.
fn any_fitting() -> impl Strategy<Value = Value> {
    schema::tests::any_document().prop_filter_map("fits the schema", |(resource, mut value)| {
        let info = resource.info();
        schema::prune(resource, &mut value);
        schema::settle_nulls(resource, &mut value);
        value.as_object_mut()?.insert("apiVersion".into(), info.api_version().into());
        value.as_object_mut()?.insert("kind".into(), info.kind.into());
        // What is no base64 is refused by the rules of Secrets.
        if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
            data.values_mut().for_each(|value| *value = scalar::to_base64(value.to_string().as_bytes()).into());
        }
        schema::check(resource, &value).mismatched.is_empty().then_some(value)
    })
}

/// One of Go's vectors with some bytes changed, removed or added.
fn any_mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3u8);
    (
        prop::sample::select(vectors().into_iter().map(|v| v.bytes).collect::<Vec<_>>()),
        prop::collection::vec(change, 1..8),
    )
        .prop_map(|(mut bytes, changes)| {
            for (at, byte, how) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever JSON has, protobuf has: what comes back differs only by what Go's JSON always shows, and is then
    /// stable.
    #[test]
    fn there_and_back_loses_nothing(value in any_fitting()) {
        let bytes = encode(&value).expect("what fits the schema is written");
        let back = decode(&bytes, "", "").expect("what was written is read");
        prop_assert!(holds(&back, &value), "{back}\nlacks something of\n{value}");
        prop_assert_eq!(hex(&encode(&back).expect("it is written again")), hex(&bytes));
        let info = |r: &Resource| back["kind"] == r.info().kind && back["apiVersion"] == r.info().api_version();
        let resource = Resource::ALL.into_iter().find(info).expect("a served kind");
        prop_assert!(same_values(resource, &value, &back), "{back}\nis not\n{value}");
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(bytes in any_mutated()) {
        if let Ok(value) = decode(&bytes, "v1", "Pod") {
            prop_assert!(encode(&value).is_ok());
        }
    }

    #[test]
    fn random_bytes_are_refused_or_read(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&tail, "v1", "Pod");
        for kind in ["Pod", "Service", "Node", "Event"] {
            let mut bytes = MAGIC.to_vec();
            wire::put_bytes(&mut bytes, 2, &tail);
            if let Ok(value) = decode(&bytes, "v1", kind) {
                prop_assert!(encode(&value).is_ok());
            }
        }
    }
}

/// Whether `whole` has everything that `part` has, but zeros, nulls and empty lists and maps.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| match whole.get(key) {
            Some(there) => holds(there, value),
            None => is_nothing(value),
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}
