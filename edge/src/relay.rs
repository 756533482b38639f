//! Connections and datagrams that go through this process although nobody reads them: where TLS ends in front of plain TCP,
//! and where a PROXY header tells the backend who asks.

pub mod affinity;
pub mod header;
pub mod tcp;
pub mod udp;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::l7::activity::{Activity, Noted};
use crate::l7::clock;

/// What is read at once, per direction.
const BUFFER: usize = 16 * 1024;

/// How two streams that were joined came apart.
#[derive(Debug)]
pub enum Ended {
    /// Both sides were done.
    Well,
    Broken(io::Error),
    Silent,
    /// The backend has gone, and its time was over.
    Gone,
}

/// Copies both ways until both sides are done, nothing has come from either for `silence`, or the backend has gone and its
/// time is over.
pub async fn copy<A, B>(near: A, far: B, silence: Duration, mut departure: watch::Receiver<Option<Instant>>) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    let (mut near, mut far) = (Noted::new(near, Arc::clone(&activity)), Noted::new(far, Arc::clone(&activity)));
    let mut copying = pin!(copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER));
    let mut look = pin!(sleep(silence));
    let mut gone = pin!(async {
        match departure.wait_for(Option::is_some).await.map(|until| *until) {
            Ok(Some(until)) => sleep_until(until).await,
            // It cannot tell any more, so it will not.
            _ => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            biased;
            result = copying.as_mut() => return result.map_or_else(Ended::Broken, |_| Ended::Well),
            () = gone.as_mut() => return Ended::Gone,
            () = look.as_mut() => {
                let quiet = Duration::from_millis(clock::millis().saturating_sub(activity.last()));
                let rest = silence.saturating_sub(quiet);
                if rest.is_zero() {
                    return Ended::Silent;
                }
                look.as_mut().reset(Instant::now() + rest);
            }
        }
    }
}
