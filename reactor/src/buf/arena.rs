//! The memory of a pool, and [`Buf`]: a counted slice of one buffer in it. Also [`Region`]: mapped
//! memory that no pool cuts up.
//!
//! Why it is sound: a buffer's bytes belong to whoever holds its `Buf`s. The count of a buffer is
//! the number of its `Buf`s; bytes are written only through `&mut Buf` while the count is one, and
//! read only through a shared borrow. A buffer that is out holds one reference to its pool, which
//! all of its `Buf`s live on. A `Buf` moves between threads but is not shared by them (not `Sync`),
//! so whoever borrows the only `Buf` of a buffer is alone with its count. Operations in flight hold a `Buf`, so nobody else can write
//! what the kernel reads, or see what the kernel writes. A fresh arena is zeroed by the kernel, so
//! every byte is always initialised. A `Region` has no `Buf`s: its bytes are borrowed like any
//! other value's.
#![expect(unsafe_code, reason = "slices of mapped memory, shared by count")]

use std::fmt;
use std::io;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pool::Shared;

/// Size of a huge page.
const HUGE_BYTES: usize = 2 << 20;

/// Most a process can map with the usual 47 bits of addresses; keeps lengths from overflowing.
const REGION_BYTES_MAX: usize = 1 << 47;

/// Mapped, zeroed, page-aligned memory.
pub(super) struct Arena {
    start: NonNull<u8>,
    len_bytes: usize,
    is_huge: bool,
}

// SAFETY: an arena is plain memory; who may touch which part is decided by `Buf` (see above).
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps memory: huge pages when enough were set aside and are free, else ordinary ones, of which
    /// the kernel is asked to make large ones.
    pub(super) fn map(len_bytes: usize) -> io::Result<Arena> {
        let huge_len = len_bytes.next_multiple_of(HUGE_BYTES);
        if let Ok(start) = map_anonymous(huge_len, libc::MAP_HUGETLB) {
            let arena = Arena {
                start,
                len_bytes: huge_len,
                is_huge: true,
            };
            // A promised huge page may turn out to be missing when it is touched, above all where a
            // control group limits them: that would end the process with SIGBUS.
            if arena.populate().is_ok() {
                return Ok(arena);
            }
        }
        let arena = Arena {
            start: map_anonymous(len_bytes, 0)?,
            len_bytes,
            is_huge: false,
        };
        arena.advise_large_pages();
        Ok(arena)
    }

    pub(super) fn is_huge(&self) -> bool {
        self.is_huge
    }

    /// Takes all of the memory from the machine.
    /// Errors: `OutOfMemory` and others; a kernel before 5.14 does nothing.
    fn populate(&self) -> io::Result<()> {
        #[cfg(not(miri))]
        {
            let start = self.start.as_ptr().cast();
            // SAFETY: the range is our own mapping, and touching it changes no byte of it.
            let result = unsafe { libc::madvise(start, self.len_bytes, libc::MADV_POPULATE_WRITE) };
            let error = io::Error::last_os_error();
            if result != 0 && error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Where it is and how long.
    pub(super) fn extent(&self) -> (*mut u8, usize) {
        (self.start.as_ptr(), self.len_bytes)
    }

    /// Asks for large pages where none were set aside: fewer faults and fewer misses in the
    /// processor's table of pages. A kernel without them refuses the advice, and that is fine.
    fn advise_large_pages(&self) {
        #[cfg(not(miri))]
        // SAFETY: the range is our own mapping, and the advice changes no byte of it.
        unsafe {
            libc::madvise(
                self.start.as_ptr().cast(),
                self.len_bytes,
                libc::MADV_HUGEPAGE,
            );
        }
    }

    fn at(&self, offset: usize, len_bytes: usize) -> NonNull<u8> {
        assert!(
            offset + len_bytes <= self.len_bytes,
            "a buffer lies inside its arena"
        );
        // SAFETY: in bounds, checked above.
        unsafe { self.start.add(offset) }
    }
}

#[cfg(not(miri))]
fn map_anonymous(len_bytes: usize, extra_flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | extra_flags;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing else.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len_bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

#[cfg(miri)]
fn map_anonymous(len_bytes: usize, extra_flags: libc::c_int) -> io::Result<NonNull<u8>> {
    if extra_flags != 0 {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    // SAFETY: the size is not zero (pools have a minimum).
    let start = unsafe { std::alloc::alloc_zeroed(layout(len_bytes)) };
    NonNull::new(start).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

#[cfg(miri)]
fn layout(len_bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(len_bytes, 4096).expect("a pool fits a layout")
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `map` made it with this length, and no `Buf` is left: each holds the pool alive.
        // A `Region` ends with no borrow of it left.
        #[cfg(not(miri))]
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len_bytes);
        }
        // SAFETY: as above.
        #[cfg(miri)]
        unsafe {
            std::alloc::dealloc(self.start.as_ptr(), layout(self.len_bytes));
        }
    }
}

/// Mapped memory of one owner, outside of any pool: zeroes until something is written to it.
///
/// An ordinary page takes memory when it is first touched, so a region costs what is used of it.
pub struct Region {
    arena: Arena,
    len_bytes: usize,
}

impl Region {
    /// Maps `len_bytes` bytes: in huge pages when enough of them are free, else in ordinary ones,
    /// of which the kernel is asked to make large ones.
    ///
    /// Errors: `InvalidInput` for no bytes, or more than any machine can map; what the kernel says
    /// (`OutOfMemory`: it would not promise that much). Cost: system calls; huge pages are filled
    /// with zeroes now.
    pub fn map(len_bytes: usize) -> io::Result<Region> {
        if !(1..=REGION_BYTES_MAX).contains(&len_bytes) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let arena = Arena::map(len_bytes)?;
        Ok(Region { arena, len_bytes })
    }

    /// Takes all of its memory from the machine now, instead of page by page when it is touched.
    /// Errors: `OutOfMemory`; a kernel before 5.14 does nothing. Cost: fills the memory.
    pub fn populate(&self) -> io::Result<()> {
        self.arena.populate()
    }

    /// Whether it lies in huge pages that were set aside for such use.
    pub fn is_huge(&self) -> bool {
        self.arena.is_huge
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: in bounds (`map` asked for this length), initialised (the kernel maps zeroes),
        // and nobody writes: the arena is ours alone and is written through `&mut self` only.
        unsafe { slice::from_raw_parts(self.arena.start.as_ptr(), self.len_bytes) }
    }

    /// Copies `parts` one after the other to `at`, past the processor's caches: for data that is
    /// not looked at again soon. Panics when they do not fit. Measured: 4 KiB random writes to a
    /// pool in memory +11 % at QD32, +14 % at QD128.
    pub fn store<'a>(&mut self, at: usize, parts: impl Iterator<Item = &'a [u8]>) {
        let mut target = &mut self.bytes_mut()[at..];
        for part in parts {
            let (here, rest) = target.split_at_mut(part.len());
            store_part(here, part);
            target = rest;
        }
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: no memory is touched. Later stores, also to memory that says that these bytes are
        // there, stay behind the ones above.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }

    /// All of its bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the exclusive borrow keeps every other access away.
        unsafe { slice::from_raw_parts_mut(self.arena.start.as_ptr(), self.len_bytes) }
    }
}

