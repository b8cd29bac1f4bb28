//! Which pages of a volume its journal has something newer for than its map.
//!
//! Such a page may be torn in its cluster (docs/format.md, checkpoint step 1), so its checksum in
//! the map proves nothing. For data that a record left in a cluster (direct), the record's own
//! checksums are kept, to be compared if nothing later replaced them.

use std::collections::BTreeMap;

use crate::types::Cluster;

/// Data of a direct record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direct {
    pub(super) cluster: Cluster,
    /// Page of the cluster where the span begins.
    pub(super) page_in_cluster: u32,
    /// Place of the span's first checksum in `Shadow::crcs`.
    pub(super) crc_at: usize,
    pub(super) lsn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    end: u64,
    direct: Option<Direct>,
}

/// Pages by their latest record. Memory: proportional to the records in the journal.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// By first page; spans do not overlap.
    spans: BTreeMap<u64, Span>,
    pub(super) crcs: Vec<u32>,
}

impl Shadow {
    /// A later record for these pages.
    pub(super) fn insert(&mut self, first: u64, count: u64, direct: Option<Direct>) {
        if count == 0 {
            return;
        }
        let end = first.saturating_add(count);
        self.cut(first);
        self.cut(end);
        let covered: Vec<u64> = self
            .spans
            .range(first..end)
            .map(|(&start, _)| start)
            .collect();
        for start in covered {
            self.spans.remove(&start);
        }
        self.spans.insert(first, Span { end, direct });
    }

    /// Splits the span that crosses `at` into two.
    fn cut(&mut self, at: u64) {
        let Some((&start, &span)) = self.spans.range(..at).next_back() else {
            return;
        };
        if span.end <= at {
            return;
        }
        let skipped = at - start;
        let rest = span.direct.map(|direct| Direct {
            page_in_cluster: direct.page_in_cluster + skipped as u32,
            crc_at: direct.crc_at + skipped as usize,
            ..direct
        });
        self.spans.insert(start, Span { end: at, ..span });
        self.spans.insert(
            at,
            Span {
                end: span.end,
                direct: rest,
            },
        );
    }

    pub(super) fn covers(&self, page: u64) -> bool {
        let before = self.spans.range(..=page).next_back();
        before.is_some_and(|(_, span)| page < span.end)
    }

    /// Direct data that nothing later replaced, as (first page, count, where).
    pub(super) fn direct(&self) -> impl Iterator<Item = (u64, u64, Direct)> {
        self.spans
            .iter()
            .filter_map(|(&first, span)| Some((first, span.end - first, span.direct?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(cluster: u32) -> Direct {
        Direct {
            cluster: Cluster(cluster),
            page_in_cluster: 0,
            crc_at: 100,
            lsn: 1,
        }
    }

    #[test]
    fn later_records_win_and_the_rest_of_a_direct_span_keeps_its_place() {
        let mut shadow = Shadow::default();
        shadow.insert(10, 20, Some(direct(1)));
        shadow.insert(15, 2, None);
        let rest = Direct {
            page_in_cluster: 7,
            crc_at: 107,
            ..direct(1)
        };
        let expected = [(10, 5, direct(1)), (17, 13, rest)];
        assert_eq!(shadow.direct().collect::<Vec<_>>(), expected);
        for page in 0..40 {
            assert_eq!(shadow.covers(page), (10..30).contains(&page), "page {page}");
        }
        shadow.insert(0, 100, None);
        assert_eq!(shadow.direct().count(), 0);
        assert!(shadow.covers(99) && !shadow.covers(100));
        shadow.insert(u64::MAX - 1, 100, None);
        assert!(shadow.covers(u64::MAX - 1));
    }
}
