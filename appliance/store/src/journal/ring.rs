//! Where a journal position is on the device.

use crate::journal::batch::MAX_BATCH_BYTES;
use crate::types::ClusterRun;

/// A ring over runs of clusters, addressed by a logical byte position that only grows.
#[derive(Clone, Debug)]
pub struct Ring {
    runs: Vec<Run>,
    len_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Ring offset of its first byte.
    ring_start: u64,
    /// Device offset of its first byte.
    device_start: u64,
    len_bytes: u64,
}

/// A position, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset on the device.
    pub device_offset: u64,
    /// Bytes from there to the end of the run.
    pub left_in_run: u64,
}

impl Ring {
    /// A ring over `runs` in this order. None when a run cannot hold the largest batch, or there
    /// is none: such a journal cannot be used.
    pub fn new(runs: &[ClusterRun]) -> Option<Ring> {
        let mut ring_start = 0;
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let len_bytes = run.len_bytes();
            if len_bytes < MAX_BATCH_BYTES {
                return None;
            }
            places.push(Run {
                ring_start,
                device_start: run.first.byte_offset(),
                len_bytes,
            });
            ring_start += len_bytes;
        }
        (!places.is_empty()).then_some(Ring {
            runs: places,
            len_bytes: ring_start,
        })
    }

    /// Length of the ring.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Number of runs: how often in a lap the end of a run may be skipped.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Where `position` is. Cost: at most eight comparisons.
    pub fn locate(&self, position: u64) -> Place {
        let offset = position % self.len_bytes;
        let index = self.runs.partition_point(|run| run.ring_start <= offset) - 1;
        let run = self.runs[index];
        let inside = offset - run.ring_start;
        Place {
            device_offset: run.device_start + inside,
            left_in_run: run.len_bytes - inside,
        }
    }

    /// Position of a batch of `len_bytes` that follows one that ended at `end`: right there, or
    /// at the start of the next run when the rest of this one is too short.
    pub fn place(&self, end: u64, len_bytes: u64) -> u64 {
        assert!(len_bytes <= MAX_BATCH_BYTES, "batch of {len_bytes} bytes");
        let left = self.locate(end).left_in_run;
        if left >= len_bytes { end } else { end + left }
    }

    /// The start of the next run, if a batch behind `end` may have skipped to it.
    pub fn skip_from(&self, end: u64) -> Option<u64> {
        let left = self.locate(end).left_in_run;
        (left < MAX_BATCH_BYTES).then_some(end + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CLUSTER_BYTES, Cluster};

    fn ring() -> Ring {
        let runs = [(100, 16), (10, 32)];
        let runs = runs.map(|(first, count)| ClusterRun {
            first: Cluster(first),
            count,
        });
        Ring::new(&runs).expect("runs are long enough")
    }

    #[test]
    fn positions_follow_the_runs_and_wrap() {
        let ring = ring();
        assert_eq!(ring.len_bytes(), 48 * CLUSTER_BYTES);
        let at = |cluster| ring.locate(cluster * CLUSTER_BYTES);
        let place = |first: u64, left: u64| Place {
            device_offset: first * CLUSTER_BYTES,
            left_in_run: left * CLUSTER_BYTES,
        };
        assert_eq!(at(0), place(100, 16));
        assert_eq!(at(15), place(115, 1));
        assert_eq!(at(16), place(10, 32));
        assert_eq!(at(47), place(41, 1));
        assert_eq!(at(48), place(100, 16));
        assert_eq!(at(48 * 5 + 17), place(11, 31));
    }

    #[test]
    fn a_batch_never_spans_two_runs() {
        let ring = ring();
        let near_end = 16 * CLUSTER_BYTES - 4096;
        assert_eq!(ring.place(near_end, 4096), near_end);
        assert_eq!(ring.place(near_end, 8192), 16 * CLUSTER_BYTES);
        assert_eq!(ring.skip_from(near_end), Some(16 * CLUSTER_BYTES));
        assert_eq!(ring.skip_from(16 * CLUSTER_BYTES), None);
        let wrap = 48 * CLUSTER_BYTES - 4096;
        assert_eq!(ring.place(wrap, 8192), 48 * CLUSTER_BYTES);
    }

    #[test]
    fn a_run_shorter_than_a_batch_is_refused() {
        assert!(Ring::new(&[]).is_none());
        assert!(
            Ring::new(&[ClusterRun {
                first: Cluster(1),
                count: 8
            }])
            .is_none()
        );
    }
}
