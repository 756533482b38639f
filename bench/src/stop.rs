//! How somebody who is at a keyboard ends what runs: once, and it ends in order and takes away what it made; twice, and it
//! leaves that where it is.

use tokio::sync::watch;

/// Whether to go on. Clones see the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<u8>);

impl Stop {
    /// With the other end, on which each `send_modify` of one more is one more wish to end.
    pub fn new() -> (watch::Sender<u8>, Self) {
        let (sender, receiver) = watch::channel(0);
        (sender, Self(receiver))
    }

    /// Whether somebody wants an end.
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// When somebody wants an end; never, when nobody is left who could.
    pub async fn wanted(&self) {
        self.at_least(1).await;
    }

    /// When somebody wants it at once.
    pub async fn urgent(&self) {
        self.at_least(2).await;
    }

    async fn at_least(&self, times: u8) {
        if self.0.clone().wait_for(|wishes| *wishes >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_wish_is_urgent() {
        let (sender, stop) = Stop::new();
        assert!(!stop.is_wanted());
        sender.send_modify(|wishes| *wishes += 1);
        stop.wanted().await;
        assert!(stop.is_wanted());
        let soon = tokio::time::timeout(std::time::Duration::from_millis(1), stop.urgent()).await;
        assert!(soon.is_err());
        sender.send_modify(|wishes| *wishes += 1);
        stop.urgent().await;
    }
}
