//! Command descriptor blocks, parameter lists and sense data of SCSI: nothing panics, and what was
//! read is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::scsi::cdb::{self, Cdb, block, control};
use wire::scsi::data::inquiry::Designator;
use wire::scsi::data::mode::{BlockDescriptor, ModeHeader, split_page};
use wire::scsi::data::provisioning::{unmap_ranges, write_unmap};
use wire::scsi::data::{alua, capacity, copy};
use wire::scsi::sense::DESCRIPTOR_BYTES_MAX;
use wire::scsi::{Command, Sense, Writer};

fuzz_target!(|bytes: &[u8]| {
    let (head, list) = bytes.split_at(bytes.len().min(16));
    if let Some(cdb) = cdb::pad(head) {
        for decode in DECODERS {
            let _ = format!("{:?}", decode(&cdb));
        }
    }
    lists(list);
    copies(list);
    sense(list);
});

const DECODERS: &[fn(&Cdb) -> Command] = &[
    block::read6,
    block::read10,
    block::read12,
    block::read16,
    block::write_atomic16,
    block::write_verify10,
    block::write_verify12,
    block::write_verify16,
    block::verify16,
    block::compare_and_write,
    block::orwrite16,
    block::pre_fetch10,
    block::synchronize16,
    block::unmap,
    block::write_same10,
    block::write_same16,
    block::lba_status,
    block::read_capacity16,
    block::read_defect_data10,
    block::read_defect_data12,
    control::request_sense,
    control::inquiry,
    control::report_luns,
    control::mode_sense6,
    control::mode_sense10,
    control::mode_select6,
    control::mode_select10,
    control::start_stop,
    control::prevent_allow,
    control::sanitize,
    control::send_diagnostic,
    control::receive_diagnostic,
    control::extended_copy,
    control::copy_results,
    control::report_groups,
    control::set_groups,
    control::report_commands,
    control::report_task_management,
    control::reservation,
];

fn lists(list: &[u8]) {
    if let Ok(ranges) = unmap_ranges(list) {
        let ranges: Vec<_> = ranges.collect();
        let mut out = vec![0; 8 + 16 * ranges.len()];
        write_unmap(&ranges, &mut Writer::new(&mut out));
        let again = unmap_ranges(&out).expect("what was written").count();
        assert_eq!(again, ranges.len());
    }
    if let Ok(groups) = alua::set_groups(list) {
        let _ = format!("{:?}", groups.collect::<Vec<_>>());
    }
    for is_long in [false, true] {
        let Some((header, mut rest)) = ModeHeader::decode(list, is_long) else {
            continue;
        };
        let _ = (header, BlockDescriptor::decode(rest, is_long));
        while let Some((page, after)) = split_page(rest) {
            assert!(!page.bytes.is_empty() && after.len() < rest.len());
            rest = after;
        }
    }
    let mut rest = list;
    while let Some((_, after)) = Designator::decode(rest) {
        assert!(after.len() < rest.len());
        rest = after;
    }
    let _ = capacity::Capacity::decode(list);
}

fn copies(list: &[u8]) {
    let Ok(list) = copy::CopyList::decode(list) else {
        return;
    };
    for target in list.targets.as_chunks().0 {
        let _ = format!("{:?}", copy::CopyTarget::decode(target, 0));
    }
    let mut rest = list.segments;
    while let Ok((segment, after)) = copy::split_segment(rest) {
        let _ = format!("{segment:?}");
        assert!(after.len() < rest.len());
        rest = after;
    }
}

fn sense(bytes: &[u8]) {
    let Some(sense) = Sense::decode(bytes) else {
        return;
    };
    let mut out = [0; DESCRIPTOR_BYTES_MAX];
    let len = sense.descriptors(&mut out);
    let again = Sense::decode(&out[..len]).expect("what was written");
    assert_eq!(again, sense);
}
