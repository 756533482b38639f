//! Rows of who may do what: bindings of roles, and tokens.

use jiff::Timestamp;
use serde_json::Value;

use super::super::age;
use super::{NONE, Row, items, or, text};

/// `Role/reader`, and who has it by what kind of name.
pub fn binding(name: Value, binding: &Value, age: Value) -> Row {
    let subjects = |kind: &str, show: &dyn Fn(&Value) -> String| -> Value {
        let all = items(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
        all.map(show).collect::<Vec<_>>().join(", ").into()
    };
    let plain = |subject: &Value| text(subject, "/name");
    let role = format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
    let account = |subject: &Value| format!("{}/{}", text(subject, "/namespace"), text(subject, "/name"));
    vec![
        name,
        role.into(),
        age,
        subjects("User", &plain),
        subjects("Group", &plain),
        subjects("ServiceAccount", &account),
    ]
}

/// What a token is for and how long it still holds.
pub fn token(name: Value, token: &Value, age: Value, now: Timestamp) -> Row {
    let expires = match text(token, "/spec/expiresAt").parse::<Timestamp>() {
        Ok(end) if end <= now => "expired".to_owned(),
        Ok(end) => age::human(end.as_second() - now.as_second()),
        Err(_) => "never".to_owned(),
    };
    vec![
        name,
        text(token, "/spec/purpose").into(),
        or(text(token, "/spec/user"), NONE).into(),
        expires.into(),
        age,
        text(token, "/spec/description").into(),
    ]
}
