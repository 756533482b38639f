use super::*;

fn lines(lines: &mut Lines) -> Vec<String> {
    std::iter::from_fn(|| lines.next().unwrap()).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

#[test]
fn lines_come_whole_whatever_the_chunks() {
    let text = b"{\"a\":1}\n\n{\"b\":\"x\"}\ncut";
    for size in 1..=text.len() {
        let mut splitter = Lines::new();
        let mut got = Vec::new();
        for chunk in text.chunks(size) {
            splitter.push(Bytes::copy_from_slice(chunk));
            got.extend(lines(&mut splitter));
        }
        assert_eq!(got, ["{\"a\":1}", "", "{\"b\":\"x\"}"], "chunks of {size}");
    }
}

#[test]
fn a_line_that_came_in_one_chunk_is_a_part_of_it() {
    let mut splitter = Lines::new();
    let chunk = Bytes::from_static(b"one\ntwo\nthr");
    splitter.push(chunk.clone());
    let first = splitter.next().unwrap().unwrap();
    assert_eq!((first.as_ptr(), &first[..]), (chunk.as_ptr(), &b"one"[..]));
    // Before all lines were asked for.
    splitter.push(Bytes::from_static(b"ee\n\nfour"));
    assert_eq!(lines(&mut splitter), ["two", "three", ""]);
    splitter.push(Bytes::from_static(b"\n"));
    assert_eq!(lines(&mut splitter), ["four"]);
}

#[test]
fn an_endless_line_is_refused_before_it_is_whole() {
    let mut splitter = Lines::with_limit(10);
    splitter.push(Bytes::from_static(b"0123456789"));
    assert_eq!(splitter.next(), Ok(None));
    splitter.push(Bytes::from_static(b"\n"));
    assert_eq!(splitter.next().unwrap().unwrap(), &b"0123456789"[..]);
    splitter.push(Bytes::from_static(b"0123456789a"));
    assert_eq!(splitter.next(), Err(LineTooLong { limit: 10 }));
}

#[test]
fn members_are_found_past_whatever_stands_before_them() {
    let find = |json: &str, name: &str| member(json.as_bytes(), name).map(|range| json[range].to_owned());
    let cases = [
        (r#"{"type":"ADDED","object":{"a":[1,"}"]}}"#, "object", Some(r#"{"a":[1,"}"]}"#)),
        (r#"{"object":{"type":"x"},"type":"ADDED"}"#, "type", Some(r#""ADDED""#)),
        (r#" { "a" : 1.5e3 , "b" : true } "#, "b", Some("true")),
        (r#" { "a" : 1.5e3 , "b" : true } "#, "a", Some("1.5e3")),
        (r#"{"a":"\"b\":1,\\","b":2}"#, "b", Some("2")),
        (r#"{"a":{},"b":[]}"#, "b", Some("[]")),
        (r#"{"a":[{"x":"]}\\"},"\"}]"],"b":[[["x"],{}]]}"#, "b", Some(r#"[[["x"],{}]]"#)),
        (r#"{"a":{"x":"\\\""},"b":3}"#, "b", Some("3")),
        (r#"{"a":["x\\\"],"b":3}"#, "b", None),
        (r#"{"a":["x"}"#, "b", None),
        (r#"{}"#, "a", None),
        (r#"{"a":1}"#, "b", None),
        (r#"["a",1]"#, "a", None),
        (r#"{"a":{"b":1"#, "a", None),
        (r#"{"a":1"#, "a", None),
        (r#"{"a"#, "a", None),
        (r#"{"a\"#, "a", None),
        (r#"{"a" 1}"#, "a", None),
        (r#"{"b":1 "a":2}"#, "a", None),
        ("", "a", None),
        ("garbage", "a", None),
    ];
    for (json, name, expected) in cases {
        assert_eq!(find(json, name).as_deref(), expected, "{name} of {json}");
    }
}

#[test]
fn the_resource_version_is_found_without_a_look_at_the_rest() {
    let find = |json: &str| resource_version(json.as_bytes()).map(|range| json[range].to_owned());
    for (json, expected) in [
        (r#"{"kind":"x","metadata":{"name":"{","resourceVersion":"7","labels":{}},"spec":{}}"#, Some(r#""7""#)),
        (r#"{"endpoints":[{"targetRef":{"resourceVersion":"1"}}],"metadata":{"resourceVersion":"2"}}"#, Some(r#""2""#)),
        (
            r#"{"a":"\"metadata\":{\"resourceVersion\":\"1\"}","metadata":{"b":[{}],"resourceVersion":"3"}}"#,
            Some(r#""3""#),
        ),
        (r#"{"metadata":{"resourceVersion":"4","gar"bage"#, Some(r#""4""#)),
        (r#"{"metadata":{"labels":{"resourceVersion":"5"}},"resourceVersion":"6"}"#, None),
        (r#"{"metadata":["resourceVersion","7"]}"#, None),
        (r#"{"metadata":{"resourceVersion":8}}"#, None),
        (r#"{"metadata":{"resourceVersion":"#, None),
        (r#"{"metadata":"#, None),
        ("", None),
    ] {
        assert_eq!(find(json).as_deref(), expected, "{json}");
    }
}

#[test]
fn an_event_that_is_written_as_usual_is_read_without_a_look_at_its_object() {
    let seen = |line: &str| {
        let (kind, object) = usual_event(line.as_bytes())?;
        Some((String::from_utf8(kind.to_vec()).unwrap(), line[object].to_owned()))
    };
    let of = |kind: &str, object: &str| Some((kind.to_owned(), object.to_owned()));
    for (line, expected) in [
        (r#"{"type":"ADDED","object":{"a":{}}}"#, of("ADDED", r#"{"a":{}}"#)),
        (r#"{"type":"BOOKMARK","object":{}}"#, of("BOOKMARK", "{}")),
        // Written otherwise, it is for those who look at each byte.
        (r#"{"object":{},"type":"ADDED"}"#, None),
        (r#"{"type":"ADDED", "object":{}}"#, None),
        (r#"{"type":"A\"D","object":{}}"#, None),
        (r#"{"type":"ADDED","object":[]}"#, None),
        (r#"{"type":"ADDED","object":{}"#, None),
        (r#"{"type":"ADDED","object":{},"more":1}"#, None),
        (r#"{"type":"ADDED"}"#, None),
        (r#"{"type":"ADDED","object":}}"#, None),
        ("{\"type\":\"", None),
        ("", None),
    ] {
        assert_eq!(seen(line), expected, "{line}");
    }
}

/// The items, and the envelope if there was one.
fn split(json: &[u8], size: usize) -> Result<(Vec<String>, Option<String>), ListFault> {
    let mut splitter = ListSplitter::default();
    let mut items = Vec::new();
    for chunk in json.chunks(size) {
        let mut chunk = Bytes::copy_from_slice(chunk);
        while let Some(item) = splitter.next(&mut chunk)? {
            items.push(String::from_utf8(item.to_vec()).unwrap());
        }
    }
    Ok((items, splitter.finish().map(|envelope| String::from_utf8(envelope.to_vec()).unwrap())))
}

#[test]
fn a_list_comes_apart_whatever_the_chunks() {
    let json = br#"{"kind":"ServiceList","metadata":{"resourceVersion":"12","items":[1]}, "items" : [
        {"a":"]}\"","items":[{"b":[]}]} , {"c":2},{}
    ]}
"#;
    for size in 1..=json.len() {
        let (items, envelope) = split(json, size).unwrap();
        assert_eq!(items, [r#"{"a":"]}\"","items":[{"b":[]}]}"#, r#"{"c":2}"#, "{}"], "chunks of {size}");
        let expected = r#"{"kind":"ServiceList","metadata":{"resourceVersion":"12","items":[1]},"items":[]}"#;
        assert_eq!(envelope.as_deref(), Some(expected));
    }
}

#[test]
fn lists_may_be_empty_and_in_any_order() {
    for (json, envelope) in [
        (r#"{"items":[],"metadata":{}}"#, r#"{"items":[],"metadata":{}}"#),
        (r#"{"items":null,"metadata":{}}"#, r#"{"items":null,"metadata":{}}"#),
        (r#"{"kind":"items","x":["items"]}"#, r#"{"kind":"items","x":["items"]}"#),
    ] {
        assert_eq!(split(json.as_bytes(), 3), Ok((Vec::new(), Some(envelope.to_owned()))), "{json}");
    }
    let after = split(br#"{"items":[{"a":1}],"metadata":{"resourceVersion":"3"}}"#, 4).unwrap();
    assert_eq!(after.0, [r#"{"a":1}"#]);
    assert_eq!(after.1.as_deref(), Some(r#"{"items":[],"metadata":{"resourceVersion":"3"}}"#));
}

#[test]
fn a_list_that_is_cut_has_no_envelope() {
    let whole = br#"{"metadata":{"resourceVersion":"3"},"items":[{"a":1},{"b":2}]}"#;
    for end in 0..whole.len() {
        let (_, envelope) = split(&whole[..end], 7).unwrap();
        assert_eq!(envelope, None, "cut at {end}");
    }
}

#[test]
fn what_follows_a_list_or_closes_too_much_is_a_fault() {
    assert_eq!(split(b"{}}", 1), Err(ListFault::Unbalanced));
    assert_eq!(split(b"{}{}", 1), Err(ListFault::Unbalanced));
    let endless = [b"{\"".as_slice(), &vec![b'x'; MAX_ENVELOPE_BYTES]].concat();
    assert_eq!(split(&endless, 4096), Err(ListFault::TooLarge { limit: MAX_ENVELOPE_BYTES }));
    let endless = [b"{\"items\":[{\"".as_slice(), &vec![b'x'; MAX_OBJECT_BYTES]].concat();
    assert_eq!(split(&endless, 4096), Err(ListFault::TooLarge { limit: MAX_OBJECT_BYTES }));
}
