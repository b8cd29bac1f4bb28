//! Commands in, plans out: no sockets, no executor.

use std::sync::Arc;

use volume::{VolumeId, VolumeInfo};
use wire::nvme::command::{DatasetManagement, Fuse, ReadWrite, WriteZeroes};
use wire::nvme::{NSID_ALL, NvmOpcode, Sgl, Sqe, Status};

use super::*;
use crate::nvmf::plan::DataPlace;

const BLOCKS: u64 = 1000;

fn info(block_bytes: u32) -> VolumeInfo {
    VolumeInfo {
        id: VolumeId(1),
        name: Arc::from("test"),
        uuid: [1; 16],
        nguid: [2; 16],
        serial: [b'3'; 20],
        block_count: BLOCKS,
        block_bytes,
        volatile_cache: true,
    }
}

fn plan_on(block_bytes: u32, sqe: &Sqe) -> Result<IoPlan, Status> {
    let info = info(block_bytes);
    let context = IoContext {
        namespace: Some(&info),
        max_io_bytes: 1 << 20,
        capsule_bytes: 8192,
        transport: Transport::Tcp,
    };
    plan(sqe, &context).map_err(|status| {
        assert!(status.dnr(), "a command that is wrong stays wrong");
        status.code()
    })
}

fn data(opcode: NvmOpcode, lba: u64, blocks: u32, sgl: Sgl) -> Sqe {
    ReadWrite::new(lba, blocks)
        .expect("a count")
        .encode(opcode, 1, NSID, Some(sgl))
}

fn transport(len_bytes: u32) -> Sgl {
    Sgl::Transport { len_bytes }
}

#[test]
fn good_commands_become_plans() {
    let read = data(NvmOpcode::READ, 10, 2, transport(8192));
    let expected = IoPlan {
        command: IoCommand::Read {
            lba: 10,
            block_count: 2,
            fua: false,
        },
        transfer: Transfer::ToHost { len_bytes: 8192 },
    };
    assert_eq!(plan_on(4096, &read), Ok(expected));
    let write = data(NvmOpcode::WRITE, 999, 1, transport(512));
    let expected = IoPlan {
        command: IoCommand::Write {
            lba: 999,
            block_count: 1,
            fua: false,
        },
        transfer: Transfer::FromHost {
            len_bytes: 512,
            place: DataPlace::Transport,
        },
    };
    assert_eq!(plan_on(512, &write), Ok(expected));
    let capsule = data(
        NvmOpcode::COMPARE,
        0,
        1,
        Sgl::InCapsule {
            offset: 4096,
            len_bytes: 4096,
        },
    );
    let expected = IoPlan {
        command: IoCommand::Compare {
            lba: 0,
            block_count: 1,
            fua: false,
        },
        transfer: Transfer::FromHost {
            len_bytes: 4096,
            place: DataPlace::Capsule { offset: 4096 },
        },
    };
    assert_eq!(plan_on(4096, &capsule), Ok(expected));
    let zeroes = WriteZeroes::new(0, 1000, true)
        .expect("a count")
        .encode(1, NSID);
    let command = IoCommand::WriteZeroes {
        lba: 0,
        block_count: 1000,
        deallocate: true,
        fua: false,
    };
    let expected = IoPlan {
        command,
        transfer: Transfer::None,
    };
    assert_eq!(plan_on(512, &zeroes), Ok(expected));
}

#[test]
fn fua_reaches_the_request() {
    let fields = ReadWrite {
        fua: true,
        ..ReadWrite::new(0, 1).expect("a count")
    };
    for opcode in [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE] {
        let sqe = fields.encode(opcode, 1, NSID, Some(transport(4096)));
        let planned = plan_on(4096, &sqe).expect("a good command").command;
        let fua = match planned {
            IoCommand::Read { fua, .. }
            | IoCommand::Write { fua, .. }
            | IoCommand::Compare { fua, .. } => fua,
            other => panic!("{other:?} is another command"),
        };
        assert!(fua, "{opcode:?}");
    }
    let fields = WriteZeroes {
        fua: true,
        ..WriteZeroes::new(0, 1, false).expect("a count")
    };
    let planned = plan_on(4096, &fields.encode(1, NSID))
        .expect("a good command")
        .command;
    assert!(matches!(planned, IoCommand::WriteZeroes { fua: true, .. }));
}

