//! What a queue asks of the transport below it.

use std::rc::Rc;

use reactor::Instant;
use reactor::buf::Buf;
use wire::nvme::{Cqe, Sqe};

use super::Queue;
use crate::nvmf::moves::Destination;
use crate::nvmf::port::CloseReason;
use crate::nvmf::transport::Transport;

/// Data that a command's host is to be asked for. The buffer for it is in the command's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// The command's slot.
    pub index: u16,
    /// Names this use of the slot, which may be over when the data comes.
    pub serial: u32,
    /// The same as a transfer tag, which repeats sooner.
    pub ttag: u16,
    /// How much.
    pub len_bytes: u32,
}

/// One connection of a transport, below its queue.
pub(crate) trait Link: Sized + 'static {
    /// Which transport it is.
    const TRANSPORT: Transport;

    /// Gets the data of a host-to-controller command, into the buffer in its slot. Whoever fills that
    /// buffer takes it out meanwhile, and ends with [`Queue::fetched`].
    fn fetch(queue: &Rc<Queue<Self>>, fetch: Fetch);

    /// Sends the completion of a command, and before it its data for the host. `sqe` is the command as
    /// it came.
    fn answer(queue: &Queue<Self>, sqe: &Sqe, cqe: Cqe, data: Option<Buf>);

    /// Data for the host that has not left yet, in bytes. It counts against what one connection may
    /// hold; [`Queue::pump`] is called when some of it left.
    fn payload_bytes(&self) -> usize;

    /// Since when the host takes nothing of what there is for it; none when nothing waits.
    fn stalled_since(&self) -> Option<Instant>;

    /// Asks for the end; the first reason stays. Answers still leave.
    fn end(&self, reason: CloseReason);

    /// Why it is to end, once it is.
    fn ending(&self) -> Option<CloseReason>;

    /// True when everything that the host had sent was read, or nothing more will be.
    fn is_drained(&self) -> bool;

    /// Bytes sent on this core.
    fn sent_bytes(&self) -> u64;

    /// Whether headers and data carry digests.
    fn digests(&self) -> (bool, bool) {
        (false, false)
    }

    /// False while no command that waits for memory may start.
    #[inline]
    fn may_begin(&self) -> bool {
        true
    }

    /// Whether a fetch uses the host's memory until it ends. A command is then not answered before,
    /// since its host takes the memory back with the answer.
    const READS_HOST_MEMORY: bool = false;

    /// Whether it can go from core to core at all.
    const CAN_MOVE: bool = false;

    /// True while it is on its way to another core.
    fn is_moving(&self) -> bool {
        false
    }

    /// Asks for a move. False when it cannot be, or not now.
    fn ask_move(_queue: &Queue<Self>, _to: Destination) -> bool {
        false
    }
}
