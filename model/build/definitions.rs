//! The definitions: the closure of the served kinds, with lists of each kind and the types of the machinery.

use k8s_openapi::api::{authentication, authorization, coordination, core, discovery, events, networking, rbac};
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::apimachinery::pkg::runtime;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::lists::{self, ListType};
use crate::own;
use crate::resource::Resource;
use crate::review::Review;

type Error = Box<dyn std::error::Error>;

/// Where references point in an OpenAPI 3 document.
pub const REFERENCE: &str = "#/components/schemas/";

/// What is posted to `…/pods/{name}/binding`, and never stored.
pub const BINDING: &str = "io.k8s.api.core.v1.Binding";

/// What is posted to `…/serviceaccounts/{name}/token`, and never stored.
pub const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";

/// Every definition by its name (`io.k8s.api.core.v1.Service`).
pub fn definitions() -> Result<Map<String, Value>, Error> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut kinds = Vec::new();
    for resource in Resource::ALL {
        let reference = reference_to_kind(&mut generator, resource);
        kinds.push((resource, name_of(&reference)?));
    }
    let mut reviews = Vec::new();
    for review in Review::ALL {
        reviews.push((review, name_of(&reference_to_review(&mut generator, review))?));
    }
    for machinery in [
        generator.subschema_for::<core::v1::Binding>(),
        generator.subschema_for::<authentication::v1::TokenRequest>(),
        generator.subschema_for::<meta::v1::DeleteOptions>(),
        generator.subschema_for::<meta::v1::Status>(),
        generator.subschema_for::<meta::v1::ListMeta>(),
        generator.subschema_for::<meta::v1::Patch>(),
        generator.subschema_for::<runtime::RawExtension>(),
    ] {
        drop(machinery); // What counts is that the generator has met it.
    }
    let mut definitions = generator.take_definitions(true);
    for schema in definitions.values_mut() {
        spell_as_openapi(schema);
    }
    definitions.extend(own::definitions()?);
    for (resource, name) in &kinds {
        let info = resource.info();
        let kinds = json!([{ "group": info.group, "version": info.version, "kind": info.kind }]);
        definition(&mut definitions, name)?.insert("x-kubernetes-group-version-kind".into(), kinds);
        definitions.insert(format!("{name}List"), list_of(*resource, name));
    }
    for (review, name) in &reviews {
        let info = review.info();
        let kinds = json!([{ "group": info.group, "version": info.version, "kind": info.kind }]);
        definition(&mut definitions, name)?.insert("x-kubernetes-group-version-kind".into(), kinds);
    }
    definitions.insert("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent".into(), watch_event());
    for name in ["Status", "DeleteOptions"] {
        let kinds = json!([{ "group": "", "version": "v1", "kind": name }]);
        definition(&mut definitions, &format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))?
            .insert("x-kubernetes-group-version-kind".into(), kinds);
    }
    for (name, group, kind) in [(BINDING, "", "Binding"), (TOKEN_REQUEST, "authentication.k8s.io", "TokenRequest")] {
        let kinds = json!([{ "group": group, "version": "v1", "kind": kind }]);
        definition(&mut definitions, name)?.insert("x-kubernetes-group-version-kind".into(), kinds);
    }
    mark_lists(&mut definitions)?;
    mark_atomic_maps(&mut definitions)?;
    mark_key_defaults(&mut definitions)?;
    Ok(definitions)
}

