//! Monotonic time, sleeping and time limits.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::context::{self, Core};
use crate::timer::TimerKey;

/// A moment on this machine's monotonic clock (or a world's virtual one), in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment `ns` nanoseconds after the clock's zero.
    pub const fn from_nanos(ns: u64) -> Instant {
        Instant(ns)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// As [`Instant::saturating_duration_since`].
    pub fn duration_since(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }

    /// Time from `self` to now; zero when `self` is in the future.
    pub fn elapsed(self) -> Duration {
        crate::now().saturating_duration_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time (584 years), so that "never" may be a huge duration.
    fn add(self, duration: Duration) -> Instant {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(ns))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_sub(ns))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Completes once `duration` has passed. Cost: one timer, no allocation after warm-up.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(crate::now() + duration)
}

/// Completes once the clock has reached `deadline`. Dropping it removes the timer.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        core: context::current(),
        deadline,
        key: None,
    }
}

/// A pending [`sleep`].
pub struct Sleep {
    core: Rc<Core>,
    deadline: Instant,
    key: Option<TimerKey>,
}

impl Sleep {
    /// When it completes.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.now() >= self.deadline {
            self.remove_timer();
            return Poll::Ready(());
        }
        let mut timers = self.core.timers.borrow_mut();
        let armed = self
            .key
            .is_some_and(|key| timers.set_waker(key, cx.waker()));
        if !armed {
            let key = timers.insert(self.deadline, cx.waker().clone());
            drop(timers);
            self.key = Some(key);
        }
        Poll::Pending
    }
}

impl Sleep {
    fn remove_timer(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.core.timers.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.remove_timer();
    }
}

/// A [`timeout`] passed before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit passed before the operation was done")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future` for at most `duration`. When the time is up the future is dropped; what it had
/// started keeps its own cancellation contract. A future that is ready wins over the limit.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut limit = sleep(duration);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut limit).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// A clock that ticks every `period`, first one period from now. Panics when `period` is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval {
        next: crate::now() + period,
        period,
    }
}

/// See [`interval`].
pub struct Interval {
    next: Instant,
    period: Duration,
}

impl Interval {
    /// Waits for the next tick. Ticks that were missed are skipped, not made up for.
    pub async fn tick(&mut self) -> Instant {
        sleep_until(self.next).await;
        let ticked = self.next;
        let now = crate::now();
        while self.next <= now {
            let behind = now.duration_since(self.next).as_nanos() / self.period.as_nanos();
            let periods = u32::try_from(behind + 1).unwrap_or(u32::MAX);
            self.next += self.period.saturating_mul(periods);
        }
        ticked
    }
}
