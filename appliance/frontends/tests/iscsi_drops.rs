//! In the simulator: iSCSI connections break at every state, hosts crash and vanish, sessions are
//! reinstated under load. What was acknowledged stays, nothing old comes back, nothing is left over.

mod common;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::breaks::{Book, again_and_again, break_often, works_on};
use common::initiator::{Initiator, NoLogin, Wish, read10, write10};
use common::iscsi_world::{BLOCK, settles, start};
use common::sim::{SECOND, world};
use common::sim_host::{block_data, block_value};
use reactor::time::sleep;
use wire::iscsi::LogoutReason;

/// Blocks of one write: with the command, unasked after it, and by R2T.
const SIZES: [usize; 4] = [1, 2, 20, 40];

fn wish(digests: bool) -> Wish {
    Wish {
        digests,
        // Small, so that every way is taken.
        first_burst_bytes: 16 << 10,
        max_burst_bytes: 32 << 10,
        max_recv_data_bytes: 8 << 10,
        ..Wish::new()
    }
}

/// One session: log in, check what is there, then write and read until something breaks.
async fn session(server: SocketAddr, book: &Book) -> io::Result<()> {
    let session = book.sessions();
    let login = Initiator::login(server, wish(session.is_multiple_of(2))).await;
    let mut one = login.map_err(|_| io::Error::other("no login"))?;
    book.begin_session();
    one.settle().await?;
    for round in 0.. {
        let mut under_way = Vec::new();
        for (slot, blocks) in SIZES.into_iter().enumerate() {
            let lba = slot as u32 * 100;
            let room = (blocks * BLOCK) as u32;
            let done = one.run(read10(lba, blocks as u16), room, &[]).await?;
            book.found(slot, block_value(&done.data, blocks));
            let value = book.next(slot);
            let data = block_data(value, blocks);
            let itt = one.start(write10(lba, blocks as u16), 0, &data).await?;
            under_way.push((slot, itt, data));
        }
        for (slot, itt, data) in under_way {
            let done = one.finish(itt, &data).await?;
            assert!(done.is_good(), "{done:?}");
            book.acknowledged(slot);
        }
        if round == 20 && session.is_multiple_of(3) {
            one.logout(LogoutReason::CLOSE_SESSION, 0).await?;
            return Ok(());
        }
    }
    Ok(())
}

async fn host(server: SocketAddr, book: Rc<Book>) {
    again_and_again(|| session(server, &book)).await;
}

/// Breaks connections `breaks` times, then lets everything settle and counts what is left.
fn run_world(seed: u64, cores: usize, breaks: u32) {
    let mut world = world(seed);
    let (server, targets) = start(&mut world, cores, |_| {});
    let book = Book::new(SIZES.len());
    let shared = book.clone();
    world.start("host", 1, move |_| host(server, shared.clone()));
    break_often(&mut world, seed, breaks);
    works_on(&mut world, &book);
    settles(&mut world, &targets);
}

#[test]
fn connections_that_break_at_every_state_leave_nothing_behind() {
    for seed in 1..=5 {
        run_world(seed, 1, 25);
    }
}

#[test]
fn logins_move_to_the_core_of_their_volume() {
    for seed in 1..=3 {
        run_world(seed, 2, 20);
    }
}

/// Sends writes and does not wait for their end, then logs in again as the same initiator port: by
/// then none of the old writes may take effect any more.
async fn reinstates(server: SocketAddr) {
    let mut value = 0;
    let mut old = Initiator::login(server, wish(false))
        .await
        .expect("a login");
    old.settle().await.expect("ready");
    for round in 0..60u64 {
        for _ in 0..8 {
            value += 1;
            let data = block_data(value, SIZES[2]);
            old.start(write10(0, SIZES[2] as u16), 0, &data)
                .await
                .expect("sent");
        }
        if round % 3 == 0 {
            sleep(Duration::from_micros(round * 7)).await;
        }
        let mut new = Initiator::login(server, wish(round % 2 == 0))
            .await
            .expect("a login");
        new.settle().await.expect("ready");
        value += 1;
        let data = block_data(value, SIZES[2]);
        new.write(0, &data, BLOCK).await.expect("written");
        if round % 4 == 0 {
            sleep(Duration::from_millis(3)).await;
        }
        let found = new.read(0, SIZES[2] as u16, BLOCK).await.expect("read");
        assert_eq!(block_value(&found, SIZES[2]), value, "round {round}");
        assert!(old.is_closed().await, "the old session is over");
        old = new;
    }
}

#[test]
fn no_old_write_comes_after_a_reinstatement() {
    for seed in 11..=14 {
        common::iscsi_world::with_host(seed, |_| {}, reinstates);
    }
}

#[test]
fn a_half_open_session_is_given_up_and_its_place_taken() {
    let mut world = world(21);
    let (server, targets) = start(&mut world, 1, |options| options.max_sessions = 1);
    world.run_for(SECOND / 100);
    let stage = Rc::new(Cell::new(0));
    let seen = stage.clone();
    world.start("host", 1, move |_| {
        let stage = seen.clone();
        async move {
            let mut one = Initiator::login(server, wish(false))
                .await
                .expect("a login");
            one.settle().await.expect("ready");
            stage.set(1);
            sleep(20 * SECOND).await;
            // Another initiator port: the old session must not keep it out.
            let other = Wish {
                isid: [0x80, 0, 0, 0, 0, 2],
                ..wish(false)
            };
            let refused = Initiator::login(server, other.clone()).await;
            assert!(matches!(refused, Err(NoLogin::Refused(_)) | Ok(_)));
            stage.set(2);
        }
    });
    world.run_until(SECOND, |_| stage.get() == 1);
    world.partition("host", "target");
    // Nobody answers the ping.
    let gone = |_: &reactor::sim::World| targets.borrow()[0].0.sessions().is_empty();
    world.run_until(10 * SECOND, gone);
    let metrics = targets.borrow()[0].0.metrics();
    assert_eq!(metrics.closed.get("silent"), Some(&1), "{metrics:?}");
    world.heal("host", "target");
    world.run_until(60 * SECOND, |_| stage.get() == 2);
    settles(&mut world, &targets);
}
