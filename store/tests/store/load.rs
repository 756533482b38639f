//! Many clients at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Resource;
use serde_json::json;
use store::{Refusal, Verb, Write};

use super::support::{Home, service, web};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creates_share_commits_and_never_an_address() {
    let home = Arc::new(Home::new().await);
    let spec = json!({ "ports": [{ "port": 80 }], "type": "NodePort", "ipFamilyPolicy": "RequireDualStack" });
    let clients: Vec<_> = (0..32)
        .map(|client| {
            let (home, spec) = (Arc::clone(&home), spec.clone());
            tokio::spawn(async move {
                for n in 0..10 {
                    home.create(Resource::Services, service(&format!("s{client}-{n}"), spec.clone())).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (_, services) = home.store.list(Resource::Services, None);
    assert_eq!(services.len(), 320);
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for object in &services {
        let service = object.service().unwrap();
        assert_eq!(service.spec.cluster_ips.len(), 2);
        assert!(service.spec.cluster_ips.iter().all(|ip| addresses.insert(ip.clone())));
        assert!(ports.insert(service.spec.ports[0].node_port));
    }
    assert_eq!(home.names(Resource::IpAddresses, "").len(), 640);
    let metrics = home.store.metrics();
    assert_eq!((metrics.requests, metrics.refused), (320, 0));
    assert!(metrics.group_size.count < 320, "{} groups", metrics.group_size.count);
}

/// On one thread nothing runs between the sends, so the writer cannot drain in time whatever the machine.
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let home = Home::new().await;
    let requests: Vec<_> = (0..store::QUEUE_LIMIT * 4)
        .map(|n| {
            let verb = Verb::Create { object: web(&format!("s{n}")) };
            Write {
                resource: Resource::Services,
                namespace: "default".into(),
                name: format!("s{n}"),
                verb,
                manager: "test".into(),
                dry_run: true,
            }
        })
        .collect();
    let store = home.store.clone();
    let mut pending = Vec::new();
    for request in requests {
        let mut write = Box::pin(store.write(request));
        // The first poll sends.
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context))).await;
        match polled {
            std::task::Poll::Ready(result) => {
                if matches!(result, Err(Refusal::Busy)) {
                    for write in pending {
                        let write: std::pin::Pin<Box<dyn Future<Output = _>>> = write;
                        let answer: Result<store::Written, Refusal> = write.await;
                        answer.unwrap();
                    }
                    return;
                }
            }
            std::task::Poll::Pending => pending.push(write as std::pin::Pin<Box<dyn Future<Output = _>>>),
        }
    }
    panic!("four times the queue was taken");
}

#[tokio::test]
async fn a_namespace_of_thousands_goes_in_one_commit() {
    let home = Home::new().await;
    home.create(Resource::Namespaces, super::support::namespace("big")).await.unwrap();
    let creates = (0..600).map(|n| {
        let mut object = web(&format!("s{n}"));
        object["metadata"]["namespace"] = json!("big");
        home.create(Resource::Services, object)
    });
    for create in creates {
        create.await.unwrap();
    }
    let before = home.store.revision();
    home.delete(Resource::Namespaces, "", "big").await.unwrap();
    // 600 × (Service, IPAddress, EndpointSlice, Endpoints) and the namespace, which is marked before it goes: more rows
    // than one statement takes.
    assert_eq!(home.store.revision(), before + 2402);
    assert_eq!(home.store.list(Resource::EndpointSlices, None).1.len(), 0);
    assert_eq!(home.store.list(Resource::IpAddresses, None).1.len(), 0);
}
