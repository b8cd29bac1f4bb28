//! TCP on the reactor: a hot gear that polls and a quiet gear that waits in the ring.
//!
//! A connection that had bytes a moment ago is hot: it is read by a plain non-blocking call once
//! per turn of the loop, which at queue depth one is a tenth faster than waiting in the ring. After
//! [`reactor::spin`] without bytes it is quiet: it waits as an armed poll and costs nothing.
//!
//! [`Stream`] receives and sends; [`SendQueue`] gathers what a connection has to say into one send
//! per turn. The same code runs in a simulated world.
#![forbid(unsafe_code)]

mod queue;
mod stream;

pub use queue::{SendError, SendQueue};
pub use stream::Stream;
