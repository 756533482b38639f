//! What a Pod's spec leaves out. Applying it twice is applying it once.

use serde_json::{Value, json};

use super::CONTAINER_LISTS;
use crate::kinds::document::{
    Document, default_number, default_text, default_value, flag, number, object_mut, objects_mut, text,
};

/// The mode of files that come of a Secret and its like.
const FILE_MODE: i64 = 0o644;

pub(super) fn spec(spec: &mut Document) {
    default_text(spec, "restartPolicy", "Always");
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "schedulerName", "default-scheduler");
    default_value(spec, "terminationGracePeriodSeconds", 30);
    default_value(spec, "enableServiceLinks", true);
    default_value(spec, "securityContext", json!({}));
    let host_network = flag(spec, "hostNetwork");
    for list in CONTAINER_LISTS {
        for container in objects_mut(spec, list) {
            self::container(container, host_network);
        }
    }
    for volume in objects_mut(spec, "volumes") {
        self::volume(volume);
    }
}

fn container(container: &mut Document, host_network: bool) {
    let image = text(container, "image").to_owned();
    default_text(container, "imagePullPolicy", if latest(&image) { "Always" } else { "IfNotPresent" });
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default_value(container, "resources", json!({}));
    for port in objects_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
        if host_network {
            let port_number = number(port, "containerPort").unwrap_or(0);
            default_number(port, "hostPort", port_number);
        }
    }
    for variable in objects_mut(container, "env") {
        if let Some(reference) = child(variable, &["valueFrom", "fieldRef"]) {
            default_text(reference, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, &[probe]) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(action) = child(container, &["lifecycle", hook, "httpGet"]) {
            http_get(action);
        }
    }
}

/// Whether an image's tag moves: none at all, or `latest`. A digest never moves.
fn latest(image: &str) -> bool {
    if image.is_empty() || image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    matches!(name.split_once(':'), None | Some((_, "latest")))
}

fn probe(probe: &mut Document) {
    default_number(probe, "timeoutSeconds", 1);
    default_number(probe, "periodSeconds", 10);
    default_number(probe, "successThreshold", 1);
    default_number(probe, "failureThreshold", 3);
    if let Some(action) = child(probe, &["httpGet"]) {
        http_get(action);
    }
    if let Some(action) = child(probe, &["grpc"]) {
        default_value(action, "service", "");
    }
}

fn http_get(action: &mut Document) {
    default_text(action, "path", "/");
    default_text(action, "scheme", "HTTP");
}

fn volume(volume: &mut Document) {
    if volume.keys().all(|field| field == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, &[source]) {
            default_value(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = child(volume, &["hostPath"]) {
        default_value(source, "type", "");
    }
    if let Some(source) = child(volume, &["downwardAPI"]) {
        field_references(source);
    }
    if let Some(projected) = child(volume, &["projected"]) {
        for source in objects_mut(projected, "sources") {
            if let Some(token) = child(source, &["serviceAccountToken"]) {
                default_value(token, "expirationSeconds", 3600);
            }
            if let Some(source) = child(source, &["downwardAPI"]) {
                field_references(source);
            }
        }
    }
    if let Some(claim) = child(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        default_text(claim, "volumeMode", "Filesystem");
    }
}

fn field_references(source: &mut Document) {
    for item in objects_mut(source, "items") {
        if let Some(reference) = child(item, &["fieldRef"]) {
            default_text(reference, "apiVersion", "v1");
        }
    }
}

/// An object further down, if it is there.
fn child<'a>(parent: &'a mut Document, path: &[&str]) -> Option<&'a mut Document> {
    let mut at = parent;
    for name in path {
        at = match at.get(*name) {
            Some(Value::Object(_)) => object_mut(at, name)?,
            _ => return None,
        };
    }
    Some(at)
}
