//! How nodes of the dataplane IPVS choose an endpoint for a connection: an annotation of the Service.
//!
//! The words are the kernel's names of its schedulers. Nodes of another dataplane choose by chance and do not look at it.
//! A value that stood there before is let through, so that an object from before these rules can still be changed.

use std::fmt;

use super::Service;
use crate::field::FieldError;

/// Annotation of a Service: one of [`Scheduler::ALL`] by name.
pub const SCHEDULER: &str = "portolan.dev/scheduler";

/// A scheduler of IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheduler {
    /// In turn, each as often as the others.
    RoundRobin,
    /// In turn, in proportion to the weights.
    WeightedRoundRobin,
    /// To whoever has the fewest connections.
    LeastConnections,
    /// To whoever has the fewest connections for its weight.
    WeightedLeastConnections,
    /// By the client's address, with a table of 256 places.
    SourceHashing,
    /// By the client's address, with Maglev's table: when an endpoint goes, the others' clients stay where they are.
    MaglevHashing,
}

impl Scheduler {
    pub const ALL: [Self; 6] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::WeightedLeastConnections,
        Self::SourceHashing,
        Self::MaglevHashing,
    ];

    /// As the kernel and the annotation call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnections => "lc",
            Self::WeightedLeastConnections => "wlc",
            Self::SourceHashing => "sh",
            Self::MaglevHashing => "mh",
        }
    }

    /// Reads a [`name`](Self::name), exactly as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| scheduler.name() == text)
    }

    /// What the Service says; `None` where it says nothing, or what was never validated.
    pub fn of(service: &Service) -> Option<Self> {
        Self::parse(service.metadata.annotations.get(SCHEDULER)?)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Refuses a value that is none and that `old` has not.
pub(super) fn validate(old: Option<&Service>, new: &Service, errors: &mut Vec<FieldError>) {
    let Some(text) = new.metadata.annotations.get(SCHEDULER) else { return };
    let stood = old.is_some_and(|old| old.metadata.annotations.get(SCHEDULER) == Some(text));
    if !stood && Scheduler::parse(text).is_none() {
        let path = format!("metadata.annotations[{SCHEDULER}]");
        errors.push(FieldError::not_supported(path, text.as_str(), &Scheduler::ALL.map(Scheduler::name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(value: Option<&str>) -> Service {
        let mut service = Service::default();
        service.metadata.annotations.extend(value.map(|v| (SCHEDULER.to_owned(), v.to_owned())));
        service
    }

    #[test]
    fn the_kernels_names_and_nothing_else() {
        for scheduler in Scheduler::ALL {
            assert_eq!(Scheduler::of(&service(Some(scheduler.name()))), Some(scheduler));
        }
        for text in ["", "RR", "rr ", "dh", "sed", "nq"] {
            assert_eq!(Scheduler::of(&service(Some(text))), None, "{text}");
        }
        assert_eq!(Scheduler::of(&service(None)), None);
    }

    #[test]
    fn what_is_none_is_refused_with_the_list_unless_it_stood_there() {
        let refused = |old: Option<&Service>, value: Option<&str>| {
            let mut errors = Vec::new();
            validate(old, &service(value), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(refused(None, None), "");
        assert_eq!(refused(None, Some("mh")), "");
        expect_test::expect![[r#"metadata.annotations[portolan.dev/scheduler]: Unsupported value: "fast": supported values: "rr", "wrr", "lc", "wlc", "sh", "mh""#]]
            .assert_eq(&refused(None, Some("fast")));
        assert_eq!(refused(Some(&service(Some("fast"))), Some("fast")), "");
        assert!(!refused(Some(&service(Some("rr"))), Some("fast")).is_empty());
    }
}
