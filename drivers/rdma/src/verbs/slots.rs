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

    /// Gives a slot that waits a buffer; it is to be posted.
    pub fn feed_waiting(&mut self, slot: u32, data: Buf) {
        self.waiting.retain(|&other| other != slot);
        self.slots[slot as usize].data = Some(data);
        self.ready.push(slot);
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
            (Err(_), false) => {
                // SAFETY: it is one of the requests above.
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::ffi::c_int;
    use std::mem::MaybeUninit;

    use super::*;

    thread_local! {
        /// Slot and number of parts of each receive that the card was handed.
        static HANDED: RefCell<Vec<(u64, c_int)>> = const { RefCell::new(Vec::new()) };
        /// Receives that are taken before one is refused.
        static TAKES: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    unsafe extern "C" fn post_srq_recv(
        _queue: *mut ffi::Srq,
        first: *mut ReceiveRequest,
        refused: *mut *mut ReceiveRequest,
    ) -> c_int {
        let mut next = first;
        while !next.is_null() {
            // SAFETY: the slots link requests that are there during the call.
            let request = unsafe { &*next };
            if TAKES.get() == 0 {
                // SAFETY: as the interface of the card has it.
                unsafe { *refused = next };
                return libc::ENOMEM;
            }
            TAKES.set(TAKES.get() - 1);
            let slot = request.wr_id & !super::super::RECEIVE;
            HANDED.with_borrow_mut(|all| all.push((slot, request.num_sge)));
            next = request.next;
        }
        0
    }

    /// Posts to a card that writes down what it is handed. Gives what it did not take, and that.
    fn post(slots: &mut Slots, takes: usize) -> (usize, Vec<(u64, c_int)>) {
        let mut context = MaybeUninit::<ffi::Context>::zeroed();
        let mut queue = MaybeUninit::<ffi::Srq>::zeroed();
        // SAFETY: writes to fields of memory that is there.
        unsafe {
            (&raw mut (*context.as_mut_ptr()).ops.post_srq_recv).write(post_srq_recv);
            (&raw mut (*queue.as_mut_ptr()).context).write(context.as_mut_ptr());
        }
        TAKES.set(takes);
        (slots.post(queue.as_mut_ptr()), HANDED.take())
    }

    #[test]
    fn receives_are_posted_in_one_call() {
        let mut slots = Slots::new(4);
        assert_eq!(post(&mut slots, 9), (0, vec![]), "none is in the batch");
        slots.batch.extend([2, 0, 3]);
        slots.parts[2 * PARTS + 1].length = 4096;
        let handed = vec![(2, 2), (0, 1), (3, 1)];
        assert_eq!(post(&mut slots, 9), (0, handed));
        let posted: Vec<bool> = slots.slots.iter().map(|slot| slot.is_posted).collect();
        assert_eq!(posted, [true, false, true, true]);
        assert!(slots.batch.is_empty());
    }

    #[test]
    fn what_the_card_refuses_is_ready_again() {
        let mut slots = Slots::new(4);
        slots.batch.append(&mut slots.ready);
        let (left, handed) = post(&mut slots, 1);
        assert_eq!((left, handed.len()), (3, 1));
        assert_eq!(slots.ready, [1, 2, 3]);
        let posted = slots.slots.iter().filter(|slot| slot.is_posted).count();
        assert_eq!(posted, 1);
    }

    #[test]
    fn a_fed_slot_waits_no_more() {
        let pool = reactor::buf::BufPool::new(4 << 20, "test").unwrap();
        let mut slots = Slots::new(4);
        slots.ready.clear();
        slots.waiting.extend([3, 1]);
        slots.feed_waiting(3, pool.try_alloc(4096).unwrap());
        assert_eq!((&slots.waiting[..], &slots.ready[..]), (&[1][..], &[3][..]));
        assert!(slots.slots[3].data.is_some());
    }
}
