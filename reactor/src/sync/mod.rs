//! Primitives for tasks of one core: FIFO, cancel safe, without allocation after warm-up.
//!
//! Waiting is bounded by the number of tasks. None of them may be shared between cores (they are
//! `!Send`); between cores there are mailboxes.

mod credits;
mod gate;
mod mutex;
mod notify;
pub mod oneshot;
pub(crate) mod wait_queue;

pub use credits::{Acquire, Credits, Guard};
pub use gate::{Closed, Gate, Pass};
pub use mutex::{Mutex, MutexGuard};
pub use notify::{Notified, Notify};
