//! Payloads that stay in memory while the index names them, within a budget.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::pages::PAGE_BYTES;

/// Names a retained payload, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadId(u32);

impl PayloadId {
    pub const NONE: PayloadId = PayloadId(u32::MAX);
}

/// With less than this in memory a flush cycle would cost more than it saves.
const LEAST_BYTES: usize = 4 << 20;

/// Payload memory that the volumes of a pool share.
#[derive(Debug, Default)]
pub(crate) struct PayloadBudget {
    used_bytes: Cell<usize>,
    limit_bytes: usize,
}

impl PayloadBudget {
    pub fn new(limit_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            used_bytes: Cell::new(0),
            limit_bytes,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used_bytes.get() + bytes;
        let fits = used <= self.limit_bytes;
        if fits {
            self.used_bytes.set(used);
        }
        fits
    }

    /// Whether hardly anything is left.
    fn is_short(&self) -> bool {
        self.used_bytes.get() > self.limit_bytes / 8 * 7
    }

    fn give(&self, bytes: usize) {
        self.used_bytes.set(self.used_bytes.get() - bytes);
    }
}

/// Payloads kept in memory. Over budget the oldest go first; while a flush cycle runs, only those
/// that it has written, and when there are none the new one is not kept: the cycle needs the oldest
/// next, and would have to read each from the journal. (4 KiB random writes beyond the journal on a
/// disk, with pages of a cluster gathered in `flush::fold`: +23 % [11 - 32], and 0.27 device reads a
/// write in place of 0.45.)
pub(super) struct Payloads {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots in order of age, with the generation they had.
    oldest: VecDeque<(u32, u32)>,
    /// While a cycle runs: slots of which it has written a page, with the generation they had.
    written: Option<VecDeque<(u32, u32)>>,
    pub(super) bytes: usize,
    /// Payloads that could not be kept, of a pool that keeps any.
    pub(super) refused: u64,
    budget: Rc<PayloadBudget>,
}

struct Slot {
    buf: Option<Buf>,
    first_page: u64,
    /// Page entries that name it.
    refs: u32,
    generation: u32,
}

impl Payloads {
    pub(super) fn new(budget: Rc<PayloadBudget>) -> Self {
        Self {
            slots: Vec::with_capacity(1024),
            free: Vec::with_capacity(1024),
            oldest: VecDeque::with_capacity(1024),
            written: None,
            bytes: 0,
            refused: 0,
            budget,
        }
    }

    pub(super) fn add(&mut self, first_page: u64, buf: &Buf) -> PayloadId {
        if self.budget.limit_bytes == 0 {
            return PayloadId::NONE;
        }
        let cost = buf.buffer_bytes();
        while !self.budget.take(cost) {
            if !self.evict() {
                self.refused += 1;
                return PayloadId::NONE;
            }
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                buf: None,
                first_page: 0,
                refs: 0,
                generation: 0,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.buf = Some(buf.clone());
        slot.first_page = first_page;
        slot.refs = 0;
        self.oldest.push_back((index, slot.generation));
        self.bytes += cost;
        PayloadId(index)
    }

    /// Whether memory runs short and this volume has a good part of it.
    pub(super) fn is_short(&self) -> bool {
        let worth_a_cycle = (self.budget.limit_bytes / 8).max(LEAST_BYTES);
        self.budget.is_short() && self.bytes > worth_a_cycle
    }

    pub(super) fn take(&mut self, id: PayloadId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.refs += 1;
        }
    }

    pub(super) fn release(&mut self, id: PayloadId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        slot.refs -= 1;
        if slot.refs > 0 {
            return;
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.drop_memory(id.0);
        self.free.push(id.0);
        self.forget_stale();
    }

    /// A cycle begins: until it has ended, what it has not written yet is not dropped.
    pub(super) fn hold(&mut self) {
        self.written = Some(VecDeque::new());
    }

    /// The cycle has ended.
    pub(super) fn let_go(&mut self) {
        self.written = None;
    }

    /// The running cycle has written a page of this payload to its place.
    pub(super) fn note_written(&mut self, id: PayloadId) {
        let slot = self.slots.get(id.0 as usize);
        if let (Some(slot), Some(written)) = (slot, &mut self.written) {
            written.push_back((id.0, slot.generation));
        }
    }

    /// Drops the memory of one of this volume's payloads; false when there is none that may go.
    /// Its entries stay, and are read from the journal from now on.
    fn evict(&mut self) -> bool {
        let queue = self.written.as_mut().unwrap_or(&mut self.oldest);
        let Some((index, generation)) = queue.pop_front() else {
            return false;
        };
        if self.slots[index as usize].generation == generation {
            self.drop_memory(index);
        }
        true
    }

    fn drop_memory(&mut self, index: u32) {
        let cost = self.slots[index as usize]
            .buf
            .take()
            .as_ref()
            .map_or(0, Buf::buffer_bytes);
        self.bytes -= cost;
        self.budget.give(cost);
    }

    /// Keeps the queue of ages no longer than the live slots need.
    fn forget_stale(&mut self) {
        while let Some((index, generation)) = self.oldest.front().copied() {
            let slot = &self.slots[index as usize];
            if slot.generation == generation && slot.buf.is_some() {
                return;
            }
            self.oldest.pop_front();
        }
    }

    pub(super) fn page(&self, page: u64, id: PayloadId) -> Option<Buf> {
        let (buf, at) = self.find(page, id)?;
        Some(buf.slice(at..at + PAGE_BYTES))
    }

    pub(super) fn copy_page(&self, page: u64, id: PayloadId, into: &mut [u8]) -> bool {
        let Some((buf, at)) = self.find(page, id) else {
            return false;
        };
        into.copy_from_slice(&buf[at..at + PAGE_BYTES]);
        true
    }

    pub(super) fn holds(&self, id: PayloadId) -> bool {
        self.slots
            .get(id.0 as usize)
            .is_some_and(|slot| slot.buf.is_some())
    }

    fn find(&self, page: u64, id: PayloadId) -> Option<(&Buf, usize)> {
        let slot = self.slots.get(id.0 as usize)?;
        let buf = slot.buf.as_ref()?;
        Some((buf, (page - slot.first_page) as usize * PAGE_BYTES))
    }
}

impl Drop for Payloads {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}
