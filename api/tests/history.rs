//! What clients see of the store is one history: random writes by several clients at once, through the real router,
//! against a plain model of an object store.
//!
//! A script is a list of rounds. The requests of a round are sent together, so their order is the store's to choose;
//! what it chose is found afterwards: there must be an order in which the plain model ([`plain`]) gives every answer
//! that was given, with revisions that only rise. Between rounds watches are opened, of every kind; at the end each must
//! have seen exactly the model's history from where it began ([`watching`]), and every list must show the model's objects.
//!
//! What the model does not know, it does not ask for: revisions are the store's to hand out, and the model takes them
//! from the answers; those of deletions, which some answers leave out, it reads in the store's own log. A failing script is shrunk; `PROPTEST_RNG_SEED` repeats a run, `PROPTEST_CASES` lengthens it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

#[path = "history/client.rs"]
mod client;
#[path = "history/plain.rs"]
mod plain;
#[path = "history/script.rs"]
mod script;
#[path = "history/watching.rs"]
mod watching;

use proptest::prelude::*;

use client::{Client, Issued};
use plain::Plain;
use script::{Content, KINDS, NAMESPACES, Op, Step, TIERS};
use watching::Watcher;

/// Every order of so many requests.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    shorter
        .into_iter()
        .flat_map(|order| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, count - 1);
                order
            })
        })
        .collect()
}

/// Sends a round, and brings the model to where the answers say that the store is.
async fn round(client: &Client, plain: &mut Plain, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let issued: Vec<Issued> = ops.into_iter().enumerate().map(|(who, op)| client.prepare(who, op, plain)).collect();
    let answers = client.send_all(&issued).await;
    plain.deletions = client.deletions();
    let mut reasons = Vec::new();
    for order in orders(issued.len()) {
        let mut trial = plain.clone();
        let fits = order.iter().try_for_each(|at| trial.follow(&issued[*at], &answers[*at]));
        match fits {
            Ok(()) => {
                assert!(trial.deletions.is_empty(), "deletions that nobody asked for: {:?}", trial.deletions);
                *plain = trial;
                return Ok(());
            }
            Err(reason) => reasons.push(format!("{order:?}: {reason}")),
        }
    }
    let sent: Vec<String> =
        issued.iter().zip(&answers).map(|(issued, answer)| format!("{issued:?}\n    {answer:?}")).collect();
    Err(TestCaseError::fail(format!("no order explains\n{}\n{}", sent.join("\n"), reasons.join("\n"))))
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let client = Client::new().await;
    let mut plain = Plain::new(&client).await;
    let mut watchers = Vec::new();
    for step in steps {
        match step {
            Step::Round(ops) => round(&client, &mut plain, ops).await?,
            Step::DeleteCollection { kind, namespace, tier } => {
                let answer = client.delete_collection(kind, namespace, tier).await;
                plain.deletions = client.deletions();
                plain.delete_collection(kind, namespace, tier, &answer).map_err(TestCaseError::fail)?;
            }
            Step::Watch(watch) => watchers.push(Watcher::open(&client, &plain, watch).await),
        }
    }
    // The last word in every namespace and for every selector; a watcher that has seen it has seen everything.
    for kind in KINDS {
        for namespace in NAMESPACES {
            for (name, tier) in script::LAST.into_iter().zip(TIERS.map(Some).into_iter().chain([None])) {
                let content = Content { tier, value: None, finalizers: Vec::new() };
                round(&client, &mut plain, vec![Op::Create(script::Key { kind, namespace, name }, content)]).await?;
            }
        }
    }
    for watcher in watchers {
        watcher.check(&plain).await.map_err(TestCaseError::fail)?;
    }
    for kind in KINDS {
        round(&client, &mut plain, vec![Op::List { kind, namespace: None, selector: script::Selector::All }]).await?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_client_sees_one_history(steps in script::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

/// Scripts of one run: what half a minute of an unoptimised build has room for, unless somebody asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}
