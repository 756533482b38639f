//! coordination.k8s.io/v1 Lease. Source: `pkg/apis/coordination/validation/validation.go`.

use super::document::{Document, Errors, number, object, text};
use crate::field::FieldError;
use crate::syntax;

pub(super) fn validate(lease: &Document, errors: &mut Errors) {
    let Some(spec) = object(lease, "spec") else { return };
    if let Some(seconds) = number(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(transitions) = number(spec, "leaseTransitions") {
        errors.not_negative("spec.leaseTransitions", transitions);
    }
    let strategy = text(spec, "strategy");
    if spec.contains_key("strategy") {
        self::strategy(strategy, errors);
    }
    if !text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
        let text = "may only be specified when `strategy` is defined";
        errors.push(FieldError::forbidden("spec.preferredHolder", text));
    }
}

/// One of Kubernetes' own, or a name with a domain.
fn strategy(strategy: &str, errors: &mut Errors) {
    const PATH: &str = "spec.strategy";
    if strategy.contains('/') {
        errors.texts(PATH, strategy, syntax::qualified_name(strategy));
    } else {
        errors.supported(PATH, strategy, &["OldestEmulationVersion"]);
    }
}
