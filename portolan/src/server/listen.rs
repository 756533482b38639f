//! The server's sockets: those that systemd (or the lab) passes, and those that `--listen` names.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::DEFAULT_LISTEN;
use crate::Failure;
use crate::cli::ServerArgs;

/// Open sockets with their local addresses. `secure` is never empty.
pub struct Listeners {
    pub secure: Vec<(TcpListener, SocketAddr)>,
    pub insecure: Option<(TcpListener, SocketAddr)>,
}

/// Opens every socket, passed ones first: the first one is what `admin.kubeconfig` names.
///
/// # Errors
/// A port in use, an address that is not here, `--insecure-listen` off loopback; the sentence names the flag.
pub fn open(args: &ServerArgs) -> Result<Listeners, Failure> {
    let mut secure = passed()?;
    let wanted = if args.listen.is_empty() && secure.is_empty() { &[DEFAULT_LISTEN][..] } else { &args.listen[..] };
    for address in wanted {
        secure.push(bind("--listen", *address)?);
    }
    let insecure = match args.insecure_listen {
        None => None,
        Some(address) if address.ip().is_loopback() => Some(bind("--insecure-listen", address)?),
        Some(address) => {
            return Err(Failure::text(format!(
                "--insecure-listen {address}: plain HTTP is served on loopback only; use 127.0.0.1:{} or --listen",
                address.port()
            )));
        }
    };
    Ok(Listeners { secure, insecure })
}

fn bind(flag: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = TcpListener::bind(address).and_then(|socket| {
        let local = socket.local_addr()?;
        Ok((socket, local))
    });
    bound.map_err(|e| {
        let advice = match e.kind() {
            std::io::ErrorKind::AddrInUse => "; stop the program that uses it, or choose another port",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges, choose a higher one",
            std::io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
            _ => "",
        };
        Failure::text(format!("{flag} {address}: {e}{advice}"))
    })
}

/// Sockets passed by the systemd protocol (sd_listen_fds(3)): LISTEN_FDS of them, from descriptor 3 on, for this
/// process if LISTEN_PID is set.
fn passed() -> Result<Vec<(TcpListener, SocketAddr)>, Failure> {
    const FIRST: RawFd = 3;
    const MOST: RawFd = 16;
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    if number("LISTEN_PID").is_some_and(|pid| pid != std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").and_then(|n| RawFd::try_from(n).ok()).unwrap_or(0).min(MOST);
    (FIRST..FIRST + count)
        .map(|fd| {
            // SAFETY: by the protocol these descriptors were opened for this process alone, and nothing else in it
            // has taken them: this runs once, before any other file is opened.
            let socket = TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
            let address = socket
                .local_addr()
                .map_err(|e| Failure::new(format!("descriptor {fd} (LISTEN_FDS) is no listening socket"), &e))?;
            Ok((socket, address))
        })
        .collect()
}
