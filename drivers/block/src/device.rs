//! The device: bounds, fail-stop, counters, around one kind of backend.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use reactor::buf::{Buf, BufList};
use reactor::fs;

use crate::BLOCK_BYTES;
use crate::backend::Backend;
use crate::counters::{Counters, add};
use crate::error::{BlockError, Operation};
use crate::flush::{FlushQueue, Step};
use crate::memory::Memory;

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Refuse every write. The device is still locked against writers.
    pub read_only: bool,
}

/// What the device is like. Fixed while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Length in bytes, rounded down to whole 4 KiB blocks.
    pub len_bytes: u64,
    /// The unit a write may tear at: 512 or 4096 bytes.
    pub logical_block_bytes: u32,
    /// Completed writes may be lost at power loss until a flush.
    pub volatile_cache: bool,
    /// A disk, not a regular file.
    pub is_block_device: bool,
    /// `discard` gives space back; otherwise it does nothing.
    pub supports_discard: bool,
    /// It is memory, of this process or of a file system in memory: reading costs no waiting.
    pub is_memory: bool,
}

struct Inner {
    path: PathBuf,
    backend: Backend,
    geometry: Geometry,
    read_only: bool,
    failed: Cell<bool>,
    flush: FlushQueue,
    counters: Arc<Counters>,
}

