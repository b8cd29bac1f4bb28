//! Participants of both kinds on one volume: checks, notices, aborts, SPC-2, and what is kept.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use reactor::sim::{World, WorldOptions};
use volume::testing::memory_volume;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `main` to its end, and makes sure that it got there.
fn run<F: Future<Output = ()> + 'static>(main: impl Fn() -> F + 'static) {
    let mut world = World::new(1, WorldOptions::default());
    let ended = world.run_once("target", LIMIT, main);
    assert!(ended.is_some(), "it stands still");
}

/// A frontend's end that notes what it is told. Aborted tasks settle after a while.
#[derive(Default)]
struct Host {
    told: RefCell<Vec<Notice>>,
    aborts: Cell<u32>,
    unsettled: Cell<u32>,
}

impl Listener for Host {
    fn notify(&self, notice: Notice) {
        self.told.borrow_mut().push(notice);
    }

    fn abort_tasks(&self) {
        self.aborts.set(self.aborts.get() + 1);
        self.unsettled.set(3);
    }

    fn is_settled(&self) -> bool {
        let left = self.unsettled.get();
        self.unsettled.set(left.saturating_sub(1));
        left == 0
    }
}

fn join(reservations: &Rc<Reservations>, identity: Identity) -> (Rc<Participant>, Rc<Host>) {
    let host = Rc::new(Host::default());
    let listener: Rc<dyn Listener> = host.clone();
    let participant = reservations.attach(identity, Rc::downgrade(&listener));
    (participant, host)
}

async fn must(who: &Rc<Participant>, action: Action) {
    let done = who.reservations().change(who, action.clone()).await;
    assert_eq!(done, Ok(()), "{action:?}");
}

fn rights(who: &Participant) -> (bool, bool, bool) {
    let may = |access| who.check(access).is_ok();
    (may(Access::Read), may(Access::Write), may(Access::Other))
}

const ALL: (bool, bool, bool) = (true, true, true);

#[test]
fn a_scsi_host_and_an_nvme_host_share_one_reservation() {
    run(|| async {
        let reservations = Reservations::load(memory_volume(64, 512)).await;
        let (a, _) = join(&reservations, scsi("a", 1));
        let (b, b_host) = join(&reservations, nvme(0xb));
        let (b_too, b_too_host) = join(&reservations, nvme(0xb));
        assert_eq!((rights(&a), rights(&b)), (ALL, ALL));
        must(&a, register(1)).await;
        must(&b, register(2)).await;
        let kind = Kind::ExclusiveAccess;
        must(&a, Action::Reserve { key: 1, kind }).await;
        let none = (false, false, true);
        assert_eq!((rights(&a), rights(&b), rights(&b_too)), (ALL, none, none));
        let (late, _) = join(&reservations, scsi("late", 1));
        assert_eq!(rights(&late), none, "whoever comes later as well");

        must(
            &a,
            Action::Preempt {
                key: 1,
                victim: 2,
                kind: Some(kind),
                abort: true,
            },
        )
        .await;
        for host in [&b_host, &b_too_host] {
            assert_eq!(*host.told.borrow(), [Notice::Preempted]);
            assert_eq!(
                (host.aborts.get(), host.unsettled.get()),
                (1, 0),
                "waited for"
            );
        }
        let refused = reservations.change(&b, Action::Clear { key: 2 }).await;
        assert_eq!(refused, Err(Refusal::Conflict));
        must(&b, register(3)).await;
        must(
            &b,
            Action::Preempt {
                key: 3,
                victim: 1,
                kind: Some(Kind::WriteExclusive),
                abort: false,
            },
        )
        .await;
        assert_eq!((rights(&b_too), rights(&a)), (ALL, (true, false, true)));
        assert_eq!(reservations.state().generation(), 5);
    });
}

/// SPC-2 section 7.20 and 5.5.1, and that the two kinds exclude each other.
#[test]
fn a_reservation_of_the_unit_ends_with_its_nexus() {
    run(|| async {
        let reservations = Reservations::load(memory_volume(64, 512)).await;
        let (a, _) = join(&reservations, scsi("a", 1));
        let (b, _) = join(&reservations, nvme(0xb));
        let (c, _) = join(&reservations, scsi("c", 1));
        assert_eq!(reservations.reserve_unit(&a), Ok(()));
        assert_eq!(reservations.reserve_unit(&a), Ok(()), "again by its holder");
        assert_eq!(reservations.reserve_unit(&c), Err(Conflict));
        assert_eq!((rights(&a), rights(&b)), (ALL, (false, false, false)));
        assert_eq!(reservations.release_unit(&c), Ok(()), "no effect");
        assert_eq!(rights(&c), (false, false, false));
        for who in [&a, &b] {
            let refused = reservations.change(who, register(1)).await;
            assert_eq!(refused, Err(Refusal::Conflict), "also of its holder");
        }
        drop(a);
        assert_eq!((rights(&b), rights(&c)), (ALL, ALL));
        assert_eq!(reservations.reserve_unit(&c), Ok(()));
        reservations.reset();
        assert_eq!(rights(&b), ALL);
        assert_eq!(reservations.reserve_unit(&c), Ok(()));
        assert_eq!(reservations.release_unit(&c), Ok(()));
        must(&b, register(1)).await;
        assert_eq!(reservations.reserve_unit(&c), Err(Conflict));
        assert_eq!(reservations.release_unit(&c), Err(Conflict));
    });
}