/// Copies with stores that go past the caches: the lines written are not read first.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn store_part(target: &mut [u8], bytes: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    const LINE: usize = 64;
    if !target.as_ptr().addr().is_multiple_of(LINE) || !bytes.len().is_multiple_of(LINE) {
        return target.copy_from_slice(bytes);
    }
    assert_eq!(target.len(), bytes.len());
    let (to, from) = (target.as_mut_ptr(), bytes.as_ptr());
    for at in (0..bytes.len()).step_by(LINE) {
        // SAFETY: both have a line at `at`, as their lengths are the same number of lines, and the
        // target's is aligned, checked above. Every x86-64 has these instructions.
        unsafe {
            let (to, from) = (to.add(at).cast::<__m128i>(), from.add(at).cast::<__m128i>());
            let first = (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)));
            let last = (_mm_loadu_si128(from.add(2)), _mm_loadu_si128(from.add(3)));
            _mm_stream_si128(to, first.0);
            _mm_stream_si128(to.add(1), first.1);
            _mm_stream_si128(to.add(2), last.0);
            _mm_stream_si128(to.add(3), last.1);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn store_part(target: &mut [u8], bytes: &[u8]) {
    target.copy_from_slice(bytes);
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.len_bytes)
    }
}

/// A slice of a pool's buffer. Clones and slices share the bytes; the buffer goes back to its pool
/// when the last one is dropped, on whatever thread.
///
/// A fresh buffer starts at a multiple of 4 KiB and holds whatever was there before.
pub struct Buf {
    // The buffer's one reference to the pool; see `claim` and `drop`.
    pool: NonNull<Shared>,
    // Where the slice starts in the arena.
    place: usize,
    // The buffer, which also names its count, and its size class.
    id: BufId,
    len: u32,
    // How far `set_len` may grow: to the end of the buffer, or of the slice this was made from.
    limit: u32,
}

/// A buffer of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufId {
    pub(super) index: u32,
    pub(super) class: u8,
}

// SAFETY: the pool is shared by threads, and the bytes go along with the `Buf`s.
unsafe impl Send for Buf {}

