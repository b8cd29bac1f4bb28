//! REPORT SUPPORTED OPERATION CODES says what the planner does.

use super::super::table::ROWS;
use super::*;

fn ask(options: u8, opcode: u8, action: u16, room: u16) -> [u8; 12] {
    let (action, room) = (action.to_be_bytes(), room.to_be_bytes());
    [
        0xa3, 0x0c, options, opcode, action[0], action[1], 0, 0, room[0], room[1], 0, 0,
    ]
}

#[test]
fn all_commands_are_listed() {
    run(|stage| async move {
        for (options, size) in [(0, 8), (0x80, 20)] {
            let list = stage.a.good(&ask(options, 0, 0, 65_535)).await;
            let len = u32::from_be_bytes(list[..4].try_into().expect("4 bytes"));
            assert_eq!(len as usize, list.len() - 4);
            let descriptors: Vec<_> = list[4..].chunks(size).collect();
            assert_eq!(descriptors.len(), ROWS.len());
            for (row, found) in ROWS.iter().zip(descriptors) {
                assert_eq!(found[0], row.opcode.0);
                assert_eq!(found[3], row.action.unwrap_or_default());
                assert_eq!(found[5] & 1, u8::from(row.action.is_some()));
                assert_eq!(found[5] & 2, options >> 6);
                assert_eq!(usize::from(found[7]), row.cdb_bytes());
                assert!(size == 8 || (found[9] == 10 && found[15] > 0));
            }
        }
    });
}

#[test]
fn one_command_is_told_with_its_usage() {
    run(|stage| async move {
        for row in ROWS {
            let action = u16::from(row.action.unwrap_or_default());
            let (right, wrong) = if row.action.is_some() { (2, 1) } else { (1, 2) };
            for options in [right, 3] {
                let one = stage.a.good(&ask(options, row.opcode.0, action, 255)).await;
                assert_eq!(one[1], 3, "{row:?}");
                assert_eq!(usize::from(one[3]), row.cdb_bytes());
                assert_eq!(one.len(), 4 + row.cdb_bytes());
                assert_eq!(one[4], row.opcode.0);
                // Its usage data is a command that has no reserved bit set.
                let mut cdb = [0; 16];
                cdb[..row.cdb_bytes()].copy_from_slice(&one[4..]);
                assert_eq!(row.reserved_bit(&cdb), None);
            }
            let sense = stage
                .a
                .refused(&ask(wrong, row.opcode.0, action, 255))
                .await;
            assert_eq!(code(sense), INVALID_CDB, "{row:?}");
            // libiscsi takes a pointer to byte 1 for "not implemented".
            let pointer = wire::scsi::sense::KeySpecific::Field(wire::scsi::sense::FieldPointer {
                in_cdb: true,
                byte: 2,
                bit: Some(2),
            });
            assert_eq!(sense.specific, pointer);
        }
        for (options, opcode, action) in [(1, 0xff, 0), (2, 0x48, 3), (3, 0x48, 3), (3, 0x28, 1)] {
            let one = stage.a.good(&ask(options, opcode, action, 255)).await;
            assert_eq!(one[1], 1, "{opcode:#x} {action}");
        }
        assert_eq!(code(stage.a.refused(&ask(4, 0, 0, 255)).await), INVALID_CDB);
        let timeouts = stage.a.good(&ask(0x81, 0x28, 0, 255)).await;
        assert_eq!((timeouts[1], timeouts.len()), (0x83, 4 + 10 + 12));
    });
}
