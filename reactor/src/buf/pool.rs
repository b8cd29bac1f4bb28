//! The pool: size classes, lock-free free lists, and waiting in order when it is empty.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::arena::{Arena, Buf, BufId};
use super::waiters::Waiters;

pub(super) const CLASSES: usize = 6;

/// Sizes of the classes. The largest has room for headers beside 1 MiB of data.
const CLASS_BYTES: [usize; CLASSES] = [
    4 << 10,
    16 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    (1 << 20) + (8 << 10),
];

/// Part of a pool's memory for each class, in sixteenths. What the others leave over (also by
/// rounding) goes to 4 KiB buffers, of which most are payloads that wait for the flusher.
const CLASS_SIXTEENTHS: [usize; CLASSES] = [6, 1, 1, 2, 1, 5];

/// The longest buffer there is.
pub const MAX_BUF_BYTES: usize = CLASS_BYTES[CLASSES - 1];

/// The smallest pool: it has buffers of every class.
const MIN_POOL_BYTES: usize = 4 << 20;

/// A pool of buffers of fixed sizes. Clones share it.
#[derive(Clone)]
pub struct BufPool {
    shared: Arc<Shared>,
}

/// What a pool's clones and buffers share.
pub(crate) struct Shared {
    arena: Arena,
    classes: [Class; CLASSES],
    counts: Box<[AtomicU32]>,
    // Free list of a class: the next free buffer after each.
    next: Box<[AtomicU32]>,
    in_use_bytes: AtomicUsize,
    capacity_bytes: usize,
    waiters: Waiters,
}

struct Class {
    buf_bytes: usize,
    arena_offset: usize,
    first_index: u32,
    len: u32,
    // Head of the free list: a tag that changes with every update (high), index + 1 (low).
    head: AtomicU64,
}

impl BufPool {
    /// Reserves `bytes_total` bytes (at least 4 MiB) and cuts them into buffers: 6/16 in 4 KiB,
    /// 1/16 in 16 KiB, 1/16 in 64 KiB, 2/16 in 128 KiB, 1/16 in 256 KiB, 5/16 in 1 MiB + 8 KiB.
    /// Memory is committed when first touched, a core's own pools at its start (its ring pins them).
    /// `InvalidInput` when smaller or above 1 TiB.
    pub fn new(bytes_total: usize, name: &str) -> io::Result<BufPool> {
        if !(MIN_POOL_BYTES..=1 << 40).contains(&bytes_total) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a buffer pool has between 4 MiB and 1 TiB",
            ));
        }
        let classes = cut(bytes_total);
        let used = |class: &Class| class.buf_bytes * class.len as usize;
        let capacity_bytes = classes.iter().map(used).sum();
        let buffers = classes.iter().map(|class| class.len).sum::<u32>();
        let arena = Arena::map(bytes_total)?;
        tracing::info!(
            name,
            capacity_bytes,
            huge_pages = arena.is_huge(),
            "buffer pool"
        );
        let shared = Shared {
            arena,
            classes,
            counts: (0..buffers).map(|_| AtomicU32::new(0)).collect(),
            next: (0..buffers).map(|_| AtomicU32::new(0)).collect(),
            in_use_bytes: AtomicUsize::new(0),
            capacity_bytes,
            waiters: Waiters::default(),
        };
        for class in &shared.classes {
            for index in (class.first_index..class.first_index + class.len).rev() {
                class.push(&shared.next, index);
            }
        }
        Ok(BufPool {
            shared: Arc::new(shared),
        })
    }

    /// A buffer of `len` bytes, waiting in FIFO order (per size class) until one is free. Its
    /// contents are whatever was there. Panics above [`MAX_BUF_BYTES`]. Dropping the future gives
    /// its place in the queue to the next, and a buffer that was free at once back.
    pub fn alloc(&self, len: usize) -> Alloc {
        if let Some(buf) = self.try_alloc(len) {
            return Alloc(Stage::Ready(buf));
        }
        let class = class_for(len).unwrap_or_else(|| {
            panic!("a buffer of {len} bytes was asked for; the longest is {MAX_BUF_BYTES}")
        });
        Alloc(Stage::Waiting(Waiting {
            pool: self.clone(),
            len,
            class,
            ticket: None,
        }))
    }

    /// A buffer of `len` bytes if one is free and nobody waits for one; `None` also above
    /// [`MAX_BUF_BYTES`].
    pub fn try_alloc(&self, len: usize) -> Option<Buf> {
        let class = class_for(len)?;
        if self.shared.waiters.any(class) {
            return None;
        }
        self.take(class, len)
    }

    /// Takes from the class or, when it is empty, from a larger one that nobody waits for.
    fn take(&self, class: usize, len: usize) -> Option<Buf> {
        let shared = &self.shared;
        let mut classes = (class..CLASSES).filter(|&c| c == class || !shared.waiters.any(c));
        let id = classes.find_map(|class| {
            let index = shared.classes[class].pop(&shared.next)?;
            Some(BufId {
                index,
                class: class as u8,
            })
        })?;
        shared
            .in_use_bytes
            .fetch_add(shared.capacity_of(id), Ordering::Relaxed);
        Some(Buf::claim(shared.clone(), id, len))
    }

    /// The mapped memory that every buffer of this pool lies in: where and how long. For
    /// registering it with a device; it stays mapped while a clone of the pool is there.
    pub fn memory(&self) -> (*mut u8, usize) {
        self.shared.arena.extent()
    }

    /// Bytes of the buffers that are out, each counted with its whole size.
    pub fn in_use_bytes(&self) -> usize {
        self.shared.in_use_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all buffers.
    pub fn capacity_bytes(&self) -> usize {
        self.shared.capacity_bytes
    }

    /// The longest buffer it can ever give.
    pub fn max_buf_bytes(&self) -> usize {
        MAX_BUF_BYTES
    }
}

