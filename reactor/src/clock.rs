//! The one place where production reads clocks.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is the clock that everything else uses"
)]

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::time::Instant;

/// Nanoseconds since the first reading in this process, the same on every core. Starts at one
/// second, so that "a moment ago" never meets the clock's zero.
pub(crate) fn now() -> Instant {
    static ZERO: OnceLock<std::time::Instant> = OnceLock::new();
    let zero = ZERO.get_or_init(std::time::Instant::now);
    Instant::from_nanos(1_000_000_000 + zero.elapsed().as_nanos() as u64)
}

/// Milliseconds since 1970; zero when the wall clock is set before that.
pub(crate) fn wall_clock_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// Blocks this thread, and its core with it: for opening files only.
pub(crate) fn block_for(duration: Duration) {
    std::thread::sleep(duration);
}
