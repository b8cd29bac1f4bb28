//! Pages and clusters of a volume: ranges and masks.

use store::{BLOCK_BYTES, CLUSTER_BLOCKS};

use crate::request::Span;

/// Bytes of a page: the unit of checksums, of the index and of the map.
pub(crate) const PAGE_BYTES: usize = BLOCK_BYTES;
/// As [`PAGE_BYTES`].
pub(crate) const PAGE: u64 = PAGE_BYTES as u64;
/// Pages of a cluster.
pub(crate) const CLUSTER_PAGES: u64 = CLUSTER_BLOCKS as u64;

/// Adjacent pages of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageRange {
    pub first: u64,
    pub count: u64,
}

impl PageRange {
    /// All pages a span touches.
    pub fn covering(span: Span) -> Self {
        let first = span.offset_bytes / PAGE;
        let end = (span.offset_bytes + span.len_bytes).div_ceil(PAGE);
        Self {
            first,
            count: end - first,
        }
    }

    /// The pages that lie wholly in a span; may be none.
    pub fn inside(span: Span) -> Self {
        let first = span.offset_bytes.div_ceil(PAGE);
        let end = (span.offset_bytes + span.len_bytes) / PAGE;
        Self {
            first,
            count: end.saturating_sub(first),
        }
    }

    pub fn end(self) -> u64 {
        self.first + self.count
    }

    pub fn len_bytes(self) -> u64 {
        self.count * PAGE
    }

    #[cfg(test)]
    pub fn overlaps(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// First and last cluster touched. The range must not be empty.
    pub fn clusters(self) -> std::ops::RangeInclusive<u64> {
        self.first / CLUSTER_PAGES..=(self.end() - 1) / CLUSTER_PAGES
    }
}

/// The cluster of a page.
pub(crate) fn cluster_of(page: u64) -> u64 {
    page / CLUSTER_PAGES
}

/// The place of a page in its cluster.
pub(crate) fn slot_of(page: u64) -> usize {
    (page % CLUSTER_PAGES) as usize
}

/// The bit of a page in its cluster's masks.
pub(crate) fn bit_of(page: u64) -> u64 {
    1 << (page % CLUSTER_PAGES)
}

/// A mask of `count` bits from `slot` on.
pub(crate) fn mask(slot: usize, count: usize) -> u64 {
    debug_assert!(count > 0 && slot + count <= 64);
    (u64::MAX >> (64 - count)) << slot
}

/// Each cluster of the range with the mask of the range's pages in it.
pub(crate) fn cluster_masks(range: PageRange) -> impl Iterator<Item = (u64, u64)> {
    let clusters = (range.count > 0).then(|| range.clusters());
    clusters
        .into_iter()
        .flatten()
        .map(move |cluster| (cluster, mask_in(range, cluster)))
}

/// The mask of the range's pages in `cluster`, which it must touch.
pub(crate) fn mask_in(range: PageRange, cluster: u64) -> u64 {
    let start = cluster * CLUSTER_PAGES;
    let from = range.first.max(start);
    let to = range.end().min(start + CLUSTER_PAGES);
    mask((from - start) as usize, (to - from) as usize)
}

/// The pages of `range` in one of its clusters.
pub(crate) fn part_in(range: PageRange, cluster: u64) -> PageRange {
    let first = range.first.max(cluster * CLUSTER_PAGES);
    let end = range.end().min((cluster + 1) * CLUSTER_PAGES);
    PageRange {
        first,
        count: end - first,
    }
}

/// The positions of the set bits, ascending.
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let slot = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            slot
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::ALL_BLOCKS;

    #[test]
    fn spans_cover_and_contain_pages() {
        let span = |offset_bytes, len_bytes| Span {
            offset_bytes,
            len_bytes,
        };
        let range = |first, count| PageRange { first, count };
        assert_eq!(PageRange::covering(span(0, 4096)), range(0, 1));
        assert_eq!(PageRange::covering(span(512, 4096)), range(0, 2));
        assert_eq!(PageRange::inside(span(512, 4096)).count, 0);
        assert_eq!(PageRange::inside(span(512, 512)).count, 0);
        assert_eq!(PageRange::inside(span(512, 8192)), range(1, 1));
        assert_eq!(PageRange::inside(span(4096, 8192)), range(1, 2));
    }

    #[test]
    fn masks_cut_a_range_at_clusters() {
        let all: Vec<_> = cluster_masks(PageRange {
            first: 30,
            count: 36,
        })
        .collect();
        assert_eq!(all, [(0, 3 << 30), (1, ALL_BLOCKS), (2, 3)]);
        assert_eq!(
            cluster_masks(PageRange {
                first: 62,
                count: 0
            })
            .count(),
            0
        );
        let range = PageRange {
            first: 28,
            count: 76,
        };
        let parts: Vec<_> = range
            .clusters()
            .map(|cluster| part_in(range, cluster))
            .collect();
        let parts: Vec<_> = parts.iter().map(|part| (part.first, part.count)).collect();
        assert_eq!(parts, [(28, 4), (32, 32), (64, 32), (96, 8)]);
        assert_eq!(bits(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
    }
}