/// A new nexus of the same initiator port is another one: it does not inherit an SPC-2 reservation.
#[test]
fn registrations_outlive_a_nexus() {
    run(|| async {
        let reservations = Reservations::load(memory_volume(64, 512)).await;
        let (a, host) = join(&reservations, scsi("a", 1));
        must(&a, register(1)).await;
        let kind = Kind::WriteExclusive;
        must(&a, Action::Reserve { key: 1, kind }).await;
        drop((a, host));
        let (b, _) = join(&reservations, scsi("b", 1));
        assert_eq!(rights(&b), (true, false, true));
        let (again, _) = join(&reservations, scsi("a", 1));
        assert_eq!(rights(&again), ALL);
    });
}

/// What is kept is there for the next server; what is not kept is not.
#[test]
fn persistence_is_as_asked() {
    run(|| async {
        let volume = memory_volume(64, 512);
        let persist = |persist| Action::Register {
            current: Current::Ignored,
            key: 7,
            also: Vec::new(),
            all_ports: false,
            persist: Some(persist),
        };
        for keeps in [true, false, true, false] {
            let reservations = Reservations::load(volume.clone()).await;
            let (a, _) = join(&reservations, scsi("a", 1));
            must(&a, persist(keeps)).await;
            let kind = Kind::WriteExclusive;
            must(&a, Action::Reserve { key: 7, kind }).await;
            drop((a, reservations));
            let again = Reservations::load(volume.clone()).await;
            let (a, _) = join(&again, scsi("a", 1));
            let (b, _) = join(&again, nvme(0xb));
            assert_eq!(again.state().is_persistent(), keeps);
            assert_eq!(again.state().key_of(&a.identity), keeps.then_some(7));
            assert_eq!(b.check(Access::Write).is_err(), keeps);
            assert_eq!(again.state().generation(), 0);
        }
    });
}

/// Changes take turns: the second is judged by what the first made.
#[test]
fn changes_at_the_same_time_take_turns() {
    run(|| async {
        let reservations = Reservations::load(memory_volume(64, 512)).await;
        let (a, _) = join(&reservations, scsi("a", 1));
        let (b, _) = join(&reservations, nvme(0xb));
        must(&a, Action::Persist(true)).await;
        must(&a, register(1)).await;
        must(&b, register(2)).await;
        let reserve = |who: Rc<Participant>, key| {
            reactor::spawn(async move {
                let kind = Kind::WriteExclusive;
                let action = Action::Reserve { key, kind };
                who.reservations().change(&who, action).await
            })
        };
        let (first, second) = (reserve(a.clone(), 1), reserve(b.clone(), 2));
        let done = [first.await, second.await];
        let won = done.iter().filter(|done| done.is_ok()).count();
        assert_eq!(won, 1, "{done:?}, in whichever order they came");
        assert!(done.contains(&Err(Refusal::Conflict)));
        // One that is dropped on its way is carried out whole, and does not block others.
        let dropped = reserve(a.clone(), 1);
        reactor::yield_now().await;
        dropped.abort();
        must(&b, Action::Persist(false)).await;
    });
}

/// What cannot be read keeps everybody out until an operator clears it; the bytes stay till then.
#[test]
fn unreadable_reservations_lock_the_volume() {
    run(|| async {
        let volume = memory_volume(64, 512);
        let damaged = vec![1, 0, 9, 9];
        volume
            .store_reservations(damaged.clone())
            .await
            .expect("stored");
        let reservations = Reservations::load(volume.clone()).await;
        assert!(reservations.is_locked());
        let (a, _) = join(&reservations, scsi("a", 1));
        assert_eq!(rights(&a), (false, false, true));
        let refused = reservations.change(&a, register(1)).await;
        assert_eq!(refused, Err(Refusal::Locked));
        assert_eq!(reservations.reserve_unit(&a), Err(Conflict));
        assert_eq!(volume.load_reservations().await.expect("read"), damaged);
        assert_eq!(reservations.forget().await, Ok(()));
        assert!(!reservations.is_locked());
        assert_eq!(rights(&a), ALL);
        must(&a, register(1)).await;
        assert!(volume.load_reservations().await.expect("read").is_empty());
    });
}
