//! Buffers: fixed arenas by size class, shared slices of them, and lists of slices.
//!
//! A pool's memory is reserved once; nothing grows. When a class and all larger ones are empty,
//! `alloc` waits in FIFO order: overload slows whoever asks.

mod arena;
mod list;
mod pool;
mod waiters;

pub use arena::{Buf, Region};
pub use list::BufList;
pub use pool::{Alloc, BufPool, MAX_BUF_BYTES};

use crate::context::with_core;

/// This core's pool for host I/O.
pub fn pool() -> BufPool {
    with_core(|core| core.io_pool.clone())
}

/// This core's pool for the engine (flusher, headers, map leaves), apart from the hosts' so that
/// host I/O can never starve the flusher.
pub fn engine_pool() -> BufPool {
    with_core(|core| core.engine_pool.clone())
}

#[cfg(test)]
mod tests;
