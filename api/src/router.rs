//! The router: the table of contents of the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use http::{Method, Uri};
use model::Review;
use tower::ServiceExt;

use crate::app::App;
use crate::asked::Asked;
use crate::call::Call;
use crate::negotiate::{self, Endpoint};
use crate::path::PathValues;
use crate::query::Query;
use crate::rim::Label;
use crate::routes::{self, Action, Own, Page, Route, Scope, Special};
use crate::serve::{Connections, Draining};
use crate::status::Status;
use crate::{Config, actions, compress, discovery, docs, health, metrics, openapi, own, reviews, rim, version};

/// Builds the router for this configuration.
pub fn build(config: &Config) -> Router {
    let app = App::new(config);
    let mut router = Router::new();
    for page in Page::all() {
        let handler = move |State(app): State<Arc<App>>, request: Request| async move { show(&app, page, &request) };
        router = router.route(&page.path(), get(handler));
    }
    for review in Review::ALL {
        let path = routes::review_path(review).replace("{namespace}", "{first}");
        let handler = move |State(app): State<Arc<App>>, parameters: PathValues, request: Request| async move {
            ask(&app, review, parameters, request).await
        };
        let refuse = || async { Status::method_not_allowed() };
        router = router.route(&path, post(handler).fallback(refuse));
    }

    for own in Own::ALL {
        let path = own.path().replace("{namespace}", "{first}").replace("{name}", "{second}");
        let handler = move |State(app): State<Arc<App>>, parameters: PathValues, request: Request| {
            own::serve(app, own, parameters, request)
        };
        // Two methods of one path come to stand in one row.
        if let Ok(filter) = MethodFilter::try_from(own.method()) {
            router = router.route(&path, on(filter, handler));
        }
    }

    let mut patterns: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    for route in routes::all() {
        patterns.entry(route.pattern()).or_default().push(route);
    }
    for (pattern, routes) in patterns {
        router = router.route(&pattern, methods(routes));
    }
    let router =
        router.method_not_allowed_fallback(async || Status::method_not_allowed()).with_state::<()>(app.clone());
    let exact = router.clone().fallback(async || Status::no_such_path());
    router
        .fallback(move |request: Request| without_slash(exact, request))
        .layer(axum::middleware::from_fn_with_state(app, rim::around))
}

/// A path that nothing is served on, asked for once more without the slashes at its end: Kubernetes answers either, and
/// its Python client sends `/version/`.
async fn without_slash(exact: Router, mut request: Request) -> Response {
    let trimmed = request.uri().path().trim_end_matches('/');
    let target = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    match target.parse::<Uri>() {
        Ok(uri) if !trimmed.is_empty() && trimmed != request.uri().path() => {
            *request.uri_mut() = uri;
            let Ok(response) = exact.oneshot(request).await;
            response
        }
        _ => Status::no_such_path().into_response(),
    }
}

/// A page that is no resource's.
fn show(app: &Arc<App>, page: Page, request: &Request) -> Result<Response, Status> {
    let (uri, headers) = (request.uri(), request.headers());
    let draining = request.extensions().get::<Draining>();
    match page {
        Page::Paths => discovery::paths(app, uri, headers),
        Page::Core => discovery::core(app, uri, headers),
        Page::Groups => discovery::groups(app, uri, headers),
        Page::Group(group) => discovery::group(app, group, uri, headers),
        Page::Resources(gv) => discovery::resources(app, gv, uri, headers),
        Page::OpenApiV2 => openapi::v2(app, uri, headers),
        Page::OpenApiV3 => openapi::index(app, uri, headers),
        Page::OpenApiV3Of(gv) => openapi::v3(app, gv, uri, headers),
        Page::OpenApi => openapi::whole(app, uri, headers),
        Page::Docs => Ok(docs::page()),
        Page::DocsScript => Ok(docs::script()),
        Page::DocsStyle => Ok(docs::style()),
        Page::Version => version::get(app, uri, headers),
        Page::Livez => Ok(health::livez(uri)),
        Page::Readyz => Ok(health::readyz(app, uri, draining)),
        Page::Healthz => Ok(health::healthz(app, uri, draining)),
        Page::Metrics => Ok(metrics::get(app, request.extensions().get::<Arc<Connections>>().map(|all| &**all))),
    }
}

