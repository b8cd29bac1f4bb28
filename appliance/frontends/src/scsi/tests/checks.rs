//! What stops a command before its fields are looked at, and who hears of what.

use wire::scsi::OpCode;
use wire::scsi::sense::{FieldPointer, KeySpecific};

use super::super::table::ROWS;
use super::*;

#[test]
fn a_new_nexus_hears_of_it_once() {
    run(|stage| async move {
        let c = attach(&stage.unit, "c", 1);
        c.good(&[0x12, 0, 0, 0, 96, 0]).await;
        c.good(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).await;
        assert_eq!(code(c.refused(&[0; 6]).await), (0x6, 0x2900));
        c.good(&[0; 6]).await;
        stage.a.good(&[0; 6]).await;
    });
}

#[test]
fn request_sense_tells_of_it_instead() {
    run(|stage| async move {
        let c = attach(&stage.unit, "c", 1);
        let sense = Sense::decode(&c.good(&[0x03, 0, 0, 0, 252, 0]).await);
        assert_eq!(sense.map(code), Some((0x6, 0x2900)));
        c.good(&[0; 6]).await;
        for descriptors in [0, 1] {
            let bytes = c.good(&[0x03, descriptors, 0, 0, 252, 0]).await;
            assert_eq!(bytes[0], if descriptors == 0 { 0x70 } else { 0x72 });
            assert_eq!(Sense::decode(&bytes).map(code), Some((0, 0)));
        }
        assert_eq!(c.good(&[0x03, 0, 0, 0, 4, 0]).await.len(), 4);
    });
}

#[test]
fn other_units_say_that_they_are_not_there() {
    run(|stage| async move {
        for lun in [
            [0, 1, 0, 0, 0, 0, 0, 0],
            [0xff; 8],
            [0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            let send = |cdb: &'static [u8]| stage.a.send_to(lun, cdb, &[]);
            let inquiry = send(&[0x12, 0, 0, 0, 96, 0]).await;
            assert_eq!(inquiry.data.expect("data")[0], 0x7f);
            let luns = send(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).await;
            assert_eq!(luns.data.expect("data")[3], 8);
            let sense = send(&[0x03, 0, 0, 0, 18, 0]).await.data.expect("data");
            assert_eq!(Sense::decode(&sense).map(code), Some((ILLEGAL, 0x2500)));
            for cdb in [&[0; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0xff; 16]] {
                let outcome = stage.a.send_to(lun, cdb, &[]).await;
                assert_eq!(code(sense_of(&outcome)), (ILLEGAL, 0x2500));
            }
        }
        let flat = [0x40, 0, 0, 0, 0, 0, 0, 0];
        assert!(stage.a.send_to(flat, &[0; 6], &[]).await.is_good());
    });
}

#[test]
fn reserved_bits_are_pointed_to() {
    run(|stage| async move {
        for row in ROWS {
            // Byte by byte: each bit that means nothing is refused, whatever the rest is.
            for byte in 1..row.cdb_bytes() {
                let mut allowed = row.usage[byte - 1];
                if byte == 1 && row.action.is_some() {
                    allowed |= 0x1f;
                }
                for bit in (0..8).filter(|bit| allowed & 1 << bit == 0) {
                    let mut cdb = [0; 16];
                    (cdb[0], cdb[1]) = (row.opcode.0, row.action.unwrap_or_default());
                    cdb[byte] |= 1 << bit;
                    let sense = stage.a.refused(&cdb).await;
                    assert_eq!(code(sense), INVALID_CDB, "{cdb:02x?}");
                    let field = KeySpecific::Field(FieldPointer {
                        in_cdb: true,
                        byte: byte as u16,
                        bit: Some(bit),
                    });
                    assert_eq!(sense.specific, field, "{cdb:02x?}");
                }
            }
        }
    });
}

#[test]
fn unknown_commands_are_refused_by_name() {
    run(|stage| async move {
        let known = |opcode: u8| ROWS.iter().any(|row| row.opcode.0 == opcode);
        for opcode in (0..=u8::MAX).filter(|opcode| !known(*opcode)) {
            let sense = stage.a.refused(&[opcode; 16]).await;
            assert_eq!(code(sense), (ILLEGAL, 0x2000), "{opcode:#x}");
        }
        for opcode in [OpCode::SANITIZE, OpCode::MAINTENANCE_IN] {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (opcode.0, 0x1e);
            assert_eq!(code(stage.a.refused(&cdb).await), INVALID_CDB);
        }
        for cdb in [&[][..], &[0x28; 17]] {
            assert_eq!(code(stage.a.refused(cdb).await), (ILLEGAL, 0x2000));
        }
    });
}

/// Bytes from strangers: each command ends in a plan or in an outcome, never in a panic, and what
/// has a plan has a row that allows its bits.
#[test]
fn no_command_breaks_the_planner() {
    run(|stage| async move {
        let mut random = 1_u64;
        for _ in 0..200_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let mut cdb =
                (u128::from(random) << 64 | u128::from(random.rotate_left(29))).to_be_bytes();
            cdb[0] = ROWS[random as usize % ROWS.len()].opcode.0;
            if random & 1 == 0 {
                cdb[2..8].fill(0);
                cdb[15] = 0;
            }
            let _ = stage.a.nexus.plan(LUN, &cdb);
        }
    });
}

