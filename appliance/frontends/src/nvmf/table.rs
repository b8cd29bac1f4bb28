//! The commands in flight on one queue: a fixed table of slots, found by identifier or by tag.
//!
//! Everything is allocated when the queue is connected; nothing afterwards. The table goes with its
//! connection from core to core, so that slots, tags and the queue head are the same there.
//! Source: base 2.0 section 3.3 (queues); NVMe/TCP 1.0 section 3.3.2 (transfer tags).

use reactor::buf::Buf;
use rustc_hash::FxHashMap;
use wire::nvme::{Sqe, Status};

use crate::nvmf::io::IoCommand;

/// Most slots of a table: the index is the low part of a 16-bit transfer tag.
pub const MAX_SLOTS: u16 = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 10;

/// Where a command is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing in the slot.
    #[default]
    Free,
    /// Waits for payload memory; can be aborted.
    Queued,
    /// Its data is coming; can be aborted.
    Receiving,
    /// Its data is here, its fused partner's is not; can be aborted.
    Held,
    /// With the volume, where a single command can still be aborted, or an admin command at work.
    Executing,
    /// Waits for an asynchronous event.
    Waiting,
    /// Aborted while its data was on the way: the data is swallowed, then the slot is free.
    Draining,
}

/// One command in flight.
#[derive(Debug)]
pub struct Slot {
    /// The command as it came.
    pub sqe: Sqe,
    /// Where it is.
    pub phase: Phase,
    /// What it does, on an I/O queue.
    pub io: Option<IoCommand>,
    /// Payload memory, while the transport fills it.
    pub data: Option<Buf>,
    /// Payload bytes charged to the connection.
    pub held_bytes: usize,
    /// Length of the data the host sends.
    pub expected_bytes: u32,
    /// How much of it is here.
    pub received_bytes: u32,
    /// Data came but its digest was wrong.
    pub damaged: bool,
    /// It has failed, and is answered so when its data has come.
    pub failed: Option<Status>,
    /// The other half of a fused pair.
    pub partner: Option<u16>,
    /// When the current wait for the host's data began or last made progress.
    pub progress: reactor::Instant,
    /// Differs each time the slot is used again.
    serial: u32,
}

/// Why a command cannot enter the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its identifier is in use.
    DuplicateCid,
    /// More commands than the queue has entries: the host broke flow control.
    Full,
}

/// The table of one queue.
#[derive(Debug)]
pub struct CommandTable {
    slots: Vec<Slot>,
    free: Vec<u16>,
    by_cid: FxHashMap<u16, u16>,
    draining: u16,
    entries: u16,
    sqhd: u16,
}

impl CommandTable {
    /// A table for a queue of `entries` entries, at most [`MAX_SLOTS`].
    pub fn new(entries: u16) -> Self {
        let entries = entries.clamp(1, MAX_SLOTS);
        let mut by_cid = FxHashMap::default();
        // Twice the entries: the map then reuses deleted places and never grows.
        by_cid.reserve(2 * usize::from(entries));
        Self {
            slots: (0..entries).map(|_| Slot::empty(0)).collect(),
            free: (0..entries).rev().collect(),
            by_cid,
            draining: 0,
            entries,
            sqhd: 0,
        }
    }

    /// Sets the queue head, for commands that were answered before the table was made.
    pub fn start_at(&mut self, sqhd: u16) {
        self.sqhd = sqhd % self.entries;
    }

    /// Queue head to report: the next entry the controller will fetch.
    pub fn sqhd(&self) -> u16 {
        self.sqhd
    }

    /// Entries of the queue: the slots there are.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Commands that the host still waits for.
    pub fn in_flight(&self) -> usize {
        self.by_cid.len()
    }

    /// Enters a command. The queue head moves also when it is refused for its identifier.
    pub fn admit(&mut self, sqe: &Sqe) -> Result<u16, Refusal> {
        let cid = sqe.cid.get();
        if self.by_cid.contains_key(&cid) {
            self.advance();
            return Err(Refusal::DuplicateCid);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.reclaim().ok_or(Refusal::Full)?,
        };
        self.advance();
        self.by_cid.insert(cid, index);
        let slot = &mut self.slots[usize::from(index)];
        let serial = slot.serial.wrapping_add(1);
        *slot = Slot {
            sqe: *sqe,
            phase: Phase::Queued,
            ..Slot::empty(serial)
        };
        Ok(index)
    }

    /// A slot by index.
    pub fn slot(&self, index: u16) -> &Slot {
        &self.slots[usize::from(index)]
    }

    /// A slot by index, to change.
    pub fn slot_mut(&mut self, index: u16) -> &mut Slot {
        &mut self.slots[usize::from(index)]
    }

    /// The slot of the command with this identifier.
    pub fn find(&self, cid: u16) -> Option<u16> {
        self.by_cid.get(&cid).copied()
    }

    /// Transfer tag of a slot: differs each time the slot is used again, until it repeats.
    pub fn ttag(&self, index: u16) -> u16 {
        ((self.slot(index).serial as u16) << INDEX_BITS) | index
    }

    /// Which use of a slot this is.
    pub fn serial(&self, index: u16) -> u32 {
        self.slot(index).serial
    }

