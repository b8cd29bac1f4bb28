//! The commands in flight.

use super::Io;

/// One command in flight.
#[derive(Debug)]
pub struct Slot<T> {
    /// The command.
    pub io: Io,
    /// Where its data starts in the queue's payload.
    pub payload: usize,
    /// What the protocol keeps about its data.
    pub transfer: T,
}

/// All slots of a queue; the slot's number is the command identifier.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u16>,
}

impl<T: Default> Slots<T> {
    /// `depth` free slots.
    pub fn new(depth: u16) -> Self {
        Self {
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
        }
    }

    /// Slots in use.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a command into a free slot; `None` when all are in use.
    pub fn take(&mut self, io: Io) -> Option<u16> {
        let cid = self.free.pop()?;
        *self.slots.get_mut(usize::from(cid))? = Some(Slot {
            io,
            payload: 0,
            transfer: T::default(),
        });
        Some(cid)
    }

    /// Says where the data of a command lies.
    pub fn set_payload(&mut self, cid: u16, start: usize) {
        if let Some(slot) = self.get(cid) {
            slot.payload = start;
        }
    }

    /// The command `cid`, if it is in flight.
    pub fn get(&mut self, cid: u16) -> Option<&mut Slot<T>> {
        self.slots.get_mut(usize::from(cid))?.as_mut()
    }

    /// Ends the command `cid`.
    pub fn free(&mut self, cid: u16) {
        let slot = self.slots.get_mut(usize::from(cid)).and_then(Option::take);
        if slot.is_some() {
            self.free.push(cid);
        }
    }

    /// The command that was issued first.
    pub fn oldest(&self) -> Option<&Io> {
        let in_flight = self.slots.iter().flatten().map(|slot| &slot.io);
        in_flight.min_by_key(|io| io.issued_ns)
    }
}
