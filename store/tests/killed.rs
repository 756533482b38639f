//! A server that is killed in the midst of its work. A program of its own: between fork and exec a child holds the
//! locks of whatever other tests have open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

#[path = "store/held.rs"]
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use held::check;
use model::Resource;
use serde_json::json;
use store::{Config, Store};

/// Tells the copy of this test program that it is the one to be killed, and where its store is.
const VICTIM: &str = "PORTOLAN_TEST_VICTIM";

/// Makes and deletes load balancers until it is killed; says what was answered.
async fn victim(path: String) {
    let store = Store::open(Config::new(path)).await.unwrap();
    let write = |resource, name: &str, verb| {
        let (store, name) = (store.clone(), name.to_owned());
        let write =
            store::Write { resource, namespace: String::new(), name, verb, manager: String::new(), dry_run: false };
        async move { store.write(write).await }
    };
    let object = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "metadata": { "name": "a" },
        "spec": { "addresses": ["192.0.2.1-192.0.2.40", "fd00:2::/122"] } });
    // There already, after the first time.
    let _ = write(Resource::AddressPools, "a", store::Verb::Create { object }).await;
    let lane = async |lane: usize| {
        for turn in 0.. {
            let name = format!("lane{lane}-{}", turn % 5);
            let object = json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancer",
                "metadata": { "name": name }, "spec": { "ipFamilies": ["IPv4", "IPv6"] } });
            if let Ok(made) = write(Resource::LoadBalancers, &name, store::Verb::Create { object }).await {
                let addresses = &made.object.load_balancer().unwrap().spec.addresses;
                println!("victim made {name} {} {}", addresses[0], addresses[1]);
            }
            let old = format!("lane{lane}-{}", (turn + 2) % 5);
            let options = store::DeleteOptions::default();
            println!("victim deletes {old}");
            let _ = write(Resource::LoadBalancers, &old, store::Verb::Delete { options }).await;
        }
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
}

#[test]
fn a_server_that_is_killed_leaks_no_address_and_gives_none_twice() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if let Ok(path) = std::env::var(VICTIM) {
        return runtime.block_on(victim(path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portolan.db");
    for lines in [1_usize, 40, 173, 330, 512] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_server_that_is_killed_leaks_no_address_and_gives_none_twice", "--exact", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut made: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut heard = 0;
        let hear = |line: &str, made: &mut BTreeMap<String, BTreeSet<IpAddr>>| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["victim", "made", name, v4, v6] => {
                    made.insert(name.to_owned(), [v4, v6].iter().map(|text| text.parse().unwrap()).collect());
                }
                ["victim", "deletes", name] => _ = made.remove(name),
                _ => {}
            }
        };
        for line in said.by_ref() {
            hear(&line, &mut made);
            heard += 1;
            if heard >= lines {
                break;
            }
        }
        // SIGKILL.
        child.kill().unwrap();
        said.for_each(|line| hear(&line, &mut made));
        child.wait().unwrap();
        let stored = runtime.block_on(async {
            let store = Store::open(Config::new(&path)).await.unwrap();
            let stored = check(&store);
            store.close().await;
            stored
        });
        for (name, addresses) in &made {
            assert_eq!(stored.get(name), Some(addresses), "what was answered is there");
        }
    }
}
