//! Addresses and ports, and the objects that show them.

use model::Resource;
use model::admission::Subresource;
use serde_json::{Value, json};
use store::{Outcome, Refusal};

use super::support::{Home, service, web};

fn cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": name },
        "spec": { "cidrs": cidrs } })
}

async fn small() -> Home {
    Home::with(|config| config.service_cidrs = vec!["10.0.0.0/29".parse().unwrap()]).await
}

#[tokio::test]
async fn an_address_comes_with_its_object_and_goes_with_it() {
    let home = Home::new().await;
    let spec = json!({ "ports": [{ "port": 80 }], "ipFamilyPolicy": "RequireDualStack" });
    let object = home.create(Resource::Services, service("web", spec)).await.unwrap().object;
    let ips = object.value().unwrap()["spec"]["clusterIPs"].clone();
    let (v4, v6) = (ips[0].as_str().unwrap(), ips[1].as_str().unwrap());
    assert!(v4.starts_with("10.96.") && v6.starts_with("fd00:10:96::"), "{ips}");
    let address = home.value(Resource::IpAddresses, "", v4);
    assert_eq!(address["spec"]["parentRef"], json!({ "resource": "services", "namespace": "default", "name": "web" }));
    assert_eq!(
        address["metadata"]["labels"],
        json!({ "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" })
    );
    assert_eq!(home.names(Resource::IpAddresses, "").len(), 2);
    // Back to one family.
    let mut single = object.value().unwrap();
    single["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    single["spec"]["ipFamilies"] = json!(["IPv4"]);
    single["spec"]["clusterIPs"] = json!([v4]);
    home.update(Resource::Services, single, Subresource::None).await.unwrap();
    assert_eq!(home.names(Resource::IpAddresses, ""), [v4]);
    home.delete(Resource::Services, "default", "web").await.unwrap();
    assert!(home.names(Resource::IpAddresses, "").is_empty());
}

#[tokio::test]
async fn addresses_that_are_refused() {
    let home = small().await;
    let asked = |name: &str, ip: &str| service(name, json!({ "ports": [{ "port": 80 }], "clusterIP": ip }));
    home.create(Resource::Services, asked("a", "10.0.0.1")).await.unwrap();
    let before = home.dump();
    let taken = home.create(Resource::Services, asked("b", "10.0.0.1")).await.unwrap_err();
    assert_eq!(
        taken.to_string(),
        "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: failed to allocate IP 10.0.0.1: provided IP is already allocated"
    );
    let outside = home.create(Resource::Services, asked("b", "10.9.0.1")).await.unwrap_err();
    assert!(outside.to_string().ends_with("The range of valid IPs is 10.0.0.0/29"), "{outside}");
    assert_eq!(home.dump(), before);
    for n in 0..5 {
        home.create(Resource::Services, web(&format!("s{n}"))).await.unwrap();
    }
    let before = home.dump();
    let full = home.create(Resource::Services, web("one-more")).await.unwrap_err();
    assert!(matches!(&full, Refusal::Full(text) if text == "failed to allocate a serviceIP: range is full"), "{full}");
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn node_ports_are_keyed_by_number() {
    let home = Home::new().await;
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "t", "port": 53, "protocol": "TCP", "nodePort": 30053 },
        { "name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053 }] });
    home.create(Resource::Services, service("dns", spec)).await.unwrap();
    let other = json!({ "type": "NodePort", "ports": [{ "port": 1, "protocol": "SCTP", "nodePort": 30053 }] });
    let taken = home.create(Resource::Services, service("other", other.clone())).await.unwrap_err();
    assert_eq!(taken.to_string(), "spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated");
    let outside = json!({ "type": "NodePort", "ports": [{ "port": 1, "nodePort": 80 }] });
    let refused = home.create(Resource::Services, service("x", outside)).await.unwrap_err().to_string();
    assert!(
        refused.ends_with("provided port is not in the valid range. The range of valid ports is 30000-32767"),
        "{refused}"
    );
    home.merge(Resource::Services, "default", "dns", json!({ "spec": { "type": "ClusterIP" } })).await.unwrap();
    home.create(Resource::Services, service("other", other)).await.unwrap();
    // A port for health checks, beside the node port, above the static band.
    let spec = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{ "port": 80 }] });
    let balanced = home.create(Resource::Services, service("lb", spec)).await.unwrap().object.value().unwrap();
    let (node, health) = (&balanced["spec"]["ports"][0]["nodePort"], &balanced["spec"]["healthCheckNodePort"]);
    assert!(node.as_i64() >= Some(30086) && health.as_i64() >= Some(30086) && node != health, "{node} {health}");
}

#[tokio::test]
async fn a_users_address_object_occupies() {
    let home = small().await;
    let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": { "name": "10.0.0.2" },
        "spec": { "parentRef": { "resource": "gateways", "group": "example.com", "name": "g" } } });
    home.create(Resource::IpAddresses, object).await.unwrap();
    let asked = service("a", json!({ "ports": [{ "port": 80 }], "clusterIP": "10.0.0.2" }));
    assert!(matches!(home.create(Resource::Services, asked.clone()).await, Err(Refusal::Invalid(_))));
    home.delete(Resource::IpAddresses, "", "10.0.0.2").await.unwrap();
    home.create(Resource::Services, asked).await.unwrap();
    // That of a Service comes back.
    let uid = home.value(Resource::IpAddresses, "", "10.0.0.2")["metadata"]["uid"].clone();
    home.delete(Resource::IpAddresses, "", "10.0.0.2").await.unwrap();
    assert_ne!(home.value(Resource::IpAddresses, "", "10.0.0.2")["metadata"]["uid"], uid);
}

#[tokio::test]
async fn a_second_range_serves_and_waits_for_its_addresses() {
    let home = small().await;
    for n in 0..6 {
        home.create(Resource::Services, web(&format!("s{n}"))).await.unwrap();
    }
    home.create(Resource::ServiceCidrs, cidr("more", &["10.1.0.0/29"])).await.unwrap();
    let object = home.create(Resource::Services, web("extra")).await.unwrap().object;
    let ip = object.service().unwrap().spec.cluster_ip.clone();
    assert!(ip.starts_with("10.1.0."), "{ip}");
    let deleting = home.delete(Resource::ServiceCidrs, "", "more").await.unwrap();
    assert_eq!(deleting.outcome, Outcome::Deleting);
    let condition = home.value(Resource::ServiceCidrs, "", "more")["status"]["conditions"][0].clone();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Terminating")));
    assert!(matches!(home.create(Resource::Services, web("late")).await, Err(Refusal::Full(_))));
    home.delete(Resource::Services, "default", "extra").await.unwrap();
    assert!(home.store.get(Resource::ServiceCidrs, "", "more").is_none());
    // Unused, or covered by another, it goes at once.
    home.create(Resource::ServiceCidrs, cidr("unused", &["10.2.0.0/29"])).await.unwrap();
    assert_eq!(home.delete(Resource::ServiceCidrs, "", "unused").await.unwrap().outcome, Outcome::Deleted);
    home.create(Resource::ServiceCidrs, cidr("within", &["10.0.0.0/30"])).await.unwrap();
    assert_eq!(home.delete(Resource::ServiceCidrs, "", "within").await.unwrap().outcome, Outcome::Deleted);
    assert!(matches!(home.delete(Resource::ServiceCidrs, "", "kubernetes").await, Err(Refusal::Forbidden { .. })));
}
