//! The roles and bindings that are stored, ready to be asked.
//!
//! Strict rather than soon: an answer is never older than the newest change of a role or a binding that this server has shown
//! to anybody. So what `kubectl create rolebinding` was told is done holds for the very next request, and what was deleted holds
//! for none. Each question compares four revisions; when one has moved, everything is put together anew from what was read
//! before, and only what has changed is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use access::rbac::{Binding, ObjectError, Policy, Role};
use model::{Key, Object, Resource, Revision};
use store::Store;

/// The kinds that a policy is made of.
const KINDS: [Resource; 4] =
    [Resource::Roles, Resource::RoleBindings, Resource::ClusterRoles, Resource::ClusterRoleBindings];

/// The policy of a store, as it is now.
pub struct Policies {
    store: Store,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    revisions: Option<[Revision; 4]>,
    policy: Arc<Policy>,
    roles: Read<Role>,
    bindings: Read<Binding>,
}

/// What was read of objects, by resource and key, with the revision of each.
struct Read<T>(HashMap<(Resource, Key), (Revision, Arc<T>)>);

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Default> Read<T> {
    /// What this object says. One that cannot be read allows nothing; validation lets none in.
    fn of(&mut self, object: &Object, read: impl FnOnce() -> Result<T, ObjectError>) -> Arc<T> {
        let key = (object.resource, object.key.clone());
        if let Some((revision, known)) = self.0.get(&key)
            && *revision == object.revision
        {
            return Arc::clone(known);
        }
        let value = Arc::new(read().unwrap_or_else(|error| {
            tracing::warn!(resource = %object.resource, name = &*object.key.name, %error, "this object allows nothing");
            T::default()
        }));
        self.0.insert(key, (object.revision, Arc::clone(&value)));
        value
    }
}

impl Policies {
    pub fn new(store: Store) -> Self {
        Self { store, known: RwLock::default() }
    }

    /// What holds now.
    pub fn now(&self) -> Arc<Policy> {
        let revisions = KINDS.map(|kind| self.store.last_change(kind));
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.revisions == Some(revisions) {
                return Arc::clone(&known.policy);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been here meanwhile, with newer revisions perhaps.
        if known.revisions.is_none_or(|of| of.iter().zip(&revisions).any(|(known, now)| known < now)) {
            known.renew(&self.store);
        }
        Arc::clone(&known.policy)
    }
}

impl Known {
    /// Puts the policy together anew. Revisions are looked at first: what comes in between is read twice and missed never.
    fn renew(&mut self, store: &Store) {
        self.revisions = Some(KINDS.map(|kind| store.last_change(kind)));
        let mut policy = Policy::default();
        let (mut roles, mut bindings) = (Read::default(), Read::default());
        std::mem::swap(&mut roles, &mut self.roles);
        std::mem::swap(&mut bindings, &mut self.bindings);
        let mut seen = 0;
        for kind in KINDS {
            let (_, objects) = store.list(kind, None);
            seen += objects.len();
            for object in objects {
                let (namespace, name) = (&*object.key.namespace, &*object.key.name);
                match kind {
                    Resource::Roles => {
                        policy.add_role(namespace, name, roles.of(&object, || Role::read(&object.bytes)));
                    }
                    Resource::ClusterRoles => {
                        policy.add_cluster_role(name, roles.of(&object, || Role::read(&object.bytes)));
                    }
                    _ => {
                        let binding = bindings.of(&object, || Binding::read(namespace, &object.bytes));
                        match kind {
                            Resource::RoleBindings => policy.add_binding(namespace, name, &binding),
                            _ => policy.add_cluster_binding(name, &binding),
                        }
                    }
                }
            }
        }
        // What is gone is forgotten when it is as much as what is there.
        if roles.0.len() + bindings.0.len() > 2 * seen + 16 {
            let there = |(resource, key): &(Resource, Key)| store.get(*resource, &key.namespace, &key.name).is_some();
            roles.0.retain(|key, _| there(key));
            bindings.0.retain(|key, _| there(key));
        }
        self.roles = roles;
        self.bindings = bindings;
        self.policy = Arc::new(policy);
    }
}