/// A review.
async fn ask(app: &App, review: Review, parameters: PathValues, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let namespace = parameters.iter().next().unwrap_or("");
    let user = parts.extensions.get().cloned().unwrap_or_else(|| app.authenticator.anonymous());
    let asker = reviews::Asker { authorizer: &app.authorizer, user: &user };
    let mut response = reviews::create(review, asker, namespace, &query, &parts.headers, body).await.into_response();
    response.extensions_mut().insert(Label { verb: "create", resource: review.info().plural });
    response
}

/// The methods of one path.
fn methods(routes: Vec<Route>) -> MethodRouter<Arc<App>> {
    let resource = routes.first().map(|r| r.resource);
    let named = routes.iter().any(Route::named);
    let mut methods = MethodRouter::new();
    for route in routes {
        // `Action::method` names methods that have a filter, every one.
        let Ok(filter) = MethodFilter::try_from(route.action.method()) else { continue };
        let route = Arc::new(route);
        let handler = move |State(app): State<Arc<App>>, parameters: PathValues, request: Request| {
            dispatch(app, route.clone(), parameters, request)
        };
        methods = methods.merge(on(filter, handler));
    }
    methods.fallback(move |method: Method| async move {
        match resource {
            Some(resource) => Status::verb_not_supported(resource, verb(&method, named)),
            None => Status::method_not_allowed(),
        }
    })
}

/// Kubernetes' verb for a method that the path does not take.
fn verb(method: &Method, named: bool) -> &str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        other => other,
    }
}

/// Turns a request into a call and hands it to its action.
async fn dispatch(app: Arc<App>, route: Arc<Route>, parameters: PathValues, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let watch = route.action == Action::List && query.flag("watch");
    let label =
        Label { verb: if watch { "watch" } else { route.action.verb() }, resource: route.resource.info().plural };

    let mut values = parameters.iter().map(str::to_owned);
    let namespace = match route.scope {
        Scope::Namespace => values.next(),
        Scope::Cluster => Some(String::new()),
        Scope::AllNamespaces => None,
    };
    let name = values.next().unwrap_or_default();
    let gzip = compress::accepted(&parts.headers);
    let endpoint = if watch { Endpoint::Watch } else { Endpoint::Objects };
    let answer = match negotiate::accept(&parts.headers, endpoint) {
        Err(status) => Err(status),
        Ok(accepted) => {
            let draining = parts.extensions.get::<Draining>().cloned();
            let user = parts.extensions.get().cloned().unwrap_or_else(|| app.authenticator.anonymous());
            let asked = parts.extensions.get::<Arc<Asked>>();
            let guard = asked.and_then(|asked| app.authorizer.guard(&user, route.resource, asked));
            let call = Call {
                app,
                resource: route.resource,
                action: route.action,
                status: route.status,
                special: route.special,
                namespace,
                name,
                query,
                headers: parts.headers,
                version: parts.version,
                accepted,
                guard,
                draining,
            };
            run(call, body, watch).await
        }
    };
    let mut response = answer.into_response();
    if matches!(route.action, Action::Get | Action::List) && !watch {
        response = compress::respond(response, gzip);
    }
    response.extensions_mut().insert(label);
    response
}

async fn run(call: Call, body: Body, watch: bool) -> Result<Response, Status> {
    match call.action {
        Action::Create if call.special == Some(Special::Binding) => actions::bind(call, body).await,
        Action::Create if call.special == Some(Special::Token) => actions::token(call, body).await,
        Action::Create => actions::create(call, body).await,
        Action::Delete => actions::delete(call, body).await,
        Action::DeleteCollection => actions::delete_collection(call, body).await,
        Action::Get => actions::get(call).await,
        Action::List if watch => actions::watch(call).await,
        Action::List => actions::list(call).await,
        Action::Patch => actions::patch(call, body).await,
        Action::Update => actions::update(call, body).await,
    }
}
