//! A test's hand on one disk of its world.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::disk::{Cx, Disk, DiskFaults, FaultAtlas, Image};
use super::state::State;
use super::trace::EventKind;

/// Looks at a disk and breaks it. Cheap to clone; programs never see it.
#[derive(Clone)]
pub struct DiskHandle {
    state: Rc<RefCell<State>>,
    disk: usize,
}

impl DiskHandle {
    pub(crate) fn new(state: Rc<RefCell<State>>, disk: usize) -> Self {
        Self { state, disk }
    }

    fn look<R>(&self, f: impl FnOnce(&Disk) -> R) -> R {
        f(&self.state.borrow().disks[self.disk])
    }

    /// Changes by hand are part of the trace.
    fn act<R>(&self, f: impl FnOnce(&mut Disk, &mut Cx<'_>) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let name = state.disks[self.disk].name.clone();
        state.trace(EventKind::Test, &name, [0; 3]);
        state.with_disk(self.disk, f)
    }

    /// The disk's name, which is the path programs open.
    #[must_use]
    pub fn name(&self) -> String {
        self.look(|disk| disk.name.clone())
    }

    /// Size in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.look(|disk| disk.options.len_bytes)
    }

    /// What a read would return now, without faults.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.look(|disk| disk.peek(range.start, &mut out));
        out
    }

    /// What is there for certain after power loss.
    #[must_use]
    pub fn durable_bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.look(|disk| disk.peek_durable(range.start, &mut out));
        out
    }

    /// Overwrites bytes behind everyone's back, durably.
    pub fn corrupt(&self, offset: u64, data: &[u8]) {
        self.act(|disk, _| disk.poke(offset, data));
    }

    /// Flips the lowest bit of the byte at `offset`, durably.
    pub fn flip_bit(&self, offset: u64) {
        self.act(|disk, cx| disk.flip_bit(offset, 0, cx));
    }

    /// The next write lands at `to` instead.
    pub fn misdirect_next_write(&self, to: u64) {
        self.act(|disk, _| disk.misdirect_next_write(to));
    }

    /// The next write is acknowledged and never applied.
    pub fn lose_next_write(&self) {
        self.act(|disk, _| disk.lose_next_write());
    }

    /// The next write fails with EIO; it may be applied, partly or not at all.
    pub fn fail_next_write(&self) {
        self.act(|disk, _| disk.fail_next_write());
    }

    /// The next read fails with EIO.
    pub fn fail_next_read(&self) {
        self.act(|disk, _| disk.fail_next_read());
    }

    /// The next sync fails with EIO; with `drop_data` the un-synced writes are gone for good.
    pub fn fail_next_sync(&self, drop_data: bool) {
        self.act(|disk, _| disk.fail_next_sync(drop_data));
    }

    /// Every block that overlaps the range is unreadable (EIO) until it is written again.
    pub fn latent_error(&self, range: Range<u64>) {
        self.act(|disk, cx| disk.add_latent_error(range, cx));
    }

    /// Makes all latent errors readable again, with the data that was there.
    pub fn clear_latent_errors(&self) {
        self.act(|disk, _| disk.clear_latent_errors());
    }

    /// Everything fails with ENODEV, or works again.
    pub fn set_gone(&self, gone: bool) {
        self.act(|disk, _| disk.set_gone(gone));
    }

    /// Writes that need new space (never written or discarded pages) fail with ENOSPC.
    pub fn set_full(&self, full: bool) {
        self.act(|disk, _| disk.set_full(full));
    }

    /// Every operation that begins from now on takes this much longer.
    pub fn set_slow(&self, extra: Duration) {
        let extra_ns = u64::try_from(extra.as_nanos()).unwrap_or(u64::MAX / 4);
        self.act(|disk, _| disk.set_extra_ns(extra_ns));
    }

    /// Changes what may go wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.act(|disk, _| disk.options.faults = faults);
    }

    /// Changes where random damage is allowed from now on.
    pub fn set_atlas(&self, atlas: FaultAtlas) {
        self.act(|disk, _| disk.options.atlas = atlas);
    }

    /// No more faults by chance, present again, not full, not slow. Damage done stays.
    pub fn heal(&self) {
        self.act(|disk, _| disk.heal());
    }

    /// The bytes as reads see them, to restore later. Cheap.
    #[must_use]
    pub fn snapshot(&self) -> Image {
        self.look(Disk::image)
    }

    /// The bytes that survive power loss for certain. Cheap.
    #[must_use]
    pub fn durable_snapshot(&self) -> Image {
        self.look(Disk::durable_image)
    }

    /// Replaces all bytes, durably; clears latent errors.
    pub fn restore(&self, image: Image) {
        self.act(|disk, _| disk.restore(image));
    }

    /// Completed writes and discards that no sync has made durable.
    #[must_use]
    pub fn unsynced_writes(&self) -> usize {
        self.look(Disk::unsynced_writes)
    }

    /// Operations that have begun and not finished.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.look(Disk::in_flight_len)
    }

    /// Finished reads, writes and syncs so far, in this order, failed ones included.
    #[must_use]
    pub fn operations(&self) -> (u64, u64, u64) {
        self.look(|disk| (disk.reads_total, disk.writes_total, disk.syncs_total))
    }

    /// Bytes of the image that take memory.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.look(|disk| disk.image().allocated_bytes())
    }
}
