//! The receives of a core: one shared receive queue for all its queue pairs on a device.
//!
//! A receive has two parts: a header in a place of its own, and a page-aligned buffer for what comes
//! after it. A completed receive gives its buffer away and gets a fresh one; when the pool has none it
//! waits, and the queue is one shorter until then.
#![expect(
    unsafe_code,
    reason = "calls the verbs library; reads what the card wrote"
)]

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

use reactor::buf::{self, Buf};
use reactor::sync::Notify;

use super::device::Device;
use super::ffi::{self, Sge, WorkCompletion};
use super::keys::Keys;
use super::library::{made, outcome};
use super::slots::{PARTS, Slot, Slots};
use crate::{HEADER_BYTES, Received, inbox};

/// Receives whose headers fit in one buffer.
const ENTRIES_MAX: u32 = (buf::MAX_BUF_BYTES / HEADER_BYTES) as u32;

/// A shared receive queue and the memory of its receives.
pub struct Receives {
    device: Arc<Device>,
    keys: Rc<Keys>,
    raw: *mut ffi::Srq,
    data_bytes: usize,
    /// Owns the headers. Its bytes are only touched through `header`, since the card writes to the
    /// headers of posted receives at any time.
    headers: Buf,
    header: NonNull<u8>,
    header_key: u32,
    state: RefCell<Slots>,
    /// Messages that wait in inboxes. As many slots are not posted: a user who takes nothing is
    /// not sent more than there are receives.
    held: Cell<usize>,
    /// Nobody polls: what is ready to be posted is posted at once.
    quiet: Cell<bool>,
    short: Cell<u64>,
    hungry: Notify,
}

/// What became of a receive.
pub enum Arrival {
    /// A message, for the queue pair of the completion.
    Message(Received),
    /// The receive failed, with its pair.
    Failed,
    /// A completion of nothing that was posted.
    Unknown,
}

impl Receives {
    /// A queue of `entries` receives, fewer where the device or a buffer's size do not allow that
    /// many, all of them posted as far as the pool has memory. Errors: what the system says.
    pub fn new(keys: &Rc<Keys>, device: &Arc<Device>, entries: u32, data: u32) -> io::Result<Self> {
        let limits = device.limits();
        let entries = entries.clamp(1, limits.receive_entries.clamp(1, ENTRIES_MAX));
        let data_bytes = data as usize;
        let no_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        if data_bytes > buf::MAX_BUF_BYTES || limits.receive_parts < PARTS as u32 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut headers = buf::engine_pool()
            .try_alloc(entries as usize * HEADER_BYTES)
            .ok_or_else(no_memory)?;
        headers.zero_fill();
        let header_key = keys.find(&headers).ok_or_else(no_memory)?.local_key;
        let header = headers.try_mut().map(|bytes| NonNull::from(bytes).cast());
        let header = header.ok_or_else(no_memory)?;
        let mut attributes = ffi::SrqInitAttr {
            srq_context: ptr::null_mut(),
            max_wr: entries,
            max_sge: PARTS as u32,
            srq_limit: 0,
        };
        // SAFETY: the domain is there while the device is.
        let raw = unsafe { (device.library().create_srq)(device.domain(), &mut attributes) };
        let receives = Self {
            device: device.clone(),
            keys: keys.clone(),
            raw: made(raw)?,
            data_bytes,
            headers,
            header,
            header_key,
            state: RefCell::new(Slots::new(entries)),
            held: Cell::new(0),
            quiet: Cell::new(true),
            short: Cell::new(0),
            hungry: Notify::new(),
        };
        receives.post();
        Ok(receives)
    }

    /// The library's handle.
    pub fn raw(&self) -> *mut ffi::Srq {
        self.raw
    }

    /// Receives that the queue has when no memory is short.
    pub fn entries(&self) -> u32 {
        self.state.borrow().slots.len() as u32
    }

    /// Receives that are posted, or are about to be.
    pub fn posted(&self) -> u32 {
        let waiting = self.state.borrow().waiting.len();
        self.entries()
            .saturating_sub((waiting + self.held.get()) as u32)
    }

    /// Whether nobody polls, and so calls [`Receives::post`] soon.
    pub fn set_quiet(&self, quiet: bool) {
        self.quiet.set(quiet);
    }

    /// Times that there was no memory for one.
    pub fn short(&self) -> u64 {
        self.short.get()
    }

