//! NVMe passthrough: reads and writes of a namespace as commands of its own, past the block layer.
//!
//! A generic device (`/dev/ngXnY`) is opened together with its block device, which is claimed for
//! us alone, so that nobody can mount it, and which carries locks, syncs and discards. The commands
//! go through a third ring, because their entries are larger. As the polled ring it is looked at
//! only while something is in flight in it, and the core does not park in that time.
//!
//! No gain is shown yet: that takes a real device. On an emulated NVMe the times of commands and of
//! the block device overlap in every case of `--example file_io`. It is used only for paths that
//! name a generic device.
//!
//! Source: NVM Command Set Specification, Read and Write commands; `linux/nvme_ioctl.h`.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use io_uring::opcode;
use io_uring::squeue::{Entry128, Flags};
use io_uring::types::Fd;
use io_uring::{cqueue, squeue};

use super::entries;
use super::fixed::FixedSlot;
use super::polled::{PolledRing, run_alone};
use super::ring::Ring;
use crate::buf::BufList;
use crate::fs::{FileInfo, OpenOptions};
use crate::op::Scratch;
use crate::probe::build_command_ring;

pub(super) type NvmeRing = PolledRing<squeue::Entry128, cqueue::Entry32>;

/// `NVME_URING_CMD_IO` and `NVME_URING_CMD_IO_VEC`: one buffer, or a vector of them.
const COMMAND: u32 = 0xC048_4E80;
const VECTOR_COMMAND: u32 = 0xC048_4E81;

const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

/// Most blocks of one command: its count has 16 bits and starts at zero.
const MAX_BLOCKS: u64 = 1 << 16;

/// The pages by which a device counts the pieces of its transfers are at least this long.
const PAGE_BYTES: usize = 4096;

/// What commands to a namespace must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) nsid: u32,
    pub(super) block_bytes: u32,
    pub(super) len_bytes: u64,
    /// The longest transfer; a multiple of the block.
    pub(super) max_bytes: usize,
    /// Pieces of memory per transfer.
    pub(super) max_segments: usize,
}

/// A namespace that is open for commands.
pub(super) struct NvmePlace {
    device: File,
    pub(super) slot: Option<FixedSlot>,
    pub(super) namespace: Namespace,
    is_on: Cell<bool>,
}

/// The block device of a generic device; `None` for every other path.
pub(super) fn block_sibling(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let numbers = path.file_name()?.to_str()?.strip_prefix("ng")?.to_owned();
    let is_generic = fs::metadata(&path).ok()?.file_type().is_char_device();
    let sibling = path.with_file_name(format!("nvme{numbers}"));
    (is_generic && fs::metadata(&sibling).ok()?.file_type().is_block_device()).then_some(sibling)
}

