//! Roles and bindings that every cluster has, and roles that gather their rules from others.
//!
//! What the server is started with (`Config::standing`) is made at the start where it is missing. Of what is there, only what is
//! missing is put back, as Kubernetes' bootstrap does: rules, subjects, labels, annotations; and nothing, where the object says
//! `autoupdate: "false"`. Everything that somebody has added stays.
//!
//! A ClusterRole with an `aggregationRule` has the rules of the ClusterRoles that its selectors match. They are derived in the
//! transaction of whatever changes them (Kubernetes' `clusterrole_aggregation_controller` comes by later): a role that is
//! labelled counts for the next request.

use std::sync::Arc;

use model::selector::LabelSelector;
use model::{Object, Resource};
use serde_json::Value;

use super::Engine;
use super::owners::Owners;
use super::stamp::broken;
use crate::error::Refusal;

/// Whether missing parts are put back.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Roles that gather from roles that gather: as often as this; Kubernetes' own go two deep.
const DEPTH_MOST: usize = 8;

impl Engine {
    /// Makes what is missing. What fails is logged: a cluster without a role is better than none.
    pub(crate) fn keep_standing(&mut self, standing: &[Value]) {
        for object in standing {
            let mark = self.state.mark();
            if let Err(error) = self.keep_one(object) {
                self.state.undo(mark);
                let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
                tracing::warn!(%kind, %name, %error, "what every cluster has could not be made");
            }
        }
        let mark = self.state.mark();
        if let Err(error) = self.gather_roles() {
            self.state.undo(mark);
            tracing::warn!(%error, "the rules of roles could not be gathered");
        }
    }

    fn keep_one(&mut self, wanted: &Value) -> Result<(), Refusal> {
        let text = |field: &str| wanted[field].as_str().unwrap_or("");
        let name = wanted["metadata"]["name"].as_str().unwrap_or("");
        let resource = Resource::find_kind(text("apiVersion"), text("kind"))
            .ok_or_else(|| Refusal::BadRequest(format!("there is no kind {}", text("kind"))))?;
        let Some(stored) = self.state.get(resource, "", name).cloned() else {
            return self.create(resource, "", name, wanted.clone(), Owners::Nobody).map(drop);
        };
        let mut value = stored.value().map_err(broken)?;
        if value["metadata"]["annotations"][AUTO_UPDATE] == "false" {
            return Ok(());
        }
        let before = value.clone();
        mend(&mut value, wanted);
        if value != before {
            self.put(resource, value, Some(&stored))?;
        }
        Ok(())
    }

    /// Gives each role that gathers its rules what the roles have now that it gathers from.
    pub(super) fn gather_roles(&mut self) -> Result<(), Refusal> {
        for _ in 0..DEPTH_MOST {
            let mut changed = false;
            let roles: Vec<Arc<Object>> = self.state.shelf(Resource::ClusterRoles).all().cloned().collect();
            for role in roles.iter().filter(|role| gathers(role)) {
                let mut value = role.value().map_err(broken)?;
                let rules = gathered(&value, role, &roles).map_err(broken)?;
                if value["rules"].as_array().map_or(&[][..], Vec::as_slice) == rules {
                    continue;
                }
                value["rules"] = rules.into();
                self.put(Resource::ClusterRoles, value, Some(role))?;
                changed = true;
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }
}

/// Puts back what is missing in `value`.
fn mend(value: &mut Value, wanted: &Value) {
    for field in ["labels", "annotations"] {
        for (key, text) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if value["metadata"][field].get(key).is_none() {
                value["metadata"][field][key.as_str()] = text.clone();
            }
        }
    }
    if wanted["aggregationRule"].is_object() {
        if value["aggregationRule"].is_null() {
            value["aggregationRule"] = wanted["aggregationRule"].clone();
        }
        return;
    }
    for field in ["rules", "subjects"] {
        let Some(wanted) = wanted[field].as_array() else { continue };
        let has = value[field].as_array().cloned().unwrap_or_default();
        let missing: Vec<Value> = wanted.iter().filter(|one| !has.contains(one)).cloned().collect();
        if !missing.is_empty() {
            value[field] = has.into_iter().chain(missing).collect();
        }
    }
}

/// Whether a role may have an `aggregationRule`, told without reading it whole.
fn gathers(role: &Object) -> bool {
    const FIELD: &[u8] = b"\"aggregationRule\"";
    role.bytes.windows(FIELD.len()).any(|part| part == FIELD)
}

/// The rules of every other role that a selector matches, in the order of names, each rule once.
fn gathered(value: &Value, role: &Object, roles: &[Arc<Object>]) -> Result<Vec<Value>, model::DecodeError> {
    let Some(selectors) = value["aggregationRule"]["clusterRoleSelectors"].as_array() else {
        return Ok(value["rules"].as_array().cloned().unwrap_or_default());
    };
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors.iter().filter_map(read_selector) {
        for other in roles.iter().filter(|other| other.key != role.key && selector.matches(other.labels())) {
            for rule in other.value()?["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Ok(rules)
}

/// A `LabelSelector` as an object, in the words of one as a text. One that cannot be read matches nothing; validation lets none
/// in. An empty one matches everything, as everywhere.
pub(super) fn read_selector(selector: &Value) -> Option<LabelSelector> {
    let mut terms = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str()?));
    }
    for requirement in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = requirement["key"].as_str()?;
        let values = || -> Option<String> {
            let values = requirement["values"].as_array()?;
            Some(values.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join(","))
        };
        terms.push(match requirement["operator"].as_str()? {
            "In" => format!("{key} in ({})", values()?),
            "NotIn" => format!("{key} notin ({})", values()?),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    LabelSelector::parse(&terms.join(",")).ok()
}

#[cfg(test)]
mod tests;
