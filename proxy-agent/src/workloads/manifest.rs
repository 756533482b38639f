//! A Pod's manifest as somebody wrote it → the mirror Pod that stands for it in the API. Pure.
//!
//! What is checked is what the server would check, with the same code, so that a mistake is found beside the file and
//! not in an answer; beyond that what a node may not create: a Pod of another node, and one that refers to objects of
//! the API (a node must not get at Secrets by way of Pods that it makes up). Nothing is corrected in silence: an
//! unknown field is a mistake, too.
//!
//! Annotations are kubelet's: [`HASH`] and [`MIRROR`] hold the hash of the manifest, [`SOURCE`] where it came from. One
//! is ours, [`ORIGIN`]: by it an agent knows its own mirror Pods from a kubelet's on the same node, and after a restart
//! those of a file from those that a process registered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::Resource;
use model::admission::{Cluster, prepare_create};
use model::schema;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

/// The hash of the manifest that a Pod was made from.
pub const HASH: &str = "kubernetes.io/config.hash";
/// The same; that it is there makes a Pod a mirror Pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// `file` or `socket`.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// `file NAME` or `socket`: whose mirror Pod this is.
pub const ORIGIN: &str = "portolan.dev/workload";
/// The addresses of something that does not share the node's, at most one of each family, with commas in between.
pub const POD_IP: &str = "portolan.dev/pod-ip";

/// Fields of a spec that lead to objects of the API.
const REFERENCES: [&str; 9] = [
    "configMap",
    "configMapKeyRef",
    "configMapRef",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "secretKeyRef",
    "secretRef",
    "serviceAccountName",
];
/// What a server or another node says of a Pod: of no meaning in a manifest, and often there, since people save what
/// `kubectl get -o yaml` prints.
const OF_OTHERS: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
];
/// How long a Pod's end may take when it does not say, as in Kubernetes.
const DEFAULT_GRACE_SECONDS: u64 = 30;

/// Namespace and name of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a manifest came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Of the folder, by its name there.
    File(String),
    Socket,
}

impl Origin {
    /// The value of [`ORIGIN`].
    pub fn annotation(&self) -> String {
        match self {
            Self::File(name) => format!("file {name}"),
            Self::Socket => "socket".to_owned(),
        }
    }

    /// Reads that value; `None` for what no agent of this kind wrote.
    pub fn of(annotation: &str) -> Option<Self> {
        match annotation.strip_prefix("file ") {
            Some(name) => Some(Self::File(name.to_owned())),
            None => (annotation == "socket").then_some(Self::Socket),
        }
    }
}

/// A mirror Pod that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub name: PodName,
    pub origin: Origin,
    /// Of the manifest: another hash is another Pod.
    pub hash: String,
    /// What is created, but for the owner: that is the Node, which may come later.
    pub object: Value,
    /// The same with its defaults, as the server will have it.
    pub settled: Value,
    /// Of [`POD_IP`]; empty: the node's.
    pub addresses: Vec<IpAddr>,
    pub grace: Duration,
}

/// Makes the mirror Pod of `manifest` on `node`.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn wanted(manifest: &Value, node: &str, origin: &Origin) -> Result<Wanted, String> {
    let (version, kind) = (text(manifest, "apiVersion"), text(manifest, "kind"));
    if (version, kind) != ("v1", "Pod") {
        return Err(match (version, kind) {
            (_, "") | ("", _) => "apiVersion and kind are needed, and are v1 and Pod".to_owned(),
            (version, kind) => format!("it is a {kind} of {version}; only Pods of v1 can be here"),
        });
    }
    let found = schema::check(Resource::Pods, manifest);
    if let Some(text) = found.mismatched.first() {
        return Err(text.clone());
    }
    if let Some(path) = found.unknown.first() {
        return Err(format!("unknown field {path:?}"));
    }
    let mut object = manifest.clone();
    schema::settle(Resource::Pods, &mut object);
    let document = object.as_object_mut().ok_or("it is no object")?;
    document.remove("status");
    let name = name(document, node)?;
    let addresses = addresses(&metadata(document, "annotations"))?;
    spec(document, node, addresses.is_empty())?;
    let hash = hash(manifest, node);
    let source = match origin {
        Origin::File(_) => "file",
        Origin::Socket => "socket",
    };
    annotate(
        document,
        [(HASH, hash.clone()), (MIRROR, hash.clone()), (SOURCE, source.to_owned()), (ORIGIN, origin.annotation())],
    );
    let mut settled = object.clone();
    if let Err(wrong) = prepare_create(Resource::Pods, &mut settled, &Cluster { families: Vec::new() }) {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        return Err(wrong.join("; "));
    }
    let grace = settled["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(DEFAULT_GRACE_SECONDS);
    Ok(Wanted { name, origin: origin.clone(), hash, object, settled, addresses, grace: Duration::from_secs(grace) })
}

