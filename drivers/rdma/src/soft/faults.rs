//! What goes wrong on purpose. All of it is decided by the core's random numbers, so that in a
//! simulated world a seed repeats it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::buf::Buf;

use crate::error::WorkError;
use crate::work::Work;

use super::pair::Pair;

/// How often what goes wrong by chance, in parts per million; everything is off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of all work: it fails, with any error, before or after the peer carried it out.
    pub work_fails_ppm: u32,
    /// Of all completions, receives included: it comes late, and so does what comes after it.
    pub late_ppm: u32,
    /// Of all work that is flushed: its completion comes late.
    pub late_flush_ppm: u32,
    /// How late at most.
    pub late: Duration,
    /// Of all frames sent or taken in: the pair breaks there.
    pub break_ppm: u32,
    /// Of all steps of a set-up: the connection breaks there.
    pub setup_break_ppm: u32,
    /// Of all messages that arrive: the receives have run out.
    pub dry_ppm: u32,
    /// For how long at most.
    pub dry: Duration,
    /// Of all requests to connect: nobody ever hears of it.
    pub connect_vanishes_ppm: u32,
    /// Of all disconnects: the peer is told twice.
    pub disconnect_twice_ppm: u32,
}

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// [`Work::Send`].
    Send,
    /// [`Work::Read`].
    Read,
    /// [`Work::Write`].
    Write,
}

impl WorkKind {
    fn of(work: &Work) -> Self {
        match work {
            Work::Send { .. } => Self::Send,
            Work::Read { .. } => Self::Read,
            Work::Write { .. } => Self::Write,
        }
    }
}

/// Where in a set-up a connection can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// The side that connects, before it says what it wants.
    Connecting,
    /// The side that connects, before it hears the answer.
    Waiting,
    /// The side that connects, with the answer in hand.
    Connected,
    /// The side that listens, before its user hears of the request.
    Requested,
    /// The side that listens, before the answer leaves.
    Accepting,
    /// The side that listens, before it hears that the other side is ready.
    Accepted,
}

/// When an error strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strikes {
    /// The peer never sees the work.
    Before,
    /// The peer has carried it out, and nobody here knows.
    After,
}

/// An error that waits for its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub error: WorkError,
    pub strikes: Strikes,
}

struct Exact {
    pair: u32,
    kind: WorkKind,
    planned: Planned,
}

#[derive(Default)]
struct Inner {
    rates: Cell<Rates>,
    exact: RefCell<Vec<Exact>>,
    steps: RefCell<Vec<SetupStep>>,
    vanishing: Cell<u32>,
    moments: Cell<u64>,
    breaking_moment: Cell<Option<u64>>,
    posted: Cell<u64>,
    failing_work: Cell<Option<(u64, Planned)>>,
    pairs: RefCell<Vec<Weak<Pair>>>,
    not_ready: Cell<u64>,
    struck: Cell<u64>,
    followed: RefCell<Option<Vec<Moved>>>,
}

/// Memory of its user that a card moved bytes to or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Into it: by a read, or with a message. Out of it otherwise.
    pub is_in: bool,
    /// Where it lies.
    pub address: usize,
    /// How long it is.
    pub len_bytes: usize,
}

/// Pieces of memory that are remembered at most.
const FOLLOWED_MAX: usize = 1 << 16;

/// A hand on what goes wrong with one card; clones share it, and it may be changed at any time.
/// By default nothing does.
#[derive(Clone, Default)]
pub struct Faults(Rc<Inner>);

/// Faults that a test asked for and that did not strike yet.
const EXACT_MAX: usize = 1024;

/// One error of each kind that work can have.
pub const ERRORS: [WorkError; 8] = [
    WorkError::RemoteAccess,
    WorkError::RemoteOperation,
    WorkError::RemoteInvalid,
    WorkError::ReceiverNotReady,
    WorkError::Unreachable,
    WorkError::Length,
    WorkError::Local,
    WorkError::Other(42),
];

