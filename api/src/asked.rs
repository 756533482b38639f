//! What a request asks for, by its method, path and query alone (apiserver `pkg/endpoints/request/requestinfo.go`).
//!
//! Before routing, and for every path alike: what is asked for must be known to those who say no before any handler is there
//! (a fair share, an audit log), and a route that is added tomorrow is refused to everybody until a rule names it. Segments are
//! cut before escapes are resolved, as the router does, so the two never disagree on what stands at which place; a test holds
//! each route against what is read here.

use access::{Attributes, Item};
use http::Method;
use model::Resource;
use model::selector::FieldSelector;

use crate::query::Query;

/// A wish; what does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, …; for a path that is no resource's the method in lower case.
    pub verb: &'static str,
    /// As it was sent.
    pub path: String,
    pub is_resource: bool,
    /// Empty for core.
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// What a list or watch is restricted to by its field selector: of Pods the node, of Secrets the type.
    pub selected: Option<String>,
}

/// Under a namespace these are its own subresources, and no collections.
const OF_NAMESPACE: [&str; 2] = ["finalize", "status"];

/// The field that somebody may be restricted to in a collection of this resource.
pub fn restricting(resource: Resource) -> Option<&'static str> {
    match resource {
        Resource::Pods => Some("spec.nodeName"),
        Resource::Secrets => Some("type"),
        _ => None,
    }
}

impl Asked {
    /// Reads a request.
    pub fn read(method: &Method, path: &str, query: &Query) -> Self {
        Self::resource(method, path, query).unwrap_or_else(|| Self {
            verb: lower(method),
            path: path.to_owned(),
            ..Self::default()
        })
    }

    /// A path under `/api/v1/` or `/apis/GROUP/VERSION/`; None for others, and for escapes that are no UTF-8.
    fn resource(method: &Method, path: &str, query: &Query) -> Option<Self> {
        let mut rest = path.trim_matches('/').split('/');
        let (group, version) = match rest.next()? {
            "api" => ("", rest.next()?),
            "apis" => (rest.next()?, rest.next()?),
            _ => return None,
        };
        let parts: Vec<String> = rest.map(unescape).collect::<Option<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (namespace, parts) = match parts.as_slice() {
            ["namespaces", namespace, inner, ..] if !OF_NAMESPACE.contains(inner) => (*namespace, &parts[2..]),
            ["namespaces", namespace, ..] => (*namespace, &parts[..]),
            other => ("", other),
        };
        let at = |index: usize| parts.get(index).copied().unwrap_or("");
        let (resource, name, subresource) = (at(0), at(1), at(2));
        if resource.is_empty() {
            return None;
        }
        let mut info = Self {
            verb: verb(method, name, query),
            path: path.to_owned(),
            is_resource: true,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            selected: None,
        };
        if name.is_empty() {
            info.read_selector(query);
        }
        Some(info)
    }

    /// A selector may narrow a collection down to one name, or to one node.
    fn read_selector(&mut self, query: &Query) {
        if !matches!(self.verb, "list" | "watch" | "deletecollection") {
            return;
        }
        let Some(text) = query.text("fieldSelector") else { return };
        let Some(resource) = self.known() else { return };
        let Ok(selector) = FieldSelector::parse(resource, text) else { return };
        self.name = selector.exact("metadata.name").unwrap_or("").to_owned();
        if let Some(field) = restricting(resource) {
            self.selected = selector.exact(field).map(str::to_owned);
        }
    }

    /// The namespace that a list is of; None over all namespaces.
    pub fn within(&self) -> Option<&str> {
        Some(&*self.namespace).filter(|namespace| !namespace.is_empty())
    }

    /// The resource of the model whose collection or object this is.
    pub fn known(&self) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| {
            let info = resource.info();
            info.plural == self.resource && info.group == self.group
        })
    }

    /// The wish as rules are asked about it.
    pub fn attributes(&self) -> Attributes<'_> {
        if !self.is_resource {
            return Attributes::path(self.verb, &self.path);
        }
        let Self { group, resource, subresource, namespace, name, .. } = self;
        Attributes::resource(self.verb, Item { group, resource, subresource, namespace, name })
    }
}

fn verb(method: &Method, name: &str, query: &Query) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" if !name.is_empty() => "get",
        "GET" | "HEAD" if query.flag("watch") => "watch",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        _ => "",
    }
}

fn lower(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

/// A segment with its escapes resolved, as the router does it; None where it is no UTF-8 then.
fn unescape(segment: &str) -> Option<String> {
    let Some(_) = segment.find('%') else { return Some(segment.to_owned()) };
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
