use model::types::{BalancerStatus, EdgeAssignment, EndpointSlice, Node, ObjectMeta};

use super::*;

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        ..ObjectMeta::default()
    }
}

fn slice(name: &str, service: &str) -> EndpointSlice {
    let mut slice = EndpointSlice { metadata: meta("shop", name), ..EndpointSlice::default() };
    slice.metadata.labels.insert(SERVICE_NAME.to_owned(), service.to_owned());
    slice
}

fn balancer(name: &str, edge: &str, term: u64) -> LoadBalancer {
    let assigned = EdgeAssignment { name: edge.to_owned(), term, ..EdgeAssignment::default() };
    let status = BalancerStatus { edge: Some(assigned), ..BalancerStatus::default() };
    LoadBalancer { metadata: meta("", name), status, ..LoadBalancer::default() }
}

#[test]
fn nothing_is_complete_before_everything_was_listed() {
    let mut world = World::default();
    let lists = [
        News::Service(Change::Reset(Vec::new())),
        News::Slice(Change::Reset(Vec::new())),
        News::Node(Change::Reset(Vec::new())),
        News::Balancer(Change::Reset(Vec::new())),
        News::AccessList(Change::Reset(Vec::new())),
        News::Secret(Change::Reset(Vec::new())),
    ];
    for list in lists {
        assert!(!world.complete());
        world.apply(list);
    }
    assert!(world.complete());
}

#[test]
fn slices_stand_under_their_service() {
    let mut world = World::default();
    let names = |world: &World, service: &str| -> Vec<String> {
        let slices = world.snapshot().slices.get(&Key::new("shop", service));
        slices.map(|slices| slices.keys().cloned().collect()).unwrap_or_default()
    };
    world.apply(News::Slice(Change::Reset(vec![slice("a", "web"), slice("b", "web"), slice("c", "")])));
    assert_eq!(names(&world, "web"), ["a", "b"]);
    // It changed hands.
    world.apply(News::Slice(Change::Set(slice("a", "api"))));
    assert_eq!((names(&world, "web"), names(&world, "api")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    world.apply(News::Slice(Change::Gone(slice("b", "web"))));
    assert!(!world.snapshot().slices.contains_key(&Key::new("shop", "web")));
    world.apply(News::Slice(Change::Reset(Vec::new())));
    assert!(world.snapshot().slices.is_empty() && world.owners.is_empty());
}

#[test]
fn what_is_as_it_was_stays_the_very_same() {
    let mut world = World::default();
    let node = Node { metadata: meta("", "node-1"), ..Node::default() };
    world.apply(News::Node(Change::Reset(vec![node.clone()])));
    let first = Arc::clone(&world.snapshot().nodes["node-1"]);
    world.apply(News::Node(Change::Set(node.clone())));
    world.apply(News::Node(Change::Reset(vec![node])));
    assert!(Arc::ptr_eq(&first, &world.snapshot().nodes["node-1"]));
}

#[test]
fn an_edge_holds_what_is_assigned_to_it() {
    let mut world = World::default();
    let all = vec![balancer("lb-a", "edge-1", 2), balancer("lb-b", "edge-2", 1), LoadBalancer::default()];
    world.apply(News::Balancer(Change::Reset(all)));
    let held: Vec<(&str, u64)> = world.held_by("edge-1").map(|(name, _, term)| (name, term)).collect();
    assert_eq!(held, [("lb-a", 2)]);
}
