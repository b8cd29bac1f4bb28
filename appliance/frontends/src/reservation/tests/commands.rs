//! What each command does, refuses and tells. Sections are those of SPC-4.

use super::*;

fn told(change: &Change) -> Vec<(Identity, Notice)> {
    change.notices.clone()
}

/// 5.13.7 and table 49: what is there, the key given, the new key, what comes of it.
#[test]
fn registering() {
    use Current::{Ignored, Is, NoneOrNew, Registered};
    let [a, ..] = hosts();
    let conflict = Err(Refusal::Conflict);
    // (key before, what the command expects, new key, key after, generation counts)
    let rows = [
        (0, Is(0), 7, Ok((7, true))),
        (0, Is(0), 0, Ok((0, false))),
        (0, Is(9), 7, conflict),
        (5, Is(5), 7, Ok((7, true))),
        (5, Is(5), 0, Ok((0, true))),
        (5, Is(0), 7, conflict),
        (5, Is(6), 0, conflict),
        (0, Ignored, 7, Ok((7, true))),
        (0, Ignored, 0, Ok((0, false))),
        (5, Ignored, 7, Ok((7, true))),
        (5, Ignored, 0, Ok((0, true))),
        (0, Registered, 0, conflict),
        (5, Registered, 0, Ok((0, true))),
        (0, NoneOrNew, 7, Ok((7, true))),
        (5, NoneOrNew, 5, Ok((5, true))),
        (5, NoneOrNew, 7, conflict),
    ];
    for (before, current, new_key, expected) in rows {
        let state = match before {
            0 => State::default(),
            key => must(&State::default(), &a, &register(key)).state,
        };
        let action = Action::Register {
            current,
            key: new_key,
            also: Vec::new(),
            all_ports: false,
            persist: None,
        };
        let found = apply(&state, &a, &action).map(|change| {
            assert!(change.notices.is_empty() && change.aborted.is_empty());
            let counted = change.state.generation() == state.generation() + 1;
            (change.state.key_of(&a).unwrap_or(0), counted)
        });
        assert_eq!(found, expected, "{before} {current:?} {new_key}");
    }
}

/// 5.13.7: SPEC_I_PT registers others with a sender that is new, all or nobody.
#[test]
fn registering_others_too() {
    let [a, _, c, _] = hosts();
    let with = |also: Vec<Identity>, key| Action::Register {
        current: Current::Is(0),
        key,
        also,
        all_ports: false,
        persist: None,
    };
    let state = must(&State::default(), &a, &with(vec![c.clone()], 7)).state;
    assert_eq!((state.key_of(&a), state.key_of(&c)), (Some(7), Some(7)));
    assert_eq!(state.generation(), 1, "one command");
    let empty = State::default();
    let refused = apply(&empty, &a, &with(vec![c.clone()], 0)).err();
    assert_eq!(refused, Some(Refusal::OthersNotAllowed));
    let others = must(&empty, &c, &register(5)).state;
    let refused = apply(&others, &a, &with(vec![c.clone()], 7)).err();
    assert_eq!(
        refused,
        Some(Refusal::InvalidIdentity),
        "registered already"
    );
    let mine = must(&empty, &a, &register(5)).state;
    let again = Action::Register {
        current: Current::Is(5),
        key: 7,
        also: vec![c],
        all_ports: false,
        persist: None,
    };
    assert_eq!(
        apply(&mine, &a, &again).err(),
        Some(Refusal::OthersNotAllowed)
    );
}

/// 5.13.7: ALL_TG_PT registers, changes and unregisters at each port of the target.
#[test]
fn registering_at_all_ports() {
    let at_all = |key| Action::Register {
        current: Current::Ignored,
        key,
        also: Vec::new(),
        all_ports: true,
        persist: None,
    };
    let (here, there) = (scsi("a", 1), scsi("a", 2));
    let state = must(&State::default(), &here, &at_all(7)).state;
    assert_eq!(
        (state.key_of(&here), state.key_of(&there)),
        (Some(7), Some(7))
    );
    let state = must(&state, &there, &at_all(8)).state;
    assert_eq!(
        (state.key_of(&here), state.key_of(&there)),
        (Some(8), Some(8))
    );
    let one = must(&state, &there, &register(0)).state;
    assert_eq!((one.key_of(&here), one.key_of(&there)), (Some(8), None));
    let none = must(&state, &there, &at_all(0)).state;
    assert!(!none.is_used());
    let host = must(&State::default(), &nvme(1), &at_all(7)).state;
    assert_eq!(host.registrants().len(), 1);
}

