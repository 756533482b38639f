//! A steady beat, kept by a thread of its own: the runtime's clock has milliseconds, in which much of a change is over.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Beats that wait for somebody who is busy; then the beat itself waits, and what comes later is due as it was.
const WAITING: usize = 4096;

/// When beat `n` of so many per second is due, after the first.
pub fn due(n: u64, rate: u32) -> Duration {
    Duration::from_nanos((u128::from(n) * 1_000_000_000 / u128::from(rate.max(1))) as u64)
}

/// Tells the number of each of `count` beats when it is due, until nobody listens.
///
/// # Errors
/// When there can be no thread.
pub fn beat(begin: Instant, rate: u32, count: u64) -> std::io::Result<mpsc::Receiver<u64>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::Builder::new().name("pace".into()).spawn(move || {
        for n in 0..count {
            let left = (begin + due(n, rate)).saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left);
            }
            if sender.blocking_send(n).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_beat_is_early_or_left_out() {
        let begin = Instant::now();
        let mut beats = beat(begin, 1000, 20).unwrap();
        for n in 0..20 {
            assert_eq!(beats.recv().await, Some(n));
            assert!(begin.elapsed() >= due(n, 1000));
        }
        assert_eq!(beats.recv().await, None);
    }
}