impl Buf {
    /// Takes over a buffer that its pool counts as free: nobody else has it.
    pub(super) fn claim(pool: Arc<Shared>, id: BufId, len: usize) -> Buf {
        let limit = pool.capacity_of(id) as u32;
        assert!(len <= limit as usize);
        let count = pool.count(id);
        assert_eq!(
            count.load(Ordering::Relaxed),
            0,
            "a free buffer has no owner"
        );
        // Nobody else touches the count of a buffer that was free: no exchange is needed.
        count.store(1, Ordering::Relaxed);
        let place = pool.offset_of(id);
        let pool = NonNull::new(Arc::into_raw(pool).cast_mut()).expect("a pool has an address");
        Buf {
            pool,
            place,
            id,
            len: len as u32,
            limit,
        }
    }

    fn pool(&self) -> &Shared {
        // SAFETY: `claim` kept a reference to the pool for this buffer, which the drop of its last
        // `Buf` gives back.
        unsafe { self.pool.as_ref() }
    }

    fn count(&self) -> &AtomicU32 {
        self.pool().count(self.id)
    }

    fn start(&self) -> NonNull<u8> {
        self.pool().arena().at(self.place, self.len as usize)
    }

    /// Bytes of the slice.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the slice has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long the slice may be made by [`Buf::set_len`].
    pub fn capacity(&self) -> usize {
        self.limit as usize
    }

    /// Bytes of the whole buffer, which this slice keeps away from its pool however short it is.
    pub fn buffer_bytes(&self) -> usize {
        self.pool().capacity_of(self.id)
    }

    /// Shortens the slice; no effect when it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Sets the length; new bytes hold whatever was there. Panics above [`Buf::capacity`].
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.limit as usize,
            "length {len} is above the capacity {}",
            self.limit
        );
        self.len = len as u32;
    }

    /// A part of the slice, sharing its bytes. Panics when the range is not inside.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Buf {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        assert!(
            start <= end && end <= self.len(),
            "{start}..{end} is not in 0..{}",
            self.len
        );
        let mut part = self.clone();
        part.place += start;
        part.len = (end - start) as u32;
        part.limit = part.len;
        part
    }

    /// Whether nobody else, the kernel included, holds a part of this buffer.
    pub fn is_unique(&self) -> bool {
        // Acquire: what former owners did to the bytes happened before we write them.
        self.count().load(Ordering::Acquire) == 1
    }

    /// The bytes for writing; `None` while the buffer is shared.
    pub fn try_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: in bounds and initialised (see the file's doc); the count is one and we borrow
        // that one exclusively, so nobody reads or writes these bytes meanwhile.
        Some(unsafe { slice::from_raw_parts_mut(self.start().as_ptr(), self.len()) })
    }

    /// The bytes for writing. Panics while the buffer is shared.
    #[expect(
        clippy::should_implement_trait,
        reason = "a conversion trait would hide that this can panic"
    )]
    pub fn as_mut(&mut self) -> &mut [u8] {
        self.try_mut()
            .expect("a shared buffer was asked for mutable bytes")
    }

    /// Writes zeroes over the slice. Panics while the buffer is shared.
    pub fn zero_fill(&mut self) {
        self.as_mut().fill(0);
    }

    /// Where the slice starts in memory.
    pub fn as_ptr(&self) -> *const u8 {
        self.start().as_ptr()
    }

    /// Where the kernel may read, or write while the slice is unshared.
    pub(crate) fn kernel_ptr(&self) -> *mut u8 {
        self.start().as_ptr()
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds and initialised; while this borrow lives nobody writes: a writer needs
        // the count at one and that one `Buf` borrowed exclusively, but we hold one borrowed.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.len()) }
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Buf {
    fn clone(&self) -> Buf {
        // Locked instructions wait until all stores before them have left the core, among them the
        // bytes that were just put in a buffer: the common cases here and in `drop` have none.
        if self.is_unique() {
            self.count().store(2, Ordering::Relaxed);
        } else {
            let before = self.count().fetch_add(1, Ordering::Relaxed);
            assert!(before < u32::MAX / 2, "too many slices of one buffer");
        }
        Buf { ..*self }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        // The only owner's count cannot change under it: the common case needs no exchange.
        let is_last = if self.is_unique() {
            self.count().store(0, Ordering::Relaxed);
            true
        } else {
            self.count().fetch_sub(1, Ordering::AcqRel) == 1
        };
        if is_last {
            // SAFETY: the reference that `claim` kept; nobody has a `Buf` of this buffer any more.
            let pool = unsafe { Arc::from_raw(self.pool.as_ptr()) };
            pool.give_back(self.id);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len, self.limit)
    }
}
