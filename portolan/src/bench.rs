//! `portolan bench`: load, and hollow nodes, for a server that was named.

use bench::stop::Stop;
use bench::{hollow, load};
use proxy_agent::client::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{BenchArgs, BenchCommand, HollowArgs, LoadArgs, TargetArgs};
use crate::output::print;
use crate::{Failure, files, remote};

/// Connections that a hollow node has: one for what it watches and asks, one for its beats, and one more while the server has
/// not answered for a while. Beside them are the process's own files.
const FILES_EACH: u32 = 3;
const OTHER_FILES: u64 = 128;

pub fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.command {
        BenchCommand::Load(args) => load(args),
        BenchCommand::Hollow(args) => hollow(args),
    }
}

fn load(args: LoadArgs) -> Result<(), Failure> {
    files::allow(args.clients.into());
    let arguments = load::Arguments {
        client: client(args.target)?,
        namespace: args.namespace,
        services: args.services,
        pods: args.pods,
        bind: args.bind,
        clients: args.clients,
        rate: args.rate,
        seconds: args.seconds,
        replace_pods: args.replace_pods,
        replace_services: args.replace_services,
        watchers: args.watchers,
        agent_metrics: args.agent_metrics,
        record: args.record,
        keep: args.keep,
        timeout: args.timeout,
    };
    let report = block_on(|stop| async {
        load::run(arguments, stop).await.map_err(|e| Failure::new("putting load on the server", &e))
    })?;
    print(args.output, &report, &report)
}

fn hollow(args: HollowArgs) -> Result<(), Failure> {
    let (allowed, needed) = (
        files::allow(args.nodes.saturating_mul(FILES_EACH)),
        u64::from(args.nodes.saturating_mul(FILES_EACH)) + OTHER_FILES,
    );
    if allowed < needed {
        return Err(Failure::text(format!(
            "{} hollow nodes need {needed} open files, and this process may have {allowed}: raise `ulimit -n`, or let several \
             processes be some of them each (--first)",
            args.nodes
        )));
    }
    let arguments = hollow::Arguments {
        client: client(args.target)?,
        nodes: args.nodes,
        first: args.first,
        seconds: args.seconds,
        lists: args.lists.into(),
        record: args.record,
    };
    let report = block_on(|stop| async {
        hollow::run(arguments, stop).await.map_err(|e| Failure::new("being hollow nodes", &e))
    })?;
    print(args.output, &report, &report)
}

/// A client of the server that was named.
fn client(target: TargetArgs) -> Result<Client, Failure> {
    let path = remote::kubeconfig(target.kubeconfig)?;
    Client::of_server(&target.server, &path).map_err(|e| Failure::new("reaching the server", &e))
}

/// Runs a benchmark on all cores. The first SIGINT or SIGTERM is a wish to end, the second an urgent one.
fn block_on<T, W>(work: impl FnOnce(Stop) -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::new("starting the async runtime", &e))?.block_on(async {
        let listening = |e: std::io::Error| Failure::new("listening for signals", &e);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(listening)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(listening)?;
        let (wish, stop) = Stop::new();
        let wishes = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                wish.send_modify(|wishes| *wishes = wishes.saturating_add(1));
            }
        });
        let result = work(stop).await;
        wishes.abort();
        result
    })
}
