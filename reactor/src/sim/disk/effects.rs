//! What operations do to the bytes when they finish, with every fault that may get in the way.

use std::ops::Range;

use super::cache::{Change, Fate, decide, overlaps};
use super::{Cx, Disk, Flying, OneShot};
use crate::sim::prng::Prng;
use crate::sim::trace::FaultKind;

impl Disk {
    fn take_one_shot(&mut self, fits: impl Fn(&OneShot) -> bool) -> Option<OneShot> {
        let at = self.one_shots.iter().position(fits)?;
        self.one_shots.remove(at)
    }

    /// Errors that any operation may meet, before it does anything.
    fn refuse(&mut self, cx: &mut Cx<'_>, ppm: u32, range: &Range<u64>) -> Result<(), i32> {
        if self.gone {
            self.fault(cx, FaultKind::Gone, range.clone());
            return Err(libc::ENODEV);
        }
        if cx.prng.chance_ppm(ppm) {
            self.fault(cx, FaultKind::TransientError, range.clone());
            return Err(libc::EIO);
        }
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        range: Range<u64>,
        out: &mut Vec<u8>,
        cx: &mut Cx<'_>,
    ) -> Result<usize, i32> {
        self.refuse(cx, self.options.faults.transient.read_ppm, &range)?;
        if self
            .take_one_shot(|s| matches!(s, OneShot::FailRead))
            .is_some()
        {
            self.fault(cx, FaultKind::TransientError, range);
            return Err(libc::EIO);
        }
        let end = range.end.min(self.options.len_bytes).max(range.start);
        let len = self.shorten(self.options.faults.short_io.read_ppm, end - range.start, cx);
        let range = range.start..range.start + len;
        if range.is_empty() {
            return Ok(0);
        }
        self.grow_latent_error(&range, cx);
        if self
            .blocks(&range)
            .any(|block| self.latent.contains(&block))
        {
            return Err(libc::EIO);
        }
        self.show_early(&range, cx);
        self.rot(&range, cx);
        let from = self.misdirect(self.options.faults.misdirect.read_ppm, &range, cx);
        if from != range.start {
            self.fault(cx, FaultKind::MisdirectedRead, range.clone());
        }
        out.resize(len as usize, 0);
        self.media.view().read(from, out);
        Ok(len as usize)
    }

    pub(super) fn write(
        &mut self,
        offset: u64,
        change: &Change,
        cx: &mut Cx<'_>,
    ) -> Result<usize, i32> {
        let range = offset..offset + change.len();
        let refused = self.refuse(cx, self.options.faults.transient.write_ppm, &range);
        let one_shot = self.take_one_shot(|s| {
            matches!(
                s,
                OneShot::MisdirectWrite { .. } | OneShot::LoseWrite | OneShot::FailWrite
            )
        });
        if matches!(one_shot, Some(OneShot::FailWrite)) && refused.is_ok() {
            self.fault(cx, FaultKind::TransientError, range);
            self.apply_parts(offset, change, cx);
            return Err(libc::EIO);
        }
        if let Err(errno) = refused {
            if errno == libc::EIO {
                self.apply_parts(offset, change, cx);
            }
            return Err(errno);
        }
        if range.end > self.options.len_bytes {
            return Err(libc::ENOSPC);
        }
        if self.full && !self.media.view().is_allocated(range.clone()) {
            self.fault(cx, FaultKind::Full, range);
            return Err(libc::ENOSPC);
        }
        let len = self.shorten(self.options.faults.short_io.write_ppm, change.len(), cx);
        let target = self.write_target(one_shot, &(offset..offset + len), cx);
        if let Some(target) = target {
            self.apply(target, change.part(0..len));
        }
        Ok(len as usize)
    }

    /// Where a write really lands; `None` when it is lost.
    fn write_target(
        &mut self,
        one_shot: Option<OneShot>,
        range: &Range<u64>,
        cx: &mut Cx<'_>,
    ) -> Option<u64> {
        let faults = &self.options.faults;
        let (lost_ppm, misdirect_ppm) = (faults.lost_write.ppm, faults.misdirect.write_ppm);
        let by_chance = lost_ppm > 0 && self.options.atlas.allows(range.clone());
        if matches!(one_shot, Some(OneShot::LoseWrite)) || by_chance && cx.prng.chance_ppm(lost_ppm)
        {
            self.fault(cx, FaultKind::LostWrite, range.clone());
            return None;
        }
        let target = match one_shot {
            Some(OneShot::MisdirectWrite { to }) => {
                to.min(self.options.len_bytes - (range.end - range.start))
            }
            _ => self.misdirect(misdirect_ppm, range, cx),
        };
        if target != range.start {
            let landed = target..target + (range.end - range.start);
            self.fault(cx, FaultKind::MisdirectedWrite, landed);
        }
        Some(target)
    }

    fn apply(&mut self, offset: u64, change: Change) {
        let range = offset..offset + change.len();
        let cured: Vec<u64> = self
            .blocks(&range)
            .filter(|b| self.latent.contains(b))
            .collect();
        for block in cured {
            self.latent.remove(&block);
        }
        self.media.apply(offset, change);
    }

    /// A failed or interrupted write: all of it, nothing, or some blocks.
    pub(super) fn apply_parts(&mut self, offset: u64, change: &Change, cx: &mut Cx<'_>) -> Fate {
        let fate = &self.options.faults.in_flight;
        let weights = [fate.applied_weight, fate.lost_weight, fate.torn_weight];
        let fits = offset + change.len() <= self.options.len_bytes;
        let cut = self
            .options
            .faults
            .unsynced
            .cut_bytes
            .unwrap_or(self.options.logical_block);
        let (fate, parts) = decide(cx.prng, &weights, change.len(), u64::from(cut));
        for part in parts.into_iter().filter(|_| fits) {
            let at = offset + part.start;
            self.apply(at, change.part(part));
        }
        fate
    }

