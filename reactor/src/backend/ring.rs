//! One ring: the queue before it, and the files and buffers registered in it.
//!
//! Entries wait in a queue of ours when the kernel's is full; the table of operations bounds it
//! (plus one entry per cancel, listener and eventfd).
#![expect(
    unsafe_code,
    reason = "entries and registrations name memory that the kernel reads and writes"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use io_uring::{IoUring, Submitter, cqueue, squeue};

use super::Handle;
use super::arenas::Arenas;
use super::entries::Target;
use super::fixed::{FIXED_FILES, FixedSlot, FixedTable};
use crate::buf::BufPool;
use crate::probe::RingFeatures;

pub(super) struct Ring<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    pub(super) uring: IoUring<S, C>,
    features: RingFeatures,
    backlog: VecDeque<S>,
    files: Option<Rc<FixedTable>>,
    arenas: Option<Rc<Arenas>>,
}

impl Ring {
    /// Registers a table of files and, where the limit on locked memory allows it, `arenas`.
    pub(super) fn new(uring: IoUring, features: RingFeatures, arenas: &Rc<Arenas>) -> Ring {
        let buffers = register_arenas(&uring.submitter(), arenas);
        if let Err(error) = &buffers {
            tracing::warn!(
                %error,
                "buffers are not registered, each operation pins its own: raise memlock (ulimit -l)"
            );
        }
        let mut ring = Ring::bare(uring, features);
        ring.add_file_table();
        ring.arenas = buffers.is_ok().then(|| arenas.clone());
        ring
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Ring<S, C> {
    /// A ring that shares the buffers registered in `other`.
    pub(super) fn beside(uring: IoUring<S, C>, features: RingFeatures, other: &Ring) -> Ring<S, C> {
        let mut ring = Ring::bare(uring, features);
        ring.add_file_table();
        if let Some(arenas) = &other.arenas {
            let submitter = ring.uring.submitter();
            // Sharing does not count as locked memory a second time; it came with Linux 6.12.
            let shared = submitter
                .register_buffers_clone(other.uring.as_raw_fd())
                .or_else(|_| register_arenas(&submitter, arenas));
            ring.arenas = shared.is_ok().then(|| arenas.clone());
        }
        ring
    }

    /// A ring with nothing registered in it.
    pub(super) fn bare(uring: IoUring<S, C>, features: RingFeatures) -> Ring<S, C> {
        Ring {
            uring,
            features,
            backlog: VecDeque::new(),
            files: None,
            arenas: None,
        }
    }

    fn add_file_table(&mut self) {
        let registered = self.uring.submitter().register_files_sparse(FIXED_FILES);
        self.files = registered.is_ok().then(FixedTable::new);
        self.backlog.reserve(256);
    }

    pub(super) fn features(&self) -> &RingFeatures {
        &self.features
    }

    /// How this ring names a file of which `slot` is the place in its table.
    pub(super) fn target(&self, file: &Handle, slot: Option<u32>) -> Target<'_> {
        Target {
            fd: file.raw_fd(),
            slot,
            arenas: self.arenas.as_deref(),
            fixed_vectors: self.features.fixed_vectors,
        }
    }

    /// Queues an entry; it reaches the kernel with the next submission.
    pub(super) fn queue(&mut self, entry: S) {
        if self.backlog.is_empty() && self.push(&entry) {
            return;
        }
        self.backlog.push_back(entry);
    }

    /// Puts an entry in the kernel's queue if there is room.
    fn push(&mut self, entry: &S) -> bool {
        // SAFETY: what the entry points to (buffers, vectors, an address) belongs to its operation
        // in the table and stays valid and unmoved until the completion is reaped; see `op.rs`.
        // Entries of cancels, listeners and the eventfd point to nothing. The buffer of a trial
        // read is leaked when that read does not complete; see `run_alone` in `polled.rs`.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    /// Moves what waits into the kernel's queue. Returns whether nothing waits any more.
    pub(super) fn flush_backlog(&mut self) -> bool {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push(&entry) {
                self.backlog.push_front(entry);
                return false;
            }
        }
        true
    }

    /// Submits what is queued, without waiting.
    pub(super) fn submit(&self) -> io::Result<()> {
        tolerate(self.uring.submit())
    }

    /// A place in the table for an open file.
    pub(super) fn register(&self, fd: RawFd) -> Option<FixedSlot> {
        let slot = self.files.as_ref()?.take()?;
        self.update(slot.index(), fd).then_some(slot)
    }

    fn update(&self, index: u32, fd: RawFd) -> bool {
        self.uring
            .submitter()
            .register_files_update(index, &[fd])
            .is_ok()
    }

    /// Takes files that are closed here out of the kernel's table.
    pub(super) fn unregister_stale(&self) {
        if let Some(files) = &self.files {
            files.sweep(|index| {
                self.update(index, -1);
            });
        }
    }
}

/// Whether this process may register `pool` with a ring.
pub(crate) fn try_register(uring: &IoUring, pool: BufPool) -> io::Result<()> {
    let arenas = Arenas::new(vec![pool]);
    register_arenas(&uring.submitter(), &arenas)?;
    uring.submitter().unregister_buffers()
}

fn register_arenas(submitter: &Submitter<'_>, arenas: &Arenas) -> io::Result<()> {
    let pieces = arenas.pieces().iter().map(|piece| libc::iovec {
        iov_base: piece.start.cast(),
        iov_len: piece.len_bytes,
    });
    let pieces: Vec<libc::iovec> = pieces.collect();
    // SAFETY: the pieces are mapped for as long as `arenas` lives, and the ring keeps it. What the
    // kernel does to the memory is decided by entries; see `push`.
    unsafe { submitter.register_buffers(&pieces) }
}

/// Errors of an enter that pass by themselves: interrupted, timed out, or the completion queue
/// must be drained first.
pub(super) fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}