impl Faults {
    /// These chances from now on.
    pub fn set(&self, rates: Rates) {
        self.0.rates.set(rates);
    }

    /// The next work of this kind that is posted on the pair with this number fails so.
    pub fn fail_next(&self, pair: u32, kind: WorkKind, error: WorkError, strikes: Strikes) {
        let mut exact = self.0.exact.borrow_mut();
        assert!(
            exact.len() < EXACT_MAX,
            "too many faults wait for their work"
        );
        let planned = Planned { error, strikes };
        exact.push(Exact {
            pair,
            kind,
            planned,
        });
    }

    /// The next connection that comes to this step breaks there.
    pub fn break_next(&self, step: SetupStep) {
        let mut steps = self.0.steps.borrow_mut();
        assert!(
            steps.len() < EXACT_MAX,
            "too many faults wait for their step"
        );
        steps.push(step);
    }

    /// Moments at which this card could have broken a connection so far: each frame that it sent or
    /// took in, and each step of a set-up.
    pub fn moments(&self) -> u64 {
        self.0.moments.get()
    }

    /// The connection whose moment has this number, counted as by [`Faults::moments`] from the
    /// card's start, breaks there. One is remembered.
    pub fn break_at_moment(&self, moment: u64) {
        self.0.breaking_moment.set(Some(moment));
    }

    /// Work that was posted on all pairs of this card so far.
    pub fn posted(&self) -> u64 {
        self.0.posted.get()
    }

    /// The work with this number, counted as by [`Faults::posted`] from the card's start, fails so.
    /// One is remembered.
    pub fn fail_posted(&self, number: u64, error: WorkError, strikes: Strikes) {
        let planned = Planned { error, strikes };
        self.0.failing_work.set(Some((number, planned)));
    }

    /// The next request to connect to this card is never heard of.
    pub fn vanish_next_connect(&self) {
        self.0.vanishing.set(self.0.vanishing.get() + 1);
    }

    /// The pair with this number breaks now, as if its cable had been cut. Call it from a task of
    /// its core.
    pub fn break_pair(&self, number: u32) {
        if let Some(pair) = self.pair(number) {
            pair.break_down();
        }
    }

    /// The card of the pair with this number has no receives for `duration` from now on. Call it
    /// from a task of its core.
    pub fn run_dry(&self, number: u32, duration: Duration) {
        if let Some(pair) = self.pair(number) {
            pair.card.receives.run_dry(reactor::now() + duration);
        }
    }

    /// Gives the memory that the card moved payload to or from since the last call, as far as there
    /// is room to remember it; the first call begins. A test of copies compares it with what a disk
    /// was given.
    pub fn take_moved(&self) -> Vec<Moved> {
        self.0
            .followed
            .replace(Some(Vec::new()))
            .unwrap_or_default()
    }

    /// Payload is about to be moved, or has been.
    pub(super) fn follow(&self, is_in: bool, buf: &Buf) {
        if let Some(followed) = &mut *self.0.followed.borrow_mut()
            && followed.len() < FOLLOWED_MAX
        {
            followed.push(Moved {
                is_in,
                address: buf.as_ptr().addr(),
                len_bytes: buf.len(),
            });
        }
    }

    /// Times that this card told a peer that no receive was ready.
    pub fn not_ready(&self) -> u64 {
        self.0.not_ready.get()
    }

    /// Faults that struck.
    pub fn struck(&self) -> u64 {
        self.0.struck.get()
    }

    fn pair(&self, number: u32) -> Option<Rc<Pair>> {
        let pairs = self.0.pairs.borrow();
        pairs
            .iter()
            .filter_map(Weak::upgrade)
            .find(|pair| pair.number() == number)
    }

