//! The second ring, for block devices whose driver can be polled: the core looks for completions
//! itself, so the device sends no interrupt and nobody is woken.
//!
//! It carries reads and writes only; the kernel takes nothing else there. The loop looks at it only
//! while something is in flight in it, and does not park in that time.
//!
//! No gain is shown yet: that takes a real device. On an emulated NVMe (kernel 6.1), whose device
//! thread fights with the poller for the same two busy CPUs, three runs with polling took turns
//! with three without. 4 KiB reads at QD1 had medians of 233, 432 and 907 us polled, and of 159,
//! 253 and 406 us not; in the other five cases of `--example file_io` the two kinds overlap.
//! Polling is used only where the operator gave the driver queues for it (`nvme.poll_queues`, 0
//! unless set).

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue};

use super::entries::{self, Target};
use super::fixed::FixedSlot;
use super::ring::Ring;
use crate::buf::BufList;
use crate::fs::FileInfo;
use crate::op::Scratch;
use crate::probe::{RingFeatures, build_polled_ring};

/// How long a device may take to answer the read that tries polling.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct PolledRing<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    ring: Ring<S, C>,
    in_flight: usize,
}

/// A file's share of the polled ring.
pub(super) struct PolledPlace {
    slot: Option<FixedSlot>,
    limits: Limits,
    is_on: Cell<bool>,
}

/// What a polled transfer must keep to, so that the block layer does not split it: a polled request
/// never waits, a split one always has to, and the kernel (seen on 6.1) then tries it again for
/// ever. The ordinary ring takes what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) max_segments: u64,
    /// No transfer crosses a multiple of it; 0 when there is no such boundary.
    pub(super) chunk_bytes: u64,
}

/// The boundary at which devices let a transfer change from one piece of memory to another, and
/// the longest piece that is certainly one segment.
const PAGE_BYTES: usize = 4096;

/// Segments that one request of the kernel has in any case.
const MAX_VECTORS: u64 = 256;

impl Limits {
    /// Whether the list from byte `skip` on can go to byte `offset + skip` in one piece.
    pub(super) fn hold(&self, offset: u64, list: &BufList, mut skip: usize) -> bool {
        let start = offset + skip as u64;
        let len_bytes = (list.len_bytes() - skip) as u64;
        let crosses =
            self.chunk_bytes > 0 && start % self.chunk_bytes + len_bytes > self.chunk_bytes;
        if len_bytes > self.max_bytes || crosses {
            return false;
        }
        let (mut segments, mut is_last) = (0, false);
        for buf in list {
            if skip >= buf.len() {
                skip -= buf.len();
                continue;
            }
            let (at, len) = (buf.as_ptr().addr() + skip, buf.len() - skip);
            // A gap: the one before did not end on a page, or this one does not start on one.
            if is_last || !at.is_multiple_of(PAGE_BYTES) {
                return false;
            }
            is_last = !len.is_multiple_of(PAGE_BYTES);
            segments += len.div_ceil(PAGE_BYTES) as u64;
            skip = 0;
        }
        segments <= self.max_segments.min(MAX_VECTORS)
    }
}

/// Why a file uses the ordinary ring.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPolled {
    #[error("it is not a block device")]
    RegularFile,
    #[error("the page cache is used")]
    Cached,
    #[error("its driver has no queues for polling (NVMe: load the module with poll_queues=N)")]
    NoQueues,
    #[error("sysfs does not say how long its transfers may be")]
    NoLimits,
    #[error("a polled read failed ({0})")]
    Refused(#[from] io::Error),
}

/// Decides whether a file is polled. `io_poll` is the device's setting of that name; kernels that
/// ignore polling where there are no queues for it would pass the trial and burn a CPU for nothing.
pub(super) fn judge(
    info: &FileInfo,
    io_poll: Option<&str>,
    trial: impl FnOnce() -> io::Result<()>,
) -> Result<(), NotPolled> {
    if !info.is_block_device {
        return Err(NotPolled::RegularFile);
    }
    if !info.is_direct {
        return Err(NotPolled::Cached);
    }
    if io_poll == Some("0") {
        return Err(NotPolled::NoQueues);
    }
    trial().map_err(NotPolled::from)
}

/// Reads the start of a device by polling, in a ring of its own. Blocks up to [`TRIAL_PATIENCE`].
pub(super) fn try_read(device: BorrowedFd<'_>, list: BufList) -> io::Result<()> {
    let (uring, features) = build_polled_ring(8, 16)?;
    let target = Target {
        fd: device.as_raw_fd(),
        slot: None,
        arenas: None,
        fixed_vectors: false,
    };
    let mut scratch = Scratch::default();
    let entry = entries::read(&target, 0, &list, 0, &mut scratch);
    match run_alone(Ring::bare(uring, features), entry, (list, scratch))? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        result if result < 0 => Err(io::Error::from_raw_os_error(-result)),
        _ => Ok(()),
    }
}

