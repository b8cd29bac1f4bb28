//! How a socket stops being of use.

use std::io::ErrorKind;

/// Why a socket gives or takes nothing more. `E` is the owner's word for why it ended it.
///
/// After any of these the connection cannot go on: clear its queue and shut it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed<E> {
    /// The peer closed its sending side.
    #[error("the peer closed the connection")]
    ByPeer,
    /// The socket failed: the peer reset the connection, or the network gave up.
    #[error("the connection failed: {0}")]
    Failed(ErrorKind),
    /// [`crate::Socket::end`] was called, with this reason.
    #[error("the connection was ended here: {0:?}")]
    Ended(E),
}
