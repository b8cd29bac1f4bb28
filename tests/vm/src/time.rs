//! Deadlines on the machine's own clock: these tests wait for real programs.

use std::time::{Duration, Instant};

/// A moment after which waiting is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `limit` from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real programs, not simulated ones"
    )]
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// What is left; zero once it has passed.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real programs, not simulated ones"
    )]
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Sleeps `duration`.
#[expect(
    clippy::disallowed_methods,
    reason = "waits for real programs, not simulated ones"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Runs `body` on a thread of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "reads the output of a child process"
)]
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) {
    std::thread::spawn(body);
}
