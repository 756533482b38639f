//! One connection for everything: what it must bear, and what must not depend on it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::connection::STREAMS_MOST;
use super::*;

/// What the server sends as a body: chunks as they come, and the end when nobody has any more.
struct Chunks(mpsc::UnboundedReceiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A server of HTTP/2 over TLS. `/silent` is never answered; `/flood` is an event for ever; a watch tells of the connection
/// that it came over, and goes on until it is given up; anything else tells of the connection.
struct Shared {
    url: String,
    ca: String,
    connections: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// Counts a stream while it is open.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// As long as events are: h2 takes many frames of less than 256 bytes that nobody reads for an attack.
fn event(connection: usize) -> Bytes {
    let padding = "x".repeat(500);
    format!("{{\"type\":\"ADDED\",\"object\":{{\"connection\":{connection},\"padding\":\"{padding}\"}}}}\n").into()
}

async fn answer(target: String, connection: usize, streams: Arc<AtomicUsize>) -> Response<Chunks> {
    streams.fetch_add(1, Ordering::SeqCst);
    let counted = Counted(streams);
    let (sender, chunks) = mpsc::unbounded_channel();
    match target.as_str() {
        "/silent" => std::future::pending().await,
        "/flood" => drop(tokio::spawn(async move {
            while sender.send(event(connection)).is_ok() {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            drop(counted);
        })),
        _ if target.contains("watch=true") => drop(tokio::spawn(async move {
            let _ = sender.send(event(connection));
            sender.closed().await;
            drop(counted);
        })),
        _ => sender.send(format!("{{\"connection\":{connection}}}").into()).unwrap(),
    }
    Response::new(Chunks(chunks))
}

async fn start() -> Shared {
    let (ca, acceptor) = super::authority("127.0.0.1", &[b"h2", b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (connections, streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, open) = (Arc::clone(&connections), Arc::clone(&streams));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut each = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let connection = count.fetch_add(1, Ordering::SeqCst);
            let open = Arc::clone(&open);
            let respond = move |request: Request<Incoming>| {
                let (target, open) = (request.uri().to_string(), Arc::clone(&open));
                let path = target.split_once("127.0.0.1").map(|(_, rest)| rest[rest.find('/').unwrap()..].to_owned());
                async move { Ok::<_, Infallible>(answer(path.unwrap_or(target), connection, open).await) }
            };
            let multiplexed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            each.spawn(async move {
                let service = service_fn(respond);
                let _ = if multiplexed {
                    http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
                };
            });
        }
    });
    Shared { url, ca, connections, streams, _tasks: tasks }
}

impl Shared {
    fn client(&self) -> Client {
        Client::new(&self.url, Some(&self.ca), None).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn streams_become(&self, count: usize) {
        let soon = async {
            while self.streams.load(Ordering::SeqCst) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), soon).await.expect("streams that end");
    }
}

/// Over which connection the next event of a watch came.
async fn over(watch: &mut WatchStream) -> u64 {
    let event = watch.next().await.unwrap().unwrap();
    event.decode::<Value>().unwrap()["connection"].as_u64().unwrap()
}

async fn asked(client: &Client) -> u64 {
    client.get("/x").await.unwrap()["connection"].as_u64().unwrap()
}

#[tokio::test]
async fn requests_and_watches_share_one_connection() {
    let server = start().await;
    let client = server.client();
    let opening: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.watch("/x?watch=true").await.unwrap() })
        })
        .collect();
    let mut watches = Vec::new();
    for watch in opening {
        watches.push(watch.await.unwrap());
    }
    for watch in &mut watches {
        assert_eq!(over(watch).await, 0);
    }
    assert_eq!(
        (asked(&client).await, client.post("/x", &json!({})).await.unwrap()["connection"].as_u64()),
        (0, Some(0))
    );
    assert_eq!(server.connections(), 1);
    watches.truncate(1);
    server.streams_become(1).await;
    assert_eq!(asked(&client).await, 0);
    assert_eq!(asked(&client.apart()).await, 1);
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_have_another() {
    let server = start().await;
    let client = server.client();
    let mut watches = Vec::new();
    for _ in 0..=STREAMS_MOST {
        watches.push(client.watch("/x?watch=true").await.unwrap());
    }
    assert_eq!(over(&mut watches[STREAMS_MOST - 1]).await, 0);
    assert_eq!(over(&mut watches[STREAMS_MOST]).await, 1);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_watch_that_nobody_reads_holds_up_no_other() {
    let server = start().await;
    let client = server.client();
    let mut stalled = Vec::new();
    for _ in 0..STREAMS_MOST - 2 {
        stalled.push(client.watch("/flood").await.unwrap());
    }
    // Time to fill whatever window there is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watch = client.watch("/x?watch=true").await.unwrap();
    assert_eq!((over(&mut watch).await, asked(&client).await), (0, 0));
    assert_eq!(over(&mut stalled[7]).await, 0);
}

#[tokio::test]
async fn a_cut_ends_everything_and_the_next_request_has_a_new_connection() {
    let server = start().await;
    let client = server.client();
    let mut watch = client.watch("/x?watch=true").await.unwrap();
    assert_eq!(over(&mut watch).await, 0);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.put("/silent", &json!({})).await }
    });
    server.streams_become(2).await;
    client.cut();
    assert_eq!(client.put("/x", &json!({})).await.unwrap()["connection"], 1);
    assert!(watch.next().await.is_err());
    waiting.await.unwrap().unwrap_err();
    server.streams_become(0).await;
}

#[tokio::test]
async fn who_answers_is_not_taken_for_dead() {
    let server = start().await;
    let client = server.client();
    let mut first = client.watch("/x?watch=true").await.unwrap();
    assert_eq!(over(&mut first).await, 0);
    client.cut_silent(Duration::from_secs(5)).await;
    // The next goes by another connection; what is on the first one goes on.
    tokio::time::timeout(Duration::from_millis(600), client.get("/silent")).await.unwrap_err();
    let mut second = client.watch("/x?watch=true").await.unwrap();
    assert_eq!((over(&mut second).await, server.connections()), (1, 2));
    // Of these two the second is asked, and brings something.
    client.cut_silent(Duration::from_secs(5)).await;
    assert!(first.next().await.is_err());
    assert_eq!(asked(&client).await, 1);
    server.streams_become(1).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), second.next()).await.is_err(), "it is still open");
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_the_connection_to_what_is_on_it() {
    let server = start().await;
    let client = server.client();
    let mut watch = client.watch("/x?watch=true").await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(600), client.get("/silent"));
    silent.await.unwrap_err();
    assert_eq!((asked(&client).await, over(&mut watch).await), (1, 0));
    assert_eq!(server.connections(), 2);
    // Whoever gives up at once had no reason to doubt.
    tokio::time::timeout(Duration::from_millis(10), client.get("/silent")).await.unwrap_err();
    assert_eq!(asked(&client).await, 1);
}

#[tokio::test]
async fn what_is_dropped_is_closed() {
    let server = start().await;
    let client = server.client();
    let mut watch = client.watch("/x?watch=true").await.unwrap();
    assert_eq!(over(&mut watch).await, 0);
    // The watch has a part of the connection still.
    drop(client);
    server.streams_become(1).await;
    drop(watch);
    server.streams_become(0).await;
}
