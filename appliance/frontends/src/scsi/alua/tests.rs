//! Two target ports, each a group: their states, and what they allow.

use crate::scsi::AccessState;
use crate::scsi::tests::{End, Stage, attach, code, pattern, run, rw16};

const CHANGED: (u8, u16) = (0x6, 0x2a06);
const TEST_UNIT_READY: [u8; 6] = [0; 6];
/// Ports of the two hosts.
const NEAR: u16 = 1;
const FAR: u16 = 0x0203;

fn report(format: u8, room: u8) -> [u8; 12] {
    [0xa3, format << 5 | 0x0a, 0, 0, 0, 0, 0, 0, 0, room, 0, 0]
}

fn set(groups: &[(u8, u16)]) -> ([u8; 12], Vec<u8>) {
    let mut list = vec![0; 4];
    for (state, number) in groups {
        let [high, low] = number.to_be_bytes();
        list.extend([*state, 0, high, low]);
    }
    let mut cdb = [0; 12];
    (cdb[0], cdb[1], cdb[9]) = (0xa4, 0x0a, list.len() as u8);
    (cdb, list)
}

/// Host `a` comes by the near port, host `c` by the far one.
async fn two_ports(stage: &Stage) -> End {
    let c = attach(&stage.unit, "c", FAR);
    assert!(c.command(&TEST_UNIT_READY).await.sense.is_some());
    c
}

async fn set_to(end: &End, groups: &[(u8, u16)]) {
    let (cdb, list) = set(groups);
    end.good_out(&cdb, &list).await;
}

