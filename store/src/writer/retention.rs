//! How far back the log goes: which rows are superseded, and which of them may be deleted.
//!
//! A row is deleted only when the row that replaced it is not newer than the compaction revision: every later change can
//! then be replayed with the state before it, which watches with selectors need. The list is kept in memory, in order,
//! instead of an index in SQLite that every write would pay for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::Revision;

use crate::config::History;
use crate::event::{Event, EventKind};

pub(crate) struct Retention {
    max_rows: usize,
    /// (revision of the row that replaced it, revision of the row), oldest first.
    superseded: VecDeque<(Revision, Revision)>,
    ages: Ages,
    postponed: bool,
}

/// Which revisions are older than some span of time. What was there at the start counts as new.
pub(crate) struct Ages {
    max_age: SignedDuration,
    /// Which revision was the newest at what time; some sixty of them.
    marks: VecDeque<(Timestamp, Revision)>,
    aged: Revision,
}

impl Ages {
    pub(crate) fn new(max_age: Duration, now: Timestamp, revision: Revision) -> Self {
        let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        Self { max_age, marks: VecDeque::from([(now, revision)]), aged: 0 }
    }

    /// Tells the time; returns the newest revision that is older than the span, when it has moved.
    pub(crate) fn age(&mut self, now: Timestamp, revision: Revision) -> Option<Revision> {
        // Sixty marks in the whole span make it exact to a sixtieth.
        let step = self.max_age / 60;
        if self.marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= step) {
            self.marks.push_back((now, revision));
        }
        let before = self.aged;
        while let Some((at, marked)) = self.marks.front().copied()
            && now.duration_since(at) >= self.max_age
        {
            self.aged = self.aged.max(marked);
            self.marks.pop_front();
        }
        (self.aged > before).then_some(self.aged)
    }
}

impl Retention {
    pub(crate) fn new(
        history: &History,
        superseded: VecDeque<(Revision, Revision)>,
        now: Timestamp,
        revision: Revision,
    ) -> Self {
        let ages = Ages::new(history.max_age, now, revision);
        Self { max_rows: history.max_rows, superseded, ages, postponed: false }
    }

    /// Takes in what a commit has replaced.
    pub(crate) fn note(&mut self, events: &[Arc<Event>]) {
        for event in events {
            if let Some(previous) = &event.previous {
                self.superseded.push_back((event.revision, previous.revision));
            }
            if event.kind == EventKind::Deleted {
                self.superseded.push_back((event.revision, event.revision));
            }
        }
    }

    /// Tells the time; returns the revision up to which changes have become too old, when it has moved.
    pub(crate) fn age(&mut self, now: Timestamp, revision: Revision) -> Option<Revision> {
        self.postponed = false;
        self.ages.age(now, revision)
    }

    /// Superseded rows in the file.
    pub(crate) fn rows(&self) -> usize {
        self.superseded.len()
    }

    /// Whether there are at least so many rows to delete, because of their age or because there are too many.
    pub(crate) fn has_rows(&self, least: usize) -> bool {
        let least = least.max(1);
        let too_old = self.superseded.get(least - 1).is_some_and(|(by, _)| *by <= self.ages.aged);
        !self.postponed && (too_old || self.superseded.len() >= self.max_rows.saturating_add(least))
    }

    /// Whether so many rows are superseded that they must go even while clients wait.
    pub(crate) fn overdue(&self) -> bool {
        !self.postponed && self.superseded.len() > self.max_rows.saturating_add(self.max_rows / 8)
    }

    /// The next rows to delete, and the compaction revision that allows it.
    pub(crate) fn batch(&self, limit: usize) -> (Revision, Vec<Revision>) {
        let surplus = self.superseded.len().saturating_sub(self.max_rows);
        let due = self.superseded.iter().enumerate().take_while(|(i, (by, _))| *i < surplus || *by <= self.ages.aged);
        let due: Vec<(Revision, Revision)> = due.take(limit).map(|(_, row)| *row).collect();
        let horizon = due.last().map_or(0, |(by, _)| *by);
        (horizon, due.into_iter().map(|(_, row)| row).collect())
    }

    /// The first `count` rows are deleted.
    pub(crate) fn deleted(&mut self, count: usize) {
        self.superseded.drain(..count.min(self.superseded.len()));
    }

    /// Deleting failed: not again before the next `age`.
    pub(crate) fn postpone(&mut self) {
        self.postponed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(max_rows: usize, superseded: &[(Revision, Revision)]) -> Retention {
        let history = History { max_rows, max_age: Duration::from_secs(60), ..History::default() };
        Retention::new(&history, superseded.iter().copied().collect(), Timestamp::UNIX_EPOCH, 5)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn rows_go_when_what_replaced_them_is_old_enough() {
        let mut retention = retention(100, &[(3, 1), (5, 2), (7, 4)]);
        assert_eq!(retention.age(at(30), 6), None);
        assert!(!retention.has_rows(1));
        assert_eq!(retention.age(at(60), 8), Some(5));
        assert!(retention.has_rows(2) && !retention.has_rows(3));
        assert_eq!(retention.batch(10), (5, vec![1, 2]));
        assert_eq!(retention.batch(1), (3, vec![1]));
        retention.deleted(2);
        assert!(!retention.has_rows(1));
        // The mark of second 30 said revision 6, so 7 stays until the mark of second 60 is old.
        assert_eq!(retention.age(at(90), 8), Some(6));
        assert_eq!(retention.batch(10), (0, vec![]));
        assert_eq!(retention.age(at(120), 8), Some(8));
        assert_eq!(retention.batch(10), (7, vec![4]));
    }

    #[test]
    fn too_many_rows_go_oldest_first() {
        let mut retention = retention(2, &[(3, 1), (5, 2), (7, 4), (9, 6)]);
        assert!(retention.has_rows(2) && !retention.has_rows(3) && retention.overdue());
        assert_eq!(retention.batch(10), (5, vec![1, 2]));
        retention.postpone();
        assert!(!retention.has_rows(1));
        retention.age(at(1), 9);
        retention.deleted(2);
        assert!(!retention.has_rows(1) && retention.rows() == 2);
    }
}