/// More registrants than there is room for change nothing.
#[test]
fn the_table_is_bounded() {
    let mut state = State::default();
    for n in 0..REGISTRANTS_MAX {
        state = must(&state, &scsi(&n.to_string(), 1), &register(1)).state;
    }
    assert_eq!(
        apply(&state, &nvme(1), &register(1)).err(),
        Some(Refusal::Full)
    );
    let known = scsi("0", 1);
    let changed = must(&state, &known, &register(2)).state;
    assert_eq!(
        changed.key_of(&known),
        Some(2),
        "those that are in may go on"
    );
    let freed = must(&state, &known, &register(0)).state;
    assert!(apply(&freed, &nvme(1), &register(1)).is_ok());
}

/// 5.13.9: a registrant reserves what is free, or has it already with the same type.
#[test]
fn reserving() {
    let [a, b, c, _] = hosts();
    for kind in Kind::ALL {
        let state = registered(2);
        let reserve = |key, kind| Action::Reserve { key, kind };
        let refused = |who, action| apply(&state, who, &action).err();
        assert_eq!(refused(&a, reserve(key(1), kind)), Some(Refusal::Conflict));
        assert_eq!(refused(&c, reserve(key(2), kind)), Some(Refusal::Conflict));
        let held = must(&state, &a, &reserve(key(0), kind)).state;
        assert!(held.is_holder(&a));
        assert_eq!(
            held.generation(),
            state.generation(),
            "RESERVE does not count"
        );
        assert_eq!(must(&held, &a, &reserve(key(0), kind)).state, held);
        let shared = kind.is_all_registrants();
        assert_eq!(
            apply(&held, &b, &reserve(key(1), kind)).is_ok(),
            shared,
            "{kind:?}"
        );
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            for (n, who) in [&a, &b].into_iter().enumerate() {
                let refused = apply(&held, who, &reserve(key(n), other)).err();
                assert_eq!(refused, Some(Refusal::Conflict), "{kind:?} then {other:?}");
            }
        }
    }
}

/// 5.13.11.1.1: only a holder releases, with the right type; who shared the rights is told.
#[test]
fn releasing() {
    let [a, b, c, _] = hosts();
    let release = |key, kind| Action::Release {
        key,
        kind: Some(kind),
    };
    for kind in Kind::ALL {
        let state = reserved(2, kind);
        let change = must(&state, &a, &release(key(0), kind));
        assert_eq!(change.state.held(), None);
        assert_eq!(change.state.registrants().len(), 2, "registrations stay");
        assert_eq!(change.state.generation(), state.generation());
        let expected = match kind.is_of_one() {
            true => vec![],
            false => vec![(b.clone(), Notice::Released)],
        };
        assert_eq!(told(&change), expected, "{kind:?}");

        let by_other = must(&state, &b, &release(key(1), kind)).state;
        let shared = kind.is_all_registrants();
        assert_eq!(by_other.held().is_none(), shared, "{kind:?}: {by_other:?}");
        let refused = |who, action| apply(&state, who, &action).err();
        assert_eq!(refused(&a, release(key(1), kind)), Some(Refusal::Conflict));
        assert_eq!(refused(&c, release(key(2), kind)), Some(Refusal::Conflict));
        let other = Kind::ALL.into_iter().find(|other| *other != kind);
        for wrong in [other, None] {
            let action = Action::Release {
                key: key(0),
                kind: wrong,
            };
            assert_eq!(refused(&a, action), Some(Refusal::WrongRelease), "{kind:?}");
        }
    }
    let nothing = registered(1);
    let released = must(&nothing, &a, &release(key(0), Kind::WriteExclusive));
    assert_eq!(released.state, nothing);
}

/// 5.13.11.1.2: a holder that unregisters releases, unless others hold it too.
#[test]
fn unregistering_the_holder() {
    let [a, b, ..] = hosts();
    for kind in Kind::ALL {
        let change = must(&reserved(2, kind), &a, &register(0));
        let stays = kind.is_all_registrants();
        assert_eq!(change.state.held().is_some(), stays, "{kind:?}");
        let tells = !kind.is_of_one() && !stays;
        let expected = match tells {
            true => vec![(b.clone(), Notice::Released)],
            false => vec![],
        };
        assert_eq!(told(&change), expected, "{kind:?}");
        let last = must(&change.state, &b, &register(0)).state;
        assert_eq!(last.held(), None, "{kind:?}: nobody is left");
    }
}

