//! Server-side apply and `managedFields` through the API.

use expect_test::expect;
use model::Resource;
use serde_json::{Value, json};

use crate::app::{Answer, App, SERVICES, service};

const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";

async fn apply(app: &App, query: &str, body: &Value) -> Answer {
    app.with_body("PATCH", &format!("{SERVICES}/web{query}"), APPLY, body.to_string()).await
}

fn web(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": spec })
}

/// Each entry as `manager operation subresource: fields`.
fn managers(object: &Value) -> String {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let line = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or("").to_owned();
        assert_eq!((text("fieldsType"), text("time")), ("FieldsV1".into(), "2024-05-01T12:00:00Z".into()));
        format!("{} {} {}: {}", text("manager"), text("operation"), text("subresource"), entry["fieldsV1"])
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn two_managers_a_conflict_and_force() {
    let app = App::new().await;
    let ports = json!([{ "port": 80, "name": "http" }]);
    let created =
        apply(&app, "?fieldManager=one&force=false", &web(json!({ "ports": ports, "type": "NodePort" }))).await;
    assert_eq!(created.code, 201, "{}", created.text());
    let more = json!([{ "port": 443, "name": "https" }]);
    let added = apply(&app, "?fieldManager=two", &web(json!({ "ports": more }))).await;
    assert_eq!(added.code, 200, "{}", added.text());
    expect![[r#"
        one Apply : {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}},"f:type":{}}}
        two Apply : {"f:spec":{"f:ports":{"k:{\"port\":443,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}}}}"#]]
    .assert_eq(&managers(&added.json()));

    let taken =
        json!({ "ports": [{ "port": 80, "name": "web" }, { "port": 443, "name": "https" }], "type": "ClusterIP" });
    let conflict = apply(&app, "?fieldManager=two", &web(taken.clone())).await;
    expect![[r#"
        409 {
          "apiVersion": "v1",
          "code": 409,
          "details": {
            "causes": [
              {
                "field": ".spec.type",
                "message": "conflict with \"one\"",
                "reason": "FieldManagerConflict"
              },
              {
                "field": ".spec.ports[port=80,protocol=\"TCP\"].name",
                "message": "conflict with \"one\"",
                "reason": "FieldManagerConflict"
              }
            ]
          },
          "kind": "Status",
          "message": "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.type\n- .spec.ports[port=80,protocol=\"TCP\"].name",
          "metadata": {},
          "reason": "Conflict",
          "status": "Failure"
        }"#]]
    .assert_eq(&conflict.golden());
    let forced = apply(&app, "?fieldManager=two&force=true", &web(taken)).await;
    expect![[r#"
        one Apply : {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}
        two Apply : {"f:spec":{"f:ports":{"k:{\"port\":443,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}},"f:type":{}}}"#]]
    .assert_eq(&managers(&forced.json()));
    let names: Vec<Value> =
        forced.json()["spec"]["ports"].as_array().unwrap().iter().map(|port| port["name"].clone()).collect();
    assert_eq!(names, ["web", "https"]);

    // What a manager no longer names goes, and the rest with the node port of a NodePort Service.
    let dropped = apply(&app, "?fieldManager=two", &web(json!({ "ports": [{ "port": 80, "name": "web" }] }))).await;
    let value = dropped.json();
    assert_eq!(value["spec"]["ports"].as_array().unwrap().len(), 1, "{value}");
    assert_eq!(value["spec"]["type"], "ClusterIP");
}

#[tokio::test]
async fn applying_again_changes_nothing() {
    let app = App::new().await;
    let config = web(json!({ "ports": [{ "port": 80 }], "selector": { "app": "web" } }));
    let first = apply(&app, "?fieldManager=one", &config).await;
    let revision = app.store.revision();
    let again = apply(&app, "?fieldManager=one&force=true", &config).await;
    assert_eq!((again.code.as_u16(), again.text()), (200, first.text()));
    assert_eq!(app.store.revision(), revision);
    // A second owner of the same values changes managedFields, and only them.
    let shared = apply(&app, "?fieldManager=two", &config).await;
    assert_eq!(managers(&shared.json()).lines().count(), 2);
    assert_eq!(app.store.revision(), revision + 1);
    // A dry run shows what would be, and leaves it.
    let config = web(json!({ "ports": [{ "port": 80 }], "sessionAffinity": "ClientIP" }));
    let tried = apply(&app, "?fieldManager=two&dryRun=All", &config).await;
    assert_eq!(tried.json()["spec"]["sessionAffinity"], "ClientIP", "{}", tried.text());
    assert_eq!(app.store.revision(), revision + 1);
}

#[tokio::test]
async fn applies_that_cannot_be() {
    let app = App::new().await;
    let good = web(json!({ "ports": [{ "port": 80 }] }));
    let with = |field: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(field).unwrap() = value;
        config
    };
    let mut lines = Vec::new();
    for (query, config) in [
        ("", good.clone()),
        ("?fieldManager=", good.clone()),
        ("?fieldManager=a%0Ab", good.clone()),
        ("?fieldManager=a", json!([])),
        ("?fieldManager=a", json!({})),
        ("?fieldManager=a", with("/kind", "Pod".into())),
        ("?fieldManager=a", with("/apiVersion", "v2".into())),
        ("?fieldManager=a", with("/metadata", json!({ "name": "other" }))),
        ("?fieldManager=a", with("/metadata", json!({ "namespace": "other" }))),
        ("?fieldManager=a", with("/metadata", json!({ "managedFields": [] }))),
        ("?fieldManager=a", with("/metadata", json!({ "uid": "u" }))),
        ("?fieldManager=a", with("/metadata", json!({ "resourceVersion": "1" }))),
        ("?fieldManager=a", with("/spec", json!({ "selectr": {} }))),
        ("?fieldManager=a&fieldValidation=Ignore", with("/spec", json!({ "selectr": {} }))),
        ("?fieldManager=a", with("/spec", json!({ "ports": [{ "port": 80 }, { "port": 80 }] }))),
        ("?fieldManager=a", with("/spec", json!({ "ports": [{ "port": 0 }] }))),
        ("?fieldManager=a", with("/spec", json!({ "ports": "x" }))),
    ] {
        let answer = apply(&app, query, &config).await;
        lines.push(format!("{query} {config}\n    {}", answer.status()));
    }
    let path = format!("{SERVICES}/web");
    for (query, body) in [
        ("?fieldManager=a", "{"),
        ("?fieldManager=a&fieldValidation=Strict", "kind: a\nkind: b\n"),
        ("?fieldManager=a", ""),
    ] {
        let answer = app.with_body("PATCH", &format!("{path}{query}"), APPLY, body.to_owned()).await;
        lines.push(format!("{query} {body:?}\n    {}", answer.status()));
    }
    let forced = app.with_body("PATCH", &format!("{path}?force=true"), MERGE, "{}").await;
    lines.push(forced.status());
    let missing = app.with_body("PATCH", &format!("{path}/status?fieldManager=a"), APPLY, good.to_string()).await;
    lines.push(missing.status());
    app.service("web", json!({})).await;
    let stale = apply(&app, "?fieldManager=a", &with("/metadata", json!({ "resourceVersion": "1" }))).await;
    lines.push(stale.status());
    expect![[r#"
         {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        ?fieldManager= {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        ?fieldManager=a%0Ab {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "a\nb": should only contain printable characters
        ?fieldManager=a []
            400 BadRequest: error decoding YAML: a configuration is an object
        ?fieldManager=a {}
            400 BadRequest: invalid object type: /, Kind=
        ?fieldManager=a {"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: invalid object type: /v1, Kind=Pod
        ?fieldManager=a {"apiVersion":"v2","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: invalid object type: /v2, Kind=Service
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"name":"other"},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: the name of the object (other) does not match the name on the URL (web)
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"namespace":"other"},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"managedFields":[]},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: metadata.managedFields must be nil
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"uid":"u"},"spec":{"ports":[{"port":80}]}}
            409 Conflict: Operation cannot be fulfilled on services "web": uid mismatch: the provided object specified uid u, and no existing object was found
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"resourceVersion":"1"},"spec":{"ports":[{"port":80}]}}
            400 BadRequest: resourceVersion should not be set on objects to be created
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selectr":{}}}
            400 BadRequest: failed to create typed patch object (default/web; /v1, Kind=Service): .spec.selectr: field not declared in schema
        ?fieldManager=a&fieldValidation=Ignore {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selectr":{}}}
            400 BadRequest: failed to create typed patch object (default/web; /v1, Kind=Service): .spec.selectr: field not declared in schema
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80},{"port":80}]}}
            400 BadRequest: failed to create typed patch object (default/web; /v1, Kind=Service): .spec.ports: duplicate entries for key [port=80,protocol="TCP"]
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":0}]}}
            422 Invalid: Service "web" is invalid: [spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]
        ?fieldManager=a {"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":"x"}}
            400 BadRequest: failed to create typed patch object (default/web; /v1, Kind=Service): json: cannot unmarshal string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort
        ?fieldManager=a "{"
            400 BadRequest: error decoding YAML: unclosed bracket '{' at line 1, column 1
        ?fieldManager=a&fieldValidation=Strict "kind: a\nkind: b\n"
            400 BadRequest: error strict decoding YAML: duplicate field "kind"
        ?fieldManager=a ""
            400 BadRequest: error decoding YAML: a configuration is an object
        422 Invalid: PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch
        404 NotFound: services "web" not found
        409 Conflict: Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to the latest version and try again"#]].assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn yaml_is_what_the_content_type_says() {
    let app = App::new().await;
    let yaml = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels: {app: web}\nspec:\n  ports:\n  - port: 80\n    port: 81\n";
    let path = format!("{SERVICES}/web?fieldManager=a");
    let answer = app.with_body("PATCH", &path, APPLY, yaml).await;
    assert_eq!(
        (answer.code.as_u16(), answer.warnings()),
        (201, vec![r#"299 - "duplicate field \"spec.ports[0].port\"""#])
    );
    assert_eq!(answer.json()["spec"]["ports"][0]["port"], 81);
}

#[tokio::test]
async fn writes_have_managers() {
    let app = App::new().await;
    let request = App::request("POST", SERVICES)
        .header("User-Agent", "curl/8.5.0 (x)")
        .header("Content-Type", "application/json");
    let body = service("web", json!({ "app": "web" })).to_string();
    let created = app.send(request.body(body.into()).unwrap()).await;
    expect![[r#"curl Update : {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}"#]].assert_eq(&managers(&created.json()));
    let path = format!("{SERVICES}/web");
    let edited =
        app.with_body("PATCH", &format!("{path}?fieldManager=edit"), MERGE, r#"{"spec":{"type":"NodePort"}}"#).await;
    let mut value = edited.json();
    value["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "1.2.3.4" }] } });
    value["spec"]["type"] = "LoadBalancer".into();
    let balanced = app.put(&format!("{path}?fieldManager=edit"), &value).await;
    let status = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}"#;
    let answer = app.with_body("PATCH", &format!("{path}/status"), MERGE, status).await;
    assert_eq!((balanced.code.as_u16(), answer.code.as_u16()), (200, 200), "{}", answer.text());
    // The node port was given, not written; the status is its writer's alone.
    expect![[r#"
        curl Update : {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{}}}
        edit Update : {"f:spec":{"f:allocateLoadBalancerNodePorts":{},"f:externalTrafficPolicy":{},"f:type":{}}}
        unknown Update status: {"f:status":{"f:loadBalancer":{"f:ingress":{}}}}"#]].assert_eq(&managers(&answer.json()));

    // Nothing to write: nothing changes.
    let revision = app.store.revision();
    app.with_body("PATCH", &format!("{path}?fieldManager=idle"), MERGE, r#"{"spec":{"type":"LoadBalancer"}}"#).await;
    app.put(&path, &app.get(&path).await.json()).await;
    assert_eq!(app.store.revision(), revision);
}

/// What kubectl does to make what it applied on the client's side its own on the server's: it moves the fields of one
/// entry to another by a JSON patch, with the resourceVersion as a guard.
#[tokio::test]
async fn managed_fields_can_be_patched() {
    let app = App::new().await;
    let path = format!("{SERVICES}/web");
    let body = service("web", json!({ "app": "web" }));
    let created = app.post(&format!("{SERVICES}?fieldManager=kubectl-client-side-apply"), &body).await.json();
    let mut entries = created["metadata"]["managedFields"].clone();
    entries[0]["manager"] = "kubectl".into();
    entries[0]["operation"] = "Apply".into();
    let patch = |version: &Value, entries: &Value| {
        json!([
            { "op": "replace", "path": "/metadata/managedFields", "value": entries },
            { "op": "replace", "path": "/metadata/resourceVersion", "value": version },
        ])
        .to_string()
    };
    let stale = app.with_body("PATCH", &path, JSON_PATCH, patch(&"1".into(), &entries)).await;
    assert_eq!(stale.code, 409);
    let moved =
        app.with_body("PATCH", &path, JSON_PATCH, patch(&created["metadata"]["resourceVersion"], &entries)).await;
    assert!(managers(&moved.json()).starts_with("kubectl Apply : {\"f:metadata\""), "{}", moved.text());
    assert_eq!(managers(&moved.json()).lines().count(), 1);
    // Now what kubectl leaves out goes.
    let applied = apply(&app, "?fieldManager=kubectl", &web(json!({ "ports": [{ "port": 80 }] }))).await;
    assert_eq!(applied.json()["spec"].get("selector"), None, "{}", applied.text());

    // Resetting leaves none, and an apply begins anew.
    let reset = app.with_body("PATCH", &path, MERGE, r#"{"metadata":{"managedFields":[{}]}}"#).await;
    assert_eq!(managers(&reset.json()), "");
    let conflict = apply(&app, "?fieldManager=kubectl", &web(json!({ "type": "NodePort" }))).await;
    expect![[r#"409 Conflict: Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .spec.type"#]]
        .assert_eq(&conflict.status());
}

/// What the server makes for itself has no managers, until somebody applies it.
#[tokio::test]
async fn derived_objects_have_no_managers() {
    let app = App::new().await;
    app.service("web", json!({})).await;
    let slices = app.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices").await.json();
    let slice = &slices["items"][0];
    assert_eq!(managers(slice), "", "{slices}");
    let name = slice["metadata"]["name"].as_str().unwrap();
    let config = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                         "metadata": { "name": name, "labels": { "x": "y" } }, "addressType": "IPv4", "endpoints": [] });
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{name}?fieldManager=a");
    let answer = app.with_body("PATCH", &path, APPLY, config.to_string()).await;
    expect![[r#"
        a Apply : {"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:labels":{"f:x":{}}}}
        before-first-apply Update : {"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"9630c077-2ebf-4dfb-9f47-53a1768c6d89\"}":{}}},"f:ports":{}}"#]].assert_eq(&managers(&answer.json()));
}

#[tokio::test]
async fn partial_metadata_shows_managers() {
    let app = App::new().await;
    let created = app.service("web", json!({ "app": "web" })).await;
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let partial = app.get_as(&format!("{SERVICES}/web"), accept).await.json();
    assert_eq!(partial["metadata"], created["metadata"]);
    let table = app.get_as(SERVICES, "application/json;as=Table;g=meta.k8s.io;v=v1").await.json();
    assert_eq!(table["rows"][0]["object"]["metadata"], created["metadata"]);
}

/// Every kind: two managers who share it, and one who leaves.
#[tokio::test]
async fn every_kind_can_be_applied() {
    let app = App::new().await;
    let event = json!({ "kind": "Event", "regarding": { "namespace": "default", "name": "x" }, "reason": "r", "action": "a",
        "eventTime": "2024-05-01T12:00:00.000000Z", "reportingController": "c.io/d", "reportingInstance": "i", "type": "Normal" });
    let body = |resource: Resource| match resource {
        Resource::Namespaces => json!({ "kind": "Namespace" }),
        Resource::Nodes => json!({ "kind": "Node", "spec": { "podCIDRs": ["10.9.0.0/24"], "podCIDR": "10.9.0.0/24" } }),
        Resource::Pods => {
            json!({ "kind": "Pod", "spec": { "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 80 }] }] } })
        }
        Resource::Services => json!({ "kind": "Service", "spec": { "ports": [{ "port": 80 }] } }),
        Resource::Endpoints => {
            let ports = json!([{ "port": 80, "protocol": "TCP" }]);
            json!({ "kind": "Endpoints", "subsets": [{ "addresses": [{ "ip": "10.9.0.1" }], "ports": ports }] })
        }
        Resource::Events => {
            json!({ "kind": "Event", "involvedObject": { "namespace": "default", "name": "x" }, "reason": "r" })
        }
        Resource::EventsV1 => event.clone(),
        Resource::EndpointSlices => {
            json!({ "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [{ "addresses": ["10.9.0.1"] }] })
        }
        Resource::ServiceCidrs => json!({ "kind": "ServiceCIDR", "spec": { "cidrs": ["10.123.0.0/24"] } }),
        Resource::IpAddresses => {
            let parent = json!({ "resource": "services", "namespace": "default", "name": "x" });
            json!({ "kind": "IPAddress", "spec": { "parentRef": parent } })
        }
        Resource::Leases => json!({ "kind": "Lease", "spec": { "holderIdentity": "me" } }),
        Resource::ServiceAccounts => json!({ "kind": "ServiceAccount", "automountServiceAccountToken": false }),
        Resource::Roles | Resource::ClusterRoles => {
            json!({ "kind": resource.info().kind, "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] })
        }
        Resource::RoleBindings | Resource::ClusterRoleBindings => {
            let role = json!({ "apiGroup": resource.info().group, "kind": "ClusterRole", "name": "view" });
            json!({ "kind": resource.info().kind, "roleRef": role })
        }
        Resource::Secrets => json!({ "kind": "Secret", "data": { "a": "eA==" } }),
        Resource::AddressPools => json!({ "kind": "AddressPool", "spec": { "addresses": ["192.0.2.0/28"] } }),
        Resource::LoadBalancers => {
            let listener = json!({ "port": 80, "protocol": "TCP", "scheduler": "rr" });
            json!({ "kind": "LoadBalancer", "spec": { "addresses": ["192.0.2.3"], "listeners": [listener] } })
        }
        Resource::AccessLists => {
            json!({ "kind": "AccessList", "spec": { "entries": [{ "cidr": "192.0.2.0/24" }] } })
        }
        Resource::Tokens => {
            let hash = format!("sha256:{}", "0".repeat(64));
            json!({ "kind": "Token", "spec": { "purpose": "Access", "hash": hash, "user": "alice" } })
        }
    };
    for resource in Resource::ALL {
        let (info, body) = (resource.info(), body(resource));
        let kind = info.kind;
        let version = info.api_version();
        let root = if info.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
        let namespace = if info.namespaced { "/namespaces/default" } else { "" };
        let name = match resource {
            Resource::IpAddresses => "10.123.0.7",
            Resource::EventsV1 => "other-form",
            _ => "applied",
        };
        let path = |manager: &str| format!("{root}{namespace}/{}/{name}?fieldManager={manager}", info.plural);
        let mut config = body.clone();
        config["apiVersion"] = info.api_version().into();
        config["metadata"] = json!({ "name": name, "labels": { "one": "1" } });
        let created = app.with_body("PATCH", &path("one"), APPLY, config.to_string()).await;
        assert_eq!(created.code, 201, "{kind}: {}", created.text());
        assert_eq!(managers(&created.json()).lines().count(), 1, "{kind}: {}", created.text());
        let again = app.with_body("PATCH", &path("one"), APPLY, config.to_string()).await;
        assert_eq!(again.text(), created.text(), "{kind}");
        let mut other = config.clone();
        other["metadata"]["labels"] = json!({ "two": "2" });
        let shared = app.with_body("PATCH", &path("two"), APPLY, other.to_string()).await;
        assert_eq!(shared.code, 200, "{kind}: {}", shared.text());
        assert_eq!(managers(&shared.json()).lines().count(), 2, "{kind}: {}", shared.text());
        other["metadata"]["labels"] = json!({ "one": "x" });
        let conflict = app.with_body("PATCH", &path("two"), APPLY, other.to_string()).await;
        assert_eq!(
            conflict.status(),
            "409 Conflict: Apply failed with 1 conflict: conflict with \"one\": .metadata.labels.one"
        );
        config["metadata"] = json!({ "name": name });
        let left = app.with_body("PATCH", &path("one"), APPLY, config.to_string()).await;
        let labels = left.json()["metadata"]["labels"].clone();
        assert_eq!((&labels["one"], &labels["two"]), (&Value::Null, &json!("2")), "{kind}: {}", left.text());
        assert_eq!(app.get(&format!("{root}{namespace}/{}/{name}", info.plural)).await.text(), left.text());
    }
}
