//! Hosts of the simulator whose connections break all the time: what breaks, and what they may find.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use reactor::sim::{Crash, World};
use reactor::time::{sleep, timeout};

use super::sim::{Draw, SECOND};

/// What one slot of the volume may hold: the last acknowledged value, or the one under way.
#[derive(Clone, Copy, Default)]
struct Known {
    acked: u64,
    tried: u64,
}

/// What a host knows of its slots, whatever becomes of its connections.
pub struct Book {
    slots: RefCell<Vec<Known>>,
    sessions: Cell<u64>,
    writes: Cell<u64>,
}

impl Book {
    /// All slots hold 0.
    pub fn new(slots: usize) -> Rc<Self> {
        Rc::new(Self {
            slots: RefCell::new(vec![Known::default(); slots]),
            sessions: Cell::new(0),
            writes: Cell::new(0),
        })
    }

    /// Counts a session that was set up.
    pub fn begin_session(&self) {
        self.sessions.set(self.sessions.get() + 1);
    }

    /// Sessions that were set up.
    pub fn sessions(&self) -> u64 {
        self.sessions.get()
    }

    /// Writes that were acknowledged.
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// A read found this. From now on nothing else may come back: not what was under way in an older
    /// session either.
    pub fn found(&self, slot: usize, value: u64) {
        let known = &mut self.slots.borrow_mut()[slot];
        assert!(
            value == known.acked || value == known.tried,
            "slot {slot} holds {value}, acknowledged was {}, under way {}",
            known.acked,
            known.tried
        );
        known.acked = value;
    }

    /// The value to write next, which is under way from now on.
    pub fn next(&self, slot: usize) -> u64 {
        let known = &mut self.slots.borrow_mut()[slot];
        known.tried += 1;
        known.tried
    }

    /// The write under way is acknowledged.
    pub fn acknowledged(&self, slot: usize) {
        let known = &mut self.slots.borrow_mut()[slot];
        known.acked = known.tried;
        self.writes.set(self.writes.get() + 1);
    }
}

/// One session after another. An end that the host cannot see (a half-open connection) shows as
/// silence.
pub async fn again_and_again<F: Future>(session: impl Fn() -> F) {
    loop {
        let _ = timeout(4 * SECOND, session()).await;
        sleep(Duration::from_millis(5)).await;
    }
}

/// Breaks what is between the nodes "host" and "target", from the first word of a connection to some
/// commands into its session.
pub fn break_often(world: &mut World, seed: u64, breaks: u32) {
    let mut draw = Draw::new(seed);
    for _ in 0..breaks {
        world.run_for(Duration::from_micros(draw.below(20_000)));
        match draw.below(8) {
            0 => {
                world.crash("host", Crash::Kill);
                world.restart("host");
            }
            1 => {
                world.partition("host", "target");
                world.run_for(Duration::from_millis(draw.below(6000)));
                world.heal("host", "target");
            }
            _ => {
                world.drop_connection("host", "target");
            }
        }
    }
}

/// Nothing breaks any more: the host works on.
pub fn works_on(world: &mut World, book: &Book) {
    let before = book.writes();
    world.run_until(60 * SECOND, |_| book.writes() >= before + 20);
    assert!(book.sessions() > 1, "connections broke");
}
