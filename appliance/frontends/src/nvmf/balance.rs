//! Keeps the connections of a core's volumes where `nvmf::placement` wants them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use reactor::{CoreId, CoreStats, Instant};

use crate::nvmf::directory::CoreTarget;
use crate::nvmf::moves::Destination;
use crate::nvmf::placement::{Candidate, Decision, OtherCore, decide};
use crate::nvmf::target::{Target, WeakTarget};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two moves: the next look then sees what the last one changed.
const BETWEEN_MOVES: Duration = Duration::from_secs(1);
/// A connection that could not be moved is left alone for this long.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// What is remembered from look to look.
#[derive(Default)]
pub(crate) struct Balance {
    /// Work of each connection until the last look.
    work: RefCell<BTreeMap<u64, u64>>,
    /// Connections whose move was given up, and when.
    stayed: RefCell<BTreeMap<u64, Instant>>,
    busy: RefCell<BTreeMap<u16, Busy>>,
    last_move: Cell<Option<Instant>>,
}

/// Busy share of a core, as the mean of the looks, of which each counts half of the one after it.
#[derive(Clone, Copy)]
struct Busy {
    at: Instant,
    busy_ns: u64,
    share: f64,
}

impl Balance {
    /// A connection could not be moved.
    pub fn stayed(&self, id: u64) {
        self.stayed.borrow_mut().insert(id, reactor::now());
    }

    fn is_left_alone(&self, id: u64) -> bool {
        self.stayed.borrow().contains_key(&id)
    }

    /// Work since the last look. What is seen for the first time has done nothing yet.
    fn since_last(&self, id: u64, work: u64) -> u64 {
        let before = self.work.borrow_mut().insert(id, work);
        work.saturating_sub(before.unwrap_or(work))
    }

    fn forget(&self, connections: &[Candidate], now: Instant) {
        let is_there = |id: &u64| connections.iter().any(|c| c.id == *id);
        self.work.borrow_mut().retain(|id, _| is_there(id));
        let recent = |at: &Instant| now.saturating_duration_since(*at) < LEFT_ALONE;
        self.stayed.borrow_mut().retain(|_, at| recent(at));
    }

    fn busy(&self, core: CoreId, stats: &CoreStats, now: Instant) -> f64 {
        let busy_ns = stats.busy_ns.get();
        let mut all = self.busy.borrow_mut();
        let before = all.entry(core.0).or_insert(Busy {
            at: now,
            busy_ns,
            share: 0.0,
        });
        let passed = now.saturating_duration_since(before.at);
        if !passed.is_zero() {
            let worked = Duration::from_nanos(busy_ns.saturating_sub(before.busy_ns));
            // A turn counts when it ends, and may have begun before the last look.
            let share = (worked.as_secs_f64() / passed.as_secs_f64()).min(1.0);
            *before = Busy {
                at: now,
                busy_ns,
                share: (before.share + share) / 2.0,
            };
        }
        before.share
    }
}

/// Looks again and again, until the target is gone.
pub(crate) async fn watch(target: WeakTarget) {
    loop {
        reactor::time::sleep(LOOK).await;
        match target.upgrade() {
            Some(target) if target.options().directory.is_shared() => look(&target),
            Some(_) => {}
            None => return,
        }
    }
}

fn look(target: &Target) {
    let balance = target.balance();
    let now = reactor::now();
    let (own, others): (Vec<_>, Vec<_>) = target
        .options()
        .directory
        .targets()
        .into_iter()
        .partition(|other| other.home == target.home());
    let [own] = own.as_slice() else { return };
    let busy = balance.busy(own.core, &own.stats, now);
    let shares = others.iter().map(|other| OtherCore {
        core: other.core.0,
        busy: balance.busy(other.core, &other.stats, now),
    });
    let shares: Vec<_> = shares.collect();
    let connections = candidates(target);
    balance.forget(&connections, now);
    let last = balance.last_move.get();
    if last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_MOVES) {
        return;
    }
    let decision = decide(busy, &shares, &connections);
    if carry_out(target, decision, &others) {
        balance.last_move.set(Some(now));
        tracing::debug!(?decision, busy, "connections are placed anew");
    }
}

/// The I/O connections of this core's volumes, wherever they are.
fn candidates(target: &Target) -> Vec<Candidate> {
    let balance = target.balance();
    let mut all = Vec::new();
    target.each_connection(|connection| {
        if connection.can_leave() {
            all.push(Candidate {
                id: connection.id(),
                away: None,
                work: balance.since_last(connection.id(), connection.work()),
                can_move: !connection.is_moving() && !balance.is_left_alone(connection.id()),
            });
        }
    });
    target.each_stand_in(|stand_in| {
        all.push(Candidate {
            id: stand_in.id(),
            away: Some(stand_in.core().0),
            work: balance.since_last(stand_in.id(), stand_in.work()),
            can_move: stand_in.can_be_called() && !balance.is_left_alone(stand_in.id()),
        });
    });
    all
}

fn carry_out(target: &Target, decision: Decision, others: &[CoreTarget]) -> bool {
    match decision {
        Decision::Stay => false,
        Decision::Send { id, core } => {
            let other = others.iter().find(|other| other.core.0 == core);
            other.is_some_and(|other| target.ask_move(id, Destination::Core(other.clone())))
        }
        Decision::Fetch { id } => target.call_home(id),
    }
}
