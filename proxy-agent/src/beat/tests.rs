//! The thread against a server that does as it is told.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Answers, is missing the Node, says nothing, or ends each conversation after the first answer.
const ANSWERS: u8 = 0;
const MISSING: u8 = 1;
const SILENT: u8 = 2;
const CURT: u8 = 3;

/// What has come, by target and connection: a beat for each of its lines, and every other request.
type Log = Arc<Mutex<Vec<(String, usize)>>>;

struct Server {
    url: String,
    mood: Arc<AtomicU8>,
    log: Log,
    _tasks: JoinSet<()>,
}

/// An answer: to a conversation, or one that is all there.
enum Answer {
    Lines { body: Incoming, note: (String, usize), mood: Arc<AtomicU8>, log: Log, ended: bool },
    Whole(Option<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (body, note, mood, log, ended) = match &mut *self {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lines { body, note, mood, log, ended } => (body, note, mood, log, ended),
        };
        if *ended {
            return Poll::Ready(None);
        }
        loop {
            let Some(Ok(frame)) = ready!(Pin::new(&mut *body).poll_frame(cx)) else { return Poll::Ready(None) };
            assert_eq!(frame.data_ref().unwrap(), BEAT);
            match mood.load(Ordering::Relaxed) {
                SILENT => continue,
                MISSING => return Poll::Ready(None),
                now => *ended = now == CURT,
            }
            log.lock().unwrap().push(note.clone());
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"intervalMilliseconds\":100}\n")))));
        }
    }
}

async fn answer(request: Request<Incoming>, connection: usize, mood: Arc<AtomicU8>, log: Log) -> Response<Answer> {
    let note = (format!("{} {}", request.method(), request.uri().path()), connection);
    let whole = |code, text: String| Response::builder().status(code).body(Answer::Whole(Some(text.into()))).unwrap();
    if !note.0.ends_with("/heartbeat") {
        log.lock().unwrap().push(note);
        return whole(200, "{}".to_owned());
    }
    match mood.load(Ordering::Relaxed) {
        SILENT => std::future::pending().await,
        MISSING => {
            log.lock().unwrap().push(note);
            whole(404, json!({"kind": "Status", "reason": "NotFound", "code": 404}).to_string())
        }
        _ => Response::new(Answer::Lines { body: request.into_body(), note, mood, log, ended: false }),
    }
}

impl Server {
    async fn start(mood: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mood, log, mut tasks) = (Arc::new(AtomicU8::new(mood)), Log::default(), JoinSet::new());
        let (now, notes) = (Arc::clone(&mood), Arc::clone(&log));
        tasks.spawn(async move {
            let mut each = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (mood, log) = (Arc::clone(&now), Arc::clone(&notes));
                let service = service_fn(move |request| {
                    let answer = answer(request, connection, Arc::clone(&mood), Arc::clone(&log));
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                each.spawn(async move { drop(connection.serve_connection(TokioIo::new(stream), service).await) });
            }
        });
        Self { url, mood, log, _tasks: tasks }
    }

    fn client(&self) -> Client {
        Client::new(&self.url, None, None).unwrap()
    }

    fn becomes(&self, mood: u8) {
        self.mood.store(mood, Ordering::Relaxed);
    }

    fn log(&self) -> Vec<(String, usize)> {
        self.log.lock().unwrap().clone()
    }

    /// The connections by which this came.
    fn by(&self, target: &str) -> Vec<usize> {
        self.log().into_iter().filter(|(came, _)| came.ends_with(target)).map(|(_, connection)| connection).collect()
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} has not come about");
}

#[tokio::test]
async fn it_beats_on_one_connection_of_its_own_at_the_pace_it_is_told() {
    let server = Server::start(MISSING).await;
    let beat = Beat::start(&server.client(), "n").unwrap();
    eventually("a beat before there is a Node", || !server.log().is_empty()).await;
    let before = server.log().len();
    server.becomes(ANSWERS);
    eventually("many beats", || server.log().len() >= before + 10).await;
    let log = server.log();
    assert!(log.iter().all(|(came, _)| came == "PUT /apis/portolan.dev/v1alpha1/nodes/n/heartbeat"), "{log:?}");
    assert!(log[before..].windows(2).all(|two| two[0].1 == two[1].1), "{log:?}");
    assert_eq!(*beat.cuts().borrow(), 0);
    drop(beat);
    let count = server.log().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.log().len(), count, "it has ended");
}

#[tokio::test]
async fn a_conversation_that_the_server_ends_is_begun_anew_without_a_beat_missing() {
    let server = Server::start(CURT).await;
    let beat = Beat::start(&server.client(), "n").unwrap();
    eventually("beats by many connections", || server.by("/heartbeat").len() >= 5).await;
    assert!(server.by("/heartbeat").windows(2).all(|two| two[0] < two[1]));
    // The Node is gone, and there again.
    server.becomes(ANSWERS);
    eventually("beats", || server.by("/heartbeat").len() >= 10).await;
    server.becomes(MISSING);
    let missed = server.log().len();
    eventually("a request that is told so", || server.log().len() > missed + 1).await;
    assert_eq!(*beat.cuts().borrow(), 0, "the server was never away");
}

#[tokio::test]
async fn after_a_cut_the_other_connections_are_given_up() {
    let server = Server::start(ANSWERS).await;
    let client = server.client();
    let beat = Beat::start(&client, "n").unwrap();
    let mut cuts = beat.cuts();
    eventually("a beat", || !server.log().is_empty()).await;
    client.put("/other", &json!({})).await.unwrap();
    server.becomes(SILENT);
    tokio::time::sleep(CUT + LIMIT).await;
    server.becomes(ANSWERS);
    tokio::time::timeout(Duration::from_secs(30), cuts.changed()).await.unwrap().unwrap();
    client.put("/other", &json!({})).await.unwrap();
    let before = server.by("/other");
    assert_eq!(before[0], before[1], "connections are kept until somebody gives them up");
    client.cut();
    eventually("another connection", || {
        let client = client.clone();
        tokio::spawn(async move { client.put("/other", &json!({})).await });
        server.by("/other").iter().any(|connection| *connection != before[0])
    })
    .await;
}

#[test]
fn who_is_not_answered_by_a_new_connection_either_gives_the_next_more_time() {
    let limits = [0, 1, 2, 3, 4, 100, u32::MAX].map(|unanswered| limit(unanswered).as_secs());
    assert_eq!(limits, [1, 1, 2, 4, 4, 4, 4]);
}
