//! What one change costs the server, over how many watch and over how much there is: proportional to those who have to
//! be told, and not to what did not change.
//!
//! The cost is processor time of the server while Pods turn ready and not, less what the same nodes cost it in the same time
//! while nothing changes.

use std::time::{Duration, Instant};

use bench::figures::{Aim, Figure, Unit};
use serde_json::{Value, json};

use crate::case::{Outcome, Size};
use crate::plot;
use crate::support::crowd::{self, Hollow, State};
use crate::support::{Server, raise_file_limit};

const PODS: u32 = 10;

struct Sizes {
    /// Numbers of nodes at the smallest state but one, and sizes of the state, in Services, at the smallest number of nodes.
    nodes: &'static [u32],
    services: &'static [u32],
    rate: u32,
    seconds: u32,
}

const TOY: Sizes = Sizes { nodes: &[2, 4], services: &[5, 10], rate: 10, seconds: 1 };
const USUAL: Sizes = Sizes { nodes: &[50, 250, 500, 1_000], services: &[100, 1_000, 10_000], rate: 50, seconds: 8 };
const FULL: Sizes =
    Sizes { nodes: &[50, 500, 1_000, 2_000, 3_000], services: &[100, 1_000, 10_000, 30_000], rate: 20, seconds: 20 };

pub fn run(outcome: &mut Outcome) {
    raise_file_limit();
    let sizes = match outcome.size {
        Size::Toy => TOY,
        Size::Usual => USUAL,
        Size::Full => FULL,
    };
    let runtime = crate::support::alone();
    let by_state = runtime.block_on(over_state(&sizes));
    let by_nodes = runtime.block_on(over_nodes(&sizes));

    let (least, most) = (by_state[0], by_state[by_state.len() - 1]);
    let about = |pods: f64| format!("server CPU of one Pod's change; {} nodes, {pods} Pods", sizes.nodes[0]);
    let figures = &mut outcome.figures;
    figures.add(Figure::cost("scaling/least-state", least.1, Unit::Microseconds, &about(least.0)));
    let figure = Figure::cost("scaling/most-state", most.1, Unit::Microseconds, &about(most.0));
    figures.add(figure.beside("scaling/least-state").aim(Aim::Ratio(2.0)));
    let (few, many) = (by_nodes[0], by_nodes[by_nodes.len() - 1]);
    let each = |(nodes, cost): (f64, f64)| cost / nodes;
    let about = |nodes: f64| format!("the same, for each of {nodes} nodes; {} Pods", sizes.services[1] * PODS);
    figures.add(Figure::cost("scaling/few-nodes", each(few), Unit::Microseconds, &about(few.0)));
    let figure = Figure::cost("scaling/many-nodes", each(many), Unit::Microseconds, &about(many.0));
    figures.add(figure.beside("scaling/few-nodes").aim(Aim::Ratio(1.0)));

    let cost = plot::even("server CPU of one change, ms");
    let draw = |what: &str, title: &str, x: plot::Axis, points: &[(f64, f64)]| {
        let line = points.iter().map(|(x, micros)| (*x, micros / 1000.0)).collect();
        plot::lines(&outcome.plot(what), title, x, cost, &[("one Pod's change".to_owned(), line)]);
    };
    draw("nodes", "The cost of a change over how many watch", plot::even("nodes"), &by_nodes);
    draw("state", "The cost of a change over how much there is", plot::powers("Pods"), &by_state);
    let points = |points: &[(f64, f64)]| -> Value { points.iter().map(|(x, y)| json!([x, y])).collect() };
    outcome.detail = json!({"microsByNodes": points(&by_nodes), "microsByPods": points(&by_state)});
}

/// The same nodes, and ever more Services and Pods.
async fn over_state(sizes: &Sizes) -> Vec<(f64, f64)> {
    let server = Server::start().await;
    let mut points = Vec::new();
    // A name that was given is not given to another process at once.
    for (first, &services) in (1..).step_by(sizes.nodes[0] as usize).zip(sizes.services) {
        let state = State { services, pods: PODS };
        crowd::make(&server, state);
        let hollow = Hollow::start(&server, first, sizes.nodes[0]);
        points.push((f64::from(state.all_pods()), cost(&server, state, &hollow, sizes)));
        hollow.finish();
    }
    points
}

/// The same state, and ever more nodes. Those that are there already stay.
async fn over_nodes(sizes: &Sizes) -> Vec<(f64, f64)> {
    let server = Server::start().await;
    let state = State { services: sizes.services[1], pods: PODS };
    crowd::make(&server, state);
    let mut there: Vec<Hollow> = Vec::new();
    let (mut points, mut count) = (Vec::new(), 0);
    for &nodes in sizes.nodes {
        let hollow = Hollow::start(&server, count + 1, nodes - count);
        count = nodes;
        points.push((f64::from(nodes), cost(&server, state, &hollow, sizes)));
        there.push(hollow);
    }
    // The last are the most; whoever goes is seen by those who stay.
    for hollow in there {
        hollow.finish();
    }
    points
}

/// Microseconds of the server for one change.
fn cost(server: &Server, state: State, hollow: &Hollow, sizes: &Sizes) -> f64 {
    std::thread::sleep(Duration::from_secs(u64::from(sizes.seconds.min(3))));
    let (begun, before) = (Instant::now(), server.cpu());
    std::thread::sleep(Duration::from_secs(u64::from(sizes.seconds)));
    let idle = (server.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (begun, before) = (Instant::now(), server.cpu());
    let churned = crowd::churn(server, state, sizes.rate, sizes.seconds, &hollow.record, || {});
    let busy = (server.cpu() - before).as_secs_f64() - idle * begun.elapsed().as_secs_f64();
    let changes = churned["churned"]["changes"].as_f64().unwrap();
    busy.max(0.0) * 1e6 / changes
}
