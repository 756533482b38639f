//! One golden for each shape.

use expect_test::{Expect, expect};
use serde_json::json;
use store::{Existing, Refusal};

use super::*;

fn check(status: &Status, expected: Expect) {
    let json = crate::encode::indent(&status.to_json());
    expected.assert_eq(&String::from_utf8(json).unwrap());
}

#[test]
fn not_found() {
    check(
        &Status::not_found(Resource::Leases, "x"),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "leases.coordination.k8s.io \"x\" not found",
          "reason": "NotFound",
          "details": {
            "name": "x",
            "group": "coordination.k8s.io",
            "kind": "leases"
          },
          "code": 404
        }
    "#]],
    );
}

#[test]
fn unknown_path() {
    check(
        &Status::no_such_path(),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "the server could not find the requested resource",
          "reason": "NotFound",
          "code": 404
        }
    "#]],
    );
}

#[test]
fn invalid_with_one_cause() {
    let error = FieldError::invalid("spec.ports[0].port", 99999, "must be between 1 and 65535, inclusive");
    check(
        &Status::invalid(Resource::Services, "inv", &[error]),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "Service \"inv\" is invalid: spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive",
          "reason": "Invalid",
          "details": {
            "name": "inv",
            "kind": "Service",
            "causes": [
              {
                "reason": "FieldValueInvalid",
                "message": "Invalid value: 99999: must be between 1 and 65535, inclusive",
                "field": "spec.ports[0].port"
              }
            ]
          },
          "code": 422
        }
    "#]],
    );
}

#[test]
fn invalid_with_several_causes() {
    let errors = [
        FieldError::required("spec.ports", ""),
        FieldError::not_supported("spec.type", "X", &["ClusterIP", "NodePort"]),
        FieldError::invalid("spec.clusterIPs", json!(["10.96.0.10"]), "may not change once set"),
    ];
    check(
        &Status::invalid(Resource::EndpointSlices, "s", &errors),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "EndpointSlice.discovery.k8s.io \"s\" is invalid: [spec.ports: Required value, spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"NodePort\", spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: may not change once set]",
          "reason": "Invalid",
          "details": {
            "name": "s",
            "group": "discovery.k8s.io",
            "kind": "EndpointSlice",
            "causes": [
              {
                "reason": "FieldValueRequired",
                "message": "Required value",
                "field": "spec.ports"
              },
              {
                "reason": "FieldValueNotSupported",
                "message": "Unsupported value: \"X\": supported values: \"ClusterIP\", \"NodePort\"",
                "field": "spec.type"
              },
              {
                "reason": "FieldValueInvalid",
                "message": "Invalid value: [\"10.96.0.10\"]: may not change once set",
                "field": "spec.clusterIPs"
              }
            ]
          },
          "code": 422
        }
    "#]],
    );
}

#[test]
fn future_revision() {
    check(
        &Status::future_revision(10, 5),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "Timeout: Too large resource version: 10, current: 5",
          "reason": "Timeout",
          "details": {
            "causes": [
              {
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version"
              }
            ],
            "retryAfterSeconds": 1
          },
          "code": 504
        }
    "#]],
    );
}

#[test]
fn deleted() {
    check(
        &Status::deleted(Resource::Nodes, "n", "u-1"),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Success",
          "details": {
            "name": "n",
            "kind": "nodes",
            "uid": "u-1"
          },
          "code": 200
        }
    "#]],
    );
}

