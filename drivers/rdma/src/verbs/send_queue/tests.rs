//! The ring of slots, over a card that only writes down what it was handed.
#![expect(unsafe_code, reason = "plays the card")]

use std::cell::RefCell;
use std::ffi::c_int;
use std::mem::MaybeUninit;

use reactor::buf::BufPool;

use super::*;
use crate::Inline;

/// What the card was handed: slot, opcode, flags, address.
type Handed = (u64, u32, u32, u64);

thread_local! {
    static HANDED: RefCell<Vec<Handed>> = const { RefCell::new(Vec::new()) };
    /// Requests that are taken before one is refused.
    static TAKES: RefCell<usize> = const { RefCell::new(usize::MAX) };
}

unsafe extern "C" fn post_send(
    _pair: *mut ffi::Qp,
    first: *mut SendRequest,
    refused: *mut *mut SendRequest,
) -> c_int {
    let mut next = first;
    while !next.is_null() {
        // SAFETY: the queue links requests and parts that are there during the call.
        let (request, part) = unsafe { (&*next, &*(*next).sg_list) };
        if TAKES.with_borrow(|takes| *takes == 0) {
            // SAFETY: as the interface of the card has it.
            unsafe { *refused = next };
            return libc::ENOMEM;
        }
        TAKES.with_borrow_mut(|takes| *takes -= 1);
        let handed = (request.wr_id, request.opcode, request.send_flags, part.addr);
        HANDED.with_borrow_mut(|all| all.push(handed));
        next = request.next;
    }
    0
}

/// A queue pair with nothing but the function that takes work.
struct Card {
    pair: Box<MaybeUninit<ffi::Qp>>,
    _context: Box<MaybeUninit<ffi::Context>>,
}

impl Card {
    fn new() -> Card {
        let mut context = Box::new(MaybeUninit::<ffi::Context>::zeroed());
        let mut pair = Box::new(MaybeUninit::<ffi::Qp>::zeroed());
        // SAFETY: writes to fields of memory that is there.
        unsafe {
            (&raw mut (*context.as_mut_ptr()).ops.post_send).write(post_send);
            (&raw mut (*pair.as_mut_ptr()).context).write(context.as_mut_ptr());
        }
        HANDED.take();
        TAKES.set(usize::MAX);
        Card {
            pair,
            _context: context,
        }
    }

    fn kick(&mut self, queue: &mut SendQueue) -> io::Result<()> {
        // SAFETY: the pair is there, and the card touches no memory.
        unsafe { queue.kick(self.pair.as_mut_ptr()) }
    }

    fn handed(&self) -> Vec<Handed> {
        HANDED.take()
    }
}

fn pool() -> BufPool {
    BufPool::new(4 << 20, "test").unwrap()
}

/// All memory is registered.
fn everywhere(buf: &Buf) -> Option<Region> {
    Some(Region {
        start: buf.as_ptr().addr() as u64,
        len_bytes: buf.len() as u64,
        local_key: 7,
        remote_key: 8,
    })
}

fn queue(entries: u32) -> SendQueue {
    SendQueue::new(entries, INLINE_BYTES as u32, everywhere).unwrap()
}

fn remote() -> Remote {
    Remote {
        address: 0x1000,
        key: 3,
    }
}

fn send() -> Work {
    Work::Send {
        payload: Payload::Inline(Inline::new(b"hello").unwrap()),
        invalidate: None,
    }
}

fn write(data: Buf) -> Work {
    let to = remote();
    Work::Write { data, to }
}

fn read(into: Buf) -> Work {
    let from = remote();
    Work::Read { into, from }
}

fn push(queue: &mut SendQueue, tag: u64, work: Work) {
    assert!(queue.push(tag, work, everywhere).is_ok(), "{tag} is taken");
}

