//! Who owns what after sequences of writes, as Kubernetes' own tests of structured-merge-diff and managedfields have it.

mod applies;
mod properties;
mod sets;
mod updates;

use serde_json::{Map, Value, json};

use super::*;
use crate::resource::Resource;

/// One object and its managers, written to without admission.
pub(super) struct Lab {
    resource: Resource,
    pub(super) live: Option<Value>,
    pub(super) stored: Option<String>,
    seconds: i64,
}

impl Lab {
    pub(super) fn new(resource: Resource) -> Self {
        Self { resource, live: None, stored: None, seconds: 0 }
    }

    pub(super) fn services() -> Self {
        Self::new(Resource::Services)
    }

    pub(super) fn pods() -> Self {
        Self::new(Resource::Pods)
    }

    fn author(&mut self, manager: &str, sub: Subresource) -> Author {
        self.seconds += 1;
        Author::new(self.resource, manager.to_owned(), sub, Timestamp::from_second(self.seconds).unwrap())
    }

    /// A create or an update: what the object is afterwards.
    pub(super) fn update(&mut self, manager: &str, object: Value) -> &mut Self {
        self.update_at(manager, Subresource::None, object)
    }

    pub(super) fn update_at(&mut self, manager: &str, sub: Subresource, mut object: Value) -> &mut Self {
        let author = self.author(manager, sub);
        let tracking = Tracking::begin(self.resource, author, &mut object);
        let change = tracking.finish(self.live.as_ref(), &object, self.stored.as_deref());
        self.live = Some(object);
        self.keep(change);
        self
    }

    fn keep(&mut self, change: Change) {
        if let Change::Replaced(new) = change {
            self.stored = new.map(|text| text.get().to_owned());
        }
    }

    /// The conflict message, if it is refused.
    pub(super) fn try_apply(&mut self, manager: &str, config: Value, force: bool) -> Result<(), String> {
        let author = self.author(manager, Subresource::None);
        let config = self.whole(config);
        let applied = apply(self.resource, &author, &config, self.live.as_ref(), self.stored.as_deref(), force)
            .map_err(|error| match error {
                ApplyError::Malformed(text) => text,
                ApplyError::Conflicts(conflicts) => conflicts.to_string(),
            })?;
        if !applied.unmoved || self.live.as_ref() != Some(&applied.value) {
            self.keep(Change::Replaced(applied.managed));
        }
        self.live = Some(applied.value);
        Ok(())
    }

    pub(super) fn apply(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, false).unwrap();
        self
    }

    pub(super) fn force(&mut self, manager: &str, config: Value) -> &mut Self {
        self.try_apply(manager, config, true).unwrap();
        self
    }

    /// With `apiVersion` and `kind`.
    pub(super) fn whole(&self, mut config: Value) -> Value {
        let info = self.resource.info();
        config["apiVersion"] = info.api_version().into();
        config["kind"] = info.kind.into();
        config
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.stored.as_deref().map(|text| entry::decode(text).unwrap()).unwrap_or_default()
    }

    /// The object but for its type, and a line for each field of each manager.
    pub(super) fn show(&self) -> String {
        let mut object = self.live.clone().unwrap();
        let map = object.as_object_mut().unwrap();
        map.remove("apiVersion");
        map.remove("kind");
        let mut text = object.to_string();
        for entry in self.entries() {
            let seconds = entry.time.map_or(-1, |time| time.as_second());
            text.push_str(&format!("\n{} {:?} {} at {seconds}", entry.manager, entry.operation, entry.subresource));
            for (path, _) in entry.fields.members() {
                text.push_str(&format!("\n    {path}"));
            }
        }
        text
    }
}

/// What a set is, as paths.
pub(super) fn paths(set: &set::FieldSet) -> String {
    set.members().into_iter().map(|(path, _)| path).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_stored_object_is_split_from_its_managers() {
    let tricky = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "annotations": { "a": "\"managedFields\":[{\"x\":\"]\"}]", "managedFields": "\\" },
            "labels": { "managedFields": "x" },
            "managedFields": [{ "manager": "]\\\"}" }, { "fieldsV1": { "k:{\"a\":\"}]\"}": {} } }],
            "name": "web",
        },
        "spec": { "managedFields": [1] },
    });
    let (rest, text) = split(tricky.to_string().as_bytes()).map(|(rest, text)| (rest, text.to_owned())).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), tricky["metadata"]["managedFields"]);
    let mut without = tricky.clone();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(serde_json::from_slice::<Value>(&rest).unwrap(), without);
    let last = r#"{"metadata":{"labels":{},"managedFields":[{}]},"spec":1}"#;
    assert_eq!(split(last.as_bytes()), Some((br#"{"metadata":{"labels":{}},"spec":1}"#.to_vec(), "[{}]")));
    assert_eq!(split(br#"{"metadata":{"name":"x"}}"#), None);
    assert_eq!(split(br#"{"metadata":{"managedFields":[{"#), None, "a text that breaks off");
}

/// In no kind's text can another list of that name come before that of the metadata.
#[test]
fn metadata_comes_before_anything_that_could_be_mistaken_for_managers() {
    for resource in Resource::ALL {
        let schema = crate::schema::root(resource);
        for field in schema.fields.iter().filter(|field| field.name < "metadata") {
            let text = format!("{:?}", field.shape);
            assert!(!text.contains("Free"), "{resource}: {} is free-form", field.name);
        }
        let before: Map<String, Value> = json!({ "annotations": { "x": "y" } }).as_object().unwrap().clone();
        assert!(before.keys().all(|name| name.as_str() < "managedFields"));
    }
}
