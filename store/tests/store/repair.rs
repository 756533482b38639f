//! A file that was edited or damaged is mended at the start, and an Event says so.

use model::Resource;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::support::{Home, node, pod, running, service, web};

async fn edit(home: &mut Home, sql: &str) {
    home.store.close().await;
    let mut connection = SqliteConnectOptions::new().filename(&home.config.path).connect().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    home.reopen().await;
}

fn events(home: &Home) -> Vec<(String, String)> {
    let (_, events) = home.store.list(Resource::Events, Some("default"));
    let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| event.value().unwrap())
        .map(|event| (text(&event, "reason"), text(&event, "message")))
        .collect()
}

async fn home() -> Home {
    let home = Home::new().await;
    home.create(Resource::Nodes, node("n1")).await.unwrap();
    let spec = serde_json::json!({ "ports": [{ "port": 80 }], "clusterIP": "10.96.0.5", "selector": { "app": "web" } });
    home.create(Resource::Services, service("web", spec)).await.unwrap();
    home.create(Resource::Pods, pod("p", "web")).await.unwrap();
    home.status(Resource::Pods, "default", "p", running("10.9.0.1", true)).await.unwrap();
    home
}

#[tokio::test]
async fn a_missing_address_object_is_made() {
    let mut home = home().await;
    edit(&mut home, "DELETE FROM log WHERE resource = 'ipaddresses'").await;
    assert_eq!(home.names(Resource::IpAddresses, ""), ["10.96.0.5"]);
    let expected =
        ("ClusterIPNotAllocated".to_owned(), "Cluster IP [IPv4]: 10.96.0.5 is not allocated; repairing".to_owned());
    assert_eq!(events(&home), [expected]);
    // Once is enough.
    home.reopen().await;
    assert_eq!(events(&home).len(), 1);
}

#[tokio::test]
async fn a_leaked_address_object_is_removed() {
    let mut home = home().await;
    edit(&mut home, "DELETE FROM log WHERE resource IN ('services', 'endpoints')").await;
    assert!(home.names(Resource::IpAddresses, "").is_empty());
    assert_eq!(events(&home)[0].0, "IPAddressNotAllocated");
    assert!(home.names(Resource::EndpointSlices, "default").is_empty());
    home.create(Resource::Services, web("web")).await.unwrap();
}

#[tokio::test]
async fn two_services_with_one_address_are_reported() {
    let mut home = home().await;
    let copy = "INSERT INTO log SELECT 1000, resource, namespace, 'twin', 0, \
        CAST(replace(replace(CAST(value AS TEXT), '\"name\":\"web\"', '\"name\":\"twin\"'), \
                '\"resourceVersion\":\"' || revision || '\"', '\"resourceVersion\":\"1000\"') AS BLOB) \
        FROM log WHERE resource = 'services'";
    edit(&mut home, copy).await;
    assert_eq!(events(&home).len(), 1);
    assert_eq!(events(&home)[0].0, "ClusterIPAlreadyAllocated");
    // Deleting one of them leaves the address to the other.
    home.delete(Resource::Services, "default", "twin").await.unwrap();
    assert_eq!(home.names(Resource::IpAddresses, ""), ["10.96.0.5"]);
    let asked = service("late", serde_json::json!({ "ports": [{ "port": 80 }], "clusterIP": "10.96.0.5" }));
    home.create(Resource::Services, asked).await.unwrap_err();
}

#[tokio::test]
async fn stale_and_missing_endpoints_are_derived() {
    let mut home = home().await;
    edit(&mut home, "DELETE FROM log WHERE resource = 'endpointslices'").await;
    assert_eq!(home.names(Resource::EndpointSlices, "default").len(), 1);
    edit(&mut home, "DELETE FROM log WHERE resource = 'pods'").await;
    let (_, slices) = home.store.list(Resource::EndpointSlices, None);
    assert!(slices.iter().all(|slice| slice.endpoint_slice().unwrap().endpoints.is_empty()));
    assert!(home.value(Resource::Endpoints, "default", "web").get("subsets").is_none());
}

#[tokio::test]
async fn of_many_services_those_are_derived_whose_endpoints_are_stale() {
    let mut home = home().await;
    // So many that every processor has a share.
    for i in 0..300 {
        home.create(Resource::Services, web(&format!("web-{i}"))).await.unwrap();
    }
    let before = home.store.revision();
    home.reopen().await;
    assert_eq!(home.store.revision(), before);
    let of = |name: &str, resource: &str| {
        format!("resource = '{resource}' AND (name = '{name}' OR name LIKE '{name}-_____')")
    };
    let first = of("web-0", "endpointslices");
    let last = of("web-99", "endpoints");
    edit(&mut home, &format!("DELETE FROM log WHERE {first} OR {last}")).await;
    // One for each that was missing, and nothing for the others.
    assert_eq!(home.store.revision(), before + 2);
    assert_eq!(home.names(Resource::EndpointSlices, "default").len(), 301);
    assert!(home.names(Resource::Endpoints, "default").contains(&"web-99".to_owned()));
}

#[tokio::test]
async fn another_service_range_is_reported_and_a_second_family_added() {
    let mut home = Home::with(|config| config.service_cidrs.truncate(1)).await;
    let created = home.create(Resource::Services, web("web")).await.unwrap().object;
    home.config.service_cidrs.push("fd00:10:96::/112".parse().unwrap());
    home.reopen().await;
    assert!(events(&home).is_empty());
    assert_eq!(home.value(Resource::ServiceCidrs, "", "kubernetes")["spec"]["cidrs"].as_array().unwrap().len(), 2);
    home.config.service_cidrs[0] = "10.50.0.0/16".parse().unwrap();
    home.reopen().await;
    assert_eq!(events(&home)[0].0, "KubernetesDefaultServiceCIDRInconsistent");
    let other = home.create(Resource::Services, web("other")).await.unwrap().object;
    let ip = |object: &model::Object| object.service().unwrap().spec.cluster_ip.clone();
    assert!(ip(&other).starts_with("10.96.") && ip(&created).starts_with("10.96."));
}
