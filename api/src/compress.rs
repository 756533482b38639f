//! gzip for large answers, when the client asks for it.
//!
//! Only objects and lists of more than 128 KiB, as in kube-apiserver: below that it costs more than it saves, and a watch
//! would keep back what its client waits for. The body stays a stream: a stretch of it at a time is compressed on a
//! thread that may block, and no more than that is held.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Frame;
use tokio::task::JoinHandle;

/// Bodies that are not longer are left as they are.
const THRESHOLD: u64 = 128 * 1024;

/// How much is compressed in one go, in bytes: some milliseconds of work, beside which the change of threads is nothing.
const STRETCH: usize = 1024 * 1024;

/// Whether `Accept-Encoding` names gzip.
pub fn accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
        let refused = parts.filter_map(|part| part.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0f32));
        gzip && !refused
    })
}

/// The answer, compressed if it is large and the client accepts that.
pub fn respond(mut response: Response, accepted: bool) -> Response {
    if response.body().size_hint().lower() <= THRESHOLD {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepted {
        return response;
    }
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|body| Body::new(Gzip::new(body)))
}

type Encoder = GzEncoder<Vec<u8>>;

/// What comes of a stretch: the encoder, unless that was the last one, and compressed bytes.
type Compressed = std::io::Result<(Option<Box<Encoder>>, Vec<u8>)>;

/// A body that is compressed as it is read.
struct Gzip {
    body: Body,
    /// What has been read and not been compressed.
    input: Vec<Bytes>,
    length: usize,
    state: State,
}

enum State {
    Reading(Box<Encoder>),
    Compressing(JoinHandle<Compressed>),
    Done,
}

impl Gzip {
    fn new(body: Body) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { body, input: Vec::new(), length: 0, state: State::Reading(Box::new(encoder)) }
    }

    /// Reads until there is a stretch, or as much as there is; true at the end of the body.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, axum::Error>> {
        while self.length < STRETCH {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        self.length += data.len();
                        self.input.push(data);
                    }
                }
                Poll::Ready(None) => return Poll::Ready(Ok(true)),
                Poll::Pending if self.input.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(false))
    }
}

fn compress(mut encoder: Box<Encoder>, input: &[Bytes], last: bool) -> Compressed {
    for bytes in input {
        encoder.write_all(bytes)?;
    }
    if last {
        return Ok((None, encoder.finish()?));
    }
    let output = std::mem::take(encoder.get_mut());
    Ok((Some(encoder), output))
}

impl HttpBody for Gzip {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Reading(encoder) => {
                    let read = this.read(context);
                    let Poll::Ready(last) = read else {
                        this.state = State::Reading(encoder);
                        return Poll::Pending;
                    };
                    let last = match last {
                        Ok(last) => last,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    let input = std::mem::take(&mut this.input);
                    this.length = 0;
                    let work = tokio::task::spawn_blocking(move || compress(encoder, &input, last));
                    this.state = State::Compressing(work);
                }
                State::Compressing(mut work) => {
                    let Poll::Ready(done) = Pin::new(&mut work).poll(context) else {
                        this.state = State::Compressing(work);
                        return Poll::Pending;
                    };
                    let done = done.map_err(axum::Error::new).and_then(|done| done.map_err(axum::Error::new));
                    let (encoder, output) = match done {
                        Ok(done) => done,
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    };
                    if let Some(encoder) = encoder {
                        this.state = State::Reading(encoder);
                    }
                    if !output.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(output)))));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap())])
    }

    #[test]
    fn who_asks_for_it() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("x-gzip", false),
        ] {
            assert_eq!(accepted(&headers(accept)), expected, "{accept}");
        }
        assert!(!accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_read_back() {
        let text: Vec<u8> = (0..5 * STRETCH).map(|n| b"abcdefghi\n"[n / 7 % 10]).collect();
        let response = respond(Response::new(Body::from(text.clone())), true);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
        let packed = response.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() < text.len() / 4);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == text);
    }

    #[tokio::test]
    async fn small_answers_and_other_clients_get_them_as_they_are() {
        let small = respond(Response::new(Body::from(vec![b'x'; THRESHOLD as usize])), true);
        assert!(small.headers().is_empty());
        let other = respond(Response::new(Body::from(vec![b'x'; THRESHOLD as usize + 1])), false);
        assert_eq!(other.headers().len(), 1);
        assert_eq!(other.headers()[header::VARY], "Accept-Encoding");
    }
}
