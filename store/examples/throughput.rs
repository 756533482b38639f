//! How many durable writes a second the store alone does: `cargo run --release -p store --example throughput [CLIENTS]`.
//!
//! Creates Services, then Pods, then flips the readiness of every Pod, each client waiting for its answer before it sends
//! again. The database is made in the current directory's `target`, since `/tmp` may be memory.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use model::Resource;
use model::admission::Subresource;
use model::patch::PatchKind;
use serde_json::{Value, json};
use store::{Config, Store, Verb, Write};

const SERVICES: usize = 20_000;
const PODS: usize = 10_000;
const UPDATES: usize = 40_000;
/// Pods that one Service selects.
const PODS_PER_SERVICE: usize = 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let clients = std::env::args().nth(1).map_or(Ok(64), |text| text.parse())?;
    std::fs::create_dir_all("target")?;
    let directory = tempfile::tempdir_in("target")?;
    let store = Store::open(Config::new(directory.path().join("portolan.db"))).await?;
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } });
    store.write(write(Resource::Nodes, "n1", Verb::Create { object: node })).await?;
    run(&store, "Service creates", clients, SERVICES, |n| {
        write(Resource::Services, &format!("s{n}"), Verb::Create { object: service(n) })
    })
    .await?;
    run(&store, "Pod creates", clients, PODS, |n| {
        write(Resource::Pods, &format!("p{n}"), Verb::Create { object: pod(n) })
    })
    .await?;
    run(&store, "Pod readiness flips (with slices)", clients, UPDATES, |n| {
        status(n % PODS, (n / PODS).is_multiple_of(2), "")
    })
    .await?;
    run(&store, "Pod heartbeats (no slice changes)", clients, UPDATES, |n| {
        status(n % PODS, (UPDATES / PODS - 1).is_multiple_of(2), &format!("2026-01-01T00:00:{:02}Z", n / PODS))
    })
    .await?;
    println!("{:#?}", store.metrics());
    store.close().await;
    Ok(())
}

async fn run(
    store: &Store,
    what: &str,
    clients: usize,
    total: usize,
    make: impl Fn(usize) -> Write + Send + Sync + Copy + 'static,
) -> Result<(), Box<dyn Error>> {
    let next = Arc::new(AtomicUsize::new(0));
    let (before, began) = (store.metrics(), Instant::now());
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (store, next) = (store.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total {
                        return Ok(());
                    }
                    store.write(make(n)).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?.map_err(|refusal: store::Refusal| refusal)?;
    }
    let (after, seconds) = (store.metrics(), began.elapsed().as_secs_f64());
    let prepare = (after.prepare_seconds.sum - before.prepare_seconds.sum) / total as f64 * 1e6;
    let commit = (after.commit_seconds.sum - before.commit_seconds.sum) / total as f64 * 1e6;
    println!(
        "{what}: {:.0}/s with {clients} clients ({prepare:.0} µs to prepare and {commit:.0} µs to commit each, {:.1} rows \
         each, {:.1} requests per group)",
        total as f64 / seconds,
        (after.rows_written - before.rows_written) as f64 / total as f64,
        total as f64 / (after.group_size.count - before.group_size.count) as f64,
    );
    Ok(())
}

fn write(resource: Resource, name: &str, verb: Verb) -> Write {
    let namespace = if resource.info().namespaced { "default" } else { "" };
    Write {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        verb,
        manager: "throughput".to_owned(),
        dry_run: false,
    }
}

fn service(n: usize) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": format!("s{n}"), "namespace": "default", "labels": { "app": format!("a{n}") } },
        "spec": { "selector": { "app": format!("a{n}") }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } })
}

fn pod(n: usize) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p{n}"), "namespace": "default",
            "labels": { "app": format!("a{}", n / PODS_PER_SERVICE) } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 8080 }] }] } })
}

fn status(n: usize, ready: bool, probed: &str) -> Write {
    let ip = format!("10.244.{}.{}", n / 250, n % 250);
    let mut condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" },
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    if !probed.is_empty() {
        condition["lastProbeTime"] = probed.into();
    }
    let patch =
        json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [condition] } });
    let verb = Verb::Patch { kind: PatchKind::StrategicMerge, patch, subresource: Subresource::Status, strict: true };
    write(Resource::Pods, &format!("p{n}"), verb)
}
