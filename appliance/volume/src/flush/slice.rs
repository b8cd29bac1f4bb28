//! How much of a turn the flusher takes: it gives way to the hosts' requests.
//!
//! The pages that may be handled in one turn are those that the hosts wrote since the last one, and
//! a few more: with requests about, the flusher takes about half of the core, keeps up with them,
//! and no request waits for more than one slice. The fuller the journal, the larger the slice.

use std::cell::Cell;

use crate::core::Core;
use crate::pages::PAGE;

/// Pages of a turn in which nobody wrote anything: a few microseconds when the device is as fast as
/// memory, so that a lone request hardly feels it.
const LEAST_PAGES: usize = 4;
/// From this fill of the journal on, in percent, the slice is twice as large.
const URGENT_PERCENT: u64 = 50;

/// What is left of this turn's slice.
#[derive(Default)]
pub(super) struct Slice {
    turn: Cell<u64>,
    left_pages: Cell<usize>,
    /// Bytes that had gone to the journal or straight to their clusters when the slice was cut.
    written_bytes: Cell<u64>,
}

impl Core {
    /// Takes `pages` from the slice of this turn; waits for another turn when it is used up.
    /// A piece of work larger than a slice has a turn of its own.
    pub(super) async fn give_way(&self, pages: usize) {
        let slice = &self.flusher.slice;
        loop {
            if slice.turn.get() != reactor::turn() {
                self.cut_slice();
            }
            let left = slice.left_pages.get();
            if left > 0 {
                return slice.left_pages.set(left.saturating_sub(pages));
            }
            reactor::next_turn().await;
        }
    }

    fn cut_slice(&self) {
        let slice = &self.flusher.slice;
        let written_bytes = self.metrics.journal_bytes.get() + self.metrics.direct_bytes.get();
        let written = written_bytes - slice.written_bytes.replace(written_bytes);
        let is_urgent = self.journal_fill_percent() > URGENT_PERCENT;
        slice.turn.set(reactor::turn());
        let pages = LEAST_PAGES + (written / PAGE) as usize;
        slice
            .left_pages
            .set(if is_urgent { 2 * pages } else { pages });
    }
}
