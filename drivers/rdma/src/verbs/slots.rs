//! The slots of a shared receive queue: which are with the card, and how they get there.
#![expect(unsafe_code, reason = "hands work requests to the card")]

use std::ptr;

use reactor::buf::Buf;

use super::ffi::{self, ReceiveRequest, Sge};
use super::library::outcome;

/// Parts of a receive: the header, and what comes after it.
pub const PARTS: usize = 2;

/// The slots of a shared receive queue, and the work requests that are made from them.
pub struct Slots {
    /// What is known of each.
    pub slots: Box<[Slot]>,
    requests: Box<[ReceiveRequest]>,
    /// [`PARTS`] for each slot.
    pub parts: Box<[Sge]>,
    /// Slots to be posted with the next [`Receives::post`], but for as many as are held.
    pub ready: Vec<u32>,
    /// Slots that are being posted.
    pub batch: Vec<u32>,
    /// Slots that wait for a buffer.
    pub waiting: Vec<u32>,
}

/// One receive.
#[derive(Default)]
pub struct Slot {
    /// The buffer for what comes after the header; none while it has to get one.
    pub data: Option<Buf>,
    /// Whether the card has it.
    pub is_posted: bool,
}

impl Slots {
    /// All of them are to be posted.
    pub fn new(entries: u32) -> Slots {
        let count = entries as usize;
        let request = |slot| ReceiveRequest {
            wr_id: super::RECEIVE | u64::from(slot),
            next: ptr::null_mut(),
            sg_list: ptr::null_mut(),
            num_sge: 0,
        };
        let mut ready = Vec::with_capacity(count);
        ready.extend(0..entries);
        Slots {
            slots: (0..entries).map(|_| Slot::default()).collect(),
            requests: (0..entries).map(request).collect(),
            parts: vec![Sge::default(); count * PARTS].into_boxed_slice(),
            ready,
            batch: Vec::with_capacity(count),
            waiting: Vec::with_capacity(count),
        }
    }

    /// Posts the batch in one call. Gives how many the card did not take; those are ready again.
    pub fn post(&mut self, queue: *mut ffi::Srq) -> usize {
        if self.batch.is_empty() {
            return 0;
        }
        let (requests, parts) = (self.requests.as_mut_ptr(), self.parts.as_mut_ptr());
        let mut next = ptr::null_mut();
        let mut refused: *mut ReceiveRequest = ptr::null_mut();
        // SAFETY: slots are indices of both arrays, which are not touched otherwise meanwhile. The
        // card copies the requests. The memory that they name is a header, which nobody else
        // touches until the completion, and a buffer that its slot owns alone.
        let result = unsafe {
            for &slot in self.batch.iter().rev() {
                let request = requests.add(slot as usize);
                let parts = parts.add(slot as usize * PARTS);
                (*request).next = next;
                (*request).sg_list = parts;
                (*request).num_sge = if (*parts.add(1)).length == 0 { 1 } else { 2 };
                next = request;
            }
            let post = (*(*queue).context).ops.post_srq_recv;
            outcome(post(queue, next, &mut refused))
        };
        let taken = match (result, refused.is_null()) {
            (Ok(()), _) => self.batch.len(),
            (Err(_), true) => 0,
            // SAFETY: it is one of the requests above.
            (Err(_), false) => {
                let slot = unsafe { (*refused).wr_id } as u32;
                let place = self.batch.iter().position(|&other| other == slot);
                place.unwrap_or(0)
            }
        };
        for slot in self.batch.drain(..taken) {
            self.slots[slot as usize].is_posted = true;
        }
        let left = self.batch.len();
        self.ready.append(&mut self.batch);
        left
    }
}
