//! A client that does as little as can be: what it spends is not the proxy's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::alone;

const REQUEST: &[u8] = b"GET /things?page=2 HTTP/1.1\r\nHost: web.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\
                         Accept-Encoding: gzip\r\n\r\n";

#[derive(Default)]
pub struct Measured {
    /// In microseconds.
    times: Vec<u32>,
    took: Duration,
    pub failed: u64,
    pub processor: Duration,
}

impl Measured {
    pub fn answered(&self) -> usize {
        self.times.len().max(1)
    }

    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// In milliseconds; `times` are sorted.
    pub fn percentile(&self, share: f64) -> f64 {
        let place = (self.times.len() as f64 * share) as usize;
        self.times.get(place).map_or(f64::NAN, |t| f64::from(*t) / 1000.0)
    }
}

/// Asks on so many connections for so long.
pub fn run(at: SocketAddr, connections: usize, length: Duration) -> Measured {
    let runtime = alone();
    let all = Arc::new(Mutex::new(Measured::default()));
    let start = Instant::now();
    runtime.block_on(async {
        let asking: Vec<_> = (0..connections)
            .map(|_| {
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let (times, failed) = ask(at, start + length).await;
                    let mut all = all.lock().unwrap();
                    all.times.extend(times);
                    all.failed += failed;
                })
            })
            .collect();
        for asked in asking {
            asked.await.unwrap();
        }
    });
    let mut measured = std::mem::take(&mut *all.lock().unwrap());
    measured.took = start.elapsed();
    measured.times.sort_unstable();
    measured
}

async fn ask(at: SocketAddr, until: Instant) -> (Vec<u32>, u64) {
    let (mut times, mut failed) = (Vec::with_capacity(1 << 16), 0);
    let mut buffer = vec![0; 16 * 1024];
    'connections: while Instant::now() < until {
        let Ok(mut stream) = TcpStream::connect(at).await else {
            failed += 1;
            continue;
        };
        stream.set_nodelay(true).unwrap();
        while Instant::now() < until {
            let start = Instant::now();
            if stream.write_all(REQUEST).await.is_err() || !answer(&mut stream, &mut buffer).await {
                failed += 1;
                continue 'connections;
            }
            times.push(u32::try_from(start.elapsed().as_micros()).unwrap());
        }
    }
    (times, failed)
}

/// One answer with a Content-Length; whether it was whole, and well.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    let (mut length, mut whole) = (0, None);
    while whole.is_none_or(|w| length < w) {
        let Ok(read @ 1..) = stream.read(&mut buffer[length..]).await else { return false };
        length += read;
        if whole.is_none()
            && let Some(end) = find(&buffer[..length], b"\r\n\r\n")
        {
            let head = buffer[..end].to_ascii_lowercase();
            let Some(field) = find(&head, b"content-length: ") else { return false };
            let digits = head[field + 16..].iter().take_while(|b| b.is_ascii_digit());
            let body: usize = digits.fold(0, |n, b| n * 10 + usize::from(b - b'0'));
            whole = Some(end + 4 + body);
        }
    }
    buffer.starts_with(b"HTTP/1.1 200")
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}
