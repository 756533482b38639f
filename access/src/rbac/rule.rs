//! One rule of a role, and what it allows (`pkg/apis/rbac/v1/evaluation_helpers.go`).

use serde::{Deserialize, Serialize};

use crate::attributes::{Attributes, Item, What};

/// What stands for everything.
pub const ALL: &str = "*";

/// A rule. Verbs are allowed for resources, or for paths, never for both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/status`, `*/status`, `*`.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Empty: whatever their names.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// `/healthz`, `/metrics/*`.
    #[serde(rename = "nonResourceURLs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Go writes null for a list that is none.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl PolicyRule {
    /// A rule for resources of one group, written as in a table: words apart by blanks.
    pub fn of(verbs: &str, group: &str, resources: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { verbs: words(verbs), api_groups: vec![group.to_owned()], resources: words(resources), ..Self::default() }
    }

    /// A rule for paths.
    pub fn of_paths(verbs: &str, paths: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { verbs: words(verbs), non_resource_urls: words(paths), ..Self::default() }
    }

    /// Whether the rule allows this.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        has(&self.verbs, attributes.verb)
            && match attributes.what {
                What::Path(path) => self.non_resource_urls.iter().any(|pattern| path_matches(pattern, path)),
                What::Resource(item) => has(&self.api_groups, item.group) && self.names(&item),
            }
    }

    fn names(&self, item: &Item<'_>) -> bool {
        self.resources.iter().any(|pattern| resource_matches(pattern, item))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == item.name))
    }
}

/// Whether a list has a word, or stands for all.
pub fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|own| own == ALL || own == word)
}

/// `*`, `pods`, `pods/status`, or `*/status`. The star alone has the subresources too, a resource has not.
fn resource_matches(pattern: &str, item: &Item<'_>) -> bool {
    if pattern == ALL {
        return true;
    }
    match pattern.split_once('/') {
        None => item.subresource.is_empty() && pattern == item.resource,
        Some((resource, subresource)) => {
            !item.subresource.is_empty()
                && subresource == item.subresource
                && (resource == ALL || resource == item.resource)
        }
    }
}

/// A star may stand at the end of a path, for whatever follows.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix(ALL).is_some_and(|begin| path.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<'a>(group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> Item<'a> {
        Item { group, resource, subresource, namespace: "shop", name }
    }

    #[test]
    fn resources_and_their_subresources() {
        for (resources, resource, subresource, allowed) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/status", "pods", "status", true),
            ("pods/status", "pods", "", false),
            ("*/status", "pods", "status", true),
            ("*/status", "pods", "", false),
            ("*/status", "pods", "binding", false),
            ("*", "pods", "status", true),
            ("pods/*", "pods", "status", false),
            ("services", "pods", "", false),
        ] {
            let rule = PolicyRule::of("get", "", resources);
            let wish = Attributes::resource("get", item("", resource, subresource, "x"));
            assert_eq!(rule.allows(&wish), allowed, "{resources}: {resource}/{subresource}");
        }
    }

    #[test]
    fn verbs_groups_and_names() {
        let rule =
            PolicyRule { resource_names: vec!["web".to_owned()], ..PolicyRule::of("get update", "apps", "sets") };
        let allows = |verb, group, name| rule.allows(&Attributes::resource(verb, item(group, "sets", "", name)));
        assert!(allows("get", "apps", "web") && allows("update", "apps", "web"));
        assert!(!allows("delete", "apps", "web") && !allows("get", "", "web") && !allows("get", "apps", "db"));
        assert!(!allows("get", "apps", ""), "a list is of no name");
        let all = PolicyRule::of("*", "*", "*");
        assert!(all.allows(&Attributes::resource("whatever", item("x.y", "z", "status", ""))));
        assert!(!all.allows(&Attributes::path("get", "/metrics")), "a rule for resources is none for paths");
    }

    #[test]
    fn paths() {
        let rule = PolicyRule::of_paths("get", "/healthz /metrics/* /api*");
        for (path, allowed) in [
            ("/healthz", true),
            ("/healthz/x", false),
            ("/metrics", false),
            ("/metrics/cadvisor", true),
            ("/api", true),
            ("/apis/x", true),
            ("/", false),
        ] {
            assert_eq!(rule.allows(&Attributes::path("get", path)), allowed, "{path}");
            assert!(!rule.allows(&Attributes::path("post", path)));
        }
        assert!(PolicyRule::of_paths("*", "*").allows(&Attributes::path("put", "/anything")));
        assert!(!rule.allows(&Attributes::resource("get", item("", "pods", "", ""))));
    }

    #[test]
    fn null_is_an_empty_list() {
        let rule: PolicyRule =
            serde_json::from_str(r#"{"verbs":["get"],"apiGroups":null,"nonResourceURLs":["/x"]}"#).unwrap();
        assert_eq!(rule, PolicyRule::of_paths("get", "/x"));
    }
}
