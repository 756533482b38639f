//! Server-side apply: the configuration is merged into the newest state, and what comes of it goes the way of an update.

use model::admission::Subresource;
use model::managed_fields::{self, Applied, ApplyError, Author};
use model::{Resource, events};
use serde_json::Value;

use super::Engine;
use super::owners::Owners;
use super::stamp::{broken, metadata_text};
use super::update::Current;
use crate::error::Refusal;
use crate::request::Written;

impl Engine {
    /// Applies `config`; an object that is not there is made, but not through a subresource.
    pub(super) fn apply_config(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        mut config: Value,
        force: bool,
        author: &Author,
    ) -> Result<Written, Refusal> {
        let subresource = author.subresource();
        // Merged and owned is what is stored.
        let stored = resource.stored();
        if stored != resource {
            managed_fields::check(resource, &config).map_err(refused)?;
            events::to_stored(resource, &mut config);
        }
        let Some(old) = self.state.get(stored, namespace, name).cloned() else {
            let name = name.to_owned();
            if subresource != Subresource::None {
                return Err(Refusal::NotFound { resource, name });
            }
            if let Some(uid) = metadata_text(&config, "uid") {
                let detail =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Refusal::Conflict { resource, name, detail });
            }
            let applied = managed_fields::apply(stored, author, &config, None, None, force).map_err(refused)?;
            let (value, owners) = split(applied);
            return self.create(resource, namespace, &name, value, owners);
        };
        let (value, managers) = old.value_and_managers().map_err(broken)?;
        let applied = managed_fields::apply(stored, author, &config, Some(&value), managers, force).map_err(refused)?;
        let (new, owners) = split(applied);
        self.replace(resource, Current { old: &old, value: &value, managers }, new, subresource, owners)
    }
}

fn split(applied: Applied) -> (Value, Owners) {
    let Applied { value, managed, unmoved } = applied;
    (value, Owners::Applied { managed, unmoved })
}

fn refused(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Malformed(text) => Refusal::BadRequest(text),
        ApplyError::Conflicts(conflicts) => Refusal::ApplyConflicts(conflicts),
    }
}
