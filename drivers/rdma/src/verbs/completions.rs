//! A completion queue: polled, or armed and waited for.
#![expect(unsafe_code, reason = "calls the verbs library; keeps its handles")]

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use super::device::{Device, set_non_blocking};
use super::ffi::{self, WorkCompletion};
use super::library::{made, outcome};

/// Events that are acknowledged together: each time takes a lock inside the library.
const EVENTS_AN_ACKNOWLEDGEMENT: u32 = 64;

/// The completion queue of one core on one device, with its channel of events.
pub struct CompletionQueue {
    device: Arc<Device>,
    channel: *mut ffi::CompChannel,
    raw: *mut ffi::Cq,
    entries: u32,
    unacknowledged: Cell<u32>,
    is_broken: Cell<bool>,
}

impl CompletionQueue {
    /// A queue of `entries`, fewer where the device cannot. Errors: what the system says.
    pub fn new(device: &Arc<Device>, entries: u32) -> io::Result<CompletionQueue> {
        let library = device.library();
        let entries = entries.clamp(1, device.limits().completion_entries.max(1));
        let context = device.context().0;
        // SAFETY: the device is open while `device` is held.
        let channel = made(unsafe { (library.create_comp_channel)(context) })?;
        let mut queue = CompletionQueue {
            device: device.clone(),
            channel,
            raw: ptr::null_mut(),
            entries,
            unacknowledged: Cell::new(0),
            is_broken: Cell::new(false),
        };
        set_non_blocking(queue.fd())?;
        // SAFETY: an open device, and the channel from above.
        queue.raw = made(unsafe {
            let vectors = (*context).num_comp_vectors.max(1);
            let vector = c_int::from(reactor::core_id().0 % 1024) % vectors;
            let entries = c_int::try_from(entries).unwrap_or(c_int::MAX);
            (library.create_cq)(context, entries, ptr::null_mut(), channel, vector)
        })?;
        Ok(queue)
    }

    /// How many completions it holds at least.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// The library's handle.
    pub fn raw(&self) -> *mut ffi::Cq {
        self.raw
    }

    /// A descriptor that is readable when the armed queue has something.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: ours; its descriptor is open while it is there.
        unsafe { BorrowedFd::borrow_raw((*self.channel).fd) }
    }

    /// Takes completions, as many as there are and fit. Cost: no system call.
    pub fn poll(&self, into: &mut [WorkCompletion]) -> usize {
        let room = c_int::try_from(into.len()).unwrap_or(c_int::MAX);
        // SAFETY: ours; the provider fills in as many entries as it says, of those there are.
        let count = unsafe {
            let poll = (*(*self.raw).context).ops.poll_cq;
            poll(self.raw, room, into.as_mut_ptr())
        };
        if count < 0 && !self.is_broken.replace(true) {
            let device = self.device.name();
            tracing::error!(device, count, "a completion queue cannot be polled");
        }
        usize::try_from(count).unwrap_or(0)
    }

    /// Asks for one event at the next completion. Completions that are there already give none:
    /// poll once more.
    pub fn arm(&self) -> io::Result<()> {
        // SAFETY: ours.
        outcome(unsafe {
            let arm = (*(*self.raw).context).ops.req_notify_cq;
            arm(self.raw, 0)
        })
    }

    /// Takes the events there are, so that the descriptor is quiet again. Gives their number.
    pub fn take_events(&self) -> u32 {
        let mut count = 0;
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: ours, and its descriptor does not block.
        while unsafe {
            (self.device.library().get_cq_event)(self.channel, &mut queue, &mut context)
        } == 0
        {
            count += 1;
        }
        self.unacknowledged.set(self.unacknowledged.get() + count);
        if self.unacknowledged.get() >= EVENTS_AN_ACKNOWLEDGEMENT {
            self.acknowledge();
        }
        count
    }

    fn acknowledge(&self) {
        let count = self.unacknowledged.take();
        if count > 0 {
            // SAFETY: ours; that many events were taken.
            unsafe { (self.device.library().ack_cq_events)(self.raw, count) };
        }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        let library = self.device.library();
        if !self.raw.is_null() {
            // It waits for all events that were taken.
            self.acknowledge();
            // SAFETY: ours; its queue pairs are gone, as each keeps this.
            if let Err(error) = outcome(unsafe { (library.destroy_cq)(self.raw) }) {
                tracing::error!(%error, "a completion queue stays");
                return;
            }
        }
        // SAFETY: ours, and its queue is gone.
        if let Err(error) = outcome(unsafe { (library.destroy_comp_channel)(self.channel) }) {
            tracing::error!(%error, "a completion channel stays");
        }
    }
}
