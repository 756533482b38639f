//! Annotations of a Service, read: by which keys a setting is known, which key counts, and what is wrong with a value.
//!
//! A setting is a *suffix* (`scheduler`) behind one of three prefixes. A key that is there counts even if its value is
//! empty, and an empty value is the default, so that whoever renders manifests from templates can leave one empty. Every
//! value is read strictly: a misspelt one is told, and not taken for the default.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::table;
use crate::types::TextMap;

/// In order of precedence: ours, the cloud's, and the cloud's former one.
pub const PREFIXES: [&str; 3] = [
    "portolan.dev/lb-",
    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-",
    "service.beta.kubernetes.io/alicloud-loadbalancer-",
];

/// The key by which the cloud knows `backend-type`, outside of its own scheme.
pub const BACKEND_TYPE: &str = "service.beta.kubernetes.io/backend-type";

/// Something that a Service says and that cannot be done. Nothing of the instance is changed until it is mended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// The key of the annotation as it is written, or the path of the field.
    pub place: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Reads settings and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    annotations: &'a TextMap,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(annotations: &'a TextMap) -> Self {
        Self { annotations, problems: RefCell::default() }
    }

    /// What is wrong, each thing once.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }

    pub(super) fn refuse(&self, place: impl Into<String>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place: place.into(), message: message.into() });
    }

    /// What is wrong with a setting, at the key where it stands or, if it is missing, should.
    pub(super) fn refuse_setting(&self, suffix: &'static str, message: impl Into<String>) {
        let key = self.find(suffix).map_or_else(|| format!("{}{suffix}", PREFIXES[0]), |(key, _)| key);
        self.refuse(key, message);
    }

    fn find(&self, suffix: &'static str) -> Option<(String, &'a str)> {
        debug_assert!(table::row(suffix).is_some_and(|row| row.works), "{suffix} stands in no row of the table");
        keys(suffix).find_map(|key| self.annotations.get(&key).map(|value| (key, value.trim())))
    }

    /// The text of a setting, unless it is absent or empty.
    pub(super) fn text(&self, suffix: &'static str) -> Option<&'a str> {
        self.find(suffix).map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// One of some words, in whatever case.
    pub(super) fn choice<T: Copy>(&self, suffix: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(suffix)?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse_setting(suffix, format!("{text:?} is not known; use {}", either(&words)));
        }
        found.map(|(_, value)| *value)
    }

    /// `on` or `off`.
    pub(super) fn switch(&self, suffix: &'static str) -> Option<bool> {
        self.choice(suffix, &[("on", true), ("off", false)])
    }

    /// An integer within bounds.
    pub(super) fn number(&self, suffix: &'static str, bounds: RangeInclusive<u32>) -> Option<u32> {
        let text = self.text(suffix)?;
        let number = integer(text).filter(|number| bounds.contains(number));
        if number.is_none() {
            let (first, last) = (bounds.start(), bounds.end());
            self.refuse_setting(suffix, format!("{text:?} is not an integer from {first} to {last}"));
        }
        number
    }

    /// What stands between commas; nothing of it is empty.
    pub(super) fn list(&self, suffix: &'static str) -> Vec<&'a str> {
        let text = self.text(suffix).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// The entries of a list, each read by `read`, which says what form it wants of those that it cannot.
    pub(super) fn entries<T>(&self, suffix: &'static str, read: impl Fn(&'a str) -> Result<T, String>) -> Vec<T> {
        let mut entries = Vec::new();
        for part in self.list(suffix) {
            match read(part) {
                Ok(entry) => entries.push(entry),
                Err(message) => self.refuse_setting(suffix, format!("{part:?}: {message}")),
            }
        }
        entries
    }

    /// `NAME:PORT` entries.
    pub(super) fn ports(&self, suffix: &'static str, form: &str) -> Vec<(&'a str, u16)> {
        self.entries(suffix, |part| {
            let entry = part.rsplit_once(':').and_then(|(name, number)| Some((name.trim(), port(number)?)));
            entry.filter(|(name, _)| !name.is_empty()).ok_or_else(|| format!("is not of the form {form}"))
        })
    }

    /// `NAME=VALUE` entries; `NAME` alone has an empty value.
    pub(super) fn pairs(&self, suffix: &'static str) -> TextMap {
        let pairs = self.entries(suffix, |part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            match crate::syntax::qualified_name(name).pop().or_else(|| crate::syntax::label_value(value).pop()) {
                Some(problem) => Err(problem),
                None => Ok((name.to_owned(), value.to_owned())),
            }
        });
        pairs.into_iter().collect()
    }

    /// Keys that have one of the prefixes and no effect here, sorted.
    pub(super) fn ignored(&self) -> Vec<String> {
        let has_effect = |key: &str| {
            let suffix = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix));
            suffix.is_none_or(|suffix| table::row(suffix).is_some_and(|row| row.works))
        };
        self.annotations.keys().filter(|key| !has_effect(key)).cloned().collect()
    }
}

/// The keys of a setting, the one that counts first.
pub(super) fn keys(suffix: &str) -> impl Iterator<Item = String> {
    let [own, others @ ..] = PREFIXES;
    let outside = (suffix == "backend-type").then(|| BACKEND_TYPE.to_owned());
    let others = others.map(|prefix| format!("{prefix}{suffix}"));
    std::iter::once(format!("{own}{suffix}")).chain(outside).chain(others)
}

/// Digits and nothing else.
pub(super) fn integer(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn port(text: &str) -> Option<u16> {
    integer(text.trim()).and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

/// `a, b or c`.
fn either<T: Display>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [only] => only.to_string(),
        [rest @ .., last] => {
            let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
            format!("{} or {last}", rest.join(", "))
        }
    }
}
