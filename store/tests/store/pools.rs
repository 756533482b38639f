//! Addresses of load balancers: who gets which, what refusals say, and that none is leaked or given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::Resource;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{BalancerLimits, Config, Outcome, Refusal, Written};

use super::held::check;
use super::support::{Home, namespace, service, web};

fn pool(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "metadata": { "name": name }, "spec": spec })
}

fn balancer(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancer", "metadata": { "name": name }, "spec": spec })
}

/// One that was made for the Service `default/NAME`.
fn owned(name: &str, mut spec: Value) -> Value {
    spec["owner"] = json!({ "namespace": "default", "name": name });
    balancer(name, spec)
}

async fn add(home: &Home, name: &str, spec: Value) -> Written {
    home.create(Resource::AddressPools, pool(name, spec)).await.unwrap()
}

async fn make(home: &Home, object: Value) -> Result<String, Refusal> {
    let written = home.create(Resource::LoadBalancers, object).await?;
    let addresses = &written.object.load_balancer().unwrap().spec.addresses;
    Ok(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

async fn refused(home: &Home, object: Value) -> String {
    let (before, error) = (home.dump(), make(home, object).await.unwrap_err());
    assert_eq!(home.dump(), before, "what is refused changes nothing");
    let kind = match &error {
        Refusal::Invalid(_) => "Invalid",
        Refusal::Full(_) => "Full",
        Refusal::Forbidden { .. } => "Forbidden",
        _ => "other",
    };
    format!("{kind}: {error}")
}

/// `assigned/total` of both families.
fn usage(home: &Home, name: &str) -> String {
    let status = &home.value(Resource::AddressPools, "", name)["status"];
    let of = |family: &str| format!("{}/{}", status[family]["assigned"].as_i64().unwrap_or(0), status[family]["total"]);
    format!("{} {}", of("ipv4"), of("ipv6"))
}

#[tokio::test]
async fn each_family_gets_an_address_and_no_instance_another_s() {
    let home = Home::new().await;
    add(&home, "internet", json!({ "addresses": ["192.0.2.0/29", "fd00:2::/126"] })).await;
    add(&home, "intranet", json!({ "addresses": ["198.51.100.7-198.51.100.8"], "addressType": "intranet" })).await;
    assert_eq!(make(&home, balancer("a", json!({}))).await.unwrap(), "192.0.2.1");
    let both = json!({ "ipFamilies": ["IPv6", "IPv4"] });
    assert_eq!(make(&home, balancer("b", both)).await.unwrap(), "fd00:2:: 192.0.2.2");
    let asked = json!({ "ipFamilies": ["IPv4", "IPv6"], "addresses": ["192.0.2.3"] });
    assert_eq!(make(&home, balancer("c", asked)).await.unwrap(), "192.0.2.3 fd00:2::1");
    assert_eq!(make(&home, balancer("d", json!({ "addressType": "intranet" }))).await.unwrap(), "198.51.100.7");
    assert_eq!((usage(&home, "internet").as_str(), usage(&home, "intranet").as_str()), ("3/6 2/4", "1/2 0/null"));
    // What goes is counted, and not given again while there are others.
    home.delete(Resource::LoadBalancers, "", "a").await.unwrap();
    assert_eq!(usage(&home, "internet"), "2/6 2/4");
    for expected in ["192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.1"] {
        assert_eq!(make(&home, balancer(&format!("n{}", &expected[8..]), json!({}))).await.unwrap(), expected);
    }
    // One that is only tried holds nothing.
    home.delete(Resource::LoadBalancers, "", "b").await.unwrap();
    let verb = store::Verb::Create { object: balancer("dry", json!({})) };
    let (namespace, name, manager) = (String::new(), "dry".to_owned(), String::new());
    let write = store::Write { resource: Resource::LoadBalancers, namespace, name, verb, manager, dry_run: true };
    let tried = home.store.write(write).await.unwrap().object;
    assert_eq!(tried.load_balancer().unwrap().spec.addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(usage(&home, "internet"), "5/6 1/4");
    assert_eq!(make(&home, balancer("e", json!({}))).await.unwrap(), "192.0.2.2");
}

#[tokio::test]
async fn turns_and_holders_outlive_a_restart() {
    let mut home = Home::new().await;
    add(&home, "internet", json!({ "addresses": ["192.0.2.1-192.0.2.4"] })).await;
    for name in ["a", "b", "c"] {
        make(&home, balancer(name, json!({}))).await.unwrap();
    }
    for name in ["b", "a"] {
        home.delete(Resource::LoadBalancers, "", name).await.unwrap();
    }
    let dump = home.dump();
    home.reopen().await;
    assert_eq!(home.dump(), dump, "a restart writes nothing");
    for (name, expected) in [("d", "192.0.2.4"), ("e", "192.0.2.2"), ("f", "192.0.2.1")] {
        assert_eq!(make(&home, balancer(name, json!({}))).await.unwrap(), expected);
    }
    assert!(refused(&home, balancer("g", json!({}))).await.starts_with("Full: "));
}

#[tokio::test]
async fn pools_say_whom_they_are_for() {
    let home = Home::new().await;
    home.create(Resource::Namespaces, {
        let mut labelled = namespace("team");
        labelled["metadata"]["labels"] = json!({ "tier": "gold" });
        labelled
    })
    .await
    .unwrap();
    let mut labelled = service("web", json!({ "ports": [{ "port": 80 }] }));
    labelled["metadata"]["labels"] = json!({ "public": "yes" });
    home.create(Resource::Services, labelled).await.unwrap();
    home.create(Resource::Services, web("plain")).await.unwrap();
    let exists = json!({ "matchExpressions": [{ "key": "public", "operator": "Exists" }] });
    add(&home, "a-labelled", json!({ "addresses": ["192.0.2.0/31"], "serviceSelector": exists })).await;
    let gold = json!({ "matchLabels": { "tier": "gold" } });
    add(&home, "b-gold", json!({ "addresses": ["192.0.2.4/31"], "namespaceSelector": gold })).await;
    add(&home, "c-named", json!({ "addresses": ["192.0.2.8/31"], "namespaces": ["kube-system"], "priority": 5 })).await;
    add(&home, "d-by-hand", json!({ "addresses": ["192.0.2.16/31"], "autoAssign": false, "priority": -1 })).await;
    add(&home, "z-last", json!({ "addresses": ["192.0.2.32/31"], "priority": 9 })).await;
    add(&home, "y-before", json!({ "addresses": ["192.0.2.64/31"], "priority": 8 })).await;
    let of = |namespace: &str, name: &str| {
        let owner = json!({ "namespace": namespace, "name": name });
        balancer(&format!("{namespace}-{name}"), json!({ "owner": owner }))
    };
    for (object, expected) in [
        (of("default", "web"), "192.0.2.0"),
        (of("default", "plain"), "192.0.2.64"),
        (of("team", "any"), "192.0.2.4"),
        (of("kube-system", "any"), "192.0.2.8"),
        (balancer("nobody-s", json!({})), "192.0.2.65"),
        (balancer("nobody-s-either", json!({})), "192.0.2.32"),
        (owned("by-name", json!({ "pool": "d-by-hand" })), "192.0.2.16"),
        (owned("by-address", json!({ "addresses": ["192.0.2.17"] })), "192.0.2.17"),
        (balancer("an-administrator-s", json!({ "pool": "c-named" })), "192.0.2.9"),
    ] {
        let name = object["metadata"]["name"].clone();
        assert_eq!(make(&home, object).await.unwrap(), expected, "{name}");
    }
    let texts = [
        refused(&home, owned("x", json!({ "pool": "b-gold" }))).await,
        refused(&home, owned("x", json!({ "pool": "nowhere" }))).await,
        refused(&home, owned("x", json!({ "pool": "d-by-hand" }))).await,
        refused(&home, owned("x", json!({ "pool": "y-before", "addressType": "intranet" }))).await,
        refused(&home, owned("x", json!({ "addresses": ["192.0.2.5"] }))).await,
        refused(&home, owned("x", json!({ "addresses": ["192.0.2.33"], "pool": "y-before" }))).await,
        refused(&home, owned("x", json!({ "addresses": ["192.0.2.64"] }))).await,
        refused(&home, owned("x", json!({ "addresses": ["203.0.113.1"] }))).await,
        refused(&home, owned("x", json!({ "addresses": ["fd00::1"] }))).await,
        refused(&home, owned("x", json!({ "ipFamilies": ["IPv6"] }))).await,
        refused(&home, owned("x", json!({ "addressType": "intranet" }))).await,
    ];
    assert_eq!(texts.join("\n"), REFUSALS);
    make(&home, owned("last", json!({}))).await.unwrap();
    assert_eq!(
        refused(&home, owned("x", json!({}))).await,
        "Full: no free IPv4 address of type internet for Service default/x in AddressPool y-before (2 of 2 in use), z-last (2 \
         of 2 in use): add addresses to it, make another, or delete a load balancer"
    );
}

const REFUSALS: &str = "\
Invalid: spec.pool: Invalid value: \"b-gold\": is not for Service default/x
Invalid: spec.pool: Invalid value: \"nowhere\": there is no such AddressPool
Full: no free IPv4 address of type internet for Service default/x in AddressPool d-by-hand (2 of 2 in use): add addresses to it, make another, or delete a load balancer
Invalid: spec.pool: Invalid value: \"y-before\": has addresses of type internet, and intranet is asked for
Invalid: spec.addresses[0]: Invalid value: \"192.0.2.5\": is of AddressPool b-gold, which is not for Service default/x
Invalid: spec.addresses[0]: Invalid value: \"192.0.2.33\": is of AddressPool z-last, which is not the one that `spec.pool` names
Invalid: spec.addresses[0]: Invalid value: \"192.0.2.64\": is held by LoadBalancer default-plain of Service default/plain; ask for another, or for none by name
Invalid: spec.addresses[0]: Invalid value: \"203.0.113.1\": is in no AddressPool; ask for one of 192.0.2.16-192.0.2.17, 192.0.2.64-192.0.2.65, 192.0.2.32-192.0.2.33, or for none by name
Invalid: spec.addresses[0]: Invalid value: \"fd00::1\": is in no AddressPool, and there is none that gives addresses to Service default/x
Full: no AddressPool gives IPv6 addresses of type internet to Service default/x: make one (kubectl get addresspools), or ask for another address type or family
Full: no AddressPool gives IPv4 addresses of type intranet to Service default/x: make one (kubectl get addresspools), or ask for another address type or family";

#[tokio::test]
async fn quotas_are_refused_with_what_to_do() {
    let home = Home::with(|config| config.balancers = BalancerLimits { instances: 2, listeners: 3 }).await;
    add(&home, "internet", json!({ "addresses": ["192.0.2.0/24"] })).await;
    let listeners =
        |count: u16| -> Value { (1..=count).map(|port| json!({ "port": port, "protocol": "TCP" })).collect() };
    make(&home, balancer("a", json!({ "listeners": listeners(3) }))).await.unwrap();
    let text = refused(&home, balancer("b", json!({ "listeners": listeners(4) }))).await;
    assert!(
        text.starts_with("Forbidden: ") && text.contains("4 listeners are asked for, and one load balancer may have 3")
    );
    let more = json!({ "spec": { "listeners": listeners(4) } });
    let error = home.merge(Resource::LoadBalancers, "", "a", more).await.unwrap_err();
    assert!(error.to_string().contains("exceeded quota: 4 listeners"), "{error}");
    make(&home, balancer("b", json!({}))).await.unwrap();
    let text = refused(&home, balancer("c", json!({}))).await;
    assert!(text.contains("exceeded quota: there are 2 of 2 load balancers; delete one"), "{text}");
    home.delete(Resource::LoadBalancers, "", "a").await.unwrap();
    make(&home, balancer("c", json!({}))).await.unwrap();
}

#[tokio::test]
async fn an_instance_keeps_its_addresses() {
    let home = Home::new().await;
    add(&home, "internet", json!({ "addresses": ["192.0.2.0/29"] })).await;
    add(&home, "other", json!({ "addresses": ["192.0.2.8/29"] })).await;
    make(&home, balancer("a", json!({}))).await.unwrap();
    let patched =
        home.merge(Resource::LoadBalancers, "", "a", json!({ "spec": { "displayName": "x" } })).await.unwrap();
    assert_eq!(patched.object.meta().generation, Some(2));
    for (patch, problem) in [
        (json!({ "spec": { "addresses": ["192.0.2.2"] } }), "spec.addresses: Invalid value"),
        (json!({ "spec": { "addresses": null } }), "spec.addresses: Invalid value"),
        (json!({ "spec": { "pool": "other" } }), "spec.pool: Invalid value: \"other\": does not have 192.0.2.1"),
        (json!({ "spec": { "pool": "nowhere" } }), "spec.pool: Invalid value"),
    ] {
        let error = home.merge(Resource::LoadBalancers, "", "a", patch).await.unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
    }
    home.merge(Resource::LoadBalancers, "", "a", json!({ "spec": { "pool": "internet" } })).await.unwrap();
    let object = home.store.get(Resource::LoadBalancers, "", "a").unwrap();
    assert_eq!(object.load_balancer().unwrap().spec.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn pools_do_not_overlap_with_anything() {
    let pods = |config: &mut Config| {
        config.pod_ranges = vec![store::PodRange::new("10.244.0.0/16".parse().unwrap(), 24).unwrap()];
    };
    let home = Home::with(pods).await;
    add(&home, "a", json!({ "addresses": ["192.0.2.0/28", "192.0.2.20-192.0.2.29"] })).await;
    let refused = |addresses: Value| {
        let object = pool("b", json!({ "addresses": addresses }));
        async { home.create(Resource::AddressPools, object).await.unwrap_err().to_string() }
    };
    for (addresses, problem) in [
        (json!(["192.0.2.29-192.0.2.40"]), "overlaps with 192.0.2.20-192.0.2.29 of AddressPool a"),
        (
            json!(["198.51.100.0/24", "192.0.0.0/16"]),
            "spec.addresses[1]: Invalid value: \"192.0.0.0/16\": overlaps with",
        ),
        (
            json!(["198.51.100.0/24", "198.51.100.9-198.51.100.9"]),
            "overlaps with 198.51.100.1-198.51.100.254 of this pool",
        ),
        (json!(["10.96.255.0/24"]), "overlaps with 10.96.0.0/16, which Services get their cluster IPs from"),
        (json!(["10.244.9.0/24"]), "overlaps with 10.244.0.0/16, which Pods get their addresses from"),
        (json!(["fd00:10:96::/64"]), "overlaps with fd00:10:96::/112"),
    ] {
        let text = refused(addresses).await;
        assert!(text.contains(problem), "{text}");
    }
    let cidr = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "more" },
        "spec": { "cidrs": ["192.0.2.0/24"] } });
    let text = home.create(Resource::ServiceCidrs, cidr).await.unwrap_err().to_string();
    assert!(text.contains("overlaps with AddressPool a"), "{text}");
}

#[tokio::test]
async fn a_pool_in_use_keeps_what_is_used_and_goes_with_the_last() {
    let home = Home::new().await;
    add(&home, "a", json!({ "addresses": ["192.0.2.0/29", "192.0.2.16/29"] })).await;
    make(&home, balancer("one", json!({ "addresses": ["192.0.2.17"] }))).await.unwrap();
    for (patch, problem) in [
        (
            json!({ "spec": { "addresses": ["192.0.2.0/29"] } }),
            "would no longer have 192.0.2.17, which LoadBalancer one holds; delete that first",
        ),
        (
            json!({ "spec": { "addressType": "intranet" } }),
            "may not be changed while addresses are in use: LoadBalancer one holds 192.0.2.17",
        ),
    ] {
        let error = home.merge(Resource::AddressPools, "", "a", patch).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let smaller = json!({ "spec": { "addresses": ["192.0.2.16/29"] } });
    home.merge(Resource::AddressPools, "", "a", smaller).await.unwrap();
    assert_eq!(usage(&home, "a"), "1/6 0/null");
    // What somebody writes into the status is put right.
    let status = json!({ "ipv4": { "total": 99, "assigned": 99 } });
    home.status(Resource::AddressPools, "", "a", status).await.unwrap();
    assert_eq!(usage(&home, "a"), "1/6 0/null");
    let deleted = home.delete(Resource::AddressPools, "", "a").await.unwrap();
    assert_eq!(deleted.outcome, Outcome::Deleting);
    assert!(deleted.warnings[0].starts_with("1 of its addresses are in use"), "{:?}", deleted.warnings);
    let text = refused(&home, balancer("two", json!({ "addresses": ["192.0.2.18"] }))).await;
    assert!(text.ends_with("is of AddressPool a, which is being deleted"), "{text}");
    home.delete(Resource::LoadBalancers, "", "one").await.unwrap();
    assert_eq!(home.names(Resource::AddressPools, ""), Vec::<String>::new());
    add(&home, "b", json!({ "addresses": ["192.0.2.0/24"] })).await;
    assert_eq!(home.delete(Resource::AddressPools, "", "b").await.unwrap().outcome, Outcome::Deleted);
}

#[derive(Clone, Debug)]
enum Step {
    Make { name: u8, dual: bool, asked: Option<u8> },
    Delete(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let asked = prop::option::of(0u8..12);
    prop_oneof![
        6 => (0u8..8, any::<bool>(), asked).prop_map(|(name, dual, asked)| Step::Make { name, dual, asked }),
        5 => (0u8..8).prop_map(Step::Delete),
        1 => Just(Step::Restart),
    ]
}

async fn run(steps: Vec<Step>) {
    let mut home = Home::new().await;
    add(&home, "a", json!({ "addresses": ["192.0.2.1-192.0.2.3", "fd00:2::/126"] })).await;
    add(&home, "b", json!({ "addresses": ["192.0.2.8-192.0.2.9"], "priority": 1 })).await;
    let mut expected: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Make { name, dual, asked } => {
                let mut spec = json!({ "ipFamilies": if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) } });
                if let Some(asked) = asked {
                    spec["addresses"] = json!([format!("192.0.2.{asked}")]);
                }
                let name = format!("lb{name}");
                if let Ok(written) = home.create(Resource::LoadBalancers, balancer(&name, spec)).await {
                    let addresses = &written.object.load_balancer().unwrap().spec.addresses;
                    expected.insert(name, addresses.iter().copied().collect());
                }
            }
            Step::Delete(name) => {
                let name = format!("lb{name}");
                let deleted = home.delete(Resource::LoadBalancers, "", &name).await;
                assert_eq!(deleted.is_ok(), expected.remove(&name).is_some());
            }
            Step::Restart => home.reopen().await,
        }
        assert_eq!(check(&home.store), expected);
    }
    for name in expected.keys() {
        home.delete(Resource::LoadBalancers, "", name).await.unwrap();
    }
    assert_eq!((usage(&home, "a").as_str(), usage(&home, "b").as_str()), ("0/3 0/4", "0/2 0/null"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_address_is_leaked_or_given_twice(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(run(steps));
    }
}
