//! `/openapi.json`: everything that is served in one OpenAPI 3.1 document, made of utoipa's types, which know what such
//! a document may hold. Unlike the documents for kubectl it has the pages, too, and may be read without a token.

mod schemas;

use model::schema::{self, Kind};
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Content, HttpMethod, InfoBuilder, LicenseBuilder, OpenApiBuilder, PathItem, RefOr, Required, Tag,
};

use super::operation::{self, Operation, Place};
use super::{COMPONENTS, operations};

const TOKEN: &str = "BearerToken";

const INTRODUCTION: &str = "Kubernetes Services for plain Linux machines. The resources are Kubernetes' own, and so are \
    their semantics: kubectl and the client libraries work unchanged.\n\n\
    Every answer but a text comes as JSON or YAML, as `Accept` says; objects, lists and what fails also as protobuf, in \
    Kubernetes' envelope. Objects and lists also come as tables \
    (`application/json;as=Table;v=v1;g=meta.k8s.io`) and reduced to their metadata \
    (`application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io`). What fails answers with a `Status`; a path that \
    does not exist with 404, a method that a path does not take with 405.";

/// The document; `version` is Portolan's own.
pub fn render(version: &str) -> Value {
    let operations = operations();
    let mut tags: Vec<&str> = operations.iter().map(|operation| operation.tag.as_str()).collect();
    tags.sort_unstable();
    tags.dedup();
    let mut paths = PathsBuilder::new();
    for operation in &operations {
        // Merges with what the path has already.
        paths = paths.path(&operation.path, PathItem::new(method(operation), spell(operation)));
    }
    let mut schemas = schema::openapi_schemas(Kind::all());
    schemas.values_mut().for_each(name_kind);
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas.iter().map(|(name, schema)| (name.as_str(), schemas::schema(schema))))
        .security_scheme(
            TOKEN,
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("The server's token: `admin.token` in its data directory."))
                    .build(),
            ),
        )
        .build();
    let info = InfoBuilder::new()
        .title("Portolan")
        .version(version)
        .description(Some(INTRODUCTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let document = OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags.into_iter().map(tag)))
        .paths(paths.build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new(TOKEN, NONE)]))
        .build();
    // The types hold text, numbers and maps with text as keys: nothing that JSON could not.
    serde_json::to_value(document).unwrap_or_default()
}

/// Says what a kind's `kind` and `apiVersion` are, so that a reader of one of several kinds can tell which one it has.
/// Kubernetes' own documents do not.
pub(super) fn name_kind(schema: &mut Value) {
    let Some(kind) = schema["x-kubernetes-group-version-kind"].get(0).cloned() else { return };
    let text = |field: &str| kind[field].as_str().unwrap_or_default().to_owned();
    let (group, version, kind) = (text("group"), text("version"), text("kind"));
    let api_version = if group.is_empty() { version } else { format!("{group}/{version}") };
    // The options come under the version of every group.
    let api_version = (kind != "DeleteOptions").then_some(api_version);
    for (field, value) in [("kind", Some(kind)), ("apiVersion", api_version)] {
        if let (Some(value), Some(property)) = (value, schema["properties"].get_mut(field)) {
            property["enum"] = json!([value]);
        }
    }
}

/// No scopes: the token is all or nothing.
const NONE: [&str; 0] = [];

fn tag(name: &str) -> Tag {
    let description = match name {
        "discovery" => "Which groups, versions and resources there are.".to_owned(),
        "documents" => "The API described, for programs and for people.".to_owned(),
        "server" => "The server about itself.".to_owned(),
        version => format!("The resources of {}.", version.replace('_', "/")),
    };
    TagBuilder::new().name(name).description(Some(description)).build()
}

/// The routes know these five methods.
fn method(operation: &Operation) -> HttpMethod {
    match operation.method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn spell(operation: &Operation) -> OperationBuilder {
    let mut responses = ResponsesBuilder::new();
    for answer in &operation.answers {
        responses = responses.response(answer.code.to_string(), response(answer));
    }
    let mut out = OperationBuilder::new()
        .operation_id(Some(&operation.id))
        .tag(&operation.tag)
        .summary(Some(&operation.description))
        .parameters(Some(operation.parameters.iter().map(parameter)))
        .responses(responses.build());
    if let Some(body) = &operation.body {
        let required = if body.required { Required::True } else { Required::False };
        let mut request = RequestBodyBuilder::new().required(Some(required));
        for one in &body.content {
            request = request.content(one.media, content(one));
        }
        out = out.request_body(Some(request.build()));
    }
    if operation.open {
        out = out.security(SecurityRequirement::default());
    }
    let mut extensions = ExtensionsBuilder::new();
    if let Some(action) = operation.action {
        extensions = extensions.add("x-kubernetes-action", action);
    }
    if let Some(kind) = operation.kind {
        extensions = extensions.add("x-kubernetes-group-version-kind", super::group_version_kind(kind));
    }
    out.extensions(Some(extensions.build()))
}

fn parameter(parameter: &operation::Parameter) -> Parameter {
    let (place, required) = match parameter.place {
        Place::Path => (ParameterIn::Path, Required::True),
        Place::Query => (ParameterIn::Query, Required::False),
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(place)
        .required(required)
        .description(Some(parameter.description))
        .schema(Some(schemas::schema(&parameter.values.schema())))
        .build()
}

fn response(answer: &operation::Answer) -> RefOr<Response> {
    let mut out = ResponseBuilder::new().description(&answer.description);
    for one in &answer.content {
        out = out.content(one.media, content(one));
    }
    RefOr::T(out.build())
}

fn content(one: &operation::Content) -> Content {
    ContentBuilder::new().schema(Some(schemas::schema(&one.schema.to_json(COMPONENTS)))).build()
}
