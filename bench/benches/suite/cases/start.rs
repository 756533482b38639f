//! How long a server takes from its process's start to its first answer, with a big cluster on disk.
//!
//! It is ended in both ways: told to stop, so that the database is tidy, and killed at once after writes, so that its
//! write-ahead log is still to be read.

use std::time::Instant;

use bench::figures::{Aim, Figure, Unit};
use serde_json::json;

use crate::case::{Outcome, Size};
use crate::support::{Server, cluster, many_threads, median, memory};

pub fn run(outcome: &mut Outcome) {
    let (services, per, rounds) = outcome.size.pick((20, 3, 1), (10_000, 10, 5), (10_000, 10, 9));
    let runtime = many_threads();
    let (told, killed, resident) = runtime.block_on(async {
        let mut server = Server::start().await;
        cluster::fill(&server, services, per).await;
        let resident = memory(server.pid());
        let (mut told, mut killed) = (Vec::new(), Vec::new());
        for round in 0..2 * rounds {
            let kill = round % 2 == 0;
            if kill {
                cluster::touch(&server, services * per, services / 2).await;
            }
            let (anew, seconds) = start(server, kill).await;
            server = anew;
            if kill { &mut killed } else { &mut told }.push(seconds);
        }
        (told, killed, resident)
    });
    let about =
        format!("from a process's start to /readyz, {services} Services × {per} Pods on disk, told to stop before");
    let told_figure = Figure::cost("start/told-to-stop", median(told.clone()), Unit::Seconds, &about);
    let about = "the same, killed before, just after writes";
    let killed_figure = Figure::cost("start/killed", median(killed.clone()), Unit::Seconds, about);
    for figure in [told_figure, killed_figure] {
        outcome.figures.add(if outcome.size == Size::Toy { figure } else { figure.aim(Aim::Value(2.0)) });
    }
    outcome.detail = json!({"services": services, "podsEach": per, "toldSeconds": told, "killedSeconds": killed,
        "serverAfterFill": resident});
}

/// Ends the server, and starts it anew; returns it, and the seconds until it was ready.
async fn start(mut server: Server, kill: bool) -> (Server, f64) {
    server.stop(kill);
    let dir = server.dir.clone();
    drop(server);
    let began = Instant::now();
    let server = Server::start_in(dir, &[]).await;
    (server, began.elapsed().as_secs_f64())
}
