//! What a request takes: seats of which kind, how many, and whether it stays for long. Pure.
//!
//! A seat stands for about a millisecond of a core. So a list takes one for each thousand objects, which is roughly what it
//! costs to send them, as Kubernetes' estimator has it; everything else takes one.
//!
//! Who waits by design holds no seat: a watch has one until its stream begins, and what waits for `timeoutSeconds` in
//! Portolan's own group, or for a node's answer, never has one. Both count as watches of their user instead.

use model::balancing::lease;

use crate::asked::Asked;
use crate::query::Query;
use crate::routes::own;

/// Objects of a list for which one seat is taken.
const OBJECTS_PER_SEAT: usize = 1_000;

/// Kubernetes' bound for one request.
const SEATS_MOST: u32 = 10;

/// The namespace of the nodes' Leases.
const NODE_LEASES: &str = "kube-node-lease";

/// A kind of seats. The names are those that metrics and messages show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What nodes and edge nodes send to be taken for alive, and to say what they have programmed.
    NodeHigh,
    ReadOnly,
    Mutating,
    /// Whoever is nobody.
    CatchAll,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::NodeHigh, Class::ReadOnly, Class::Mutating, Class::CatchAll];

    /// After Kubernetes' priority levels, and its two kinds of requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeHigh => "node-high",
            Self::ReadOnly => "read-only",
            Self::Mutating => "mutating",
            Self::CatchAll => "catch-all",
        }
    }
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// None: it goes at once, whoever it is from.
    pub seats: Option<(Class, u32)>,
    /// Whether it is a watch, or waits as one does.
    pub lasts: bool,
}

/// Judges a request. `count` tells how many objects a list has to look at; it is asked for lists alone.
pub fn demand(asked: &Asked, path: &str, query: &Query, anonymous: bool, count: impl Fn() -> usize) -> Demand {
    let seats = |class, width| Demand { seats: Some((class, width)), lasts: false };
    if is_health(path) {
        return Demand { seats: None, lasts: false };
    }
    if anonymous {
        return seats(Class::CatchAll, 1);
    }
    if waits(asked, query) {
        return Demand { seats: None, lasts: true };
    }
    if is_of_nodes(asked) {
        return seats(Class::NodeHigh, 1);
    }
    match asked.verb {
        "watch" => {
            let anew = matches!(query.text("resourceVersion"), None | Some("0"));
            Demand { seats: Some((Class::ReadOnly, if anew { width(count()) } else { 1 })), lasts: true }
        }
        "list" => {
            let limit = query.text("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
            seats(Class::ReadOnly, width(count().min(limit.unwrap_or(usize::MAX))))
        }
        "deletecollection" => seats(Class::Mutating, width(count())),
        "create" | "update" | "patch" | "delete" | "post" | "put" => seats(Class::Mutating, 1),
        _ => seats(Class::ReadOnly, 1),
    }
}

/// How a load balancer or a supervisor asks whether the server lives: the answer costs less than the question whether to
/// answer.
pub fn is_health(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/livez" | "/readyz" | "/healthz")
}

/// Whether a request to Portolan's own group is meant to wait.
fn waits(asked: &Asked, query: &Query) -> bool {
    asked.group == own::GROUP
        && match (&*asked.resource, &*asked.subresource, asked.verb) {
            ("nodes", "questions", _) => true,
            ("programmed", ..) | ("services", "programmed", _) => {
                query.text("timeoutSeconds").is_some_and(|t| t != "0")
            }
            _ => false,
        }
}

/// What nodes send to be taken for alive, and to say what they have programmed.
pub fn is_of_nodes(asked: &Asked) -> bool {
    match (&*asked.group, &*asked.resource, &*asked.subresource) {
        (own::GROUP, "nodes", "heartbeat" | "acknowledgement" | "answers") => true,
        ("coordination.k8s.io", "leases", "") => {
            let of_edge = asked.namespace == lease::NAMESPACE && lease::edge_of(&asked.name).is_some();
            (asked.namespace == NODE_LEASES || of_edge) && matches!(asked.verb, "get" | "create" | "update" | "patch")
        }
        ("", "nodes", "status") | (own::GROUP, "loadbalancers", "status") => asked.verb != "get",
        _ => false,
    }
}

fn width(objects: usize) -> u32 {
    let seats = 1 + u32::try_from(objects / OBJECTS_PER_SEAT).unwrap_or(SEATS_MOST);
    seats.min(SEATS_MOST)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn judged(line: &str, anonymous: bool, count: usize) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(Some(query));
        let method: Method = method.parse().unwrap();
        let demand = demand(&Asked::read(&method, path, &query), path, &query, anonymous, || count);
        let seats = demand.seats.map_or("none".to_owned(), |(class, width)| format!("{} {width}", class.name()));
        format!("{seats}{}", if demand.lasts { ", lasts" } else { "" })
    }

    #[test]
    fn what_requests_take() {
        for (line, expected) in [
            ("GET /livez", "none"),
            ("GET /readyz?verbose", "none"),
            ("GET /version", "read-only 1"),
            ("GET /metrics", "read-only 1"),
            ("GET /api/v1/services", "read-only 6"),
            ("GET /api/v1/services?limit=500", "read-only 1"),
            ("GET /api/v1/services?limit=0", "read-only 6"),
            ("GET /api/v1/services?watch=1", "read-only 6, lasts"),
            ("GET /api/v1/services?watch=1&resourceVersion=7", "read-only 1, lasts"),
            ("GET /api/v1/namespaces/a/services/b", "read-only 1"),
            ("POST /api/v1/namespaces/a/services", "mutating 1"),
            ("DELETE /api/v1/namespaces/a/services", "mutating 6"),
            ("PATCH /api/v1/nodes/n", "mutating 1"),
            ("PATCH /api/v1/nodes/n/status", "node-high 1"),
            ("PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n", "node-high 1"),
            ("PATCH /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/portolan-edge-n", "node-high 1"),
            ("PATCH /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/other", "mutating 1"),
            ("PATCH /apis/portolan.dev/v1alpha1/loadbalancers/lb-1/status", "node-high 1"),
            ("PUT /apis/coordination.k8s.io/v1/namespaces/default/leases/n", "mutating 1"),
            ("GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", "read-only 6"),
            ("PUT /apis/portolan.dev/v1alpha1/nodes/n/heartbeat", "node-high 1"),
            ("PUT /apis/portolan.dev/v1alpha1/nodes/n/acknowledgement", "node-high 1"),
            ("GET /apis/portolan.dev/v1alpha1/nodes/n/questions", "none, lasts"),
            ("POST /apis/portolan.dev/v1alpha1/nodes/n/questions", "none, lasts"),
            ("POST /apis/portolan.dev/v1alpha1/nodes/n/answers/1", "node-high 1"),
            ("GET /apis/portolan.dev/v1alpha1/programmed?timeoutSeconds=30", "none, lasts"),
            ("GET /apis/portolan.dev/v1alpha1/programmed", "read-only 6"),
            ("POST /apis/portolan.dev/v1alpha1/nodes/n/certificate", "mutating 1"),
        ] {
            assert_eq!(judged(line, false, 5_200), expected, "{line}");
        }
        assert_eq!(judged("GET /api/v1/services", true, 5_200), "catch-all 1");
        assert_eq!(judged("PUT /apis/portolan.dev/v1alpha1/nodes/n/heartbeat", true, 0), "catch-all 1");
        assert_eq!(judged("GET /healthz/", true, 0), "none");
        assert_eq!(judged("GET /api/v1/services", false, 1_000_000), "read-only 10");
    }
}
