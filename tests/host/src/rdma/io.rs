//! An I/O queue over RDMA with commands by name.

use std::time::Duration;

use wire::fabrics::disconnect::Disconnect;

use super::Queue;
use crate::op::Encoded;
use crate::{Cid, Command, Completion, HostError, Op};

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
    pub async fn submit(&mut self, op: Op) -> Result<Cid, HostError> {
        match op.encode(self.block_bytes)? {
            Encoded::One(command) => self.queue.submit(command).await,
            Encoded::Fused(first, second) => self.queue.submit_fused(first, second).await,
        }
    }

    /// Waits for the next completion.
    pub async fn next_completion(&mut self) -> Result<Completion, HostError> {
        self.queue.next_completion().await
    }

    /// Waits at most `limit` for the next completion.
    pub async fn poll_completion(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Completion>, HostError> {
        self.queue.poll_completion(limit).await
    }

    /// One command from start to end; errors: `Command` when its status is not success.
    pub async fn run(&mut self, what: &'static str, op: Op) -> Result<Completion, HostError> {
        let cid = self.submit(op).await?;
        self.queue.wait_for(cid).await?.ok(what)
    }

    /// Reads `count` blocks.
    pub async fn read(&mut self, lba: u64, count: u32) -> Result<Vec<u8>, HostError> {
        let done = self.run("Read", Op::Read { lba, count }).await?;
        done.into_data("Read")
    }

    /// Writes whole blocks.
    pub async fn write(&mut self, lba: u64, data: &[u8], fua: bool) -> Result<(), HostError> {
        let data = data.to_vec();
        let op = Op::Write { lba, data, fua };
        self.run("Write", op).await.map(drop)
    }

    /// Flushes.
    pub async fn flush(&mut self) -> Result<(), HostError> {
        self.run("Flush", Op::Flush).await.map(drop)
    }

    /// Ends the queue with the Disconnect command.
    pub async fn disconnect(mut self) -> Result<(), HostError> {
        let command = Command::bare(Disconnect::new(0).to_sqe());
        self.queue.call("Disconnect", command).await.map(drop)
    }
}
