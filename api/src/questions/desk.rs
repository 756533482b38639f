//! Which questions wait at which node. Pure but for the bell that wakes who listens: time comes in as an argument, and what
//! leads back to an asker is any value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Questions to one node that are open at a time.
const MAX_OPEN: usize = 64;
/// Nodes that may listen beyond those that there are objects of.
const MARGIN: usize = 64;
/// An agent that has fetched a question is back at its place within this time, as a rule at once.
const ABSENCE: Duration = Duration::from_secs(5);

/// A question that a node fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub number: u64,
    /// JSON, as it was asked.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// No agent listens for this node.
    Nobody,
    /// So many questions are open at this node already.
    Busy(usize),
    /// So many nodes listen already, more than there are.
    Full(usize),
    /// The agent has not answered in time.
    NoAnswer,
}

/// The open questions of every node.
pub struct Desk<A> {
    nodes: BTreeMap<Box<str>, Node<A>>,
    numbers: u64,
}

struct Node<A> {
    /// Rung when there is something to fetch.
    bell: Arc<Notify>,
    /// Polls that are open.
    listeners: usize,
    /// When the last one ended.
    left: Instant,
    waiting: VecDeque<Question>,
    /// By number.
    askers: BTreeMap<u64, A>,
}

impl<A> Default for Desk<A> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), numbers: 0 }
    }
}

impl<A> Desk<A> {
    /// Puts a question to a node; its number.
    ///
    /// # Errors
    /// When nobody listens there, or too much is open.
    pub fn ask(&mut self, node: &str, body: Bytes, asker: A, now: Instant) -> Result<u64, Unheard> {
        let node = self.nodes.get_mut(node).filter(|node| node.attended(now)).ok_or(Unheard::Nobody)?;
        if node.askers.len() >= MAX_OPEN {
            return Err(Unheard::Busy(node.askers.len()));
        }
        self.numbers += 1;
        node.waiting.push_back(Question { number: self.numbers, body });
        node.askers.insert(self.numbers, asker);
        node.bell.notify_waiters();
        Ok(self.numbers)
    }

    /// Somebody listens for a node; the bell that will tell when to fetch. `nodes` counts the Node objects, and is asked
    /// for a node that is new here.
    ///
    /// # Errors
    /// When more nodes listen than there are.
    pub fn listen(&mut self, node: &str, now: Instant, nodes: impl FnOnce() -> usize) -> Result<Arc<Notify>, Unheard> {
        if let Some(known) = self.nodes.get_mut(node) {
            known.listeners += 1;
            return Ok(Arc::clone(&known.bell));
        }
        self.nodes.retain(|_, known| known.attended(now) || !known.askers.is_empty());
        if self.nodes.len() >= nodes().saturating_add(MARGIN) {
            return Err(Unheard::Full(self.nodes.len()));
        }
        let bell = Arc::new(Notify::new());
        let (waiting, askers) = (VecDeque::new(), BTreeMap::new());
        self.nodes.insert(node.into(), Node { bell: Arc::clone(&bell), listeners: 1, left: now, waiting, askers });
        Ok(bell)
    }

    /// A listener goes.
    pub fn leave(&mut self, node: &str, now: Instant) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.listeners = node.listeners.saturating_sub(1);
            node.left = now;
        }
    }

    /// The questions that nobody has fetched yet.
    pub fn fetch(&mut self, node: &str) -> Vec<Question> {
        self.nodes.get_mut(node).map(|node| node.waiting.drain(..).collect()).unwrap_or_default()
    }

    /// Closes a question, answered or not; gives its asker.
    pub fn take(&mut self, node: &str, number: u64) -> Option<A> {
        let node = self.nodes.get_mut(node)?;
        node.waiting.retain(|question| question.number != number);
        node.askers.remove(&number)
    }
}

impl<A> Node<A> {
    /// Whether somebody listens, or is about to again.
    fn attended(&self, now: Instant) -> bool {
        self.listeners > 0 || now.saturating_duration_since(self.left) < ABSENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_question_is_fetched_once_and_answered_once() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        assert_eq!(desk.ask("a", body("1"), "x", now), Err(Unheard::Nobody));
        desk.listen("a", now, || 0).unwrap();
        let number = desk.ask("a", body("1"), "x", now).unwrap();
        assert_eq!(desk.ask("b", body("1"), "x", now), Err(Unheard::Nobody));
        assert_eq!(desk.fetch("b"), []);
        assert_eq!(desk.fetch("a"), [Question { number, body: body("1") }]);
        assert_eq!(desk.fetch("a"), []);
        assert_eq!(desk.take("b", number), None);
        assert_eq!((desk.take("a", number), desk.take("a", number)), (Some("x"), None));
    }

    #[test]
    fn what_is_taken_back_is_not_fetched() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.listen("a", now, || 0).unwrap();
        let number = desk.ask("a", body("1"), "x", now).unwrap();
        desk.take("a", number);
        assert_eq!(desk.fetch("a"), []);
    }

    #[test]
    fn a_listener_that_does_not_come_back_is_nobody() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.listen("a", now, || 0).unwrap();
        desk.listen("a", now, || 0).unwrap();
        desk.leave("a", now);
        assert!(desk.ask("a", body("1"), 1, now + 2 * ABSENCE).is_ok(), "the other one listens still");
        desk.leave("a", now);
        assert!(desk.ask("a", body("2"), 2, now + ABSENCE / 2).is_ok(), "it is about to come back");
        assert_eq!(desk.ask("a", body("3"), 3, now + ABSENCE), Err(Unheard::Nobody));
        desk.listen("a", now + ABSENCE, || 0).unwrap();
        assert_eq!(desk.fetch("a").len(), 2);
    }

    #[test]
    fn questions_and_nodes_have_bounds() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.listen("a", now, || 0).unwrap();
        for n in 0..MAX_OPEN {
            desk.ask("a", body("1"), n, now).unwrap();
        }
        desk.fetch("a");
        assert_eq!(desk.ask("a", body("1"), 0, now), Err(Unheard::Busy(MAX_OPEN)), "fetched is still open");
        for n in 1..MARGIN + 2 {
            desk.listen(&n.to_string(), now, || 2).unwrap();
        }
        assert_eq!(desk.listen("more", now, || 2).unwrap_err(), Unheard::Full(MARGIN + 2));
        assert!(desk.listen("a", now, || 2).is_ok(), "one that is known");
        desk.leave("1", now);
        assert!(desk.listen("more", now + ABSENCE, || 2).is_ok(), "who has gone makes room");
    }
}