    pub(super) fn add_pair(&self, pair: &Rc<Pair>) {
        let mut pairs = self.0.pairs.borrow_mut();
        pairs.retain(|pair| pair.strong_count() > 0);
        pairs.push(Rc::downgrade(pair));
    }

    pub(super) fn count_not_ready(&self) {
        self.0.not_ready.set(self.0.not_ready.get() + 1);
    }

    /// What happens to work that is being posted.
    pub(super) fn plan(&self, pair: u32, work: &Work) -> Option<Planned> {
        let number = self.0.posted.replace(self.0.posted.get() + 1);
        if let Some((failing, planned)) = self.0.failing_work.get()
            && failing == number
        {
            self.strike();
            return Some(planned);
        }
        let kind = WorkKind::of(work);
        let mut exact = self.0.exact.borrow_mut();
        let at = exact
            .iter()
            .position(|exact| exact.pair == pair && exact.kind == kind);
        if let Some(at) = at {
            self.strike();
            return Some(exact.remove(at).planned);
        }
        if !self.chance(self.0.rates.get().work_fails_ppm) {
            return None;
        }
        let random = reactor::random_u64();
        let error = *ERRORS.get(random as usize % ERRORS.len())?;
        let strikes = match random >> 32 & 1 {
            0 => Strikes::Before,
            _ => Strikes::After,
        };
        Some(Planned { error, strikes })
    }

    /// How late a completion comes.
    pub(super) fn delay(&self, is_flush: bool) -> Duration {
        let rates = self.0.rates.get();
        let ppm = match is_flush {
            true => rates.late_flush_ppm,
            false => rates.late_ppm,
        };
        match self.chance(ppm) {
            true => part_of(rates.late),
            false => Duration::ZERO,
        }
    }

    /// For how long the receives run out with this message.
    pub(super) fn dry(&self) -> Option<Duration> {
        let rates = self.0.rates.get();
        self.chance(rates.dry_ppm).then(|| part_of(rates.dry))
    }

    pub(super) fn breaks(&self) -> bool {
        self.is_breaking_moment() || self.chance(self.0.rates.get().break_ppm)
    }

    pub(super) fn breaks_at(&self, step: SetupStep) -> bool {
        if self.is_breaking_moment() {
            return true;
        }
        let mut steps = self.0.steps.borrow_mut();
        if let Some(at) = steps.iter().position(|asked| *asked == step) {
            steps.remove(at);
            self.strike();
            return true;
        }
        self.chance(self.0.rates.get().setup_break_ppm)
    }

    /// Counts a moment.
    fn is_breaking_moment(&self) -> bool {
        let moment = self.0.moments.replace(self.0.moments.get() + 1);
        let breaks = self.0.breaking_moment.get() == Some(moment);
        if breaks {
            self.strike();
        }
        breaks
    }

    pub(super) fn vanishes(&self) -> bool {
        if let Some(left) = self.0.vanishing.get().checked_sub(1) {
            self.0.vanishing.set(left);
            self.strike();
            return true;
        }
        self.chance(self.0.rates.get().connect_vanishes_ppm)
    }

    pub(super) fn tells_twice(&self) -> bool {
        self.chance(self.0.rates.get().disconnect_twice_ppm)
    }

    /// Draws nothing when the chance is zero: a card without faults leaves a world's random
    /// numbers alone.
    fn chance(&self, ppm: u32) -> bool {
        let strikes = ppm > 0 && reactor::random_u64() % 1_000_000 < u64::from(ppm);
        if strikes {
            self.strike();
        }
        strikes
    }

    fn strike(&self) {
        self.0.struck.set(self.0.struck.get() + 1);
    }
}

/// Between a microsecond and all of it.
fn part_of(duration: Duration) -> Duration {
    let limit_us = u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    Duration::from_micros(1 + reactor::random_u64() % limit_us)
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults")
            .field("rates", &self.0.rates.get())
            .field("struck", &self.struck())
            .finish_non_exhaustive()
    }
}
