//! An I/O queue with commands by name.

use std::time::Duration;

use wire::fabrics::disconnect::Disconnect;

use crate::op::Encoded;
use crate::{Cid, Command, Completion, HostError, Op, Queue};

/// One I/O queue of a controller: pipelined, or one command at a time.
#[derive(Debug)]
pub struct IoQueue {
    queue: Queue,
    block_bytes: usize,
}

impl IoQueue {
    pub(crate) fn new(queue: Queue, block_bytes: usize) -> Self {
        Self { queue, block_bytes }
    }

    /// Logical block size in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// The queue below.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Commands without an answer; a fused pair counts twice.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// Sends a command and gives its identifier. Errors: `QueueFull` and connection errors.
    pub fn submit(&mut self, op: Op) -> Result<Cid, HostError> {
        match op.encode(self.block_bytes)? {
            Encoded::One(command) => self.queue.submit(command),
            Encoded::Fused(first, second) => self.queue.submit_fused(first, second),
        }
    }

    /// Waits for the next completion.
    pub fn next_completion(&mut self) -> Result<Completion, HostError> {
        self.queue.next_completion()
    }

    /// Waits at most `limit` for the next completion.
    pub fn poll_completion(&mut self, limit: Duration) -> Result<Option<Completion>, HostError> {
        self.queue.poll_completion(limit)
    }

    /// One command from start to end; errors: `Command` when its status is not success.
    pub fn run(&mut self, what: &'static str, op: Op) -> Result<Completion, HostError> {
        let cid = self.submit(op)?;
        self.queue.wait_for(cid)?.ok(what)
    }

    /// Reads `count` blocks.
    pub fn read(&mut self, lba: u64, count: u32) -> Result<Vec<u8>, HostError> {
        self.run("Read", Op::Read { lba, count })?.into_data("Read")
    }

    /// Writes whole blocks.
    pub fn write(&mut self, lba: u64, data: &[u8], fua: bool) -> Result<(), HostError> {
        self.run(
            "Write",
            Op::Write {
                lba,
                data: data.to_vec(),
                fua,
            },
        )
        .map(drop)
    }

    /// Flushes.
    pub fn flush(&mut self) -> Result<(), HostError> {
        self.run("Flush", Op::Flush).map(drop)
    }

    /// Writes zeroes; with `deallocate` the target may give the space back.
    pub fn write_zeroes(
        &mut self,
        lba: u64,
        count: u32,
        deallocate: bool,
    ) -> Result<(), HostError> {
        self.run(
            "Write Zeroes",
            Op::WriteZeroes {
                lba,
                count,
                deallocate,
            },
        )
        .map(drop)
    }

    /// Deallocates ranges of first block and count.
    pub fn deallocate(&mut self, ranges: &[(u64, u32)]) -> Result<(), HostError> {
        self.run("Dataset Management", Op::Deallocate(ranges.to_vec()))
            .map(drop)
    }

    /// Compares; errors: `Command` with Compare Failure when the blocks differ.
    pub fn compare(&mut self, lba: u64, data: &[u8]) -> Result<(), HostError> {
        self.run(
            "Compare",
            Op::Compare {
                lba,
                data: data.to_vec(),
            },
        )
        .map(drop)
    }

    /// Compares and, when equal, writes, as one fused pair.
    pub fn compare_and_write(
        &mut self,
        lba: u64,
        compare: &[u8],
        write: &[u8],
    ) -> Result<(), HostError> {
        let (compare, write) = (compare.to_vec(), write.to_vec());
        self.run(
            "Compare and Write",
            Op::CompareAndWrite {
                lba,
                compare,
                write,
            },
        )
        .map(drop)
    }

    /// Checks that blocks can be read without transferring them.
    pub fn verify(&mut self, lba: u64, count: u32) -> Result<(), HostError> {
        self.run("Verify", Op::Verify { lba, count }).map(drop)
    }

    /// Ends the queue with the Disconnect command.
    pub fn disconnect(mut self) -> Result<(), HostError> {
        self.queue
            .call("Disconnect", Command::bare(Disconnect::new(0).to_sqe()))
            .map(drop)
    }
}