/// A match, so that a kind added to the table does not compile before it is described here.
fn reference_to_kind(generator: &mut SchemaGenerator, resource: Resource) -> String {
    let schema = match resource {
        Resource::Namespaces => generator.subschema_for::<core::v1::Namespace>(),
        Resource::Nodes => generator.subschema_for::<core::v1::Node>(),
        Resource::Pods => generator.subschema_for::<core::v1::Pod>(),
        Resource::Services => generator.subschema_for::<core::v1::Service>(),
        Resource::Endpoints => generator.subschema_for::<core::v1::Endpoints>(),
        Resource::Events => generator.subschema_for::<core::v1::Event>(),
        Resource::EndpointSlices => generator.subschema_for::<discovery::v1::EndpointSlice>(),
        Resource::ServiceCidrs => generator.subschema_for::<networking::v1::ServiceCIDR>(),
        Resource::IpAddresses => generator.subschema_for::<networking::v1::IPAddress>(),
        Resource::Leases => generator.subschema_for::<coordination::v1::Lease>(),
        Resource::EventsV1 => generator.subschema_for::<events::v1::Event>(),
        Resource::ServiceAccounts => generator.subschema_for::<core::v1::ServiceAccount>(),
        Resource::Roles => generator.subschema_for::<rbac::v1::Role>(),
        Resource::RoleBindings => generator.subschema_for::<rbac::v1::RoleBinding>(),
        Resource::ClusterRoles => generator.subschema_for::<rbac::v1::ClusterRole>(),
        Resource::ClusterRoleBindings => generator.subschema_for::<rbac::v1::ClusterRoleBinding>(),
        Resource::Tokens => return own::reference("Token"),
        Resource::AddressPools => return own::reference("AddressPool"),
        Resource::LoadBalancers => return own::reference("LoadBalancer"),
        Resource::AccessLists => return own::reference("AccessList"),
        Resource::Secrets => generator.subschema_for::<core::v1::Secret>(),
    };
    schema.get("$ref").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// As [`reference_to_kind`], for what is not stored.
fn reference_to_review(generator: &mut SchemaGenerator, review: Review) -> String {
    let schema = match review {
        Review::SelfSubject => generator.subschema_for::<authentication::v1::SelfSubjectReview>(),
        Review::LocalSubjectAccess => generator.subschema_for::<authorization::v1::LocalSubjectAccessReview>(),
        Review::SelfSubjectAccess => generator.subschema_for::<authorization::v1::SelfSubjectAccessReview>(),
        Review::SelfSubjectRules => generator.subschema_for::<authorization::v1::SelfSubjectRulesReview>(),
        Review::SubjectAccess => generator.subschema_for::<authorization::v1::SubjectAccessReview>(),
    };
    schema.get("$ref").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn name_of(reference: &str) -> Result<String, Error> {
    let name = reference.strip_prefix(REFERENCE).ok_or_else(|| format!("not a reference: {reference}"))?;
    Ok(name.to_owned())
}

fn definition<'a>(definitions: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>, Error> {
    definitions.get_mut(name).and_then(Value::as_object_mut).ok_or_else(|| format!("no definition {name}").into())
}

/// Turns what is said in the dialect of custom resources into what Kubernetes publishes for its own types: a
/// union of types is a `oneOf`, and a property with a reference keeps its description beside an `allOf`.
fn spell_as_openapi(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("$schema");
            if object.remove("x-kubernetes-int-or-string").is_some() {
                let quantity =
                    object.get("description").and_then(Value::as_str).is_some_and(|d| d.starts_with("Quantity"));
                if quantity {
                    object.insert("oneOf".into(), json!([{ "type": "string" }, { "type": "number" }]));
                } else {
                    object.insert("format".into(), "int-or-string".into());
                    object.insert("oneOf".into(), json!([{ "type": "integer" }, { "type": "string" }]));
                }
            }
            if object.len() > 1
                && let Some(reference) = object.remove("$ref")
            {
                object.insert("allOf".into(), json!([{ "$ref": reference }]));
            }
            object.values_mut().for_each(spell_as_openapi);
        }
        Value::Array(items) => items.iter_mut().for_each(spell_as_openapi),
        _ => {}
    }
}

fn list_of(resource: Resource, item: &str) -> Value {
    let info = resource.info();
    json!({
        "description": format!("{}List is a list of {}.", info.kind, info.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {
                "description": "Version of this representation, `v1` or `GROUP/v1`.",
                "type": "string",
            },
            "items": {
                "description": "The items, ordered by namespace and name.",
                "type": "array",
                "items": { "$ref": format!("{REFERENCE}{item}") },
            },
            "kind": {
                "description": format!("`{}List`.", info.kind),
                "type": "string",
            },
            "metadata": {
                "description": "The revision that the list shows, and how to go on from it.",
                "allOf": [{ "$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") }],
            },
        },
        "x-kubernetes-group-version-kind": [
            { "group": info.group, "version": info.version, "kind": format!("{}List", info.kind) },
        ],
    })
}