/// 5.13.11.2.7: everything goes, the others are told.
#[test]
fn clearing() {
    let [a, b, c, d] = hosts();
    for kind in Kind::ALL {
        let state = reserved(3, kind);
        for (n, who) in [&a, &b].into_iter().enumerate() {
            let change = must(&state, who, &Action::Clear { key: key(n) });
            assert!(!change.state.is_used() && change.state.held().is_none());
            assert_eq!(change.state.generation(), state.generation() + 1);
            let others = [&a, &b, &c].into_iter().filter(|other| *other != who);
            let expected: Vec<_> = others
                .map(|other| (other.clone(), Notice::ReservationsPreempted))
                .collect();
            assert_eq!(told(&change), expected);
        }
        let clear = Action::Clear { key: key(0) };
        assert_eq!(apply(&state, &d, &clear).err(), Some(Refusal::Conflict));
        assert_eq!(apply(&state, &b, &clear).err(), Some(Refusal::Conflict));
    }
}

fn preempt(key: u64, victim: u64, kind: Kind) -> Action {
    Action::Preempt {
        key,
        victim,
        kind: Some(kind),
        abort: true,
    }
}

/// 5.13.11.2.4: the key of the holder takes the reservation and removes all that have this key.
#[test]
fn preempting_the_holder() {
    let [a, b, c, d] = hosts();
    for old in Kind::ALL
        .into_iter()
        .filter(|old| !old.is_all_registrants())
    {
        for new in Kind::ALL {
            // c has the holder's key too.
            let mut state = reserved(4, old);
            state = must(&state, &c, &register(key(0))).state;
            let change = must(&state, &b, &preempt(key(1), key(0), new));
            let after = &change.state;
            assert_eq!(after.held().map(|held| held.kind), Some(new));
            assert!(after.is_holder(&b));
            assert_eq!(after.is_holder(&d), new.is_all_registrants());
            let left: Vec<_> = after
                .registrants()
                .iter()
                .map(|one| &one.identity)
                .collect();
            assert_eq!(left, [&b, &d]);
            assert_eq!(change.aborted, [a.clone(), c.clone()]);
            let mut expected = vec![
                (a.clone(), Notice::Preempted),
                (c.clone(), Notice::Preempted),
            ];
            if old != new {
                expected.push((d.clone(), Notice::Released));
            }
            assert_eq!(told(&change), expected, "{old:?} to {new:?}");
            assert_eq!(after.generation(), state.generation() + 1);
        }
    }
}

/// The holder may preempt itself: it stays registered, with another type.
#[test]
fn preempting_oneself() {
    let [a, b, ..] = hosts();
    let state = reserved(2, Kind::WriteExclusive);
    let change = must(&state, &a, &preempt(key(0), key(0), Kind::ExclusiveAccess));
    assert!(change.state.is_holder(&a));
    assert_eq!(change.state.registrants().len(), 2);
    assert_eq!(told(&change), [(b, Notice::Released)]);
    assert!(change.aborted.is_empty());
}

/// 5.13.11.2.5: another key removes registrants only; one that nobody has conflicts.
#[test]
fn preempting_registrants() {
    let [a, b, c, _] = hosts();
    for kind in Kind::ALL {
        let state = reserved(3, kind);
        let change = must(&state, &b, &preempt(key(1), key(2), Kind::WriteExclusive));
        assert_eq!(change.state.held(), state.held(), "{kind:?}");
        assert!(!change.state.is_registrant(&c));
        assert_eq!(told(&change), [(c.clone(), Notice::Preempted)]);
        assert_eq!(change.aborted, std::slice::from_ref(&c));
        let nobody = preempt(key(1), 0xdead, kind);
        assert_eq!(apply(&state, &b, &nobody).err(), Some(Refusal::Conflict));
        // The type matters only when the reservation is taken.
        let no_kind = Action::Preempt {
            key: key(1),
            victim: key(2),
            kind: None,
            abort: false,
        };
        assert!(apply(&state, &b, &no_kind).is_ok_and(|change| change.aborted.is_empty()));
    }
    let no_kind = Action::Preempt {
        key: key(1),
        victim: key(0),
        kind: None,
        abort: false,
    };
    let held = reserved(2, Kind::WriteExclusive);
    assert_eq!(apply(&held, &b, &no_kind).err(), Some(Refusal::InvalidKind));
    let unreserved = registered(3);
    let own = must(
        &unreserved,
        &a,
        &preempt(key(0), key(0), Kind::WriteExclusive),
    );
    assert!(!own.state.is_registrant(&a) && told(&own).is_empty());
    assert_eq!(
        own.state.held(),
        None,
        "preempting does not reserve what is free"
    );
}

