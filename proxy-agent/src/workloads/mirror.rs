//! What is to be done about one mirror Pod, from what is wanted and what the server has. Pure.
//!
//! A mirror Pod stands for something that runs without the API's doing, so the manifest always wins: one that somebody
//! deletes comes back, and one of another manifest is replaced. It is never changed in place: a node may write no Pod's
//! spec.

use std::sync::Arc;
use std::time::Duration;

use model::Revision;
use model::types::{ObjectMeta, PodCondition};
use serde::Deserialize;

use super::manifest::{MIRROR, ORIGIN, Origin, Wanted};
use crate::follow::HasMeta;

/// A Pod as the server has it, as far as this matters here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Seen {
    pub metadata: ObjectMeta,
    pub spec: SeenSpec,
    pub status: SeenStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenSpec {
    pub node_name: Option<String>,
    pub termination_grace_period_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenStatus {
    pub conditions: Option<Vec<PodCondition>>,
    pub container_statuses: Option<Vec<SeenContainer>>,
    pub start_time: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SeenContainer {
    pub name: String,
    pub ready: bool,
    pub started: Option<bool>,
}

impl HasMeta for Seen {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Seen {
    pub fn uid(&self) -> &str {
        self.metadata.uid()
    }

    /// Whose mirror Pod it is; `None`: not that of an agent.
    pub fn origin(&self) -> Option<Origin> {
        let annotations = &self.metadata.annotations;
        annotations.get(ORIGIN).filter(|_| annotations.contains_key(MIRROR)).and_then(|text| Origin::of(text))
    }

    pub fn is_of(&self, node: &str) -> bool {
        self.spec.node_name.as_deref() == Some(node)
    }

    /// How long its end may take, if nobody says otherwise.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.spec.termination_grace_period_seconds.unwrap_or(30))
    }

    fn hash(&self) -> Option<&str> {
        self.metadata.annotations.get(MIRROR).map(String::as_str)
    }
}

/// What is to become of the Pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Aim {
    /// It is to be there.
    Run(Arc<Wanted>),
    /// It goes in order: nobody is to be sent there any more before it is gone. `held`: it stays until what it stands
    /// for has ended, which somebody will tell, or the grace is over.
    Leave { grace: Duration, held: bool },
    /// It goes at once: what it stands for is no more.
    Go,
}

/// One step on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    /// Says that it is about to go.
    Delete {
        grace: Duration,
    },
    /// Takes it away.
    Remove,
    /// It is as it should be; its status may not be.
    Report,
    /// Nothing, until something changes.
    Wait,
    /// A Pod of that name is there which is not ours.
    Conflict,
    /// Nothing is left to do for good.
    Done,
}

/// The next step. `left`: every node knows that it goes, or was waited for long enough; `over`: its grace is.
pub fn next(aim: &Aim, seen: Option<&Seen>, node: &str, left: bool, over: bool) -> Step {
    let Some(seen) = seen else {
        return if matches!(aim, Aim::Run(_)) { Step::Create } else { Step::Done };
    };
    let ours = seen.is_of(node) && seen.origin().is_some();
    match aim {
        Aim::Run(_) if !ours => Step::Conflict,
        _ if !ours => Step::Done,
        Aim::Run(wanted) if seen.metadata.terminating() || seen.hash() != Some(&wanted.hash) => Step::Remove,
        Aim::Run(_) => Step::Report,
        Aim::Go => Step::Remove,
        Aim::Leave { grace, .. } if !seen.metadata.terminating() => Step::Delete { grace: *grace },
        Aim::Leave { held, .. } if left && (!held || over) => Step::Remove,
        Aim::Leave { .. } => Step::Wait,
    }
}

/// What the server is known to have of a name.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    seen: Option<Arc<Seen>>,
    /// What was taken away last: news of it is old.
    gone: Option<String>,
}

impl Knowledge {
    pub fn seen(&self) -> Option<&Arc<Seen>> {
        self.seen.as_ref()
    }

    /// The server answered with this, or a list says so.
    pub fn is(&mut self, seen: Option<Arc<Seen>>) {
        if let Some(seen) = &seen
            && self.gone.as_deref() == Some(seen.uid())
        {
            self.gone = None;
        }
        self.seen = seen;
    }

    /// A watch tells this, which may be older than what is known.
    pub fn hear(&mut self, seen: Arc<Seen>) {
        let revision = |seen: &Seen| -> Revision { seen.revision() };
        let known = self.seen.as_ref().is_some_and(|known| revision(known) >= revision(&seen));
        if !known && self.gone.as_deref() != Some(seen.uid()) {
            self.seen = Some(seen);
        }
    }

