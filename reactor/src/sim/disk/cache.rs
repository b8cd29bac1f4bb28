//! The write cache of a disk: what reads see now, what would survive power loss, and the completed
//! writes in between.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::image::Image;
use super::options::UnsyncedFate;
use crate::sim::prng::Prng;
use crate::sim::trace::hash_bytes;

/// A change to the bytes of a disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write(Rc<[u8]>),
    Zero(u64),
}

impl Change {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Write(data) => data.len() as u64,
            Self::Zero(len) => *len,
        }
    }

    /// Its content, for the trace.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Write(data) => hash_bytes(data),
            Self::Zero(len) => *len,
        }
    }

    /// The same change cut to `piece`, counted from its own start.
    pub(crate) fn part(&self, piece: Range<u64>) -> Change {
        match self {
            Self::Write(data) => Self::Write(data[piece.start as usize..piece.end as usize].into()),
            Self::Zero(_) => Self::Zero(piece.end - piece.start),
        }
    }

    fn apply(&self, offset: u64, image: &mut Image) {
        match self {
            Self::Write(data) => image.write(offset, data),
            Self::Zero(len) => image.zero(offset..offset + len),
        }
    }

    /// Memory held while the change waits; a discard holds none.
    fn weight(&self) -> u64 {
        match self {
            Self::Write(data) => data.len() as u64,
            Self::Zero(_) => 64,
        }
    }
}

#[derive(Clone, Debug)]
struct Pending {
    seq: u64,
    offset: u64,
    change: Change,
}

impl Pending {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.change.len()
    }
}

/// What became of one un-synced write at power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Lost,
    Torn,
}

/// Both images and the writes between them. Invariant: `view` = `durable` + `pending` in order,
/// except after `drop_pending(false)`.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    view: Image,
    durable: Image,
    pending: VecDeque<Pending>,
    pending_weight: u64,
    next_seq: u64,
    drops: u64,
    cache_bytes: u64,
    volatile: bool,
}

impl Media {
    pub(crate) fn new(volatile: bool, cache_bytes: u64) -> Self {
        Self {
            view: Image::default(),
            durable: Image::default(),
            pending: VecDeque::new(),
            pending_weight: 0,
            next_seq: 0,
            drops: 0,
            cache_bytes,
            volatile,
        }
    }

    pub(crate) fn view(&self) -> &Image {
        &self.view
    }

    /// What power loss would leave if nothing in the cache survived.
    pub(crate) fn durable(&self) -> &Image {
        if self.volatile {
            &self.durable
        } else {
            &self.view
        }
    }

    /// Replaces everything, durably.
    pub(crate) fn restore(&mut self, image: Image) {
        self.durable = image.clone();
        self.view = image;
        self.pending.clear();
        self.pending_weight = 0;
    }

    pub(crate) fn apply(&mut self, offset: u64, change: Change) {
        change.apply(offset, &mut self.view);
        if !self.volatile {
            return;
        }
        self.pending_weight += change.weight();
        self.pending.push_back(Pending {
            seq: self.next_seq,
            offset,
            change,
        });
        self.next_seq += 1;
        while self.pending_weight > self.cache_bytes && self.destage_oldest() {}
    }

    /// Everything applied so far has a lower sequence than this mark.
    pub(crate) fn mark(&self) -> u64 {
        self.next_seq
    }

    /// How often un-synced data was thrown away.
    pub(crate) fn drops(&self) -> u64 {
        self.drops
    }

    /// Makes all changes below `mark` durable; returns how many.
    pub(crate) fn sync(&mut self, mark: u64) -> u64 {
        let mut count = 0;
        while self.pending.front().is_some_and(|p| p.seq < mark) && self.destage_oldest() {
            count += 1;
        }
        count
    }

    /// Oldest first, so an older write can never cover a newer one.
    fn destage_oldest(&mut self) -> bool {
        let Some(oldest) = self.pending.pop_front() else {
            return false;
        };
        self.pending_weight -= oldest.change.weight();
        oldest.change.apply(oldest.offset, &mut self.durable);
        true
    }

