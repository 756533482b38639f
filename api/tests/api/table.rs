//! Server-side tables through the API.

use expect_test::expect;
use serde_json::{Value, json};

use crate::app::{App, SERVICES};
use crate::watch::Lines;

const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn a_list_and_an_object_are_tables() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    for path in [SERVICES.to_owned(), format!("{SERVICES}/web")] {
        let table = app.get_as(&path, TABLE).await.json();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(
            table["columnDefinitions"][0],
            json!({
                "name": "Name", "type": "string", "format": "name", "priority": 0,
                "description": "The name of the object, unique in its namespace and resource."
            })
        );
        let row = &table["rows"][0];
        assert_eq!(row["cells"][0], "web");
        assert_eq!(row["cells"][2], created["spec"]["clusterIP"]);
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row["object"]["metadata"]["uid"], created["metadata"]["uid"]);
    }
    let old = app.get_as(SERVICES, "application/json;as=Table;v=v1beta1;g=meta.k8s.io").await.json();
    assert_eq!(old["apiVersion"], "meta.k8s.io/v1beta1");
}

#[tokio::test]
async fn rows_carry_what_was_asked_for() {
    let app = App::new().await;
    let created = app.service("web", json!({})).await;
    let object = async |include: &str| {
        let answer = app.get_as(&format!("{SERVICES}?includeObject={include}"), TABLE).await;
        answer.json()["rows"][0]["object"].clone()
    };
    assert_eq!(object("None").await, Value::Null);
    assert_eq!(object("Object").await, created);
    let wrong = app.get_as(&format!("{SERVICES}?includeObject=Some"), TABLE).await;
    assert_eq!(
        wrong.status(),
        "400 BadRequest: Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

/// An object of each resource that a fresh cluster has none of.
fn example(resource: model::Resource) -> Option<Value> {
    let meta = json!({"name": "x", "namespace": "default"});
    Some(match resource.info().plural {
        "nodes" => json!({"metadata": {"name": "x"}}),
        "pods" => json!({"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        "services" => json!({"metadata": meta, "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}}),
        "endpoints" => json!({"metadata": meta, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}),
        // Those of the other group are the same ones.
        "events" if resource.info().group.is_empty() => json!({
            "metadata": meta, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        }),
        "endpointslices" => json!({"metadata": meta, "addressType": "IPv4", "endpoints": []}),
        "leases" => json!({"metadata": meta, "spec": {"holderIdentity": "me"}}),
        "servicecidrs" => json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["10.99.0.0/24"]}}),
        "ipaddresses" => json!({
            "metadata": {"name": "10.99.0.7"}, "spec": {"parentRef": {"resource": "things", "name": "x"}},
        }),
        "roles" | "clusterroles" => json!({"metadata": {"name": "x"}, "rules": []}),
        "serviceaccounts" => json!({"metadata": {"name": "x"}}),
        "rolebindings" | "clusterrolebindings" => json!({
            "metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "alice"}],
        }),
        "secrets" => json!({"metadata": {"name": "x"}, "stringData": {"a": "b"}}),
        "addresspools" => json!({"metadata": {"name": "x"}, "spec": {"addresses": ["192.0.2.0/28"]}}),
        "loadbalancers" => json!({"metadata": {"name": "lb-x"}, "spec": {"addresses": ["192.0.2.3"]}}),
        "accesslists" => json!({"metadata": {"name": "x"}, "spec": {"entries": [{"cidr": "192.0.2.1"}]}}),
        "tokens" => json!({
            "metadata": {"name": "abcdef"},
            "spec": {"purpose": "Access", "user": "alice", "hash": format!("sha256:{}", "0".repeat(64))},
        }),
        _ => return None,
    })
}

/// Where the objects of a resource are: the collection to write to, and the one to read from.
fn collections(resource: model::Resource) -> (String, String) {
    let info = resource.info();
    let version = info.api_version();
    let root = if info.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
    let all = format!("{root}/{}", info.plural);
    if info.namespaced { (format!("{root}/namespaces/default/{}", info.plural), all) } else { (all.clone(), all) }
}

