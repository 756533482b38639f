//! An object store as plain as can be: a map, a history, and Kubernetes' rules of who may write what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::{Answer, Client, Deletion, Issued, Seen};
use crate::script::{Applier, Content, JsonOp, Key, Kind, Op, Selector};

/// An object, as far as the model looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub tier: Option<String>,
    /// The labels that one applier each writes.
    pub applied: [Option<String>; 2],
    pub value: Option<String>,
    /// Sorted.
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

/// Who owns a field: somebody who applied it, or a client that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Applier(Applier),
    Client(usize),
}

#[derive(Clone, Debug, PartialEq)]
struct Object {
    seen: Seen,
    /// Who has applied anything to it; the first time is a change even where no value is.
    appliers: BTreeSet<Applier>,
    /// The owners of a Lease's holder.
    holder: BTreeSet<Owner>,
}

/// One change. Together they are what a watcher may see.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: Key,
    pub before: Option<View>,
    /// None when the object went.
    pub after: Option<View>,
    pub revision: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Plain {
    objects: BTreeMap<Key, Object>,
    pub history: Vec<Event>,
    /// The highest revision that was seen.
    revision: u64,
    /// The revisions of this round's deletions, each to be taken by one of them.
    pub deletions: BTreeMap<Key, VecDeque<Deletion>>,
}

