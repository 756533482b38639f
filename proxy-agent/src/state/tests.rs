use serde_json::{Value, json};

use super::*;
use crate::objects::decode;

fn object(resource: Resource, value: Value) -> Decoded {
    decode(resource, value.to_string().as_bytes()).unwrap()
}

fn service(name: &str, ip: &str, revision: u64) -> Decoded {
    object(
        Resource::Services,
        json!({"metadata": {"name": name, "namespace": "default", "resourceVersion": revision.to_string()}, "spec": {"clusterIPs": [ip]}}),
    )
}

fn slice(name: &str, service: &str, address: &str, revision: u64) -> Decoded {
    object(
        Resource::EndpointSlices,
        json!({
            "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": "default", "resourceVersion": revision.to_string(),
                "labels": {"kubernetes.io/service-name": service},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2024-01-01T00:00:00Z"},
            },
            "endpoints": [{"addresses": [address]}],
        }),
    )
}

fn node(name: &str, ip: &str, revision: u64) -> Decoded {
    object(
        Resource::Nodes,
        json!({
            "metadata": {"name": name, "resourceVersion": revision.to_string()},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]},
        }),
    )
}

fn cidr(name: &str, range: &str, revision: u64) -> Decoded {
    object(
        Resource::ServiceCidrs,
        json!({"metadata": {"name": name, "resourceVersion": revision.to_string()}, "spec": {"cidrs": [range]}}),
    )
}

fn namespace(name: &str, revision: u64) -> Decoded {
    object(Resource::Namespaces, json!({"metadata": {"name": name, "resourceVersion": revision.to_string()}}))
}

fn replaced(resource: Resource, revision: Revision, objects: Vec<Decoded>) -> Update {
    Update::Replaced { resource, revision, objects, unreadable: Vec::new() }
}

fn set(resource: Resource, object: Decoded) -> Update {
    Update::Set { resource, object }
}

fn removed(resource: Resource, name: &str, revision: Revision) -> Update {
    let namespace = if resource.info().namespaced { "default" } else { "" };
    Update::Removed { resource, key: Key::new(namespace, name), revision }
}

/// A cluster with one Service, read and taken.
fn settled() -> State {
    let mut state = State::new("node-1", Vec::new());
    state.apply(replaced(Resource::Services, 10, vec![service("web", "10.96.0.1", 4)]));
    state.apply(replaced(Resource::EndpointSlices, 11, vec![slice("web-a", "web", "10.244.1.1", 5)]));
    state.apply(replaced(
        Resource::Nodes,
        12,
        vec![node("node-1", "172.31.255.11", 2), node("node-2", "172.31.255.12", 3)],
    ));
    state.apply(replaced(Resource::ServiceCidrs, 13, vec![cidr("kubernetes", "10.96.0.0/16", 1)]));
    state.apply(replaced(Resource::Namespaces, 14, vec![namespace("default", 1)]));
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    state
}

fn services(names: &[&str]) -> Option<Dirty> {
    Some(Dirty::Services(names.iter().map(|name| Key::new("default", name)).collect()))
}

#[test]
fn there_is_no_work_before_everything_was_listed_once() {
    let mut state = State::new("node-1", Vec::new());
    for (resource, more) in WATCHED.into_iter().zip([true, true, true, true, false]) {
        assert!(state.take().is_none(), "before {resource}");
        state.apply(replaced(resource, 7, Vec::new()));
        assert_eq!(state.complete(), !more);
    }
    let work = state.take().unwrap();
    assert_eq!(work.dirty, Some(Dirty::All), "an empty cluster is one too");
    assert_eq!(work.revisions, [Some(7); 5]);
    assert_eq!(state.take().unwrap().dirty, None);
}

#[test]
fn a_change_dirties_its_own_service_and_moves_its_own_stream() {
    let mut state = settled();
    state.apply(set(Resource::EndpointSlices, slice("web-a", "web", "10.244.1.9", 20)));
    let work = state.take().unwrap();
    assert_eq!(work.dirty, services(&["web"]));
    assert_eq!(work.revisions, [Some(10), Some(20), Some(12), Some(13), Some(14)]);
    assert_eq!(work.triggers.len(), 1);
    assert_eq!((work.service_changes, work.endpoint_changes), (0, 1));
    assert_eq!(state.snapshot().revision, 20);
}

