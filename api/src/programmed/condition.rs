//! `portolan.dev/Programmed`, the condition by which `kubectl wait` waits: what it says, and how it comes into an object.
//!
//! It is put into the text of a Service on its way out, where one Service is read by its name, and is never stored:
//! `model` takes it out of whatever is written. So it costs no write, and no other reader anything.

use bytes::Bytes;
use jiff::Timestamp;
use model::service::PROGRAMMED;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::acknowledged::Standing;

/// Nodes that a message names.
const NAMED_MOST: usize = 5;
/// Bytes of a refusal's cause in it.
const CAUSE_BYTES: usize = 300;

/// What the condition is, without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No node is live.
    NoNodes,
    Programmed,
    Programming,
    /// A node's kernel did not take it.
    Refused,
}

impl Verdict {
    /// What live nodes make of it.
    pub fn of(nodes: &[Standing]) -> Self {
        let lagging = |node: &&Standing| !node.programmed;
        match nodes {
            [] => Self::NoNodes,
            nodes if nodes.iter().filter(lagging).any(|node| node.error.is_some()) => Self::Refused,
            nodes if nodes.iter().any(|node| !node.programmed) => Self::Programming,
            _ => Self::Programmed,
        }
    }

    pub fn status(self) -> &'static str {
        match self {
            Self::NoNodes => "Unknown",
            Self::Programmed => "True",
            Self::Programming | Self::Refused => "False",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::NoNodes => "NoNodes",
            Self::Programmed => "Programmed",
            Self::Programming => "Programming",
            Self::Refused => "Refused",
        }
    }

    /// A sentence for people.
    pub fn message(self, nodes: &[Standing]) -> String {
        let count = nodes.len();
        match self {
            Self::NoNodes => "no node is live: none has a Lease that holds, and no agent has spoken".to_owned(),
            Self::Programmed if count == 1 => "the only live node has programmed it".to_owned(),
            Self::Programmed => format!("all {count} live nodes have programmed it"),
            Self::Programming => {
                let late: Vec<&str> = nodes.iter().filter(|n| !n.programmed).map(|n| n.name.as_str()).collect();
                format!("{} of {count} live nodes have not programmed it yet: {}", late.len(), named(&late))
            }
            Self::Refused => {
                let refused = nodes.iter().filter(|n| !n.programmed);
                let refused = refused.filter_map(|n| Some(format!("{}: {}", n.name, cut(n.error.as_deref()?))));
                let refused: Vec<String> = refused.collect();
                let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
                format!("{} of {count} live nodes could not program it: {}", refused.len(), named(&refused))
            }
        }
    }
}

/// The first of them, and how many more there are.
fn named(names: &[&str]) -> String {
    let first = names.iter().take(NAMED_MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(CAUSE_BYTES)).unwrap_or(text)
}

/// The condition whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub verdict: Verdict,
    pub message: String,
    /// Since when this server has found it so.
    pub since: Timestamp,
    /// Of the Service that this is about.
    pub generation: Option<i64>,
}

impl Condition {
    fn json(&self) -> String {
        let mut condition = json!({
            "lastTransitionTime": self.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "message": self.message,
            "reason": self.verdict.reason(),
            "status": self.verdict.status(),
            "type": PROGRAMMED,
        });
        if let Some(generation) = self.generation {
            condition["observedGeneration"] = generation.into();
        }
        condition.to_string()
    }

    /// The text of a Service with this condition as the last of its status; None for a text that is no object.
    ///
    /// The text is the store's, so it is compact and has the condition not yet; all but the place is copied as it is.
    pub fn put_into(&self, service: &[u8]) -> Option<Bytes> {
        #[derive(Deserialize)]
        struct Service<'a> {
            #[serde(borrow)]
            status: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Status<'a> {
            #[serde(borrow)]
            conditions: Option<&'a RawValue>,
        }
        let condition = self.json();
        let parsed: Service<'_> = serde_json::from_slice(service).ok()?;
        let Some(status) = parsed.status else {
            return Some(insert(service, end_of(service, service)?, "\"status\":{\"conditions\":[", &condition, "]}"));
        };
        let conditions = serde_json::from_str::<Status<'_>>(status.get()).ok()?.conditions;
        Some(match conditions {
            Some(list) => insert(service, end_of(service, list.get().as_bytes())?, "", &condition, ""),
            None => insert(service, end_of(service, status.get().as_bytes())?, "\"conditions\":[", &condition, "]"),
        })
    }
}

/// Where in `whole` the bracket or brace stands that ends `part`, which lies in it.
fn end_of(whole: &[u8], part: &[u8]) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?.checked_sub(1)?;
    matches!(whole.get(end), Some(b'}' | b']')).then_some(end)
}

/// `before condition after` at `at`, and a comma before it where something precedes.
fn insert(text: &[u8], at: usize, before: &str, condition: &str, after: &str) -> Bytes {
    let (head, tail) = text.split_at(at);
    let comma = if matches!(head.last(), Some(b'{' | b'[')) { "" } else { "," };
    let parts = [head, comma.as_bytes(), before.as_bytes(), condition.as_bytes(), after.as_bytes(), tail];
    Bytes::from(parts.concat())
}