    pub(super) fn discard(&mut self, range: Range<u64>, cx: &mut Cx<'_>) -> Result<usize, i32> {
        self.refuse(cx, self.options.faults.transient.write_ppm, &range)?;
        if !self.options.supports_discard {
            return Err(libc::EOPNOTSUPP);
        }
        if range.end > self.options.len_bytes {
            return Err(libc::EINVAL);
        }
        // A block device may ignore the hint; a file's punched hole always reads as zero.
        if !self.options.block_device || cx.prng.chance_percent(50) {
            self.apply(range.start, Change::Zero(range.end - range.start));
        }
        Ok(0)
    }

    pub(super) fn sync(&mut self, mark: u64, drops: u64, cx: &mut Cx<'_>) -> Result<usize, i32> {
        let forced = self.take_one_shot(|s| matches!(s, OneShot::FailSync { .. }));
        let refused = self.refuse(cx, self.options.faults.transient.sync_ppm, &(0..0));
        let drop = match (&forced, refused) {
            (_, Err(libc::ENODEV)) => return Err(libc::ENODEV),
            (Some(OneShot::FailSync { drop }), _) => *drop,
            (_, Err(_)) => cx
                .prng
                .chance_percent(self.options.faults.sync_failure.drop_percent),
            (_, Ok(())) if drops != self.media.drops() => return Err(libc::EIO),
            (_, Ok(())) => return Ok(self.media.sync(mark) as usize),
        };
        if refused.is_ok() {
            self.fault(cx, FaultKind::TransientError, 0..0);
        }
        if drop && self.media.drop_pending(mark, cx.prng.chance_percent(50)) > 0 {
            self.fault(cx, FaultKind::SyncDropped, 0..0);
        }
        Err(libc::EIO)
    }

    pub(super) fn blocks(&self, range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let block = u64::from(self.options.logical_block);
        range.start / block..range.end.div_ceil(block)
    }

    /// A length that may be shorter, in whole blocks, never zero.
    fn shorten(&self, ppm: u32, len: u64, cx: &mut Cx<'_>) -> u64 {
        let block = u64::from(self.options.logical_block);
        if len <= block || !cx.prng.chance_ppm(ppm) {
            return len;
        }
        self.fault(cx, FaultKind::ShortIo, 0..len);
        cx.prng.between(1, len / block - 1) * block
    }

    fn grow_latent_error(&mut self, range: &Range<u64>, cx: &mut Cx<'_>) {
        if !cx.prng.chance_ppm(self.options.faults.latent.read_ppm) {
            return;
        }
        let hit = self.pick_block(range, cx.prng);
        // A block whose latest data sits in the cache is answered from there.
        if self.options.atlas.allows(hit.clone()) && !self.media.has_pending(&hit) {
            self.latent
                .insert(hit.start / u64::from(self.options.logical_block));
            self.fault(cx, FaultKind::LatentError, hit);
        }
    }

    fn rot(&mut self, range: &Range<u64>, cx: &mut Cx<'_>) {
        if !cx.prng.chance_ppm(self.options.faults.bit_rot.read_ppm) {
            return;
        }
        let hit = self.pick_block(range, cx.prng);
        if self.options.atlas.allows(hit.clone()) && !self.media.has_pending(&hit) {
            let (offset, bit) = (
                hit.start + cx.prng.below(hit.end - hit.start),
                cx.prng.below(8),
            );
            self.media.damage(|image| image.flip(offset, bit as u8));
            self.fault(cx, FaultKind::BitRot, offset..offset + 1);
        }
    }

    fn pick_block(&self, range: &Range<u64>, prng: &mut Prng) -> Range<u64> {
        let block = u64::from(self.options.logical_block);
        let start = range.start + prng.below((range.end - range.start) / block) * block;
        start..start + block
    }

    /// Another place of the same length inside the atlas, or the right one.
    fn misdirect(&self, ppm: u32, range: &Range<u64>, cx: &mut Cx<'_>) -> u64 {
        let len = range.end - range.start;
        let block = u64::from(self.options.logical_block);
        if len >= self.options.len_bytes || !cx.prng.chance_ppm(ppm) {
            return range.start;
        }
        let places = (self.options.len_bytes - len) / block;
        let other = cx.prng.between(0, places) * block;
        let atlas = &self.options.atlas;
        let allowed = atlas.allows(range.clone()) && atlas.allows(other..other + len);
        if allowed { other } else { range.start }
    }

    /// Some blocks of overlapping writes in flight become visible (and stay) before they complete.
    fn show_early(&mut self, range: &Range<u64>, cx: &mut Cx<'_>) {
        let ppm = self.options.faults.early_visible.ppm;
        if ppm == 0 {
            return;
        }
        let block = u64::from(self.options.logical_block);
        let mut early = Vec::new();
        for flying in self.in_flight.values() {
            let Flying::Change { offset, change } = &flying.op else {
                continue;
            };
            let target = *offset..offset + change.len();
            if target.end <= self.options.len_bytes
                && overlaps(&target, range)
                && cx.prng.chance_ppm(ppm)
            {
                let (_, parts) = decide(cx.prng, &[1, 0, 2], change.len(), block);
                early.extend(
                    parts
                        .into_iter()
                        .map(|p| (offset + p.start, change.part(p))),
                );
            }
        }
        for (offset, change) in early {
            self.fault(cx, FaultKind::EarlyVisible, offset..offset + change.len());
            self.apply(offset, change);
        }
    }
}
