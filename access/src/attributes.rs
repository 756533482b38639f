//! What a request wants to do, in the words that rules are written in.

use std::fmt;

/// One wish: a verb, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for a path the method in lower
    /// case.
    pub verb: &'a str,
    pub what: What<'a>,
}

/// What a verb is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    Resource(Item<'a>),
    /// A path that is no resource's: `/metrics`.
    Path(&'a str),
}

/// A resource, or one of its objects; what does not apply is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item<'a> {
    /// Empty for core.
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: &'a str,
    /// Empty for a collection.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn resource(verb: &'a str, item: Item<'a>) -> Self {
        Self { verb, what: What::Resource(item) }
    }

    pub fn path(verb: &'a str, path: &'a str) -> Self {
        Self { verb, what: What::Path(path) }
    }

    /// The namespace that it is about; empty where it is about none, or all.
    pub fn namespace(&self) -> &'a str {
        match self.what {
            What::Resource(item) => item.namespace,
            What::Path(_) => "",
        }
    }
}

impl Item<'_> {
    /// `pods`, `pods/status`.
    pub fn qualified(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// As Kubernetes ends its sentence `User "alice" cannot …` (apiserver `pkg/endpoints/handlers/responsewriters`).
impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.verb;
        match self.what {
            What::Path(path) => write!(f, "{verb} path {path:?}"),
            What::Resource(item) => {
                write!(f, "{verb} resource {:?} in API group {:?}", item.qualified(), item.group)?;
                if item.namespace.is_empty() {
                    f.write_str(" at the cluster scope")
                } else {
                    write!(f, " in the namespace {:?}", item.namespace)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_said_in_kubernetes_words() {
        let item = Item { resource: "pods", subresource: "status", namespace: "shop", ..Item::default() };
        assert_eq!(
            Attributes::resource("patch", item).to_string(),
            "patch resource \"pods/status\" in API group \"\" in the namespace \"shop\""
        );
        let item = Item { group: "rbac.authorization.k8s.io", resource: "clusterroles", ..Item::default() };
        assert_eq!(
            Attributes::resource("list", item).to_string(),
            "list resource \"clusterroles\" in API group \"rbac.authorization.k8s.io\" at the cluster scope"
        );
        assert_eq!(Attributes::path("get", "/metrics").to_string(), "get path \"/metrics\"");
    }
}
