//! Discovery through the API; everything that is advertised is asked for.

use axum::body::Body;
use expect_test::expect;
use serde_json::{Value, json};

use crate::app::App;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

#[tokio::test]
async fn the_aggregated_form_is_told_by_its_content_type() {
    let app = App::new().await;
    let accept = format!("{V2},{V2BETA1},application/json");
    for path in ["/api?timeout=32s", "/apis?timeout=32s"] {
        let answer = app.get_as(path, &accept).await;
        assert_eq!(answer.header("Content-Type"), V2);
        assert_eq!(answer.json()["apiVersion"], "apidiscovery.k8s.io/v2");
        let old = app.get_as(path, &format!("{V2BETA1},application/json")).await;
        assert_eq!(old.header("Content-Type"), V2BETA1);
        assert_eq!(old.json()["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        let legacy = app.get_as(path, "application/json").await;
        assert_eq!(legacy.header("Content-Type"), "application/json");
        assert_eq!(legacy.header("Vary"), "Accept");
    }
}

#[tokio::test]
async fn a_client_that_has_it_gets_it_not_again() {
    let app = App::new().await;
    let first = app.get("/apis").await;
    let etag = first.header("ETag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    let request = App::request("GET", "/apis").header("If-None-Match", &etag).body(Body::empty()).unwrap();
    let second = app.send(request).await;
    assert_eq!((second.code.as_u16(), second.body.len()), (304, 0));
    assert_eq!(second.header("ETag"), etag);
    let request = App::request("GET", "/apis").header("If-None-Match", "\"other\"").body(Body::empty()).unwrap();
    assert_eq!(app.send(request).await.code, 200);
}

/// The first form that the client names and that is served wins; what it names besides does not matter.
#[tokio::test]
async fn forms_are_taken_in_the_order_asked() {
    let app = App::new().await;
    let unknown = "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList";
    for (accept, expected) in [
        (format!("{V2BETA1},{V2},application/json"), V2BETA1),
        (format!("{unknown},{V2},application/json"), V2),
        (format!("{unknown},application/json"), "application/json"),
        (format!("application/json,{V2}"), "application/json"),
        ("*/*".to_owned(), "application/json"),
        ("application/json, */*;q=0.8".to_owned(), "application/json"),
    ] {
        for path in ["/api", "/apis"] {
            let answer = app.get_as(path, &accept).await;
            assert_eq!((answer.code.as_u16(), answer.header("Content-Type")), (200, expected), "{path} {accept}");
        }
    }
    assert_eq!(app.get_as("/apis", unknown).await.code, 406);
}

/// Every document can be kept, is kept apart by form, and is not sent twice.
#[tokio::test]
async fn every_document_has_its_validators() {
    let app = App::new().await;
    let mut tags = std::collections::BTreeSet::new();
    let aggregated = ["/api", "/apis"].into_iter().flat_map(|path| [(path, V2), (path, V2BETA1)]);
    let legacy = ["/api", "/apis", "/api/v1", "/apis/discovery.k8s.io", "/apis/discovery.k8s.io/v1"];
    for (path, accept) in aggregated.chain(legacy.map(|path| (path, "application/json"))) {
        let plain = app.get_as(path, accept).await;
        // What nobody asked for is ignored.
        let answer = app.get_as(&format!("{path}?timeout=32s&profile=nopeer&x"), accept).await;
        assert_eq!(answer.body, plain.body);
        assert_eq!(answer.header("Vary"), "Accept", "{path}");
        assert_eq!(answer.header("Cache-Control"), "public", "{path}");
        let tag = answer.header("ETag").to_owned();
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag}");
        assert!(tags.insert(tag.clone()), "{path} {accept}: another document has this tag");
        for (known, code) in [(tag.clone(), 304), (format!("\"a\", W/{tag}"), 304), ("\"a\"".to_owned(), 200)] {
            let request = App::request("GET", path).header("Accept", accept).header("If-None-Match", &known);
            let again = app.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(again.code, code, "{path} {known}");
            assert_eq!((again.header("ETag"), again.header("Vary")), (tag.as_str(), "Accept"));
        }
    }
}

/// The table of what there is, as both forms tell it: `resource (short names; categories) kind scope: verbs`.
#[tokio::test]
async fn resources_and_verbs() {
    let app = App::new().await;
    let strings = |value: &Value| {
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let mut aggregated = String::new();
    for path in ["/api", "/apis"] {
        for group in app.get_as(path, V2).await.json()["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or("");
            for version in group["versions"].as_array().unwrap() {
                assert_eq!(version["freshness"], "Current");
                for resource in version["resources"].as_array().unwrap() {
                    let kind = &resource["responseKind"];
                    // Above subresources of another group's resource stands a row that says nothing.
                    if resource["verbs"] != json!([]) {
                        assert_eq!((&kind["group"], &kind["version"]), (&json!(name), &version["version"]));
                        aggregated += &format!(
                            "{name}/{} {} ({}; {}) {} {} {}: {}\n",
                            version["version"].as_str().unwrap(),
                            resource["resource"].as_str().unwrap(),
                            strings(&resource["shortNames"]),
                            strings(&resource["categories"]),
                            kind["kind"].as_str().unwrap(),
                            resource["singularResource"].as_str().unwrap(),
                            resource["scope"].as_str().unwrap(),
                            strings(&resource["verbs"]),
                        );
                    } else {
                        assert_eq!(kind, &json!({"group": "", "version": "", "kind": ""}));
                    }
                    for sub in resource["subresources"].as_array().into_iter().flatten() {
                        let (name, verbs) = (sub["subresource"].as_str().unwrap(), strings(&sub["verbs"]));
                        aggregated +=
                            &format!("    /{name} {}: {verbs}\n", sub["responseKind"]["kind"].as_str().unwrap());
                    }
                }
            }
        }
    }
    let mut legacy = String::new();
    let groups = app.get("/apis").await.json();
    let versions = groups["groups"].as_array().unwrap().iter().flat_map(|group| group["versions"].as_array().unwrap());
    let roots = versions.map(|version| format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
    for root in std::iter::once("/api/v1".to_owned()).chain(roots) {
        let list = app.get(&root).await.json();
        let group_version = list["groupVersion"].as_str().unwrap();
        let group_version =
            if group_version.contains('/') { group_version.to_owned() } else { format!("/{group_version}") };
        for resource in list["resources"].as_array().unwrap() {
            let (name, kind) = (resource["name"].as_str().unwrap(), resource["kind"].as_str().unwrap());
            legacy += &match name.split_once('/') {
                Some((_, sub)) => format!("    /{sub} {kind}: {}\n", strings(&resource["verbs"])),
                None => format!(
                    "{group_version} {name} ({}; {}) {kind} {} {}: {}\n",
                    strings(&resource["shortNames"]),
                    strings(&resource["categories"]),
                    resource["singularName"].as_str().unwrap(),
                    if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
                    strings(&resource["verbs"]),
                ),
            };
        }
    }
    assert_eq!(legacy, aggregated);
    expect![[r#"
        /v1 namespaces (ns; ) Namespace namespace Cluster: create delete get list patch update watch
            /finalize Namespace: update
            /status Namespace: get patch update
        /v1 nodes (no; ) Node node Cluster: create delete deletecollection get list patch update watch
            /status Node: get patch update
        /v1 bindings (; ) Binding binding Namespaced: create
        /v1 pods (po; all) Pod pod Namespaced: create delete deletecollection get list patch update watch
            /binding Binding: create
            /status Pod: get patch update
        /v1 services (svc; all) Service service Namespaced: create delete deletecollection get list patch update watch
            /status Service: get patch update
        /v1 endpoints (ep; ) Endpoints endpoints Namespaced: create delete deletecollection get list patch update watch
        /v1 events (ev; ) Event event Namespaced: create delete deletecollection get list patch update watch
        /v1 serviceaccounts (sa; ) ServiceAccount serviceaccount Namespaced: create delete deletecollection get list patch update watch
            /token TokenRequest: create
        /v1 secrets (; ) Secret secret Namespaced: create delete deletecollection get list patch update watch
        authentication.k8s.io/v1 selfsubjectreviews (; ) SelfSubjectReview selfsubjectreview Cluster: create
        authorization.k8s.io/v1 localsubjectaccessreviews (; ) LocalSubjectAccessReview localsubjectaccessreview Namespaced: create
        authorization.k8s.io/v1 selfsubjectaccessreviews (; ) SelfSubjectAccessReview selfsubjectaccessreview Cluster: create
        authorization.k8s.io/v1 selfsubjectrulesreviews (; ) SelfSubjectRulesReview selfsubjectrulesreview Cluster: create
        authorization.k8s.io/v1 subjectaccessreviews (; ) SubjectAccessReview subjectaccessreview Cluster: create
        coordination.k8s.io/v1 leases (; ) Lease lease Namespaced: create delete deletecollection get list patch update watch
        discovery.k8s.io/v1 endpointslices (; ) EndpointSlice endpointslice Namespaced: create delete deletecollection get list patch update watch
        events.k8s.io/v1 events (ev; ) Event event Namespaced: create delete deletecollection get list patch update watch
        networking.k8s.io/v1 servicecidrs (; ) ServiceCIDR servicecidr Cluster: create delete deletecollection get list patch update watch
            /status ServiceCIDR: get patch update
        networking.k8s.io/v1 ipaddresses (ip; ) IPAddress ipaddress Cluster: create delete deletecollection get list patch update watch
        portolan.dev/v1alpha1 tokens (; ) Token token Cluster: create delete deletecollection get list patch update watch
        portolan.dev/v1alpha1 addresspools (pool; ) AddressPool addresspool Cluster: create delete deletecollection get list patch update watch
            /status AddressPool: get patch update
        portolan.dev/v1alpha1 loadbalancers (lb; ) LoadBalancer loadbalancer Cluster: create delete deletecollection get list patch update watch
            /status LoadBalancer: get patch update
        portolan.dev/v1alpha1 accesslists (acl; ) AccessList accesslist Cluster: create delete deletecollection get list patch update watch
            /acknowledgement Acknowledgement: update
            /answers Answer: create
            /certificate CertificateRequest: create
            /heartbeat HeartbeatResponse: update
            /questions Question: create get
            /programmed ServiceProgrammed: get
        rbac.authorization.k8s.io/v1 roles (; ) Role role Namespaced: create delete deletecollection get list patch update watch
        rbac.authorization.k8s.io/v1 rolebindings (; ) RoleBinding rolebinding Namespaced: create delete deletecollection get list patch update watch
        rbac.authorization.k8s.io/v1 clusterroles (; ) ClusterRole clusterrole Cluster: create delete deletecollection get list patch update watch
        rbac.authorization.k8s.io/v1 clusterrolebindings (; ) ClusterRoleBinding clusterrolebinding Cluster: create delete deletecollection get list patch update watch
    "#]].assert_eq(&aggregated);
}

#[tokio::test]
async fn every_advertised_resource_is_served() {
    let app = App::new().await;
    let mut roots = vec!["/api/v1".to_owned()];
    for group in app.get("/apis").await.json()["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        assert_eq!(app.get(&format!("/apis/{name}")).await.json()["kind"], "APIGroup");
        roots.push(format!("/apis/{}", group["preferredVersion"]["groupVersion"].as_str().unwrap()));
    }
    assert!(roots.len() > 4, "{roots:?}");
    for root in roots {
        let list = app.get(&root).await.json();
        assert_eq!(list["kind"], "APIResourceList");
        for resource in list["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let listed = resource["verbs"].as_array().unwrap().contains(&json!("list"));
            if listed {
                let answer = app.get(&format!("{root}/{name}")).await;
                assert_eq!(answer.code, 200, "{root}/{name}");
                assert_eq!(answer.json()["kind"], format!("{}List", resource["kind"].as_str().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn version_and_root() {
    let app = App::new().await;
    // Python's client asks for these with a slash at the end.
    for path in ["/api/", "/apis/", "/api/v1/", "/apis/discovery.k8s.io/", "/apis/discovery.k8s.io/v1/"] {
        assert_eq!(app.get(path).await.json(), app.get(path.trim_end_matches('/')).await.json(), "{path}");
    }
    for path in ["/version", "/version/", "/version?timeout=5s"] {
        let value = app.get(path).await.json();
        assert_eq!(
            (&value["major"], &value["minor"], &value["gitVersion"]),
            (&json!("1"), &json!("32"), &json!("v1.32.0+portolan.0.1.0"))
        );
    }
    assert!(app.get("/").await.json()["paths"].as_array().unwrap().contains(&json!("/apis/discovery.k8s.io/v1")));
}
