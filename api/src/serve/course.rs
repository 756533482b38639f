//! How a connection has gone so far, and whether it may go on. Pure: moments come in as arguments.
//!
//! A connection is held to four rules. Until a request of a known user has come over it, it may be silent for little time.
//! The head of a request that has begun to arrive must be there soon. One that has nothing to do for long is asked to go,
//! so that its client does not meet it closed. And credentials that are worth nothing may be tried only so often.
//!
//! Over HTTP/2 the beginning of a head is not seen from here; there the pings find whoever does not finish a frame.

use std::time::Duration;

use tokio::time::Instant;

/// Worthless credentials on one connection; with the last of them it ends.
const FAILURES_MOST: u32 = 10;

/// A request that begins so soon after the last one ended was there already.
const PIPELINED: Duration = Duration::from_micros(50);

/// The times that a connection is held to.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub header: Duration,
    pub stranger: Duration,
    pub idle: Duration,
}

/// What is to be done with a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on; look again then.
    Until(Instant),
    /// What is under way is finished, and nothing new is taken.
    Gently,
    /// It is dropped.
    AtOnce(&'static str),
}

/// The course of one connection.
#[derive(Debug)]
pub struct Course {
    /// Whether a request of a known user has come.
    known: bool,
    /// Whether any request has come.
    asked: bool,
    /// Requests under way.
    open: u32,
    /// When the last one ended; at first, when the connection was accepted.
    quiet_since: Instant,
    /// When the head of the next request began to arrive.
    head_since: Option<Instant>,
    /// Whether it speaks HTTP/2, where what arrives may be anything.
    multiplexed: bool,
    failures: u32,
    wanted: Option<Wanted>,
    /// When it was asked to end.
    ending_since: Option<Instant>,
}

/// What others want of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    End,
    Room,
}

impl Course {
    pub fn new(now: Instant) -> Self {
        Self {
            known: false,
            asked: false,
            open: 0,
            quiet_since: now,
            head_since: None,
            multiplexed: false,
            failures: 0,
            wanted: None,
            ending_since: None,
        }
    }

    /// Something has arrived.
    pub fn heard(&mut self, now: Instant) {
        if self.open == 0 && !self.multiplexed {
            self.head_since.get_or_insert(now);
        }
    }

    /// It speaks HTTP/2.
    pub fn is_multiplexed(&mut self) {
        self.multiplexed = true;
        self.head_since = None;
    }

    /// The head of a request is there. True where it had been sent before the last one was answered: then other connections
    /// are to have their turn first, however much more has been sent on this one.
    pub fn request_begins(&mut self, now: Instant) -> bool {
        let at_once = self.asked && self.open == 0 && now.saturating_duration_since(self.quiet_since) < PIPELINED;
        self.asked = true;
        self.open += 1;
        self.head_since = None;
        at_once
    }

    /// Its answer has been handed over, or nobody wants it any more.
    pub fn request_ends(&mut self, now: Instant) {
        self.open = self.open.saturating_sub(1);
        self.quiet_since = now;
    }

    /// A request came from a known user; true the first time.
    pub fn is_known(&mut self) -> bool {
        !std::mem::replace(&mut self.known, true)
    }

    /// Worthless credentials were shown; true when it ends for that.
    pub fn fails(&mut self) -> bool {
        self.failures += 1;
        let enough = self.failures >= FAILURES_MOST;
        if enough {
            self.end();
        }
        enough
    }

    /// It is to end once what is under way is done.
    pub fn end(&mut self) {
        self.wanted = self.wanted.max(Some(Wanted::End));
    }

    /// Another one needs its place.
    pub fn make_room(&mut self) {
        self.wanted = Some(Wanted::Room);
    }

