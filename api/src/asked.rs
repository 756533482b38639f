//! What a request asks for, by its method, path and query alone: Kubernetes' `RequestInfo`.
//!
//! The router knows it better, but only once a request has come so far; whoever judges before that (the fair share) or of
//! what never comes so far (the audit log) reads it here. Nothing is looked up: a path of a resource that does not exist is
//! a request for such a resource.

use http::Method;
use model::Resource;

use crate::query::Query;

/// A request, taken apart. Empty texts stand for what the path does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Kubernetes' verb; for what is no resource, the method in small letters.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    /// Empty for what is no resource.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl<'a> Asked<'a> {
    pub fn read(method: &Method, path: &'a str, query: &Query) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => ("", "", &[][..]),
        };
        let (namespace, rest) = match rest {
            // `…/namespaces/x`, `…/namespaces/x/status` and `…/finalize` are about the Namespace itself.
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [] => return Self { verb: method_verb(method), ..Self::default() },
            [resource] => (*resource, "", ""),
            [resource, name] => (*resource, *name, ""),
            [resource, name, subresource, ..] => (*resource, *name, *subresource),
        };
        let namespace = if resource == "namespaces" && group.is_empty() { name } else { namespace };
        Self { verb: verb(method, name, query), group, version, resource, subresource, namespace, name }
    }

    /// The namespace that a list is of; None over all namespaces.
    pub fn within(&self) -> Option<&'a str> {
        Some(self.namespace).filter(|namespace| !namespace.is_empty())
    }

    /// The resource of the model whose collection or object this is.
    pub fn known(&self) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| {
            let info = resource.info();
            info.plural == self.resource && info.group == self.group
        })
    }
}

fn verb(method: &Method, name: &str, query: &Query) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" if name.is_empty() && query.flag("watch") => "watch",
        "GET" | "HEAD" if name.is_empty() => "list",
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        _ => "",
    }
}

/// Methods come from clients, so what is no method of ours has no name here.
fn method_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let asked = Asked::read(&method.parse().unwrap(), path, &Query::parse(Some(query)));
        let Asked { verb, group, version, resource, subresource, namespace, name } = asked;
        format!("{verb} group={group} version={version} {resource}/{subresource} in={namespace} name={name}")
    }

    #[test]
    fn requests_as_kubernetes_takes_them_apart() {
        for (line, expected) in [
            ("GET /livez", "get group= version= / in= name="),
            ("GET /api/v1", "get group= version= / in= name="),
            ("GET /api/v1/services", "list group= version=v1 services/ in= name="),
            ("GET /api/v1/services?watch=true", "watch group= version=v1 services/ in= name="),
            ("GET /api/v1/namespaces", "list group= version=v1 namespaces/ in= name="),
            ("GET /api/v1/namespaces/a", "get group= version=v1 namespaces/ in=a name=a"),
            ("PUT /api/v1/namespaces/a/finalize", "update group= version=v1 namespaces/finalize in=a name=a"),
            ("POST /api/v1/namespaces/a/pods", "create group= version=v1 pods/ in=a name="),
            ("PATCH /api/v1/namespaces/a/pods/b/status/", "patch group= version=v1 pods/status in=a name=b"),
            ("DELETE /api/v1/namespaces/a/pods", "deletecollection group= version=v1 pods/ in=a name="),
            (
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
                "update group=coordination.k8s.io version=v1 leases/ in=kube-node-lease name=n",
            ),
            (
                "PUT /apis/portolan.dev/v1alpha1/nodes/n/heartbeat",
                "update group=portolan.dev version=v1alpha1 nodes/heartbeat in= name=n",
            ),
            (
                "GET /apis/portolan.dev/v1alpha1/programmed",
                "list group=portolan.dev version=v1alpha1 programmed/ in= name=",
            ),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn resources_of_the_model_are_known_by_group() {
        let known = |path: &str| Asked::read(&Method::GET, path, &Query::default()).known();
        assert_eq!(known("/api/v1/services"), Some(Resource::Services));
        assert_eq!(known("/apis/apps/v1/services"), None);
        assert_eq!(known("/healthz"), None);
    }
}
