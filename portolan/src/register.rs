//! `portolan register`: what runs here is found by everybody for as long as it does, and taken out of its Services before
//! it ends.
//!
//! The agent of this machine does the registering ([`link`]); this process is the sign of life. With a command it is
//! also its parent: it passes signals on, and ends with the command's exit code. An agent that cannot be reached keeps
//! no command from running, and a registration that the agent refuses keeps it from being started.

pub mod flags;
mod life;
mod link;

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::Failure;
use crate::cli::RegisterArgs;
use life::{Action, Event, Life};
use link::{News, Wish};

/// Signals that are passed on, or mean the end.
const SIGNALS: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];
/// Signals that wait to be taken in.
const QUEUE: usize = 16;

/// Runs until the command has ended, or this is told to.
pub fn run(args: RegisterArgs) -> Result<ExitCode, Failure> {
    let pods = match (&args.file, &args.name) {
        (Some(file), _) => manifests(file)?,
        (None, Some(name)) => vec![flags::pod(name, &args)],
        (None, None) => return Err(Failure::text("--name or --file is needed")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("starting the async runtime", &e))?;
    let code = runtime.block_on(live(args, pods))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The Pods of a file.
fn manifests(file: &Path) -> Result<Vec<Value>, Failure> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
    };
    read.map_err(|e| Failure::new(format!("reading {}", file.display()), &e))?;
    let json = file.extension().is_some_and(|ending| ending == "json");
    let wrong = |why: String| Failure::text(format!("{} cannot be used: {why}", file.display()));
    proxy_agent::workloads::documents(&text, json).map_err(wrong)
}

async fn live(args: RegisterArgs, pods: Vec<Value>) -> Result<i32, Failure> {
    let (to_signals, mut signals) = mpsc::channel(QUEUE);
    for wanted in SIGNALS {
        let mut caught = signal(SignalKind::from_raw(wanted as i32))
            .map_err(|e| Failure::new(format!("listening for {wanted}"), &e))?;
        let to_signals = to_signals.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                if to_signals.send(wanted).await.is_err() {
                    return;
                }
            }
        });
    }
    link::check(&args.socket, &pods).await.map_err(|why| Failure::text(format!("the agent refuses: {why}")))?;
    let mut child = start(&args)?;
    let (wish, wished) = watch::channel(Wish::Register);
    let (to_news, mut news) = mpsc::channel(QUEUE);
    tokio::spawn(link::keep(args.socket, pods, wished, to_news));
    let mut life = Life::new(child.is_some());
    let mut registered = false;
    let mut deadline = None;
    loop {
        let event = tokio::select! {
            // What was said before a signal counts when that is judged.
            biased;
            code = ended(child.as_mut()) => Event::Ended(code),
            Some(news) = news.recv() => match news {
                News::Asked => {
                    registered = true;
                    continue;
                }
                News::Left(doubt) => {
                    if let Some(doubt) = doubt {
                        warn!("the end is not in order: {doubt}");
                    }
                    Event::Left
                }
            },
            Some(signal) = signals.recv() => Event::Signal(signal),
            () = at(deadline) => {
                warn!("not every node could be waited for within {:?}", args.grace);
                deadline = None;
                Event::Left
            }
        };
        match life.handle(&event, registered) {
            None => {}
            Some(Action::Deregister) => {
                let until = Instant::now() + args.grace;
                deadline = Some(until);
                wish.send_replace(Wish::Leave { until });
            }
            Some(Action::Forward(signal)) => {
                deadline = None;
                // A child that has not been waited for keeps its number.
                if let Some(pid) = child.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok()) {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
            Some(Action::Exit(code)) => return Ok(code),
        }
    }
}

/// Starts the command, if there is one. It leads a process group of its own, so that a terminal's signals come here
/// first, and ends with this process, however that ends.
fn start(args: &RegisterArgs) -> Result<Option<Child>, Failure> {
    let Some((program, arguments)) = args.command.split_first() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    // SAFETY: prctl is a bare system call.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
    let started = command.spawn();
    started.map(Some).map_err(|e| Failure::new(format!("starting {}", program.display()), &e))
}

/// The exit code of the command, when it has ended; never without one.
async fn ended(child: Option<&mut Child>) -> i32 {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => exit_code(status),
            Err(error) => {
                warn!("the command's end was not seen: {error}");
                1
            }
        },
        None => std::future::pending().await,
    }
}

/// As a shell tells it: 128 and the signal, where one ended it.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
