//! RDMA on the reactor: reliable queue pairs, one-sided reads and writes, and the connection
//! manager that makes them.
//!
//! A [`Card`] is what one core has of RDMA. It accepts and makes connections; each is a
//! [`QueuePair`], on which work is posted and completions are taken. Behind it is either a real card
//! through the verbs library, or a simulated one ([`soft`]) made of tasks over the reactor's own
//! sockets, which runs in a simulated world with all that can happen to it there.
//!
//! Memory: what a card may touch belongs to the work it was posted with, and comes back with its
//! completion. A dropped future frees nothing, as with the operations of the reactor.
//!
//! Polling: a core has one completion queue. It is looked at once a turn while anything is going on,
//! and after [`reactor::spin`] without completions it is armed and waits in the ring.

pub mod card;
mod completion;
mod error;
mod inbox;
mod options;
mod pair;
pub mod soft;
mod stats;
pub mod verbs;
mod work;

pub use card::{Card, DetachedIncoming, Exposed, Incoming, Listener};
pub use completion::{Completion, Done, Received};
pub use error::{Lost, MissingLibrary, PostError, RdmaError, WorkError};
pub use options::{CardOptions, HEADER_BYTES, INLINE_BYTES, PairOptions};
pub use pair::QueuePair;
pub use stats::CardStats;
pub use work::{Access, Inline, Payload, Remote, Work};
