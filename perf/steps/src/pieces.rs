//! The small pieces that every request uses.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use reactor::mailbox::{Receiver, Sender, channel};
use reactor::yield_now;
use wire::nvme::command::ReadWrite;
use wire::nvme::{Cqe, NvmOpcode, Sgl, Status};
use wire::tcp::{CapsuleCmd, CapsuleResp, CommonHeader, Framing, Link, Pdu, Receiver as Side};

use crate::{LIMIT, calm_world, in_world};

const PAGE_BYTES: usize = 4096;
/// Tasks started in one turn, so that the turn itself weighs little.
const TASKS: u64 = 64;

/// The checksum of a page.
pub(crate) fn crc32c(count: u64) {
    in_world(move || async move {
        let page = vec![0x5a; PAGE_BYTES];
        for _ in 0..count {
            black_box(store::crc32c(black_box(&page)));
        }
    });
}

/// A buffer of 4 KiB taken from the pool and given back.
pub(crate) fn buffer(count: u64) {
    in_world(move || async move {
        for _ in 0..count {
            drop(black_box(reactor::buf::pool().try_alloc(PAGE_BYTES)));
        }
    });
}

/// A buffer shared and let go.
pub(crate) fn buffer_clone(count: u64) {
    in_world(move || async move {
        let buf = reactor::buf::pool().alloc(PAGE_BYTES).await;
        for _ in 0..count {
            drop(black_box(buf.clone()));
        }
    });
}

/// A turn of the executor that runs one task.
pub(crate) fn turn(count: u64) {
    in_world(move || async move {
        for _ in 0..count {
            yield_now().await;
        }
    });
}

/// A task without work: started, run once, dropped.
pub(crate) fn task(count: u64) {
    in_world(move || async move {
        for _ in 0..count / TASKS {
            for _ in 0..TASKS {
                reactor::spawn(async {}).detach();
            }
            yield_now().await;
        }
    });
}

/// A message from one core to another, which wakes for it; two of them make a round trip.
pub(crate) fn mailbox_hop(count: u64) {
    let mut world = calm_world();
    world.start_with("target", 2, move || {
        let ((there, at_there), (back, at_back)) = (channel::<u64>(8), channel::<u64>(8));
        let ends = RefCell::new([Some((there, at_back)), Some((back, at_there))]);
        let ends = Rc::new(ends);
        move |core| {
            let end = ends.borrow_mut()[core].take();
            async move {
                let (sender, receiver) = end.expect("each core starts once");
                exchange(core, sender, receiver, count / 2).await;
            }
        }
    });
    world.run(LIMIT);
}

/// Core 0 asks, core 1 answers.
async fn exchange(core: usize, sender: Sender<u64>, mut receiver: Receiver<u64>, rounds: u64) {
    for number in 0..rounds {
        if core == 0 {
            sender.try_send(number).expect("one message at a time");
        }
        let received = receiver.recv().await;
        assert_eq!(received, Some(number), "the other core answers");
        if core == 1 {
            sender.try_send(number).expect("one message at a time");
        }
    }
}

/// A command capsule understood, and its response made.
pub(crate) fn wire(count: u64) {
    in_world(move || async move {
        let (framing, len_bytes) = (Framing::default(), PAGE_BYTES as u32);
        let read = ReadWrite::new(7, 1).expect("one block");
        let sqe = read.encode(NvmOpcode::READ, 3, 1, Some(Sgl::Transport { len_bytes }));
        let (capsule, _) = CapsuleCmd::new(sqe, 0, &framing).expect("it fits");
        let link = Link {
            ready: true,
            ..Link::new(Side::Controller)
        };
        for _ in 0..count {
            let response = answer(black_box(capsule.as_wire()), &link, &framing);
            black_box(response.as_wire());
        }
    });
}

fn answer(bytes: &[u8], link: &Link, framing: &Framing) -> CapsuleResp {
    let common = CommonHeader::decode(bytes).expect("8 bytes");
    let layout = link.frame(common).expect("a capsule is expected");
    let Ok(Pdu::CapsuleCmd(capsule)) = Pdu::parse(bytes, &layout) else {
        panic!("a capsule was sent");
    };
    let cid = capsule.sqe.cid.get();
    black_box(ReadWrite::decode(&capsule.sqe).expect("a good read"));
    CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS, 0), framing).0
}
