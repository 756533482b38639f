//! What is read of stored roles and bindings.

use serde::Deserialize;

use super::rule::PolicyRule;
use crate::user::service_account_name;

/// The bytes are no role or binding; never for what the schema's check has let in.
#[derive(Debug, thiserror::Error)]
#[error("reading a role or a binding")]
pub struct ObjectError(#[from] serde_json::Error);

/// A Role or a ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub rules: Vec<PolicyRule>,
    /// Whether its rules are gathered from others.
    pub aggregated: bool,
}

/// A RoleBinding or a ClusterRoleBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

/// Which role is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    pub kind: String,
    pub name: String,
}

/// Whom it is bound to. ServiceAccounts are users by the name that their tokens give them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    User(String),
    Group(String),
}

impl Role {
    /// Reads the JSON of a role.
    ///
    /// # Errors
    /// Where a field has another type.
    pub fn read(bytes: &[u8]) -> Result<Self, ObjectError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            #[serde(default)]
            rules: Option<Vec<PolicyRule>>,
            #[serde(default)]
            aggregation_rule: Option<serde::de::IgnoredAny>,
        }
        let wire: Wire = serde_json::from_slice(bytes)?;
        Ok(Self { rules: wire.rules.unwrap_or_default(), aggregated: wire.aggregation_rule.is_some() })
    }
}

impl Binding {
    /// Reads the JSON of a binding; `namespace` is the binding's, for ServiceAccounts that name none. Subjects of unknown
    /// kinds are nobody.
    ///
    /// # Errors
    /// Where a field has another type.
    pub fn read(namespace: &str, bytes: &[u8]) -> Result<Self, ObjectError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            role_ref: RoleRef,
            #[serde(default)]
            subjects: Option<Vec<WireSubject>>,
        }
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct WireSubject {
            kind: String,
            name: String,
            namespace: Option<String>,
        }
        let wire: Wire = serde_json::from_slice(bytes)?;
        let subject = |subject: WireSubject| match subject.kind.as_str() {
            "User" => Some(Subject::User(subject.name)),
            "Group" => Some(Subject::Group(subject.name)),
            "ServiceAccount" => {
                let own = subject.namespace.filter(|own| !own.is_empty()).unwrap_or_else(|| namespace.to_owned());
                Some(Subject::User(service_account_name(&own, &subject.name)))
            }
            _ => None,
        };
        Ok(Self {
            role: wire.role_ref,
            subjects: wire.subjects.unwrap_or_default().into_iter().filter_map(subject).collect(),
        })
    }
}
