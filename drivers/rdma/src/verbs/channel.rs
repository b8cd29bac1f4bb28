//! The channel through which the connection manager tells what happens to identifiers.
#![expect(
    unsafe_code,
    reason = "calls the connection manager's library; keeps its handles"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::cm_id::CmId;
use super::device::set_non_blocking;
use super::event::Event;
use super::ffi;
use super::library::{Library, made};

/// A channel of events, one for each core. Identifiers on it keep it.
pub struct EventChannel {
    library: &'static Library,
    raw: NonNull<ffi::CmChannel>,
}

// SAFETY: the library allows calls from any thread.
unsafe impl Send for EventChannel {}
// SAFETY: as above.
unsafe impl Sync for EventChannel {}

impl EventChannel {
    /// A channel whose reading does not block. Errors: `ENODEV` and others without RDMA devices.
    pub fn open(library: &'static Library) -> io::Result<Arc<EventChannel>> {
        // SAFETY: it needs nothing.
        let raw = made(unsafe { (library.create_event_channel)() })?;
        let raw = NonNull::new(raw).ok_or_else(io::Error::last_os_error)?;
        let channel = EventChannel { library, raw };
        set_non_blocking(channel.fd())?;
        Ok(Arc::new(channel))
    }

    /// A descriptor that is readable when there is an event.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    /// The library.
    pub fn library(&self) -> &'static Library {
        self.library
    }

    /// The library's handle.
    pub fn raw(&self) -> *mut ffi::CmChannel {
        self.raw.as_ptr()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: ours; its descriptor is open while it is there.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_ref().fd) }
    }

    /// The next event if there is one, acknowledged already, so that no destruction waits for it.
    pub fn next_event(self: &Arc<Self>) -> Option<Event> {
        let mut event = ptr::null_mut();
        // SAFETY: ours. The event is the library's until it is acknowledged, and what is kept of it
        // is copied before that. A new identifier in it is ours from then on.
        unsafe {
            if (self.library.get_cm_event)(self.raw.as_ptr(), &mut event) != 0 {
                return None;
            }
            let is_request = (*event).event == ffi::CM_CONNECT_REQUEST;
            let request = NonNull::new((*event).id).filter(|_| is_request);
            let request = request.map(|id| CmId::own(id, self));
            let copy = Event::copy(&*event, request);
            (self.library.ack_cm_event)(event);
            Some(copy)
        }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: ours, and no identifier is on it any more, as each keeps it.
        unsafe { (self.library.destroy_event_channel)(self.raw.as_ptr()) };
    }
}
