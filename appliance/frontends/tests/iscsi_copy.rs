//! In the simulator: EXTENDED COPY between volumes of two cores, as hosts ask for it, and what ends
//! it in the middle.

mod common;

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::initiator::{Done, Initiator, Wish};
use common::iscsi_world::{BLOCK, PORT, Shared, listen, offer, options, settles};
use common::sim::{self, SECOND, run_host};
use common::sim_host::block_data;
use frontends::iscsi::{Directory, Target, volume_iqn};
use reactor::sim::World;
use reactor::time::sleep;
use volume::testing::numbered_volume;
use wire::iscsi::{LogoutReason, NO_TAG, TaskFunction};

/// The volumes, one on each core.
const VOLUMES: [&str; 2] = ["memory", "memory-2"];
/// COPY ABORTED, COPY TARGET DEVICE NOT REACHABLE.
const GONE: Option<(u8, u16)> = Some((0xa, 0x0d02));
/// COPY ABORTED, UNREACHABLE COPY TARGET.
const UNKNOWN: Option<(u8, u16)> = Some((0xa, 0x0804));
/// Blocks of a volume: eight pieces of a copy.
const BLOCKS: u64 = 1024;
/// Blocks of one READ.
const STRIDE: u16 = 256;
/// Virtual time of a turn: so much that what ends a copy comes in its middle.
const TURN: Duration = Duration::from_micros(100);

/// What becomes of the second core's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Stay,
    RemoveVolume,
    ShutDown,
    Done,
}

async fn obey(target: Target, order: Rc<Cell<Order>>) {
    loop {
        match order.get() {
            Order::RemoveVolume => target
                .remove_volume(VOLUMES[1])
                .await
                .expect("it was there"),
            Order::ShutDown => target.shutdown().await,
            Order::Stay | Order::Done => {
                sleep(Duration::from_micros(10)).await;
                continue;
            }
        }
        order.set(Order::Done);
    }
}

/// Runs `host` against two cores with a volume each. Nothing is left of it at the end.
fn on_two<F: Future<Output = ()> + 'static>(
    seed: u64,
    host: impl Fn(SocketAddr, Rc<Cell<Order>>) -> F + 'static,
) {
    let mut slow = sim::options();
    slow.cpu.turn_ns = TURN.as_nanos() as u64;
    let mut world = World::new(seed, slow);
    let address = SocketAddr::new(world.node("target"), PORT);
    let (targets, order) = (Shared::default(), Rc::new(Cell::new(Order::Stay)));
    let (started, ordered) = (targets.clone(), order.clone());
    world.start_with("target", 2, move || {
        let directory = Directory::new();
        let (started, ordered) = (started.clone(), ordered.clone());
        move |core| {
            let (directory, started) = (directory.clone(), started.clone());
            let ordered = ordered.clone();
            async move {
                let target = Target::new(options(directory)).expect("good options");
                let pool = reactor::buf::pool();
                started.borrow_mut().push((target.clone(), pool));
                let number = core as u8 + 1;
                let volume = numbered_volume(number, BLOCKS, BLOCK as u32, u64::MAX);
                offer(&target, volume).await;
                if core == 1 {
                    return obey(target, ordered).await;
                }
                listen(&target, 1);
                sleep(1_000_000 * SECOND).await;
            }
        }
    });
    run_host(&mut world, address, move |server| {
        host(server, order.clone())
    });
    settles(&mut world, &targets);
}

async fn login(server: SocketAddr, volume: usize) -> Initiator {
    let wish = Wish {
        target: Some(volume_iqn(VOLUMES[volume])),
        ..Wish::new()
    };
    let mut one = Initiator::login(server, wish).await.expect("a login");
    one.settle().await.expect("ready");
    one
}

/// A target descriptor with the NAA designator of the volume's page 83h.
async fn descriptor(one: &mut Initiator) -> Vec<u8> {
    let mut inquiry = [0; 16];
    inquiry[..5].copy_from_slice(&[0x12, 1, 0x83, 1, 0]);
    let page = one.run(inquiry, 256, &[]).await.expect("the page").data;
    let mut rest = &page[4..];
    while rest[1] & 0x3f != 0x03 {
        rest = &rest[4 + usize::from(rest[3])..];
    }
    let designator = &rest[..4 + usize::from(rest[3])];
    let mut bytes = vec![0xe4, 0, 0, 0];
    bytes.extend(designator);
    bytes.resize(28, 0);
    bytes.extend((BLOCK as u32).to_be_bytes());
    bytes
}

/// Both ends of copies, and a session with each.
struct Ends {
    sessions: [Initiator; 2],
    descriptors: [Vec<u8>; 2],
}

impl Ends {
    async fn new(server: SocketAddr) -> Self {
        let mut sessions = [login(server, 0).await, login(server, 1).await];
        let [first, second] = &mut sessions;
        let descriptors = [descriptor(first).await, descriptor(second).await];
        Self {
            sessions,
            descriptors,
        }
    }

