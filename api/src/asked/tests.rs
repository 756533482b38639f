//! What requests are read as, and that no route is read as another.

use model::Review;

use super::*;
use crate::routes::{self, Action, Own, Page, Scope, Special};

fn read(method: &str, target: &str) -> Asked {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Asked::read(&method.parse().unwrap(), path, &Query::parse(Some(query)))
}

#[test]
fn requests_are_read_as_wishes() {
    let mut lines = Vec::new();
    for (method, target) in [
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dweb-1"),
        ("GET", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dx"),
        ("HEAD", "/api/v1/namespaces/shop/pods/x"),
        ("GET", "/api/v1/namespaces/shop/pods/x?watch=true"),
        ("PUT", "/api/v1/namespaces/shop/pods/x/status"),
        ("POST", "/api/v1/namespaces/shop/pods/x/binding"),
        ("DELETE", "/api/v1/namespaces/shop/pods"),
        ("GET", "/api/v1/namespaces/shop"),
        ("PUT", "/api/v1/namespaces/shop/finalize"),
        ("GET", "/api/v1/namespaces/shop%2Fpods%2Fx"),
        ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/web-1/"),
        ("PUT", "/apis/portolan.dev/v1alpha1/nodes/web-1/acknowledgement"),
        ("GET", "/apis/portolan.dev/v1alpha1/programmed?revision=5"),
        ("BREW", "/api/v1/nodes/web-1"),
        ("GET", "/apis/portolan.dev/v1alpha1"),
        ("GET", "/api/v1"),
        ("POST", "/metrics"),
        ("GET", "/"),
        ("GET", "/api/v1/namespaces/%ff"),
    ] {
        let info = read(method, target);
        let node = info.selected.as_deref().map(|node| format!(" of node {node}")).unwrap_or_default();
        lines.push(format!("{method} {target}\n    {} named {:?}{node}", info.attributes(), info.name));
    }
    expect_test::expect![[r#"
        GET /api/v1/pods
            list resource "pods" in API group "" at the cluster scope named ""
        GET /api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dweb-1
            watch resource "pods" in API group "" at the cluster scope named "" of node web-1
        GET /api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dx
            list resource "pods" in API group "" in the namespace "shop" named "x"
        HEAD /api/v1/namespaces/shop/pods/x
            get resource "pods" in API group "" in the namespace "shop" named "x"
        GET /api/v1/namespaces/shop/pods/x?watch=true
            get resource "pods" in API group "" in the namespace "shop" named "x"
        PUT /api/v1/namespaces/shop/pods/x/status
            update resource "pods/status" in API group "" in the namespace "shop" named "x"
        POST /api/v1/namespaces/shop/pods/x/binding
            create resource "pods/binding" in API group "" in the namespace "shop" named "x"
        DELETE /api/v1/namespaces/shop/pods
            deletecollection resource "pods" in API group "" in the namespace "shop" named ""
        GET /api/v1/namespaces/shop
            get resource "namespaces" in API group "" in the namespace "shop" named "shop"
        PUT /api/v1/namespaces/shop/finalize
            update resource "namespaces/finalize" in API group "" in the namespace "shop" named "shop"
        GET /api/v1/namespaces/shop%2Fpods%2Fx
            get resource "namespaces" in API group "" in the namespace "shop/pods/x" named "shop/pods/x"
        PATCH /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/web-1/
            patch resource "leases" in API group "coordination.k8s.io" in the namespace "kube-node-lease" named "web-1"
        PUT /apis/portolan.dev/v1alpha1/nodes/web-1/acknowledgement
            update resource "nodes/acknowledgement" in API group "portolan.dev" at the cluster scope named "web-1"
        GET /apis/portolan.dev/v1alpha1/programmed?revision=5
            list resource "programmed" in API group "portolan.dev" at the cluster scope named ""
        BREW /api/v1/nodes/web-1
             resource "nodes" in API group "" at the cluster scope named "web-1"
        GET /apis/portolan.dev/v1alpha1
            get path "/apis/portolan.dev/v1alpha1" named ""
        GET /api/v1
            get path "/api/v1" named ""
        POST /metrics
            post path "/metrics" named ""
        GET /
            get path "/" named ""
        GET /api/v1/namespaces/%ff
            get path "/api/v1/namespaces/%ff" named """#]]
    .assert_eq(&lines.join("\n"));
}

/// A path with names in its places.
fn filled(path: &str) -> String {
    path.replace("{namespace}", "shop").replace("{name}", "web").replace("{id}", "7")
}

/// Whatever the router takes a request for, a rule is asked for the same.
#[test]
fn every_route_is_read_as_what_it_is() {
    for route in routes::all() {
        let info = read(route.action.method().as_str(), &filled(&route.path));
        let row = route.resource.info();
        let bare = route.special == Some(Special::Binding) && !route.named();
        let (resource, subresource) = match (route.status, route.special) {
            (true, _) => (row.plural, "status"),
            _ if bare => (routes::BINDINGS, ""),
            (_, Some(special)) => (row.plural, special.name()),
            _ => (row.plural, ""),
        };
        let namespace = match route.scope {
            Scope::Namespace => "shop",
            // A Namespace is in itself.
            Scope::Cluster if route.resource == Resource::Namespaces && route.named() => "web",
            _ => "",
        };
        let name = if route.named() { "web" } else { "" };
        let told = (info.verb, &*info.group, &*info.resource, &*info.subresource, &*info.namespace, &*info.name);
        let verb = route.action.verb();
        assert_eq!(told, (verb, row.group, resource, subresource, namespace, name), "{} {}", verb, route.path);
        if route.action == Action::List {
            assert_eq!(read("GET", &format!("{}?watch=1", filled(&route.path))).verb, "watch");
        }
    }
    for review in Review::ALL {
        let info = read("POST", &filled(&routes::review_path(review)));
        assert_eq!((info.verb, &*info.group, &*info.resource), ("create", review.info().group, review.info().plural));
    }
    for own in Own::ALL {
        let info = read(own.method().as_str(), &filled(&own.path()));
        assert!(info.is_resource && info.group == routes::own::GROUP, "{own:?}");
        if let Some((of, name)) = own.subresource() {
            let told = (info.verb, &*info.resource, &*info.subresource);
            assert_eq!(told, (own.action().verb(), of.info().plural, name), "{own:?}");
        }
    }
    for page in Page::all() {
        assert!(!read("GET", &page.path()).is_resource, "{page:?}");
    }
}

/// Every route has its row in the table of who may what.
#[test]
fn every_route_is_in_the_matrix() {
    let matrix = include_str!("../../../access/tests/matrix.golden");
    let table: Vec<Vec<&str>> =
        matrix.lines().skip(1).take_while(|l| l.starts_with(' ')).map(|l| l.split_whitespace().collect()).collect();
    let infos = routes::all()
        .into_iter()
        .map(|route| read(route.action.method().as_str(), &filled(&route.path)))
        .chain(Review::ALL.map(|review| read("POST", &filled(&routes::review_path(review)))))
        .chain(Own::ALL.map(|own| read(own.method().as_str(), &filled(&own.path()))));
    for info in infos {
        let subresource = if info.subresource.is_empty() { String::new() } else { format!("/{}", info.subresource) };
        let qualified = format!("{}{subresource}", info.resource);
        let row = table.iter().find(|row| match info.group.as_str() {
            "" => row[0] == qualified,
            group => row[0] == group && row[1] == qualified,
        });
        assert!(row.is_some_and(|row| row.contains(&info.verb)), "{} {} {qualified}", info.verb, info.group);
    }
}
