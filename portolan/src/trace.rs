//! `portolan trace`: the way of a packet by what the API serves, and by what the kernels of its nodes have.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use dataplane::explain::{Cluster, Head, Hop, Kernel, Request, Step, resolve};
use dataplane::{Local, compile, route};
use model::types::Protocol;
use proxy_agent::client::Client;
use proxy_agent::routes::{Asked, Outcome, Routes};
use serde::Serialize;

use crate::cli::{TraceArgs, Transport};
use crate::output::print;
use crate::{Failure, remote};

/// What is read and asked a second time when the two differ: the cluster may have moved meanwhile.
const SECOND_LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct Trace {
    #[serde(flatten)]
    head: Head,
    hops: Vec<Hop>,
}

/// Prints the way; exit code 1 if a kernel would do something else.
pub fn run(args: TraceArgs) -> Result<ExitCode, Failure> {
    let request = Request {
        protocol: match args.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => Protocol::Sctp,
        },
        from: args.from,
        at: args.at,
        to: args.destination,
        namespace: args.namespace,
    };
    let client = remote::client(args.kubeconfig)?;
    let trace = remote::block_on(async {
        let first = trace(&client, &request).await?;
        if !first.differs() {
            return Ok(first);
        }
        tokio::time::sleep(SECOND_LOOK).await;
        trace(&client, &request).await
    })?;
    print(args.output, &trace, &trace)?;
    Ok(if trace.differs() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn trace(client: &Client, request: &Request) -> Result<Trace, Failure> {
    let cluster = remote::cluster(client).await.map_err(|e| Failure::new("reading the cluster", &e))?;
    let (head, mut next) = resolve(&cluster, request).map_err(|problem| Failure::text(problem.to_string()))?;
    let mut hops = Vec::new();
    while let Some(step) = next {
        let answer = remote::ask(client, &step.node, vec![Asked::from(&step.packet)]).await;
        let answer = answer.map_err(|error| Failure::new("not asked", &error).to_string());
        let hop = hop(&cluster, &step, answer);
        next = hop.next(&cluster, &step);
        hops.push(hop);
    }
    Ok(Trace { head, hops })
}

/// One node: the oracle's verdict, and its kernel's beside it.
fn hop(cluster: &Cluster, step: &Step, answer: Result<Routes, String>) -> Hop {
    let mut plan = compile(&cluster.snapshot, &Local::new(&step.node));
    let kernel = match answer {
        Err(problem) => {
            Kernel { agrees: false, differences: vec![problem], revision: None, chains: Vec::new(), remembered: None }
        }
        Ok(routes) => {
            plan = routes.node.plan(&cluster.snapshot, &step.node);
            let routed = routes.verdicts.into_iter().next().unwrap_or_default();
            let mut differences = routed.differences(&route(&plan, &step.packet));
            let tampered = routes.tampered.map(|what| format!("somebody has changed the table: {what}"));
            differences.extend(tampered);
            let only = routed.endpoints.first().filter(|_| routed.remembered && routed.verdict == Outcome::Endpoints);
            Kernel {
                agrees: differences.is_empty(),
                differences,
                revision: Some(routes.revision),
                remembered: only.map(|chance| chance.endpoint),
                chains: routed.chains,
            }
        }
    };
    Hop { kernel: Some(kernel), ..Hop::of(cluster, &plan, step) }
}

impl Trace {
    /// Whether a kernel that was asked would do something else.
    fn differs(&self) -> bool {
        let kernels = self.hops.iter().filter_map(|hop| hop.kernel.as_ref());
        kernels.into_iter().any(|kernel| !kernel.agrees && kernel.revision.is_some())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)?;
        self.hops.iter().try_for_each(|hop| hop.fmt(f))
    }
}