#[test]
fn a_stopped_unit_is_not_ready_for_its_medium() {
    run(|stage| async move {
        stage.a.good(&[0x1b, 0, 0, 0, 0, 0]).await;
        for cdb in [&[0; 6][..], &rw16(0x88, 0, 0, 1), &rw16(0x91, 0, 0, 0)] {
            assert_eq!(
                code(stage.b.refused(cdb).await),
                (0x2, 0x0402),
                "{cdb:02x?}"
            );
        }
        let sense = stage.a.good(&[0x03, 0, 0, 0, 18, 0]).await;
        assert_eq!(Sense::decode(&sense).map(code), Some((0x2, 0x0402)));
        stage.a.good(&[0x12, 0, 0, 0, 96, 0]).await;
        stage.a.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        stage.b.good(&[0x1b, 0, 0, 0, 1, 0]).await;
        stage.a.good(&[0; 6]).await;
        for byte in [0x12, 0x02, 0x20] {
            let sense = stage.a.refused(&[0x1b, 0, 0, 0, byte, 0]).await;
            assert_eq!(code(sense), INVALID_CDB, "{byte:#x}");
        }
    });
}

#[test]
fn a_command_is_checked_again_when_its_data_is_there() {
    run(|stage| async move {
        let plan = stage
            .a
            .nexus
            .plan(LUN, &rw16(0x8a, 0, 0, 1))
            .expect("a plan");
        stage.b.good(&[0x1b, 0, 0, 0, 0, 0]).await;
        let mut buf = reactor::buf::alloc(512).await;
        buf.as_mut().fill(1);
        let outcome = stage.a.nexus.execute(plan, Some(buf)).await;
        assert_eq!(code(sense_of(&outcome)), (0x2, 0x0402));
        stage.b.good(&[0x1b, 0, 0, 0, 1, 0]).await;
        assert_eq!(stage.a.good(&rw16(0x88, 0, 0, 1)).await, [0; 512]);
    });
}

#[test]
fn another_nexus_reservation_stops_commands() {
    run(|stage| async move {
        stage.a.good(&[0x16, 0, 0, 0, 0, 0]).await;
        let stopped = [
            &[0; 6][..],
            &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x1a, 0, 0x3f, 0, 4, 0],
            &rw16(0x88, 0, 0, 1),
            &rw16(0x91, 0, 0, 0),
            &[0x1b, 0, 0, 0, 0, 0],
            &[0x1e, 0, 0, 0, 1, 0],
        ];
        for cdb in stopped {
            let outcome = stage.b.command(cdb).await;
            assert_eq!(outcome.status, Status::RESERVATION_CONFLICT, "{cdb:02x?}");
            assert!(outcome.sense.is_none());
        }
        stage.b.good(&[0x12, 0, 0, 0, 96, 0]).await;
        stage.b.good(&[0x1e, 0, 0, 0, 0, 0]).await;
        stage.a.good(&[0; 6]).await;
        stage.a.good(&[0x17, 0, 0, 0, 0, 0]).await;
        stage.b.good(&[0; 6]).await;
    });
}

#[test]
fn a_removed_unit_closes_its_nexuses_and_takes_nothing() {
    run(|stage| async move {
        // All of it: a nexus that nothing uses would end here.
        let stage = stage;
        let plan = stage
            .a
            .nexus
            .plan(LUN, &rw16(0x88, 0, 0, 1))
            .expect("a plan");
        stage.unit.remove().await;
        assert!(stage.a.port.is_closed.get() && stage.b.port.is_closed.get());
        let outcome = stage.a.nexus.execute(plan, None).await;
        assert_eq!(code(sense_of(&outcome)), (0x2, 0x0400));
    });
}

#[test]
fn capacity_changes_are_told() {
    run(|stage| async move {
        stage.unit.capacity_changed();
        for end in [&stage.a, &stage.b] {
            assert_eq!(code(end.refused(&[0; 6]).await), (0x6, 0x2a09));
            end.good(&[0; 6]).await;
        }
    });
}

/// Between two of its requests a long command asks whether it is still wanted.
#[test]
fn an_aborted_command_ends_with_the_request_it_is_at() {
    run(|stage| async move {
        let same = rw16(0x93, 0, 0, 10_000);
        let mut buf = reactor::buf::alloc(512).await;
        buf.as_mut().fill(7);
        let plan = stage.a.nexus.plan(LUN, &same).expect("a plan");
        let asked = Cell::new(0);
        let is_aborted = || {
            asked.set(asked.get() + 1);
            asked.get() > 3
        };
        let execute = stage.a.nexus.execute_until(plan, Some(buf), &is_aborted);
        execute.await;
        let written = stage.a.good(&rw16(0x88, 0, 0, 1000)).await;
        let count = written.chunks(512).filter(|block| block[0] == 7).count();
        assert_eq!(count, 3 * 256);
        let verify = stage.a.nexus.plan(LUN, &rw16(0x8f, 0, 0, 50_000));
        asked.set(0);
        let metrics = |stage: &Stage| {
            let metrics = stage.unit.volume().metrics();
            metrics.ops[volume::OpKind::Verify.index()].count
        };
        let before = metrics(&stage);
        let execute = stage
            .a
            .nexus
            .execute_until(verify.expect("a plan"), None, &is_aborted);
        execute.await;
        assert_eq!(metrics(&stage) - before, 3);
    });
}