/// 5.13.11.2.6: key 0 means everybody else, where every registrant is a holder; else it is wrong.
#[test]
fn preempting_everybody() {
    let [a, b, c, _] = hosts();
    for kind in Kind::ALL {
        let state = reserved(3, kind);
        let found = apply(&state, &b, &preempt(key(1), 0, Kind::ExclusiveAccess));
        if !kind.is_all_registrants() {
            assert_eq!(found.err(), Some(Refusal::InvalidKey), "{kind:?}");
            continue;
        }
        let change = found.expect("there are holders to preempt");
        assert_eq!(change.state.registrants().len(), 1);
        assert!(change.state.is_holder(&b));
        assert_eq!(change.aborted, [a.clone(), c.clone()]);
    }
    let free = apply(
        &registered(2),
        &b,
        &preempt(key(1), 0, Kind::WriteExclusive),
    );
    assert_eq!(free.err(), Some(Refusal::InvalidKey));
    let stranger = preempt(key(2), key(0), Kind::WriteExclusive);
    let refused = apply(&registered(2), &c, &stranger).err();
    assert_eq!(refused, Some(Refusal::Conflict));
}

/// 5.13.8: the holder gives its reservation to another.
#[test]
fn moving() {
    let [a, b, c, d] = hosts();
    let to = |who: &Identity, new_key, unregister| Action::Move {
        key: key(0),
        to: who.clone(),
        new_key,
        unregister,
        persist: None,
    };
    for kind in Kind::ALL {
        let state = reserved(2, kind);
        if kind.is_all_registrants() {
            let refused = apply(&state, &a, &to(&d, 9, false)).err();
            assert_eq!(refused, Some(Refusal::Conflict), "{kind:?}");
            continue;
        }
        for unregister in [false, true] {
            for target in [&b, &d] {
                let change = must(&state, &a, &to(target, 9, unregister));
                assert!(change.state.is_holder(target));
                assert_eq!(change.state.key_of(target), Some(9));
                assert_eq!(change.state.is_registrant(&a), !unregister);
                assert_eq!(change.state.held().map(|held| held.kind), Some(kind));
                assert!(told(&change).is_empty());
                assert_eq!(change.state.generation(), state.generation() + 1);
            }
        }
        let refused = |who, action: Action| apply(&state, who, &action).err();
        assert_eq!(
            refused(&a, to(&a, 9, false)),
            Some(Refusal::InvalidIdentity)
        );
        assert_eq!(refused(&a, to(&d, 0, false)), Some(Refusal::InvalidKey));
        assert_eq!(refused(&c, to(&d, 9, false)), Some(Refusal::Conflict));
        let not_holder = Action::Move {
            key: key(1),
            to: d.clone(),
            new_key: 9,
            unregister: false,
            persist: None,
        };
        assert_eq!(refused(&b, not_holder), Some(Refusal::Conflict));
    }
    let free = apply(&registered(1), &a, &to(&d, 9, false)).err();
    assert_eq!(free, Some(Refusal::NothingToMove));
}

/// The most recent command that says whether to persist decides, for all.
#[test]
fn persisting() {
    let [a, b, ..] = hosts();
    let saying = |persist| Action::Register {
        current: Current::Ignored,
        key: 1,
        also: Vec::new(),
        all_ports: false,
        persist,
    };
    let mut state = State::default();
    for (who, said, expected) in [
        (&a, Some(true), true),
        (&b, None, true),
        (&b, Some(false), false),
        (&a, None, false),
    ] {
        state = must(&state, who, &saying(said)).state;
        assert_eq!(state.is_persistent(), expected);
    }
    assert!(
        must(&state, &a, &Action::Persist(true))
            .state
            .is_persistent()
    );
}
