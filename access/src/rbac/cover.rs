//! Whether what somebody may do covers what a role would allow: nobody gives away more than they have (component-helpers
//! `auth/rbac/validation`).
//!
//! The rules of a role are taken apart into single wishes (one verb, one group, one resource, one name), and each must be
//! covered by one rule of the owner's. There may be very many of them in a small object, so they are counted first.

use super::rule::{ALL, PolicyRule, has, path_matches};

/// Single wishes that a role may consist of for somebody whose rules must cover it. Kubernetes' `admin` has some 1,500.
const WISHES_MOST: usize = 20_000;

/// Comparisons of a wish with a rule that one answer may cost.
const COMPARISONS_MOST: usize = 2_000_000;

/// Why a role is not covered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoverError {
    #[error("too many permissions in one role to compare them with yours: at most {WISHES_MOST} combinations")]
    TooMany,
    /// The first few that the owner does not have.
    #[error("{}", sentence(.0))]
    Missing(Vec<PolicyRule>),
}

/// Missing wishes that an answer names.
const NAMED_MOST: usize = 8;

fn sentence(missing: &[PolicyRule]) -> String {
    let rules: Vec<String> = missing.iter().map(|rule| serde_json::to_string(rule).unwrap_or_default()).collect();
    format!("attempting to grant RBAC permissions not currently held: {}", rules.join(", "))
}

/// Whether the owner's rules cover every wish of the others.
///
/// # Errors
/// With what is missing, or where there is more than can be compared.
pub fn covers(owner: &[&PolicyRule], rules: &[PolicyRule]) -> Result<(), CoverError> {
    let wishes = rules.iter().try_fold(0usize, |sum, rule| sum.checked_add(count(rule)?)).ok_or(CoverError::TooMany)?;
    if wishes > WISHES_MOST {
        return Err(CoverError::TooMany);
    }
    // Who has everything is asked without taking anything apart.
    if wishes.saturating_mul(owner.len()) > COMPARISONS_MOST {
        return Err(CoverError::TooMany);
    }
    let mut missing = Vec::new();
    for rule in rules {
        for_each_wish(rule, &mut |wish| {
            if missing.len() < NAMED_MOST && !owner.iter().any(|own| wish.is_covered_by(own)) {
                missing.push(wish.rule());
            }
        });
    }
    if missing.is_empty() { Ok(()) } else { Err(CoverError::Missing(missing)) }
}

/// One verb for one resource, one name of it, or one path.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Resource { verb: &'a str, group: &'a str, resource: &'a str, name: Option<&'a str> },
    Path { verb: &'a str, path: &'a str },
}

fn count(rule: &PolicyRule) -> Option<usize> {
    let names = rule.resource_names.len().max(1);
    let objects = rule.api_groups.len().checked_mul(rule.resources.len())?.checked_mul(names)?;
    objects.checked_add(rule.non_resource_urls.len())?.checked_mul(rule.verbs.len())
}

fn for_each_wish<'a>(rule: &'a PolicyRule, each: &mut impl FnMut(Wish<'a>)) {
    for verb in &rule.verbs {
        for path in &rule.non_resource_urls {
            each(Wish::Path { verb, path });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                if rule.resource_names.is_empty() {
                    each(Wish::Resource { verb, group, resource, name: None });
                }
                for name in &rule.resource_names {
                    each(Wish::Resource { verb, group, resource, name: Some(name) });
                }
            }
        }
    }
}