/// Runs one entry, which points to `memory`, in a ring of its own and returns its result.
pub(super) fn run_alone<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
    mut ring: Ring<S, C>,
    entry: S,
    memory: (BufList, Scratch),
) -> io::Result<i32> {
    ring.queue(entry);
    let give_up = crate::clock::now() + TRIAL_PATIENCE;
    let mut refused = io::Error::from(io::ErrorKind::TimedOut);
    while crate::clock::now() < give_up {
        if let Err(error) = ring.submit() {
            refused = error;
            break;
        }
        if let Some(entry) = ring.uring.completion().next() {
            let entry: cqueue::Entry = entry.into();
            return Ok(entry.result());
        }
    }
    // The device may still write into it.
    std::mem::forget(memory);
    Err(refused)
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> PolledRing<S, C> {
    /// With the same buffers registered as in the core's ordinary ring.
    pub(super) fn new(
        (uring, features): (IoUring<S, C>, RingFeatures),
        beside: &Ring,
    ) -> PolledRing<S, C> {
        PolledRing {
            ring: Ring::beside(uring, features, beside),
            in_flight: 0,
        }
    }

    pub(super) fn ring(&self) -> &Ring<S, C> {
        &self.ring
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// A place for an open device.
    pub(super) fn admit(&self, device: BorrowedFd<'_>, limits: Limits) -> PolledPlace {
        PolledPlace {
            slot: self.ring.register(device.as_raw_fd()),
            limits,
            is_on: Cell::new(true),
        }
    }

    pub(super) fn queue(&mut self, entry: S) {
        self.in_flight += 1;
        self.ring.queue(entry);
    }

    /// Submits what is queued and looks once at the devices; see [`PolledRing::next`].
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.ring.unregister_stale();
        if self.in_flight == 0 {
            return Ok(());
        }
        // What does not fit now is submitted with the next look.
        self.ring.flush_backlog();
        self.ring.submit()
    }

    /// The next completion that was found.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        if self.in_flight == 0 {
            return None;
        }
        let entry = self.ring.uring.completion().next()?;
        self.in_flight -= 1;
        Some(entry.into())
    }
}

impl PolledPlace {
    pub(super) fn index(&self) -> Option<u32> {
        self.slot.as_ref().map(FixedSlot::index)
    }

    pub(super) fn takes(&self, offset: u64, list: &BufList, skip: usize) -> bool {
        self.limits.hold(offset, list, skip)
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// From now on the ordinary ring is used. Returns whether that is new.
    pub(super) fn stop(&self) -> bool {
        self.is_on.replace(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> FileInfo {
        FileInfo {
            len_bytes: 1 << 30,
            logical_block_bytes: 512,
            volatile_cache: true,
            is_block_device: true,
            supports_discard: true,
            is_direct: true,
            is_memory: false,
            is_polled: false,
            is_passthrough: false,
        }
    }

    const LIMITS: Limits = Limits {
        max_bytes: 64 << 10,
        max_segments: 4,
        chunk_bytes: 1 << 20,
    };

    #[test]
    fn what_would_be_split_is_not_polled() {
        let pool = crate::buf::BufPool::new(4 << 20, "split").unwrap();
        let list = |lens: &[usize]| -> BufList {
            let bufs = lens.iter().map(|&len| pool.try_alloc(len).unwrap());
            bufs.collect()
        };
        let holds = |offset, list: &BufList| LIMITS.hold(offset, list, 0);
        assert!(holds(0, &list(&[4096])));
        assert!(holds(0, &list(&[4096, 8192, 512])));
        assert!(!holds(0, &list(&[20480])), "five segments");
        assert!(!holds(0, &list(&[128 << 10])), "too long");
        assert!(!holds(0, &list(&[512, 4096])), "a gap behind the first");
        let inner = pool.try_alloc(8192).unwrap().slice(512..4608);
        assert!(!holds(0, &BufList::from(inner)), "not on a page");
        assert!(holds((1 << 20) - 4096, &list(&[4096])));
        assert!(!holds((1 << 20) - 4096, &list(&[8192])), "over a boundary");
        let long = list(&[16384, 4096]);
        assert!(!LIMITS.hold(0, &long, 0));
        assert!(LIMITS.hold(0, &long, 4096), "what is left fits");
        assert!(!LIMITS.hold(0, &long, 512), "the rest starts off a page");
    }

    fn refused() -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    #[test]
    fn only_devices_that_pass_the_trial_are_polled() {
        // setting of the driver | trial passes | polled
        let table = [
            (Some("1"), true, true),
            (Some("1"), false, false),
            (Some("0"), true, false),
            (None, true, true),
            (None, false, false),
        ];
        for (setting, passes, polled) in table {
            let trial = || if passes { Ok(()) } else { refused() };
            let verdict = judge(&device(), setting, trial);
            assert_eq!(verdict.is_ok(), polled, "{setting:?} {passes} {verdict:?}");
        }
    }

    #[test]
    fn files_and_cached_devices_are_not_even_tried() {
        let trial = || -> io::Result<()> { panic!("it was tried") };
        let file = FileInfo {
            is_block_device: false,
            ..device()
        };
        let verdict = judge(&file, Some("1"), trial);
        assert!(matches!(verdict, Err(NotPolled::RegularFile)));
        let cached = FileInfo {
            is_direct: false,
            ..device()
        };
        let verdict = judge(&cached, Some("1"), trial);
        assert!(matches!(verdict, Err(NotPolled::Cached)));
        let verdict = judge(&device(), Some("0"), trial);
        assert!(matches!(verdict, Err(NotPolled::NoQueues)));
    }

    #[test]
    fn polling_stops_once() {
        let place = PolledPlace {
            slot: None,
            limits: LIMITS,
            is_on: Cell::new(true),
        };
        assert!(place.is_on());
        assert!(place.stop());
        assert!(!place.stop());
        assert!(!place.is_on());
    }

    #[test]
    fn a_trial_says_what_the_kernel_answers() {
        // A character device has no polling whatever the machine.
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let pool = crate::buf::BufPool::new(4 << 20, "trial").unwrap();
        let list = BufList::from(pool.try_alloc(4096).unwrap());
        let error = try_read(std::os::fd::AsFd::as_fd(&zero), list).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
        assert_eq!(pool.in_use_bytes(), 0, "the buffer is back");
    }
}
