use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataplane::{Repairs, Report};
use model::{Key, Resource, Revision};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;

use super::*;
use crate::events::Note;
use crate::objects::{WATCHED, decode};
use crate::reflector::Update;
use crate::state::OwnNode;

/// A kernel that remembers what it was told, and refuses when it is told to.
#[derive(Clone, Default)]
struct Kernel {
    taken: Arc<Mutex<Vec<(Dirty, Plan)>>>,
    refusals: Arc<Mutex<VecDeque<&'static str>>>,
    disturbance: Arc<tokio::sync::Notify>,
    repairs: Arc<Mutex<VecDeque<Result<Repairs, &'static str>>>>,
    /// Services that it does not take.
    culprits: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(&'static str);

impl Program for Kernel {
    type Error = Failure;

    fn program(&mut self, plan: &Plan, dirty: &Dirty) -> Result<Report, Failure> {
        if let Some(cause) = self.refusals.lock().unwrap().pop_front() {
            return Err(Failure(cause));
        }
        self.taken.lock().unwrap().push((dirty.clone(), plan.clone()));
        let culprits = self.culprits.lock().unwrap();
        let refused = |name: &&str| Refused { service: Key::new("default", name), error: "no".into() };
        Ok(Report { refused: culprits.iter().map(refused).collect(), ..Report::default() })
    }

    async fn disturbed(&mut self) {
        self.disturbance.notified().await;
    }

    fn repair(&mut self, _plan: &Plan) -> Result<Report, Failure> {
        let repairs = self.repairs.lock().unwrap().pop_front().unwrap_or(Ok(Repairs::default())).map_err(Failure)?;
        Ok(Report { repairs, ..Report::default() })
    }

    fn hopeless(error: &Failure) -> bool {
        error.0 == "not permitted"
    }
}

impl Kernel {
    fn refuse(&self, causes: &[&'static str]) {
        self.refusals.lock().unwrap().extend(causes);
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    fn last(&self) -> (Dirty, Plan) {
        self.taken.lock().unwrap().last().unwrap().clone()
    }
}

struct Bench {
    core: Core<Kernel>,
    kernel: Kernel,
    now: Instant,
    acknowledged: watch::Receiver<Programmed>,
    asked: mpsc::Sender<Asked>,
    ports: watch::Receiver<Arc<Checks>>,
    notes: mpsc::Receiver<Note>,
}

impl Bench {
    fn new() -> Self {
        let kernel = Kernel::default();
        let state = State::new("node-1", Vec::new());
        let (programmed, acknowledged) = watch::channel(Programmed::default());
        let (asked, questions) = mpsc::channel(4);
        let (checks, ports) = watch::channel(Arc::default());
        let (events, notes) = Recorder::new(Counter::default());
        let links = Links {
            programmed,
            questions,
            checks,
            events,
            flows: Arc::default(),
            names: None,
            answering: None,
            detours: None,
            own: watch::channel(OwnNode::default()).0,
            ending: watch::channel(Ending::No).1,
            at_rest: None,
        };
        let core = Core::new(
            state,
            Local::new("node-1"),
            kernel.clone(),
            Arc::new(Metrics::new(crate::mode::Mode::Nftables)),
            Arc::new(Health::default()),
            links,
        );
        Self { core, kernel, now: Instant::now(), acknowledged, asked, ports, notes }
    }

    /// With an empty cluster of revision 1 programmed.
    fn settled() -> Self {
        let mut bench = Self::new();
        for resource in WATCHED {
            bench.apply(Update::Replaced { resource, revision: 1, objects: Vec::new(), unreadable: Vec::new() });
        }
        bench.turn();
        bench
    }

    fn apply(&mut self, update: Update) {
        self.core.state.apply(update);
    }

    fn service(&mut self, name: &str, revision: Revision) {
        let object = json!({
            "metadata": {"name": name, "namespace": "default", "resourceVersion": revision.to_string()},
            "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        let object = decode(Resource::Services, object.to_string().as_bytes()).unwrap();
        self.apply(Update::Set { resource: Resource::Services, object });
    }

    /// A load balancer's Service with externalTrafficPolicy Local, and one ready endpoint on `node`.
    fn balanced(&mut self, node: &str, revision: Revision) {
        let service = json!({
            "metadata": {"name": "lb", "namespace": "default", "resourceVersion": revision.to_string()},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"],
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 32100,
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
            },
        });
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {
                "name": "lb-a", "namespace": "default", "resourceVersion": revision.to_string(),
                "labels": {"kubernetes.io/service-name": "lb"},
            },
            "endpoints": [{"addresses": ["10.244.1.2"], "conditions": {"ready": true}, "nodeName": node}],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        });
        for (resource, object) in [(Resource::Services, service), (Resource::EndpointSlices, slice)] {
            let object = decode(resource, object.to_string().as_bytes()).unwrap();
            self.apply(Update::Set { resource, object });
        }
    }

    fn shows(&self, line: &str) -> bool {
        self.core.metrics.text().lines().any(|have| have == line)
    }

    fn turn(&mut self) {
        self.core.turn(self.now).unwrap();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.turn();
    }

    fn programmed(&self, resource: &str) -> Option<u64> {
        let text = self.core.metrics.text();
        let name = format!("portolan_agent_programmed_revision{{resource=\"{resource}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }
}

fn only(names: &[&str]) -> Dirty {
    Dirty::Services(names.iter().map(|name| Key::new("default", name)).collect())
}

#[test]
fn nothing_is_programmed_before_every_list_was_read() {
    let mut bench = Bench::new();
    for resource in WATCHED {
        bench.turn();
        assert_eq!(bench.kernel.count(), 0, "before {resource}");
        bench.apply(Update::Replaced { resource, revision: 3, objects: Vec::new(), unreadable: Vec::new() });
    }
    assert_eq!(bench.programmed("services"), None);
    bench.turn();
    assert_eq!(bench.kernel.count(), 1);
    assert_eq!(bench.kernel.last().0, Dirty::All);
    assert_eq!(bench.programmed("nodes"), Some(3));
}

#[test]
fn what_is_queued_is_one_batch() {
    let mut bench = Bench::settled();
    bench.service("a", 5);
    bench.service("b", 6);
    bench.service("a", 7);
    bench.turn();
    assert_eq!(bench.kernel.count(), 2);
    let (dirty, plan) = bench.kernel.last();
    assert_eq!(dirty, only(&["a", "b"]));
    assert_eq!(plan.revision, 7);
    assert_eq!(plan.services.len(), 2);
    assert_eq!((bench.programmed("services"), bench.programmed("endpointslices")), (Some(7), Some(1)));
}

#[test]
fn what_the_kernel_has_is_acknowledged_and_what_it_refused_is_not() {
    let mut bench = Bench::settled();
    assert_eq!(bench.acknowledged.borrow_and_update().revisions, [Some(1); 5]);
    bench.service("a", 5);
    bench.kernel.refuse(&["no memory"]);
    bench.turn();
    assert!(!bench.acknowledged.has_changed().unwrap());
    bench.wait(MIN_WAIT);
    assert_eq!(bench.acknowledged.borrow_and_update().revisions[0], Some(5));
    // What concerns no kernel is in every kernel.
    bench.apply(Update::Seen { resource: Resource::EndpointSlices, revision: 40 });
    bench.turn();
    assert_eq!(bench.acknowledged.borrow_and_update().revisions[..2], [Some(5), Some(40)]);
}

#[tokio::test]
async fn the_loop_answers_questions_while_it_waits_for_updates() {
    let bench = Bench::settled();
    let (sender, receiver) = mpsc::channel(8);
    let asked = bench.asked.clone();
    let core = tokio::spawn(bench.core.run(receiver));
    let (answer, answered) = tokio::sync::oneshot::channel();
    asked.send(Asked { question: json!({"kind": "Ping"}), answer }).await.unwrap();
    assert_eq!(answered.await.unwrap(), json!({"kind": "Pong", "revision": "1"}));
    drop(asked);
    drop(sender);
    core.await.unwrap().unwrap();
}

#[test]
fn a_service_that_is_gone_leaves_the_plan() {
    let mut bench = Bench::settled();
    bench.service("a", 5);
    bench.turn();
    bench.apply(Update::Removed { resource: Resource::Services, key: Key::new("default", "a"), revision: 6 });
    bench.turn();
    let (dirty, plan) = bench.kernel.last();
    assert_eq!((dirty, plan.services.len(), plan.revision), (only(&["a"]), 0, 6));
}

#[test]
fn what_does_not_concern_the_kernel_is_programmed_by_doing_nothing() {
    let mut bench = Bench::settled();
    bench.apply(Update::Seen { resource: Resource::EndpointSlices, revision: 40 });
    bench.turn();
    assert_eq!(bench.kernel.count(), 1);
    assert_eq!((bench.programmed("endpointslices"), bench.programmed("services")), (Some(40), Some(1)));
}

#[test]
fn a_refused_plan_is_tried_again_as_a_whole_with_what_came_since() {
    let mut bench = Bench::settled();
    bench.kernel.refuse(&["no memory", "no memory"]);
    bench.service("a", 5);
    bench.turn();
    assert_eq!(bench.programmed("services"), Some(1), "what was refused is not in the kernel");
    bench.service("b", 6);
    bench.turn();
    assert_eq!(bench.kernel.refusals.lock().unwrap().len(), 1, "news do not shorten the wait");
    bench.wait(MIN_WAIT);
    assert_eq!(bench.kernel.count(), 1, "refused again");
    bench.wait(MIN_WAIT);
    assert_eq!(bench.kernel.count(), 1, "the wait has doubled");
    bench.wait(MIN_WAIT);
    let (dirty, plan) = bench.kernel.last();
    assert_eq!((dirty, plan.services.len(), plan.revision), (Dirty::All, 2, 6));
    assert_eq!(bench.programmed("services"), Some(6));
    let text = bench.core.metrics.text();
    assert!(text.contains("kubeproxy_sync_proxy_rules_nftables_sync_failures_total 2\n"), "{text}");
    bench.service("a", 8);
    bench.turn();
    assert_eq!(bench.kernel.count(), 2, "the same Service again is no change");
    assert_eq!(bench.programmed("services"), Some(8));
}

#[test]
fn load_balancers_are_told_how_many_endpoints_are_here() {
    let mut bench = Bench::settled();
    let lb = Key::new("default", "lb");
    bench.ports.borrow_and_update();
    bench.balanced("node-1", 5);
    bench.kernel.refuse(&["no"]);
    bench.turn();
    assert!(!bench.ports.has_changed().unwrap(), "nothing is said before the kernel has it");
    bench.wait(MIN_WAIT);
    assert_eq!(bench.ports.borrow_and_update()[&lb].local_endpoints, 1);
    assert!(bench.shows("kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"} 0"));
    bench.service("other", 6);
    bench.turn();
    assert!(!bench.ports.has_changed().unwrap(), "another Service's change");
    bench.balanced("node-2", 7);
    bench.turn();
    assert_eq!(bench.ports.borrow_and_update()[&lb].local_endpoints, 0);
    assert!(bench.shows("kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"} 1"));
    bench.apply(Update::Removed { resource: Resource::Services, key: lb, revision: 8 });
    bench.turn();
    assert!(bench.ports.borrow_and_update().is_empty());
}

#[test]
fn a_service_that_the_kernel_refuses_is_named_and_tried_again_in_a_minute() {
    let mut bench = Bench::settled();
    bench.kernel.culprits.lock().unwrap().push("bad");
    bench.service("bad", 5);
    bench.service("good", 6);
    bench.turn();
    let refused = vec![Refused { service: Key::new("default", "bad"), error: "no".into() }];
    assert_eq!(*bench.acknowledged.borrow().refused, *refused);
    assert_eq!(bench.programmed("services"), Some(6), "the rest is in the kernel");
    let note = bench.notes.try_recv().unwrap();
    assert_eq!(
        (&*note.about.key.name, note.reason, &*note.message),
        ("bad", Reason::FailedToProgram, "node node-1: no")
    );
    assert!(bench.shows("portolan_agent_refused_services 1"));
    assert!(bench.core.health.facts().live(bench.now), "one Service is not the node");

    bench.wait(RETRY_REFUSED / 2);
    bench.service("good", 7);
    bench.apply(Update::Removed { resource: Resource::Services, key: Key::new("default", "good"), revision: 8 });
    bench.turn();
    assert_eq!(bench.kernel.count(), 3);
    bench.wait(RETRY_REFUSED / 2);
    assert_eq!((bench.kernel.count(), bench.kernel.last().0), (4, only(&["bad"])));
    assert!(bench.notes.try_recv().is_err(), "it is no news that it is still refused");
    bench.kernel.culprits.lock().unwrap().clear();
    bench.wait(RETRY_REFUSED);
    assert_eq!((bench.kernel.count(), bench.kernel.last().0), (5, only(&["bad"])));
    assert!(bench.acknowledged.borrow().refused.is_empty());
    assert!(bench.shows("portolan_agent_refused_services 0"));
    bench.wait(RETRY_REFUSED);
    assert_eq!(bench.kernel.count(), 5);
}

#[test]
fn what_the_kernel_lacks_is_counted() {
    let mut bench = Bench::settled();
    bench.balanced("node-1", 5);
    bench.kernel.refuse(&["no"]);
    bench.turn();
    assert!(bench.shows("kubeproxy_sync_proxy_rules_service_changes_pending 1"));
    bench.service("web", 6);
    bench.turn();
    assert!(bench.shows("kubeproxy_sync_proxy_rules_service_changes_pending 2"), "also what came since");
    assert!(bench.shows("kubeproxy_sync_proxy_rules_endpoint_changes_pending 1"));
    bench.wait(MIN_WAIT);
    assert!(bench.shows("kubeproxy_sync_proxy_rules_service_changes_pending 0"));
    assert!(bench.shows("kubeproxy_sync_proxy_rules_endpoint_changes_pending 0"));
    assert!(bench.shows("kubeproxy_sync_proxy_rules_service_changes_total 2"));
    assert!(bench.notes.try_recv().is_err(), "no Service is to blame");
}

#[test]
fn the_time_of_a_refused_change_goes_on() {
    let mut bench = Bench::settled();
    let slice = json!({
        "addressType": "IPv4",
        "metadata": {
            "name": "a-1", "namespace": "default", "resourceVersion": "5",
            "labels": {"kubernetes.io/service-name": "a"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2024-01-01T00:00:00Z"},
        },
    });
    let object = decode(Resource::EndpointSlices, slice.to_string().as_bytes()).unwrap();
    bench.apply(Update::Set { resource: Resource::EndpointSlices, object });
    bench.kernel.refuse(&["no"]);
    bench.turn();
    assert!(bench.core.metrics.text().contains("kubeproxy_network_programming_duration_seconds_count 0\n"));
    bench.wait(MIN_WAIT);
    assert!(bench.core.metrics.text().contains("kubeproxy_network_programming_duration_seconds_count 1\n"));
}

#[test]
fn a_node_whose_kernel_refuses_says_so_in_time() {
    let mut bench = Bench::settled();
    assert!(bench.core.health.facts().live(Instant::now()));
    bench.kernel.refuse(&["no"; 100]);
    bench.service("a", 5);
    for _ in 0..30 {
        bench.wait(MAX_WAIT);
    }
    assert!(!bench.core.health.facts().live(bench.now));
    bench.kernel.refusals.lock().unwrap().clear();
    bench.wait(MAX_WAIT);
    assert!(bench.core.health.facts().live(bench.now));
}

#[test]
fn what_is_hopeless_ends_an_agent_at_its_start_and_not_later() {
    let mut bench = Bench::new();
    bench.kernel.refuse(&["not permitted"]);
    for resource in WATCHED {
        bench.apply(Update::Replaced { resource, revision: 1, objects: Vec::new(), unreadable: Vec::new() });
    }
    assert_eq!(bench.core.turn(bench.now).unwrap_err().to_string(), "not permitted");
    let mut bench = Bench::settled();
    bench.kernel.refuse(&["not permitted"]);
    bench.service("a", 5);
    bench.turn();
    bench.wait(MIN_WAIT);
    assert_eq!(bench.programmed("services"), Some(5));
}

#[tokio::test]
async fn the_loop_programs_what_is_sent_and_ends_with_its_senders() {
    let bench = Bench::new();
    bench.kernel.refuse(&["first"]);
    let kernel = bench.kernel.clone();
    let (sender, receiver) = mpsc::channel(8);
    let core = tokio::spawn(bench.core.run(receiver));
    for resource in WATCHED {
        sender
            .send(News {
                epoch: 0,
                update: Update::Replaced { resource, revision: 3, objects: Vec::new(), unreadable: Vec::new() },
            })
            .await
            .unwrap();
    }
    for _ in 0..100 {
        if kernel.count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kernel.count(), 1, "tried again by itself");
    drop(sender);
    tokio::time::timeout(Duration::from_secs(5), core).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_others_change_is_put_right_and_whole_loads_have_a_rest_between_them() {
    let bench = Bench::settled();
    let (kernel, metrics) = (bench.kernel.clone(), Arc::clone(&bench.core.metrics));
    let whole = Ok(Repairs { elements: 0, tables: 1 });
    kernel.repairs.lock().unwrap().extend([Ok(Repairs { elements: 1, tables: 0 }), whole, whole, Err("no memory")]);
    let (_sender, receiver) = mpsc::channel(8);
    let core = tokio::spawn(bench.core.run(receiver));
    let begin = Instant::now();
    for left in [3, 2, 1, 0] {
        kernel.disturbance.notify_one();
        while kernel.repairs.lock().unwrap().len() > left {
            assert!(begin.elapsed() < Duration::from_secs(10), "{left} left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(begin.elapsed() >= REPAIR_REST * 2, "after each of two whole loads there is a rest");
    let text = metrics.text();
    assert!(text.contains("portolan_agent_repairs_total{kind=\"elements\"} 1\n"), "{text}");
    assert!(text.contains("portolan_agent_repairs_total{kind=\"table\"} 2\n"), "{text}");
    // A repair that the kernel refuses is a refusal as any other: everything is programmed anew.
    while kernel.count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(kernel.last().0, Dirty::All);
    core.abort();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_rest_is_called_once_after_something_was_programmed() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut bench = Bench::new();
    bench.core.links.at_rest = Some(|| _ = CALLS.fetch_add(1, Ordering::Relaxed));
    assert_eq!(bench.core.at_rest, None);
    for resource in WATCHED {
        bench.apply(Update::Replaced { resource, revision: 1, objects: Vec::new(), unreadable: Vec::new() });
    }
    bench.turn();
    assert_eq!(bench.core.at_rest, Some(bench.now + REST));
    bench.now += REST / 2;
    bench.service("a", 2);
    bench.turn();
    assert_eq!(bench.core.at_rest, Some(bench.now + REST), "what was programmed meanwhile puts it off");
    let (sender, updates) = mpsc::channel(1);
    let run = bench.core.run(updates);
    tokio::pin!(run);
    for (rests, calls) in [(1, 0), (1, 1), (20, 1)] {
        let _ = tokio::time::timeout(REST * rests, &mut run).await;
        assert_eq!(CALLS.load(Ordering::Relaxed), calls, "after {rests} more");
    }
    drop(sender);
}
