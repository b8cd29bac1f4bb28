//! One session over NVMe/RDMA, from the request to connect to its orderly end, with one fault: at the
//! first moment at which it can happen, then at the second, and so on to the last. Whatever the
//! moment, the next session finds what was acknowledged, and nothing is left over.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::breaks::Book;
use common::rdma_world::{
    Cores, connect, host_card_with, impatient, settles, start_target, turn_over,
};
use common::sim::{SECOND, start_host, world};
use host::HostError;
use rdma::soft::{ERRORS, Faults, Strikes};
use reactor::sim::World;
use reactor::time::{sleep, timeout};

/// Blocks of the two writes: in the capsule, and by RDMA READ.
const SIZES: [usize; 2] = [1, 16];

/// Whose card has the fault.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Host,
    /// The core with this number in the order of their start.
    Target(usize),
}

/// Everything that a session does, once.
async fn session(faults: &Faults, server: SocketAddr, book: &Book) -> Result<(), HostError> {
    let card = host_card_with(faults.clone());
    let (mut controller, mut io) = connect(&card, server, 1, impatient().into()).await?;
    turn_over(&mut io, book, &SIZES).await?;
    controller.keep_alive().await?;
    io.disconnect().await?;
    controller.shutdown().await
}

/// Sessions until one comes to its end.
async fn until_done(faults: Faults, server: SocketAddr, book: &Book) {
    // An end that the host cannot see shows as silence.
    let again = async || timeout(4 * SECOND, session(&faults, server, book)).await;
    let mut failed = 0;
    while !matches!(again().await, Ok(Ok(()))) {
        failed += 1;
        assert!(failed < 4, "one fault breaks few sessions");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A target and a host that begins its session with the next step of the world.
struct Stage {
    world: World,
    cores: Cores,
    host_faults: Faults,
    book: Rc<Book>,
    host_is_done: Rc<Cell<bool>>,
}

impl Stage {
    fn new(core_count: usize) -> Self {
        let mut world = world(5);
        let (server, cores) = start_target(&mut world, core_count);
        // What the target holds before any host came is counted first.
        world.run_for(SECOND / 100);
        let (book, host_faults) = (Book::new(SIZES.len()), Faults::default());
        let used = (book.clone(), host_faults.clone());
        let host_is_done = start_host(&mut world, server, move |server| {
            let (book, faults) = used.clone();
            async move { until_done(faults, server, &book).await }
        });
        Self {
            world,
            cores,
            host_faults,
            book,
            host_is_done,
        }
    }

    fn faults(&self, side: Side) -> Faults {
        match side {
            Side::Host => self.host_faults.clone(),
            Side::Target(core) => self.cores.borrow()[core].faults.clone(),
        }
    }

    /// Until a session comes to its end. Nothing is left then.
    fn finish(mut self) {
        self.world
            .run_until(60 * SECOND, |_| self.host_is_done.get());
        assert!(self.book.writes() >= SIZES.len() as u64);
        settles(&mut self.world, &self.cores);
    }
}

/// Runs sessions until one comes to its end, with a fault on one side, and gives that side's card.
fn run(core_count: usize, side: Side, plan: impl Fn(&Faults)) -> Faults {
    let stage = Stage::new(core_count);
    let faults = stage.faults(side);
    plan(&faults);
    stage.finish();
    faults
}

/// Breaks the session at each of its moments, and says how many there were.
fn break_at_each_moment(cores: usize, side: Side) -> u64 {
    let moments = run(cores, side, |_| {}).moments();
    for moment in 0..moments {
        let struck = run(cores, side, |faults| faults.break_at_moment(moment)).struck();
        assert_eq!(struck, 1, "{side:?}, moment {moment} of {moments}");
    }
    moments
}

#[test]
fn a_session_may_break_at_each_moment_of_the_target() {
    let moments = break_at_each_moment(1, Side::Target(0));
    assert!(moments > 40, "a session is longer than {moments} moments");
}

#[test]
fn a_session_may_break_at_each_moment_of_the_host() {
    let moments = break_at_each_moment(1, Side::Host);
    assert!(moments > 40, "a session is longer than {moments} moments");
}

#[test]
fn a_session_of_another_core_may_break_at_each_moment_of_both() {
    let moments = [0, 1].map(|core| break_at_each_moment(2, Side::Target(core)));
    assert!(moments.iter().sum::<u64>() > 40, "{moments:?}");
    assert!(moments.iter().all(|moments| *moments > 0), "{moments:?}");
}

#[test]
fn a_session_may_fall_silent_at_each_moment() {
    let side = Side::Target(0);
    let moments = run(1, side, |_| {}).moments();
    for moment in 0..moments {
        let mut stage = Stage::new(1);
        let faults = stage.faults(side);
        stage.world.run_until(SECOND, |_| faults.moments() > moment);
        stage.world.partition("host", "target");
        // Longer than either end waits for the other.
        stage.world.run_for(6 * SECOND);
        assert!(stage.cores.borrow()[0].target.connections().is_empty());
        stage.world.heal("host", "target");
        stage.finish();
    }
}

#[test]
fn each_work_of_the_target_may_fail_with_each_error() {
    let side = Side::Target(0);
    let works = run(1, side, |_| {}).posted();
    assert!(works > 15, "a session is more than {works} works");
    for work in 0..works {
        for error in ERRORS {
            for strikes in [Strikes::Before, Strikes::After] {
                let plan = |faults: &Faults| faults.fail_posted(work, error, strikes);
                let struck = run(1, side, plan).struck();
                assert_eq!(struck, 1, "work {work} of {works}, {error:?} {strikes:?}");
            }
        }
    }
}
