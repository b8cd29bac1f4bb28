//! The send queue of one pair: what is posted, gathered and handed to the card at once.
//!
//! Work is a ring of slots in the order of posting, which is the order of completion too. A slot owns
//! its buffer until its work is known to be over: by its own completion, or by that of later work.
//! Sends and reads ask for a completion. Writes do not, unless half of the queue would have none: a
//! card finds room only by completions.
#![expect(unsafe_code, reason = "hands work requests to the card")]

use std::ptr;
use std::{io, mem};

use reactor::buf::Buf;

use super::ffi::{self, SendRequest, Sge};
use super::library::outcome;
use super::regions::Region;
use super::short::ShortMessages;
use super::status::work_error;
use crate::{Completion, Done, INLINE_BYTES, Payload, Remote, Work, WorkError};

/// Finds the region of a buffer.
pub trait Find: Fn(&Buf) -> Option<Region> {}
impl<F: Fn(&Buf) -> Option<Region>> Find for F {}

/// Why work was not taken.
pub enum Refused {
    /// No slot is free.
    Full(Work),
    /// It is wrong: memory that is shared, or that no core has registered.
    Wrong(Work),
}

/// The ring of slots, and the work requests that are made from them.
pub struct SendQueue {
    slots: Box<[Option<InFlight>]>,
    /// The oldest slot in use.
    head: usize,
    /// Slots in use.
    len: usize,
    /// How many of them the card has; the others wait for [`SendQueue::kick`].
    posted: usize,
    /// Work since the last that asked for a completion.
    silent: usize,
    requests: Box<[SendRequest]>,
    parts: Box<[Sge]>,
    short: ShortMessages,
}

struct InFlight {
    tag: u64,
    kind: Kind,
    buf: Option<Buf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Send,
    Read,
    Write,
}

impl SendQueue {
    /// An empty queue. `inline_bytes` is what the card takes out of a work request.
    /// Errors: `OutOfMemory`, only for a card that takes less than a short message.
    pub fn new(entries: u32, inline_bytes: u32, keys: impl Find) -> io::Result<SendQueue> {
        let count = entries as usize;
        let short = match inline_bytes as usize >= INLINE_BYTES {
            true => ShortMessages::Inline(vec![[0; INLINE_BYTES]; count].into_boxed_slice()),
            false => ShortMessages::registered(count, keys)?,
        };
        Ok(SendQueue {
            slots: (0..count).map(|_| None).collect(),
            head: 0,
            len: 0,
            posted: 0,
            silent: 0,
            requests: (0..count).map(|slot| empty_request(slot as u64)).collect(),
            parts: vec![Sge::default(); count].into_boxed_slice(),
            short,
        })
    }

    /// Slots that are free.
    pub fn room(&self) -> u32 {
        (self.slots.len() - self.len) as u32
    }

    /// Whether the card has any of it.
    pub fn is_with_card(&self) -> bool {
        self.posted > 0
    }

    /// Puts work in the next slot. The card gets it with the next [`SendQueue::kick`].
    pub fn push(&mut self, tag: u64, mut work: Work, keys: impl Find) -> Result<(), Refused> {
        if self.len == self.slots.len() {
            return Err(Refused::Full(work));
        }
        let slot = self.slot(self.len);
        let part = match &mut work {
            Work::Send {
                payload: Payload::Inline(message),
                ..
            } => Some(self.short.put(slot, message.bytes())),
            Work::Send {
                payload: Payload::Buf(buf),
                ..
            }
            | Work::Write { data: buf, .. } => readable(buf, keys),
            Work::Read { into, .. } => writable(into, keys),
        };
        let Some(part) = part else {
            return Err(Refused::Wrong(work));
        };
        self.parts[slot] = part;
        self.fill(slot, tag, work);
        self.len += 1;
        Ok(())
    }

    /// Writes the request of a slot whose part is there.
    fn fill(&mut self, slot: usize, tag: u64, work: Work) {
        let request = &mut self.requests[slot];
        request.num_sge = i32::from(self.parts[slot].length > 0);
        request.send_flags = ffi::SEND_SIGNALED;
        let (kind, buf) = match work {
            Work::Send {
                payload,
                invalidate,
            } => {
                request.opcode = match invalidate {
                    Some(_) => ffi::OPCODE_SEND_WITH_INVALIDATE,
                    None => ffi::OPCODE_SEND,
                };
                request.invalidate_rkey = invalidate.unwrap_or(0);
                let buf = match payload {
                    Payload::Inline(_) => {
                        request.send_flags |= self.short.flags();
                        None
                    }
                    Payload::Buf(buf) => Some(buf),
                };
                (Kind::Send, buf)
            }
            Work::Read { into, from } => {
                request.opcode = ffi::OPCODE_RDMA_READ;
                aim(request, from);
                (Kind::Read, Some(into))
            }
            Work::Write { data, to } => {
                request.opcode = ffi::OPCODE_RDMA_WRITE;
                aim(request, to);
                self.silent += 1;
                if self.silent * 2 < self.slots.len() {
                    request.send_flags = 0;
                }
                (Kind::Write, Some(data))
            }
        };
        if self.requests[slot].send_flags & ffi::SEND_SIGNALED != 0 {
            self.silent = 0;
        }
        self.slots[slot] = Some(InFlight { tag, kind, buf });
    }

