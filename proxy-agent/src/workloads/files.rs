//! The text of a manifest's file → its mirror Pods. Pure; which files there are is `folder`'s matter.
//!
//! A file is good as a whole or not at all: half of what somebody wrote is not what they meant. One without any Pod is
//! a mistake, too, because that is what an editor leaves for a moment before it writes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifest::{Origin, Wanted, wanted};

/// The largest file.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Pods in one file at most.
const MAX_PODS: usize = 256;

/// Whether a file of this name is read: YAML or JSON by its ending, and not hidden, as an editor's own files are.
pub fn is_manifest(name: &str) -> bool {
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    !name.starts_with('.') && matches!(ending, Some("yaml" | "yml" | "json"))
}

/// The mirror Pods of a file of the folder.
///
/// # Errors
/// What is wrong with it, in one line that names the document, if one is to blame.
pub fn read(file: &str, text: &[u8], node: &str) -> Result<Vec<Wanted>, String> {
    let origin = Origin::File(file.to_owned());
    let documents = documents(text, file.ends_with(".json"))?;
    let mut names = BTreeSet::new();
    let mut pods = Vec::with_capacity(documents.len());
    for (index, document) in documents.iter().enumerate() {
        let place = || {
            let name = document["metadata"]["name"].as_str().map_or(String::new(), |name| format!(" ({name})"));
            format!("document {}{name}", index + 1)
        };
        let pod = wanted(document, node, &origin).map_err(|wrong| format!("{}: {wrong}", place()))?;
        if !names.insert(pod.name.clone()) {
            return Err(format!("{}: there are two Pods of that name", place()));
        }
        pods.push(pod);
    }
    Ok(pods)
}

/// The objects of a text: documents of YAML, or JSON; a `List` counts as its items.
///
/// # Errors
/// The parser's words, or that there are none or too many.
pub fn documents(text: &[u8], json: bool) -> Result<Vec<Value>, String> {
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
    }
    let read = if json { read_json(text)? } else { read_yaml(text)? };
    let mut documents = Vec::new();
    for document in read {
        match document {
            Value::Null => {}
            Value::Object(mut list) if is_list(&list) => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    documents.extend(items);
                }
            }
            other => documents.push(other),
        }
    }
    match documents.len() {
        0 => Err("there is no Pod in it".to_owned()),
        count if count > MAX_PODS => Err(format!("there are {count} Pods in it; {MAX_PODS} can be")),
        _ => Ok(documents),
    }
}

fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    text("apiVersion") == Some("v1") && matches!(text("kind"), Some("List" | "PodList"))
}

fn read_json(text: &[u8]) -> Result<Vec<Value>, String> {
    serde_json::Deserializer::from_slice(text)
        .into_iter()
        .take(MAX_PODS + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is not JSON: {error}"))
}

fn read_yaml(text: &[u8]) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 128,
            max_documents: MAX_PODS + 1,
            max_nodes: 300_000,
            max_events: 700_000,
            max_total_scalar_bytes: MAX_FILE_BYTES,
            max_aliases: 10_000,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 32,
            max_alias_expansions_per_anchor: 10_000,
        },
        // As the server reads YAML.
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_slice_multiple_with_options(text, options).map_err(|error| {
        let text: Vec<String> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
        format!("it is not YAML: {}", text.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web}]}\n";

    #[test]
    fn many_documents_and_lists() {
        let two = format!("# a comment\n---\n{WEB}---\n{}---\n", WEB.replace("name: web}\n", "name: api}\n"));
        let names = |file: &str, text: &str| -> Vec<String> {
            read(file, text.as_bytes(), "vm").unwrap().iter().map(|pod| pod.name.to_string()).collect()
        };
        assert_eq!(names("a.yaml", &two), ["default/web-vm", "default/api-vm"]);
        let pod: Value = serde_saphyr::from_str(WEB).unwrap();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [pod]});
        assert_eq!(names("a.json", &list.to_string()), ["default/web-vm"]);
        assert_eq!(names("a.yml", &list.to_string()), ["default/web-vm"], "JSON is YAML");
    }

    #[test]
    fn what_is_wrong_says_where() {
        let error = |file: &str, text: &str| read(file, text.as_bytes(), "vm").unwrap_err();
        for empty in ["", "---\n", "# nothing\n", "null"] {
            assert_eq!(error("a.yaml", empty), "there is no Pod in it", "{empty:?}");
        }
        let bad = WEB.replace("containers", "contianers");
        assert_eq!(error("a.yaml", &format!("{WEB}---\n{bad}")), "document 2 (web): unknown field \"spec.contianers\"");
        assert_eq!(error("a.yaml", &format!("{WEB}---\n{WEB}")), "document 2 (web): there are two Pods of that name");
        assert!(error("a.json", "{").starts_with("it is not JSON: EOF"));
        assert!(error("a.yaml", "a: [").starts_with("it is not YAML: "));
        assert!(error("a.yaml", "kind: Pod\nkind: Pod\n").contains("duplicate"), "{}", error("a.yaml", "a: 1\na: 2\n"));
        assert!(error("a.yaml", &" ".repeat(MAX_FILE_BYTES + 1)).starts_with("it is larger than"));
        assert_eq!(error("a.yaml", "7"), "document 1: apiVersion and kind are needed, and are v1 and Pod");
    }

    #[test]
    fn only_manifests_are_read() {
        for name in ["web.yaml", "web.yml", "a.b.json"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in [".web.yaml", "web", "web.yaml~", "web.yaml.swp", ".yaml", "web.txt"] {
            assert!(!is_manifest(name), "{name}");
        }
    }
}