    /// Forgets changes below `mark` although nobody was told they are durable. With `revert` the
    /// old data shows at once, else only after power loss.
    pub(crate) fn drop_pending(&mut self, mark: u64, revert: bool) -> u64 {
        let keep = self.pending.partition_point(|p| p.seq < mark);
        self.drops += u64::from(keep > 0);
        let dropped: Vec<Pending> = self.pending.drain(..keep).collect();
        self.pending_weight -= dropped.iter().map(|p| p.change.weight()).sum::<u64>();
        if revert && !dropped.is_empty() {
            self.view = self.durable.clone();
            for pending in &self.pending {
                pending.change.apply(pending.offset, &mut self.view);
            }
        }
        dropped.len() as u64
    }

    pub(crate) fn has_pending(&self, range: &Range<u64>) -> bool {
        self.pending.iter().any(|p| overlaps(&p.range(), range))
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Damages what is durable and what is seen. Cached writes are made durable first (a device
    /// may do so at any time), so that a later sync does not repair the damage by accident.
    pub(crate) fn damage(&mut self, mut f: impl FnMut(&mut Image)) {
        self.sync(u64::MAX);
        f(&mut self.durable);
        f(&mut self.view);
    }

    /// The cache loses power: each un-synced change survives, vanishes or is torn, on its own.
    pub(crate) fn power_loss(
        &mut self,
        prng: &mut Prng,
        fate: &UnsyncedFate,
        block: u32,
        mut report: impl FnMut(Fate, Range<u64>),
    ) {
        if !self.volatile {
            return;
        }
        let cut = u64::from(fate.cut_bytes.unwrap_or(block));
        let weights = [fate.kept_weight, fate.lost_weight, fate.torn_weight];
        self.pending_weight = 0;
        for pending in std::mem::take(&mut self.pending) {
            let (decided, pieces) = decide(prng, &weights, pending.change.len(), cut);
            report(decided, pending.range());
            for piece in pieces {
                let at = pending.offset + piece.start;
                pending.change.part(piece).apply(at, &mut self.durable);
            }
        }
        self.view = self.durable.clone();
    }
}

/// Draws the fate of a write of `len` bytes that may be cut every `cut` bytes: the parts of it
/// that exist afterwards. `weights` = kept, lost, torn.
pub(crate) fn decide(
    prng: &mut Prng,
    weights: &[u32; 3],
    len: u64,
    cut: u64,
) -> (Fate, Vec<Range<u64>>) {
    let whole = std::iter::once(0..len).collect();
    match prng.weighted(weights) {
        0 => (Fate::Kept, whole),
        1 => (Fate::Lost, Vec::new()),
        _ if len > cut => (Fate::Torn, tear(prng, len, cut)),
        // One unit cannot be torn: it is there or it is not.
        _ if prng.chance_percent(50) => (Fate::Kept, whole),
        _ => (Fate::Lost, Vec::new()),
    }
}

/// The surviving parts of a torn write: a prefix, or any combination of units; never all, never
/// none. Units are counted from the write's start, which is aligned to them.
fn tear(prng: &mut Prng, len: u64, cut: u64) -> Vec<Range<u64>> {
    let units = len.div_ceil(cut);
    let unit = |n: u64| n * cut..((n + 1) * cut).min(len);
    if prng.chance_percent(30) {
        return std::iter::once(0..prng.between(1, units - 1) * cut).collect();
    }
    let mut alive: Vec<bool> = (0..units).map(|_| prng.chance_percent(50)).collect();
    let forced = prng.index(alive.len());
    if alive.iter().all(|a| *a == alive[0]) {
        alive[forced] = !alive[forced];
    }
    (0..units)
        .filter(|n| alive[*n as usize])
        .map(unit)
        .collect()
}

pub(crate) fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &Image, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        image.read(offset, &mut out);
        out
    }

    fn write(media: &mut Media, offset: u64, byte: u8, len: usize) {
        media.apply(offset, Change::Write(vec![byte; len].into()));
    }

