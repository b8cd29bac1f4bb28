//! What crashes and tests do to a disk, as opposed to what programs do.

use std::ops::Range;

use super::cache::{Change, Fate};
use super::{Cx, Disk, Flying, Image, OneShot};
use crate::sim::trace::FaultKind;

impl Disk {
    /// The process on `node` died: each of its writes in flight is applied, torn or lost; nobody
    /// will hear of them. Returns whether anything was in flight.
    pub(crate) fn kill(&mut self, node: usize, cx: &mut Cx<'_>) {
        let ids: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, f)| f.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(flying) = self.in_flight.remove(&id) else {
                continue;
            };
            if let Flying::Change { offset, change } = flying.op {
                self.interrupt(offset, &change, cx);
            }
        }
    }

    fn interrupt(&mut self, offset: u64, change: &Change, cx: &mut Cx<'_>) {
        let writable = !self.gone && offset + change.len() <= self.options.len_bytes;
        let is_full = self.full
            && matches!(change, Change::Write(_))
            && !self
                .media
                .view()
                .is_allocated(offset..offset + change.len());
        if !writable || is_full {
            return;
        }
        let kind = match self.apply_parts(offset, change, cx) {
            Fate::Kept => FaultKind::InFlightApplied,
            Fate::Lost => FaultKind::InFlightLost,
            Fate::Torn => FaultKind::InFlightTorn,
        };
        self.fault(cx, kind, offset..offset + change.len());
    }

    /// The node lost power: like `kill`, then the cache decides over each un-synced write.
    pub(crate) fn power_loss(&mut self, node: usize, cx: &mut Cx<'_>) {
        self.kill(node, cx);
        let (name, now_ns) = (&self.name, cx.now_ns);
        let log = &mut *cx.log;
        let block = self.options.logical_block;
        self.media.power_loss(
            cx.prng,
            &self.options.faults.unsynced,
            block,
            |fate, range| {
                let at = (range.start, range.end - range.start);
                match fate {
                    Fate::Kept => {}
                    Fate::Lost => log.fault(now_ns, FaultKind::UnsyncedLost, name, at),
                    Fate::Torn => log.fault(now_ns, FaultKind::UnsyncedTorn, name, at),
                }
            },
        );
    }

    pub(crate) fn peek(&self, offset: u64, out: &mut [u8]) {
        self.media.view().read(offset, out);
    }

    pub(crate) fn peek_durable(&self, offset: u64, out: &mut [u8]) {
        self.media.durable().read(offset, out);
    }

    pub(crate) fn poke(&mut self, offset: u64, data: &[u8]) {
        self.media.damage(|image| image.write(offset, data));
    }

    pub(crate) fn flip_bit(&mut self, offset: u64, bit: u8, cx: &mut Cx<'_>) {
        self.media.damage(|image| image.flip(offset, bit));
        self.fault(cx, FaultKind::BitRot, offset..offset + 1);
    }

    pub(crate) fn add_latent_error(&mut self, range: Range<u64>, cx: &mut Cx<'_>) {
        let blocks: Vec<u64> = self.blocks(&range).collect();
        self.latent.extend(blocks);
        self.fault(cx, FaultKind::LatentError, range);
    }

    pub(crate) fn clear_latent_errors(&mut self) {
        self.latent.clear();
    }

    pub(crate) fn misdirect_next_write(&mut self, to: u64) {
        self.one_shots.push_back(OneShot::MisdirectWrite { to });
    }

    pub(crate) fn lose_next_write(&mut self) {
        self.one_shots.push_back(OneShot::LoseWrite);
    }

    pub(crate) fn fail_next_write(&mut self) {
        self.one_shots.push_back(OneShot::FailWrite);
    }

    pub(crate) fn fail_next_read(&mut self) {
        self.one_shots.push_back(OneShot::FailRead);
    }

    pub(crate) fn fail_next_sync(&mut self, drop: bool) {
        self.one_shots.push_back(OneShot::FailSync { drop });
    }

    pub(crate) fn set_gone(&mut self, gone: bool) {
        self.gone = gone;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    pub(crate) fn set_extra_ns(&mut self, extra_ns: u64) {
        self.extra_ns = extra_ns;
    }

    /// Stops all random faults; damage already done stays.
    pub(crate) fn heal(&mut self) {
        let latency = self.options.faults.latency.clone();
        let mut faults = super::DiskFaults {
            latency,
            ..Default::default()
        };
        faults.unsynced = self.options.faults.unsynced.clone();
        faults.in_flight = self.options.faults.in_flight.clone();
        self.options.faults = faults;
        self.one_shots.clear();
        (self.gone, self.full, self.extra_ns) = (false, false, 0);
    }

    pub(crate) fn image(&self) -> Image {
        self.media.view().clone()
    }

    pub(crate) fn durable_image(&self) -> Image {
        self.media.durable().clone()
    }

    pub(crate) fn restore(&mut self, image: Image) {
        self.media.restore(image);
        self.latent.clear();
    }

    pub(crate) fn unsynced_writes(&self) -> usize {
        self.media.pending_count()
    }

    pub(crate) fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }
}