#[test]
fn flush_takes_the_broadcast_namespace() {
    let planned = IoPlan {
        command: IoCommand::Flush,
        transfer: Transfer::None,
    };
    for (nsid, expected) in [
        (NSID, Ok(planned)),
        (NSID_ALL, Ok(planned)),
        (0, Err(Status::INVALID_NAMESPACE)),
        (2, Err(Status::INVALID_NAMESPACE)),
    ] {
        assert_eq!(
            plan_on(4096, &Sqe::flush(1, nsid)),
            expected,
            "namespace {nsid:#x}"
        );
    }
}

#[test]
fn a_trim_may_bring_a_larger_buffer_than_its_ranges() {
    let dsm = DatasetManagement {
        nr_zero_based: 1,
        deallocate: true,
        ..Default::default()
    };
    for (len_bytes, expected) in [
        (31, Err(Status::SGL_DATA_LENGTH_INVALID)),
        (32, Ok(IoCommand::Deallocate { range_count: 2 })),
        (4096, Ok(IoCommand::Deallocate { range_count: 2 })),
        (2 << 20, Err(Status::INVALID_FIELD)),
    ] {
        let sqe = dsm.encode(1, NSID, transport(len_bytes));
        assert_eq!(
            plan_on(4096, &sqe).map(|plan| plan.command),
            expected,
            "{len_bytes} bytes"
        );
    }
    let hints = DatasetManagement {
        deallocate: false,
        ..dsm
    };
    let planned = plan_on(4096, &hints.encode(1, NSID, transport(32))).map(|plan| plan.command);
    assert_eq!(planned, Ok(IoCommand::Hints));
}

#[test]
fn the_namespace_may_be_gone() {
    let context = IoContext {
        namespace: None,
        max_io_bytes: 1 << 20,
        capsule_bytes: 0,
        transport: Transport::Tcp,
    };
    for sqe in [
        Sqe::flush(1, NSID_ALL),
        data(NvmOpcode::READ, 0, 1, transport(4096)),
    ] {
        let refused = plan(&sqe, &context).map_err(Status::code);
        assert_eq!(refused, Err(Status::INVALID_NAMESPACE));
    }
}

#[test]
fn only_compare_and_write_are_fused() {
    let ok = |opcode, fuse| {
        let mut sqe = data(opcode, 0, 1, transport(4096));
        sqe.set_fuse(fuse);
        plan_on(4096, &sqe).is_ok()
    };
    assert!(ok(NvmOpcode::COMPARE, Fuse::FIRST));
    assert!(ok(NvmOpcode::WRITE, Fuse::SECOND));
    assert!(!ok(NvmOpcode::WRITE, Fuse::FIRST));
    assert!(!ok(NvmOpcode::COMPARE, Fuse::SECOND));
    assert!(!ok(NvmOpcode::READ, Fuse::FIRST));
}

/// Every opcode and every flag byte ends in a plan or a status, never in a panic, and only the
/// commands that Identify announces get a plan.
#[test]
fn no_command_breaks_the_planner() {
    let announced = [
        0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c, 0x0d, 0x0e, 0x11, 0x15,
    ];
    for opcode in 0..=u8::MAX {
        for flags in 0..=u8::MAX {
            for fill in [0, 0xff, 0x5a] {
                let mut sqe = Sqe::new(opcode, 1, NSID);
                sqe.flags = flags;
                sqe.dptr.identifier = fill;
                sqe.cdw10.set(u32::from(fill) << 24);
                sqe.cdw11.set(u32::from(fill) << 16);
                sqe.cdw12.set(u32::from(fill) << 8);
                let planned = plan_on(512, &sqe);
                assert!(
                    planned.is_err() || announced.contains(&opcode),
                    "{opcode:#x}"
                );
            }
        }
    }
}