impl Wish<'_> {
    fn is_covered_by(&self, own: &PolicyRule) -> bool {
        match *self {
            Self::Path { verb, path } => {
                has(&own.verbs, verb) && own.non_resource_urls.iter().any(|pattern| path_covers(pattern, path))
            }
            Self::Resource { verb, group, resource, name } => {
                has(&own.verbs, verb)
                    && has(&own.api_groups, group)
                    && own.resources.iter().any(|pattern| resource_covers(pattern, resource))
                    && (own.resource_names.is_empty()
                        || name.is_some_and(|name| own.resource_names.iter().any(|own| own == name)))
            }
        }
    }

    fn rule(&self) -> PolicyRule {
        match *self {
            Self::Path { verb, path } => PolicyRule {
                verbs: vec![verb.to_owned()],
                non_resource_urls: vec![path.to_owned()],
                ..PolicyRule::default()
            },
            Self::Resource { verb, group, resource, name } => PolicyRule {
                verbs: vec![verb.to_owned()],
                api_groups: vec![group.to_owned()],
                resources: vec![resource.to_owned()],
                resource_names: name.map(str::to_owned).into_iter().collect(),
                ..PolicyRule::default()
            },
        }
    }
}

/// `*` covers all, `*/status` the status of all.
fn resource_covers(pattern: &str, resource: &str) -> bool {
    pattern == ALL
        || pattern == resource
        || matches!((pattern.split_once('/'), resource.split_once('/')), (Some((ALL, own)), Some((_, sub))) if own == sub)
}

/// A pattern covers a path, and a narrower pattern.
fn path_covers(pattern: &str, path: &str) -> bool {
    path_matches(pattern, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(owner: &[PolicyRule], rules: &[PolicyRule]) -> bool {
        covers(&owner.iter().collect::<Vec<_>>(), rules).is_ok()
    }

    fn named(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
        rule.resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        rule
    }

    #[test]
    fn what_covers_what() {
        let rule = PolicyRule::of;
        for (owner, wanted, expected) in [
            (vec![rule("get list", "", "pods services")], rule("get", "", "pods"), true),
            (vec![rule("get", "", "pods"), rule("list", "", "pods")], rule("get list", "", "pods"), true),
            (vec![rule("get", "", "pods")], rule("get list", "", "pods"), false),
            (vec![rule("*", "*", "*")], rule("escalate", "x", "y/z"), true),
            (vec![rule("get", "", "pods")], rule("*", "", "pods"), false),
            (vec![rule("get", "", "*")], rule("get", "", "pods/status"), true),
            (vec![rule("get", "", "*/status")], rule("get", "", "pods/status"), true),
            (vec![rule("get", "", "*/status")], rule("get", "", "pods"), false),
            (vec![rule("get", "", "pods")], rule("get", "", "pods/status"), false),
            (vec![rule("get", "", "pods")], rule("get", "*", "pods"), false),
            (vec![named(rule("get", "", "pods"), &["a"])], rule("get", "", "pods"), false),
            (vec![named(rule("get", "", "pods"), &["a", "b"])], named(rule("get", "", "pods"), &["a"]), true),
            (vec![rule("get", "", "pods")], named(rule("get", "", "pods"), &["a"]), true),
            (vec![PolicyRule::of_paths("get", "/api/*")], PolicyRule::of_paths("get", "/api/x /api/y/*"), true),
            (vec![PolicyRule::of_paths("get", "/api/*")], PolicyRule::of_paths("get", "*"), false),
            (vec![], rule("get", "", "pods"), false),
        ] {
            assert_eq!(covered(&owner, std::slice::from_ref(&wanted)), expected, "{owner:?} / {wanted:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let owner = PolicyRule::of("get", "", "pods");
        let error = covers(&[&owner], &[PolicyRule::of("get delete", "", "pods")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "attempting to grant RBAC permissions not currently held: \
             {\"verbs\":[\"delete\"],\"apiGroups\":[\"\"],\"resources\":[\"pods\"]}"
        );
    }

    #[test]
    fn a_role_of_a_million_wishes_is_not_taken_apart() {
        let many: Vec<String> = (0..1000).map(|n| format!("r{n}")).collect();
        let rule = PolicyRule {
            verbs: many.clone(),
            api_groups: many.clone(),
            resources: many.clone(),
            resource_names: many,
            ..PolicyRule::default()
        };
        assert_eq!(covers(&[], &[rule]), Err(CoverError::TooMany));
    }
}
