//! Reading an answer, up to a bound.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::MAX_OUTPUT_BYTES;
use super::super::outcome::words;

/// Bytes of a head, and its fields. Go takes more bytes; nobody answers a probe with them.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;
/// Heads of `100 Continue` and its like that are passed over; Go's bound.
const MAX_INTERIM: usize = 5;
/// What is asked of the system at once.
const CHUNK: usize = 2048;
/// Of a line that is no HTTP, in a message.
const MAX_SHOWN: usize = 64;

/// What is of interest of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub location: Option<String>,
    pub length: Length,
}

/// How the end of the body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Known(u64),
    Chunked,
    /// The connection ends with it.
    ToTheEnd,
}

/// Reads the head; what came behind it stays in `read`. An error is in Go's words.
pub async fn read_head<S: AsyncRead + Unpin + ?Sized>(stream: &mut S, read: &mut Vec<u8>) -> Result<Head, String> {
    for _ in 0..=MAX_INTERIM {
        let head = loop {
            if let Some((head, bytes)) = parse(read)? {
                read.drain(..bytes);
                break head;
            }
            if read.len() >= MAX_HEAD_BYTES {
                return Err(broken(&format!("server response headers exceeded {MAX_HEAD_BYTES} bytes; aborted")));
            }
            if more(stream, read).await? == 0 {
                return Err(if read.is_empty() { "EOF".to_owned() } else { broken("unexpected EOF") });
            }
        };
        if !matches!(head.status, 100 | 102..=199) {
            return Ok(head);
        }
    }
    Err(broken("too many 1xx informational responses"))
}

/// The body, where all of it came with the head, as most do.
pub fn body_at_once(head: &Head, read: &[u8]) -> Option<Vec<u8>> {
    match head.length {
        Length::Known(bytes) => Some(read.get(..usize::try_from(bytes).ok()?)?.to_vec()),
        Length::Chunked | Length::ToTheEnd => None,
    }
}

/// Reads the body, of which `read` is the beginning, to its end or the bound.
pub async fn read_body<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    head: &Head,
    mut read: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut left = match head.length {
        Length::Known(bytes) => bytes,
        Length::Chunked => 0,
        Length::ToTheEnd => u64::MAX,
    };
    loop {
        if left > 0 {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
            body.extend(read.drain(..taken));
            left -= taken as u64;
        }
        if body.len() >= MAX_OUTPUT_BYTES || left == 0 && head.length != Length::Chunked {
            body.truncate(MAX_OUTPUT_BYTES);
            return Ok(body);
        }
        if left == 0 {
            match chunk(&read)? {
                Some((0, _)) => return Ok(body),
                Some((bytes, line)) => {
                    read.drain(..line);
                    left = bytes;
                    continue;
                }
                None => {}
            }
        }
        if read.is_empty() || left == 0 {
            let came = more(stream, &mut read).await?;
            if came == 0 && head.length == Length::ToTheEnd {
                return Ok(body);
            }
            if came == 0 {
                return Err("unexpected EOF".to_owned());
            }
        }
    }
}

async fn more<S: AsyncRead + Unpin + ?Sized>(stream: &mut S, read: &mut Vec<u8>) -> Result<usize, String> {
    let mut chunk = [0; CHUNK];
    let bytes = stream.read(&mut chunk).await.map_err(|error| format!("read: {}", words(&error)))?;
    read.extend_from_slice(chunk.get(..bytes).unwrap_or_default());
    Ok(bytes)
}

/// The size of the next chunk, and the bytes up to its data: the end of the one before, and the size's line.
fn chunk(read: &[u8]) -> Result<Option<(u64, usize)>, String> {
    let data = read.strip_prefix(b"\r\n").unwrap_or(read);
    if data.len() == read.len() && read == b"\r" {
        return Ok(None);
    }
    match httparse::parse_chunk_size(data) {
        Ok(httparse::Status::Complete((line, size))) => Ok(Some((size, read.len() - data.len() + line))),
        Ok(httparse::Status::Partial) if data.len() > CHUNK => Err("chunked line ended with bare LF".to_owned()),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err("invalid byte in chunk length".to_owned()),
    }
}