/// What completing a slot tells the user.
fn complete(queue: &mut SendQueue, slot: u64, status: u32) -> Vec<String> {
    let mut told = Vec::new();
    assert!(queue.complete(slot, status, |completion| told.push(short(&completion))));
    told
}

fn short(completion: &Completion) -> String {
    match completion {
        Completion::Done { tag, done } => match done {
            Done::Sent => format!("sent {tag}"),
            Done::Read(buf) => format!("read {tag}: {}", buf.len()),
        },
        Completion::Failed { tag, error } => format!("failed {tag}: {error:?}"),
        Completion::Received(_) => "received".to_owned(),
    }
}

#[test]
fn work_is_handed_over_once_in_order_and_around_the_ring() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(4));
    let data = pool.try_alloc(4096).unwrap();
    let at = data.as_ptr().addr() as u64;
    for round in 0..3 {
        push(&mut queue, 1, write(data.clone()));
        push(&mut queue, 2, send());
        assert!(card.handed().is_empty() && !queue.is_with_card());
        card.kick(&mut queue).unwrap();
        card.kick(&mut queue).unwrap();
        push(&mut queue, 3, send());
        card.kick(&mut queue).unwrap();
        let (first, handed) = (3 * round % 4, card.handed());
        let slots: Vec<u64> = handed.iter().map(|handed| handed.0).collect();
        assert_eq!(slots, [first, (first + 1) % 4, (first + 2) % 4]);
        let (_, opcode, flags, address) = handed[0];
        assert_eq!((opcode, flags, address), (ffi::OPCODE_RDMA_WRITE, 0, at));
        let flags = ffi::SEND_SIGNALED | ffi::SEND_INLINE;
        assert_eq!((handed[1].1, handed[1].2), (ffi::OPCODE_SEND, flags));
        assert_eq!(queue.room(), 1);
        assert_eq!(complete(&mut queue, slots[1], 0), ["sent 2"]);
        assert_eq!(queue.room(), 3, "the write's slot is back as well");
        assert_eq!(complete(&mut queue, slots[2], 0), ["sent 3"]);
        assert_eq!(queue.room(), 4);
    }
    assert!(data.is_unique(), "the slots have let go of it");
}

#[test]
fn buffers_belong_to_their_slot() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(8));
    push(&mut queue, 1, read(pool.try_alloc(5000).unwrap()));
    push(&mut queue, 2, write(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 3, send());
    card.kick(&mut queue).unwrap();
    let held = pool.in_use_bytes();
    assert_eq!(held, (16 << 10) + (4 << 10));
    let mut kept = Vec::new();
    assert!(queue.complete(0, 0, |completion| kept.push(completion)));
    assert_eq!(short(&kept[0]), "read 1: 5000");
    assert_eq!(pool.in_use_bytes(), held, "the user has it now");
    assert_eq!(complete(&mut queue, 2, 0), ["sent 3"]);
    assert_eq!(pool.in_use_bytes(), 16 << 10);
    kept.clear();
    assert_eq!(pool.in_use_bytes(), 0);
}