fn watch_event() -> Value {
    json!({
        "description": "One line of a watch.",
        "type": "object",
        "required": ["type", "object"],
        "properties": {
            "object": {
                "description": "The object after the change; after DELETED its last state; for ERROR a Status.",
                "allOf": [{ "$ref": format!("{REFERENCE}io.k8s.apimachinery.pkg.runtime.RawExtension") }],
            },
            "type": {
                "description": "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.",
                "type": "string",
            },
        },
        "x-kubernetes-group-version-kind": [{ "group": "", "version": "v1", "kind": "WatchEvent" }],
    })
}

/// Whether `short` (`core.v1.PodSpec`) is the end of the definition's name.
pub fn is_named(name: &str, short: &str) -> bool {
    name.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'))
}

/// Writes `x-kubernetes-list-*` and `x-kubernetes-patch-*` on every list, and fails when the table has a hole or
/// a row too many.
fn mark_lists(definitions: &mut Map<String, Value>) -> Result<(), Error> {
    let mut missing = Vec::new();
    let mut used = vec![false; lists::LISTS.len()];
    for (name, schema) in definitions.iter_mut() {
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { continue };
        for (property, schema) in properties.iter_mut() {
            let Some(schema) = schema.as_object_mut().filter(|s| s.get("type") == Some(&json!("array"))) else {
                continue;
            };
            let plain_list = property == "items" && name.ends_with("List");
            let row = lists::LISTS.iter().position(|row| is_named(name, row.definition) && property == row.property);
            match row {
                _ if plain_list => {}
                Some(row) => {
                    used[row] = true;
                    mark_list(schema, &lists::LISTS[row]);
                }
                None => missing.push(format!("{name}.{property}")),
            }
        }
    }
    let idle: Vec<_> = lists::LISTS.iter().zip(&used).filter(|(_, used)| !**used).map(|(row, _)| row).collect();
    if missing.is_empty() && idle.is_empty() {
        return Ok(());
    }
    Err(format!("build/lists.rs: lists without a row: {missing:#?}; rows without a list: {idle:#?}").into())
}

fn mark_list(schema: &mut Map<String, Value>, row: &lists::Row) {
    match row.list_type {
        ListType::Atomic => {
            schema.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        ListType::Set => {
            schema.insert("x-kubernetes-list-type".into(), "set".into());
        }
        ListType::Map(keys) => {
            schema.insert("x-kubernetes-list-type".into(), "map".into());
            schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
        }
    }
    if let Some(strategy) = row.patch.strategy() {
        schema.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    if let Some(key) = row.patch.key() {
        schema.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
}

fn mark_atomic_maps(definitions: &mut Map<String, Value>) -> Result<(), Error> {
    for (name, property) in lists::ATOMIC_MAPS {
        let name = definitions
            .keys()
            .find(|key| is_named(key, name))
            .cloned()
            .ok_or_else(|| format!("build/lists.rs: no definition {name}"))?;
        let mut target = definition(definitions, &name)?;
        if let Some(property) = property {
            target = target
                .get_mut("properties")
                .and_then(|p| p.get_mut(property))
                .and_then(Value::as_object_mut)
                .ok_or_else(|| format!("build/lists.rs: no property {name}.{property}"))?;
        }
        target.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    Ok(())
}

fn mark_key_defaults(definitions: &mut Map<String, Value>) -> Result<(), Error> {
    for (name, property, default) in lists::KEY_DEFAULTS {
        let full = definitions.keys().find(|key| is_named(key, name)).cloned().unwrap_or_default();
        definition(definitions, &full)?
            .get_mut("properties")
            .and_then(|p| p.get_mut(property))
            .and_then(Value::as_object_mut)
            .ok_or_else(|| format!("build/lists.rs: no property {name}.{property}"))?
            .insert("default".into(), (*default).into());
    }
    Ok(())
}
