//! The table of routes, derived from `model::Resource`: which method on which path does what to which resource. Beside
//! it stand the reviews, which take one method, in [`own`] Portolan's own group, and in [`pages`] what is no resource's.
//!
//! The router registers it, discovery lists its verbs, OpenAPI describes its paths. A new row in the model's
//! table is served, listed and described without a line here.

pub mod own;
pub mod pages;

use http::Method;
use model::schema::Kind;
use model::{Resource, ResourceInfo, Review};
pub use own::{API_VERSION, Own};
pub use pages::{OpenPages, Page};

/// What a route does. The names are Kubernetes' verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
}

impl Action {
    /// Kubernetes' verb, as discovery lists it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
        }
    }

    pub fn method(self) -> Method {
        match self {
            Self::Create => Method::POST,
            Self::Delete | Self::DeleteCollection => Method::DELETE,
            Self::Get | Self::List => Method::GET,
            Self::Patch => Method::PATCH,
            Self::Update => Method::PUT,
        }
    }
}

/// Which objects a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/api/v1/nodes/{name}` and `/api/v1/nodes`.
    Cluster,
    /// `/api/v1/namespaces/{namespace}/services…`.
    Namespace,
    /// `/api/v1/services`: every namespace; read only.
    AllNamespaces,
}

/// A path with a rule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `POST …/pods/{name}/binding`, and the older `POST …/bindings`: a Binding, which says where a Pod runs.
    Binding,
    /// `PUT /api/v1/namespaces/{name}/finalize`: the finalizers in a Namespace's spec.
    Finalize,
    /// `POST …/serviceaccounts/{name}/token`: a TokenRequest, which is answered with a token of the account.
    Token,
}

impl Special {
    /// The last part of the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::Finalize => "finalize",
            Self::Token => "token",
        }
    }

    pub fn action(self) -> Action {
        match self {
            Self::Binding | Self::Token => Action::Create,
            Self::Finalize => Action::Update,
        }
    }

    /// What is sent there.
    pub fn kind(self) -> Kind {
        match self {
            Self::Binding => Kind::Binding,
            Self::Finalize => Kind::Resource(Resource::Namespaces),
            Self::Token => Kind::TokenRequest,
        }
    }

    /// Those under the objects of a resource.
    pub fn of(resource: Resource) -> Option<Self> {
        match resource {
            Resource::Pods => Some(Self::Binding),
            Resource::Namespaces => Some(Self::Finalize),
            Resource::ServiceAccounts => Some(Self::Token),
            _ => None,
        }
    }
}

/// The collection that Bindings may be posted to without their Pod in the path.
pub const BINDINGS: &str = "bindings";

/// One method on one path.
#[derive(Clone, Debug)]
pub struct Route {
    pub resource: Resource,
    pub action: Action,
    pub scope: Scope,
    /// Whether the path ends in `/status`.
    pub status: bool,
    /// What else the path may be for than objects and their status.
    pub special: Option<Special>,
    /// The path as OpenAPI spells it: `/api/v1/namespaces/{namespace}/services/{name}`.
    pub path: String,
}

impl Route {
    /// The path with parameters named by position: the router's tree wants one name at one place, and
    /// `/api/v1/namespaces/{name}` and `/api/v1/namespaces/{namespace}/pods` share theirs.
    pub fn pattern(&self) -> String {
        let mut names = ["{first}", "{second}"].into_iter();
        let parts: Vec<&str> = self
            .path
            .split('/')
            .map(|part| if part.starts_with('{') { names.next().unwrap_or(part) } else { part })
            .collect();
        parts.join("/")
    }

    /// Whether the path names one object.
    pub fn named(&self) -> bool {
        self.path.contains("{name}")
    }
}

/// `/api/v1` or `/apis/discovery.k8s.io/v1`.
pub fn root(info: &ResourceInfo) -> String {
    if info.group.is_empty() {
        format!("/api/{}", info.version)
    } else {
        format!("/apis/{}/{}", info.group, info.version)
    }
}