#[test]
fn what_says_nothing_new_dirties_nothing() {
    let mut state = settled();
    state.apply(set(Resource::Services, service("web", "10.96.0.1", 21)));
    state.apply(set(Resource::EndpointSlices, slice("web-a", "web", "10.244.1.1", 22)));
    state.apply(set(Resource::Nodes, node("node-1", "172.31.255.11", 23)));
    state.apply(set(Resource::Nodes, node("node-2", "172.31.255.99", 24)));
    state.apply(Update::Seen { resource: Resource::ServiceCidrs, revision: 25 });
    let work = state.take().unwrap();
    assert_eq!(work.dirty, None);
    assert_eq!(work.revisions, [Some(21), Some(22), Some(24), Some(25), Some(14)]);
    assert!(work.triggers.is_empty());
}

#[test]
fn a_list_that_says_the_same_dirties_nothing_and_one_that_differs_only_the_difference() {
    let mut state = settled();
    state.apply(replaced(Resource::Services, 30, vec![service("web", "10.96.0.1", 4)]));
    assert_eq!(state.take().unwrap().dirty, None);
    state.apply(replaced(Resource::Services, 31, vec![service("db", "10.96.0.2", 31)]));
    let work = state.take().unwrap();
    assert_eq!(work.dirty, services(&["db", "web"]));
    assert_eq!(state.snapshot().services.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["db"]);
    state.apply(replaced(Resource::EndpointSlices, 32, vec![slice("db-a", "db", "10.244.1.3", 32)]));
    let work = state.take().unwrap();
    assert_eq!(work.dirty, services(&["db", "web"]));
    assert!(work.triggers.is_empty(), "how old a list's changes are is not known");
    assert_eq!(state.snapshot().slices.len(), 1);
}

#[test]
fn what_a_list_could_not_read_stays() {
    let mut state = settled();
    let unreadable = vec![Key::new("default", "web")];
    state.apply(Update::Replaced { resource: Resource::Services, revision: 30, objects: Vec::new(), unreadable });
    assert_eq!(state.take().unwrap().dirty, None);
    assert_eq!(state.snapshot().services.len(), 1);
}

#[test]
fn deletions_dirty_the_service() {
    let mut state = settled();
    state.apply(removed(Resource::EndpointSlices, "web-a", 20));
    assert_eq!(state.take().unwrap().dirty, services(&["web"]));
    assert!(state.snapshot().slices.is_empty());
    state.apply(removed(Resource::Services, "web", 21));
    assert_eq!(state.take().unwrap().dirty, services(&["web"]));
    state.apply(removed(Resource::Services, "web", 22));
    state.apply(removed(Resource::EndpointSlices, "web-a", 23));
    assert_eq!(state.take().unwrap().dirty, None, "what is gone cannot go again");
}

#[test]
fn a_slice_that_changes_hands_dirties_both_services() {
    let mut state = settled();
    state.apply(set(Resource::EndpointSlices, slice("web-a", "db", "10.244.1.1", 20)));
    assert_eq!(state.take().unwrap().dirty, services(&["db", "web"]));
    assert_eq!(state.snapshot().slices.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["db"]);
    let orphan = object(
        Resource::EndpointSlices,
        json!({"metadata": {"name": "web-a", "namespace": "default", "resourceVersion": "21"}}),
    );
    state.apply(set(Resource::EndpointSlices, orphan));
    assert_eq!(state.take().unwrap().dirty, services(&["db"]));
    assert!(state.snapshot().slices.is_empty());
}

#[test]
fn this_nodes_change_dirties_everything() {
    let mut state = settled();
    state.apply(set(Resource::Nodes, node("node-1", "172.31.255.99", 20)));
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    state.apply(removed(Resource::Nodes, "node-1", 21));
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    assert_eq!(state.snapshot().nodes.len(), 1);
}

#[test]
fn service_cidrs_come_in_order_and_once() {
    let mut state = settled();
    state.apply(set(Resource::ServiceCidrs, cidr("a-second", "10.97.0.0/16", 20)));
    state.apply(set(Resource::ServiceCidrs, cidr("b-again", "10.96.0.0/16", 21)));
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    let ranges: Vec<String> = state.snapshot().service_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/16", "10.97.0.0/16"]);
}