#[test]
fn internal() {
    check(
        &Status::internal("failed to allocate a serviceIP: range is full"),
        expect![[r#"
            {
              "kind": "Status",
              "apiVersion": "v1",
              "metadata": {},
              "status": "Failure",
              "message": "Internal error occurred: failed to allocate a serviceIP: range is full",
              "reason": "InternalError",
              "details": {
                "causes": [
                  {
                    "message": "failed to allocate a serviceIP: range is full"
                  }
                ]
              },
              "code": 500
            }
        "#]],
    );
}

#[test]
fn every_refusal_has_its_code_and_reason() {
    let name = || "web".to_owned();
    let resource = Resource::Services;
    let refusals = [
        Refusal::NotFound { resource, name: name() },
        Refusal::AlreadyExists { resource, name: name(), existing: Existing::Plain },
        Refusal::AlreadyExists { resource, name: name(), existing: Existing::Terminating },
        Refusal::AlreadyExists { resource, name: name(), existing: Existing::Generated },
        Refusal::NamespaceMissing { namespace: "foo".to_owned() },
        Refusal::NamespaceTerminating { resource, name: name(), namespace: "foo".to_owned() },
        Refusal::Conflict { resource, name: name(), detail: "the object has been modified".to_owned() },
        Refusal::Forbidden { resource, name: name(), detail: "no".to_owned() },
        Refusal::Invalid(vec![FieldError::required("metadata.name", "name or generateName is required")]),
        Refusal::BadRequest("bad".to_owned()),
        Refusal::TooLarge("large".to_owned()),
        Refusal::Full("failed to allocate a nodePort: range is full".to_owned()),
        Refusal::Busy,
        Refusal::Unavailable("the disk is full".to_owned()),
    ];
    let lines: Vec<String> = refusals
        .iter()
        .map(|refusal| {
            let status = Status::refused(resource, "web", refusal);
            let retry = status.retry_after_seconds().map(|s| format!(" (retry after {s})")).unwrap_or_default();
            format!("{} {}: {}{retry}", status.code().as_u16(), status.reason, status.message)
        })
        .collect();
    expect![[r#"
        404 NotFound: services "web" not found
        409 AlreadyExists: services "web" already exists
        409 AlreadyExists: object is being deleted: services "web" already exists
        409 AlreadyExists: services "web" already exists, the server was not able to generate a unique name for the object (retry after 1)
        404 NotFound: namespaces "foo" not found
        403 Forbidden: services "web" is forbidden: unable to create new content in namespace foo because it is being terminated
        409 Conflict: Operation cannot be fulfilled on services "web": the object has been modified
        403 Forbidden: services "web" is forbidden: no
        422 Invalid: Service "web" is invalid: metadata.name: Required value: name or generateName is required
        400 BadRequest: bad
        413 RequestEntityTooLarge: large
        500 InternalError: Internal error occurred: failed to allocate a nodePort: range is full
        429 TooManyRequests: the server has too many writes in progress, please try again later (retry after 1)
        500 InternalError: Internal error occurred: the disk is full"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn terminating_namespace_names_its_cause() {
    let refusal = Refusal::NamespaceTerminating {
        resource: Resource::Services,
        name: "web".to_owned(),
        namespace: "foo".to_owned(),
    };
    check(
        &Status::refused(Resource::Services, "web", &refusal),
        expect![[r#"
        {
          "kind": "Status",
          "apiVersion": "v1",
          "metadata": {},
          "status": "Failure",
          "message": "services \"web\" is forbidden: unable to create new content in namespace foo because it is being terminated",
          "reason": "Forbidden",
          "details": {
            "name": "web",
            "kind": "services",
            "causes": [
              {
                "reason": "NamespaceTerminating",
                "message": "namespace foo is being terminated",
                "field": "metadata.namespace"
              }
            ]
          },
          "code": 403
        }
    "#]],
    );
}

#[test]
fn others() {
    let statuses = [
        Status::unauthorized(),
        Status::verb_not_supported(Resource::Namespaces, "deletecollection"),
        Status::method_not_allowed(),
        Status::not_acceptable(&["application/json"]),
        Status::unsupported_media_type(&["application/json"]),
        Status::too_large("Request entity too large: limit is 3145728"),
        Status::expired(1, 105),
        Status::expired_list(),
        Status::timeout("request did not complete within 60s"),
    ];
    let lines: Vec<String> = statuses.iter().map(|s| String::from_utf8(s.to_json()).unwrap()).collect();
    expect![[r#"
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deletecollection is not supported on resources of kind \"namespaces\"","reason":"MethodNotAllowed","details":{"kind":"namespaces"},"code":405}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","code":405}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"only the following media types are accepted: application/json","reason":"NotAcceptable","code":406}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the body of the request was in an unknown format - accepted media types include: application/json","reason":"UnsupportedMediaType","code":415}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Request entity too large: limit is 3145728","reason":"RequestEntityTooLarge","code":413}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (105)","reason":"Expired","code":410}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"The resourceVersion for the provided list is too old.","reason":"Expired","code":410}
        {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Timeout: request did not complete within 60s","reason":"Timeout","code":504}"#]].assert_eq(&lines.join("\n"));
}

/// Every shape of a failure that this API answers with: code, reason, message, and what the details say.
#[test]
fn every_row() {
    let pod = |refusal: Refusal| Status::refused(Resource::Pods, "p", &refusal);
    let name = || "p".to_owned();
    let exists = |existing| Refusal::AlreadyExists { resource: Resource::Pods, name: name(), existing };
    let conflict = Refusal::Conflict {
        resource: Resource::Leases,
        name: name(),
        detail: "the object has been modified; please apply your changes to the latest version and try again"
            .to_owned(),
    };
    let invalid = FieldError::required("spec.x", "");
    let rows = [
        Status::bad_request("free text"),
        Status::unauthorized(),
        pod(Refusal::Forbidden { resource: Resource::Namespaces, name: name(), detail: "no".to_owned() }),
        pod(Refusal::NamespaceTerminating { resource: Resource::Pods, name: name(), namespace: "n".to_owned() }),
        pod(Refusal::NotFound { resource: Resource::Pods, name: name() }),
        pod(Refusal::NotFound { resource: Resource::EventsV1, name: name() }),
        pod(Refusal::NamespaceMissing { namespace: "n".to_owned() }),
        Status::no_such_path(),
        Status::verb_not_supported(Resource::Leases, "create"),
        Status::method_not_allowed(),
        Status::not_acceptable(&["application/json", "application/yaml"]),
        pod(exists(Existing::Plain)),
        pod(exists(Existing::Terminating)),
        pod(exists(Existing::Generated)),
        pod(conflict),
        pod(Refusal::NotBindable { name: name(), detail: "pod p is already assigned to node \"n\"".to_owned() }),
        Status::expired(1, 105),
        pod(Refusal::TooLarge("limit".to_owned())),
        Status::unsupported_media_type(&["application/json"]),
        pod(Refusal::Invalid(vec![invalid])),
        pod(Refusal::Busy),
        pod(Refusal::Unavailable("the disk is full".to_owned())),
        pod(Refusal::Full("failed to allocate a serviceIP: range is full".to_owned())),
        pod(Refusal::Closed),
        Status::timeout("request did not complete within 60s"),
        Status::future_revision(10, 5),
    ];
    let line = |status: &Status| {
        let value: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
        assert_eq!((&value["kind"], &value["status"]), (&json!("Status"), &json!("Failure")));
        let text = |field: &str| value[field].as_str().unwrap_or("").to_owned();
        let details = value.get("details").map(|details| format!("    {details}\n")).unwrap_or_default();
        format!("{} {}: {}\n{details}", value["code"], text("reason"), text("message"))
    };
    expect![[r#"
        400 BadRequest: free text
        401 Unauthorized: Unauthorized
        403 Forbidden: namespaces "p" is forbidden: no
            {"kind":"namespaces","name":"p"}
        403 Forbidden: pods "p" is forbidden: unable to create new content in namespace n because it is being terminated
            {"causes":[{"field":"metadata.namespace","message":"namespace n is being terminated","reason":"NamespaceTerminating"}],"kind":"pods","name":"p"}
        404 NotFound: pods "p" not found
            {"kind":"pods","name":"p"}
        404 NotFound: events.events.k8s.io "p" not found
            {"group":"events.k8s.io","kind":"events","name":"p"}
        404 NotFound: namespaces "n" not found
            {"kind":"namespaces","name":"n"}
        404 NotFound: the server could not find the requested resource
        405 MethodNotAllowed: create is not supported on resources of kind "leases.coordination.k8s.io"
            {"group":"coordination.k8s.io","kind":"leases"}
        405 MethodNotAllowed: the server does not allow this method on the requested resource
        406 NotAcceptable: only the following media types are accepted: application/json, application/yaml
        409 AlreadyExists: pods "p" already exists
            {"kind":"pods","name":"p"}
        409 AlreadyExists: object is being deleted: pods "p" already exists
            {"kind":"pods","name":"p"}
        409 AlreadyExists: pods "p" already exists, the server was not able to generate a unique name for the object
            {"kind":"pods","name":"p","retryAfterSeconds":1}
        409 Conflict: Operation cannot be fulfilled on leases.coordination.k8s.io "p": the object has been modified; please apply your changes to the latest version and try again
            {"group":"coordination.k8s.io","kind":"leases","name":"p"}
        409 Conflict: Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"
            {"kind":"pods/binding","name":"p"}
        410 Expired: too old resource version: 1 (105)
        413 RequestEntityTooLarge: limit
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json
        422 Invalid: Pod "p" is invalid: spec.x: Required value
            {"causes":[{"field":"spec.x","message":"Required value","reason":"FieldValueRequired"}],"kind":"Pod","name":"p"}
        429 TooManyRequests: the server has too many writes in progress, please try again later
            {"retryAfterSeconds":1}
        500 InternalError: Internal error occurred: the disk is full
            {"causes":[{"message":"the disk is full"}]}
        500 InternalError: Internal error occurred: failed to allocate a serviceIP: range is full
            {"causes":[{"message":"failed to allocate a serviceIP: range is full"}]}
        503 ServiceUnavailable: the store is closed: the server is shutting down
            {"retryAfterSeconds":1}
        504 Timeout: Timeout: request did not complete within 60s
        504 Timeout: Timeout: Too large resource version: 10, current: 5
            {"causes":[{"message":"Too large resource version","reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":1}
    "#]].assert_eq(&rows.iter().map(line).collect::<String>());
}
