//! The options that come in the query string, typed and checked.
//!
//! A wrong one is answered as Kubernetes answers it: 422 Invalid on the options kind of `meta.k8s.io`.

mod continuation;
mod delete;
mod list;

pub use continuation::Continuation;
pub use delete::{Deletion, delete_options};
use http::HeaderMap;
use http::header::USER_AGENT;
pub use list::{ListOptions, Selectors, State, revision};
use model::FieldError;
use model::managed_fields::MANAGER_MAX_BYTES;

use crate::query::Query;
use crate::status::Status;

/// What to do with unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// `CreateOptions`, `UpdateOptions` and `PatchOptions`, which differ in their name alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    /// `fieldManager`, or what the User-Agent says before its first `/`.
    pub manager: String,
}

impl WriteOptions {
    /// Reads `dryRun`, `fieldManager` and `fieldValidation`; `kind` names the options in errors.
    ///
    /// # Errors
    /// 422 with a cause for each wrong option.
    pub fn read(query: &Query, headers: &HeaderMap, kind: &str) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_validation = match query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                errors.push(FieldError::not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        let manager = query.get("fieldManager").unwrap_or("");
        if manager.len() > MANAGER_MAX_BYTES {
            errors.push(FieldError::too_long("fieldManager", MANAGER_MAX_BYTES));
        } else if manager.chars().any(char::is_control) {
            errors.push(FieldError::invalid("fieldManager", manager, "should only contain printable characters"));
        }
        if !errors.is_empty() {
            return Err(invalid(kind, &errors));
        }
        let manager = if manager.is_empty() { program(headers) } else { manager.to_owned() };
        Ok(Self { dry_run, field_validation, manager })
    }
}

/// The name of the program that sends the request: its User-Agent up to the first `/`, made to fit a `fieldManager`.
fn program(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let mut program = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if program.len() + c.len_utf8() > MANAGER_MAX_BYTES {
            break;
        }
        program.push(c);
    }
    program
}

/// `All` is the only value that `dryRun` may have.
fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut dry = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value == "All" {
            dry = true;
        } else {
            errors.push(FieldError::not_supported("dryRun", value, &["All"]));
        }
    }
    dry
}

fn invalid(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid_kind("meta.k8s.io", kind, "", errors)
}

#[cfg(test)]
mod tests;
