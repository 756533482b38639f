//! Does a value fit a schema of `/openapi.json`? As much of JSON Schema as that document uses; a keyword that is not
//! known here fails the test, so that no rule goes unasked.

use serde_json::Value;

pub struct Schemas<'a>(pub &'a Value);

impl Schemas<'_> {
    /// Every place where the value does not fit.
    pub fn problems(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.check(schema, value, "$", &mut found);
        found
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
        for (keyword, rule) in schema.as_object().unwrap_or_else(|| panic!("{place}: {schema} is no schema")) {
            match keyword.as_str() {
                "$ref" => {
                    let target = self.0.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                    self.check(target.unwrap_or_else(|| panic!("{rule} leads nowhere")), value, place, found);
                }
                "type" => {
                    let fits = match rule.as_str().unwrap() {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "boolean" => value.is_boolean(),
                        "number" => value.is_number(),
                        "integer" => value.is_i64() || value.is_u64(),
                        other => panic!("{place}: type {other}"),
                    };
                    if !fits {
                        found.push(format!("{place} is {value}, not of type {rule}"));
                    }
                }
                "required" => {
                    for name in rule.as_array().unwrap() {
                        if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                            found.push(format!("{place} lacks {name}"));
                        }
                    }
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(inner) = value.get(name) {
                            self.check(rule, inner, &format!("{place}.{name}"), found);
                        }
                    }
                    // Not the schema's rule, but the house's: an answer holds nothing that no document knows.
                    let known =
                        |name: &String| rule.get(name).is_some() || schema.get("additionalProperties").is_some();
                    if schema.get("x-kubernetes-group-version-kind").is_some() {
                        for name in value.as_object().into_iter().flat_map(|map| map.keys()).filter(|n| !known(n)) {
                            found.push(format!("{place}.{name} is in no document"));
                        }
                    }
                }
                "additionalProperties" => {
                    let own = |name: &str| schema["properties"].get(name).is_some();
                    for (name, inner) in value.as_object().into_iter().flatten().filter(|(name, _)| !own(name)) {
                        self.check(rule, inner, &format!("{place}.{name}"), found);
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{place}[{index}]"), found);
                    }
                }
                "oneOf" => {
                    let fitting = rule.as_array().unwrap().iter().filter(|one| self.problems(one, value).is_empty());
                    if fitting.count() == 0 {
                        found.push(format!("{place} is {value}, and fits none of {rule}"));
                    }
                }
                "enum" => {
                    if !rule.as_array().unwrap().contains(value) {
                        found.push(format!("{place} is {value}, not one of {rule}"));
                    }
                }
                "minLength" => {
                    if value.as_str().is_some_and(|text| (text.chars().count() as u64) < rule.as_u64().unwrap()) {
                        found.push(format!("{place} is too short"));
                    }
                }
                "description" | "format" | "default" | "minimum" => {}
                extension if extension.starts_with("x-") => {}
                other => panic!("{place}: what does {other} mean?"),
            }
        }
    }
}
