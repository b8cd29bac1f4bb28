//! After warm-up a read or write over iSCSI allocates nothing from the heap, by whichever way its
//! data comes.

mod common;

use std::sync::mpsc;

use common::initiator::{Initiator, Wish, read10, write10};
use common::iscsi_served::{HostCore, serve};
use reactor::mailbox;

const BLOCK: usize = 4096;

/// What the host is to do next.
#[derive(Clone, Copy)]
enum Round {
    Reads(u16),
    Writes(usize),
}

async fn rounds(mut one: Initiator, mut inbox: mailbox::Receiver<Round>, done: mpsc::Sender<()>) {
    one.settle().await.expect("ready");
    while let Some(round) = inbox.recv().await {
        for n in 0..100u16 {
            let done = match round {
                Round::Reads(most) => {
                    let blocks = 1 + n % most;
                    let room = u32::from(blocks) * BLOCK as u32;
                    one.run(read10(0, blocks), room, &[]).await
                }
                Round::Writes(blocks) => {
                    let data = vec![n as u8; blocks * BLOCK];
                    one.run(write10(0, blocks as u16), 0, &data).await
                }
            };
            assert!(done.expect("answered").is_good());
        }
        done.send(()).expect("the test waits");
    }
}

fn commands_allocate_nothing(wish: Wish) {
    let served = serve(BLOCK as u32);
    let host = HostCore::new();
    let address = served.address;
    let (sender, inbox) = mailbox::channel(4);
    let (done, ready) = mpsc::channel();
    let _ended = host.begin(move || async move {
        let one = Initiator::login(address, wish).await.expect("a login");
        rounds(one, inbox, done).await;
    });
    let run = |round| {
        assert!(sender.try_send(round).is_ok());
        ready.recv().expect("the host goes on");
    };
    let all = [
        (Round::Reads(40), 0),
        // The memory volume of these tests keeps each block in a box of its own.
        (Round::Writes(1), 100),
        (Round::Writes(17), 1700),
        (Round::Writes(40), 4000),
    ];
    for (round, _) in all {
        (0..4).for_each(|_| run(round));
    }
    for (at, (round, boxes)) in all.into_iter().enumerate() {
        assert_eq!(served.allocations_of(|| run(round)), boxes, "round {at}");
    }
    drop(sender);
}

#[test]
fn commands_with_digests_allocate_nothing() {
    commands_allocate_nothing(Wish {
        digests: true,
        ..Wish::new()
    });
}

#[test]
fn commands_in_small_pieces_allocate_nothing() {
    commands_allocate_nothing(Wish {
        max_recv_data_bytes: 8 << 10,
        max_burst_bytes: 32 << 10,
        first_burst_bytes: 16 << 10,
        immediate_data: false,
        ..Wish::new()
    });
}

#[test]
fn commands_that_are_asked_for_all_data_allocate_nothing() {
    commands_allocate_nothing(Wish {
        initial_r2t: true,
        immediate_data: false,
        ..Wish::new()
    });
}