/// Every column of every resource: `[name]` only in wide tables, `name:format` where it has one.
#[tokio::test]
async fn every_resource_has_its_columns() {
    let app = App::new().await;
    let mut text = String::new();
    for resource in model::Resource::ALL {
        let table = app.get_as(&collections(resource).1, TABLE).await.json();
        assert_eq!(table["kind"], "Table");
        let columns = table["columnDefinitions"].as_array().unwrap();
        let names: Vec<String> = columns
            .iter()
            .map(|column| {
                let field = |name: &str| column[name].as_str().unwrap_or_else(|| panic!("{name} of {column}"));
                assert_eq!(field("type"), "string", "{column}");
                assert!(field("description").ends_with('.'), "{column}");
                let format = if field("format").is_empty() { String::new() } else { format!(":{}", field("format")) };
                let name = format!("{}{format}", field("name"));
                match column["priority"].as_u64() {
                    Some(0) => name,
                    Some(1) => format!("[{name}]"),
                    other => panic!("priority {other:?} of {column}"),
                }
            })
            .collect();
        text += &format!("{resource}: {}\n", names.join(", "));
    }
    expect![[r#"
        namespaces: Name:name, Status, Age
        nodes: Name:name, Status, Roles, Age, Version, [Internal-IP], [External-IP], [OS-Image], [Kernel-Version], [Container-Runtime]
        pods: Name:name, Ready, Status, Restarts, Age, [IP], [Node], [Nominated Node], [Readiness Gates]
        services: Name:name, Type, Cluster-IP, External-IP, Port(s), Age, [Selector]
        endpoints: Name:name, Endpoints, Age
        events: Last Seen, Type, Reason, Object, [Subobject], [Source], Message, [First Seen], [Count], [Name:name]
        endpointslices: Name:name, AddressType, Ports, Endpoints, Age
        servicecidrs: Name:name, CIDRs, Age
        ipaddresses: Name:name, ParentRef
        leases: Name:name, Holder, Age
        events: Last Seen, Type, Reason, Object, [Subobject], [Source], Message, [First Seen], [Count], [Name:name]
        serviceaccounts: Name:name, Secrets, Age
        roles: Name:name, Created At:date-time
        rolebindings: Name:name, Role, Age, [Users], [Groups], [ServiceAccounts]
        clusterroles: Name:name, Created At:date-time
        clusterrolebindings: Name:name, Role, Age, [Users], [Groups], [ServiceAccounts]
        tokens: Name:name, Purpose, User, Expires, Age, [Description]
        addresspools: Name:name, Type, Auto-Assign, IPv4, IPv6, Age, [Addresses]
        loadbalancers: Name:name, Type, Addresses, Ports, Edge, Healthy, Service, Age, [Display-Name]
        accesslists: Name:name, Entries, Age
        secrets: Name:name, Type, Data, Age
    "#]].assert_eq(&text);
}

/// Both versions, and every way to read, show the same columns and the same row.
#[tokio::test]
async fn get_list_and_watch_agree() {
    let app = App::new().await;
    for resource in model::Resource::ALL {
        let (collection, all) = collections(resource);
        if let Some(object) = example(resource) {
            let answer = app.post(&collection, &object).await;
            assert_eq!(answer.code, 201, "{resource}: {}", answer.text());
        }
        let list = app.get(&all).await.json();
        let Some(object) = list["items"].as_array().and_then(|items| items.first()) else {
            panic!("{resource}: no example of one");
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        let within = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => collection.replace("/default/", &format!("/{namespace}/")),
            None => collection,
        };
        for version in ["v1", "v1beta1"] {
            let accept = format!("application/json;as=Table;v={version};g=meta.k8s.io");
            let get = app.get_as(&format!("{within}/{name}"), &accept).await.json();
            let list = app.get_as(&all, &accept).await.json();
            let event = Lines::open_at(&app, &format!("{all}?watch=1"), &accept).await.next().await.unwrap();
            assert_eq!(event["type"], "ADDED");
            for table in [&get, &list, &event["object"]] {
                assert_eq!(table["kind"], "Table");
                assert_eq!(table["apiVersion"], format!("meta.k8s.io/{version}"));
                assert_eq!(table["columnDefinitions"], get["columnDefinitions"]);
                let row = &table["rows"][0];
                assert_eq!(row["cells"], get["rows"][0]["cells"]);
                let columns = table["columnDefinitions"].as_array().unwrap().len();
                assert_eq!(row["cells"].as_array().unwrap().len(), columns, "{resource}");
                assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
                assert_eq!(row["object"]["apiVersion"], format!("meta.k8s.io/{version}"));
                assert_eq!(row["object"]["metadata"], object["metadata"]);
            }
            assert!(list["metadata"]["resourceVersion"].is_string());
            assert_eq!(get["rows"].as_array().unwrap().len(), 1);
        }
        // Without its object, and with the whole of it.
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        for (include, expected) in [("None", &Value::Null), ("Object", object)] {
            for query in [format!("includeObject={include}"), format!("includeObject={include}&watch=1")] {
                let table = if query.contains("watch") {
                    Lines::open_at(&app, &format!("{all}?{query}"), accept).await.next().await.unwrap()["object"].take()
                } else {
                    app.get_as(&format!("{all}?{query}"), accept).await.json()
                };
                assert_eq!(table["rows"][0]["object"], *expected, "{resource} {query}");
            }
        }
        let wrong = app.get_as(&format!("{all}?watch=1&includeObject=Some"), accept).await;
        assert_eq!(wrong.code, 400, "{}", wrong.text());
    }
}
