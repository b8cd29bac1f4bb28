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

/// A buffer of this core's pool for host I/O, as [`BufPool::alloc`].
pub fn alloc(len: usize) -> Alloc {
    with_core(|core| core.io_pool.alloc(len))
}

/// A buffer of this core's pool for host I/O if one is free, as [`BufPool::try_alloc`].
pub fn try_alloc(len: usize) -> Option<Buf> {
    with_core(|core| core.io_pool.try_alloc(len))
}

/// A buffer of this core's pool for the engine, as [`BufPool::alloc`].
pub fn engine_alloc(len: usize) -> Alloc {
    with_core(|core| core.engine_pool.alloc(len))
}

/// This core's pool for the engine (flusher, headers, map leaves), apart from the hosts' so that
/// host I/O can never starve the flusher.
pub fn engine_pool() -> BufPool {
    with_core(|core| core.engine_pool.clone())
}

#[cfg(test)]
mod tests;
