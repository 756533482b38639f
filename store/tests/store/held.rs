//! What must be so of external addresses at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::Resource;
use store::Store;

/// No address has two holders, and each pool counts those that are held. Returns who holds what.
pub fn check(store: &Store) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut holders: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut all: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for object in store.list(Resource::LoadBalancers, None).1 {
        let spec = &object.load_balancer().unwrap().spec;
        assert_eq!(spec.addresses.len(), spec.ip_families.len(), "{} has all its addresses", object.key.name);
        for address in &spec.addresses {
            let other = holders.insert(*address, object.key.name.to_string());
            assert_eq!(other, None, "{address} has two holders");
        }
        all.insert(object.key.name.to_string(), spec.addresses.iter().copied().collect());
    }
    for object in store.list(Resource::AddressPools, None).1 {
        let pool = object.address_pool().unwrap();
        let spans: Vec<allocator::Span> = pool.spec.addresses.iter().map(|text| text.parse().unwrap()).collect();
        for (ipv4, usage) in [(true, &pool.status.v4), (false, &pool.status.v6)] {
            let Some(usage) = usage else { continue };
            let held: BTreeSet<&IpAddr> = holders
                .keys()
                .filter(|address| address.is_ipv4() == ipv4 && spans.iter().any(|span| span.contains(**address)))
                .collect();
            assert_eq!(usage.assigned, held.len() as i64, "{} counts what is held", object.key.name);
            assert!(
                !usage.freed.iter().any(|freed| held.contains(freed)),
                "{} has freed what is held",
                object.key.name
            );
        }
    }
    all
}