    /// The Pod of this uid is no more.
    pub fn gone(&mut self, uid: &str) {
        if self.seen.as_ref().is_some_and(|seen| seen.uid() == uid) {
            self.seen = None;
        }
        self.gone = Some(uid.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::manifest;
    use super::*;

    fn wanted(label: &str) -> Arc<Wanted> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"v": label}},
            "spec": {"containers": [{"name": "a"}]},
        });
        Arc::new(manifest::wanted(&pod, "vm", &Origin::Socket).unwrap())
    }

    fn seen(of: &Wanted, change: impl FnOnce(&mut Value)) -> Arc<Seen> {
        let mut pod = of.object.clone();
        pod["metadata"]["uid"] = "u1".into();
        pod["metadata"]["resourceVersion"] = "5".into();
        pod["status"] = json!({"conditions": null});
        change(&mut pod);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn terminating(pod: &mut Value) {
        pod["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into();
    }

    #[test]
    fn the_manifest_wins() {
        let (this, other) = (wanted("1"), wanted("2"));
        let step = |seen: Option<&Seen>| next(&Aim::Run(Arc::clone(&this)), seen, "vm", false, false);
        assert_eq!(step(None), Step::Create);
        assert_eq!(step(Some(&seen(&this, |_| {}))), Step::Report);
        assert_eq!(step(Some(&seen(&this, terminating))), Step::Remove, "somebody deletes it");
        assert_eq!(step(Some(&seen(&other, |_| {}))), Step::Remove, "of another manifest");
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let this = wanted("1");
        type Change = fn(&mut Value);
        let others: [Change; 4] = [
            |pod| pod["spec"]["nodeName"] = "vm-2".into(),
            |pod| pod["metadata"]["annotations"] = json!({}),
            |pod| pod["metadata"]["annotations"][ORIGIN] = Value::Null,
            |pod| pod["metadata"]["annotations"] = json!({ ORIGIN: "socket" }),
        ];
        for change in others {
            // A null annotation is none.
            let seen = seen(&this, |pod| {
                change(pod);
                if let Some(map) = pod["metadata"]["annotations"].as_object_mut() {
                    map.retain(|_, value| !value.is_null());
                }
            });
            for (aim, expected) in [
                (Aim::Run(Arc::clone(&this)), Step::Conflict),
                (Aim::Go, Step::Done),
                (Aim::Leave { grace: Duration::ZERO, held: false }, Step::Done),
            ] {
                assert_eq!(next(&aim, Some(&seen), "vm", true, true), expected);
            }
        }
    }

    #[test]
    fn the_orderly_end_waits_for_the_nodes_and_then_for_the_process() {
        let this = wanted("1");
        let (there, going) = (seen(&this, |_| {}), seen(&this, terminating));
        let grace = Duration::from_secs(9);
        let step = |held, seen: &Seen, left, over| next(&Aim::Leave { grace, held }, Some(seen), "vm", left, over);
        assert_eq!(step(true, &there, false, false), Step::Delete { grace });
        assert_eq!(step(true, &going, false, false), Step::Wait);
        assert_eq!(step(true, &going, true, false), Step::Wait);
        assert_eq!(step(true, &going, true, true), Step::Remove);
        assert_eq!(step(false, &going, true, false), Step::Remove);
        assert_eq!(next(&Aim::Go, Some(&there), "vm", false, false), Step::Remove);
        assert_eq!(next(&Aim::Go, None, "vm", false, false), Step::Done);
    }

    #[test]
    fn old_news_changes_nothing() {
        let this = wanted("1");
        let at = |uid: &str, revision: u64| {
            seen(&this, |pod| {
                pod["metadata"]["uid"] = uid.into();
                pod["metadata"]["resourceVersion"] = revision.to_string().into();
            })
        };
        let mut known = Knowledge::default();
        let revision = |known: &Knowledge| known.seen().map(|seen| (seen.uid().to_owned(), seen.revision()));
        known.is(Some(at("u1", 5)));
        known.hear(at("u1", 4));
        assert_eq!(revision(&known), Some(("u1".into(), 5)));
        known.hear(at("u1", 6));
        assert_eq!(revision(&known), Some(("u1".into(), 6)));
        known.gone("u1");
        known.hear(at("u1", 7));
        assert_eq!(revision(&known), None, "it was taken away");
        known.is(Some(at("u2", 9)));
        known.gone("u1");
        known.hear(at("u1", 8));
        assert_eq!(revision(&known), Some(("u2".into(), 9)));
        known.is(Some(at("u1", 3)));
        assert_eq!(revision(&known), Some(("u1".into(), 3)), "a list of an older database");
    }
}
