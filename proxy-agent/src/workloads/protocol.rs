//! What a workload's `portolan register` and the agent say to each other, on a Unix socket: one line of JSON asks, one
//! answers.
//!
//! A connection stands for the life of what it registers. When it ends, so do its Pods, and at once: the kernel closes
//! it however a process dies. Who wants to go in order says so first ([`Request::Deregister`]) and ends when that is
//! answered.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Where the agent listens, unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/portolan/agent.sock";
/// The longest line.
pub const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// Pods of one connection.
pub const MAX_PODS: usize = 64;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Whether these Pods could be registered, without doing it.
    Check { pods: Vec<Value> },
    /// These Pods are to be there for as long as this connection is. Said again, it replaces what was said before.
    Register { pods: Vec<Value> },
    /// These go in order; answered when every live node has programmed that, or the grace is nearly over. They stay in
    /// the API, without anybody being sent there, until the connection ends.
    #[serde(rename_all = "camelCase")]
    Deregister { pods: Vec<String>, grace_milliseconds: u64 },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The names of the Pods in the API, as `namespace/name`.
    Accepted { pods: Vec<String> },
    /// `doubt`: why some node may send there still.
    Deregistered {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<String>,
    },
    /// It would be refused again.
    Refused { reason: String },
}

/// One end's view of a conversation.
#[derive(Debug)]
pub struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Reaches an agent.
    ///
    /// # Errors
    /// When nobody listens there, or one may not.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let (_folder, path) = short(socket)?;
        Ok(Self::new(UnixStream::connect(path).await?))
    }

    pub fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the connection breaks, or `limit` is over.
    pub async fn ask(&mut self, request: &Request, limit: Duration) -> io::Result<Answer> {
        let conversation = async {
            self.say(request).await?;
            self.hear().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        tokio::time::timeout(limit, conversation).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Says one thing.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn say<T: Serialize>(&mut self, word: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    /// Hears one thing; `None` at the end of the conversation.
    ///
    /// # Errors
    /// When the connection breaks, a line is too long, or it is not what is said here.
    pub async fn hear<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) if line.len() as u64 >= MAX_LINE_BYTES => Err(io::ErrorKind::FileTooLarge.into()),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns when the other end is gone, or says something where nothing is to be said. Cancel-safe.
    pub async fn ended(&mut self) {
        let _ = self.stream.fill_buf().await;
    }
}

/// A path to the same socket that is short enough for a socket address, however long the path is, for as long as what
/// comes with it is open.
///
/// # Errors
/// When its folder cannot be opened, or the path has no file name.
pub fn short(socket: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = std::fs::File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Other programs may speak it, too.
    #[test]
    fn the_words() {
        let wire = |value: &dyn erased::Say| value.json();
        let pods = vec![json!({"kind": "Pod"})];
        assert_eq!(wire(&Request::Check { pods: pods.clone() }), r#"{"check":{"pods":[{"kind":"Pod"}]}}"#);
        assert_eq!(wire(&Request::Register { pods }), r#"{"register":{"pods":[{"kind":"Pod"}]}}"#);
        let pods = vec!["default/web-vm".to_owned()];
        assert_eq!(
            wire(&Request::Deregister { pods: pods.clone(), grace_milliseconds: 30_000 }),
            r#"{"deregister":{"pods":["default/web-vm"],"graceMilliseconds":30000}}"#
        );
        assert_eq!(wire(&Answer::Accepted { pods }), r#"{"accepted":{"pods":["default/web-vm"]}}"#);
        assert_eq!(wire(&Answer::Deregistered { doubt: None }), r#"{"deregistered":{}}"#);
        assert_eq!(wire(&Answer::Refused { reason: "no".into() }), r#"{"refused":{"reason":"no"}}"#);
    }

    mod erased {
        pub trait Say {
            fn json(&self) -> String;
        }
        impl<T: serde::Serialize> Say for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }

    #[tokio::test]
    async fn a_conversation() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut client, mut agent) = (Talk::new(here), Talk::new(there));
        let answering = async {
            assert_eq!(agent.hear::<Request>().await.unwrap(), Some(Request::Check { pods: vec![] }));
            agent.say(&Answer::Accepted { pods: vec![] }).await.unwrap();
        };
        let request = Request::Check { pods: vec![] };
        let (answer, ()) = tokio::join!(client.ask(&request, Duration::from_secs(5)), answering);
        assert_eq!(answer.unwrap(), Answer::Accepted { pods: vec![] });
        drop(client);
        agent.ended().await;
        assert_eq!(agent.hear::<Request>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_word_breaks_it_off() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut client, mut agent) = (Talk::new(here), Talk::new(there));
        client.say(&json!({"else": 1})).await.unwrap();
        assert_eq!(agent.hear::<Request>().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let long = "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap());
        let sending = async { client.say(&long).await };
        let (_, heard) = tokio::join!(async { tokio::time::timeout(Duration::from_secs(5), sending).await }, async {
            let heard = agent.hear::<String>().await;
            drop(agent);
            heard
        });
        assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn paths_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let socket = deep.join("agent.sock");
        assert!(Talk::connect(&socket).await.is_err());
        let (_folder, path) = short(&socket).unwrap();
        let _listener = tokio::net::UnixListener::bind(path).unwrap();
        Talk::connect(&socket).await.unwrap();
    }
}