#[test]
fn a_failure_flushes_what_comes_after_it() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(8));
    push(&mut queue, 1, write(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 2, read(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 3, write(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 4, send());
    card.kick(&mut queue).unwrap();
    push(&mut queue, 5, send());
    let flushed = ffi::STATUS_FLUSHED;
    let told = complete(&mut queue, 1, ffi::STATUS_REMOTE_ACCESS);
    assert_eq!(told, ["failed 2: RemoteAccess"], "the write went well");
    assert_eq!(complete(&mut queue, 2, flushed), ["failed 3: Flushed"]);
    assert_eq!(complete(&mut queue, 3, flushed), ["failed 4: Flushed"]);
    assert!(!queue.is_with_card());
    let mut told = Vec::new();
    queue.fail_waiting(|completion| told.push(short(&completion)));
    assert_eq!(told, ["failed 5: Flushed"]);
    assert_eq!((queue.room(), pool.in_use_bytes()), (8, 0));
}

#[test]
fn a_skipped_completion_is_no_success() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(8));
    push(&mut queue, 1, read(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 2, send());
    card.kick(&mut queue).unwrap();
    let told = complete(&mut queue, 1, 0);
    assert_eq!(told, ["failed 1: Flushed", "sent 2"]);
}

#[test]
fn completions_of_nothing_are_refused() {
    let (mut card, mut queue) = (Card::new(), queue(4));
    let nobody = |_| panic!("nobody is told");
    assert!(!queue.complete(0, 0, nobody));
    push(&mut queue, 1, send());
    assert!(!queue.complete(0, 0, nobody), "the card does not have it");
    card.kick(&mut queue).unwrap();
    for slot in [1, 3, 4, u64::MAX] {
        assert!(!queue.complete(slot, 0, nobody), "slot {slot}");
    }
    assert_eq!(complete(&mut queue, 0, 0), ["sent 1"]);
    assert!(!queue.complete(0, 0, nobody), "once is enough");
}

#[test]
fn a_queue_of_writes_asks_for_completions_too() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(8));
    for tag in 0..8 {
        push(&mut queue, tag, write(pool.try_alloc(4096).unwrap()));
    }
    let full = queue.push(8, send(), everywhere);
    assert!(matches!(full, Err(Refused::Full(Work::Send { .. }))));
    card.kick(&mut queue).unwrap();
    let handed = card.handed();
    let signaled = handed.iter().filter(|handed| handed.2 != 0);
    let slots: Vec<u64> = signaled.map(|handed| handed.0).collect();
    assert_eq!(slots, [3, 7]);
    assert!(complete(&mut queue, 3, 0).is_empty(), "writes are silent");
    assert_eq!(queue.room(), 4);
    assert!(complete(&mut queue, 7, 0).is_empty());
    assert_eq!((queue.room(), pool.in_use_bytes()), (8, 0));
}

#[test]
fn memory_that_may_not_be_used_is_refused() {
    let (pool, mut queue) = (pool(), queue(4));
    let into = pool.try_alloc(4096).unwrap();
    let other = into.clone();
    let shared = queue.push(1, read(into), everywhere);
    assert!(matches!(shared, Err(Refused::Wrong(Work::Read { .. }))));
    let unknown = queue.push(1, write(other), |_: &Buf| None);
    assert!(matches!(unknown, Err(Refused::Wrong(Work::Write { .. }))));
    assert_eq!(queue.room(), 4);
}

#[test]
fn what_the_card_refuses_is_still_there() {
    let (mut card, mut queue) = (Card::new(), queue(4));
    TAKES.set(1);
    for tag in 0..3 {
        push(&mut queue, tag, send());
    }
    let error = card.kick(&mut queue).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    assert_eq!(
        complete(&mut queue, 0, ffi::STATUS_FLUSHED),
        ["failed 0: Flushed"]
    );
    assert!(!queue.is_with_card());
    let mut told = Vec::new();
    queue.fail_waiting(|completion| told.push(short(&completion)));
    assert_eq!(told, ["failed 1: Flushed", "failed 2: Flushed"]);
}

#[test]
fn what_the_card_keeps_is_never_reused() {
    let (pool, mut card, mut queue) = (pool(), Card::new(), queue(4));
    push(&mut queue, 1, read(pool.try_alloc(4096).unwrap()));
    push(&mut queue, 2, send());
    card.kick(&mut queue).unwrap();
    push(&mut queue, 3, write(pool.try_alloc(4096).unwrap()));
    let mut told = Vec::new();
    let leaked = queue.abandon(|completion| told.push(short(&completion)));
    assert_eq!(
        told,
        [
            "failed 1: Flushed",
            "failed 2: Flushed",
            "failed 3: Flushed"
        ]
    );
    assert_eq!((leaked, pool.in_use_bytes()), (1, 4096));
}