    pub fn verdict(&mut self, now: Instant, times: &Times) -> Verdict {
        if self.wanted == Some(Wanted::Room) {
            return Verdict::AtOnce("others needed its place");
        }
        if let Some(since) = self.ending_since {
            let end = since.max(self.quiet_since) + times.header;
            return match self.open {
                0 if now >= end => Verdict::AtOnce("it was asked to end, and did not"),
                0 => Verdict::Until(end),
                _ => Verdict::Until(now + times.header),
            };
        }
        if self.wanted == Some(Wanted::End) {
            self.ending_since = Some(now);
            return Verdict::Gently;
        }
        if self.open > 0 {
            // Whoever ends the last request does not wake us.
            return Verdict::Until(now + times.header.min(times.idle));
        }
        let head = self.head_since.map(|since| since + times.header);
        let silence = self.quiet_since + if self.known { times.idle } else { times.stranger };
        match head {
            Some(end) if now >= end => Verdict::AtOnce("the head of a request did not arrive in time"),
            Some(end) if self.known => Verdict::Until(end),
            // The beginning of a head does not wake us, either.
            _ if now < silence => Verdict::Until(head.unwrap_or(now + times.header).min(silence)),
            _ if !self.known => Verdict::AtOnce("nobody showed a name on it"),
            _ => {
                self.ending_since = Some(now);
                Verdict::Gently
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times =
        Times { header: Duration::from_secs(10), stranger: Duration::from_secs(15), idle: Duration::from_secs(100) };

    /// A course, and a function from seconds to moments.
    fn course() -> (Course, impl Fn(u64) -> Instant) {
        let begun = Instant::now();
        (Course::new(begun), move |seconds| begun + Duration::from_secs(seconds))
    }

    fn goes_on(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Until(_))
    }

    #[test]
    fn a_stranger_has_little_time() {
        let (mut course, at) = course();
        assert_eq!(course.verdict(at(0), &TIMES), Verdict::Until(at(10)));
        assert_eq!(course.verdict(at(10), &TIMES), Verdict::Until(at(15)));
        assert_eq!(course.verdict(at(15), &TIMES), Verdict::AtOnce("nobody showed a name on it"));
    }

    #[test]
    fn a_stranger_that_asks_for_open_pages_stays_while_it_does() {
        let (mut course, at) = course();
        for second in [10, 20, 30] {
            course.heard(at(second));
            course.request_begins(at(second));
            course.request_ends(at(second));
            assert!(goes_on(course.verdict(at(second + 9), &TIMES)));
        }
        course.request_begins(at(0));
        assert!(goes_on(course.verdict(at(80), &TIMES)), "its answer is under way");
        course.request_ends(at(81));
        assert!(!goes_on(course.verdict(at(96), &TIMES)));
    }

    #[test]
    fn a_head_that_trickles_is_cut_off_whoever_sends_it() {
        for known in [false, true] {
            let (mut course, at) = course();
            if known {
                course.request_begins(at(0));
                assert!(course.is_known());
                course.request_ends(at(0));
            }
            course.heard(at(1));
            course.heard(at(6));
            assert_eq!(course.verdict(at(6), &TIMES), Verdict::Until(at(11)));
            assert_eq!(course.verdict(at(11), &TIMES), Verdict::AtOnce("the head of a request did not arrive in time"));
        }
    }

    #[test]
    fn a_known_one_may_be_idle_for_longer_and_is_asked_to_go() {
        let (mut course, at) = course();
        course.request_begins(at(0));
        assert!(course.is_known() && !course.is_known());
        assert!(goes_on(course.verdict(at(50), &TIMES)));
        course.request_ends(at(50));
        assert!(goes_on(course.verdict(at(149), &TIMES)));
        assert_eq!(course.verdict(at(150), &TIMES), Verdict::Gently);
        assert_eq!(course.verdict(at(151), &TIMES), Verdict::Until(at(160)));
        assert!(matches!(course.verdict(at(160), &TIMES), Verdict::AtOnce(_)));
    }

    #[test]
    fn whoever_guesses_credentials_is_asked_to_go() {
        let (mut course, at) = course();
        course.request_begins(at(0));
        assert_eq!((1..=FAILURES_MOST).filter(|_| course.fails()).count(), 1);
        assert_eq!(course.verdict(at(1), &TIMES), Verdict::Gently);
        assert!(goes_on(course.verdict(at(2), &TIMES)), "its last answer is under way");
        course.request_ends(at(3));
        assert!(!goes_on(course.verdict(at(13), &TIMES)));
    }

    #[test]
    fn requests_that_were_sent_ahead_let_others_go_first() {
        let (mut course, at) = course();
        assert!(!course.request_begins(at(0)), "the first one");
        course.request_ends(at(1));
        assert!(course.request_begins(at(1)));
        assert!(!course.request_begins(at(1)), "another stream");
        course.request_ends(at(1));
        course.request_ends(at(1));
        assert!(!course.request_begins(at(1) + PIPELINED));
    }

    #[test]
    fn who_must_make_room_goes_at_once() {
        let (mut course, at) = course();
        course.request_begins(at(0));
        course.make_room();
        course.end();
        assert!(matches!(course.verdict(at(0), &TIMES), Verdict::AtOnce(_)));
    }
}
