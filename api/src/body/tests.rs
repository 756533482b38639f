//! Bodies: duplicates, YAML's scalars, bombs, and limits.

use serde_json::json;

use super::*;

fn yaml_value(text: &str) -> Value {
    decode(text.as_bytes(), Format::Yaml).unwrap().value
}

#[test]
fn duplicate_keys_are_named_and_the_last_one_wins() {
    let text = r#"{"a": 1, "spec": {"ports": [{"port": 1}, {"port": 2, "port": 3}]}, "a": 2}"#;
    let document = decode(text.as_bytes(), Format::Json).unwrap();
    assert_eq!(document.duplicates, ["spec.ports[1].port", "a"]);
    assert_eq!(document.value, json!({"a": 2, "spec": {"ports": [{"port": 1}, {"port": 3}]}}));

    let text = "a: 1\nspec:\n  ports:\n  - port: 1\n    port: 2\na: 3\n";
    let document = decode(text.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(document.duplicates, ["spec.ports[0].port", "a"]);
    assert_eq!(document.value, json!({"a": 3, "spec": {"ports": [{"port": 2}]}}));
}

#[test]
fn yaml_scalars_become_what_kubernetes_reads() {
    let value = yaml_value(
        "int: 80\nneg: -1\nfloat: 1.5\nbool: true\nyes: yes\nquoted: \"80\"\nnull1: ~\nnull2:\nmode: 0644\n\
         text: 10.96.0.1\ndate: 2024-01-01\nblock: |\n  a\n  b\nempty: {}\nlist: []\n8080: port\n",
    );
    assert_eq!(
        value,
        json!({"int": 80, "neg": -1, "float": 1.5, "bool": true, "yes": true, "quoted": "80", "null1": null,
               "null2": null, "mode": 420, "text": "10.96.0.1", "date": "2024-01-01", "block": "a\nb\n",
               "empty": {}, "list": [], "8080": "port"})
    );
}

#[test]
fn yaml_takes_json_too() {
    assert_eq!(yaml_value(r#"{"a": [1, "x", null]}"#), json!({"a": [1, "x", null]}));
}

#[test]
fn anchors_work_and_bombs_do_not() {
    assert_eq!(yaml_value("a: &x {b: 1}\nc: *x\n"), json!({"a": {"b": 1}, "c": {"b": 1}}));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    assert!(decode(bomb.as_bytes(), Format::Yaml).is_err());
}

#[test]
fn depth_is_bounded() {
    for depth in [100, 100_000] {
        let json_text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(decode(json_text.as_bytes(), Format::Json).is_ok(), depth == 100);
        assert_eq!(decode(json_text.as_bytes(), Format::Yaml).is_ok(), depth == 100);
    }
}

#[test]
fn what_is_not_one_document_is_refused() {
    for text in ["", "{", "{} x", "{'a': 1}", "{\"a\": 1,}", "\u{feff}"] {
        assert!(decode(text.as_bytes(), Format::Json).is_err(), "{text:?}");
    }
    for text in ["a: b: c", "a: [1", "a: 1\n---\nb: 2\n", "a: \"x"] {
        assert!(decode(text.as_bytes(), Format::Yaml).is_err(), "{text:?}");
    }
    assert!(decode(b"\"\xff\"", Format::Json).is_err());
    assert!(decode(b"a: \xff", Format::Yaml).is_err());
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_announced_or_not() {
    let big = Bytes::from(vec![b' '; LIMIT + 1]);
    let status = read(&HeaderMap::new(), Body::from(big)).await.unwrap_err();
    assert_eq!(status.code().as_u16(), 413);
    let headers = HeaderMap::from_iter([(CONTENT_LENGTH, http::HeaderValue::from(LIMIT + 1))]);
    assert_eq!(read(&headers, Body::empty()).await.unwrap_err().code().as_u16(), 413);
    let fits = Bytes::from(vec![b' '; LIMIT]);
    assert_eq!(read(&HeaderMap::new(), Body::from(fits)).await.unwrap().len(), LIMIT);
}
