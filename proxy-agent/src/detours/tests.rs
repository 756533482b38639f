use std::io;
use std::sync::Mutex;

use model::types::EdgeAssignment;

use super::*;

/// Routes in memory.
#[derive(Clone, Default)]
struct Fake {
    routes: Arc<Mutex<Found>>,
    unreachable: Arc<Mutex<bool>>,
}

impl Routing for Fake {
    fn list(&self) -> Result<Found, NetlinkError> {
        Ok(self.routes.lock().unwrap().clone())
    }

    fn set(&self, number: u8, gateway: IpAddr) -> Result<(), NetlinkError> {
        if *self.unreachable.lock().unwrap() {
            let source = io::Error::from_raw_os_error(101);
            return Err(NetlinkError::Refused { what: "adding a route".into(), detail: String::new(), source });
        }
        self.routes.lock().unwrap().insert((number, Family::of(gateway)), gateway);
        Ok(())
    }

    fn remove(&self, number: u8, family: Family) -> Result<(), NetlinkError> {
        self.routes.lock().unwrap().remove(&(number, family));
        Ok(())
    }
}

/// Instances, each held by the edge node of this number.
fn balancers(holders: &[u8]) -> BTreeMap<String, Arc<LoadBalancer>> {
    let balancer = |n: &u8| {
        let mac = format!("02:00:00:00:00:{n:02x}");
        let address = |ip: IpAddr| EdgeAddress { ip, mac: mac.clone() };
        let addresses = vec![address([172, 31, 255, *n].into()), address(format!("fd00:31::{n}").parse().unwrap())];
        let mut balancer = LoadBalancer::default();
        balancer.status.edge = Some(EdgeAssignment { name: format!("edge-{n}"), addresses, ..Default::default() });
        Arc::new(balancer)
    };
    holders.iter().map(|n| (format!("lb-{n}"), balancer(n))).collect()
}

fn numbers(neighbors: &[EdgeNeighbor]) -> BTreeMap<u8, u8> {
    neighbors.iter().map(|neighbor| (neighbor.mac[5], neighbor.number)).collect()
}

#[test]
fn edge_nodes_keep_their_numbers() {
    let (fake, now) = (Fake::default(), Instant::now());
    let mut detours = Detours::new(Box::new(fake.clone()));
    assert!(detours.settle(&balancers(&[]), now).is_empty());
    assert_eq!(numbers(&detours.settle(&balancers(&[7]), now)), [(7, 1)].into());
    assert_eq!(numbers(&detours.settle(&balancers(&[3, 7]), now)), [(3, 2), (7, 1)].into());
    // Who holds nothing any more still has connections.
    assert_eq!(numbers(&detours.settle(&balancers(&[3]), now)), [(3, 2), (7, 1)].into());
    assert_eq!(fake.routes.lock().unwrap().len(), 4);
    // Another agent finds what the kernel has.
    let mut detours = Detours::new(Box::new(fake.clone()));
    assert_eq!(numbers(&detours.settle(&balancers(&[1, 3, 7]), now)), [(1, 3), (3, 2), (7, 1)].into());
    assert_eq!(detours.retry_at, None);
}

#[test]
fn more_edge_nodes_than_numbers() {
    let (fake, now) = (Fake::default(), Instant::now());
    let mut detours = Detours::new(Box::new(fake));
    let many: Vec<u8> = (1..=MAX_EDGES).collect();
    assert_eq!(detours.settle(&balancers(&many), now).len(), usize::from(MAX_EDGES));
    // One that holds nothing makes room.
    let others: Vec<u8> = (2..=MAX_EDGES + 1).collect();
    let settled = numbers(&detours.settle(&balancers(&others), now));
    assert_eq!((settled.get(&(MAX_EDGES + 1)), settled.get(&1)), (Some(&1), None));
    let all: Vec<u8> = (1..=MAX_EDGES + 1).collect();
    assert_eq!(detours.settle(&balancers(&all), now).len(), usize::from(MAX_EDGES));
}

#[test]
fn what_the_kernel_refuses_is_tried_again() {
    let (fake, now) = (Fake::default(), Instant::now());
    *fake.unreachable.lock().unwrap() = true;
    let mut detours = Detours::new(Box::new(fake.clone()));
    assert!(detours.settle(&balancers(&[7]), now).is_empty());
    assert_eq!(detours.retry_at, Some(now + RETRY));
    *fake.unreachable.lock().unwrap() = false;
    assert_eq!(numbers(&detours.settle(&balancers(&[7]), now)), [(7, 1)].into());
    assert_eq!(detours.retry_at, None);
}

#[test]
fn link_layer_addresses() {
    assert_eq!(mac("02:00:5e:00:53:01"), Some([2, 0, 0x5e, 0, 0x53, 1]));
    for text in ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "02:00:5e:00:53:0g", "2:0:5e:0:53:1"] {
        assert_eq!(mac(text), None, "{text}");
    }
}

#[tokio::test]
async fn what_is_watched_reaches_the_core_loop() {
    use model::Key;
    let (updates, receiver) = mpsc::channel(8);
    let (shown, balancers) = watch::channel(None);
    let task = tokio::spawn(fold(receiver, shown));
    let now = Instant::now();
    let mut keeping = Keeping::new(balancers, Box::new(Fake::default()), now);
    assert!(keeping.awaits(now) && keeping.settle(now).is_none());
    assert_eq!(keeping.retry_at(), Some(now + PATIENCE));
    let object = |n: u8| {
        let balancer = balancers_of(n);
        Decoded { key: Key::new("", &format!("lb-{n}")), revision: 1, noun: Noun::Balancer(balancer) }
    };
    let resource = Resource::LoadBalancers;
    let send = async |epoch, update| updates.send(News { epoch, update }).await.unwrap();
    send(1, Update::Replaced { resource, revision: 1, objects: vec![object(7)], unreadable: Vec::new() }).await;
    keeping.moved().await;
    assert!(!keeping.awaits(now));
    assert_eq!(numbers(&keeping.settle(now).unwrap()), [(7, 1)].into());
    assert_eq!(keeping.settle(now), None);
    // What says nothing new, or is of another database, wakes nobody.
    send(1, Update::Set { resource, object: object(7) }).await;
    send(0, Update::Set { resource, object: object(8) }).await;
    send(1, Update::Seen { resource, revision: 9 }).await;
    send(1, Update::Set { resource, object: object(9) }).await;
    keeping.moved().await;
    assert_eq!(numbers(&keeping.settle(now).unwrap()), [(7, 1), (9, 2)].into());
    task.abort();
    let mut late = Keeping::new(watch::channel(None).1, Box::new(Fake::default()), now);
    assert!(!late.awaits(now + PATIENCE), "a plan does not wait for ever");
}

fn balancers_of(n: u8) -> Arc<LoadBalancer> {
    balancers(&[n]).into_values().next().unwrap()
}