    /// EXTENDED COPY of blocks from the first volume to the second, as `sg_xcopy` has it.
    fn command(&self, count: u16, lbas: (u64, u64)) -> ([u8; 16], Vec<u8>) {
        let mut list = vec![1, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
        list.extend(self.descriptors.concat());
        list.extend([0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0]);
        list.extend(count.to_be_bytes());
        list.extend([lbas.0.to_be_bytes(), lbas.1.to_be_bytes()].concat());
        let mut cdb = [0; 16];
        cdb[0] = 0x83;
        cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
        (cdb, list)
    }

    /// Fills the first volume.
    async fn fill(&mut self) {
        let data = block_data(2, STRIDE.into());
        for lba in (0..BLOCKS as u32).step_by(STRIDE.into()) {
            let written = self.sessions[0].write(lba, &data, BLOCK).await;
            written.expect("written");
        }
    }

    /// Starts to copy everything, and lets some turns pass.
    async fn begin(&mut self, turns: u32) -> u32 {
        let (cdb, list) = self.command(BLOCKS as u16, (0, 0));
        let itt = self.sessions[0].start(cdb, 0, &list).await.expect("sent");
        sleep(TURN * turns).await;
        itt
    }

    async fn finish(&mut self, itt: u32) -> Done {
        self.sessions[0].finish(itt, &[]).await.expect("an answer")
    }

    /// How many blocks of the second volume are copied, from its start.
    async fn copied(&mut self) -> usize {
        let (old, new) = (vec![0; BLOCK], block_data(2, 1));
        let mut copied = 0;
        for lba in (0..BLOCKS as u32).step_by(STRIDE.into()) {
            let data = self.sessions[1].read(lba, STRIDE, BLOCK).await;
            for (index, block) in data.expect("read").chunks(BLOCK).enumerate() {
                let at = lba as usize + index;
                if block == new {
                    assert_eq!(copied, at, "a gap in what was copied");
                    copied += 1;
                } else {
                    assert!(block == old, "block {at} is neither old nor new");
                }
            }
        }
        copied
    }
}

#[test]
fn volumes_of_two_cores_are_copied_by_either() {
    on_two(1, |server, _| async move {
        let mut ends = Ends::new(server).await;
        for by in 0..2 {
            let data = block_data(7 + by as u64, 32);
            ends.sessions[0]
                .write(900, &data, BLOCK)
                .await
                .expect("written");
            let (cdb, list) = ends.command(32, (900, 64));
            let done = ends.sessions[by].run(cdb, 0, &list).await;
            assert!(done.expect("an answer").is_good());
            let found = ends.sessions[1].read(64, 32, BLOCK).await;
            assert!(found.expect("read") == data);
        }
    });
}

/// How a copy is ended.
#[derive(Clone, Copy, Debug)]
enum By {
    Task,
    Unit,
    Logout,
    Reinstatement,
}

async fn end(ends: &mut Ends, server: SocketAddr, itt: u32, by: By) {
    let one = &mut ends.sessions[0];
    let number = one.cmd_sn - 1;
    let answer = match by {
        By::Task => one.manage(TaskFunction::ABORT_TASK, itt, number).await,
        By::Unit => {
            let reset = TaskFunction::LOGICAL_UNIT_RESET;
            one.manage(reset, NO_TAG, 0).await
        }
        By::Logout => one.logout(LogoutReason::CLOSE_SESSION, 0).await,
        By::Reinstatement => {
            *one = login(server, 0).await;
            Ok(0)
        }
    };
    // It may have come to its end before.
    let answer = answer.expect("an answer");
    assert!(answer == 0 || matches!(by, By::Task), "{by:?}: {answer}");
}

#[test]
fn a_copy_that_was_ended_writes_nothing_later() {
    let cut = Rc::new(Cell::new(0));
    for seed in 1..=3 {
        for by in [By::Task, By::Unit, By::Logout, By::Reinstatement] {
            let cut = cut.clone();
            on_two(seed, move |server, _| {
                let cut = cut.clone();
                async move {
                    let mut ends = Ends::new(server).await;
                    ends.fill().await;
                    let itt = ends.begin(seed as u32).await;
                    end(&mut ends, server, itt, by).await;
                    let copied = ends.copied().await;
                    sleep(SECOND).await;
                    assert_eq!(ends.copied().await, copied, "{by:?}");
                    cut.set(cut.get() + u32::from(copied < BLOCKS as usize));
                }
            });
        }
    }
    assert!(cut.get() > 6, "{} of 12 were cut", cut.get());
}

#[test]
fn a_volume_that_goes_away_ends_the_copy_and_does_not_wait_for_it() {
    let cut = Rc::new(Cell::new(0));
    for seed in 1..=6 {
        let cut = cut.clone();
        on_two(seed, move |server, order| {
            let cut = cut.clone();
            async move {
                let done = goes_away(server, seed, &order, Order::RemoveVolume).await;
                cut.set(cut.get() + u32::from(!done.is_good()));
            }
        });
    }
    assert!(cut.get() > 3, "{} of 6 were cut", cut.get());
}

/// Its hosts have some time to log out: the copy may come to its end.
#[test]
fn a_target_that_shuts_down_takes_its_volume_from_copies() {
    for seed in 1..=3 {
        on_two(seed, move |server, order| async move {
            goes_away(server, seed, &order, Order::ShutDown).await;
        });
    }
}

/// How a copy ended whose destination was taken away in its middle.
async fn goes_away(server: SocketAddr, seed: u64, orders: &Cell<Order>, order: Order) -> Done {
    let mut ends = Ends::new(server).await;
    ends.fill().await;
    let itt = ends.begin(seed as u32).await;
    orders.set(order);
    let done = ends.finish(itt).await;
    assert!(done.is_good() || done.sense == GONE, "{done:?}");
    while orders.get() != Order::Done {
        sleep(SECOND / 1000).await;
    }
    let again = ends.begin(0).await;
    let again = ends.finish(again).await;
    assert_eq!(again.sense, UNKNOWN, "after {order:?}");
    let found = ends.sessions[0].read(0, 1, BLOCK).await.expect("read");
    assert!(found == block_data(2, 1), "the first core goes on");
    done
}
