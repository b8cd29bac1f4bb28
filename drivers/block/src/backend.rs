//! The kinds of device. More come as more variants: passthrough, remote.

use std::io;

use reactor::buf::{Buf, BufList};
use reactor::fs;

use crate::memory::Memory;

/// What moves the bytes. Ranges have been checked; results are as those of `reactor::fs::File`.
pub(crate) enum Backend {
    /// A file or a disk, through the kernel.
    File(fs::File),
    /// Memory of this process.
    Memory(Memory),
}

impl Backend {
    pub(crate) async fn read(&self, offset: u64, buf: Buf) -> (io::Result<()>, Buf) {
        match self {
            Backend::File(file) => file.read_at(offset, buf).await,
            Backend::Memory(memory) => memory.read(offset, buf).await,
        }
    }

    pub(crate) async fn read_list(&self, offset: u64, list: BufList) -> (io::Result<()>, BufList) {
        match self {
            Backend::File(file) => file.read_list_at(offset, list).await,
            Backend::Memory(memory) => memory.read_list(offset, list).await,
        }
    }

    pub(crate) async fn write(&self, offset: u64, list: BufList) -> (io::Result<()>, BufList) {
        match self {
            Backend::File(file) => file.write_at(offset, list).await,
            Backend::Memory(memory) => memory.write(offset, list).await,
        }
    }

    /// Memory has nowhere to flush to: what it holds is as safe as it will ever be.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        match self {
            Backend::File(file) => file.sync().await,
            Backend::Memory(_) => Ok(()),
        }
    }

    pub(crate) async fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        match self {
            Backend::File(file) => file.discard(offset, len_bytes).await,
            Backend::Memory(memory) => memory.discard(offset, len_bytes).await,
        }
    }
}
