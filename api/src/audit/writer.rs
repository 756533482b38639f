//! The thread that writes: it takes what waits, spells it, and hands it over in one go.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use super::file::Rotating;
use super::{AuditConfig, Counts, Message, event};

/// How often the server's own log tells that this one cannot be written.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Bytes that are handed over in one go.
const GATHERED: usize = 256 * 1024;

/// Where lines go.
pub enum Out {
    Stdout,
    File(Box<Rotating>),
}

impl Out {
    pub fn open(config: AuditConfig) -> io::Result<Self> {
        if config.path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        Ok(Self::File(Box::new(Rotating::open(config)?)))
    }

    fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(lines).and_then(|()| io::stdout().flush()),
            Self::File(file) => file.write(lines, now),
        }
    }
}

/// Writes until it is told to end, or nobody is left to record anything.
pub fn run(messages: &Receiver<Message>, mut out: Out, counts: &Counts) {
    let mut told: Option<Instant> = None;
    let mut lines = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut count = 0;
        let mut closing = false;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Close => closing = true,
                Message::Record(record) => {
                    if let Some(event) = event::event(&record) {
                        line(&mut lines, &event);
                        count += 1;
                    }
                }
            }
            next = if closing || lines.len() >= GATHERED { None } else { messages.try_recv().ok() };
        }
        let now = Timestamp::now();
        let dropped = counts.untold.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            line(&mut lines, &event::dropped(dropped, &Uuid::new_v4().to_string(), now));
        }
        match out.write(&lines, now) {
            Ok(()) => {
                counts.written.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => {
                counts.failed.fetch_add(count, Ordering::Relaxed);
                counts.untold.fetch_add(dropped, Ordering::Relaxed);
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    tracing::error!("the audit log cannot be written, and {count} records are lost: {error}");
                    told = Some(Instant::now());
                }
            }
        }
        lines.clear();
        if closing {
            return;
        }
    }
}

fn line(lines: &mut Vec<u8>, event: &serde_json::Value) {
    lines.extend_from_slice(event.to_string().as_bytes());
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use axum::body::Body;
    use axum::extract::Request;

    use super::*;
    use crate::audit::{Record, Stage};

    #[test]
    fn what_was_dropped_is_told_and_what_waits_is_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let out = Out::open(AuditConfig { path: path.clone(), max_size: 1, max_backup: 1, max_age: 0 }).unwrap();
        let (sender, messages) = sync_channel(10);
        let counts = Counts::default();
        counts.untold.store(7, Ordering::Relaxed);
        for code in [200, 404] {
            let request = Request::get("/api").body(Body::empty()).unwrap();
            let record = Record::begin(&request, Timestamp::now());
            let record = record.answered(Stage::ResponseComplete, code, "", Timestamp::now());
            sender.send(Message::Record(Box::new(record))).unwrap();
        }
        sender.send(Message::Close).unwrap();
        run(&messages, out, &counts);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["responseStatus"]["code"], 200);
        assert_eq!(lines[2]["annotations"]["portolan.dev/dropped-events"], "7");
        assert_eq!((counts.written.into_inner(), counts.untold.into_inner()), (2, 0));
    }
}
