//! core/v1 Event. Source: `pkg/apis/core/validation/events.go`, the rules for requests to core/v1.

use super::document::{Document, Errors, object, text};
use crate::field::FieldError;
use crate::syntax;

const NAME_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

pub(super) fn validate(event: &Document, errors: &mut Errors) {
    let namespace = object(event, "metadata").map(|metadata| text(metadata, "namespace")).unwrap_or("");
    let involved = object(event, "involvedObject").map(|involved| text(involved, "namespace")).unwrap_or("");
    // Recorders of the new kind set eventTime and have more fields to fill; older ones leave it out.
    let new_style = !text(event, "eventTime").is_empty();
    let agrees = match (involved.is_empty(), new_style) {
        (true, false) => matches!(namespace, "" | "default"),
        (true, true) => matches!(namespace, "" | "default" | "kube-system"),
        (false, false) => involved == namespace,
        (false, true) => true,
    };
    if !agrees {
        let text = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", involved, text));
    }
    if new_style {
        reporting(event, errors);
    }
}

fn reporting(event: &Document, errors: &mut Errors) {
    let controller = text(event, "reportingComponent");
    if controller.is_empty() {
        errors.required("reportingComponent", "");
    }
    errors.texts("reportingComponent", controller, syntax::qualified_name(controller));
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(event, field);
        if value.is_empty() {
            errors.required(field, "");
        } else if value.len() > NAME_MAX {
            errors.push(FieldError::invalid(field, "", format!("can have at most {NAME_MAX} characters")));
        }
    }
    if text(event, "message").len() > NOTE_MAX {
        errors.push(FieldError::invalid("message", "", format!("can have at most {NOTE_MAX} characters")));
    }
}