    #[test]
    fn sync_covers_what_was_applied_before_its_mark_only() {
        let mut media = Media::new(true, 1 << 20);
        write(&mut media, 0, 1, 4096);
        let mark = media.mark();
        write(&mut media, 4096, 2, 4096);
        assert_eq!(media.sync(mark), 1);
        assert_eq!(bytes(media.durable(), 0, 1), [1]);
        assert_eq!(bytes(media.durable(), 4096, 1), [0]);
        assert_eq!(bytes(media.view(), 4096, 1), [2]);
        assert!(media.has_pending(&(4096..4097)) && !media.has_pending(&(0..4096)));
    }

    #[test]
    fn power_loss_reaches_every_fate_and_reorders() {
        let (mut fates, mut later_without_earlier) = (Vec::new(), false);
        for seed in 0..200 {
            let mut media = Media::new(true, 1 << 20);
            write(&mut media, 0, 1, 16_384);
            write(&mut media, 65_536, 2, 4096);
            let fate = UnsyncedFate::default();
            media.power_loss(&mut Prng::new(seed), &fate, 4096, |f, _| fates.push(f));
            let first = bytes(media.view(), 0, 16_384);
            let second = bytes(media.view(), 65_536, 1)[0] == 2;
            assert!(
                first.chunks(4096).all(|c| c.iter().all(|b| *b == c[0])),
                "torn in a block"
            );
            later_without_earlier |= second && first.iter().all(|b| *b == 0);
            assert_eq!(media.pending_count(), 0);
        }
        for fate in [Fate::Kept, Fate::Lost, Fate::Torn] {
            assert!(fates.contains(&fate), "{fate:?} never happened");
        }
        assert!(later_without_earlier);
    }

    #[test]
    fn an_older_write_never_covers_a_newer_durable_one() {
        for seed in 0..100 {
            let mut media = Media::new(true, 1 << 20);
            write(&mut media, 0, 1, 4096);
            write(&mut media, 0, 2, 4096);
            media.sync(u64::MAX);
            write(&mut media, 0, 3, 4096);
            media.power_loss(
                &mut Prng::new(seed),
                &UnsyncedFate::default(),
                4096,
                |_, _| {},
            );
            assert!(matches!(bytes(media.view(), 0, 1)[0], 2 | 3));
        }
    }

    #[test]
    fn a_full_cache_destages_the_oldest() {
        let mut media = Media::new(true, 8192);
        for n in 1..=4u8 {
            write(&mut media, u64::from(n) * 4096, n, 4096);
        }
        assert_eq!(media.pending_count(), 2);
        assert_eq!(bytes(media.durable(), 8192, 1), [2]);
        assert_eq!(bytes(media.durable(), 12_288, 1), [0]);
    }

    #[test]
    fn dropped_data_shows_at_once_or_after_power_loss() {
        for revert in [false, true] {
            let mut media = Media::new(true, 1 << 20);
            write(&mut media, 0, 1, 4096);
            let mark = media.mark();
            write(&mut media, 4096, 2, 4096);
            assert_eq!(media.drop_pending(mark, revert), 1);
            assert_eq!(bytes(media.view(), 0, 1), [u8::from(!revert)]);
            assert_eq!(bytes(media.view(), 4096, 1), [2]);
            media.sync(u64::MAX);
            media.power_loss(&mut Prng::new(1), &UnsyncedFate::default(), 4096, |_, _| {});
            assert_eq!(bytes(media.view(), 0, 1), [0]);
            assert_eq!(bytes(media.view(), 4096, 1), [2]);
        }
    }

    #[test]
    fn without_a_cache_everything_applied_is_durable() {
        let mut media = Media::new(false, 0);
        write(&mut media, 0, 1, 4096);
        assert_eq!(media.pending_count(), 0);
        assert_eq!(bytes(media.durable(), 0, 1), [1]);
        media.power_loss(
            &mut Prng::new(1),
            &UnsyncedFate::default(),
            4096,
            |_, _| unreachable!(),
        );
        assert_eq!(bytes(media.view(), 0, 1), [1]);
    }
}
