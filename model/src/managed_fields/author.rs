//! Which fields a write may own at all.

use std::sync::LazyLock;

use crate::admission::Subresource;
use crate::resource::Resource;
use crate::schema;

use super::element;
use super::set::FieldSet;

/// What the server writes into every object, and clients only repeat. Source: apimachinery `managedfields/stripmeta.go`.
const METADATA_OF_THE_SERVER: [&str; 8] =
    ["creationTimestamp", "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid"];

/// The fields that nobody owns.
pub(super) fn untracked() -> &'static FieldSet {
    static UNTRACKED: LazyLock<FieldSet> = LazyLock::new(|| {
        let mut set = FieldSet::default();
        for name in ["apiVersion", "kind", "metadata"] {
            set.insert(&[element::field(name)]);
        }
        for name in METADATA_OF_THE_SERVER {
            set.insert(&[element::field("metadata"), element::field(name)]);
        }
        set
    });
    &UNTRACKED
}

/// The fields that a write by this path leaves as they are, whatever it says of them; with all that is below them. Source:
/// `GetResetFields` of each kind's strategy.
pub(super) fn not_written(resource: Resource, sub: Subresource) -> FieldSet {
    let mut set = FieldSet::default();
    match sub {
        Subresource::None | Subresource::Finalize => {
            if resource.info().status {
                set.insert(&[element::field("status")]);
            }
        }
        Subresource::Status => {
            let written = ["apiVersion", "kind", "metadata", "status"];
            for field in schema::root(resource).fields.iter().filter(|field| !written.contains(&field.name)) {
                set.insert(&[element::field(field.name)]);
            }
        }
    }
    set
}

/// How `managedFields` names the path of a write.
pub(super) fn subresource_name(sub: Subresource) -> &'static str {
    match sub {
        Subresource::None => "",
        Subresource::Finalize => "finalize",
        Subresource::Status => "status",
    }
}

/// Fields that admission fills in where a client leaves them out, and that nobody owns then: Kubernetes allots them after
/// it has noted who owns what. Defaults are noted before, and so are the writer's.
pub(super) fn allotted(resource: Resource) -> &'static [[&'static str; 2]] {
    match resource {
        Resource::Services => {
            &[["spec", "clusterIP"], ["spec", "clusterIPs"], ["spec", "ipFamilies"], ["spec", "ipFamilyPolicy"]]
        }
        Resource::Namespaces => &[["spec", "finalizers"]],
        _ => &[],
    }
}
