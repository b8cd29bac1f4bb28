//! The handle of a volume that frontends hold.

use std::rc::Rc;

use crate::core::Core;
use crate::error::VolumeError;
#[cfg(feature = "testing")]
use crate::memory::Memory;
use crate::metrics::{Metrics, MetricsSnapshot, add};
use crate::request::{BlockStatus, Command, Completion, Request, VolumeInfo, VolumeState};

/// A volume on its home core. Cloning is a reference count; the handle is `!Send`.
#[derive(Clone)]
pub struct Volume {
    backing: Backing,
}

/// What serves the requests.
#[derive(Clone)]
enum Backing {
    Engine(Rc<Core>),
    #[cfg(feature = "testing")]
    Memory(Rc<Memory>),
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume")
            .field("name", &self.info().name)
            .finish_non_exhaustive()
    }
}

impl Volume {
    pub(crate) fn from_core(core: Rc<Core>) -> Self {
        Self {
            backing: Backing::Engine(core),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn from_memory(memory: Rc<Memory>) -> Self {
        Self {
            backing: Backing::Memory(memory),
        }
    }

    /// What never changes: identity, capacity, block size.
    pub fn info(&self) -> &VolumeInfo {
        match &self.backing {
            Backing::Engine(core) => core.info(),
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => memory.info(),
        }
    }

    /// Whether requests are taken, and if not, why.
    pub fn state(&self) -> VolumeState {
        match &self.backing {
            Backing::Engine(core) => core.state(),
            #[cfg(feature = "testing")]
            Backing::Memory(_) => VolumeState::Live,
        }
    }

    /// Counters, histograms and gauges as plain data. Cost: copies the histograms.
    pub fn metrics(&self) -> MetricsSnapshot {
        match &self.backing {
            Backing::Engine(core) => core.metrics.snapshot(core.gauges()),
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => memory.metrics.snapshot(Default::default()),
        }
    }

    /// Executes one request and returns when its effect is there: for a write, in the journal on
    /// the device and visible to every later read; with FUA or for Flush, safe from power loss.
    ///
    /// Errors: see [`VolumeError`](crate::VolumeError); a failed request changed nothing, except
    /// that after `Device` a write may or may not have happened.
    /// Cancel: dropping the future before the data reached the journal undoes the request, later
    /// it completes unseen; either way it is counted. Cost: no heap allocation after warm-up.
    pub async fn execute(&self, request: Request) -> Completion {
        let metrics = self.live_metrics();
        let kind = request.command.kind();
        let start = reactor::now();
        let bytes = transfer_bytes(&request.command, self.info());
        let guard = InFlight::new(metrics);
        let completion = match &self.backing {
            Backing::Engine(core) => core.execute(request).await,
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => memory.execute(request).await,
        };
        guard.completed();
        metrics.finished(kind, bytes, start, completion.as_ref().err());
        completion
    }

    /// Whether the blocks from `lba` on hold data, and for how many this is so.
    ///
    /// Errors: `OutOfRange`, `Closed`, `Store` when the map cannot be read.
    /// Cost: looks at 16,384 pages (64 MiB) at most, a map leaf at a time; a longer run ends there.
    pub async fn block_status(&self, lba: u64) -> Result<BlockStatus, VolumeError> {
        match &self.backing {
            Backing::Engine(core) => core.block_status(lba).await,
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => memory.block_status(lba),
        }
    }

    /// What the volume keeps of its reservations through power loss; none when it keeps nothing.
    ///
    /// Errors: `Store` when it cannot be read or is damaged: it stays as it is until replaced.
    pub async fn load_reservations(&self) -> Result<Vec<u8>, VolumeError> {
        match &self.backing {
            Backing::Engine(core) => core.load_reservations().await,
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => Ok(memory.reservations.borrow().clone()),
        }
    }

    /// Replaces what the volume keeps of its reservations; when this returns they survive power
    /// loss.
    ///
    /// Errors: `PoolFull`; `Store`, after which either is found at the next open when the pool
    /// stopped. Cancel: it goes on by itself. Cost: a write and a publish.
    pub async fn store_reservations(&self, bytes: Vec<u8>) -> Result<(), VolumeError> {
        match &self.backing {
            Backing::Engine(core) => core.store_reservations(bytes).await,
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => {
                // As a real volume: others run meanwhile.
                reactor::yield_now().await;
                memory.reservations.replace(bytes);
                Ok(())
            }
        }
    }

    fn live_metrics(&self) -> &Metrics {
        match &self.backing {
            Backing::Engine(core) => &core.metrics,
            #[cfg(feature = "testing")]
            Backing::Memory(memory) => &memory.metrics,
        }
    }
}

/// Bytes a request moves or covers, for the byte counters.
fn transfer_bytes(command: &Command, info: &VolumeInfo) -> u64 {
    let block_bytes = u64::from(info.block_bytes);
    match command {
        Command::Read { block_count, .. } | Command::Verify { block_count, .. } => {
            u64::from(*block_count) * block_bytes
        }
        Command::Write { data, .. }
        | Command::WriteAtomic { data, .. }
        | Command::Compare { data, .. }
        | Command::Or { data, .. } => data.len() as u64,
        Command::CompareAndWrite { write, .. } => write.len() as u64,
        Command::WriteZeroes { block_count, .. } => block_count.saturating_mul(block_bytes),
        Command::Deallocate { ranges } => ranges
            .iter()
            .map(|range| u64::from(range.block_count) * block_bytes)
            .sum(),
        Command::Flush => 0,
    }
}

/// Counts a request that is dropped before it completes.
struct InFlight<'a> {
    metrics: &'a Metrics,
    completed: bool,
}

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        add(&metrics.in_flight, 1);
        Self {
            metrics,
            completed: false,
        }
    }

    fn completed(mut self) {
        self.completed = true;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let in_flight = &self.metrics.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
        if !self.completed {
            add(&self.metrics.dropped, 1);
        }
    }
}