/// An open block device. Cheap to clone; stays on the core that opened it.
#[derive(Clone)]
pub struct Device(Rc<Inner>);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("path", &self.0.path)
            .field("geometry", &self.0.geometry)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Opens an existing file or disk and locks it against other processes.
    ///
    /// Errors: `NotFound`, `Locked`, or what the operating system says. Nothing is written.
    /// Cost: a few system calls that block this core.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Device, BlockError> {
        let file_options = fs::OpenOptions {
            create_len: None,
            exclusive_lock: true,
            read_only: options.read_only,
        };
        Device::from_options(path, &file_options)
    }

    /// Creates a file of `len_bytes` with its space allocated, and locks it.
    ///
    /// Errors: `Exists` when there is something of that name, or what the operating system says
    /// (no space). Cost: system calls that block this core.
    pub fn create(path: &Path, len_bytes: u64) -> Result<Device, BlockError> {
        let file_options = fs::OpenOptions {
            create_len: Some(len_bytes),
            exclusive_lock: true,
            read_only: false,
        };
        Device::from_options(path, &file_options)
    }

    fn from_options(path: &Path, options: &fs::OpenOptions) -> Result<Device, BlockError> {
        let file = fs::File::open(path, options).map_err(|error| open_error(path, &error))?;
        let info = file.info();
        let geometry = Geometry {
            len_bytes: info.len_bytes / BLOCK_BYTES * BLOCK_BYTES,
            logical_block_bytes: info.logical_block_bytes,
            volatile_cache: info.volatile_cache,
            is_block_device: info.is_block_device,
            supports_discard: info.supports_discard,
            is_memory: info.is_memory,
        };
        let backend = Backend::File(file);
        Ok(Device::new(
            path.to_owned(),
            backend,
            geometry,
            options.read_only,
        ))
    }

    /// A device of `len_bytes` in the memory of this process, full of zeroes. It keeps nothing:
    /// what was written is gone with the last clone. For measuring what is above a device.
    ///
    /// `name` stands in messages, as `memory:NAME`. The memory is taken from the machine at once.
    /// Operations complete at once, but for a turn given to other tasks every 1 MiB; a flush
    /// costs nothing. Errors: `NoMemory`, when the system does not have that much. Cost: fills it.
    pub fn in_memory(name: &str, len_bytes: u64) -> Result<Device, BlockError> {
        let path = PathBuf::from(format!("memory:{name}"));
        let len_bytes = len_bytes / BLOCK_BYTES * BLOCK_BYTES;
        let mapped = usize::try_from(len_bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
            .and_then(Memory::map);
        let memory = mapped.map_err(|error| BlockError::NoMemory {
            path: path.clone(),
            len_bytes,
            kind: error.kind(),
            code: error.raw_os_error(),
        })?;
        let geometry = Geometry {
            len_bytes,
            logical_block_bytes: BLOCK_BYTES as u32,
            volatile_cache: false,
            is_block_device: false,
            supports_discard: true,
            is_memory: true,
        };
        Ok(Device::new(path, Backend::Memory(memory), geometry, false))
    }

    fn new(path: PathBuf, backend: Backend, geometry: Geometry, read_only: bool) -> Device {
        Device(Rc::new(Inner {
            path,
            backend,
            geometry,
            read_only,
            failed: Cell::new(false),
            flush: FlushQueue::default(),
            counters: Arc::default(),
        }))
    }

    /// Where it was opened; `memory:NAME` for one in memory.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What it is like.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// Its totals, to be read from any thread.
    pub fn counters(&self) -> Arc<Counters> {
        self.0.counters.clone()
    }

    /// Whether a flush failed, so that writes are refused.
    pub fn is_failed(&self) -> bool {
        self.0.failed.get()
    }

    /// Reads `buf.len()` bytes at `offset`, all of them or an error.
    ///
    /// Units: bytes, both multiples of 4 KiB. Works on a failed device. Cancel: the buffer goes
    /// back to its pool when the kernel is done with it. Cost: one device read, no copy.
    pub async fn read(&self, offset: u64, buf: Buf) -> (Result<(), BlockError>, Buf) {
        let len_bytes = buf.len() as u64;
        if let Err(error) = self.check(Operation::Read, offset, len_bytes) {
            return (Err(error), buf);
        }
        let (result, buf) = self.0.backend.read(offset, buf).await;
        (self.finish(Operation::Read, offset, len_bytes, result), buf)
    }

    /// Reads `list.len_bytes()` adjacent bytes at `offset` into several buffers. As `read`.
    pub async fn read_list(&self, offset: u64, list: BufList) -> (Result<(), BlockError>, BufList) {
        let len_bytes = list.len_bytes() as u64;
        if let Err(error) = self.check(Operation::Read, offset, len_bytes) {
            return (Err(error), list);
        }
        let (result, list) = self.0.backend.read_list(offset, list).await;
        (
            self.finish(Operation::Read, offset, len_bytes, result),
            list,
        )
    }

    /// Writes all bytes of `list` at `offset`. They survive a crash of this process when it
    /// returns, and power loss after the next completed `flush`.
    ///
    /// Units: bytes, both multiples of 4 KiB. Errors: `Failed` after a failed flush; `Io`, after
    /// which the range holds old bytes, new bytes or a mix. Cancel: the write may still happen.
    /// Cost: one device write, no copy.
    pub async fn write(&self, offset: u64, list: BufList) -> (Result<(), BlockError>, BufList) {
        let len_bytes = list.len_bytes() as u64;
        if let Err(error) = self.check(Operation::Write, offset, len_bytes) {
            return (Err(error), list);
        }
        let (result, list) = self.0.backend.write(offset, list).await;
        (
            self.finish(Operation::Write, offset, len_bytes, result),
            list,
        )
    }

    /// Makes every write that completed before this call durable.
    ///
    /// Callers that wait at the same time share one device flush, which started after each of
    /// them asked. Errors: any failure latches the device as failed, because the operating system
    /// may have dropped what it could not write: nothing is written any more until it is opened
    /// again. Cancel: safe, another caller takes over. Cost: at most two device flushes' time.
    pub async fn flush(&self) -> Result<(), BlockError> {
        let inner = &*self.0;
        let ticket = inner.flush.ticket();
        add(&inner.counters.flush_waiters, 1);
        loop {
            if inner.failed.get() {
                return Err(BlockError::Failed {
                    path: inner.path.clone(),
                });
            }
            match inner.flush.step(ticket) {
                Step::Done => return Ok(()),
                Step::Wait => inner.flush.wait().await,
                Step::Lead(lead) => {
                    let result = inner.backend.sync().await;
                    inner.failed.set(inner.failed.get() || result.is_err());
                    self.finish(Operation::Flush, 0, 0, result)?;
                    lead.complete();
                }
            }
        }
    }

    /// Tells the device that a range is not needed. What it reads as afterwards is undefined.
    ///
    /// Units: bytes, multiples of 4 KiB. Does nothing where the device does not support it.
    pub async fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), BlockError> {
        self.check(Operation::Discard, offset, len_bytes)?;
        if !self.0.geometry.supports_discard {
            return Ok(());
        }
        let result = self.0.backend.discard(offset, len_bytes).await;
        self.finish(Operation::Discard, offset, len_bytes, result)
    }

    fn check(&self, operation: Operation, offset: u64, len_bytes: u64) -> Result<(), BlockError> {
        let inner = &*self.0;
        let end = offset.checked_add(len_bytes);
        let inside = end.is_some_and(|end| end <= inner.geometry.len_bytes);
        let aligned = offset.is_multiple_of(BLOCK_BYTES) && len_bytes.is_multiple_of(BLOCK_BYTES);
        if !inside || !aligned {
            return Err(BlockError::OutOfRange {
                path: inner.path.clone(),
                operation,
                offset,
                len_bytes,
                device_bytes: inner.geometry.len_bytes,
            });
        }
        let changes = matches!(operation, Operation::Write | Operation::Discard);
        if changes && inner.read_only {
            return Err(self.io_error(operation, offset, len_bytes, &read_only_error()));
        }
        if changes && inner.failed.get() {
            return Err(BlockError::Failed {
                path: inner.path.clone(),
            });
        }
        Ok(())
    }

    fn finish(
        &self,
        operation: Operation,
        offset: u64,
        len_bytes: u64,
        result: io::Result<()>,
    ) -> Result<(), BlockError> {
        let counters = &self.0.counters;
        if let Err(error) = result {
            add(&counters.errors, 1);
            return Err(self.io_error(operation, offset, len_bytes, &error));
        }
        match operation {
            Operation::Read => {
                add(&counters.reads, 1);
                add(&counters.read_bytes, len_bytes);
            }
            Operation::Write => {
                add(&counters.writes, 1);
                add(&counters.written_bytes, len_bytes);
            }
            Operation::Flush => add(&counters.flushes, 1),
            Operation::Discard => add(&counters.discarded_bytes, len_bytes),
            Operation::Open => {}
        }
        Ok(())
    }

    fn io_error(
        &self,
        operation: Operation,
        offset: u64,
        len_bytes: u64,
        error: &io::Error,
    ) -> BlockError {
        BlockError::Io {
            path: self.0.path.clone(),
            operation,
            offset,
            len_bytes,
            kind: error.kind(),
            code: error.raw_os_error(),
        }
    }
}

fn read_only_error() -> io::Error {
    io::Error::from(io::ErrorKind::ReadOnlyFilesystem)
}

fn open_error(path: &Path, error: &io::Error) -> BlockError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => BlockError::NotFound { path },
        io::ErrorKind::AlreadyExists => BlockError::Exists { path },
        io::ErrorKind::WouldBlock => BlockError::Locked { path },
        io::ErrorKind::InvalidInput => BlockError::NotADevice { path },
        kind => BlockError::Io {
            path,
            operation: Operation::Open,
            offset: 0,
            len_bytes: 0,
            kind,
            code: error.raw_os_error(),
        },
    }
}
