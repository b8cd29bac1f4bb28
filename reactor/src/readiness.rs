//! Descriptors that somebody else made and reads, such as a library's: waiting for them in the ring.

use std::io;
use std::os::fd::OwnedFd;

use crate::backend::{Handle, Op};
use crate::context;
use crate::op::OpFuture;

/// A descriptor of a real kernel that can be polled: an event channel, a pipe, an eventfd.
///
/// Who reads it does so by other means; make it non-blocking, since a wait may end for nothing.
/// Give it a duplicate ([`std::os::fd::BorrowedFd::try_clone_to_owned`]) when a library closes its
/// own.
#[derive(Debug)]
pub struct Descriptor {
    handle: Handle,
}

impl Descriptor {
    /// Takes a descriptor over; it is closed when this is dropped and no wait is in flight.
    pub fn new(fd: OwnedFd) -> Descriptor {
        Descriptor {
            handle: Handle::socket(fd),
        }
    }

    /// Waits until it has something to read, an end or an error. May return for nothing.
    ///
    /// Cancel: nothing is lost. Errors: `Unsupported` in a simulated world, which has no
    /// descriptors; what the kernel says (a descriptor that cannot be polled).
    pub async fn readable(&self) -> io::Result<()> {
        let core = context::current();
        if core.is_sim {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let socket = self.handle.clone();
        let (result, _) = OpFuture::new(core, Op::Readable { socket }).await;
        result.map(|_| ())
    }
}
