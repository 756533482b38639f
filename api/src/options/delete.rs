//! `DeleteOptions`, from the body when there is one, otherwise from the query (apiserver `pkg/endpoints/handlers/delete.go`).

use model::FieldError;
use model::schema::json_kind;
use serde_json::Value;
use store::{DeleteOptions, Preconditions, Propagation};

use super::{dry_run, invalid};
use crate::negotiate::Format;
use crate::query::Query;
use crate::status::Status;

const POLICIES: [(&str, Propagation); 3] =
    [("Background", Propagation::Background), ("Foreground", Propagation::Foreground), ("Orphan", Propagation::Orphan)];

/// What a client asks of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub options: DeleteOptions,
    pub dry_run: bool,
    /// Whether the client said `orphanDependents: false`: then it is told with a 202 that the object is not gone yet.
    pub cascades: bool,
}

/// Reads the options.
///
/// # Errors
/// 400 for a body that is no DeleteOptions, 422 for values that are not allowed.
pub fn delete_options(query: &Query, body: &[u8], format: Format) -> Result<Deletion, Status> {
    let mut errors = Vec::new();
    let mut orphan = None;
    let mut options;
    let policy;
    let dry;
    if body.trim_ascii().is_empty() {
        options = DeleteOptions {
            grace_period_seconds: match query.text("gracePeriodSeconds") {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    Status::bad_request(format!(
                        "gracePeriodSeconds: Invalid value: {}: must be a number",
                        crate::status::quoted(text)
                    ))
                })?),
            },
            propagation: None,
            preconditions: Preconditions::default(),
        };
        policy = query.text("propagationPolicy").map(str::to_owned);
        if query.get("orphanDependents").is_some() {
            orphan = Some(query.flag("orphanDependents"));
        }
        dry = dry_run(query.all("dryRun"), &mut errors);
    } else {
        let document = match format {
            Format::Protobuf => crate::body::protobuf(body, "v1", "DeleteOptions").map_err(|e| e.to_string()),
            Format::Json | Format::Yaml => crate::body::decode(body, format),
        };
        let document = document.map_err(|e| malformed(&e))?;
        let Value::Object(map) = document.value else {
            return Err(malformed(&format!("cannot unmarshal {}", json_kind(&document.value))));
        };
        let field = |name| Field { name, value: map.get(name).filter(|v| !v.is_null()) };
        if let Some(kind) = field("kind").text()?.filter(|k| !k.is_empty() && *k != "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: it is a {kind}"
            )));
        }
        let empty = serde_json::Map::new();
        let preconditions = match field("preconditions").value {
            None => &empty,
            Some(Value::Object(map)) => map,
            Some(other) => return Err(mismatch("preconditions", other, "v1.Preconditions")),
        };
        let precondition = |name| Field { name, value: preconditions.get(name).filter(|v| !v.is_null()) };
        options = DeleteOptions {
            grace_period_seconds: field("gracePeriodSeconds").integer()?,
            propagation: None,
            preconditions: Preconditions {
                uid: precondition("uid").text()?.map(str::to_owned),
                resource_version: precondition("resourceVersion").text()?.map(str::to_owned),
            },
        };
        policy = field("propagationPolicy").text()?.map(str::to_owned);
        orphan = field("orphanDependents").boolean()?;
        let texts = match field("dryRun").value {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| {
                    malformed("json: cannot unmarshal into Go struct field DeleteOptions.dryRun of type string")
                })?
            }
            Some(other) => return Err(mismatch("dryRun", other, "[]string")),
        };
        // A dry run asked for in the query must not become a real delete because a body came along.
        dry = dry_run(texts.into_iter().chain(query.all("dryRun")), &mut errors);
    }
    match (policy.as_deref(), orphan) {
        (None, None) => {}
        (None, Some(true)) => options.propagation = Some(Propagation::Orphan),
        (None, Some(false)) => options.propagation = Some(Propagation::Background),
        (Some(policy), Some(_)) => {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", policy, detail));
        }
        (Some(policy), None) => match POLICIES.iter().find(|(name, _)| *name == policy) {
            Some((_, propagation)) => options.propagation = Some(*propagation),
            None => {
                let supported = POLICIES.map(|(name, _)| name);
                errors.push(FieldError::not_supported("propagationPolicy", policy, &supported));
            }
        },
    }
    if errors.is_empty() {
        Ok(Deletion { options, dry_run: dry, cascades: orphan == Some(false) })
    } else {
        Err(invalid("DeleteOptions", &errors))
    }
}

/// One field of the body, read as the type that it must have.
struct Field<'a> {
    name: &'static str,
    value: Option<&'a Value>,
}

impl<'a> Field<'a> {
    fn text(&self) -> Result<Option<&'a str>, Status> {
        self.read("string", Value::as_str)
    }

    fn integer(&self) -> Result<Option<i64>, Status> {
        self.read("int64", Value::as_i64)
    }

    fn boolean(&self) -> Result<Option<bool>, Status> {
        self.read("bool", Value::as_bool)
    }

    fn read<T>(&self, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Status> {
        let Some(value) = self.value else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| mismatch(self.name, value, wanted))
    }
}

fn mismatch(field: &str, value: &Value, wanted: &str) -> Status {
    malformed(&format!(
        "json: cannot unmarshal {} into Go struct field DeleteOptions.{field} of type {wanted}",
        json_kind(value)
    ))
}

fn malformed(problem: &str) -> Status {
    Status::bad_request(format!("DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: {problem}"))
}