    /// Takes a completed receive. It is posted anew by the next [`Receives::post`].
    pub fn complete(&self, slot: u32, completion: &WorkCompletion) -> Arrival {
        let mut state = self.state.borrow_mut();
        let Slots { slots, ready, .. } = &mut *state;
        let Some(entry) = slots.get_mut(slot as usize) else {
            return Arrival::Unknown;
        };
        if !std::mem::replace(&mut entry.is_posted, false) {
            return Arrival::Unknown;
        }
        ready.push(slot);
        if completion.status != ffi::STATUS_SUCCESS {
            return Arrival::Failed;
        }
        self.held.set(self.held.get() + 1);
        let len_bytes = completion.byte_len;
        let header = self.header(slot, len_bytes as usize);
        let data_bytes = (len_bytes as usize).saturating_sub(HEADER_BYTES);
        let data = match data_bytes {
            0 => None,
            _ => entry.data.take().map(|mut data| {
                data.truncate(data_bytes);
                data
            }),
        };
        let by_peer = completion.wc_flags & ffi::COMPLETION_WITH_INVALIDATE != 0;
        Arrival::Message(Received {
            header,
            len_bytes,
            data,
            invalidated: by_peer.then_some(completion.invalidated_rkey),
        })
    }

    /// The header of a receive that has completed, with zeroes beyond the end of the message.
    fn header(&self, slot: u32, len_bytes: usize) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        // SAFETY: the slot is below the number that the buffer has room for (it has an entry in the
        // table), and the card has done with its header; no reference to the bytes exists.
        unsafe {
            let from = self.header.add(slot as usize * HEADER_BYTES).as_ptr();
            let len = len_bytes.min(HEADER_BYTES);
            ptr::copy_nonoverlapping(from, header.as_mut_ptr(), len);
        }
        header
    }

    /// Posts what was taken since, as far as there is memory. Cost: one call for all.
    pub fn post(&self) {
        let mut state = self.state.borrow_mut();
        let count = state.ready.len().saturating_sub(self.held.get());
        if count == 0 {
            return;
        }
        self.feed(&mut state, count);
        let left = state.post(self.raw);
        if left > 0 {
            // Tried again with the next completions.
            let device = self.device.name();
            tracing::error!(device, left, "receives cannot be posted");
        }
    }

    /// Gives `count` slots that are to be posted a buffer each; those that get none wait.
    fn feed(&self, state: &mut Slots, count: usize) {
        let Slots {
            slots,
            parts,
            ready,
            batch,
            waiting,
            ..
        } = state;
        let was_short = waiting.len();
        for slot in ready.drain(..count) {
            let entry = &mut slots[slot as usize];
            let parts = &mut parts[slot as usize * PARTS..][..PARTS];
            if self.data_bytes > 0 && entry.data.is_none() {
                entry.data = buf::try_alloc(self.data_bytes);
            }
            match self.describe(slot, entry, parts) {
                true => batch.push(slot),
                false => waiting.push(slot),
            }
        }
        let more = waiting.len() - was_short;
        if more > 0 {
            self.short.set(self.short.get() + more as u64);
            self.hungry.notify_one();
        }
    }

    /// Says where the parts of a receive lie. False when there is no (registered) buffer.
    fn describe(&self, slot: u32, entry: &mut Slot, parts: &mut [Sge]) -> bool {
        let header = self.header.as_ptr().expose_provenance() as u64;
        parts[0] = Sge {
            addr: header + u64::from(slot) * HEADER_BYTES as u64,
            length: HEADER_BYTES as u32,
            lkey: self.header_key,
        };
        if self.data_bytes == 0 {
            return true;
        }
        let Some(data) = &mut entry.data else {
            return false;
        };
        let (Some(region), Some(bytes)) = (self.keys.find(data), data.try_mut()) else {
            return false;
        };
        parts[1] = Sge {
            addr: bytes.as_mut_ptr().expose_provenance() as u64,
            length: bytes.len() as u32,
            lkey: region.local_key,
        };
        true
    }

    /// Waits for memory for the slots that have none, for ever. One task of the core runs this.
    pub async fn refill(&self) {
        loop {
            self.hungry.notified().await;
            while let Some(slot) = self.next_waiting() {
                let data = buf::alloc(self.data_bytes).await;
                let mut state = self.state.borrow_mut();
                state.waiting.retain(|&other| other != slot);
                state.slots[slot as usize].data = Some(data);
                state.ready.push(slot);
                drop(state);
                self.post();
                reactor::next_turn().await;
            }
        }
    }

    fn next_waiting(&self) -> Option<u32> {
        self.state.borrow().waiting.last().copied()
    }
}

impl inbox::Receives for Receives {
    fn taken(&self, count: usize) {
        self.held.set(self.held.get().saturating_sub(count));
        if self.quiet.get() {
            self.post();
        }
    }
}

impl Drop for Receives {
    fn drop(&mut self) {
        // SAFETY: ours; its queue pairs are gone, as each keeps this.
        let destroyed = outcome(unsafe { (self.device.library().destroy_srq)(self.raw) });
        if let Err(error) = destroyed {
            // The card may still write to them: they are never reused.
            tracing::error!(%error, "a shared receive queue stays: its memory is leaked");
            let state = self.state.get_mut();
            for slot in &mut state.slots {
                std::mem::forget(slot.data.take());
            }
            std::mem::forget(self.headers.clone());
            std::mem::forget(self.device.clone());
        }
    }
}
