//! Questions to nodes: whoever asks waits here until the node's agent has fetched the question and answered it.
//!
//! The server understands neither questions nor answers; it carries them. Nothing outlives its asker: a question whose
//! asker has gone is taken back, and an answer to it is answered with 404. What waits where stands in [`desk`], which is
//! pure.

mod desk;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use desk::Desk;
pub use desk::{Question, Unheard};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use crate::programmed::stopping;
use crate::serve::Draining;

/// How long an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The questions that are open, of all nodes.
pub struct Questions {
    desk: Mutex<Desk<oneshot::Sender<Bytes>>>,
    /// Stands before the number of a question: one that an earlier run of the server asked is none of this one's.
    run: u64,
}

impl Questions {
    pub fn new() -> Self {
        Self { desk: Mutex::default(), run: RandomState::new().hash_one(0) }
    }

    /// Asks a node, and waits for its answer.
    ///
    /// # Errors
    /// When no agent listens for it, too many ask, or there is no answer in time.
    pub async fn ask(&self, node: &str, question: Bytes) -> Result<Bytes, Unheard> {
        let (sender, answered) = oneshot::channel();
        let number = self.lock().ask(node, question, sender, Instant::now())?;
        // However this ends, and if the asker hangs up, too.
        let _taken_back = TakenBack { questions: self, node, number };
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Unheard::NoAnswer),
        }
    }

    /// The questions to a node that were not fetched yet: those that there are, or the first to come until then. `room` is
    /// asked for the number of nodes when one listens that has not before.
    ///
    /// # Errors
    /// When more nodes listen than there are.
    pub async fn listen(
        &self,
        node: &str,
        until: Instant,
        mut draining: Option<Draining>,
        room: impl FnOnce() -> usize,
    ) -> Result<Vec<Question>, Unheard> {
        let bell = self.lock().listen(node, Instant::now(), room)?;
        let _gone = Gone { questions: self, node };
        loop {
            let mut rung = pin!(bell.notified());
            // Before the look, so that what is asked in between wakes us.
            rung.as_mut().enable();
            let questions = self.lock().fetch(node);
            let stopped = draining.as_ref().is_some_and(Draining::is_on);
            if !questions.is_empty() || stopped || Instant::now() >= until {
                return Ok(questions);
            }
            tokio::select! {
                () = rung => {}
                () = sleep_until(until) => {}
                () = stopping(draining.as_mut()) => {}
            }
        }
    }

    /// Brings an answer to who asked. Whether somebody did.
    pub fn answer(&self, node: &str, id: &str, answer: Bytes) -> bool {
        let number = id.split_once('-').filter(|(run, _)| u64::from_str_radix(run, 16) == Ok(self.run));
        let Some(number) = number.and_then(|(_, number)| number.parse().ok()) else { return false };
        let asker = self.lock().take(node, number);
        asker.is_some_and(|asker| asker.send(answer).is_ok())
    }

    /// What an agent calls a question.
    pub fn id(&self, question: &Question) -> String {
        format!("{:x}-{}", self.run, question.number)
    }

    /// A panic of another thread leaves questions, which are as good as before.
    fn lock(&self) -> MutexGuard<'_, Desk<oneshot::Sender<Bytes>>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question back when its asker goes.
struct TakenBack<'a> {
    questions: &'a Questions,
    node: &'a str,
    number: u64,
}

impl Drop for TakenBack<'_> {
    fn drop(&mut self) {
        self.questions.lock().take(self.node, self.number);
    }
}

/// Counts a listener out when it goes.
struct Gone<'a> {
    questions: &'a Questions,
    node: &'a str,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.questions.lock().leave(self.node, Instant::now());
    }
}
