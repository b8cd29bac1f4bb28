//! What a volume keeps of its reservations, while it is written, flushed and cut off at any time:
//! the old ones or the new ones, and never less than what was acknowledged.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use reactor::sim::{Crash, World};
use volume::{Command, Engine, ErrorKind, Request, Volume};

/// What is known to be kept, and what was being stored last.
#[derive(Clone, Default)]
struct Book {
    acknowledged: Rc<Cell<u64>>,
    attempted: Rc<Cell<u64>>,
}

/// Different for each number, some of several blocks; for 0 nothing.
fn bytes_of(number: u64) -> Vec<u8> {
    let len = number as usize * 977 % 20_000;
    number
        .to_le_bytes()
        .repeat(len / 8 + usize::from(number > 0))
}

async fn opened() -> (Engine, Volume) {
    let engine = match Engine::open(options(DISK.as_ref())).await {
        Ok((engine, _)) => engine,
        Err(_) => {
            create(DISK.as_ref(), None).await;
            open(DISK.as_ref()).await.0
        }
    };
    let volume = match engine.volume("demo") {
        Some(volume) => volume,
        None => {
            let created = engine.create_volume(spec("demo", 8 << 20, 4096)).await;
            created.expect("room for it")
        }
    };
    (engine, volume)
}

/// Checks what is there, then stores one after the other beside writes, until it is cut off.
async fn live(book: Book) {
    let (_engine, volume) = opened().await;
    let kept = volume.load_reservations().await.expect("never damaged");
    let (acknowledged, attempted) = (book.acknowledged.get(), book.attempted.get());
    let found = [acknowledged, attempted]
        .into_iter()
        .find(|one| kept == bytes_of(*one));
    let found = found.unwrap_or_else(|| {
        panic!(
            "{} bytes are neither {acknowledged} nor {attempted}",
            kept.len()
        )
    });
    book.acknowledged.set(found);
    let writer = volume.clone();
    reactor::spawn(async move {
        for round in 0.. {
            write(&writer, round * 7 % 1024, CLUSTER, round as u8).await;
            let flush = Request::new(Command::Flush);
            writer.execute(flush).await.expect("flushed");
        }
    })
    .detach();
    for number in attempted + 1.. {
        // Now and then nothing is kept any more.
        let bytes = bytes_of(number);
        book.attempted.set(number);
        volume.store_reservations(bytes).await.expect("stored");
        book.acknowledged.set(number);
    }
}

fn crash_again_and_again(seed: u64, crash: Crash) -> u64 {
    let mut world = world(seed, true);
    let book = Book::default();
    for life in 0..6 {
        let given = book.clone();
        world.start("target", 1, move |_| live(given.clone()));
        let cut_off = Duration::from_micros(20_000 + (seed * 7919 + life * 104_729) % 30_000);
        world.run_for(cut_off);
        world.crash("target", crash);
    }
    book.acknowledged.get()
}

#[test]
fn a_crash_leaves_the_old_or_the_new_ones() {
    let mut stored = 0;
    for seed in 0..8 {
        for crash in [Crash::Kill, Crash::PowerLoss] {
            stored += crash_again_and_again(seed, crash);
        }
    }
    assert!(stored > 100, "{stored} stores prove little");
}

/// The simulator's disk is lost with the power; what is stored after the engine stopped is refused.
#[test]
fn a_stopped_engine_keeps_what_there_was() {
    let mut world = world(3, true);
    let ran = run(&mut world, || async {
        let (engine, volume) = opened().await;
        volume
            .store_reservations(bytes_of(5))
            .await
            .expect("stored");
        engine.shutdown().await.expect("shutdown");
        let refused = volume.store_reservations(bytes_of(6)).await;
        let refused = refused.expect_err("it is stopped");
        assert_eq!(refused.kind(), ErrorKind::Device);
        drop((engine, volume));
        let (engine, volume) = opened().await;
        let kept = volume.load_reservations().await.expect("read");
        assert_eq!(kept, bytes_of(5));
        engine.delete_volume("demo").await.expect("deleted");
        engine.shutdown().await.expect("shutdown");
        drop((engine, volume));
        let (_engine, volume) = opened().await;
        let kept = volume.load_reservations().await.expect("read");
        assert!(kept.is_empty(), "a new volume of the old name");
    });
    assert!(ran.is_some());
}

fn run<F: Future<Output = ()> + 'static>(
    world: &mut World,
    main: impl Fn() -> F + 'static,
) -> Option<()> {
    world.run_once("target", LIMIT, main)
}
