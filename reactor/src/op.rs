//! Operations in flight.
//!
//! Cancellation contract: the kernel owns an operation's buffers from submission until its
//! completion arrives. Dropping the future that waits for an operation orphans it: nothing is
//! undone, the buffers and the file stay in the table, and both are released when the completion
//! comes. Only waits for a peer (poll, accept, connect) are also cancelled in the kernel, because
//! they might never end by themselves.
//!
//! `user_data` of a completion is generation (high 32 bits) and index (low 32 bits). A completion
//! whose generation is old is a broken invariant of the backend and panics with both keys.
//!
//! Bound: [`MAX_OPS`] operations per core. One more waits its turn in FIFO order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::backend::{Op, Outcome};
use crate::context::Core;
use crate::sync::wait_queue::Ticket;

/// Operations in flight per core.
pub const MAX_OPS: usize = 16_384;

/// Names an operation in flight: the backend hands it back with the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpKey {
    index: u32,
    generation: u32,
}

impl OpKey {
    /// The key as one word, for `user_data` and traces.
    pub fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`OpKey::to_word`].
    pub fn from_word(word: u64) -> OpKey {
        OpKey {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// Memory the io_uring backend points the kernel at; it stays with the table entry, so it is
/// recycled, and it is not touched while the entry's op is in flight.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) iovecs: Vec<libc::iovec>,
    pub(crate) addr: Option<Box<nix::sys::socket::SockaddrStorage>>,
}

enum State {
    Vacant,
    Submitted,
    Waiting(Waker),
    Orphaned,
    Done(io::Result<Outcome>),
}

struct Entry {
    generation: u32,
    state: State,
    op: Option<Op>,
    scratch: Scratch,
}

/// The table of operations in flight of one core.
pub(crate) struct OpTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    wakers: Vec<Waker>,
    orphans: Vec<Op>,
    in_flight: usize,
    /// Those of them that a disk will complete, whatever peers do.
    at_disks: usize,
}

impl OpTable {
    pub(crate) fn new() -> OpTable {
        OpTable {
            entries: Vec::with_capacity(256),
            free: Vec::with_capacity(256),
            wakers: Vec::with_capacity(256),
            orphans: Vec::with_capacity(64),
            in_flight: 0,
            at_disks: 0,
        }
    }

    /// Operations the backend has not completed yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a disk is at work on one of them.
    pub(crate) fn waits_for_disk(&self) -> bool {
        self.at_disks > 0
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.entries.len() < MAX_OPS
    }

    fn insert(&mut self, op: Op, waker: Waker) -> OpKey {
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(self.entries.len() < MAX_OPS, "insert without has_room");
            self.entries.push(Entry {
                generation: 0,
                state: State::Vacant,
                op: None,
                scratch: Scratch::default(),
            });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        self.at_disks += usize::from(!op.waits_for_peer());
        entry.op = Some(op);
        entry.state = State::Waiting(waker);
        self.in_flight += 1;
        OpKey {
            index,
            generation: entry.generation,
        }
    }

    fn entry_mut(&mut self, key: OpKey) -> &mut Entry {
        let entry = &mut self.entries[key.index as usize];
        assert!(
            entry.generation == key.generation,
            "operation {key:?} is stale: the entry is at generation {}",
            entry.generation
        );
        entry
    }

    fn release(&mut self, key: OpKey) -> Option<Op> {
        let entry = self.entry_mut(key);
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Vacant;
        let op = entry.op.take();
        self.free.push(key.index);
        op
    }

    pub(crate) fn op_and_scratch(&mut self, key: OpKey) -> Option<(&mut Op, &mut Scratch)> {
        let entry = self.entry_mut(key);
        Some((entry.op.as_mut()?, &mut entry.scratch))
    }

    fn complete(&mut self, key: OpKey, result: io::Result<Outcome>) {
        let entry = self.entry_mut(key);
        let from_disk = entry.op.as_ref().is_some_and(|op| !op.waits_for_peer());
        match std::mem::replace(&mut entry.state, State::Vacant) {
            State::Submitted => entry.state = State::Done(result),
            State::Waiting(waker) => {
                entry.state = State::Done(result);
                self.wakers.push(waker);
            }
            State::Orphaned => {
                let op = self.release(key);
                self.orphans.extend(op);
            }
            State::Vacant | State::Done(_) => panic!("operation {key:?} completed twice"),
        }
        self.in_flight -= 1;
        self.at_disks -= usize::from(from_disk);
    }

