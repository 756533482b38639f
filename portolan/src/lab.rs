//! `portolan lab …`, `portolan echo` and `portolan probe`: from the command line to the `lab` crate and back.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::Failure;
use crate::cli::{EchoArgs, LabArgs, LabCommand, ProbeArgs, ProbeProtocol};
use crate::output::print;

/// Runs a lab command. `exec` passes the exit code of its command on.
pub fn run(args: LabArgs) -> Result<ExitCode, Failure> {
    match args.command {
        LabCommand::Up { dir, nodes, edges, dataplane, agent_arg, server_arg, detach, listen } => {
            let options = lab::UpOptions {
                dir: dir.dir,
                nodes: nodes.into(),
                edges: edges.into(),
                dataplane,
                agent_args: agent_arg,
                server_args: server_arg,
                detach,
                listen,
                exe: None,
            };
            lab::up(&options, &mut |ready| {
                let edges = match ready.edges.len() {
                    0 => String::new(),
                    1 => ", 1 edge node is there".to_owned(),
                    many => format!(", {many} edge nodes are there"),
                };
                let (nodes, server) = (ready.nodes.len(), &ready.server);
                eprintln!("{nodes} nodes have programmed their dataplane{edges}; API at {server}");
                println!("export KUBECONFIG={}", shell_quoted(&ready.kubeconfig.display().to_string()));
            })
            .map_err(|e| Failure::new("lab up", &e))?;
        }
        LabCommand::Status { dir, output } => {
            let status = lab::status(&dir.dir).map_err(|e| Failure::new("lab status", &e))?;
            print(output, &status, &status)?;
        }
        LabCommand::Exec { dir, name, argv } => {
            let argv: Vec<OsString> = argv.into_iter().map(OsString::from).collect();
            let code = lab::exec(&dir.dir, &name, &argv).map_err(|e| Failure::new("lab exec", &e))?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        LabCommand::Wait { dir, timeout } => {
            lab::wait(&dir.dir, Duration::from_secs(timeout)).map_err(|e| Failure::new("lab wait", &e))?;
        }
        LabCommand::Stop { dir, name } => {
            lab::stop(&dir.dir, &name).map_err(|e| Failure::new("lab stop", &e))?;
        }
        LabCommand::Start { dir, name, dataplane } => {
            lab::start(&dir.dir, &name, dataplane).map_err(|e| Failure::new("lab start", &e))?;
        }
        LabCommand::Cut { dir, node } => {
            lab::cut(&dir.dir, &node).map_err(|e| Failure::new("lab cut", &e))?;
        }
        LabCommand::Heal { dir, node } => {
            lab::heal(&dir.dir, &node).map_err(|e| Failure::new("lab heal", &e))?;
        }
        LabCommand::Down { dir, purge } => {
            lab::down(&dir.dir, purge).map_err(|e| Failure::new("lab down", &e))?;
        }
        LabCommand::Supervise { spec } => {
            return Ok(ExitCode::from(u8::try_from(lab::supervise(&spec)).unwrap_or(1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the echo until it is told to stop.
pub fn echo(args: &EchoArgs) -> Result<(), Failure> {
    let options = lab::echo::Options {
        tcp: args.tcp.clone(),
        udp: args.udp.clone(),
        pod: args.pod.clone(),
        node: args.node.clone(),
        namespace: args.namespace.clone(),
        drain: Duration::from_millis(args.drain_ms),
        ready_fd: args.ready_fd,
    };
    lab::echo::run(&options).map_err(|e| Failure::new("echo", &e))
}

/// Sends the requests; exit code 1 if any of them failed.
pub fn probe(args: &ProbeArgs) -> Result<ExitCode, Failure> {
    let options = lab::probe::Options {
        transport: match args.protocol {
            ProbeProtocol::Tcp => lab::probe::Transport::Tcp,
            ProbeProtocol::Udp => lab::probe::Transport::Udp,
        },
        target: args.destination,
        load: match (args.rate, args.seconds) {
            (Some(per_second), Some(seconds)) => {
                lab::probe::Load::Rate { per_second: per_second.into(), seconds: seconds.into() }
            }
            _ => lab::probe::Load::Count { count: args.count, concurrency: args.concurrency.into() },
        },
        keep: args.keep,
        timeout: Duration::from_millis(args.timeout_ms),
        source: args.source,
    };
    let report = lab::probe::run(&options).map_err(|e| Failure::new("probe", &e))?;
    print(args.output, &report, &report)?;
    Ok(if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Quotes a word for a POSIX shell, where it needs it: the line is made to be `eval`ed.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_quoted("/tmp/a-b.c"), "/tmp/a-b.c");
        assert_eq!(shell_quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
    }
}
