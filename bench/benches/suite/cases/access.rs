//! What a permission costs: ten thousand bindings of ten thousand users in a thousand namespaces, and what each way to an
//! answer takes beside them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use access::node::Bound;
use access::rbac::{Binding, Policy, PolicyRule, Role};
use access::{Attributes, Item, User, decide};
use bench::figures::{Figure, Unit};

use crate::case::Outcome;

const BINDINGS: usize = 10_000;

struct Nowhere;

impl Bound for Nowhere {
    fn node_of_pod(&self, _: &str, _: &str) -> Option<String> {
        Some("web-1".to_owned())
    }
}

pub fn run(outcome: &mut Outcome) {
    let rounds = outcome.size.pick(2_000u32, 200_000, 1_000_000);
    let mut policy = Policy::default();
    let rules = vec![
        PolicyRule::of("get list watch", "", "pods services endpoints events"),
        PolicyRule::of("get list watch", "discovery.k8s.io", "endpointslices"),
        PolicyRule::of("create update patch delete", "", "services"),
    ];
    policy.add_cluster_role("some", Arc::new(Role { rules, aggregated: false }));
    for n in 0..BINDINGS {
        let text = format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"some"}},"subjects":[{{"kind":"User","name":"user-{n}"}}]}}"#
        );
        let binding = Binding::read("", text.as_bytes()).unwrap();
        policy.add_binding(&format!("ns-{}", n % 1000), &format!("binding-{n}"), &binding);
    }
    let wish = |verb| {
        Attributes::resource(verb, Item { resource: "services", namespace: "ns-7", name: "web", ..Item::default() })
    };
    for (name, what, user, verb, allowed) in [
        ("administrator", "the administrator", User::admin(), "update", true),
        ("node-reads", "a node that reads", User::node("web-1"), "get", true),
        ("node-writes", "a node that writes what is not its own", User::node("web-1"), "update", false),
        ("user", "a user by the last of a role's rules", User::named("user-7", []), "update", true),
        ("refused", "a user whom no role allows it", User::named("user-8", []), "update", false),
    ] {
        let wish = wish(verb);
        let begun = Instant::now();
        for _ in 0..rounds {
            let decision = decide(black_box(&policy), black_box(&user), &wish, None, &Nowhere);
            assert_eq!(black_box(decision.is_allowed()), allowed, "{what}");
        }
        let micros = begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        let about = format!("a decision about {what}");
        outcome.figures.add(Figure::cost(&format!("access/{name}"), micros, Unit::Microseconds, &about));
    }
}