#[test]
fn each_port_is_a_group() {
    run(|stage| async move {
        let _c = two_ports(&stage).await;
        let groups = [
            [0x00, 0xcf, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
            [0x00, 0xcf, 2, 3, 0, 0, 0, 1, 0, 0, 2, 3],
        ]
        .concat();
        let short = stage.a.good(&report(0, 255)).await;
        assert_eq!(short, [&[0, 0, 0, 24], &groups[..]].concat());
        let long = stage.a.good(&report(1, 255)).await;
        assert_eq!(long, [&[0, 0, 0, 28, 0x10, 1, 0, 0], &groups[..]].concat());
        assert_eq!(stage.a.good(&report(0, 6)).await, short[..6]);
        for format in 2..8 {
            assert_eq!(
                code(stage.a.refused(&report(format, 255)).await),
                (0x5, 0x2400)
            );
        }
    });
}

#[test]
fn a_state_is_set_and_the_others_hear_of_it() {
    run(|stage| async move {
        let c = two_ports(&stage).await;
        for state in [1, 2, 3, 0] {
            set_to(&stage.a, &[(state, FAR)]).await;
            for other in [&stage.b, &c] {
                assert_eq!(code(other.refused(&TEST_UNIT_READY).await), CHANGED);
            }
            stage.a.good(&TEST_UNIT_READY).await;
            let told = stage.a.good(&report(0, 255)).await;
            assert_eq!((told[4], told[9]), (0, 0), "the near group");
            assert_eq!((told[16], told[21]), (state, 1), "set by command");
        }
        // The same again is no change, nor is an empty list.
        set_to(&stage.a, &[(0, FAR)]).await;
        set_to(&stage.a, &[]).await;
        stage
            .a
            .good(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .await;
        stage.b.good(&TEST_UNIT_READY).await;
        // Two at once are one condition.
        set_to(&stage.a, &[(1, NEAR), (1, FAR)]).await;
        assert_eq!(code(stage.b.refused(&TEST_UNIT_READY).await), CHANGED);
        stage.b.good(&TEST_UNIT_READY).await;
    });
}

#[test]
fn the_target_itself_changes_a_state_and_all_hear_of_it() {
    run(|stage| async move {
        let c = two_ports(&stage).await;
        assert!(stage.unit.set_access_state(FAR, AccessState::TRANSITIONING));
        for end in [&stage.a, &stage.b, &c] {
            assert_eq!(code(end.refused(&TEST_UNIT_READY).await), CHANGED);
        }
        assert_eq!(code(c.refused(&TEST_UNIT_READY).await), (0x2, 0x040a));
        let told = stage.a.good(&report(0, 255)).await;
        assert_eq!((told[16], told[21]), (0xf, 2), "implicit");
        assert!(!stage.unit.set_access_state(77, AccessState::STANDBY));
    });
}

#[test]
fn a_state_says_which_commands_there_are() {
    let always: [&[u8]; 4] = [
        &[0x12, 0, 0, 0, 36, 0],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0],
        &[0x03, 0, 0, 0, 18, 0],
        &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ];
    let standby: [&[u8]; 4] = [
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        &[0x1d, 0x04, 0, 0, 0, 0],
        &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ];
    let active: [&[u8]; 5] = [
        &TEST_UNIT_READY,
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ];
    let states = [
        (AccessState::OPTIMIZED, 3, 0),
        (AccessState::NON_OPTIMIZED, 3, 0),
        (AccessState::STANDBY, 2, 0x040b),
        (AccessState::UNAVAILABLE, 1, 0x040c),
        (AccessState::TRANSITIONING, 1, 0x040a),
        (AccessState::OFFLINE, 1, 0x0412),
    ];
    run(move |stage| async move {
        let c = two_ports(&stage).await;
        for (state, allowed, refusal) in states {
            stage.unit.set_access_state(FAR, state);
            let classes = [&always[..], &standby, &active];
            let _heard = c.command(&TEST_UNIT_READY).await;
            for (class, commands) in classes.into_iter().enumerate() {
                for cdb in commands {
                    let outcome = c.command(cdb).await;
                    let refused = (class >= allowed).then_some((0x2, refusal));
                    assert_eq!(outcome.sense.map(code), refused, "{state:?} {cdb:02x?}");
                }
            }
        }
        // The near port works, and a host at the far one can make it work, too.
        let _heard = stage.a.command(&TEST_UNIT_READY).await;
        stage.a.good(&TEST_UNIT_READY).await;
        set_to(&c, &[(0, FAR)]).await;
        c.good(&TEST_UNIT_READY).await;
    });
}

#[test]
fn a_write_whose_port_fell_back_while_its_data_came_is_not_done() {
    run(|stage| async move {
        let c = two_ports(&stage).await;
        let lun = [0; 8];
        let plan = c.nexus.plan(lun, &rw16(0x8a, 0, 0, 1));
        let plan = plan.expect("the port is active");
        stage.unit.set_access_state(FAR, AccessState::STANDBY);
        let mut data = reactor::buf::alloc(512).await;
        data.as_mut().copy_from_slice(&pattern(1, 512, 1));
        let outcome = c.nexus.execute(plan, Some(data)).await;
        assert_eq!(outcome.sense.map(code), Some((0x2, 0x040b)));
        let _heard = stage.a.command(&TEST_UNIT_READY).await;
        assert!(stage.a.good(&rw16(0x88, 0, 0, 1)).await == [0; 512]);
    });
}

#[test]
fn what_cannot_be_set_changes_nothing() {
    run(|stage| async move {
        let _c = two_ports(&stage).await;
        let before = stage.a.good(&report(0, 255)).await;
        for wrong in [(4, NEAR), (0xe, NEAR), (0xf, NEAR), (0x5, NEAR), (1, 99)] {
            let (cdb, list) = set(&[(2, FAR), wrong]);
            assert_eq!(code(stage.a.refused_out(&cdb, &list).await), (0x5, 0x2600));
        }
        let (mut cdb, list) = set(&[(2, FAR)]);
        for list_bytes in [1, 3, 5, 7] {
            cdb[9] = list_bytes;
            let list = &list[..usize::from(list_bytes)];
            assert_eq!(code(stage.a.refused_out(&cdb, list).await), (0x5, 0x1a00));
        }
        cdb[8..10].copy_from_slice(&1000_u16.to_be_bytes());
        assert_eq!(code(stage.a.refused(&cdb).await), (0x5, 0x1a00));
        assert_eq!(stage.a.good(&report(0, 255)).await, before);
        stage.b.good(&TEST_UNIT_READY).await;
    });
}
