//! The judges of a run, one file each.

pub mod durable;
pub mod format;
pub mod linear;
