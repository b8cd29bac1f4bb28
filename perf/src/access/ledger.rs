//! What a verifying queue knows about its own units.
//!
//! A queue owns its part of the span alone, and never has two commands on one unit when one of
//! them writes; so for every read there is exactly one right answer.

use super::stamp::Stamp;
use crate::queue::{Done, Kind};

/// Not written by this run.
const NEVER: u32 = 0;
/// A write failed: the unit may hold its old or its new data.
const UNKNOWN: u32 = u32::MAX;

/// Versions of the units of one queue.
#[derive(Debug)]
pub struct Ledger {
    run: u64,
    first: u64,
    versions: Vec<u32>,
    busy: Vec<bool>,
    writes: u32,
    next_check: usize,
    checked: u64,
}

impl Ledger {
    /// The units from `first` on.
    pub fn new(run: u64, first: u64, count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            run,
            first,
            versions: vec![NEVER; count],
            busy: vec![false; count],
            writes: 0,
            next_check: 0,
            checked: 0,
        }
    }

    /// Reads that were compared.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// The unit to use instead of `unit` so that no other command is on it. The caller sees to it
    /// that there are more units than commands.
    pub fn reserve(&mut self, unit: u64) -> u64 {
        let count = self.busy.len();
        let start = (unit - self.first) as usize;
        let free = (0..count)
            .map(|step| (start + step) % count)
            .find(|place| !self.busy[*place])
            .unwrap_or(start);
        self.busy[free] = true;
        self.first + free as u64
    }

    /// The stamp of a new write of `unit`, which is reserved.
    pub fn stamp(&mut self, unit: u64) -> Stamp {
        self.writes = if self.writes >= UNKNOWN - 1 {
            1
        } else {
            self.writes + 1
        };
        let place = (unit - self.first) as usize;
        self.versions[place] = self.writes;
        self.expected(unit)
    }

    /// The next unit to read back at the end, reserved; `None` when all were.
    pub fn read_back(&mut self) -> Option<u64> {
        while let Some(version) = self.versions.get(self.next_check) {
            let place = self.next_check;
            self.next_check += 1;
            if ![NEVER, UNKNOWN].contains(version) && !self.busy[place] {
                self.busy[place] = true;
                return Some(self.first + place as u64);
            }
        }
        None
    }

    /// Takes a completion; `data` is what a read brought.
    ///
    /// Errors: the first wrong byte and a sentence about it.
    pub fn done(&mut self, done: &Done, data: &[u8]) -> Result<(), (usize, String)> {
        if done.io.kind == Kind::Flush {
            return Ok(());
        }
        let place = (done.io.unit - self.first) as usize;
        self.busy[place] = false;
        let good = done.status.is_success();
        match done.io.kind {
            Kind::Write if !good => self.versions[place] = UNKNOWN,
            Kind::Read if good && ![NEVER, UNKNOWN].contains(&self.versions[place]) => {
                self.checked += 1;
                return self.expected(done.io.unit).check(data);
            }
            _ => {}
        }
        Ok(())
    }

    fn expected(&self, unit: u64) -> Stamp {
        Stamp {
            run: self.run,
            unit,
            version: self.versions[(unit - self.first) as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::nvme::Status;

    use super::*;
    use crate::queue::Io;

    fn done(kind: Kind, unit: u64, status: Status) -> Done {
        let io = Io {
            kind,
            unit,
            fua: false,
            intended_ns: 0,
            issued_ns: 0,
        };
        Done {
            cid: 0,
            io,
            status: status.into(),
        }
    }

    fn write(ledger: &mut Ledger, unit: u64, status: Status) -> Vec<u8> {
        assert_eq!(ledger.reserve(unit), unit);
        let mut data = vec![0; 512];
        ledger.stamp(unit).fill(&mut data);
        ledger.done(&done(Kind::Write, unit, status), &[]).unwrap();
        data
    }

    #[test]
    fn a_read_must_bring_the_last_write() {
        let mut ledger = Ledger::new(9, 100, 10);
        let old = write(&mut ledger, 103, Status::SUCCESS);
        let new = write(&mut ledger, 103, Status::SUCCESS);
        let read = done(Kind::Read, 103, Status::SUCCESS);
        assert_eq!(ledger.done(&read, &new), Ok(()));
        assert!(ledger.done(&read, &old).is_err());
        assert_eq!(ledger.checked(), 2);
    }

    #[test]
    fn unwritten_and_failed_units_are_not_judged() {
        let mut ledger = Ledger::new(9, 0, 10);
        let read = |unit| done(Kind::Read, unit, Status::SUCCESS);
        assert_eq!(ledger.done(&read(1), &[1; 512]), Ok(()));
        write(&mut ledger, 2, Status::WRITE_FAULT);
        assert_eq!(ledger.done(&read(2), &[1; 512]), Ok(()));
        assert_eq!(ledger.checked(), 0);
    }

    #[test]
    fn a_busy_unit_is_passed_over() {
        let mut ledger = Ledger::new(9, 50, 3);
        assert_eq!(ledger.reserve(52), 52);
        assert_eq!(ledger.reserve(52), 50, "wraps within its part");
        ledger
            .done(&done(Kind::Read, 52, Status::SUCCESS), &[])
            .unwrap();
        assert_eq!(ledger.reserve(52), 52);
    }

    #[test]
    fn everything_written_is_read_back_once() {
        let mut ledger = Ledger::new(9, 0, 10);
        write(&mut ledger, 3, Status::SUCCESS);
        write(&mut ledger, 7, Status::SUCCESS);
        write(&mut ledger, 8, Status::WRITE_FAULT);
        let units: Vec<u64> = std::iter::from_fn(|| ledger.read_back()).collect();
        assert_eq!(units, [3, 7]);
    }
}
