//! In the simulator: data takes every way that a login can settle on, and arrives whole.

mod common;

use common::initiator::{Initiator, Wish, read10, write10};
use common::iscsi_world::{BLOCK, with_host};
use wire::iscsi::Residual;

/// Bytes that differ from place to place.
fn pattern(seed: u8, blocks: usize) -> Vec<u8> {
    let byte = |at: usize| (at / 7 + at * 31) as u8 ^ seed;
    (0..blocks * BLOCK).map(byte).collect()
}

async fn moves_data(server: std::net::SocketAddr, wish: Wish) {
    let mut one = Initiator::login(server, wish.clone())
        .await
        .expect("a login");
    one.settle().await.expect("ready");
    for (seed, blocks) in [(1, 1), (2, 2), (3, 17), (4, 64), (5, 256)] {
        let data = pattern(seed, blocks);
        let lba = u32::from(seed) * 300;
        one.write(lba, &data, BLOCK).await.expect("written");
        let found = one.read(lba, blocks as u16, BLOCK).await.expect("read");
        assert!(found == data, "{blocks} blocks differ with {wish:?}");
    }
}

#[test]
fn every_way_of_data_is_whole() {
    let mut seed = 0;
    for initial_r2t in [false, true] {
        for immediate_data in [false, true] {
            for digests in [false, true] {
                for (segment, burst, first) in [
                    (256 << 10, 1 << 20, 64 << 10),
                    (8192, 16 << 10, 16 << 10),
                    (512, 70_000, 3000),
                ] {
                    seed += 1;
                    let wish = Wish {
                        initial_r2t,
                        immediate_data,
                        digests,
                        max_recv_data_bytes: segment,
                        max_burst_bytes: burst,
                        first_burst_bytes: first,
                        max_outstanding_r2t: 1 + (seed % 8) as u16,
                        ..Wish::new()
                    };
                    with_host(
                        seed,
                        move |options| options.max_recv_data_segment_bytes = segment,
                        move |server| moves_data(server, wish.clone()),
                    );
                }
            }
        }
    }
}

#[test]
fn many_commands_are_in_flight_and_answered_once_each() {
    with_host(
        7,
        |_| {},
        |server| async move {
            let wish = Wish {
                digests: true,
                ..Wish::new()
            };
            let mut one = Initiator::login(server, wish).await.expect("a login");
            one.settle().await.expect("ready");
            for round in 0..4 {
                let data: Vec<_> = (0..32)
                    .map(|n| pattern(round * 32 + n, 1 + usize::from(n)))
                    .collect();
                let mut writes = Vec::new();
                for (n, data) in data.iter().enumerate() {
                    let cdb = write10(n as u32 * 64, (data.len() / BLOCK) as u16);
                    writes.push(one.start(cdb, 0, data).await.expect("sent"));
                }
                for (itt, data) in writes.into_iter().zip(&data).rev() {
                    assert!(one.finish(itt, data).await.expect("answered").is_good());
                }
                let mut reads = Vec::new();
                for (n, data) in data.iter().enumerate() {
                    let cdb = read10(n as u32 * 64, (data.len() / BLOCK) as u16);
                    reads.push(one.start(cdb, data.len() as u32, &[]).await.expect("sent"));
                }
                for (itt, data) in reads.into_iter().zip(&data) {
                    let done = one.finish(itt, &[]).await.expect("answered");
                    assert!(done.is_good() && done.data == *data);
                }
            }
        },
    );
}

#[test]
fn residuals_say_how_lengths_differ() {
    with_host(
        8,
        |_| {},
        |server| async move {
            let mut one = Initiator::login(server, Wish::new())
                .await
                .expect("a login");
            one.settle().await.expect("ready");
            let block = BLOCK as u32;
            let reads = [
                (1, 10_000, BLOCK, Residual::Underflow(10_000 - block)),
                (1, 200, 200, Residual::Overflow(block - 200)),
                (2, block, BLOCK, Residual::Overflow(block)),
                (1, block, BLOCK, Residual::None),
            ];
            for (blocks, room, len, residual) in reads {
                let done = one
                    .run(read10(0, blocks), room, &[])
                    .await
                    .expect("answered");
                assert!(done.is_good());
                assert_eq!((done.data.len(), done.residual), (len, residual));
            }
            // More than the command needs is passed over; with less only what comes is written.
            let old = pattern(1, 3);
            one.write(0, &old, BLOCK).await.expect("written");
            let new = pattern(2, 2);
            let done = one.run(write10(0, 1), 0, &new).await.expect("answered");
            assert!(done.is_good());
            assert_eq!(done.residual, Residual::Underflow(block));
            let done = one
                .run(write10(1, 2), 0, &new[..BLOCK])
                .await
                .expect("answered");
            assert!(done.is_good());
            assert_eq!(done.residual, Residual::Overflow(block));
            // A part of a block is not written.
            let done = one
                .run(write10(2, 1), 0, &new[..200])
                .await
                .expect("answered");
            assert_eq!(done.sense, Some((5, 0x0e03)));
            assert_eq!(done.residual, Residual::Overflow(block - 200));
            let found = one.read(0, 3, BLOCK).await.expect("read");
            assert!(found[..BLOCK] == new[..BLOCK] && found[BLOCK..2 * BLOCK] == new[..BLOCK]);
            assert!(found[2 * BLOCK..] == old[2 * BLOCK..], "it is as it was");
        },
    );
}
