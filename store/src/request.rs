//! What a client asks of the writer, and what it gets back.

use std::fmt;
use std::sync::Arc;

use model::Object;
use model::Resource;
use model::admission::Subresource;
use model::patch::PatchKind;
use serde_json::{Map, Value};

/// One request to the writer.
#[derive(Debug)]
pub struct Write {
    pub resource: Resource,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// Empty only for a create with `metadata.generateName`.
    pub name: String,
    pub verb: Verb,
    /// Who writes, for `metadata.managedFields`: the client's `fieldManager`, or its User-Agent up to the first `/`. An
    /// empty one is recorded as `unknown`.
    pub manager: String,
    /// Everything but storage: validated, allocated, answered, and undone.
    pub dry_run: bool,
}

/// Whoever has a say in a write where it is decided, between the rules of its kind and its commit: so no other write comes
/// in between what was looked at and what is changed. Must not wait for anything: every write of the store waits for it.
pub trait Guard: fmt::Debug + Send + Sync {
    /// Asked before the request is looked at, of the object as it is; None where there is none. What a refusal after this
    /// tells of the object, whoever passed here may know.
    ///
    /// # Errors
    /// With the reason, for a [`Refusal::Forbidden`](crate::Refusal::Forbidden).
    fn before(&self, old: Option<&Object>) -> Result<(), String>;

    /// Asked when it is known what the write makes of the object; of one that goes, what it was.
    ///
    /// # Errors
    /// With the reason; nothing of the write remains.
    fn after(&self, old: Option<&Object>, new: &Object, outcome: Outcome) -> Result<(), String>;
}

/// What is asked for. Objects carry `kind`, `apiVersion` and, where namespaced, `metadata.namespace`.
#[derive(Debug)]
pub enum Verb {
    Create {
        object: Value,
    },
    /// Replaces an object; `metadata.resourceVersion` and `metadata.uid`, where set, are preconditions.
    Update {
        object: Value,
        subresource: Subresource,
    },
    /// Applied to the newest state by the writer itself, so it conflicts only if it names a resourceVersion.
    Patch {
        kind: PatchKind,
        patch: Value,
        subresource: Subresource,
        /// Whether an unknown field in the result refuses the patch; otherwise it is dropped with a warning.
        strict: bool,
    },
    /// Server-side apply: what `manager` wants of the object, which is made if it is not there.
    Apply {
        /// The fields that the manager has an opinion on, with `apiVersion` and `kind`.
        config: Value,
        /// Whether fields of other managers are taken from them; otherwise a different value is a conflict.
        force: bool,
        subresource: Subresource,
    },
    Delete {
        options: DeleteOptions,
    },
    /// Says which node a Pod that has none runs on.
    Bind {
        binding: Binding,
    },
}

/// The part of `DeleteOptions` that has a meaning here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Pods only. None: the Pod's own; negative: 1 second.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of the objects that name this one as their owner. None: what its finalizers say, or that they go too.
    pub propagation: Option<Propagation>,
    pub preconditions: Preconditions,
}

/// What a deletion means for the objects that name the deleted one as their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay, and forget it.
    Orphan,
}

/// A Pod's node, as a scheduler says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Binding {
    pub node: String,
    /// Added to those of the Pod.
    pub annotations: Map<String, Value>,
    /// What must hold of the Pod.
    pub preconditions: Preconditions,
}

/// What must hold of the stored object for a delete to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// A write that is durable, or, for a dry run, would have been.
#[derive(Clone, Debug)]
pub struct Written {
    /// The new state; for `Deleted` the last one, with the revision of the deletion.
    pub object: Arc<Object>,
    pub outcome: Outcome,
    pub warnings: Vec<String>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Created,
    Updated,
    /// The object was already so: no revision, no event.
    Unchanged,
    /// Deletion has begun: the object stays until its finalizers or its grace period are done with.
    Deleting,
    Deleted,
}
