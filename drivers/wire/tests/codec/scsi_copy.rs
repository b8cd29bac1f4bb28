//! EXTENDED COPY, RECEIVE COPY RESULTS and target port groups: bytes laid out by hand from SPC-4.

use wire::scsi::data::alua::{AccessState, Group, SetGroup, StatusCode, set_groups};
use wire::scsi::data::copy::{
    Amount, CopyList, CopyState, CopyStatus, CopyTarget, ListIdUsage, OperatingParameters, Segment,
    TARGET_BYTES, split_segment, write_failed_details,
};
use wire::scsi::sense::{FieldPointer, KeySpecific};
use wire::scsi::{Sense, SenseCode, Status, Writer};

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = [0xee; 256];
    let mut writer = Writer::new(&mut out);
    write(&mut writer);
    let len = writer.written();
    out[..len].to_vec()
}

fn field(sense: Sense) -> (u16, FieldPointer) {
    match sense.specific {
        KeySpecific::Field(field) => (sense.code.0, field),
        other => panic!("no field pointer: {other:?}"),
    }
}

const SHORT: Sense = Sense::illegal(SenseCode::PARAMETER_LIST_LENGTH);

#[test]
fn a_copy_list_is_cut_where_its_header_says() {
    let mut list = vec![7, 0x18, 0, 3, 9, 9, 9, 9, 0, 0, 0, 2, 0, 0, 1, 0];
    list.extend([1, 2, 3, 4, 5, 6]);
    let expected = CopyList {
        list_identifier: 7,
        usage: ListIdUsage::None,
        targets: &[1, 2, 3],
        segments: &[4, 5],
        inline_bytes: 256,
    };
    assert_eq!(CopyList::decode(&list), Ok(expected));
    for (bits, usage) in [
        (0x00, ListIdUsage::Hold),
        (0x08, ListIdUsage::Reserved),
        (0x10, ListIdUsage::Discard),
        (0x27, ListIdUsage::Hold),
    ] {
        list[1] = bits;
        assert_eq!(CopyList::decode(&list).map(|list| list.usage), Ok(usage));
    }
    for len in 0..21 {
        assert_eq!(CopyList::decode(&list[..len]), Err(SHORT), "{len} bytes");
    }
    list[8..12].fill(0xff);
    assert_eq!(CopyList::decode(&list), Err(SHORT));
}

#[test]
fn a_target_is_named_by_a_designator() {
    let mut bytes = [0; TARGET_BYTES];
    bytes[..8].copy_from_slice(&[0xe4, 0xc5, 0, 1, 1, 3, 0, 16]);
    bytes[8..24].copy_from_slice(&[0x6a; 16]);
    bytes[28..].copy_from_slice(&[4, 0, 0x10, 0]);
    let expected = CopyTarget {
        designator_type: 3,
        designator: &[0x6a; 16],
        peripheral_type: 5,
        block_bytes: 4096,
    };
    assert_eq!(CopyTarget::decode(&bytes, 16), Ok(expected));
    for (at, value, bit) in [(1, 0x20, Some(5)), (5, 0x13, Some(5)), (7, 21, None)] {
        let mut wrong = bytes;
        wrong[at] = value;
        let sense = CopyTarget::decode(&wrong, 48).expect_err("it is wrong");
        let byte = 48 + at as u16;
        let in_cdb = false;
        assert_eq!(field(sense), (0x2600, FieldPointer { in_cdb, byte, bit }));
    }
    bytes[0] = 0xe0;
    let unsupported = Sense::illegal(SenseCode::UNSUPPORTED_TARGET_TYPE);
    assert_eq!(CopyTarget::decode(&bytes, 16), Err(unsupported));
}

