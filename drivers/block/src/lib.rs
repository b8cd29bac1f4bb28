//! Block devices: an `O_DIRECT` file or disk, or memory for measurements, behind one type.
//!
//! A [`Device`] moves whole 4 KiB blocks between `reactor` buffers and the disk. It adds what
//! everything above needs and the kernel does not give: bounds, a flush that many callers share,
//! the rule that nothing is written after a failed flush, and counters.
//!
//! Fault model, as in docs/format.md: a write may tear at the logical block size; completed writes
//! are lost in any combination at power loss until a flush that began after them completed.
#![forbid(unsafe_code)]

mod backend;
mod counters;
mod device;
mod error;
mod flush;
mod memory;

pub use counters::{Counters, CountersSnapshot};
pub use device::{Device, Geometry, OpenOptions};
pub use error::{BlockError, Operation};

/// Alignment of every offset and length, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
