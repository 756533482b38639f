//! The query log, on demand: one line a query in CoreDNS' common form, so that what reads CoreDNS' log reads this.
//!
//! ```text
//! CLIENT:PORT - ID "TYPE CLASS NAME PROTO SIZE DO BUFSIZE" RCODE FLAGS RSIZE DURATIONs
//! ```
//!
//! Writing a line can block (whoever reads standard error may have stopped), so that a thread of its own does it, from a queue
//! with a bound. What does not fit is dropped and counted; the next line says how many.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use hickory_proto::op::{Header, Query, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::message::{Envelope, Read, Transport, UDP_SIZE_PLAIN, read};
use crate::metrics::spelled;

/// Lines that may wait.
const QUEUE_LINES: usize = 1024;

pub(crate) struct Log {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// What a line says.
pub(crate) struct Answered<'a> {
    pub(crate) transport: Transport,
    pub(crate) client: SocketAddr,
    pub(crate) query: &'a [u8],
    pub(crate) answer: &'a [u8],
    pub(crate) code: ResponseCode,
    pub(crate) took: Duration,
}

impl Log {
    /// Starts the thread that writes; it ends with the log.
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        std::thread::Builder::new().name("dns-log".to_owned()).spawn(move || write(&queue, &lost))?;
        Ok(Self { lines, dropped })
    }

    /// Takes note of an answer.
    pub(crate) fn answered(&self, said: &Answered<'_>) {
        let Some(line) = line(said) else { return };
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(queue: &Receiver<String>, dropped: &AtomicU64) {
    for line in queue {
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(target: "dns::log", dropped, "more queries than lines can be written; these have none");
        }
        tracing::info!(target: "dns::log", "{line}");
    }
}

/// The line of one answer; dots for a question that could not be read.
fn line(said: &Answered<'_>) -> Option<String> {
    let (envelope, question) = match read(said.query) {
        Read::Silence => return None,
        Read::Unfit(envelope, question, _) => (envelope, question),
        Read::Question(envelope, question) => (envelope, Some(question)),
    };
    let header = Header::read(&mut BinDecoder::new(said.answer)).ok()?;
    let Envelope { id, edns, .. } = envelope;
    let mut line = format!("{} - {id} \"", said.client);
    let _ = match &question {
        Some(question) => spell(&mut line, question),
        None => line.write_str(". . ."),
    };
    let proto = if said.transport == Transport::Udp { "udp" } else { "tcp" };
    let size = edns.map_or(UDP_SIZE_PLAIN, |edns| edns.size);
    let dnssec_ok = edns.is_some_and(|edns| edns.dnssec_ok);
    let _ = write!(line, " {proto} {} {dnssec_ok} {size}\"", said.query.len());
    let flags = [
        (true, "qr"),
        (header.authoritative, "aa"),
        (header.truncation, "tc"),
        (header.recursion_desired, "rd"),
        (header.recursion_available, "ra"),
        (header.checking_disabled, "cd"),
    ];
    let flags: Vec<_> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    let (flags, took) = (flags.join(","), said.took.as_secs_f64());
    let _ = write!(line, " {} {flags} {} {took:.9}s", spelled(said.code), said.answer.len());
    Some(line)
}

/// Type, class and name. The name is spelled with escapes, so that nobody writes lines of their own into the log.
fn spell(line: &mut String, question: &Query) -> std::fmt::Result {
    write!(line, "{} {} {}", question.query_type(), question.query_class(), question.name().to_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(query: &[u8], answer: &[u8], code: ResponseCode) -> Option<String> {
        let client = "10.0.0.7:4242".parse().unwrap();
        line(&Answered { transport: Transport::Udp, client, query, answer, code, took: Duration::from_micros(123) })
    }

    #[test]
    fn lines_are_corednss() {
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x02a\n\0\0\x01\0\x01";
        let answer = b"\x12\x34\x85\x80\0\x01\0\0\0\0\0\0";
        assert_eq!(
            logged(query, answer, ResponseCode::NoError).unwrap(),
            // (hickory escapes by octal digits.)
            "10.0.0.7:4242 - 4660 \"A IN wEb.a\\012. udp 24 false 512\" NOERROR qr,aa,rd,ra 12 0.000123000s"
        );
        assert_eq!(
            logged(&query[..12], answer, ResponseCode::FormErr).unwrap(),
            "10.0.0.7:4242 - 4660 \". . . udp 12 false 512\" FORMERR qr,aa,rd,ra 12 0.000123000s"
        );
        assert_eq!(logged(&query[..11], answer, ResponseCode::FormErr), None);
    }

    /// Whoever asks does not wait for whoever reads the log.
    #[test]
    fn a_full_queue_drops_lines() {
        let (lines, queue) = sync_channel(2);
        let log = Log { lines, dropped: Arc::default() };
        let (query, answer) = (&[0_u8; 12][..], &[0_u8; 12][..]);
        let client = "10.0.0.7:4242".parse().unwrap();
        let said = Answered {
            transport: Transport::Tcp,
            client,
            query,
            answer,
            code: ResponseCode::FormErr,
            took: Duration::ZERO,
        };
        for _ in 0..5 {
            log.answered(&said);
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        drop(log);
        assert_eq!(queue.iter().count(), 2);
    }
}
