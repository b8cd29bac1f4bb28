//! Opening files on a real kernel, and finding out what they are.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::fixed::FixedSlot;
use super::nvme::NvmePlace;
use super::polled::{Limits, PolledPlace};
use crate::fs::{FileInfo, OpenOptions};

/// How long `open` waits for a lock. The lock of a process that was killed lasts until the kernel
/// has ended its I/O in flight and closed its rings, which happens after the process is gone. That
/// is what makes it safe: no write of the dead process can land after we have the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// An open file, with its place in the ring's table of registered files if it has one, and in the
/// polled ring if it is polled.
pub(super) struct FileHandle {
    file: File,
    fixed: Option<FixedSlot>,
    polled: Option<PolledPlace>,
    nvme: Option<NvmePlace>,
    is_locked: bool,
}

impl FileHandle {
    pub(super) fn new(
        file: File,
        fixed: Option<FixedSlot>,
        polled: Option<PolledPlace>,
        options: &OpenOptions,
    ) -> FileHandle {
        FileHandle {
            file,
            fixed,
            polled,
            nvme: None,
            is_locked: options.exclusive_lock,
        }
    }

    /// The same with a way for commands.
    pub(super) fn with_nvme(self, nvme: Option<NvmePlace>) -> FileHandle {
        let mut file = self;
        file.nvme = nvme;
        file
    }

    /// Its way for commands, while reads and writes go there.
    pub(super) fn nvme(&self) -> Option<&NvmePlace> {
        self.nvme.as_ref().filter(|place| place.is_on())
    }

    pub(super) fn fixed_index(&self) -> Option<u32> {
        self.fixed.as_ref().map(FixedSlot::index)
    }

    /// Its place in the polled ring, while reads and writes go there.
    pub(super) fn polled(&self) -> Option<&PolledPlace> {
        self.polled.as_ref().filter(|place| place.is_on())
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for FileHandle {
    /// No operation is in flight on it. The ring's table may keep the file open for a while, so the
    /// lock is released by itself.
    fn drop(&mut self) {
        if self.is_locked
            && let Err(error) = self.file.unlock()
        {
            tracing::warn!(%error, "releasing a file's lock failed");
        }
    }
}

/// Opens, locks and (with `create_len`) makes a file. Blocks.
///
/// With `is_claimed` a block device is ours alone: nobody mounts it or claims it meanwhile
/// (`ResourceBusy` when somebody has).
pub(super) fn open(
    path: &Path,
    options: &OpenOptions,
    is_claimed: bool,
) -> io::Result<(File, FileInfo)> {
    let claim = if is_claimed { libc::O_EXCL } else { 0 };
    let give_up = crate::clock::now() + LOCK_PATIENCE;
    let (file, is_direct) = loop {
        match open_direct(path, options, claim) {
            // As a lock, a claim ends a little after its owner.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy
                    && is_claimed
                    && crate::clock::now() < give_up =>
            {
                crate::clock::block_for(LOCK_RETRY);
            }
            opened => break opened?,
        }
    };
    if options.exclusive_lock {
        lock(&file)?;
    }
    if let Some(len_bytes) = options.create_len
        && let Err(error) = reserve(&file, path, len_bytes)
    {
        // What could not be made whole must not be found later and taken for a real one.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    let info = describe(&file, is_direct)?;
    Ok((file, info))
}

fn open_direct(path: &Path, options: &OpenOptions, claim: libc::c_int) -> io::Result<(File, bool)> {
    if options.create_len.is_none() {
        // Before opening: opening a pipe or a tape by mistake can hang or move it.
        check_kind(&fs::metadata(path)?)?;
    }
    let mut open = fs::OpenOptions::new();
    open.read(true)
        .write(!options.read_only)
        .create_new(options.create_len.is_some());
    // O_NONBLOCK: opening a pipe or a tape by mistake must not hang the core.
    open.mode(0o600)
        .custom_flags(libc::O_DIRECT | libc::O_NONBLOCK | claim);
    match open.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // Some file systems make the file before they refuse O_DIRECT.
            open.create_new(false).create(options.create_len.is_some());
            let file = open.custom_flags(claim).open(path)?;
            tracing::warn!(path = %path.display(), "no direct I/O here: the page cache is used");
            Ok((file, false))
        }
        opened => Ok((opened?, true)),
    }
}

fn lock(file: &File) -> io::Result<()> {
    let give_up = crate::clock::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if crate::clock::now() < give_up => {
                crate::clock::block_for(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Reserves the space and makes file and directory entry durable.
fn reserve(file: &File, path: &Path, len_bytes: u64) -> io::Result<()> {
    let len = i64::try_from(len_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        // The file system cannot reserve: a sparse file must do.
        Err(nix::errno::Errno::EOPNOTSUPP) => file.set_len(len_bytes)?,
        reserved => reserved?,
    }
    file.sync_all()?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether the file's file system keeps it in memory. False when the kernel does not tell.
fn lies_in_memory(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

fn describe(file: &File, is_direct: bool) -> io::Result<FileInfo> {
    let metadata = file.metadata()?;
    check_kind(&metadata)?;
    let is_block_device = metadata.file_type().is_block_device();
    let len_bytes = (&mut &*file).seek(SeekFrom::End(0))?;
    let device = if is_block_device {
        metadata.rdev()
    } else {
        metadata.dev()
    };
    let queue = queue_folder(device);
    let setting = |name: &str| {
        let text = fs::read_to_string(queue.as_ref()?.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let number = |name: &str| setting(name)?.parse::<u64>().ok();
    Ok(FileInfo {
        len_bytes,
        logical_block_bytes: number("logical_block_size").map_or(4096, |bytes| bytes as u32),
        volatile_cache: setting("write_cache").is_none_or(|mode| mode != "write through"),
        is_block_device,
        supports_discard: !is_block_device
            || number("write_zeroes_max_bytes").is_some_and(|bytes| bytes > 0),
        is_direct,
        // A device's node lies on devtmpfs, which calls itself tmpfs.
        is_memory: !is_block_device && lies_in_memory(file),
        is_polled: false,
        is_passthrough: false,
    })
}

/// A limit or setting of a block device, in the words of sysfs.
pub(super) fn queue_setting(device: &File, name: &str) -> Option<String> {
    let queue = queue_folder(device.metadata().ok()?.rdev())?;
    let text = fs::read_to_string(queue.join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// What keeps a transfer of a block device in one piece.
pub(super) fn unsplit_limits(device: &File) -> Option<Limits> {
    let number = |name: &str| queue_setting(device, name)?.parse::<u64>().ok();
    Some(Limits {
        max_bytes: number("max_sectors_kb")? << 10,
        max_segments: number("max_segments")?,
        chunk_bytes: number("chunk_sectors")? << 9,
    })
}

fn check_kind(metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let text = "neither a regular file nor a block device";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The sysfs folder with a block device's limits; a partition's is its disk's. `None` for file
/// systems without one device below.
fn queue_folder(device: u64) -> Option<PathBuf> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let candidates = [folder.join("queue"), folder.parent()?.join("queue")];
    candidates.into_iter().find(|queue| queue.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_refused() {
        let read = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let error = open(&std::env::temp_dir(), &read, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let path = std::env::temp_dir().join(format!("reactor-pipe-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let read = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let error = open(&path, &read, false).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_character_device_is_refused() {
        let read = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let error = open(Path::new("/dev/null"), &read, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
