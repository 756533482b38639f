//! What `bench load` writes down of its writes, and `bench hollow` reads: when which was sent, so that whoever sees what
//! follows from it can tell how late that came.
//!
//! A line for each write that the server has confirmed: `REVISION UNIX_MICROS NAMESPACE/SERVICE`. The Service is named since
//! a transaction may hold several writes, and what follows from all of them comes after the last.

use std::fmt;
use std::io::{self, BufRead};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{Key, Revision};

/// A write that changes the endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The resourceVersion of the server's answer.
    pub revision: Revision,
    /// When it was due to be sent, in microseconds since 1970.
    pub micros: u64,
    pub service: Key,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}/{}", self.revision, self.micros, self.service.namespace, self.service.name)
    }
}

impl Sent {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (revision, micros) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (namespace, name) = words.next()?.split_once('/')?;
        words.next().is_none().then(|| Self { revision, micros, service: Key::new(namespace, name) })
    }
}

/// The time now, as [`Sent::micros`] counts it.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Reads a record. A last line without its end is one that is being written, and is left out.
///
/// # Errors
/// When it cannot be read, or has a line that is none.
pub fn read(mut file: impl BufRead) -> io::Result<Vec<Sent>> {
    let (mut sent, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        file.read_line(&mut line)?;
        let Some(whole) = line.strip_suffix('\n') else { return Ok(sent) };
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{whole:?} is no line of a record"));
        sent.push(Sent::parse(whole).ok_or_else(wrong)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let sent = |revision, micros, name| Sent { revision, micros, service: Key::new("shop", name) };
        let all = [sent(7, 1_700_000_000_000_000, "web"), sent(9, 1_700_000_000_000_123, "db")];
        let text: String = all.iter().map(|sent| format!("{sent}\n")).collect();
        assert_eq!(text, "7 1700000000000000 shop/web\n9 1700000000000123 shop/db\n");
        assert_eq!(read(text.as_bytes()).unwrap(), all);
        assert_eq!(read(&text.as_bytes()[..text.len() - 1]).unwrap(), all[..1], "one that is not whole yet");
        for wrong in ["7 8\n", "7 8 shop\n", "x 8 a/b\n", "7 8 a/b c\n", "\n"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
