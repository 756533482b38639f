//! Options as they are read, and each way in which they are refused.

use expect_test::{Expect, expect};
use model::Resource;

use super::*;
use crate::negotiate::Format;

fn outcome<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(status) => {
            let value: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
            format!("{} {}", value["code"], value["message"].as_str().unwrap())
        }
    }
}

fn write(query: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, "kubectl/v1.32.0 (linux/amd64)".parse().unwrap());
    outcome(WriteOptions::read(&Query::parse(Some(query)), &headers, "CreateOptions"))
}

fn list(query: &str) -> String {
    let options = ListOptions::read(Resource::Services, &Query::parse(Some(query)));
    outcome(options.map(|o| {
        if Query::parse(Some(query)).flag("watch") {
            let begins = if o.begins_with_state() { "what is there" } else { "what comes" };
            return format!("watch from {:?}, begins with {begins}, timeout {:?}", o.revision, o.timeout);
        }
        format!("{:?}, limit {:?}", o.state(), o.limit)
    }))
}

fn delete(query: &str, body: &str) -> String {
    outcome(delete_options(&Query::parse(Some(query)), body.as_bytes(), Format::Json))
}

fn check(read: impl Fn(&str) -> String, inputs: &[&str], expected: Expect) {
    let lines: Vec<String> = inputs.iter().map(|input| format!("{input}\n    {}", read(input))).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn write_options() {
    check(
        write,
        &[
            "",
            "dryRun=All&fieldManager=me&fieldValidation=Strict",
            "dryRun=",
            "dryRun=all&fieldValidation=Sometimes",
            "fieldManager=a%0Ab",
        ],
        expect![[r#"

                WriteOptions { dry_run: false, field_validation: Warn, manager: "kubectl" }
            dryRun=All&fieldManager=me&fieldValidation=Strict
                WriteOptions { dry_run: true, field_validation: Strict, manager: "me" }
            dryRun=
                WriteOptions { dry_run: false, field_validation: Warn, manager: "kubectl" }
            dryRun=all&fieldValidation=Sometimes
                422 CreateOptions.meta.k8s.io "" is invalid: [dryRun: Unsupported value: "all": supported values: "All", fieldValidation: Unsupported value: "Sometimes": supported values: "Ignore", "Strict", "Warn"]
            fieldManager=a%0Ab
                422 CreateOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "a\nb": should only contain printable characters"#]],
    );
    let long = format!("fieldManager={}", "x".repeat(129));
    assert!(write(&long).starts_with("422"));
}

#[test]
fn list_options() {
    check(
        list,
        &[
            "",
            "limit=500&resourceVersion=0",
            "watch=1&timeoutSeconds=30&resourceVersion=7",
            "watch=true&timeoutSeconds=99999999",
            "resourceVersion=101",
            "resourceVersion=x",
            "limit=many",
            "continue=abc",
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=49&resourceVersionMatch=Exact",
            "resourceVersion=50&resourceVersionMatch=Exact",
            "resourceVersion=1&resourceVersionMatch=Roughly",
            "resourceVersion=1&resourceVersionMatch=NotOlderThan&continue=x",
            "sendInitialEvents=true",
            "watch=1&sendInitialEvents=true",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            "watch=1&resourceVersionMatch=NotOlderThan",
        ],
        expect![[r#"

                "AtLeast(0), limit None"
            limit=500&resourceVersion=0
                "AtLeast(0), limit Some(500)"
            watch=1&timeoutSeconds=30&resourceVersion=7
                "watch from Some(7), begins with what comes, timeout Some(30s)"
            watch=true&timeoutSeconds=99999999
                "watch from None, begins with what is there, timeout Some(86400s)"
            resourceVersion=101
                "AtLeast(101), limit None"
            resourceVersion=x
                400 invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax
            limit=many
                400 strconv.ParseInt: parsing "many": invalid syntax
            continue=abc
                400 invalid continue token: continue key is not valid: expected value at line 1 column 1
            resourceVersionMatch=Exact
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
            resourceVersion=0&resourceVersionMatch=Exact
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"
            resourceVersion=49&resourceVersionMatch=Exact
                "At(49), limit None"
            resourceVersion=50&resourceVersionMatch=Exact
                "At(50), limit None"
            resourceVersion=1&resourceVersionMatch=Roughly
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Roughly": supported values: "Exact", "NotOlderThan", ""
            resourceVersion=1&resourceVersionMatch=NotOlderThan&continue=x
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided
            sendInitialEvents=true
                422 ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list
            watch=1&sendInitialEvents=true
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
            watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true
                "watch from None, begins with what is there, timeout None"
            watch=1&resourceVersionMatch=NotOlderThan
                422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"#]],
    );
}

#[test]
fn delete_options_from_the_query() {
    check(
        |query| delete(query, ""),
        &[
            "",
            "gracePeriodSeconds=0&propagationPolicy=Background&dryRun=All",
            "gracePeriodSeconds=soon",
            "propagationPolicy=Never",
            "propagationPolicy=Orphan&orphanDependents=true",
        ],
        expect![[r#"

                Deletion { options: DeleteOptions { grace_period_seconds: None, propagation: None, preconditions: Preconditions { uid: None, resource_version: None } }, dry_run: false, cascades: false }
            gracePeriodSeconds=0&propagationPolicy=Background&dryRun=All
                Deletion { options: DeleteOptions { grace_period_seconds: Some(0), propagation: Some(Background), preconditions: Preconditions { uid: None, resource_version: None } }, dry_run: true, cascades: false }
            gracePeriodSeconds=soon
                400 gracePeriodSeconds: Invalid value: "soon": must be a number
            propagationPolicy=Never
                422 DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Never": supported values: "Background", "Foreground", "Orphan"
            propagationPolicy=Orphan&orphanDependents=true
                422 DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#]],
    );
}

#[test]
fn delete_options_from_the_body() {
    check(
        |body| delete("", body),
        &[
            r#"{"propagationPolicy":"Background"}"#,
            r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"u","resourceVersion":"5"},"dryRun":["All"]}"#,
            r#"{"kind":"Service"}"#,
            r#"{"gracePeriodSeconds":"0"}"#,
            r#"{"preconditions":[]}"#,
            r#"{"dryRun":["Some"]}"#,
            r#"{"dryRun":[true]}"#,
            "[]",
            "{",
        ],
        expect![[r#"
            {"propagationPolicy":"Background"}
                Deletion { options: DeleteOptions { grace_period_seconds: None, propagation: Some(Background), preconditions: Preconditions { uid: None, resource_version: None } }, dry_run: false, cascades: false }
            {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"u","resourceVersion":"5"},"dryRun":["All"]}
                Deletion { options: DeleteOptions { grace_period_seconds: Some(0), propagation: None, preconditions: Preconditions { uid: Some("u"), resource_version: Some("5") } }, dry_run: true, cascades: false }
            {"kind":"Service"}
                400 decoded object cannot be converted to DeleteOptions: it is a Service
            {"gracePeriodSeconds":"0"}
                400 DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64
            {"preconditions":[]}
                400 DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal array into Go struct field DeleteOptions.preconditions of type v1.Preconditions
            {"dryRun":["Some"]}
                422 DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All"
            {"dryRun":[true]}
                400 DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal into Go struct field DeleteOptions.dryRun of type string
            []
                400 DeleteOptions in version "v1" cannot be handled as a DeleteOptions: cannot unmarshal array
            {
                400 DeleteOptions in version "v1" cannot be handled as a DeleteOptions: EOF while parsing an object at line 1 column 1"#]],
    );
    // A body does not undo the dry run that the query asks for.
    assert!(delete("dryRun=All", "{}").contains("dry_run: true"));
}
