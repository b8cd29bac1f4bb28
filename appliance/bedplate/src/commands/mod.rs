//! One file per command of the command line; `serve` has its own folder.

pub mod client;
pub mod doctor;
pub mod fsck;
pub mod offline;
pub mod pool;