/// `Condition::since` of Services that somebody has asked for, so that it stays the same from one answer to the next.
///
/// Two generations of bounded size: what nobody asks for any more is forgotten, and begins anew.
#[derive(Debug, Default)]
pub struct Transitions {
    young: Generation,
    old: Generation,
}

type Generation = std::collections::HashMap<Box<str>, (Verdict, Timestamp)>;

/// Services in one generation.
const GENERATION: usize = 4096;

impl Transitions {
    /// Since when the object of this uid has had this verdict.
    pub fn since(&mut self, uid: &str, verdict: Verdict, now: Timestamp) -> Timestamp {
        if let Some(known) = self.young.get_mut(uid) {
            if known.0 != verdict {
                *known = (verdict, now);
            }
            return known.1;
        }
        let since = match self.old.get(uid) {
            Some((known, since)) if *known == verdict => *since,
            _ => now,
        };
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(uid.into(), (verdict, since));
        since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(name: &str, programmed: bool, error: Option<&str>) -> Standing {
        let error = error.map(str::to_owned);
        Standing { name: name.to_owned(), programmed, revision: 5, age: Some(Duration::ZERO), error }
    }

    fn told(nodes: &[Standing]) -> String {
        let verdict = Verdict::of(nodes);
        format!("{} {}: {}", verdict.status(), verdict.reason(), verdict.message(nodes))
    }

    #[test]
    fn every_verdict_has_its_words() {
        assert_eq!(told(&[]), "Unknown NoNodes: no node is live: none has a Lease that holds, and no agent has spoken");
        assert_eq!(told(&[node("a", true, None)]), "True Programmed: the only live node has programmed it");
        let (a, b) = (node("a", true, None), node("b", true, Some("default/x: no")));
        assert_eq!(told(&[a.clone(), b]), "True Programmed: all 2 live nodes have programmed it");
        let late: Vec<Standing> = (0..7).map(|n| node(&format!("n{n}"), n == 3, None)).collect();
        assert_eq!(
            told(&late),
            "False Programming: 6 of 7 live nodes have not programmed it yet: n0, n1, n2, n4, n5 and 1 more"
        );
        let refused = [a, node("b", false, Some(&"é".repeat(400))), node("c", false, None)];
        let text = told(&refused);
        assert!(text.starts_with("False Refused: 1 of 3 live nodes could not program it: b: éé"), "{text}");
        assert!(text.len() < 400, "{text}");
    }

    #[test]
    fn it_becomes_the_last_of_the_conditions() {
        let verdict = Verdict::Programmed;
        let since = Timestamp::UNIX_EPOCH;
        let condition = Condition { verdict, message: "a \"b\"".to_owned(), since, generation: Some(3) };
        let put = |text: &str| String::from_utf8(condition.put_into(text.as_bytes()).unwrap().to_vec()).unwrap();
        let own = condition.json();
        assert!(own.contains("\"lastTransitionTime\":\"1970-01-01T00:00:00Z\""), "{own}");
        for (text, expected) in [
            ("{}", format!(r#"{{"status":{{"conditions":[{own}]}}}}"#)),
            (r#"{"a":{"status":{}}}"#, format!(r#"{{"a":{{"status":{{}}}},"status":{{"conditions":[{own}]}}}}"#)),
            (r#"{"status":{},"x":1}"#, format!(r#"{{"status":{{"conditions":[{own}]}},"x":1}}"#)),
            (
                r#"{"status":{"loadBalancer":{}}}"#,
                format!(r#"{{"status":{{"loadBalancer":{{}},"conditions":[{own}]}}}}"#),
            ),
            (r#"{"status":{"conditions":[],"b":{}}}"#, format!(r#"{{"status":{{"conditions":[{own}],"b":{{}}}}}}"#)),
            (
                r#"{"status":{"conditions":[{"type":"A"}]}}"#,
                format!(r#"{{"status":{{"conditions":[{{"type":"A"}},{own}]}}}}"#),
            ),
        ] {
            assert_eq!(put(text), expected);
            serde_json::from_str::<serde_json::Value>(&put(text)).unwrap();
        }
        assert_eq!(condition.put_into(b"[]"), None);
        assert_eq!(condition.put_into(br#"{"status":3}"#), None);
    }

    #[test]
    fn a_time_stays_as_long_as_the_verdict_and_memory_is_bounded() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut transitions = Transitions::default();
        assert_eq!(transitions.since("a", Verdict::Programming, at(1)), at(1));
        assert_eq!(transitions.since("a", Verdict::Programming, at(2)), at(1));
        assert_eq!(transitions.since("a", Verdict::Programmed, at(3)), at(3));
        for n in 0..GENERATION {
            transitions.since(&n.to_string(), Verdict::Programmed, at(4));
        }
        assert_eq!(transitions.since("a", Verdict::Programmed, at(5)), at(3), "an older generation remembers it");
        for n in 0..3 * GENERATION {
            transitions.since(&n.to_string(), Verdict::Programmed, at(6));
        }
        assert!(transitions.young.len() <= GENERATION && transitions.old.len() <= GENERATION);
        assert_eq!(transitions.since("a", Verdict::Programmed, at(7)), at(7), "nobody asked for it in a long time");
    }
}