#[test]
fn addresses_that_were_told_win_over_the_objects() {
    let internal = |state: &State| -> Vec<String> {
        let addresses = &state.snapshot().nodes["node-1"].status.addresses;
        addresses.iter().filter(|a| a.type_ == "InternalIP").map(|a| a.address.clone()).collect()
    };
    let mut state = State::new("node-1", vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
    for resource in WATCHED {
        state.apply(replaced(resource, 1, Vec::new()));
    }
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    assert_eq!(internal(&state), ["192.0.2.1", "2001:db8::1"], "even without an object");
    state.apply(set(Resource::Nodes, node("node-1", "172.31.255.11", 5)));
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    assert_eq!(internal(&state), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(state.snapshot().nodes["node-1"].status.addresses.len(), 3, "the host name is the object's");
    state.apply(removed(Resource::Nodes, "node-1", 6));
    assert_eq!(internal(&state), ["192.0.2.1", "2001:db8::1"]);
}

#[test]
fn the_snapshots_revision_never_goes_back() {
    let mut state = settled();
    state.apply(replaced(Resource::Services, 3, Vec::new()));
    let work = state.take().unwrap();
    assert_eq!(state.snapshot().revision, 14);
    assert_eq!(work.revisions[0], Some(3), "what the stream says is what the stream says");
}

#[test]
fn another_database_counts_when_all_of_it_is_known() {
    let mut state = settled();
    assert!(state.enter(0));
    assert!(state.enter(1));
    assert!(!state.enter(0), "what is still on its way from the old one is not applied");
    assert_eq!(state.snapshot().revision, 0);
    state.apply(replaced(Resource::Services, 3, vec![service("web", "10.96.0.1", 2), service("db", "10.96.0.2", 3)]));
    assert!(state.take().is_none() && state.snapshot().services.len() == 2);
    state.apply(replaced(Resource::EndpointSlices, 3, vec![slice("web-a", "web", "10.244.1.1", 2)]));
    state.apply(replaced(Resource::Nodes, 3, vec![node("node-1", "172.31.255.11", 1)]));
    assert!(state.enter(1) && state.take().is_none());
    state.apply(replaced(Resource::ServiceCidrs, 3, vec![cidr("kubernetes", "10.96.0.0/16", 1)]));
    assert!(state.take().is_none() && state.take_renamed().is_none());
    state.apply(replaced(Resource::Namespaces, 3, vec![namespace("default", 1)]));
    let work = state.take().unwrap();
    assert_eq!((work.dirty, work.revisions), (services(&["db"]), [Some(3); 5]), "only what is different");
    assert_eq!(state.snapshot().revision, 3);
}

#[test]
fn names_change_with_services_slices_namespaces_and_ranges_whatever_the_kernel_does() {
    let names = |names: &[&str]| names.iter().map(|name| Key::new("default", name)).collect::<BTreeSet<_>>();
    let mut state = settled();
    assert_eq!(state.take_renamed(), Some(Renamed { services: names(&["web"]), others: true }));
    assert_eq!(state.take_renamed(), None);
    state.apply(set(Resource::EndpointSlices, slice("web-a", "web", "10.244.1.9", 20)));
    assert_eq!(state.take_renamed(), Some(Renamed { services: names(&["web"]), others: false }));
    assert_eq!(state.take().unwrap().dirty, services(&["web"]), "one does not take the other's");
    // What only the kernel is to do once more is no news.
    state.again([Key::new("default", "web")]);
    state.apply(set(Resource::Nodes, node("node-1", "172.31.255.99", 21)));
    assert_eq!(state.take_renamed(), None);
    assert_eq!(state.take().unwrap().dirty, Some(Dirty::All));
    state.apply(set(Resource::Namespaces, namespace("shop", 22)));
    assert_eq!(state.take_renamed(), Some(Renamed { services: names(&[]), others: true }));
    state.apply(set(Resource::Namespaces, namespace("shop", 23)));
    assert_eq!(state.take_renamed(), None);
    let work = state.take().unwrap();
    assert_eq!((work.dirty, work.revisions[4]), (None, Some(23)), "a Namespace costs the kernel nothing");
    state.apply(replaced(Resource::Namespaces, 24, vec![namespace("shop", 23)]));
    assert!(state.take_renamed().is_some());
    assert_eq!(state.snapshot().namespaces.iter().map(|name| &**name).collect::<Vec<_>>(), ["shop"]);
    state.apply(removed(Resource::Namespaces, "shop", 25));
    assert!(state.take_renamed().is_some() && state.snapshot().namespaces.is_empty());
    state.apply(set(Resource::ServiceCidrs, cidr("more", "10.97.0.0/16", 26)));
    assert!(state.take_renamed().unwrap().others);
}
