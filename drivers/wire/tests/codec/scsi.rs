//! Command descriptor blocks, sense data and parameter data: bytes laid out by hand from SPC-4 and
//! SBC-3, what they mean, and what is refused.

use wire::scsi::cdb::{
    Blocks, ByteCheck, CopyResults, Diagnostic, Inquiry, ModeSelect, ModeSense, PageControl, Power,
    ReportCommands, Reporting, Same, Sanitize, SanitizeAction, VerifyRange, WriteVerify, block,
    control, pad,
};
use wire::scsi::data::capacity::{Capacity, write_luns};
use wire::scsi::data::inquiry::{
    Association, BlockLimits, CodeSet, Designator, DesignatorType, PRESENT, STANDARD_BYTES,
    Standard,
};
use wire::scsi::data::mode::{BlockDescriptor, ModeHeader, ModePage, split_page};
use wire::scsi::data::provisioning::{StatusRange, UnmapRange, unmap_ranges, write_unmap};
use wire::scsi::opcode::cdb_bytes;
use wire::scsi::sense::{DESCRIPTOR_BYTES_MAX, FieldPointer, KeySpecific};
use wire::scsi::{Cdb, Command, Sense, SenseCode, SenseKey, Writer};

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = [0xee; 512];
    let mut writer = Writer::new(&mut out);
    write(&mut writer);
    let len = writer.written();
    out[..len].to_vec()
}

const LONG: u64 = 0x0102_0304_0506_0708;

fn blocks(lba: u64, block_count: u32, fua: bool) -> Blocks {
    Blocks {
        lba,
        block_count,
        fua,
    }
}

