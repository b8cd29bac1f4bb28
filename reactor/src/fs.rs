//! Files and block devices.

use std::io;
use std::path::Path;

use crate::backend::{Handle, Op, Outcome};
use crate::buf::{Buf, BufList};
use crate::context;
use crate::op::OpFuture;

/// What a file or device says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Size when it was opened.
    pub len_bytes: u64,
    /// Offsets, lengths and memory of an I/O are multiples of this.
    pub logical_block_bytes: u32,
    /// Whether a completed write may be lost with the power before a [`File::sync`]. True when
    /// nothing is known.
    pub volatile_cache: bool,
    /// A block device, not a regular file.
    pub is_block_device: bool,
    /// Whether [`File::discard`] is expected to work.
    pub supports_discard: bool,
    /// Whether I/O goes past the page cache.
    pub is_direct: bool,
    /// Whether it lies in memory (tmpfs): reading costs a copy and no waiting.
    pub is_memory: bool,
    /// Whether reads and writes are polled for: a core with any of them in flight does not sleep.
    pub is_polled: bool,
    /// Whether reads and writes are NVMe commands past the block layer; the core does not sleep then
    /// either.
    pub is_passthrough: bool,
}

/// How to open a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make a new file of this length. `AlreadyExists` when there is one. The space is reserved but
    /// not written: it reads as zeroes. File and directory entry are durable when `open` returns.
    pub create_len: Option<u64>,
    /// Take an advisory exclusive lock, held while the file is open; `WouldBlock` when someone else
    /// still has it after 2 s (a killed process holds it until its I/O in flight is over).
    pub exclusive_lock: bool,
    /// Refuse writes.
    pub read_only: bool,
}

/// An open file or block device. Clones share it; it closes with the last clone and the last
/// operation in flight.
#[derive(Clone, Debug)]
pub struct File {
    handle: Handle,
    info: std::rc::Rc<FileInfo>,
}

impl File {
    /// Opens a regular file or a block device with direct I/O where the file system allows it.
    /// `/dev/ngXnY` opens the block device `/dev/nvmeXnY` for us alone, and reads and writes it by
    /// commands past the block layer where the kernel allows that.
    ///
    /// Errors: `NotFound`, `AlreadyExists` (`create_len`), `WouldBlock` (locked by another),
    /// `InvalidInput` (neither a file nor a block device), `ResourceBusy` (an
    /// NVMe namespace that is mounted or claimed), and what the kernel says.
    /// Blocks the core: not for the data path.
    pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
        let (handle, info) = context::with_core(|core| core.backend().open_file(path, options))?;
        Ok(File {
            handle,
            info: std::rc::Rc::new(info),
        })
    }

    /// What the file said when it was opened.
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Fills the whole buffer, or fails; `UnexpectedEof` when the file ends before.
    ///
    /// The buffer must be unshared (`InvalidInput`). On an error its contents are undefined.
    /// Cancel: the read goes on and its buffer stays away until it is done. Cost: one operation.
    pub async fn read_at(&self, offset: u64, buf: Buf) -> (io::Result<()>, Buf) {
        if buf.is_empty() {
            return (Ok(()), buf);
        }
        let (result, mut list) = self.read_list_at(offset, BufList::from(buf)).await;
        let buf = list
            .pop()
            .expect("a read gives back the buffers it was given");
        (result, buf)
    }

    /// As [`File::read_at`] for a list that lies in one piece on the file.
    pub async fn read_list_at(&self, offset: u64, list: BufList) -> (io::Result<()>, BufList) {
        if !list.is_unique() {
            return (Err(io::Error::from(io::ErrorKind::InvalidInput)), list);
        }
        let make = |list, skip| Op::Read {
            file: self.handle.clone(),
            offset,
            list,
            skip,
        };
        transfer(list, make, io::ErrorKind::UnexpectedEof).await
    }

    /// Writes the whole list in one piece, in one operation up to 1024 slices.
    ///
    /// Complete means that the device has it, not that it survives power loss: see [`File::sync`].
    /// Cancel: the write goes on; whether it happened is unknown until a later read.
    pub async fn write_at(&self, offset: u64, list: BufList) -> (io::Result<()>, BufList) {
        let make = |list, skip| Op::Write {
            file: self.handle.clone(),
            offset,
            list,
            skip,
        };
        transfer(list, make, io::ErrorKind::WriteZero).await
    }

    /// After `Ok` every write that had completed before the call survives power loss.
    /// After an error nothing is known about them: the caller must write them again or give up.
    pub async fn sync(&self) -> io::Result<()> {
        self.run(Op::Sync {
            file: self.handle.clone(),
        })
        .await
    }

    /// Gives a range back to the device or file system, which then reads as zeroes.
    /// `Unsupported` when it cannot; the caller may write zeroes instead.
    pub async fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.run(Op::Discard {
            file: self.handle.clone(),
            offset,
            len_bytes,
        })
        .await
    }

    async fn run(&self, op: Op) -> io::Result<()> {
        let (result, _) = OpFuture::new(context::current(), op).await;
        result.map(|_| ())
    }
}

/// Interruptions that one transfer bears.
const MAX_INTERRUPTS: u32 = 64;

/// Moves a whole list, continuing after short transfers. Each step moves at least one byte or uses
/// up an interruption, so the number of steps is bounded.
async fn transfer(
    list: BufList,
    make: impl Fn(BufList, usize) -> Op,
    on_zero: io::ErrorKind,
) -> (io::Result<()>, BufList) {
    let (mut list, mut skip, mut interrupts) = (list, 0, 0);
    while skip < list.len_bytes() {
        let (result, op) = OpFuture::new(context::current(), make(list, skip)).await;
        list = match op {
            Op::Read { list, .. } | Op::Write { list, .. } => list,
            _ => panic!("a transfer gives back the op it submitted"),
        };
        match result {
            Ok(Outcome::Bytes(0)) => return (Err(on_zero.into()), list),
            Ok(Outcome::Bytes(count)) => skip += count,
            Ok(other) => panic!("a transfer ended with {other:?}"),
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted && interrupts < MAX_INTERRUPTS =>
            {
                interrupts += 1;
            }
            Err(error) => return (Err(error), list),
        }
    }
    (Ok(()), list)
}
