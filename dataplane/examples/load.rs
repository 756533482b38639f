//! How long the kernel takes: a full load, and one endpoint's change. Makes its own network namespace.
//!
//! `cargo run --release -p dataplane --example load -- 1000 10 [--list]`

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use dataplane::nftables::{Dirty, Table};
use dataplane::{Action, At, Endpoint, Family, Frontend, FrontendKind, NodePlan, Plan, Pool, PoolKey, ServicePlan};
use model::Key;
use model::types::Protocol;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let services: u32 = args.next().map_or(Ok(1000), |n| n.parse())?;
    let endpoints: u32 = args.next().map_or(Ok(10), |n| n.parse())?;
    let list = args.next().is_some();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;

    let begin = Instant::now();
    let mut plan = plan(services, endpoints);
    println!("{services} Services x {endpoints} endpoints; plan made in {:?}", begin.elapsed());
    let mut table = Table::open()?;
    for _ in 0..3 {
        table.forget();
        let begin = Instant::now();
        let report = table.program(&plan, &Dirty::All)?;
        println!("full load: {:?} {report:?}; resident {} KiB", begin.elapsed(), resident());
    }
    if list {
        Command::new("nft").args(["list", "ruleset"]).status()?;
    }

    let mut times = Vec::new();
    for round in 0..2000 {
        let key = key(round % services);
        let mut service = (*plan.services[&key]).clone();
        // Take the first endpoint away, and give it back in the next round of the same Service.
        let all = pool(round % services, endpoints);
        let some = all.endpoints[1..].to_vec();
        service.pools[0].endpoints =
            if service.pools[0].endpoints.len() == all.endpoints.len() { some } else { all.endpoints };
        plan.services.insert(key.clone(), Arc::new(service));
        plan.revision += 1;
        let dirty = Dirty::Services(BTreeSet::from([key]));
        let begin = Instant::now();
        table.program(&plan, &dirty)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!("one endpoint: median {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    let begin = Instant::now();
    let report = table.program(&plan, &Dirty::All)?;
    println!("nothing changed, all looked at: {:?} {report:?}; resident {} KiB", begin.elapsed(), resident());
    Ok(())
}

fn key(service: u32) -> Key {
    Key::new("default", &format!("service-{service}"))
}

fn pool(service: u32, endpoints: u32) -> Pool {
    let endpoint = |n: u32| Endpoint {
        address: IpAddr::V4(Ipv4Addr::from(0x0af4_0000 + service * endpoints + n)),
        port: 8080,
        local: n.is_multiple_of(3),
        share: 1,
    };
    let key = PoolKey { family: Family::V4, protocol: Protocol::Tcp, port: 80, local: false };
    Pool { key, affinity_seconds: None, endpoints: (0..endpoints).map(endpoint).collect() }
}

fn plan(services: u32, endpoints: u32) -> Plan {
    let mut all = BTreeMap::new();
    for n in 0..services {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a60_0000 + n + 1));
        let pool = pool(n, endpoints);
        let action = Action::Balance { pool: pool.key, masquerade: false };
        let frontend = Frontend {
            at: At::Address(address),
            protocol: Protocol::Tcp,
            port: 80,
            action,
            inside: None,
            sources: None,
            kind: FrontendKind::ClusterIp,
        };
        let service = ServicePlan {
            addresses: vec![address],
            frontends: vec![frontend],
            pools: vec![pool],
            ..ServicePlan::default()
        };
        all.insert(key(n), Arc::new(service));
    }
    let node = NodePlan { name: "node-1".into(), ..NodePlan::default() };
    Plan { revision: 1, node, services: all }
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
