//! The objects that every client goes through, one row of `kinds.json` per served kind.
//!
//! The list is a test's own and repeats the server's on purpose; [`KINDS`]' test compares it with discovery, so that a
//! kind which is added to the server cannot be forgotten here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::{Value, json};

/// One served kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    pub api_version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// Whether a whole collection can be deleted at once; Namespaces cannot.
    #[serde(default = "yes")]
    pub deletecollection: bool,
    /// Whether client libraries have a type for it; they have none for Portolan's own.
    #[serde(default = "yes")]
    pub typed: bool,
    /// The names of the three objects.
    pub names: [String; 3],
    /// Everything but `apiVersion`, `kind` and `metadata`; `$NAME` and `$I` stand for the name and its number.
    object: Value,
    /// A merge patch of the kind's own.
    pub merge: Value,
    /// What is written to the status subresource, for kinds that have one.
    pub status: Option<Value>,
}

fn yes() -> bool {
    true
}

/// Where the list is, for scripts.
pub fn path() -> PathBuf {
    crate::home().join("kinds.json")
}

pub fn all() -> Vec<Kind> {
    serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
}

impl Kind {
    /// The `i`th object as it is sent.
    pub fn object(&self, i: usize) -> Value {
        let name = &self.names[i];
        let text = self.object.to_string().replace("$NAME", name).replace("$I", &i.to_string());
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["apiVersion"] = json!(self.api_version);
        object["kind"] = json!(self.kind);
        object["metadata"] = json!({"name": name, "labels": {"suite": "kinds"}});
        if self.namespaced {
            object["metadata"]["namespace"] = json!("default");
        }
        object
    }

    /// What kube-rs wants to know to speak of it.
    pub fn api_resource(&self) -> ApiResource {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &self.kind), &self.plural)
    }

    /// `services` or `leases.coordination.k8s.io`: how kubectl is told of it.
    pub fn argument(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.plural),
            None => self.plural.clone(),
        }
    }
}

/// What every client must have done and said so, as `Kind verb`; `typed`: one that knows the kinds by types of its own.
pub fn checklist(verbs: &[&str], typed: bool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for kind in all().into_iter().filter(|kind| kind.typed || !typed) {
        for verb in verbs {
            let applies = match *verb {
                "status" => kind.status.is_some(),
                "deletecollection" => kind.deletecollection,
                _ => true,
            };
            if applies {
                lines.insert(format!("{} {} {verb}", kind.api_version, kind.kind));
            }
        }
    }
    lines
}