#[test]
fn segments_come_one_by_one() {
    let mut list = vec![0x02, 0x02, 0, 0x18, 0, 1, 0, 2, 0, 0, 8, 0];
    list.extend(
        [[0; 7], [0; 7]]
            .map(|zeros| [&zeros[..], &[9]].concat())
            .concat(),
    );
    list.extend([0x0a, 0, 0, 0x1c, 0, 3, 0, 4, 0, 1, 0, 0]);
    list.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 1, 0, 0, 7]);
    let blocks = Segment {
        source: 1,
        destination: 2,
        source_lba: 9,
        destination_lba: 9,
        amount: Amount::Blocks {
            block_count: 2048,
            of_destination: true,
        },
    };
    let bytes = Segment {
        source: 3,
        destination: 4,
        source_lba: 5,
        destination_lba: 6,
        amount: Amount::Bytes {
            len_bytes: 0x1_0000,
            source_offset: 256,
            destination_offset: 7,
        },
    };
    let (first, rest) = split_segment(&list).expect("a segment");
    let (second, nothing) = split_segment(rest).expect("another one");
    assert_eq!((first, second), (blocks, bytes));
    assert_eq!(nothing, []);
    for len in [0, 1, 4, 27] {
        assert_eq!(split_segment(&list[..len]), Err(SHORT), "{len} bytes");
    }
    assert_eq!(split_segment(&list[28..28 + 31]), Err(SHORT));
    let mut wrong = list.clone();
    wrong[3] = 0x1c;
    let invalid = Sense::illegal(SenseCode::INVALID_PARAMETER);
    assert_eq!(split_segment(&wrong), Err(invalid));
    for kind in (0..=u8::MAX).filter(|kind| ![0x02, 0x0a].contains(kind)) {
        wrong[0] = kind;
        let unsupported = Sense::illegal(SenseCode::UNSUPPORTED_SEGMENT_TYPE);
        assert_eq!(split_segment(&wrong), Err(unsupported), "{kind:#x}");
    }
}

#[test]
fn results_of_copies() {
    let status = |len_bytes| CopyStatus {
        state: CopyState::DONE,
        segments: 0x0102,
        len_bytes,
    };
    let small = written(|out| status(0xffff_ffff).write(out));
    assert_eq!(small, [0, 0, 0, 8, 1, 1, 2, 0, 0xff, 0xff, 0xff, 0xff]);
    let large = written(|out| status(0x1_0000_0000).write(out));
    assert_eq!(large, [0, 0, 0, 8, 1, 1, 2, 1, 0, 0x40, 0, 0]);
    let huge = written(|out| status(u64::MAX).write(out));
    assert_eq!(huge[7..], [1, 0xff, 0xff, 0xff, 0xff]);

    let none = written(|out| write_failed_details(Status::CHECK_CONDITION, None, out));
    assert_eq!(none, [0; 4]);
    let sense = [0x70, 0, 0xa];
    let some = written(|out| write_failed_details(Status::CHECK_CONDITION, Some(&sense), out));
    let expected = [&[0, 0, 0, 59][..], &[0; 52], &[2, 0, 0, 3], &sense].concat();
    assert_eq!(some, expected);

    let parameters = OperatingParameters {
        no_list_identifier: true,
        targets_max: 0x0102,
        segments_max: 0x0304,
        descriptors_bytes_max: 0x0506_0708,
        segment_bytes_max: 0x090a_0b0c,
        copies_max: 13,
        granularity: 9,
        kinds: &[0x02, 0xe4],
    };
    let expected = [
        &[
            0, 0, 0, 42, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
        ][..],
        &[0; 14],
        &[0, 13, 13, 9, 0, 0, 0, 0, 0, 2, 0x02, 0xe4],
    ];
    assert_eq!(written(|out| parameters.write(out)), expected.concat());
}

#[test]
fn target_port_groups() {
    let group = Group {
        is_preferred: true,
        state: AccessState::STANDBY,
        status: StatusCode::IMPLICIT,
        number: 0x0102,
    };
    let bytes = [0x82, 0xcf, 1, 2, 0, 2, 0, 1, 0, 0, 1, 2];
    for (is_extended, header) in [
        (false, &[0, 0, 0, 12][..]),
        (true, &[0, 0, 0, 16, 0x10, 30, 0, 0]),
    ] {
        let data = written(|out| {
            Group::begin(is_extended, 30, out);
            group.write(out);
            Group::end(out);
        });
        assert_eq!(data, [header, &bytes].concat());
    }

    let list = [9, 9, 9, 9, 0x01, 0, 1, 2, 0x0f, 0, 0, 3];
    let groups: Vec<_> = set_groups(&list).expect("two groups").collect();
    let expected = [
        SetGroup {
            state: AccessState::NON_OPTIMIZED,
            number: 0x0102,
        },
        SetGroup {
            state: AccessState::TRANSITIONING,
            number: 3,
        },
    ];
    assert_eq!(groups, expected);
    assert_eq!(set_groups(&list[..4]).map(Iterator::count), Ok(0));
    for len in [0, 3, 5, 7, 11] {
        assert_eq!(set_groups(&list[..len]).map(Iterator::count), Err(SHORT));
    }
}
