//! An operation as every document tells it: what stands here is spelled by [`super::v3`], [`super::v2`] and
//! [`super::whole`], each in its own dialect.

use http::Method;
use model::schema::Kind;
use serde_json::{Value, json};

/// One method on one path.
#[derive(Debug)]
pub struct Operation {
    /// Unique in all documents, and the name of the method in a generated client.
    pub id: String,
    pub method: Method,
    pub path: String,
    pub tag: String,
    pub description: String,
    /// Those of the path come first.
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
    /// `x-kubernetes-action`.
    pub action: Option<&'static str>,
    /// `x-kubernetes-group-version-kind`.
    pub kind: Option<Kind>,
    /// Whether it asks for no token.
    pub open: bool,
}

#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub values: Values,
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
        }
    }
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    Text,
    /// A segment of a path is never empty.
    Segment,
    Flag,
    /// At least this.
    Integer(i64),
    OneOf(&'static [&'static str]),
}

impl Values {
    /// The schema; the three dialects agree on as much.
    pub fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Segment => json!({ "type": "string", "minLength": 1 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Integer(least) => json!({ "type": "integer", "format": "int64", "minimum": least }),
            Self::OneOf(values) => json!({ "type": "string", "enum": values }),
        }
    }
}

#[derive(Debug)]
pub struct Body {
    pub required: bool,
    pub content: Vec<Content>,
}

/// One status code.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub description: String,
    pub content: Vec<Content>,
}

/// One content type of a body.
#[derive(Clone, Debug)]
pub struct Content {
    pub media: &'static str,
    pub schema: Schema,
}

#[derive(Clone, Debug)]
pub enum Schema {
    /// A component by its name.
    Named(String),
    /// A small schema of its own.
    Inline(Value),
}

impl Schema {
    /// As JSON, with references under this prefix.
    pub fn to_json(&self, prefix: &str) -> Value {
        match self {
            Self::Named(name) => json!({ "$ref": format!("{prefix}{name}") }),
            Self::Inline(value) => value.clone(),
        }
    }

    pub fn text() -> Self {
        Self::Inline(json!({ "type": "string" }))
    }
}

/// The same schema in several content types.
pub fn content(media: &[&'static str], schema: &Schema) -> Vec<Content> {
    media.iter().map(|media| Content { media, schema: schema.clone() }).collect()
}

/// A type of `meta/v1`.
pub fn machinery(name: &str) -> Schema {
    Schema::Named(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
}
