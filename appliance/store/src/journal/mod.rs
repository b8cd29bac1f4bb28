//! Write path 4/9: the journal's records and where they go. Next: `volume::commit` (5), which
//! groups records into batches and writes them.
//!
//! A journal is a ring of batches (docs/format.md, "Journal of a volume"):
//! [`batch`] turns records into bytes and bytes into checked records, [`ring`] says where a
//! position is on the device, [`scan`] reads the log at open and [`verdict`] decides what an
//! unreadable batch means.

pub mod batch;
pub mod ring;
pub mod scan;
pub mod verdict;

pub use batch::{
    BatchError, BatchView, Header, Identity, MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, MAX_HEADER_BLOCKS,
    MAX_RECORDS, Record, RecordKind, RecordView,
};
pub use ring::Ring;
pub use scan::{LogEnd, ScanStart, Scanner, for_each_named_cluster};
pub use verdict::{Failure, Verdict};
