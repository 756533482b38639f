//! Creating (research B.1: names, namespaces, generated names, what the server sets).

use std::sync::Arc;

use model::admission::{Subresource, prepare_create, prepare_create_service};
use model::types::ServiceCidr;
use model::{Object, Resource, events};
use serde_json::Value;

use super::owners::Owners;
use super::stamp::{Managers, cannot_handle, edit_metadata, metadata_text};
use super::{Engine, written};
use crate::error::{Existing, Refusal};
use crate::request::{Outcome, Written};

/// How often a name is generated before giving up.
const NAME_ATTEMPTS: usize = 8;

/// What is kept of `generateName`: names have 63 characters at most, five are added.
const GENERATED_BASE: usize = 58;

impl Engine {
    pub(super) fn create(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        mut object: Value,
        owners: Owners,
    ) -> Result<Written, Refusal> {
        if metadata_text(&object, "resourceVersion").is_some_and(|version| version != "0") {
            return Err(Refusal::BadRequest("resourceVersion should not be set on objects to be created".to_owned()));
        }
        events::to_stored(resource, &mut object);
        let stored = resource.stored();
        let owners = owners.begin(stored, Subresource::None, self.now, &mut object);
        let generated = self.settle_name(resource, namespace, name, &mut object)?;
        let name = metadata_text(&object, "name").unwrap_or_default().to_owned();
        self.check_namespace(resource, namespace, &name)?;
        // A Service is read into its type on the way, and stays one.
        let (service, warnings) = if stored == Resource::Services {
            let prepared = prepare_create_service(&mut object, &self.cluster);
            prepared.map(|(service, warnings)| (Some(service), warnings))
        } else {
            prepare_create(resource, &mut object, &self.cluster).map(|warnings| (None, warnings))
        }
        .map_err(Refusal::Invalid)?;
        if let Some(existing) = self.state.get(stored, namespace, &name) {
            let existing = match (generated, existing.meta().terminating()) {
                (true, _) => Existing::Generated,
                (false, true) => Existing::Terminating,
                (false, false) => Existing::Plain,
            };
            return Err(Refusal::AlreadyExists { resource, name, existing });
        }
        let managers = owners.finish(None, &object, None);
        let object = match service {
            Some(mut service) => {
                let info = stored.info();
                (service.kind, service.api_version) = (info.kind.to_owned(), info.api_version());
                self.stamp_new_meta(&mut service.metadata);
                self.create_service(service, managers)?
            }
            None => {
                self.stamp_new(stored, &mut object);
                self.put_new(stored, object, managers)?
            }
        };
        Ok(written(object, Outcome::Created, warnings))
    }

    fn put_new(&mut self, resource: Resource, value: Value, managers: Managers) -> Result<Arc<Object>, Refusal> {
        match resource {
            Resource::ServiceCidrs => {
                let cidr: ServiceCidr = serde_json::from_value(value).map_err(|e| cannot_handle(resource, &e))?;
                self.create_cidr(cidr, managers)
            }
            Resource::Nodes => self.create_node(value, &managers),
            Resource::AddressPools => self.create_pool(value, &managers),
            Resource::LoadBalancers => self.create_balancer(value, &managers),
            _ => self.put_managed(resource, value, managers.of_new()),
        }
    }

    /// Puts name and namespace into the metadata; true if the name was generated. An object with neither `name` nor
    /// `generateName` is left without, for validation to name the field.
    fn settle_name(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        object: &mut Value,
    ) -> Result<bool, Refusal> {
        let base: Option<String> =
            metadata_text(object, "generateName").map(|base| base.chars().take(GENERATED_BASE).collect());
        let asked = if name.is_empty() { metadata_text(object, "name").unwrap_or_default() } else { name }.to_owned();
        let (name, generated) = match base {
            Some(base) if asked.is_empty() => (self.generate(resource, namespace, &base), true),
            _ => (asked, false),
        };
        edit_metadata(object, |metadata| {
            if !name.is_empty() {
                metadata.insert("name".to_owned(), name.into());
            }
            if resource.info().namespaced {
                metadata.insert("namespace".to_owned(), namespace.into());
            } else {
                metadata.remove("namespace");
            }
        });
        Ok(generated)
    }

    /// A name that is free, or, after some attempts, one that is not.
    fn generate(&mut self, resource: Resource, namespace: &str, base: &str) -> String {
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS {
            name = format!("{base}{}", self.chance.suffix());
            if self.state.get(resource.stored(), namespace, &name).is_none() {
                break;
            }
        }
        name
    }
}
