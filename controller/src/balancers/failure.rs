//! Why a Service does not get what it wants: one word for programs, and for people what to do.

use model::balancing::Problem;
use store::Refusal;

/// Why nothing of the instance is changed. Reason and message of the condition; the message stands in an Event, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Problems that one message tells at most.
const TOLD_MOST: usize = 8;

impl Failure {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(crate) fn of_problems(problems: &[Problem]) -> Self {
        let mut told: Vec<String> = problems.iter().take(TOLD_MOST).map(ToString::to_string).collect();
        if problems.len() > TOLD_MOST {
            told.push(format!("and {} more", problems.len() - TOLD_MOST));
        }
        Self::new("InvalidSettings", told.join("; "))
    }

    /// What the writer says to an instance. None: it shall simply be tried again.
    pub(crate) fn of_refusal(refusal: &Refusal) -> Option<Self> {
        let text = refusal.to_string();
        match refusal {
            Refusal::Conflict { .. } | Refusal::Busy | Refusal::Closed | Refusal::NotFound { .. } => None,
            Refusal::AlreadyExists { .. } => {
                Some(Self::new("NameTaken", format!("{text}; delete it, or use it by id")))
            }
            Refusal::Full(_) => Some(Self::new("NoFreeAddress", text)),
            Refusal::Forbidden { .. } => Some(Self::new("QuotaExceeded", text)),
            Refusal::Invalid(errors) if errors.iter().any(|error| error.path.starts_with("spec.addresses")) => {
                Some(Self::new("AddressUnavailable", text))
            }
            Refusal::Invalid(errors) if errors.iter().any(|error| error.path == "spec.pool") => {
                Some(Self::new("PoolUnavailable", text))
            }
            _ => Some(Self::new("Refused", text)),
        }
    }
}