/// Gives the Pod the name that kubelet would: that of the manifest with the node's behind it.
fn name(document: &mut Map<String, Value>, node: &str) -> Result<PodName, String> {
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().ok_or("metadata is no object")?;
    for field in OF_OTHERS {
        metadata.remove(field);
    }
    for field in ["ownerReferences", "finalizers", "generateName"] {
        if metadata.remove(field).is_some() {
            return Err(format!("metadata.{field}: the Pod of a manifest can have none"));
        }
    }
    let own = metadata.get("name").and_then(Value::as_str).unwrap_or("");
    if own.is_empty() {
        return Err("metadata.name: Required value".to_owned());
    }
    let full = format!("{own}-{node}");
    let namespace = metadata.get("namespace").and_then(Value::as_str).filter(|n| !n.is_empty()).unwrap_or("default");
    let name = PodName { namespace: namespace.to_owned(), name: full.clone() };
    metadata.insert("namespace".to_owned(), name.namespace.clone().into());
    metadata.insert("name".to_owned(), full.into());
    Ok(name)
}

/// Binds the Pod to the node, and has it share the node's addresses unless it has its own.
fn spec(document: &mut Map<String, Value>, node: &str, shares: bool) -> Result<(), String> {
    let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err("spec: Required value".to_owned());
    };
    let bound = spec.get("nodeName").and_then(Value::as_str).unwrap_or("");
    if !bound.is_empty() && bound != node {
        return Err(format!("spec.nodeName: it is a Pod of {bound}, and this node is {node}"));
    }
    if let Some(path) = reference(spec, "spec") {
        return Err(format!("{path}: the Pod of a manifest cannot refer to objects of the API"));
    }
    spec.insert("nodeName".to_owned(), node.into());
    if shares {
        spec.insert("hostNetwork".to_owned(), true.into());
    }
    Ok(())
}

/// The path of the first field that leads to an object of the API.
fn reference(object: &Map<String, Value>, path: &str) -> Option<String> {
    object.iter().find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        if REFERENCES.contains(&name.as_str()) {
            return Some(path);
        }
        match value {
            Value::Object(inner) => reference(inner, &path),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| reference(item.as_object()?, &format!("{path}[{index}]"))),
            _ => None,
        }
    })
}

fn addresses(annotations: &BTreeMap<String, String>) -> Result<Vec<IpAddr>, String> {
    let Some(text) = annotations.get(POD_IP) else { return Ok(Vec::new()) };
    let wrong = |why: &str| format!("metadata.annotations[{POD_IP}]: {text:?} {why}");
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text.split(',') {
        let address = model::syntax::parse_ip(part.trim()).ok_or_else(|| wrong("is no list of IP addresses"))?;
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return Err(wrong("is no address at which others reach a workload"));
        }
        if addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
            return Err(wrong("has two addresses of one family"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn annotate(document: &mut Map<String, Value>, added: [(&str, String); 4]) {
    let metadata = document.entry("metadata").or_insert_with(|| json!({}));
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    for (name, value) in added {
        metadata["annotations"][name] = value.into();
    }
}

fn metadata(document: &Map<String, Value>, field: &str) -> BTreeMap<String, String> {
    let map = document.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    map.into_iter().flatten().filter_map(text).collect()
}

/// Of the manifest as it was written, whatever the order of its fields; 32 hex digits as kubelet's.
fn hash(manifest: &Value, node: &str) -> String {
    let mut text = node.to_owned();
    canonical(manifest, &mut text);
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            out.push('{');
            for (name, value) in fields {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or("")
}

#[cfg(test)]
mod tests;
