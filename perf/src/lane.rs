//! One queue with its connection, its stream of commands and its schedule.

use std::net::SocketAddr;
use std::time::Duration;

use crate::access::{Access, Next};
use crate::error::PerfError;
use crate::pace::Pace;
use crate::queue::{Done, Io, Kind, Link, Shape, Status};
use crate::stats::Stats;

/// A queue that is still to be connected.
#[derive(Debug)]
pub struct Prepared {
    /// The target.
    pub address: SocketAddr,
    /// Queue identifier.
    pub qid: u16,
    /// What is asked of it.
    pub shape: Shape,
    /// What writes send when no data is kept.
    pub pattern: Vec<u8>,
    /// What comes next.
    pub access: Access,
    /// When.
    pub pace: Pace,
}

impl Prepared {
    /// Puts it to work; `connect` makes its connection of number, shape and pattern.
    ///
    /// Errors: as `connect`, said of this queue.
    pub fn lane<L>(
        self,
        connect: impl FnOnce(u16, Shape, Vec<u8>) -> Result<L, PerfError>,
    ) -> Result<Lane<L>, PerfError> {
        let (address, qid) = (self.address, self.qid);
        let link = connect(qid, self.shape, self.pattern);
        Ok(Lane {
            address,
            qid,
            link: link.map_err(|error| error.on_queue(address, qid))?,
            access: self.access,
            pace: self.pace,
            io_bytes: self.shape.io_bytes,
        })
    }
}

/// A queue at work.
#[derive(Debug)]
pub struct Lane<L> {
    /// The target, for messages: a socket that was reset does not know it any more.
    pub address: SocketAddr,
    /// Queue identifier.
    pub qid: u16,
    /// Its connection.
    pub link: L,
    /// What comes next.
    pub access: Access,
    /// When.
    pub pace: Pace,
    /// Bytes of each read and write, for messages.
    pub io_bytes: u32,
}

impl<L: Link> Lane<L> {
    /// One receive; completions go to `done`. True when bytes came.
    pub fn receive(&mut self, done: &mut Vec<Done>) -> Result<bool, PerfError> {
        self.link.receive(done)
    }

    /// Counts completions that came at `now_ns`, and checks the data of verified reads.
    ///
    /// Errors: `Miscompare`; `Command` once more than `max_errors` commands failed.
    pub fn settle(
        &mut self,
        done: &[Done],
        now_ns: u64,
        stats: &mut Stats,
        max_errors: u64,
    ) -> Result<(), PerfError> {
        for one in done {
            if one.status.is_success() {
                stats.success(one, now_ns);
            } else {
                stats.failure(one.status);
            }
            let checked = self.access.done(one, self.link.buffer(one.cid));
            checked.map_err(|(offset, problem)| PerfError::Miscompare {
                what: self.describe(&one.io),
                offset,
                problem,
            })?;
            if !one.status.is_success() && stats.error_count > max_errors {
                return Err(self.command_failed(&one.io, one.status));
            }
        }
        Ok(())
    }

    /// Issues what is due and fits; gives how many.
    pub fn issue(&mut self, now_ns: u64) -> Result<u32, PerfError> {
        let mut issued = 0;
        while self.link.has_room() {
            let Some(intended_ns) = self.pace.take(now_ns) else {
                break;
            };
            let next = self.access.next();
            self.submit(next, intended_ns, now_ns)?;
            issued += 1;
        }
        Ok(issued)
    }

    /// Issues reads of what was written; gives how many.
    pub fn issue_read_back(&mut self, now_ns: u64) -> Result<u32, PerfError> {
        let mut issued = 0;
        while self.link.has_room() {
            let Some(next) = self.access.read_back() else {
                break;
            };
            self.submit(next, now_ns, now_ns)?;
            issued += 1;
        }
        Ok(issued)
    }

    fn submit(&mut self, next: Next, intended_ns: u64, issued_ns: u64) -> Result<(), PerfError> {
        let io = Io {
            kind: next.kind,
            unit: next.unit,
            fua: next.fua,
            intended_ns,
            issued_ns,
        };
        let fill = |data: &mut [u8]| {
            if let Some(stamp) = next.stamp {
                stamp.fill(data);
            }
        };
        self.link.submit(io, next.choice, fill)
    }

    /// Sends what the connection takes; gives how many calls it made.
    pub fn send(&mut self) -> Result<u32, PerfError> {
        self.link.send()
    }

    /// Errors: `Timeout` when a command is in flight for longer than `limit`.
    pub fn check_timeout(&self, now_ns: u64, limit: Duration) -> Result<(), PerfError> {
        let Some(oldest) = self.link.oldest() else {
            return Ok(());
        };
        let age = Duration::from_nanos(now_ns.saturating_sub(oldest.issued_ns));
        if age <= limit {
            return Ok(());
        }
        Err(PerfError::Timeout {
            in_flight: self.link.in_flight(),
            after_ms: age.as_millis() as u64,
            oldest: self.describe(oldest),
        })
    }

    fn command_failed(&self, io: &Io, status: Status) -> PerfError {
        PerfError::Command {
            what: self.describe(io),
            status,
        }
    }

    fn describe(&self, io: &Io) -> String {
        let offset = io.unit * u64::from(self.io_bytes);
        let fua = if io.fua { " with FUA" } else { "" };
        match io.kind {
            Kind::Read => format!("read of {} bytes at byte {offset}", self.io_bytes),
            Kind::Write => format!("write of {} bytes at byte {offset}{fua}", self.io_bytes),
            Kind::Flush => "flush".to_owned(),
        }
    }
}