fn parse(read: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let bytes = match response.parse(read) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(broken("too many header fields")),
        // The whole of the line says more.
        Err(_) if read.len() < MAX_SHOWN && !read.contains(&b'\n') => return Ok(None),
        Err(_) => {
            let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line.get(..MAX_SHOWN).unwrap_or(line)).trim_end().to_owned();
            return Err(broken(&format!("malformed HTTP response {line:?}")));
        }
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let chunked = field("Transfer-Encoding").is_some_and(|value| value.trim().eq_ignore_ascii_case("chunked"));
    let length = match field("Content-Length") {
        _ if matches!(status, 100..=199 | 204 | 304) => Length::Known(0),
        _ if chunked => Length::Chunked,
        Some(text) => match text.trim().parse() {
            Ok(bytes) => Length::Known(bytes),
            Err(_) => return Err(broken(&format!("bad Content-Length {text:?}"))),
        },
        None => Length::ToTheEnd,
    };
    let location = field("Location").filter(|location| !location.is_empty()).map(str::to_owned);
    Ok(Some((Head { status, location, length }, bytes)))
}

fn broken(problem: &str) -> String {
    format!("net/http: HTTP/1.x transport connection broken: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer that comes in pieces of each size.
    async fn read(answer: &[u8]) -> Result<(Head, Vec<u8>), String> {
        let mut last = None;
        for piece in [1, 2, 7, answer.len().max(1)] {
            let mut stream = tokio_test_stream(answer, piece);
            let mut read = Vec::new();
            let outcome = match read_head(&mut stream, &mut read).await {
                Ok(head) => read_body(&mut stream, &head, read).await.map(|body| (head, body)),
                Err(problem) => Err(problem),
            };
            if let Some(last) = last.replace(outcome.clone()) {
                assert_eq!(last, outcome, "in pieces of {piece}");
            }
        }
        last.unwrap()
    }

    /// Gives `answer` piece by piece.
    fn tokio_test_stream(answer: &[u8], piece: usize) -> tokio::io::DuplexStream {
        use tokio::io::AsyncWriteExt;
        let (near, mut far) = tokio::io::duplex(piece);
        let answer = answer.to_vec();
        tokio::spawn(async move {
            let _ = far.write_all(&answer).await;
        });
        near
    }

    async fn body(answer: &str) -> Result<String, String> {
        read(answer.as_bytes()).await.map(|(_, body)| String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn a_body_ends_where_its_head_says() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest", Ok("ok")),
            ("HTTP/1.1 200 OK\r\n\r\nall of it", Ok("all of it")),
            ("HTTP/1.0 200\r\n\r\n", Ok("")),
            ("HTTP/1.1 204 No Content\r\n\r\nx", Ok("")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Ok("abcde")),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", Ok("x")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Err("unexpected EOF")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Err("unexpected EOF")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err("invalid byte in chunk length")),
            ("", Err("EOF")),
            ("HTTP/1.1 200 OK\r\nConte", Err("net/http: HTTP/1.x transport connection broken: unexpected EOF")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(body(answer).await, expected, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn much_is_not_read() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(3 * MAX_OUTPUT_BYTES));
        assert_eq!(body(&long).await.unwrap().len(), MAX_OUTPUT_BYTES);
        let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{}", "x".repeat(20_000));
        assert_eq!(body(&chunked).await.unwrap().len(), MAX_OUTPUT_BYTES);
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 * MAX_HEAD_BYTES));
        assert!(body(&head).await.unwrap_err().contains("exceeded 65536 bytes"));
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9);
        assert!(body(&interim).await.unwrap_err().contains("too many 1xx"));
    }

    #[tokio::test]
    async fn what_is_no_http_is_shown() {
        let problem = body("SSH-2.0-OpenSSH_9.6\r\n").await.unwrap_err();
        assert!(problem.ends_with("malformed HTTP response \"SSH-2.0-OpenSSH_9.6\""), "{problem}");
    }
}
