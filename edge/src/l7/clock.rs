//! Milliseconds since the process first asked, small enough for an atomic number. Follows tokio's clock, so that tests can
//! stop it.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now. Never 0, which means never.
pub fn millis() -> u64 {
    in_millis(START.elapsed()) + 1
}

pub fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
