//! What the machine can do at all, with nothing of ours in the way: what rates are held against.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bench::figures::{Figure, Unit};

use crate::case::Outcome;
use crate::support::{fdatasync_rate, median, target};

pub fn run(outcome: &mut Outcome) {
    let (rounds, writes, bytes, time) = outcome.size.pick(
        (1, 20, 1 << 20, Duration::from_millis(50)),
        (5, 2000, 256 << 20, Duration::from_secs(2)),
        (9, 5000, 512 << 20, Duration::from_secs(5)),
    );
    let dir = tempfile::tempdir_in(target()).unwrap();
    let fdatasync = median((0..rounds).map(|_| fdatasync_rate(dir.path(), writes)).collect());
    let figures = &mut outcome.figures;
    figures.add(Figure::rate("limits/fdatasync", fdatasync, Unit::PerSecond, "write of 4 KiB and fdatasync, one file"));
    let connections = median((0..rounds).map(|_| connections(time)).collect());
    let about = "TCP connections over loopback, one after the other, each with one byte there and back";
    figures.add(Figure::rate("limits/connections", connections, Unit::PerSecond, about));
    let trips = median((0..rounds).map(|_| round_trips(time)).collect());
    let about = "bytes there and back over one TCP connection, one after the other";
    figures.add(Figure::rate("limits/round-trips", trips, Unit::PerSecond, about));
    let copy = median((0..rounds).map(|_| copy(bytes)).collect());
    figures.add(Figure::rate("limits/copy", copy, Unit::GigabytesPerSecond, "copies in memory, far beyond the caches"));
}

/// Answers one byte on each connection until it closes.
fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n > 0) && stream.write_all(&byte).is_ok() {}
        }
    });
    address
}

fn connections(time: Duration) -> f64 {
    let address = echo();
    rate(time, || ask(&mut TcpStream::connect(address).unwrap()))
}

fn round_trips(time: Duration) -> f64 {
    let mut stream = TcpStream::connect(echo()).unwrap();
    stream.set_nodelay(true).unwrap();
    rate(time, || ask(&mut stream))
}

fn ask(stream: &mut TcpStream) {
    let mut byte = [7];
    stream.write_all(&byte).unwrap();
    stream.read_exact(&mut byte).unwrap();
}

fn rate(time: Duration, mut step: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < time {
        step();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Bytes copied, in 10⁹ per second.
fn copy(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes], vec![2u8; bytes]);
    let start = Instant::now();
    to.copy_from_slice(std::hint::black_box(&from));
    std::hint::black_box(&mut to);
    bytes as f64 / start.elapsed().as_secs_f64() / 1e9
}