    /// The future is gone. Returns whether the backend should be asked to cancel.
    fn orphan(&mut self, key: OpKey) -> (bool, Option<Op>) {
        let entry = self.entry_mut(key);
        if matches!(entry.state, State::Done(_)) {
            return (false, self.release(key));
        }
        entry.state = State::Orphaned;
        let waits = entry.op.as_ref().is_some_and(Op::waits_for_peer);
        (waits, None)
    }

    /// Names and keys of everything in flight, for snapshots.
    pub(crate) fn snapshot(&self) -> Vec<(OpKey, &'static str)> {
        let live = self.entries.iter().enumerate().filter(|(_, entry)| {
            matches!(
                entry.state,
                State::Submitted | State::Waiting(_) | State::Orphaned
            )
        });
        live.filter_map(|(index, entry)| {
            let key = OpKey {
                index: index as u32,
                generation: entry.generation,
            };
            entry.op.as_ref().map(|op| (key, op.name()))
        })
        .collect()
    }

    /// Keys of orphans that wait for a peer: what a shutdown cancels.
    pub(crate) fn cancellable(&self) -> Vec<OpKey> {
        let waits = |entry: &Entry| entry.op.as_ref().is_some_and(Op::waits_for_peer);
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| matches!(entry.state, State::Orphaned) && waits(entry))
            .map(|(index, entry)| OpKey {
                index: index as u32,
                generation: entry.generation,
            })
            .collect()
    }

    /// Takes the ops of everything in flight out of the table; their completions never come.
    pub(crate) fn forget_in_flight(&mut self, ops: &mut Vec<Op>) -> usize {
        self.at_disks = 0;
        let in_flight = std::mem::take(&mut self.in_flight);
        for entry in &mut self.entries {
            if matches!(
                entry.state,
                State::Submitted | State::Waiting(_) | State::Orphaned
            ) {
                entry.state = State::Orphaned;
                ops.extend(entry.op.take());
            }
        }
        in_flight
    }

    /// Moves what completed since the last call into the caller's (empty, recycled) lists.
    pub(crate) fn take_finished(&mut self, wakers: &mut Vec<Waker>, orphans: &mut Vec<Op>) {
        std::mem::swap(&mut self.wakers, wakers);
        std::mem::swap(&mut self.orphans, orphans);
    }
}

/// Where a backend delivers completions. Nothing is woken before the backend has returned.
pub struct Completions<'a> {
    ops: &'a mut OpTable,
    count: usize,
}

