//! TCP on the reactor: a hot gear that polls and a quiet gear that waits in the ring.
//!
//! A connection that waits for bytes first polls: one plain non-blocking call per turn of the loop,
//! which at queue depth one is a tenth faster than waiting in the ring. After [`reactor::spin`]
//! without bytes it is quiet: it waits as an armed poll and costs nothing.
//!
//! [`Socket`] receives, and can be told to end; [`SendQueue`] gathers what a connection has to say
//! and sends it in one call. What the bytes mean is the business of the transports above. The same
//! code runs in a simulated world.
#![forbid(unsafe_code)]

mod closed;
mod queue;
mod select;
mod socket;

pub use closed::Closed;
pub use queue::SendQueue;
pub use select::first;
pub use socket::Socket;
