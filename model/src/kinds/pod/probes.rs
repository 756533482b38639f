//! The probes of a container. Source: `validateProbe`, `validateLivenessProbe`, `validateReadinessProbe`,
//! `validateStartupProbe` and `validateInitContainers` of `pkg/apis/core/validation`.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::document::{Document, Errors, items, number, object, objects, text};
use crate::syntax;

const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

/// `runs_to_its_end`: an init container that is no sidecar has nothing that could be probed.
pub(super) fn validate(path: &str, container: &Document, runs_to_its_end: bool, errors: &mut Errors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = object(container, field) else { continue };
        let path = format!("{path}.{field}");
        if runs_to_its_end {
            let text = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(path, text));
            continue;
        }
        numbers(&path, probe, errors);
        handler(&path, probe, errors);
        let successes = number(probe, "successThreshold").unwrap_or(1);
        if field != "readinessProbe" && successes != 1 {
            errors.push(FieldError::invalid(format!("{path}.successThreshold"), successes, "must be 1"));
        }
        if let Some(grace) = number(probe, "terminationGracePeriodSeconds") {
            let path = format!("{path}.terminationGracePeriodSeconds");
            if field == "readinessProbe" {
                errors.push(FieldError::invalid(path, grace, "must not be set for readinessProbes"));
            } else if grace <= 0 {
                errors.push(FieldError::invalid(path, grace, "must be greater than 0"));
            }
        }
    }
}

fn numbers(path: &str, probe: &Document, errors: &mut Errors) {
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(value) = number(probe, field) {
            errors.not_negative(&format!("{path}.{field}"), value);
        }
    }
}

/// Exactly one, and that with what it needs.
fn handler(path: &str, probe: &Document, errors: &mut Errors) {
    let mut given = HANDLERS.iter().filter_map(|field| Some((*field, object(probe, field)?)));
    let Some((field, action)) = given.next() else {
        return errors.required(path, "must specify a handler type");
    };
    for (more, _) in given {
        let text = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(format!("{path}.{more}"), text));
    }
    let path = format!("{path}.{field}");
    match field {
        "exec" if items(action, "command").is_empty() => errors.required(format!("{path}.command"), ""),
        "exec" => {}
        "httpGet" => {
            port(&path, action, errors);
            errors.supported(&format!("{path}.scheme"), text(action, "scheme"), &["HTTP", "HTTPS"]);
            for (_, header) in objects(action, "httpHeaders") {
                let name = text(header, "name");
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    let text = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
                                'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                    errors.push(FieldError::invalid(format!("{path}.httpHeaders"), name, text));
                }
            }
        }
        _ => port(&path, action, errors),
    }
}

/// A number in its range, or the name of a port.
fn port(path: &str, action: &Document, errors: &mut Errors) {
    let path = format!("{path}.port");
    match action.get("port") {
        Some(Value::String(name)) => errors.texts(&path, name, syntax::port_name(name)),
        port => {
            let port = port.and_then(Value::as_i64).unwrap_or(0);
            for problem in syntax::port_number(port) {
                errors.push(FieldError::invalid(path.clone(), port, problem));
            }
        }
    }
}
