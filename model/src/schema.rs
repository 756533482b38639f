//! What the served kinds look like: one schema, as data, behind unknown-field checks, merge keys and `explain`.
//!
//! The build script makes it from Kubernetes' own definitions (see `build.rs`). Two artifacts come of it:
//! Rust statics without descriptions, which the checks and merges walk (they lie in the binary's read-only
//! pages, so they take no heap and no time at start), and the OpenAPI text, which is parsed when somebody asks.
//!
//! Rejected: decoding into generated Rust types. They take four times as long to compile, silently drop
//! unknown fields, and name a wrong field by line and column where Kubernetes names its path.

mod check;
mod kind;
mod normalise;
mod openapi;
mod scalar;
#[cfg(test)]
pub(crate) mod tests;

pub use check::{Checked, check};
pub use kind::Kind;
pub use normalise::{prune, settle, settle_nulls};
pub use openapi::openapi_schemas;
pub use scalar::json_kind;

/// An object with known fields, such as `io.k8s.api.core.v1.ServiceSpec`.
#[derive(Debug)]
pub(crate) struct Struct {
    pub name: &'static str,
    /// Whether server-side apply takes it as one value.
    pub atomic: bool,
    /// Sorted by name.
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    /// Whether server-side apply takes the object in it as one value.
    pub atomic: bool,
    /// Whether Kubernetes' own types always have it, be it empty.
    pub always: bool,
    /// Whether an empty list or map here is another thing than none.
    pub keeps_empty: bool,
}

/// What a value may be. `null` may stand for any of them: it reads as unset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    String,
    Int32,
    Int64,
    Bool,
    IntOrString,
    /// `500m`, `1Gi`, or a number.
    Quantity,
    /// RFC 3339.
    Time,
    /// RFC 3339 with six digits of a second.
    MicroTime,
    /// Anything: `FieldsV1` and `RawExtension`.
    Free,
    /// The index in `STRUCTS`.
    Struct(u16),
    /// String keys, values of one shape.
    Map(&'static Shape),
    List(&'static Shape, ListRules),
}

/// How a list merges. Both columns come from one row of `build/lists.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListRules {
    pub patch: Merge,
    pub apply: ListType,
}

/// What server-side apply takes a list for: `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ListType {
    /// One value.
    Atomic,
    /// Scalars, each an item of its own.
    Set,
    /// Objects, told apart by these keys.
    Map(&'static [ListKey]),
}

/// A key that items of a list are known by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListKey {
    pub name: &'static str,
    /// What it is for an item that leaves it out.
    pub default: Option<&'static str>,
}

/// What a strategic merge patch does with a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Merge {
    /// The patch's list is the new list.
    Replace,
    /// What the patch's list has is added.
    Union,
    /// Items that agree in this key are one item.
    Key(&'static str),
}

include!(concat!(env!("OUT_DIR"), "/structs.rs"));

/// The struct of a served kind.
pub(crate) fn root(kind: impl Into<Kind>) -> &'static Struct {
    kind.into().root()
}

/// The struct behind a `Shape::Struct`.
pub(crate) fn struct_at(index: u16) -> &'static Struct {
    &STRUCTS[usize::from(index)]
}

impl Struct {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// `ServiceSpec`.
    fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// `v1.ServiceSpec`: how Go names the type.
    fn go_name(&self) -> &'static str {
        self.name.rmatch_indices('.').nth(1).map_or(self.name, |(at, _)| &self.name[at + 1..])
    }
}