type Fit = Result<(), String>;

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Fit {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

fn refused(answer: &Answer, code: u16, reason: &str) -> Fit {
    expect("refusal", (answer.code, answer.reason.as_str()), (code, reason))
}

impl Plain {
    pub async fn new(client: &Client) -> Self {
        for kind in crate::script::KINDS {
            assert!(client.list(kind).await.objects.is_empty());
        }
        Self::default()
    }

    pub fn revision_of(&self, key: Key) -> Option<u64> {
        self.objects.get(&key).map(|object| object.seen.revision)
    }

    /// What a list or the beginning of a watch shows, in its order.
    pub fn select(&self, kind: Kind, namespace: Option<&str>, selector: Selector) -> Vec<(Key, Seen)> {
        (self.objects.iter())
            .filter(|(key, _)| key.kind == kind && namespace.is_none_or(|namespace| key.namespace == namespace))
            .filter(|(_, object)| selector.matches(object.seen.view.tier.as_deref()))
            .map(|(key, object)| (*key, object.seen.clone()))
            .collect()
    }

    /// Does what the operation says; an error when the answer is another than this store would give now.
    pub fn follow(&mut self, issued: &Issued, answer: &Answer) -> Fit {
        match &issued.op {
            Op::Create(key, content) => {
                if self.objects.contains_key(key) {
                    return refused(answer, 409, "AlreadyExists");
                }
                self.created(*key, content, issued.who, answer)
            }
            Op::Update(key, content, _) => self.update(*key, content, issued, answer),
            Op::Merge { key, tier, value, finalizers, .. } => {
                let Some(old) = self.objects.get(key).cloned() else { return refused(answer, 404, "NotFound") };
                if issued.revision.is_some_and(|revision| revision != old.seen.revision) {
                    return refused(answer, 409, "Conflict");
                }
                let mut new = old.clone();
                set(&mut new.seen.view.tier, tier);
                set(&mut new.seen.view.value, value);
                if let Some(finalizers) = finalizers {
                    new.seen.view.finalizers = texts(finalizers);
                }
                self.wrote(*key, &old, new, issued, answer)
            }
            Op::Strategic { key, tier, add, remove } => {
                let Some(old) = self.objects.get(key).cloned() else { return refused(answer, 404, "NotFound") };
                let mut new = old.clone();
                set(&mut new.seen.view.tier, tier);
                let finalizers = &mut new.seen.view.finalizers;
                finalizers.retain(|finalizer| !remove.contains(&finalizer.as_str()));
                finalizers.extend(texts(add));
                finalizers.sort();
                finalizers.dedup();
                self.wrote(*key, &old, new, issued, answer)
            }
            Op::Json(key, ops) => {
                let Some(old) = self.objects.get(key).cloned() else { return refused(answer, 404, "NotFound") };
                let mut new = old.clone();
                for op in ops {
                    let tier = &mut new.seen.view.tier;
                    match op {
                        JsonOp::Test(value) if tier.as_deref() == Some(value) => {}
                        JsonOp::Add(value) => *tier = Some((*value).to_owned()),
                        JsonOp::Replace(value) if tier.is_some() => *tier = Some((*value).to_owned()),
                        JsonOp::Remove if tier.is_some() => *tier = None,
                        JsonOp::Test(_) | JsonOp::Replace(_) | JsonOp::Remove => {
                            return refused(answer, 422, "Invalid");
                        }
                    }
                }
                self.wrote(*key, &old, new, issued, answer)
            }
            Op::Apply { key, by, label, holder, force } => self.apply(*key, *by, *label, *holder, *force, answer),
            Op::Delete(key, _) => {
                let Some(old) = self.objects.get(key) else { return refused(answer, 404, "NotFound") };
                if issued.revision.is_some_and(|revision| revision != old.seen.revision) {
                    return refused(answer, 409, "Conflict");
                }
                expect("code of a delete", answer.code, 200)?;
                self.deleted(*key, answer.objects.first().map(|(_, seen)| seen))
            }
            Op::Get(key) => match self.objects.get(key) {
                None => refused(answer, 404, "NotFound"),
                Some(object) => expect("a read", &answer.objects, &vec![(*key, object.seen.clone())]),
            },
            Op::List { kind, namespace, selector } => {
                expect("a list", &answer.objects, &self.select(*kind, *namespace, *selector))
            }
        }
    }

    /// Deletes each object that is selected, in order; nothing else may be sent at the time.
    pub fn delete_collection(
        &mut self,
        kind: Kind,
        namespace: &str,
        tier: Option<&'static str>,
        answer: &Answer,
    ) -> Fit {
        expect("code of a deletecollection", answer.code, 200)?;
        let selected = self.select(kind, Some(namespace), tier.map_or(Selector::All, Selector::Is));
        let keys: Vec<Key> = selected.iter().map(|(key, _)| *key).collect();
        expect("what was deleted", answer.objects.iter().map(|(key, _)| *key).collect(), keys.clone())?;
        keys.into_iter().zip(&answer.objects).try_for_each(|(key, (_, seen))| self.deleted(key, Some(seen)))
    }

    fn created(&mut self, key: Key, content: &Content, who: usize, answer: &Answer) -> Fit {
        let view = View {
            tier: content.tier.map(str::to_owned),
            value: content.value.map(str::to_owned),
            finalizers: texts(&content.finalizers),
            ..View::default()
        };
        let holder = content.value.map(|_| Owner::Client(who)).into_iter().collect();
        self.added(key, view, BTreeSet::new(), holder, answer)
    }

    fn added(
        &mut self,
        key: Key,
        view: View,
        appliers: BTreeSet<Applier>,
        holder: BTreeSet<Owner>,
        answer: &Answer,
    ) -> Fit {
        expect("code of a create", answer.code, 201)?;
        let seen = self.changed(key, &view, answer)?;
        self.history.push(Event { key, before: None, after: Some(view), revision: seen.revision });
        self.objects.insert(key, Object { seen, appliers, holder });
        Ok(())
    }

    fn update(&mut self, key: Key, content: &Content, issued: &Issued, answer: &Answer) -> Fit {
        let Some(old) = self.objects.get(&key).cloned() else {
            // Whoever names a revision means an object that was there.
            if key.kind == Kind::Pod || issued.revision.is_some() {
                return refused(answer, 404, "NotFound");
            }
            return self.created(key, content, issued.who, answer);
        };
        match issued.revision {
            Some(revision) if revision != old.seen.revision => return refused(answer, 409, "Conflict"),
            None if key.kind == Kind::Lease => return refused(answer, 422, "Invalid"),
            _ => {}
        }
        let mut new = old.clone();
        new.seen.view = View {
            tier: content.tier.map(str::to_owned),
            applied: [None, None],
            value: content.value.map(str::to_owned),
            finalizers: texts(&content.finalizers),
            deleting: old.seen.view.deleting,
        };
        self.wrote(key, &old, new, issued, answer)
    }

    /// A write by a client that owns what it changes.
    fn wrote(&mut self, key: Key, old: &Object, mut new: Object, issued: &Issued, answer: &Answer) -> Fit {
        if new.seen.view.value != old.seen.view.value {
            new.holder = new.seen.view.value.iter().map(|_| Owner::Client(issued.who)).collect();
        }
        self.replaced(key, old, new, answer)
    }

    fn apply(
        &mut self,
        key: Key,
        by: Applier,
        label: Option<&str>,
        holder: Option<&str>,
        force: bool,
        answer: &Answer,
    ) -> Fit {
        let holder = holder.filter(|_| key.kind == Kind::Lease);
        let me = Owner::Applier(by);
        let Some(old) = self.objects.get(&key).cloned() else {
            // A Pod without containers, a Service without ports.
            if key.kind != Kind::Lease {
                return refused(answer, 422, "Invalid");
            }
            let mut view = View { value: holder.map(str::to_owned), ..View::default() };
            view.applied[by as usize] = label.map(str::to_owned);
            return self.added(key, view, BTreeSet::from([by]), holder.map(|_| me).into_iter().collect(), answer);
        };
        let mut new = old.clone();
        new.appliers.insert(by);
        new.seen.view.applied[by as usize] = label.map(str::to_owned);
        match holder {
            Some(holder) if new.seen.view.value.as_deref() == Some(holder) => {
                new.holder.insert(me);
            }
            Some(holder) => {
                if !force && new.holder.iter().any(|owner| *owner != me) {
                    return refused(answer, 409, "Conflict");
                }
                new.holder = BTreeSet::from([me]);
                new.seen.view.value = Some(holder.to_owned());
            }
            // What nobody owns any more goes.
            None if new.holder.remove(&me) && new.holder.is_empty() => new.seen.view.value = None,
            None => {}
        }
        self.replaced(key, &old, new, answer)
    }

    /// `new` takes the place of `old`, if it differs.
    fn replaced(&mut self, key: Key, old: &Object, mut new: Object, answer: &Answer) -> Fit {
        let (before, after) = (&old.seen.view, new.seen.view.clone());
        if before.deleting && after.finalizers.iter().any(|finalizer| !before.finalizers.contains(finalizer)) {
            return refused(answer, 422, "Invalid");
        }
        expect("code of a write", answer.code, 200)?;
        if new == *old {
            return expect("what nothing changed", &answer.objects, &vec![(key, old.seen.clone())]);
        }
        if after.deleting && after.finalizers.is_empty() {
            // Two changes, of which the second follows from the first: what held it is gone, and then it is.
            return self.gone(key, Some(after), answer.objects.first().map(|(_, seen)| seen));
        }
        new.seen = self.changed(key, &after, answer)?;
        expect("uid", &new.seen.uid, &old.seen.uid)?;
        let revision = new.seen.revision;
        self.history.push(Event { key, before: Some(before.clone()), after: Some(after), revision });
        self.objects.insert(key, new);
        Ok(())
    }

    /// A deletion, whose answer may carry the object.
    fn deleted(&mut self, key: Key, answer: Option<&Seen>) -> Fit {
        let Some(old) = self.objects.get(&key).cloned() else { return Err("nothing to delete".to_owned()) };
        let before = old.seen.view.clone();
        if before.finalizers.is_empty() {
            return self.gone(key, None, answer);
        }
        let Some(seen) = answer else { return Err(format!("{key:?} stays, and was not shown")) };
        if before.deleting {
            return expect("what was being deleted already", seen, &old.seen);
        }
        let after = View { deleting: true, ..before.clone() };
        expect("what is being deleted", &seen.view, &after)?;
        self.rises(seen.revision)?;
        self.history.push(Event { key, before: Some(before), after: Some(after), revision: seen.revision });
        self.objects.insert(key, Object { seen: seen.clone(), ..old });
        Ok(())
    }

    /// The object is there no more, after a last change or without one; an answer that shows it shows the revision of its
    /// end.
    fn gone(&mut self, key: Key, last: Option<View>, answer: Option<&Seen>) -> Fit {
        let Some(old) = self.objects.remove(&key) else { return Err("nothing to delete".to_owned()) };
        let Some(revisions) = self.deletions.get_mut(&key) else { return Err(format!("{key:?} was not deleted")) };
        let Some(Deletion { last_change, revision }) = revisions.pop_front() else {
            return Err("no deletion left".to_owned());
        };
        if revisions.is_empty() {
            self.deletions.remove(&key);
        }
        if let Some(seen) = answer {
            expect("uid of what was deleted", &seen.uid, &old.seen.uid)?;
            expect("revision of what was deleted", seen.revision, revision)?;
        }
        let mut before = old.seen.view;
        if let (Some(view), Some(revision)) = (last, last_change) {
            self.rises(revision)?;
            let after = Some(view.clone());
            self.history.push(Event { key, before: Some(before), after, revision });
            before = view;
        }
        self.rises(revision)?;
        self.history.push(Event { key, before: Some(before), after: None, revision });
        Ok(())
    }

    /// The object of an answer to a write that changed it to this.
    fn changed(&mut self, key: Key, view: &View, answer: &Answer) -> Result<Seen, String> {
        let [(found, seen)] = answer.objects.as_slice() else { return Err("no object in the answer".to_owned()) };
        expect("key", *found, key)?;
        expect("content", &seen.view, view)?;
        self.rises(seen.revision)?;
        Ok(seen.clone())
    }

    fn rises(&mut self, revision: u64) -> Fit {
        if revision <= self.revision {
            return Err(format!("revision {revision} after {}", self.revision));
        }
        self.revision = revision;
        Ok(())
    }
}

fn set(field: &mut Option<String>, change: &Option<Option<&'static str>>) {
    if let Some(change) = change {
        *field = change.map(str::to_owned);
    }
}

fn texts(finalizers: &[&str]) -> Vec<String> {
    let mut texts: Vec<String> = finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect();
    texts.sort();
    texts
}
