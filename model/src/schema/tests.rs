use std::collections::BTreeSet;

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::resource::Resource;
use crate::types::{EndpointSlice, IpAddress, Service, ServiceCidr};

fn findings(resource: Resource, value: &Value) -> String {
    let checked = check(resource, value);
    let unknown = checked.unknown.iter().map(|path| format!("unknown field \"{path}\""));
    unknown.chain(checked.mismatched).map(|line| line + "\n").collect()
}

#[test]
fn unknown_fields_have_kubernetes_paths() {
    let service = json!({
        "metadata": { "nam": "x", "labels": { "anything": "goes" }, "ownerReferences": [{ "id": 1 }] },
        "spec": { "selectr": {}, "ports": [{ "port": 80 }, { "prt": 80, "foo": 1 }] },
        "extra": true,
    });
    expect![[r#"
        unknown field "extra"
        unknown field "metadata.nam"
        unknown field "metadata.ownerReferences[0].id"
        unknown field "spec.ports[1].foo"
        unknown field "spec.ports[1].prt"
        unknown field "spec.selectr"
    "#]]
    .assert_eq(&findings(Resource::Services, &service));
    let pod = json!({ "spec": {
        "containers": [{ "name": "a", "readynessProbe": {}, "env": [{ "nme": "x" }] }],
        "volumes": [{ "configMap": { "itms": [] } }],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "x": 1 } } },
    } });
    expect![[r#"
        unknown field "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.x"
        unknown field "spec.containers[0].env[0].nme"
        unknown field "spec.containers[0].readynessProbe"
        unknown field "spec.volumes[0].configMap.itms"
    "#]]
    .assert_eq(&findings(Resource::Pods, &pod));
}

#[test]
fn mismatches_read_like_gos() {
    let service = json!({
        "metadata": { "labels": { "a": 1 }, "creationTimestamp": "yesterday", "generation": "1" },
        "spec": {
            "ports": [{ "port": "80" }, { "port": 3_000_000_000u64 }, { "port": 1.5 }, { "targetPort": true }],
            "selector": ["a"],
            "clusterIPs": "10.0.0.1",
            "publishNotReadyAddresses": "yes",
            "externalName": { "a": "b" },
            "sessionAffinityConfig": 5,
        },
    });
    expect![[r#"
        parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"
        json: cannot unmarshal string into Go struct field ObjectMeta.metadata.generation of type int64
        json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string
        json: cannot unmarshal string into Go struct field ServiceSpec.spec.clusterIPs of type []string
        json: cannot unmarshal object into Go struct field ServiceSpec.spec.externalName of type string
        json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32
        json: cannot unmarshal number 3000000000 into Go struct field ServicePort.spec.ports.port of type int32
        json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.port of type int32
        json: cannot unmarshal bool into Go value of type int32
        json: cannot unmarshal string into Go struct field ServiceSpec.spec.publishNotReadyAddresses of type bool
        json: cannot unmarshal array into Go struct field ServiceSpec.spec.selector of type map[string]string
        json: cannot unmarshal number into Go struct field ServiceSpec.spec.sessionAffinityConfig of type v1.SessionAffinityConfig
    "#]].assert_eq(&findings(Resource::Services, &service));
    expect![[r#"
        json: cannot unmarshal array into Go value of type v1.Service
    "#]]
    .assert_eq(&findings(Resource::Services, &json!([])));
    let pod = json!({ "spec": { "containers": [
        { "resources": { "limits": { "cpu": "1.5", "memory": "1Gi", "a": 1, "b": "1e3", "c": "x", "d": "1Zi", "e": "1..5", "f": true } } },
    ] } });
    expect![[r#"
        quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        unable to parse numeric part of quantity
        quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
    "#]]
    .assert_eq(&findings(Resource::Pods, &pod));
    let lease = |time: &str| findings(Resource::Leases, &json!({ "spec": { "renewTime": time } }));
    assert_eq!(lease("2024-01-01T00:00:00.000000Z"), "");
    expect![[r#"
        parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"
    "#]]
    .assert_eq(&lease("2024-01-01T00:00:00Z"));
    expect![[r#"
        parsing time "2024-13-01T00:00:00.000000Z": month out of range
    "#]]
    .assert_eq(&lease("2024-13-01T00:00:00.000000Z"));
    let mut out = String::new();
    let event = |time: &str| findings(Resource::Events, &json!({ "lastTimestamp": time }));
    for impossible in ["2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z"] {
        out.push_str(&event(impossible));
    }
    expect![[r#"
        parsing time "2024-13-01T00:00:00Z": month out of range
        parsing time "2023-02-29T00:00:00Z": day out of range
        parsing time "2024-01-01T24:00:00Z": hour out of range
        parsing time "2024-01-01T00:60:00Z": minute out of range
    "#]]
    .assert_eq(&out);
    assert_eq!(event("2024-01-01T00:00:00+02:00"), "");
    assert_eq!(event("2024-01-01T00:00:00.5Z"), "");
    expect![[r#"
        parsing time "2024-01-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T"
    "#]]
    .assert_eq(&event("2024-01-01 00:00:00Z"));
    expect![[r#"
        parsing time "2024-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"
    "#]]
    .assert_eq(&event("2024-01-01T00:00:00"));
}

#[test]
fn null_and_free_form_fit_everywhere() {
    let service = json!({ "metadata": { "labels": null, "managedFields": [{ "fieldsV1": { "f:x": { ".": {} } } }] }, "spec": null });
    assert_eq!(findings(Resource::Services, &service), "");
}

#[test]
fn findings_are_bounded() {
    let fields: Map<String, Value> = (0..1000).map(|i| (format!("f{i}"), Value::Null)).collect();
    assert_eq!(check(Resource::Pods, &Value::Object(fields)).unknown.len(), 100);
}

#[test]
fn nulls_settle_as_go_reads_them() {
    let mut service = json!({
        "metadata": { "labels": { "a": null }, "name": null },
        "spec": { "ports": [null, { "port": 80, "targetPort": null }], "clusterIPs": [null], "selector": null },
    });
    settle_nulls(Resource::Services, &mut service);
    let expected = json!({
        "metadata": { "labels": { "a": "" } },
        "spec": { "ports": [{}, { "port": 80 }], "clusterIPs": [""] },
    });
    assert_eq!(service, expected);
}

/// What Go leaves out when it is empty is left out; what must be there, and objects that say something by being there,
/// stay.
#[test]
fn one_instant_is_one_text() {
    let settled = |text: &str| {
        let mut lease = json!({ "metadata": { "creationTimestamp": text }, "spec": { "renewTime": text } });
        settle(Resource::Leases, &mut lease);
        let read = |pointer: &str| lease.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (read("/metadata/creationTimestamp"), read("/spec/renewTime"))
    };
    let noon = ("2026-01-02T12:00:05Z".to_owned(), "2026-01-02T12:00:05.678901Z".to_owned());
    assert_eq!(settled("2026-01-02T12:00:05.678901Z"), noon);
    assert_eq!(settled("2026-01-02T14:00:05.678901999+02:00"), noon);
    let whole = ("2026-01-02T12:00:05Z".to_owned(), "2026-01-02T12:00:05.000000Z".to_owned());
    assert_eq!(settled("2026-01-02T12:00:05+00:00"), whole);
    assert_eq!(settled("noon"), ("noon".to_owned(), "noon".to_owned()));
}

#[test]
fn emptiness_settles_as_go_writes_it() {
    let mut pod = json!({
        "metadata": { "labels": {}, "annotations": { "a": "" }, "finalizers": [], "managedFields": [] },
        "spec": {
            "containers": [],
            "nodeSelector": {},
            "tolerations": [],
            "securityContext": {},
            "volumes": [{ "name": "v", "emptyDir": {} }],
        },
    });
    settle(Resource::Pods, &mut pod);
    let expected = json!({
        "metadata": { "annotations": { "a": "" }, "managedFields": [] },
        "spec": { "containers": [], "securityContext": {}, "volumes": [{ "name": "v", "emptyDir": {} }] },
    });
    assert_eq!(pod, expected);
    let mut event = json!({ "involvedObject": {}, "metadata": {}, "related": {} });
    settle(Resource::Events, &mut event);
    assert_eq!(event, json!({ "involvedObject": {}, "metadata": {}, "related": {} }));
}

/// A document with every field that the schema has; lists have one item.
fn full(shape: &Shape) -> Value {
    match shape {
        Shape::String => "x".into(),
        Shape::Int32 | Shape::Int64 | Shape::IntOrString => 7.into(),
        Shape::Bool => true.into(),
        Shape::Quantity => "1".into(),
        Shape::Time => "2024-01-01T00:00:00Z".into(),
        Shape::MicroTime => "2024-01-01T00:00:00.000000Z".into(),
        Shape::Free => json!({ "f:x": {} }),
        Shape::Struct(index) => full_struct(struct_at(*index)),
        Shape::Map(values) => json!({ "key": full(values) }),
        Shape::List(items, _) => json!([full(items)]),
    }
}

fn full_struct(kind: &Struct) -> Value {
    Value::Object(kind.fields.iter().map(|field| (field.name.to_owned(), full(&field.shape))).collect())
}

/// The typed views that are written back hold every field of the schema: a document with all of them comes back
/// as it went in.
#[test]
fn no_field_is_lost_in_the_typed_views() {
    fn round<T: serde::Serialize + serde::de::DeserializeOwned>(resource: Resource) {
        let mut document = full_struct(root(resource));
        // These a view leaves to the object's bytes.
        document["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        let view: T = serde_json::from_value(document.clone()).expect("the view reads what the schema allows");
        assert_eq!(serde_json::to_value(view).expect("a view is JSON"), document, "{resource}");
    }
    round::<Service>(Resource::Services);
    round::<EndpointSlice>(Resource::EndpointSlices);
    round::<IpAddress>(Resource::IpAddresses);
    round::<ServiceCidr>(Resource::ServiceCidrs);
}

#[test]
fn a_full_document_of_each_kind_is_right() {
    for kind in Kind::all() {
        let document = full_struct(root(kind));
        assert_eq!(check(kind, &document), Checked::default(), "{kind:?}");
    }
}

#[test]
fn openapi_is_closed_and_clean() {
    let schemas = openapi_schemas(Kind::all());
    let text = serde_json::to_string(&schemas).expect("JSON");
    assert!(!text.contains("$schema") && !text.contains("int-or-string\":true"));
    let mut references = BTreeSet::new();
    for part in text.split("\"$ref\":\"").skip(1) {
        let reference = part.split('"').next().unwrap_or("");
        references.insert(reference.strip_prefix("#/components/schemas/").expect("a component").to_owned());
    }
    for reference in references {
        assert!(schemas.contains_key(&reference), "{reference} is referred to but missing");
    }
    for resource in Resource::ALL {
        assert!(schemas.contains_key(&format!("{}List", root(resource).name)));
    }
    for name in ["Status", "DeleteOptions", "WatchEvent", "Patch", "ListMeta", "ObjectMeta"] {
        assert!(schemas.contains_key(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")), "{name}");
    }
    let leases = openapi_schemas([Resource::Leases]);
    assert!(leases.contains_key("io.k8s.api.coordination.v1.Lease"));
    assert!(!leases.contains_key("io.k8s.api.core.v1.Service"));
}

#[test]
fn openapi_says_how_lists_merge() {
    let schemas = openapi_schemas([Resource::Services]);
    let ports = &schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"];
    let extensions: Map<String, Value> = ports
        .as_object()
        .expect("a schema")
        .iter()
        .filter(|(key, _)| *key != "description")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    expect![[r##"
        {
          "items": {
            "$ref": "#/components/schemas/io.k8s.api.core.v1.ServicePort"
          },
          "type": "array",
          "x-kubernetes-list-map-keys": [
            "port",
            "protocol"
          ],
          "x-kubernetes-list-type": "map",
          "x-kubernetes-patch-merge-key": "port",
          "x-kubernetes-patch-strategy": "merge"
        }"##]]
    .assert_eq(&serde_json::to_string_pretty(&extensions).expect("JSON"));
    let target = &schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(target["oneOf"], json!([{ "type": "integer" }, { "type": "string" }]));
    let service = &schemas["io.k8s.api.core.v1.Service"]["x-kubernetes-group-version-kind"];
    assert_eq!(*service, json!([{ "group": "", "version": "v1", "kind": "Service" }]));
}

/// Documents of a shape, with fields missing, unknown or of another type.
fn document(shape: Shape, depth: u32) -> BoxedStrategy<Value> {
    let right: BoxedStrategy<Value> = match shape {
        Shape::Struct(index) if depth > 0 => structure(struct_at(index), depth),
        Shape::Map(values) if depth > 0 => prop::collection::vec(document(*values, depth - 1), 0..2)
            .prop_map(|values| values.into_iter().enumerate().map(|(i, v)| (format!("k{i}"), v)).collect::<Map<_, _>>())
            .prop_map(Value::Object)
            .boxed(),
        Shape::List(items, _) if depth > 0 => {
            prop::collection::vec(document(*items, depth - 1), 0..3).prop_map(Value::Array).boxed()
        }
        Shape::Struct(_) | Shape::Map(_) => Just(json!({})).boxed(),
        Shape::List(..) => Just(json!([])).boxed(),
        scalar => Just(full(&scalar)).boxed(),
    };
    prop_oneof![12 => right, 1 => Just(Value::Null), 1 => Just(json!("y")), 1 => Just(json!({ "unknown": [1] }))]
        .boxed()
}

fn structure(kind: &'static Struct, depth: u32) -> BoxedStrategy<Value> {
    let indices: Vec<usize> = (0..kind.fields.len()).collect();
    let some = prop::sample::subsequence(indices, 0..=kind.fields.len().min(4));
    (some, any::<bool>())
        .prop_flat_map(move |(some, unknown)| {
            let names: Vec<&str> = some.iter().map(|i| kind.fields[*i].name).collect();
            let values: Vec<_> = some.iter().map(|i| document(kind.fields[*i].shape, depth - 1)).collect();
            values.prop_map(move |values| {
                let mut object: Map<String, Value> = names.iter().map(|n| (*n).to_owned()).zip(values).collect();
                if unknown {
                    object.insert("unknown".into(), json!({ "a": null }));
                }
                Value::Object(object)
            })
        })
        .boxed()
}

/// A random document of a random kind, right in parts.
pub(crate) fn any_document() -> impl Strategy<Value = (Resource, Value)> {
    prop::sample::select(Resource::ALL.to_vec())
        .prop_flat_map(|resource| (Just(resource), structure(root(resource), 6)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn check_accepts_what_prune_leaves((resource, mut value) in any_document()) {
        let before = check(resource, &value);
        prune(resource, &mut value);
        let after = check(resource, &value);
        prop_assert!(after.unknown.is_empty());
        prop_assert_eq!(before.mismatched, after.mismatched);
        let mut again = value.clone();
        prune(resource, &mut again);
        prop_assert_eq!(again, value);
    }

    #[test]
    fn settling_nulls_changes_no_finding((resource, mut value) in any_document()) {
        let before = check(resource, &value).mismatched;
        settle(resource, &mut value);
        prop_assert_eq!(&check(resource, &value).mismatched, &before);
        let mut again = value.clone();
        settle(resource, &mut again);
        prop_assert_eq!(again, value);
    }
}