impl<'a> Completions<'a> {
    pub(crate) fn new(ops: &'a mut OpTable) -> Completions<'a> {
        Completions { ops, count: 0 }
    }

    /// The operation behind `key`, to fill its read buffers. Panics on a stale key.
    pub fn op_mut(&mut self, key: OpKey) -> &mut Op {
        let Some((op, _)) = self.ops.op_and_scratch(key) else {
            panic!("operation {key:?} has no op: it was completed already");
        };
        op
    }

    /// The operation with the memory that was used for its submission.
    pub(crate) fn op_and_scratch(&mut self, key: OpKey) -> (&Op, &Scratch) {
        let Some((op, scratch)) = self.ops.op_and_scratch(key) else {
            panic!("operation {key:?} has no op: it was completed already");
        };
        (op, scratch)
    }

    /// Ends the operation. Panics on a stale key or a second completion.
    pub fn complete(&mut self, key: OpKey, result: io::Result<Outcome>) {
        self.ops.complete(key, result);
        self.count += 1;
    }

    /// How many were completed through this value.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Waits for one operation; submitted at the first poll.
pub(crate) struct OpFuture {
    core: Rc<Core>,
    stage: Stage,
}

enum Stage {
    New(Option<Op>, Option<Ticket>),
    InFlight(OpKey),
    Finished,
}

impl OpFuture {
    pub(crate) fn new(core: Rc<Core>, op: Op) -> OpFuture {
        OpFuture {
            core,
            stage: Stage::New(Some(op), None),
        }
    }

    /// Admits the op to the table, or queues for a place in FIFO order.
    fn poll_submit(&mut self, cx: &mut Context<'_>) {
        let Stage::New(op, ticket) = &mut self.stage else {
            return;
        };
        let mut admission = self.core.op_admission.borrow_mut();
        let mut ops = self.core.ops.borrow_mut();
        if !ops.has_room() || admission.is_queued_behind(*ticket) {
            admission.enqueue(ticket, cx.waker());
            return;
        }
        admission.leave(ticket);
        let next = if ops.has_room() {
            admission.head_waker()
        } else {
            None
        };
        let key = ops.insert(
            op.take().expect("an op is submitted once"),
            cx.waker().clone(),
        );
        self.stage = Stage::InFlight(key);
        drop(admission);
        self.core.submit(key, &mut ops);
        drop(ops);
        if let Some(waker) = next {
            waker.wake();
        }
    }

    fn poll_done(&mut self, key: OpKey, cx: &mut Context<'_>) -> Poll<(io::Result<Outcome>, Op)> {
        let mut ops = self.core.ops.borrow_mut();
        let entry = ops.entry_mut(key);
        match std::mem::replace(&mut entry.state, State::Submitted) {
            State::Done(result) => {
                let op = ops
                    .release(key)
                    .expect("a completed op is still in the table");
                drop(ops);
                self.stage = Stage::Finished;
                self.core.op_slot_freed();
                Poll::Ready((result, op))
            }
            _ => {
                entry.state = State::Waiting(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Future for OpFuture {
    type Output = (io::Result<Outcome>, Op);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::New(..) = self.stage {
            self.poll_submit(cx);
            return Poll::Pending;
        }
        let Stage::InFlight(key) = self.stage else {
            panic!("an operation was polled after it had finished");
        };
        self.poll_done(key, cx)
    }
}

impl Drop for OpFuture {
    fn drop(&mut self) {
        match &mut self.stage {
            Stage::New(_, ticket) => {
                let mut admission = self.core.op_admission.borrow_mut();
                let was_queued = ticket.is_some();
                admission.leave(ticket);
                drop(admission);
                if was_queued {
                    self.core.op_slot_freed();
                }
            }
            Stage::InFlight(key) => self.core.orphan(*key),
            Stage::Finished => {}
        }
    }
}

impl Core {
    /// Sends the op of `key` to the backend.
    fn submit(&self, key: OpKey, ops: &mut OpTable) {
        self.stats.ops_submitted.add(1);
        self.backend.borrow_mut().submit(key, ops);
    }

    fn orphan(&self, key: OpKey) {
        let (cancel, op) = self.ops.borrow_mut().orphan(key);
        if cancel {
            self.backend.borrow_mut().cancel(key);
        }
        if op.is_some() {
            self.op_slot_freed();
        }
    }

    /// A table entry became free: the first future in line may try again.
    pub(crate) fn op_slot_freed(&self) {
        let waker = self.op_admission.borrow().head_waker();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Handle, SimHandle};

    struct Number(u64);

    impl SimHandle for Number {
        fn id(&self) -> u64 {
            self.0
        }
    }

    fn handle() -> Handle {
        Handle::sim(Box::new(Number(1)))
    }

    #[test]
    fn only_what_a_disk_completes_counts_as_its_work() {
        let mut ops = OpTable::new();
        let waker = Waker::noop();
        let socket = ops.insert(Op::Readable { socket: handle() }, waker.clone());
        assert!(!ops.waits_for_disk(), "a peer may be silent for ever");
        let sync = || Op::Sync { file: handle() };
        let (first, second) = (
            ops.insert(sync(), waker.clone()),
            ops.insert(sync(), waker.clone()),
        );
        ops.complete(first, Ok(Outcome::Done));
        // Nobody waits for the second one any more; the disk is at work on it all the same.
        ops.orphan(second);
        assert!(ops.waits_for_disk());
        ops.complete(second, Ok(Outcome::Done));
        assert!(!ops.waits_for_disk());
        ops.complete(socket, Ok(Outcome::Done));
        assert_eq!(ops.in_flight(), 0);
        ops.insert(sync(), waker.clone());
        ops.forget_in_flight(&mut Vec::new());
        assert!(!ops.waits_for_disk());
    }
}
