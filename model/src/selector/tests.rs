use std::fmt::Write as _;

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::object::Object;
use crate::resource::Resource;
use crate::types::TextMap;

fn labels(text: &str) -> TextMap {
    text.split_terminator(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn label_requirements() {
    let cases = [
        ("", "", true),
        ("a=b", "a=b", true),
        ("a==b", "a=c", false),
        ("a!=b", "", true),
        ("a!=b", "a=b", false),
        ("a in (b, c)", "a=c", true),
        ("a in (b,c)", "", false),
        ("a notin (b,c)", "", true),
        ("a notin (b,c)", "a=b", false),
        ("a", "a=", true),
        ("a", "", false),
        ("!a", "", true),
        ("! a", "a=b", false),
        ("a>1", "a=2", true),
        ("a>1", "a=1", false),
        ("a<1", "a=x", false),
        ("a<1", "a=-4", true),
        ("a=b,c=d", "a=b,c=d", true),
        ("a=b,c=d", "a=b", false),
        ("a=", "a=", true),
        ("a=", "", false),
        ("a in (,b)", "a=", true),
        ("a in (b,)", "a=", true),
        ("a in (b,,c)", "a=", true),
        ("a=b,!c , d notin (e)", "a=b", true),
        ("in in (in)", "in=in", true),
        ("notin=in", "notin=in", true),
        ("example.com/a=b", "example.com/a=b", true),
        ("\ta\n=\r b ", "a=b", true),
    ];
    for (selector, of, expected) in cases {
        let parsed = LabelSelector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(&labels(of)), expected, "{selector:?} on {of:?}");
        assert_eq!(parsed.is_empty(), selector.is_empty());
    }
}

#[test]
fn label_selector_errors() {
    let mut out = String::new();
    for text in [
        "a in",
        "a in b",
        "a in (",
        "a in (b",
        "a in (b c)",
        "a in ()",
        "a in (=)",
        "a in (b,,)",
        "a=b,",
        "a=b,,c",
        "a b",
        "a=b c",
        "=b",
        "(a)",
        "a=!b",
        "a=b=c",
        "!a=b",
        "!",
        "a>x",
        "a>",
        "a//b",
        "-a",
        "a=-b",
        "a=b c=d",
        ")",
        "a^b",
        "a=<",
    ] {
        match LabelSelector::parse(text) {
            Ok(_) => writeln!(out, "{text}  ->  fine"),
            Err(e) => writeln!(out, "{text}  ->  {e}"),
        }
        .expect("writing to a string");
    }
    expect![[r#"
        a in  ->  unable to parse requirement: found '' expected: '('
        a in b  ->  unable to parse requirement: found 'b' expected: '('
        a in (  ->  unable to parse requirement: found '', expected: ',', ')' or identifier
        a in (b  ->  unable to parse requirement: found '', expected: ',' or ')'
        a in (b c)  ->  unable to parse requirement: found 'c', expected: ',' or ')'
        a in ()  ->  unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty
        a in (=)  ->  unable to parse requirement: found '=', expected: ',', ')' or identifier
        a in (b,,)  ->  unable to parse requirement: found ')', expected: ',', or identifier
        a=b,  ->  found '', expected: identifier after ','
        a=b,,c  ->  found ',', expected: identifier after ','
        a b  ->  unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
        a=b c  ->  found 'c', expected: ',' or 'end of string'
        =b  ->  found '=', expected: !, identifier, or 'end of string'
        (a)  ->  found '(', expected: !, identifier, or 'end of string'
        a=!b  ->  unable to parse requirement: found '!', expected: identifier
        a=b=c  ->  found '=', expected: ',' or 'end of string'
        !a=b  ->  found '=', expected: ',' or 'end of string'
        !  ->  unable to parse requirement: found '', expected: identifier
        a>x  ->  unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer
        a>  ->  unable to parse requirement: values[0]: Invalid value: "": for 'Gt', 'Lt' operators, the value must be an integer
        a//b  ->  unable to parse requirement: <nil>: Invalid value: "a//b": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        -a  ->  unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        a=-b  ->  unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        a=b c=d  ->  found 'c', expected: ',' or 'end of string'
        )  ->  found ')', expected: !, identifier, or 'end of string'
        a^b  ->  unable to parse requirement: <nil>: Invalid value: "a^b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        a=<  ->  unable to parse requirement: found '<', expected: identifier
    "#]].assert_eq(&out);
}

fn object(resource: Resource, value: Value) -> Object {
    Object::decode(resource, Bytes::from(value.to_string())).expect("an object")
}

#[test]
fn fields_of_each_kind() {
    let pod = object(
        Resource::Pods,
        json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "nodeName": "node-1", "restartPolicy": "Always", "hostNetwork": true },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
        }),
    );
    let service = object(
        Resource::Services,
        json!({ "metadata": { "name": "s" }, "spec": { "clusterIP": "None", "type": "ClusterIP" } }),
    );
    let node = object(Resource::Nodes, json!({ "metadata": { "name": "n" } }));
    let event = object(
        Resource::Events,
        json!({
            "metadata": { "name": "e", "namespace": "n" },
            "involvedObject": { "kind": "Pod", "name": "p", "uid": "1" },
            "reason": "Started", "type": "Normal", "reportingComponent": "kubelet", "source": {},
        }),
    );
    let namespace =
        object(Resource::Namespaces, json!({ "metadata": { "name": "n" }, "status": { "phase": "Active" } }));
    let cases = [
        (&pod, "metadata.name=p,metadata.namespace=n", true),
        (&pod, "spec.nodeName=node-1,status.phase!=Failed,status.phase!=Succeeded", true),
        (&pod, "spec.nodeName=", false),
        (&pod, "spec.hostNetwork=true", true),
        (&pod, "status.podIP=10.0.0.1", true),
        (&pod, "status.podIPs=fd00::1", true),
        (&pod, "status.podIPs!=fd00::1", false),
        (&pod, "spec.schedulerName=", true),
        (&service, "spec.clusterIP!=None", false),
        (&service, "spec.type==ClusterIP", true),
        (&node, "spec.unschedulable=false", true),
        (&event, "involvedObject.name=p,involvedObject.kind=Pod,involvedObject.namespace=", true),
        (&event, "source=kubelet,reason=Started,type!=Warning", true),
        (&namespace, "status.phase=Active", true),
        (&namespace, "", true),
    ];
    for (selector, expected) in [
        ("regarding.name=p,regarding.kind=Pod,regarding.namespace=", true),
        ("reportingController=kubelet,reason=Started,type=Normal,metadata.namespace=n", true),
        ("regarding.uid!=1", false),
    ] {
        let parsed = FieldSelector::parse(Resource::EventsV1, selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(&event), expected, "{selector}");
    }
    for (object, selector, expected) in cases {
        let parsed = FieldSelector::parse(object.resource, selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(object), expected, "{selector}");
    }
    let exact = FieldSelector::parse(Resource::Pods, "metadata.name=a\\,b,metadata.namespace!=x").expect("a selector");
    assert_eq!(exact.exact("metadata.name"), Some("a,b"));
    assert_eq!(exact.exact("metadata.namespace"), None);
}

#[test]
fn field_selector_errors() {
    let mut out = String::new();
    for (resource, text) in [
        (Resource::Services, "spec.nope=1"),
        (Resource::EventsV1, "involvedObject.name=p"),
        (Resource::Leases, "spec.holderIdentity=1"),
        (Resource::Pods, "status.phase"),
        (Resource::Pods, "metadata.name=a=b"),
        (Resource::Pods, "metadata.name=a\\b"),
        (Resource::Pods, "metadata.name=a\\"),
        (Resource::Pods, "spec.nodeName=,"),
    ] {
        match FieldSelector::parse(resource, text) {
            Ok(_) => writeln!(out, "{resource} {text}  ->  fine"),
            Err(e) => writeln!(out, "{resource} {text}  ->  {e}"),
        }
        .expect("writing to a string");
    }
    expect![[r#"
        services spec.nope=1  ->  field label not supported: spec.nope
        events involvedObject.name=p  ->  field label not supported: involvedObject.name
        leases spec.holderIdentity=1  ->  "spec.holderIdentity" is not a known field selector: only "metadata.name", "metadata.namespace"
        pods status.phase  ->  invalid selector: 'status.phase'; can't understand 'status.phase'
        pods metadata.name=a=b  ->  invalid field selector: unescaped character in value: 61
        pods metadata.name=a\b  ->  invalid field selector: invalid escape sequence: \b
        pods metadata.name=a\  ->  invalid field selector: invalid escape sequence: \
        pods spec.nodeName=,  ->  fine
    "#]].assert_eq(&out);
}

proptest! {
    #[test]
    fn nothing_panics(text in "[a-c=!<>(),\\\\ \\t-]{0,24}", other: String) {
        for text in [text, other] {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(Resource::Pods, &text);
        }
    }

    /// `in` and `notin` are opposites, and so are a key and its negation.
    #[test]
    fn opposites(key in "[a-b]", value in "[x-z]", of in "([a-b]=[x-z])?") {
        let of = labels(&of);
        let matches = |text: String| LabelSelector::parse(&text).expect("a selector").matches(&of);
        prop_assert_ne!(matches(format!("{key} in ({value},w)")), matches(format!("{key} notin ({value},w)")));
        prop_assert_ne!(matches(format!("{key}={value}")), matches(format!("{key}!={value}")));
        prop_assert_ne!(matches(key.clone()), matches(format!("!{key}")));
    }
}