/// One row: bytes, their decoder, what they mean.
type CdbRow = (&'static [u8], fn(&Cdb) -> Command, Command);

fn check(rows: &[CdbRow]) {
    for (bytes, decode, expected) in rows {
        let cdb = pad(bytes).expect("1 to 16 bytes");
        assert_eq!(decode(&cdb), *expected, "{bytes:02x?}");
        assert_eq!(cdb_bytes(bytes[0]), Some(bytes.len()), "{bytes:02x?}");
    }
}

#[test]
fn transfers_of_every_length() {
    let ten = blocks(0x0102_0304, 0x0506, true);
    let twelve = blocks(0x0102_0304, 0x0506_0708, true);
    let sixteen = blocks(LONG, 0x090a_0b0c, true);
    check(&[
        (
            &[0x08, 0xff, 0x02, 0x03, 0x04, 0],
            block::read6,
            Command::Read(blocks(0x1f_0203, 4, false)),
        ),
        (
            &[0x0a, 0x01, 0x02, 0x03, 0x00, 0],
            block::write6,
            Command::Write(blocks(0x01_0203, 256, false)),
        ),
        (
            &[0x28, 0x18, 1, 2, 3, 4, 0x1f, 5, 6, 0],
            block::read10,
            Command::Read(ten),
        ),
        (
            &[0x2a, 0x08, 1, 2, 3, 4, 0, 5, 6, 0],
            block::write10,
            Command::Write(ten),
        ),
        (
            &[0xa8, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            block::read12,
            Command::Read(twelve),
        ),
        (
            &[0xaa, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            block::write12,
            Command::Write(twelve),
        ),
        (
            &[0x88, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x1f, 0],
            block::read16,
            Command::Read(sixteen),
        ),
        (
            &[0x8a, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::write16,
            Command::Write(sixteen),
        ),
        (
            &[0x8b, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::orwrite16,
            Command::OrWrite(sixteen),
        ),
        (
            &[0x9c, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::write_atomic16,
            Command::WriteAtomic {
                blocks: blocks(LONG, 0x0b0c, true),
                boundary_blocks: 0x090a,
            },
        ),
        (
            &[0x89, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0xfe, 0, 0],
            block::compare_and_write,
            Command::CompareAndWrite(blocks(LONG, 0xfe, true)),
        ),
    ]);
}

#[test]
fn checks_and_caches() {
    let ten = blocks(0x0102_0304, 0x0506, false);
    let twelve = blocks(0x0102_0304, 0x0506_0708, false);
    let sixteen = blocks(LONG, 0x090a_0b0c, false);
    let verify = |blocks, check| Command::Verify(VerifyRange { blocks, check });
    let write_verify = |blocks, check| Command::WriteVerify(WriteVerify { blocks, check });
    check(&[
        (
            &[0x2f, 0x00, 1, 2, 3, 4, 0, 5, 6, 0],
            block::verify10,
            verify(ten, ByteCheck::Medium),
        ),
        (
            &[0xaf, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            block::verify12,
            verify(twelve, ByteCheck::Compare),
        ),
        (
            &[0x8f, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::verify16,
            verify(sixteen, ByteCheck::CompareOne),
        ),
        (
            &[0x2e, 0x12, 1, 2, 3, 4, 0, 5, 6, 0],
            block::write_verify10,
            write_verify(ten, ByteCheck::Compare),
        ),
        (
            &[0xae, 0x04, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            block::write_verify12,
            write_verify(twelve, ByteCheck::Reserved),
        ),
        (
            &[0x8e, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::write_verify16,
            write_verify(sixteen, ByteCheck::Medium),
        ),
        (
            &[0x34, 0x02, 1, 2, 3, 4, 0, 5, 6, 0],
            block::pre_fetch10,
            Command::PreFetch {
                blocks: ten,
                immediate: true,
            },
        ),
        (
            &[0x90, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::pre_fetch16,
            Command::PreFetch {
                blocks: sixteen,
                immediate: false,
            },
        ),
        (
            &[0x35, 0x00, 1, 2, 3, 4, 0, 5, 6, 0],
            block::synchronize10,
            Command::SynchronizeCache {
                blocks: ten,
                immediate: false,
            },
        ),
        (
            &[0x91, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::synchronize16,
            Command::SynchronizeCache {
                blocks: sixteen,
                immediate: true,
            },
        ),
    ]);
}

#[test]
fn provisioning_and_capacity() {
    let same = |blocks, flags: u8| {
        Command::WriteSame(Same {
            blocks,
            unmap: flags & 0x08 != 0,
            anchor: flags & 0x10 != 0,
            no_data: flags & 0x01 != 0,
        })
    };
    check(&[
        (
            &[0x42, 0x01, 0, 0, 0, 0, 0x1f, 0x01, 0x18, 0],
            block::unmap,
            Command::Unmap {
                anchor: true,
                list_bytes: 0x118,
            },
        ),
        (
            &[0x41, 0x08, 1, 2, 3, 4, 0, 5, 6, 0],
            block::write_same10,
            same(blocks(0x0102_0304, 0x0506, false), 0x08),
        ),
        (
            &[0x93, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::write_same16,
            same(blocks(LONG, 0x090a_0b0c, false), 0x11),
        ),
        (
            &[0x9e, 0x12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0],
            block::lba_status,
            Command::LbaStatus {
                lba: LONG,
                allocation_bytes: 0x090a_0b0c,
            },
        ),
        (
            &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
            block::read_capacity16,
            Command::ReadCapacity16 {
                allocation_bytes: 32,
            },
        ),
        (
            &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            block::read_capacity10,
            Command::ReadCapacity10,
        ),
        (
            &[0x37, 0, 0x15, 0, 0, 0, 0, 1, 2, 0],
            block::read_defect_data10,
            Command::ReadDefectData {
                long: false,
                primary: true,
                grown: false,
                format: 5,
                allocation_bytes: 0x0102,
            },
        ),
        (
            &[0xb7, 0x0c, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            block::read_defect_data12,
            Command::ReadDefectData {
                long: true,
                primary: false,
                grown: true,
                format: 4,
                allocation_bytes: 0x0102_0304,
            },
        ),
    ]);
}

#[test]
fn commands_on_the_unit() {
    check(&[
        (
            &[0x00, 0, 0, 0, 0, 0],
            control::test_unit_ready,
            Command::TestUnitReady,
        ),
        (
            &[0x03, 1, 0, 0, 252, 0],
            control::request_sense,
            Command::RequestSense {
                descriptors: true,
                allocation_bytes: 252,
            },
        ),
        (
            &[0x12, 1, 0x83, 1, 2, 0],
            control::inquiry,
            Command::Inquiry(Inquiry {
                vital: true,
                page: 0x83,
                allocation_bytes: 0x0102,
            }),
        ),
        (
            &[0x1a, 0x08, 0x4a, 0xff, 7, 0],
            control::mode_sense6,
            Command::ModeSense(ModeSense {
                long: false,
                no_block_descriptor: true,
                long_lba: false,
                control: PageControl::Changeable,
                page: 0x0a,
                subpage: 0xff,
                allocation_bytes: 7,
            }),
        ),
        (
            &[0x5a, 0x10, 0xff, 0, 0, 0, 0, 1, 2, 0],
            control::mode_sense10,
            Command::ModeSense(ModeSense {
                long: true,
                no_block_descriptor: false,
                long_lba: true,
                control: PageControl::Saved,
                page: 0x3f,
                subpage: 0,
                allocation_bytes: 0x0102,
            }),
        ),
        (
            &[0x15, 0x10, 0, 0, 24, 0],
            control::mode_select6,
            Command::ModeSelect(ModeSelect {
                long: false,
                page_format: true,
                save: false,
                list_bytes: 24,
            }),
        ),
        (
            &[0x55, 0x01, 0, 0, 0, 0, 0, 1, 2, 0],
            control::mode_select10,
            Command::ModeSelect(ModeSelect {
                long: true,
                page_format: false,
                save: true,
                list_bytes: 0x0102,
            }),
        ),
        (
            &[0x1b, 0x01, 0, 0x05, 0x37, 0],
            control::start_stop,
            Command::Power(Power {
                immediate: true,
                condition: 3,
                modifier: 5,
                no_flush: true,
                load_eject: true,
                start: true,
            }),
        ),
        (
            &[0x1e, 0, 0, 0, 1, 0],
            control::prevent_allow,
            Command::PreventAllow { prevent: true },
        ),
        (
            &[0x1d, 0x34, 0, 1, 2, 0],
            control::send_diagnostic,
            Command::SendDiagnostic(Diagnostic {
                code: 1,
                page_format: true,
                default_test: true,
                list_bytes: 0x0102,
            }),
        ),
        (
            &[0x1c, 0x01, 0x80, 1, 2, 0],
            control::receive_diagnostic,
            Command::ReceiveDiagnostic {
                page_valid: true,
                page: 0x80,
                allocation_bytes: 0x0102,
            },
        ),
        (
            &[0xa0, 0, 2, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            control::report_luns,
            Command::ReportLuns {
                select: 2,
                allocation_bytes: 0x0102_0304,
            },
        ),
    ]);
}

#[test]
fn maintenance_and_copies() {
    check(&[
        (
            &[0xa3, 0x0c, 0x82, 0x48, 0x01, 0x02, 1, 2, 3, 4, 0, 0],
            control::report_commands,
            Command::ReportCommands(ReportCommands {
                timeouts: true,
                reporting: Reporting::ServiceAction,
                opcode: 0x48,
                service_action: 0x0102,
                allocation_bytes: 0x0102_0304,
            }),
        ),
        (
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0],
            control::report_task_management,
            Command::ReportTaskManagement {
                extended: true,
                allocation_bytes: 16,
            },
        ),
        (
            &[0xa3, 0x2a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            control::report_groups,
            Command::ReportTargetPortGroups {
                format: 1,
                allocation_bytes: 0x0102_0304,
            },
        ),
        (
            &[0xa4, 0x0a, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            control::set_groups,
            Command::SetTargetPortGroups {
                list_bytes: 0x0102_0304,
            },
        ),
        (
            &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            control::extended_copy,
            Command::ExtendedCopy {
                list_bytes: 0x0102_0304,
            },
        ),
        (
            &[0x84, 0x03, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
            control::copy_results,
            Command::CopyResults(CopyResults {
                action: 3,
                list_identifier: 9,
                allocation_bytes: 0x0102_0304,
            }),
        ),
        (
            &[0x48, 0xa1, 0, 0, 0, 0, 0, 2, 4, 0],
            control::sanitize,
            Command::Sanitize(Sanitize {
                immediate: true,
                unrestricted_exit: true,
                action: SanitizeAction::Overwrite { list_bytes: 0x0204 },
            }),
        ),
        (
            &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
            control::sanitize,
            Command::Sanitize(Sanitize {
                immediate: false,
                unrestricted_exit: false,
                action: SanitizeAction::BlockErase,
            }),
        ),
    ]);
}

#[test]
fn blocks_are_padded_and_never_cut() {
    assert_eq!(pad(&[]), None);
    assert_eq!(pad(&[1; 17]), None);
    assert_eq!(pad(&[7; 16]), Some([7; 16]));
    assert_eq!(
        pad(&[7]),
        Some([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    );
    for vendor in [0x60, 0x7f, 0xc0, 0xff] {
        assert_eq!(cdb_bytes(vendor), None, "{vendor:#x}");
    }
}

#[test]
fn sense_data_in_both_formats() {
    let plain = Sense::new(SenseKey::UNIT_ATTENTION, SenseCode::POWER_ON);
    let expected = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
    assert_eq!(plain.fixed(), expected);
    let field = Sense::invalid_cdb(2, Some(5));
    assert_eq!(field.fixed()[12..], [0x24, 0, 0, 0xcd, 0, 2]);
    let parameter = Sense::invalid_parameter(0x0102, None);
    assert_eq!(parameter.fixed()[12..], [0x26, 0, 0, 0x80, 1, 2]);
    let mut out = [0xee; DESCRIPTOR_BYTES_MAX];
    let medium = Sense::new(SenseKey::MEDIUM_ERROR, SenseCode::UNRECOVERED_READ_ERROR)
        .with_information(LONG);
    let len = medium.descriptors(&mut out);
    let expected = [
        0x72, 3, 0x11, 0, 0, 0, 0, 12, 0x00, 0x0a, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8,
    ];
    assert_eq!(out[..len], expected);
    let len = field.descriptors(&mut out);
    let expected = [
        0x72, 5, 0x24, 0, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0xcd, 0, 2, 0,
    ];
    assert_eq!(out[..len], expected);
    // What needs more than 4 bytes is not in fixed format.
    assert_eq!(medium.fixed()[..7], [0x70, 0, 3, 0, 0, 0, 0]);
    assert_eq!(
        medium.with_information(9).fixed()[..7],
        [0xf0, 0, 3, 0, 0, 0, 9]
    );
}

#[test]
fn sense_data_is_read_again() {
    let progress =
        Sense::new(SenseKey::NOT_READY, SenseCode::SANITIZE_IN_PROGRESS).with_progress(0x8000);
    let mut copy = Sense::new(SenseKey::COPY_ABORTED, SenseCode::NONE).with_information(5);
    copy.command_specific = Some(6);
    copy.specific = KeySpecific::Segment {
        in_segment: true,
        byte: 10,
    };
    let field = Sense::invalid_parameter(7, Some(3));
    for sense in [progress, copy, field] {
        assert_eq!(Sense::decode(&sense.fixed()), Some(sense));
        let mut out = [0; DESCRIPTOR_BYTES_MAX];
        let len = sense.descriptors(&mut out);
        assert_eq!(Sense::decode(&out[..len]), Some(sense));
        for cut in 0..len {
            let _ = Sense::decode(&out[..cut]);
        }
    }
    let pointer = FieldPointer {
        in_cdb: false,
        byte: 7,
        bit: Some(3),
    };
    assert_eq!(field.specific, KeySpecific::Field(pointer));
    for bytes in [
        &[][..],
        &[0x70],
        &[0x72, 0, 0],
        &[0x7e; 18],
        &[0x72, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(Sense::decode(bytes), None, "{bytes:02x?}");
    }
}

#[test]
fn the_writer_cuts_and_counts() {
    let mut out = [0; 5];
    let mut writer = Writer::new(&mut out);
    writer.u16(0x0102).u32(0x0304_0506).u64(7);
    assert_eq!((writer.len(), writer.written()), (14, 5));
    writer.patch(3, &[8, 9, 10]);
    writer.patch_len16(0);
    assert_eq!(out, [0, 12, 3, 8, 9]);
    let text = written(|out| {
        out.ascii(b"ab\x07", 5).ascii(b"abcdef", 3);
    });
    assert_eq!(text, b"ab   abc");
}

#[test]
fn inquiry_data() {
    let standard = Standard {
        peripheral: PRESENT,
        vendor: b"VENDOR",
        product: b"PRODUCT",
        revision: b"12345",
    };
    let data = written(|out| standard.write(out));
    assert_eq!(data.len(), STANDARD_BYTES);
    assert_eq!(usize::from(data[4]), STANDARD_BYTES - 5);
    assert_eq!(&data[8..36], b"VENDOR  PRODUCT         1234");
    let limits = BlockLimits {
        max_compare_and_write: 0x10,
        optimal_granularity: 8,
        max_transfer: 2048,
        max_unmap: 1,
        max_unmap_descriptors: 2,
        unmap_granularity: 3,
        max_same: LONG,
        max_atomic: 9,
        ..BlockLimits::default()
    };
    let page = written(|out| limits.write(PRESENT, out));
    let mut expected = [0; 64];
    expected[..12].copy_from_slice(&[0, 0xb0, 0, 60, 0, 0x10, 0, 8, 0, 0, 8, 0]);
    (expected[23], expected[27], expected[31], expected[32]) = (1, 2, 3, 0x80);
    expected[36..44].copy_from_slice(&LONG.to_be_bytes());
    expected[47] = 9;
    assert_eq!(page, expected);
}

#[test]
fn designators() {
    let port = Designator {
        association: Association::Port,
        code_set: CodeSet::Utf8,
        kind: DesignatorType::SCSI_NAME,
        bytes: b"iqn\0",
    };
    let data = written(|out| port.write(out));
    assert_eq!(data, [0x53, 0x98, 0, 4, b'i', b'q', b'n', 0]);
    assert_eq!(Designator::decode(&data), Some((port, &[][..])));
    for len in 0..data.len() {
        assert_eq!(Designator::decode(&data[..len]), None);
    }
}

#[test]
fn capacity_data() {
    let capacity = Capacity {
        block_count: 1 << 33,
        block_bytes: 512,
        physical_exponent: 3,
    };
    let short = written(|out| capacity.write_short(out));
    assert_eq!(short, [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
    let long = written(|out| capacity.write_long(out));
    let expected = [
        0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0,
    ];
    assert_eq!((long.len(), &long[..16]), (32, &expected[..]));
    assert_eq!(Capacity::decode(&long), Some(capacity));
    assert_eq!(Capacity::decode(&long[..13]), None);
    assert_eq!(Capacity::decode(&[0xff; 32]), None);
    assert_eq!(written(|out| write_luns(true, out)).len(), 16);
    assert_eq!(written(|out| write_luns(false, out)), [0; 8]);
}

#[test]
fn unmap_lists() {
    let ranges = [(LONG, 9), (3, 0)].map(|(lba, block_count)| UnmapRange { lba, block_count });
    let list = written(|out| write_unmap(&ranges, out));
    assert_eq!(list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
    assert_eq!(
        list[8..24],
        [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 0]
    );
    let decoded = |list: &[u8]| unmap_ranges(list).map(Iterator::collect::<Vec<_>>);
    assert_eq!(decoded(&list), Ok(ranges.to_vec()));
    let short = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);
    for len in 0..list.len() {
        assert_eq!(decoded(&list[..len]), Err(short), "{len} bytes");
    }
    // Half a descriptor is left over: it means nothing.
    let mut half = list.clone();
    half[3] = 24;
    assert_eq!(decoded(&half), Ok(ranges[..1].to_vec()));
    let mut wrong = list;
    wrong[1] = 4;
    assert_eq!(decoded(&wrong), Err(Sense::invalid_parameter(0, None)));
}

#[test]
fn lba_status_data() {
    let range = StatusRange {
        lba: LONG,
        block_count: 9,
        is_deallocated: true,
    };
    let data = written(|out| {
        StatusRange::begin(out);
        range.write(out);
        StatusRange::end(out);
    });
    assert_eq!(data[..8], [0, 0, 0, 20, 0, 0, 0, 0]);
    assert_eq!(data[8..], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 1, 0, 0, 0]);
}

#[test]
fn mode_headers_and_pages() {
    for is_long in [false, true] {
        let header = ModeHeader {
            device_specific: 0x90,
            long_lba: is_long,
            descriptor_bytes: 8,
        };
        let data = written(|out| {
            header.begin(is_long, out);
            out.zeros(8);
            ModeHeader::end(is_long, out);
        });
        let expected: &[u8] = if is_long {
            &[0, 14, 0, 0x90, 1, 0, 0, 8]
        } else {
            &[11, 0, 0x90, 8]
        };
        assert_eq!(data[..expected.len()], *expected);
        assert_eq!(
            ModeHeader::decode(&data, is_long),
            Some((header, &[0; 8][..]))
        );
        assert_eq!(
            ModeHeader::decode(&data[..expected.len() - 1], is_long),
            None
        );
    }
    let list = [0x0a, 2, 7, 8, 0x4a, 1, 0, 1, 9, 0x1c, 5];
    let (first, rest) = split_page(&list).expect("a page");
    assert_eq!(
        (first.page, first.subpage, first.bytes),
        (ModePage::CONTROL, 0, &list[..4])
    );
    let (second, rest) = split_page(rest).expect("a subpage");
    assert_eq!(
        (second.page, second.subpage, second.bytes),
        (ModePage::CONTROL, 1, &list[4..9])
    );
    assert_eq!(split_page(rest), None);
    assert_eq!(split_page(&[]), None);
}

#[test]
fn block_descriptors() {
    let descriptor = BlockDescriptor {
        block_count: 0x0102_0304,
        block_bytes: 4096,
    };
    for (is_long, len) in [(false, 8), (true, 16)] {
        let data = written(|out| descriptor.write(is_long, out));
        assert_eq!(data.len(), len);
        assert_eq!(BlockDescriptor::decode(&data, is_long), Some(descriptor));
        assert_eq!(BlockDescriptor::decode(&data[..len - 1], is_long), None);
    }
}