/// The path on which a review is created.
pub fn review_path(review: Review) -> String {
    let info = review.info();
    let scope = if info.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("/apis/{}/{}{scope}/{}", info.group, info.version, info.plural)
}

/// Every route of every resource, in the order of the model's table.
pub fn all() -> Vec<Route> {
    Resource::ALL.into_iter().flat_map(of).collect()
}

/// The routes of one resource.
pub fn of(resource: Resource) -> Vec<Route> {
    let info = resource.info();
    let root = root(info);
    let scope = if info.namespaced { Scope::Namespace } else { Scope::Cluster };
    let collection = match scope {
        Scope::Namespace => format!("{root}/namespaces/{{namespace}}/{}", info.plural),
        _ => format!("{root}/{}", info.plural),
    };
    let object = format!("{collection}/{{name}}");
    let route =
        |action, path: &str| Route { resource, action, scope, status: false, special: None, path: path.to_owned() };

    let mut routes = vec![route(Action::List, &collection), route(Action::Create, &collection)];
    // Kubernetes gives namespaces no deletecollection: one request must not empty a cluster.
    if resource != Resource::Namespaces {
        routes.push(route(Action::DeleteCollection, &collection));
    }
    for action in [Action::Get, Action::Update, Action::Patch, Action::Delete] {
        routes.push(route(action, &object));
    }
    if info.status {
        for action in [Action::Get, Action::Update, Action::Patch] {
            routes.push(Route { status: true, ..route(action, &format!("{object}/status")) });
        }
    }
    if let Some(special) = Special::of(resource) {
        let mut paths = vec![format!("{object}/{}", special.name())];
        if special == Special::Binding {
            paths.push(format!("{root}/namespaces/{{namespace}}/{BINDINGS}"));
        }
        routes.extend(paths.iter().map(|path| Route { special: Some(special), ..route(special.action(), path) }));
    }
    if info.namespaced {
        let path = format!("{root}/{}", info.plural);
        routes.push(Route { scope: Scope::AllNamespaces, ..route(Action::List, &path) });
    }
    routes
}

/// The verbs that discovery lists for a resource or for its status, sorted; `watch` goes with `list`.
pub fn verbs(resource: Resource, status: bool) -> Vec<&'static str> {
    let mut verbs: Vec<&str> =
        of(resource).iter().filter(|r| r.status == status && r.special.is_none()).map(|r| r.action.verb()).collect();
    if verbs.contains(&"list") {
        verbs.push("watch");
    }
    verbs.sort_unstable();
    verbs.dedup();
    verbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_namespaced_resource() {
        let routes = of(Resource::Services);
        let lines: Vec<String> = routes.iter().map(|r| format!("{} {}", r.action.verb(), r.path)).collect();
        expect_test::expect![[r#"
            list /api/v1/namespaces/{namespace}/services
            create /api/v1/namespaces/{namespace}/services
            deletecollection /api/v1/namespaces/{namespace}/services
            get /api/v1/namespaces/{namespace}/services/{name}
            update /api/v1/namespaces/{namespace}/services/{name}
            patch /api/v1/namespaces/{namespace}/services/{name}
            delete /api/v1/namespaces/{namespace}/services/{name}
            get /api/v1/namespaces/{namespace}/services/{name}/status
            update /api/v1/namespaces/{namespace}/services/{name}/status
            patch /api/v1/namespaces/{namespace}/services/{name}/status
            list /api/v1/services"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn namespaces_cannot_be_deleted_all_at_once() {
        assert_eq!(verbs(Resource::Namespaces, false), ["create", "delete", "get", "list", "patch", "update", "watch"]);
        assert_eq!(verbs(Resource::Namespaces, true), ["get", "patch", "update"]);
        assert_eq!(verbs(Resource::Leases, false).len(), 8);
    }

    #[test]
    fn patterns_name_parameters_by_position() {
        let patterns: Vec<String> = of(Resource::Leases).iter().map(Route::pattern).collect();
        assert_eq!(patterns[3], "/apis/coordination.k8s.io/v1/namespaces/{first}/leases/{second}");
    }
}