    /// Hands everything that waits to the card, in one call. Errors: what the card said; what it
    /// did not take is still there.
    ///
    /// # Safety
    ///
    /// The queue pair is there, and so are the regions of the keys that the work was pushed with,
    /// until [`SendQueue::complete`] has given everything back or the pair is destroyed.
    pub unsafe fn kick(&mut self, pair: *mut ffi::Qp) -> io::Result<()> {
        let waiting = self.len - self.posted;
        if waiting == 0 {
            return Ok(());
        }
        let first = self.slot(self.posted);
        let (requests, parts) = (self.requests.as_mut_ptr(), self.parts.as_mut_ptr());
        let mut refused: *mut SendRequest = ptr::null_mut();
        let count = self.slots.len();
        // SAFETY: the indices are below the arrays' length. The requests are copied by the call; the
        // memory that they name is owned by the slots until the work is over.
        let result = unsafe {
            for at in 0..waiting {
                let slot = (first + at) % count;
                let request = requests.add(slot);
                (*request).sg_list = parts.add(slot);
                (*request).next = match at + 1 < waiting {
                    true => requests.add((slot + 1) % count),
                    false => ptr::null_mut(),
                };
            }
            let post = (*(*pair).context).ops.post_send;
            outcome(post(pair, requests.add(first), &mut refused))
        };
        self.posted += match (&result, refused.is_null()) {
            (Ok(()), _) => waiting,
            (Err(_), true) => 0,
            // SAFETY: it is one of the requests above.
            (Err(_), false) => {
                let slot = unsafe { (*refused).wr_id } as usize;
                ((slot + count - first) % count).min(waiting)
            }
        };
        result
    }

    /// The work of a slot is over, and so is all before it. What its user is to know goes to
    /// `give`. False when the card has no such slot.
    pub fn complete(&mut self, slot: u64, status: u32, mut give: impl FnMut(Completion)) -> bool {
        let count = self.slots.len();
        let Ok(slot) = usize::try_from(slot) else {
            return false;
        };
        let before = (slot.wrapping_add(count) - self.head) % count;
        if slot >= count || before >= self.posted {
            return false;
        }
        for _ in 0..before {
            let Some(earlier) = self.pop_posted() else {
                return false;
            };
            // Without a completion a write went well; the others always have one.
            if earlier.kind != Kind::Write {
                let (tag, error) = (earlier.tag, WorkError::Flushed);
                give(Completion::Failed { tag, error });
            }
        }
        let Some(work) = self.pop_posted() else {
            return false;
        };
        let tag = work.tag;
        match (work_error(status), work.kind, work.buf) {
            (Some(error), ..) => give(Completion::Failed { tag, error }),
            (None, Kind::Send, _) => give(done(tag, Done::Sent)),
            (None, Kind::Read, Some(buf)) => give(done(tag, Done::Read(buf))),
            (None, ..) => {}
        }
        true
    }

    /// Fails all that the card does not have. Call it when it has nothing (any more).
    pub fn fail_waiting(&mut self, mut give: impl FnMut(Completion)) {
        while self.posted < self.len {
            self.posted += 1;
        }
        while let Some(work) = self.pop_posted() {
            let (tag, error) = (work.tag, WorkError::Flushed);
            give(Completion::Failed { tag, error });
        }
    }

    /// Gives up on the card: fails everything, and leaks the buffers that it did not give back.
    /// Gives their number.
    pub fn abandon(&mut self, mut give: impl FnMut(Completion)) -> usize {
        let mut leaked = 0;
        while let Some(work) = self.pop_posted() {
            leaked += usize::from(work.buf.is_some());
            mem::forget(work.buf);
            let (tag, error) = (work.tag, WorkError::Flushed);
            give(Completion::Failed { tag, error });
        }
        if let ShortMessages::Registered { .. } = self.short {
            mem::forget(mem::replace(
                &mut self.short,
                ShortMessages::Inline(Box::default()),
            ));
        }
        self.fail_waiting(give);
        leaked
    }

    fn pop_posted(&mut self) -> Option<InFlight> {
        self.posted = self.posted.checked_sub(1)?;
        let work = self.slots[self.head].take();
        self.head = self.slot(1);
        self.len -= 1;
        work
    }

    /// The slot that many after the head.
    fn slot(&self, after: usize) -> usize {
        (self.head + after) % self.slots.len()
    }
}

fn done(tag: u64, done: Done) -> Completion {
    Completion::Done { tag, done }
}

fn aim(request: &mut SendRequest, remote: Remote) {
    request.remote_addr = remote.address;
    request.rkey = remote.key;
}

fn empty_request(wr_id: u64) -> SendRequest {
    SendRequest {
        wr_id,
        next: ptr::null_mut(),
        sg_list: ptr::null_mut(),
        num_sge: 0,
        opcode: 0,
        send_flags: 0,
        invalidate_rkey: 0,
        remote_addr: 0,
        rkey: 0,
        unused: [0; 9],
    }
}

/// The place of a buffer that the card reads; none when it is not registered.
fn readable(buf: &Buf, keys: impl Find) -> Option<Sge> {
    Some(Sge {
        addr: buf.as_ptr().expose_provenance() as u64,
        length: u32::try_from(buf.len()).ok()?,
        lkey: keys(buf)?.local_key,
    })
}

/// The place of a buffer that the card writes; none when it is shared or not registered.
fn writable(buf: &mut Buf, keys: impl Find) -> Option<Sge> {
    let lkey = keys(buf)?.local_key;
    let bytes = buf.try_mut()?;
    Some(Sge {
        addr: bytes.as_mut_ptr().expose_provenance() as u64,
        length: u32::try_from(bytes.len()).ok()?,
        lkey,
    })
}

#[cfg(test)]
mod tests;
