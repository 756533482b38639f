//! The socket of the agent: takes connections, and passes on what they ask. Who may register is who may open the
//! socket's file; what uid and gid a process has says the kernel.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Group;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use super::manifest::{Origin, Wanted, wanted};
use super::protocol::{Answer, MAX_PODS, Request, Talk, short};

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 512;
/// How long a connection may take until it registers something.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// The longest grace that can be asked for.
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    pub path: PathBuf,
    /// Whose members may register, beside the agent's own user; `None`: the agent's own group.
    pub group: Option<String>,
    /// An agent that cannot listen there does not begin; otherwise it goes on without.
    pub needed: bool,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
}

/// What a connection asks for.
#[derive(Debug)]
pub enum Ask {
    Check {
        session: u64,
        pods: Vec<Arc<Wanted>>,
        reply: oneshot::Sender<Answer>,
    },
    Register {
        session: u64,
        peer: Peer,
        pods: Vec<Arc<Wanted>>,
        reply: oneshot::Sender<Answer>,
    },
    Deregister {
        session: u64,
        pods: Vec<String>,
        grace: Duration,
        reply: oneshot::Sender<Answer>,
    },
    /// It has ended.
    Closed {
        session: u64,
    },
}

/// Makes the socket, with the rights of 0660 from its first moment on. One that nobody listens at is replaced.
///
/// # Errors
/// When the folder cannot be made or written to, the group is not there, or another agent listens.
pub fn bind(config: &SocketConfig) -> io::Result<UnixListener> {
    let group = match &config.group {
        None => None,
        Some(name) => match Group::from_name(name)? {
            Some(group) => Some(group.gid.as_raw()),
            None => return Err(io::Error::other(format!("there is no group {name:?}"))),
        },
    };
    if let Some(folder) = config.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let (_folder, path) = short(&config.path)?;
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
    }
    // Made beside it and moved there, so that nobody meets it with other rights.
    let next = path.with_extension("new");
    remove(&next)?;
    let listener = UnixListener::bind(&next)?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o660))?;
    if group.is_some() {
        chown(&next, None, group)?;
    }
    fs::rename(&next, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes connections for ever.
pub async fn serve(listener: UnixListener, node: String, asks: mpsc::Sender<Ask>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!("nothing can be registered: {error}");
            return std::future::pending().await;
        }
    };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0.. {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    // Out of descriptors, as a rule: it may pass.
                    warn!("accepting on the agent's socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        while sessions.try_join_next().is_some() {}
        let (node, asks) = (node.clone(), asks.clone());
        sessions.spawn(async move {
            if let Err(error) = converse(stream, session, &node, &asks).await {
                debug!(session, "a conversation on the agent's socket broke off: {error}");
            }
            let _ = asks.send(Ask::Closed { session }).await;
            drop(slot);
        });
    }
}

async fn converse(stream: UnixStream, session: u64, node: &str, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid() };
    let mut talk = Talk::new(stream);
    let mut registered = false;
    loop {
        let request = if registered {
            talk.hear().await?
        } else {
            tokio::time::timeout(FIRST_WORD, talk.hear()).await.map_err(|_| io::ErrorKind::TimedOut)??
        };
        let Some(request) = request else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        let read = |pods: &[serde_json::Value]| -> Result<Vec<Arc<Wanted>>, String> { read(pods, node) };
        let ask = match request {
            Request::Check { pods } => read(&pods).map(|pods| Ask::Check { session, pods, reply }),
            Request::Register { pods } => read(&pods).map(|pods| Ask::Register { session, peer, pods, reply }),
            Request::Deregister { pods, grace_milliseconds } => {
                let grace = Duration::from_millis(grace_milliseconds).min(MAX_GRACE);
                Ok(Ask::Deregister { session, pods, grace, reply })
            }
        };
        let answer = match ask {
            Err(reason) => Answer::Refused { reason },
            Ok(ask) => {
                let lasting = !matches!(ask, Ask::Check { .. });
                asks.send(ask).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
                let answer = tokio::select! {
                    answer = answer => answer.map_err(|_| io::ErrorKind::BrokenPipe)?,
                    // Who is gone waits for nothing.
                    () = talk.ended() => return Ok(()),
                };
                registered |= lasting && !matches!(answer, Answer::Refused { .. });
                answer
            }
        };
        talk.say(&answer).await?;
    }
}

fn read(pods: &[serde_json::Value], node: &str) -> Result<Vec<Arc<Wanted>>, String> {
    if pods.is_empty() || pods.len() > MAX_PODS {
        return Err(format!("1 to {MAX_PODS} Pods can be registered at a time, and there are {}", pods.len()));
    }
    let mut read: Vec<Arc<Wanted>> = Vec::with_capacity(pods.len());
    for pod in pods {
        let pod = wanted(pod, node, &Origin::Socket)?;
        if read.iter().any(|other| other.name == pod.name) {
            return Err(format!("there are two Pods {}", pod.name));
        }
        read.push(Arc::new(pod));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(dir: &Path) -> SocketConfig {
        SocketConfig { path: dir.join("run/agent.sock"), group: None, needed: true }
    }

    #[test]
    fn the_socket_has_its_rights_and_one_listener() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let first = bind(&config).unwrap();
        assert_eq!(fs::metadata(&config.path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind(&config).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let again = bind(&config).unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&config.path).is_ok(), "a stale one is replaced");
        drop(again);
        let nobody = SocketConfig { group: Some("no-such-group".into()), ..config };
        assert_eq!(bind(&nobody).unwrap_err().to_string(), "there is no group \"no-such-group\"");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_before_anybody_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (asks, mut asked) = mpsc::channel(8);
        let server = tokio::spawn(serve(bind(&config).unwrap(), "vm".into(), asks));
        let mut talk = Talk::connect(&config.path).await.unwrap();
        let limit = Duration::from_secs(5);
        let refused = talk.ask(&Request::Register { pods: vec![json!({"kind": "Pod"})] }, limit).await.unwrap();
        assert!(matches!(refused, Answer::Refused { .. }));
        let spec = json!({"containers": [{"name": "a"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec});
        let request = Request::Register { pods: vec![pod] };
        let (answer, ()) = tokio::join!(talk.ask(&request, limit), async {
            match asked.recv().await {
                Some(Ask::Register { session: 0, peer, pods, reply }) => {
                    assert_eq!(peer.uid, nix::unistd::getuid().as_raw());
                    reply.send(Answer::Accepted { pods: vec![pods[0].name.to_string()] }).unwrap();
                }
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(answer.unwrap(), Answer::Accepted { pods: vec!["default/web-vm".into()] });
        drop(talk);
        assert!(matches!(asked.recv().await, Some(Ask::Closed { session: 0 })));
        server.abort();
    }
}
