//! The commands in flight on a queue, whatever carries them.

use std::collections::{BTreeMap, VecDeque};

use wire::nvme::Cqe;
use wire::tcp::PduType;

use crate::{Completion, HostError};

/// Identifier of a command in flight.
pub type Cid = u16;

/// What a transport keeps of a command in flight.
pub(crate) trait Transfer {
    /// The command is done: checks that the transport did all that its answer says.
    fn finish(self, cid: Cid, cqe: Cqe) -> Result<Completion, HostError>;
}

/// Half of a fused pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fused {
    /// A command of its own.
    No,
    /// The Compare; the partner is the Write.
    First { partner: Cid },
    /// The Write.
    Second { partner: Cid },
}

#[derive(Debug)]
struct Flying<T> {
    transfer: T,
    fused: Fused,
    /// The answer of a fused half whose partner is still in flight.
    held: Option<Cqe>,
}

/// Commands in flight, and completions that nobody took yet.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: u32,
    next_cid: Cid,
    flying: BTreeMap<Cid, Flying<T>>,
    done: VecDeque<Completion>,
}

impl<T: Transfer> Table<T> {
    /// Nothing in flight on a queue of `entries` entries.
    pub fn new(entries: u32) -> Self {
        Self {
            entries,
            next_cid: 0,
            flying: BTreeMap::new(),
            done: VecDeque::new(),
        }
    }

    /// Commands without an answer.
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Their identifiers.
    pub fn cids(&self) -> Vec<Cid> {
        self.flying.keys().copied().collect()
    }

    /// Most commands that can be in flight: one entry of the ring stays free.
    pub fn capacity(&self) -> usize {
        self.entries as usize - 1
    }

    /// A free identifier when `wanted` commands fit.
    ///
    /// Errors: `QueueFull`.
    pub fn free_cid(&mut self, wanted: usize) -> Result<Cid, HostError> {
        if self.flying.len() + wanted > self.capacity() {
            return Err(HostError::QueueFull {
                entries: self.capacity(),
            });
        }
        while self.flying.contains_key(&self.next_cid) {
            self.next_cid = self.next_cid.wrapping_add(1);
        }
        let cid = self.next_cid;
        self.next_cid = cid.wrapping_add(1);
        Ok(cid)
    }

    /// A command of its own.
    pub fn insert(&mut self, cid: Cid, transfer: T) {
        let flying = Flying {
            transfer,
            fused: Fused::No,
            held: None,
        };
        self.flying.insert(cid, flying);
    }

    /// Two commands in flight are one pair: both completions are given as one, under `second`: the
    /// first one that failed, else the second.
    pub fn fuse(&mut self, first: Cid, second: Cid) {
        if let Some(flying) = self.flying.get_mut(&first) {
            flying.fused = Fused::First { partner: second };
        }
        if let Some(flying) = self.flying.get_mut(&second) {
            flying.fused = Fused::Second { partner: first };
        }
    }

    /// What is kept of command `cid`, which `kind` names.
    ///
    /// Errors: `Protocol` when it is not in flight.
    pub fn find(&mut self, kind: PduType, cid: Cid) -> Result<&mut T, HostError> {
        self.flying(kind, cid).map(|flying| &mut flying.transfer)
    }

    fn flying(&mut self, kind: PduType, cid: Cid) -> Result<&mut Flying<T>, HostError> {
        self.flying.get_mut(&cid).ok_or_else(|| unknown(kind, cid))
    }

    /// Takes an answer.
    ///
    /// Errors: `Protocol` for one that belongs to no command, and as [`Transfer::finish`].
    pub fn complete(&mut self, cqe: Cqe) -> Result<(), HostError> {
        let cid = cqe.cid.get();
        let kind = PduType::CAPSULE_RESP;
        let fused = self.flying(kind, cid)?.fused;
        let (Fused::First { partner } | Fused::Second { partner }) = fused else {
            return self.deliver(cid, cqe);
        };
        if self.flying(kind, cid)?.held.replace(cqe).is_some() {
            return Err(HostError::Protocol {
                kind,
                cid,
                problem: "completed twice",
            });
        }
        let Some(other) = self.flying(kind, partner)?.held else {
            return Ok(());
        };
        let (first, second, cid) = match fused {
            Fused::First { partner } => (cqe, other, partner),
            _ => (other, cqe, cid),
        };
        self.flying.remove(&first.cid.get());
        let failed = !first.status().is_success();
        self.deliver(cid, if failed { first } else { second })
    }

    fn deliver(&mut self, cid: Cid, cqe: Cqe) -> Result<(), HostError> {
        let flying = self.flying.remove(&cid);
        let flying = flying.ok_or_else(|| unknown(PduType::CAPSULE_RESP, cid))?;
        self.done.push_back(flying.transfer.finish(cid, cqe)?);
        Ok(())
    }

    /// The next completion, in the controller's order.
    pub fn next_done(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    /// The completion of `cid`, if it is here.
    pub fn take_done(&mut self, cid: Cid) -> Option<Completion> {
        let at = self.done.iter().position(|done| done.cid == cid)?;
        self.done.remove(at)
    }
}

fn unknown(kind: PduType, cid: Cid) -> HostError {
    let problem = "no such command is in flight";
    HostError::Protocol { kind, cid, problem }
}