    /// True while this use of the slot still waits for data, or swallows it.
    pub fn waits(&self, index: u16, serial: u32) -> bool {
        let slot = self.slots.get(usize::from(index));
        slot.is_some_and(|slot| {
            slot.serial == serial && matches!(slot.phase, Phase::Receiving | Phase::Draining)
        })
    }

    /// The slot that waits for data under this tag.
    pub fn by_ttag(&self, ttag: u16) -> Option<u16> {
        let index = ttag & (MAX_SLOTS - 1);
        if index >= self.entries || self.ttag(index) != ttag {
            return None;
        }
        let waits = matches!(self.slot(index).phase, Phase::Receiving | Phase::Draining);
        waits.then_some(index)
    }

    /// The command has been answered: frees its slot.
    pub fn retire(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        match std::mem::take(&mut slot.phase) {
            Phase::Free => return,
            Phase::Draining => self.draining -= 1,
            _ => {
                self.by_cid.remove(&slot.sqe.cid.get());
            }
        }
        slot.data = None;
        slot.io = None;
        slot.partner = None;
        self.free.push(index);
    }

    /// The command has been answered but its data is still on the way.
    pub fn drain(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        self.by_cid.remove(&slot.sqe.cid.get());
        slot.phase = Phase::Draining;
        slot.data = None;
        slot.partner = None;
        self.draining += 1;
    }

    /// Slots in use, draining ones too.
    pub fn used(&self) -> impl Iterator<Item = (u16, &Slot)> {
        let all = self
            .slots
            .iter()
            .enumerate()
            .map(|(index, slot)| (index as u16, slot));
        all.filter(|(_, slot)| slot.phase != Phase::Free)
    }

    fn advance(&mut self) {
        self.sqhd = if self.sqhd + 1 >= self.entries {
            0
        } else {
            self.sqhd + 1
        };
    }

    /// A host that never sends the data of aborted commands must not lose its slots for ever.
    fn reclaim(&mut self) -> Option<u16> {
        if self.draining == 0 {
            return None;
        }
        let index = self
            .slots
            .iter()
            .position(|slot| slot.phase == Phase::Draining)?;
        self.retire(index as u16);
        self.free.pop()
    }
}

impl Slot {
    fn empty(serial: u32) -> Self {
        Self {
            sqe: Sqe::zeroed(),
            phase: Phase::Free,
            io: None,
            data: None,
            held_bytes: 0,
            expected_bytes: 0,
            received_bytes: 0,
            damaged: false,
            failed: None,
            partner: None,
            progress: reactor::Instant::from_nanos(0),
            serial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(cid: u16) -> Sqe {
        Sqe::flush(cid, 1)
    }

    #[test]
    fn a_full_table_refuses_and_the_head_wraps() {
        let mut table = CommandTable::new(3);
        let slots: Vec<u16> = (0..3)
            .map(|cid| table.admit(&command(cid)).expect("there is room"))
            .collect();
        assert_eq!(table.sqhd(), 0, "three entries wrap to the first");
        assert_eq!(table.admit(&command(9)), Err(Refusal::Full));
        assert_eq!(table.admit(&command(1)), Err(Refusal::DuplicateCid));
        table.retire(slots[1]);
        assert!(table.admit(&command(9)).is_ok());
        assert_eq!(table.in_flight(), 3);
    }

    #[test]
    fn a_tag_is_good_for_one_transfer() {
        let mut table = CommandTable::new(4);
        let index = table.admit(&command(1)).expect("there is room");
        let ttag = table.ttag(index);
        assert_eq!(table.by_ttag(ttag), None, "no data was asked for yet");
        table.slot_mut(index).phase = Phase::Receiving;
        assert_eq!(table.by_ttag(ttag), Some(index));
        table.retire(index);
        let again = table.admit(&command(2)).expect("there is room");
        table.slot_mut(again).phase = Phase::Receiving;
        assert_eq!(again, index, "the slot is used again");
        assert_eq!(table.by_ttag(ttag), None, "its old tag is not");
        assert_eq!(table.by_ttag(MAX_SLOTS - 1), None, "no such slot");
    }

    #[test]
    fn slots_of_aborted_commands_come_back() {
        let mut table = CommandTable::new(2);
        for cid in 0..2 {
            let index = table.admit(&command(cid)).expect("there is room");
            table.slot_mut(index).phase = Phase::Receiving;
            table.drain(index);
        }
        assert_eq!(table.in_flight(), 0, "the host has its answers");
        for cid in 0..2 {
            assert!(
                table.admit(&command(cid)).is_ok(),
                "a draining slot is reclaimed"
            );
        }
        assert_eq!(table.admit(&command(7)), Err(Refusal::Full));
    }

    #[test]
    fn retiring_twice_changes_nothing() {
        let mut table = CommandTable::new(2);
        let index = table.admit(&command(1)).expect("there is room");
        table.retire(index);
        table.retire(index);
        assert!(table.admit(&command(2)).is_ok());
        assert!(table.admit(&command(3)).is_ok());
        assert_eq!(table.admit(&command(4)), Err(Refusal::Full));
    }
}
