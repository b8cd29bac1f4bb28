//! In the simulator: task management, logout and reinstatement end commands that wait in the volume
//! for a slow device. Once they are answered the old write changes nothing any more.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::VOLUME;
use common::initiator::{Initiator, Wish, write10};
use common::iscsi_world::{BLOCK, PORT, listen, offer, options};
use common::sim::{SECOND, world};
use common::sim_host::block_data;
use frontends::iscsi::{Directory, Target};
use reactor::sim::{DiskHandle, DiskOptions};
use reactor::time::{sleep, timeout};
use volume::{Engine, EngineOptions, PoolSpec, VolumeSpec};
use wire::iscsi::{LogoutReason, NO_TAG, TaskFunction};

const DISK: &str = "pool";
/// How long every operation of the device takes.
const SLOW: Duration = Duration::from_millis(200);

/// Serves a new volume on the simulated disk.
async fn serve() {
    let spec = PoolSpec {
        name: "main".into(),
        file_bytes: None,
        overwrite: false,
    };
    Engine::create_pool(DISK.as_ref(), &spec)
        .await
        .expect("a pool");
    let (engine, _) = Engine::open(EngineOptions::new(DISK))
        .await
        .expect("it opens");
    let spec = VolumeSpec {
        name: VOLUME.into(),
        size_bytes: 4 << 20,
        block_bytes: BLOCK as u32,
        journal_bytes: Some(4 << 20),
    };
    let volume = engine.create_volume(spec).await.expect("room for it");
    let target = Target::new(options(Directory::new())).expect("good options");
    offer(&target, volume).await;
    listen(&target, 1);
    sleep(1_000 * SECOND).await;
}

/// How the old write is ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Task,
    TaskSet,
    Unit,
    Session,
    Reinstatement,
}

async fn ends(server: SocketAddr, disk: DiskHandle, end: End) {
    let mut one = Initiator::login(server, Wish::new())
        .await
        .expect("a login");
    one.settle().await.expect("ready");
    one.write(0, &block_data(1, 1), BLOCK)
        .await
        .expect("written");
    disk.set_slow(SLOW);
    let old = block_data(2, 1);
    let itt = one.start(write10(0, 1), 0, &old).await.expect("sent");
    let number = one.cmd_sn - 1;
    sleep(Duration::from_millis(10)).await;
    let complete = Some(0);
    match end {
        End::Task => {
            let answer = one.manage(TaskFunction::ABORT_TASK, itt, number).await;
            assert_eq!(answer.ok(), complete);
            let again = one.manage(TaskFunction::ABORT_TASK, itt, number).await;
            assert_eq!(again.ok(), Some(1), "there is nothing left to abort");
        }
        End::TaskSet => {
            let answer = one.manage(TaskFunction::ABORT_TASK_SET, NO_TAG, 0).await;
            assert_eq!(answer.ok(), complete);
        }
        End::Unit => {
            let answer = one
                .manage(TaskFunction::LOGICAL_UNIT_RESET, NO_TAG, 0)
                .await;
            assert_eq!(answer.ok(), complete);
        }
        End::Session => {
            let answer = one.logout(LogoutReason::CLOSE_SESSION, 0).await;
            assert_eq!(answer.ok(), complete);
        }
        End::Reinstatement => {}
    }
    if matches!(end, End::Session | End::Reinstatement) {
        one = Initiator::login(server, Wish::new())
            .await
            .expect("a login");
    }
    // It took effect or not; what the first read finds is what stays.
    one.settle().await.expect("ready");
    let first = one.read(0, 1, BLOCK).await.expect("read");
    assert!(first == old || first == block_data(1, 1), "{end:?}");
    // No answer of the old write comes late.
    let answer = timeout(10 * SLOW, one.receive_for(itt)).await;
    assert!(answer.is_err(), "{end:?}");
    let found = one.read(0, 1, BLOCK).await.expect("read");
    assert!(found == first, "{end:?}: the old write came late");
    one.write(0, &block_data(3, 1), BLOCK)
        .await
        .expect("written");
    let found = one.read(0, 1, BLOCK).await.expect("read");
    assert!(found == block_data(3, 1), "{end:?}");
}

#[test]
fn an_ended_write_changes_nothing_later() {
    let all = [
        End::Task,
        End::TaskSet,
        End::Unit,
        End::Session,
        End::Reinstatement,
    ];
    for (seed, end) in all.into_iter().cycle().take(15).enumerate() {
        let mut world = world(seed as u64);
        let disk = world.add_disk(DISK, DiskOptions::default());
        let server = SocketAddr::new(world.node("target"), PORT);
        world.start("target", 1, |_| serve());
        world.run_for(SECOND);
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        world.start("host", 1, move |_| {
            let (work, seen) = (ends(server, disk.clone(), end), seen.clone());
            async move {
                work.await;
                seen.set(true);
            }
        });
        world.run_until(60 * SECOND, |_| done.get());
    }
}