fn class_for(len: usize) -> Option<usize> {
    CLASS_BYTES.iter().position(|&bytes| len <= bytes)
}

fn cut(bytes_total: usize) -> [Class; CLASSES] {
    let mut lens = [0; CLASSES];
    let mut left = bytes_total;
    for class in (1..CLASSES).rev() {
        let share = bytes_total / 16 * CLASS_SIXTEENTHS[class];
        lens[class] = (share / CLASS_BYTES[class]).max(1);
        left -= lens[class] * CLASS_BYTES[class];
    }
    lens[0] = left / CLASS_BYTES[0];
    let (mut arena_offset, mut first_index) = (0, 0);
    std::array::from_fn(|class| {
        let len = lens[class] as u32;
        let buf_bytes = CLASS_BYTES[class];
        let made = Class {
            buf_bytes,
            arena_offset,
            first_index,
            len,
            head: AtomicU64::new(0),
        };
        arena_offset += buf_bytes * lens[class];
        first_index += len;
        made
    })
}

impl Class {
    // SeqCst here and in `pop` is one half of the handshake with `Waiters`.
    fn push(&self, next: &[AtomicU32], index: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            next[index as usize].store(head as u32, Ordering::Relaxed);
            let new = bump(head) | u64::from(index + 1);
            match self
                .head
                .compare_exchange_weak(head, new, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(current) => head = current,
            }
        }
    }

    fn pop(&self, next: &[AtomicU32]) -> Option<u32> {
        let mut head = self.head.load(Ordering::SeqCst);
        loop {
            let index = (head as u32).checked_sub(1)?;
            // May be stale when another thread pops meanwhile; then the tag differs.
            let after = next[index as usize].load(Ordering::Relaxed);
            let new = bump(head) | u64::from(after);
            match self
                .head
                .compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(index),
                Err(current) => head = current,
            }
        }
    }
}

/// The next tag, with an empty index.
fn bump(head: u64) -> u64 {
    ((head >> 32).wrapping_add(1)) << 32
}

impl Shared {
    fn class(&self, id: BufId) -> &Class {
        &self.classes[id.class as usize]
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(super) fn capacity_of(&self, id: BufId) -> usize {
        self.class(id).buf_bytes
    }

    pub(super) fn offset_of(&self, id: BufId) -> usize {
        let class = self.class(id);
        class.arena_offset + (id.index - class.first_index) as usize * class.buf_bytes
    }

    pub(super) fn count(&self, id: BufId) -> &AtomicU32 {
        &self.counts[id.index as usize]
    }

    pub(super) fn give_back(&self, id: BufId) {
        let class = self.class(id);
        self.in_use_bytes
            .fetch_sub(class.buf_bytes, Ordering::Relaxed);
        class.push(&self.next, id.index);
        self.waiters.wake_for(id.class as usize);
    }
}

/// Waits for a buffer; see [`BufPool::alloc`].
pub struct Alloc(Stage);

enum Stage {
    Ready(Buf),
    Waiting(Waiting),
    Taken,
}

struct Waiting {
    pool: BufPool,
    len: usize,
    class: usize,
    ticket: Option<u64>,
}

impl Future for Alloc {
    type Output = Buf;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Buf> {
        if let Stage::Waiting(waiting) = &mut self.0 {
            let Some(buf) = waiting.poll(cx) else {
                return Poll::Pending;
            };
            return Poll::Ready(buf);
        }
        match std::mem::replace(&mut self.0, Stage::Taken) {
            Stage::Ready(buf) => Poll::Ready(buf),
            _ => panic!("a buffer is taken once"),
        }
    }
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<Buf> {
        if self.ticket.is_none()
            && let Some(buf) = self.pool.try_alloc(self.len)
        {
            return Some(buf);
        }
        let (pool, class, len) = (&self.pool, self.class, self.len);
        let take = || pool.take(class, len);
        let waiters = &pool.shared.waiters;
        waiters.wait(class, &mut self.ticket, cx.waker(), take)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.shared.waiters.leave(self.class, ticket);
        }
    }
}