/// What sysfs says about the namespace of a block device. `Unsupported` when its blocks carry
/// metadata, which the block layer would make up.
fn describe(block: &Path, info: &FileInfo) -> io::Result<Namespace> {
    let name = block.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = Path::new("/sys/class/block").join(name);
    let number = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let required = |file: &str| number(file).ok_or(io::ErrorKind::Unsupported);
    let protection = fs::read_to_string(folder.join("integrity/format")).unwrap_or_default();
    let has_metadata =
        number("metadata_bytes").unwrap_or(0) > 0 || !matches!(protection.trim(), "" | "none");
    if has_metadata {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let block_bytes = info.logical_block_bytes;
    let max_bytes = required("queue/max_hw_sectors_kb")? << 10;
    let max_bytes = max_bytes.min(MAX_BLOCKS * u64::from(block_bytes));
    Ok(Namespace {
        nsid: required("nsid")? as u32,
        block_bytes,
        len_bytes: info.len_bytes,
        max_bytes: (max_bytes - max_bytes % u64::from(block_bytes)) as usize,
        max_segments: required("queue/max_segments")? as usize,
    })
}

/// Opens the generic device beside its block device, which is open and described by `info`.
pub(super) fn open(
    generic: &Path,
    block: &Path,
    options: &OpenOptions,
    info: &FileInfo,
) -> io::Result<NvmePlace> {
    let device = fs::OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .custom_flags(libc::O_CLOEXEC)
        .open(generic)?;
    Ok(NvmePlace {
        device,
        slot: None,
        namespace: describe(block, info)?,
        is_on: Cell::new(true),
    })
}

/// Reads the start of a namespace in a ring of its own.
pub(super) fn try_read(place: &NvmePlace, list: BufList) -> io::Result<()> {
    let (uring, features) = build_command_ring(8, 16)?;
    let mut scratch = Scratch::default();
    let entry = place.entry(false, 0, (&list, 0), &mut scratch)?;
    let entry = entry.ok_or(io::ErrorKind::UnexpectedEof)?;
    check(run_alone(
        Ring::bare(uring, features),
        entry,
        (list, scratch),
    )?)
}

impl NvmePlace {
    pub(super) fn raw_fd(&self) -> i32 {
        self.device.as_raw_fd()
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// From now on the block device is used. Returns whether that is new.
    pub(super) fn stop(&self) -> bool {
        self.is_on.replace(false)
    }

    /// The command for as much of a transfer from byte `skip` on as one can carry: what `scratch`
    /// points to afterwards. `None` when nothing of it lies on the namespace. `InvalidInput` when
    /// it does not consist of whole blocks.
    pub(super) fn entry(
        &self,
        is_write: bool,
        offset: u64,
        (list, skip): (&BufList, usize),
        scratch: &mut Scratch,
    ) -> io::Result<Option<Entry128>> {
        entries::gather(list, skip, scratch);
        let start = offset + skip as u64;
        let len_bytes = self.namespace.cut(start, &mut scratch.iovecs);
        if len_bytes == 0 {
            return Ok(None);
        }
        let block = u64::from(self.namespace.block_bytes);
        if !start.is_multiple_of(block) || !(len_bytes as u64).is_multiple_of(block) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (code, addr, len) = match scratch.iovecs[..] {
            [one] => (COMMAND, one.iov_base.addr(), len_bytes),
            ref many => (VECTOR_COMMAND, many.as_ptr().addr(), many.len()),
        };
        let blocks = (start / block, len_bytes as u64 / block);
        let command = self
            .namespace
            .command(is_write, blocks, (addr as u64, len as u32));
        let number = self.slot.as_ref().map(FixedSlot::index);
        let fd = Fd(number.map_or(self.raw_fd(), |index| index as i32));
        // No registered buffers: kernels (6.1) that count all pages of a registration refuse
        // commands that name a part of a large one.
        let entry = opcode::UringCmd80::new(fd, code).cmd(command).build();
        Ok(Some(match number {
            Some(_) => entry.flags(Flags::FIXED_FILE),
            None => entry,
        }))
    }
}

impl Namespace {
    /// The 72 bytes of `struct nvme_uring_cmd`, padded; `blocks` is the first and how many.
    fn command(&self, is_write: bool, blocks: (u64, u64), memory: (u64, u32)) -> [u8; 80] {
        let mut bytes = [0; 80];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &[if is_write { WRITE } else { READ }]);
        put(4, &self.nsid.to_ne_bytes());
        put(24, &memory.0.to_ne_bytes());
        put(36, &memory.1.to_ne_bytes());
        // Dwords 10 and 11: the first block; 12: how many, less one.
        put(40, &(blocks.0 as u32).to_ne_bytes());
        put(44, &((blocks.0 >> 32) as u32).to_ne_bytes());
        put(48, &((blocks.1 - 1) as u32).to_ne_bytes());
        bytes
    }

    /// Shortens the vectors to what one command from byte `start` on can carry, in whole blocks
    /// when that cuts anything. Returns the bytes left.
    fn cut(&self, start: u64, iovecs: &mut Vec<libc::iovec>) -> usize {
        let wanted: usize = iovecs.iter().map(|iovec| iovec.iov_len).sum();
        let room = self.len_bytes.saturating_sub(start);
        let mut limit = self
            .max_bytes
            .min(usize::try_from(room).unwrap_or(usize::MAX));
        let (mut bytes, mut segments) = (0, 0);
        for iovec in iovecs.iter() {
            // Each may touch one page more than its length has.
            let pages = iovec.iov_len / PAGE_BYTES + 2;
            if segments + pages > self.max_segments {
                let left = self.max_segments.saturating_sub(segments + 2);
                limit = limit.min(bytes + left * PAGE_BYTES);
                break;
            }
            segments += pages;
            bytes += iovec.iov_len;
        }
        let mut left = if wanted <= limit {
            wanted
        } else {
            limit - limit % self.block_bytes as usize
        };
        let len_bytes = left;
        iovecs.retain_mut(|iovec| {
            iovec.iov_len = iovec.iov_len.min(left);
            left -= iovec.iov_len;
            iovec.iov_len > 0
        });
        len_bytes
    }
}

/// A command's answer: 0, an error of the kernel, or the status of the device.
pub(super) fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        status => {
            tracing::warn!(
                status = format_args!("{status:#x}"),
                "an NVMe command failed"
            );
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: Namespace = Namespace {
        nsid: 7,
        block_bytes: 512,
        len_bytes: 1 << 30,
        max_bytes: 128 << 10,
        max_segments: 34,
    };

    fn vectors(lens: &[usize]) -> Vec<libc::iovec> {
        let vector = |&iov_len| libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len,
        };
        lens.iter().map(vector).collect()
    }

    fn cut(start: u64, lens: &[usize]) -> (usize, Vec<usize>) {
        let mut vectors = vectors(lens);
        let bytes = NAMESPACE.cut(start, &mut vectors);
        (bytes, vectors.iter().map(|vector| vector.iov_len).collect())
    }

    #[test]
    fn a_transfer_is_cut_to_what_the_device_takes() {
        assert_eq!(cut(0, &[4096]), (4096, vec![4096]));
        assert_eq!(cut(0, &[1 << 20]), (128 << 10, vec![128 << 10]));
        // 34 segments hold 11 slices that may touch three pages each.
        let (bytes, slices) = cut(0, &[4096; 32]);
        assert_eq!((bytes, slices.len()), (11 * 4096, 11));
        // The end of the namespace.
        assert_eq!(cut((1 << 30) - 512, &[4096]), (512, vec![512]));
        assert_eq!(cut(1 << 30, &[4096]), (0, vec![]));
        assert_eq!(cut(1 << 40, &[4096]), (0, vec![]));
        assert_eq!(cut(0, &[]), (0, vec![]));
    }

    #[test]
    fn a_cut_leaves_whole_blocks() {
        let (bytes, slices) = cut(0, &[(100 << 10) + 100, 64 << 10]);
        assert_eq!(bytes % 512, 0);
        assert_eq!(slices.iter().sum::<usize>(), bytes);
        // What needs no cut stays as it is, and is refused later.
        assert_eq!(cut(0, &[100]), (100, vec![100]));
    }

    #[test]
    fn a_command_has_its_fields_where_the_kernel_looks() {
        let first = 0x1_2345_6789;
        let bytes = NAMESPACE.command(true, (first, 8), (0xABCD_EF00, 4096));
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes[0], 0x01);
        assert_eq!(word(4), 7);
        assert_eq!((word(24), word(28)), (0xABCD_EF00, 0));
        assert_eq!(word(36), 4096);
        assert_eq!((word(40), word(44), word(48)), (0x2345_6789, 1, 7));
        assert_eq!(NAMESPACE.command(false, (0, 1), (0, 0))[0], 0x02);
    }

    #[test]
    fn a_device_status_is_an_error() {
        assert!(check(0).is_ok());
        assert_eq!(check(0x4080).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(check(-95).unwrap_err().raw_os_error(), Some(95));
    }

    #[test]
    fn other_paths_have_no_block_sibling() {
        for path in ["/dev/null", "/dev/ng-none", "/", "/proc/self/exe"] {
            assert_eq!(block_sibling(Path::new(path)), None, "{path}");
        }
    }
}
