//! What a broken or hostile host can send, and the exact answer to each.

mod common;

use common::host::{
    Attached, HOST_ID, HOST_NQN, Host, Link0, attach, attach_io, io_sqe, pattern, read_sqe,
    response,
};
use common::sim::Draw;
use common::{Served, quick_options, serve, serve_with, volume_nqn};
use frontends::{HostAccess, SubsystemOptions};
use wire::fabrics::connect::{
    CNTLID_DYNAMIC, CNTLID_STATIC, ConnectCommand, ConnectData, InvalidParameter,
};
use wire::fabrics::property::PropertyGet;
use wire::nvme::command::{DatasetManagement, Fuse, Identify, Psdt, ReadWrite};
use wire::nvme::dsm::DsmRange;
use wire::nvme::identify::Cns;
use wire::nvme::register::{PropertySize, offset};
use wire::nvme::{NSID_ALL, NvmOpcode, Sgl, Sqe, Status};
use wire::tcp::{CapsuleCmd, CommonHeader, IcReq, PduType, R2t, field, flags};
use wire::text::{DISCOVERY_NQN, NqnField};
use zerocopy::little_endian::{U16, U32, U64};

const BLOCK: u32 = 4096;
const BLOCKS: u64 = common::VOLUME_BYTES / BLOCK as u64;

/// Fatal error status codes.
const FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const RANGE: u16 = 4;
const LIMIT: u16 = 5;
const UNSUPPORTED: u16 = 6;

/// The target still serves another host.
fn assert_unharmed(bystander: &mut Attached) {
    let data = pattern(77, 8192);
    assert!(
        bystander
            .io
            .write_blocks(500, &data, BLOCK)
            .status
            .is_success()
    );
    assert!(bystander.io.read_blocks(500, 2, BLOCK).data == data);
}

fn ic_req(change: impl Fn(&mut IcReq)) -> Vec<u8> {
    let mut request = IcReq::new(0, 0, 0);
    change(&mut request);
    request.as_wire().to_vec()
}

#[test]
fn bad_handshakes_are_terminated() {
    let served = serve(BLOCK);
    let mut bystander = attach(served.address, Link0::default(), 16);
    let common = |kind: u8| {
        let mut bytes = vec![0; 128];
        bytes[0] = kind;
        bytes[2] = 128;
        bytes[4] = 128;
        bytes
    };
    let table: [(&str, Vec<u8>, (u16, u32)); 9] = [
        (
            "format version",
            ic_req(|request| request.pfv.set(1)),
            (UNSUPPORTED, 8),
        ),
        (
            "alignment",
            ic_req(|request| request.hpda = 32),
            (FIELD, 10),
        ),
        (
            "header length",
            ic_req(|request| request.ch.hlen = 127),
            (FIELD, 2),
        ),
        (
            "short PDU length",
            ic_req(|request| request.ch.plen.set(127)),
            (FIELD, 4),
        ),
        (
            "long PDU length",
            ic_req(|request| request.ch.plen.set(u32::MAX)),
            (FIELD, 4),
        ),
        ("unknown type", common(0x0a), (FIELD, 0)),
        ("a controller's PDU", common(PduType::IC_RESP.0), (FIELD, 0)),
        (
            "command first",
            common(PduType::CAPSULE_CMD.0),
            (SEQUENCE, 0),
        ),
        ("data first", common(PduType::H2C_DATA.0), (SEQUENCE, 0)),
    ];
    for (name, bytes, expected) in table {
        let mut host = Host::raw(served.address);
        host.write(&bytes);
        assert_eq!(host.expect_term(), expected, "{name}");
        assert_unharmed(&mut bystander);
    }
}

fn capsule_with(host: &Host, change: impl Fn(&mut CommonHeader)) -> Vec<u8> {
    let sqe = Sqe::keep_alive(1);
    let (mut pdu, layout) = CapsuleCmd::new(sqe, 0, &host.framing).expect("it fits");
    change(&mut pdu.ch);
    host.assemble(pdu.as_wire(), &layout, &[])
}

#[test]
fn bad_headers_are_terminated() {
    let served = serve(BLOCK);
    let mut bystander = attach(served.address, Link0::default(), 16);
    type Change = fn(&mut CommonHeader);
    let table: [(&str, Change, (u16, u32)); 8] = [
        (
            "second ICReq",
            |ch| *ch = CommonHeader::bare(PduType::IC_REQ, 128),
            (SEQUENCE, 0),
        ),
        ("unknown type", |ch| ch.kind = PduType(0x77), (FIELD, 0)),
        ("header length", |ch| ch.hlen = 71, (FIELD, 2)),
        ("PDU shorter than header", |ch| ch.plen.set(71), (FIELD, 4)),
        (
            "PDU of 4 GiB",
            |ch| (ch.plen.set(u32::MAX), ch.pdo = 72).1,
            (FIELD, 4),
        ),
        (
            "digest not agreed",
            |ch| ch.flags |= flags::HDGSTF,
            (FIELD, 1),
        ),
        (
            "data digest without data",
            |ch| ch.flags |= flags::DDGSTF,
            (FIELD, 1),
        ),
        (
            "data offset inside header",
            |ch| (ch.plen.set(80), ch.pdo = 8).1,
            (FIELD, 3),
        ),
    ];
    for (name, change, expected) in table {
        let mut before = Host::open(served.address, Link0::default());
        let bytes = capsule_with(&before, change);
        before.write(&bytes);
        assert_eq!(before.expect_term(), expected, "before Connect: {name}");
        let mut host = Host::open(served.address, Link0::default());
        assert!(
            host.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC)
                .status
                .is_success()
        );
        let bytes = capsule_with(&host, change);
        host.write(&bytes);
        assert_eq!(host.expect_term(), expected, "after Connect: {name}");
        assert_unharmed(&mut bystander);
    }
}

/// Starts a write of 16 KiB and gives its R2T.
fn start_write(host: &mut Host, cid: u16) -> R2t {
    let len_bytes = 4 * BLOCK;
    let mut sqe = io_sqe(NvmOpcode::WRITE, 0, 4, Sgl::Transport { len_bytes });
    sqe.cid.set(cid);
    host.send(sqe, &[]);
    let pdu = host.receive();
    assert_eq!(pdu.kind, PduType::R2T);
    *R2t::decode(&pdu.header).expect("a whole R2T")
}

#[test]
fn bad_data_pdus_are_terminated() {
    let served = serve(BLOCK);
    let mut bystander = attach(served.address, Link0::default(), 16);
    let attached = attach(served.address, Link0::default(), 16);
    let data = vec![1; 1 << 20];
    /// Changes (cid, ttag, offset, length, last) of a correct PDU for the whole transfer.
    type Change = fn(&mut (u16, u16, usize, usize, bool));
    let table: [(&str, Change, (u16, u32)); 7] = [
        (
            "tag",
            |pdu| pdu.1 ^= 0x8000,
            (FIELD, u32::from(field::TTAG)),
        ),
        (
            "tag of a slot that is not there",
            |pdu| pdu.1 = 999,
            (FIELD, u32::from(field::TTAG)),
        ),
        (
            "command",
            |pdu| pdu.0 ^= 1,
            (FIELD, u32::from(field::CCCID)),
        ),
        (
            "offset ahead",
            |pdu| (pdu.2, pdu.3) = (4096, 4096),
            (RANGE, 0),
        ),
        ("more than asked for", |pdu| pdu.3 += 4096, (RANGE, 0)),
        (
            "no last flag",
            |pdu| pdu.4 = false,
            (FIELD, u32::from(field::FLAGS)),
        ),
        ("more than MAXH2CDATA", |pdu| pdu.3 = 512 << 10, (LIMIT, 0)),
    ];
    for (index, (name, change, expected)) in (2u16..).zip(table) {
        let mut host = attach_io(served.address, Link0::default(), 16, attached.cntlid, index);
        let r2t = start_write(&mut host, 5);
        let mut pdu = (5, r2t.ttag.get(), 0, 16384, true);
        change(&mut pdu);
        host.send_h2c(pdu.0, pdu.1, (pdu.2, pdu.3), pdu.4, &data);
        assert_eq!(host.expect_term(), expected, "{name}");
        assert_unharmed(&mut bystander);
    }
}

#[test]
fn a_bad_header_digest_is_terminated_and_reported() {
    let served = serve(BLOCK);
    let want = Link0 {
        header_digest: true,
        ..Link0::default()
    };
    let mut host = Host::open(served.address, want);
    let mut bytes = host.capsule(Sqe::keep_alive(1), &[]);
    bytes[72] ^= 1;
    let received = u32::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75]]);
    host.write(&bytes);
    assert_eq!(host.expect_term(), (3, received));
}

#[test]
fn a_bad_data_digest_fails_the_command_alone() {
    let served = serve(BLOCK);
    let want = Link0 {
        data_digest: true,
        ..Link0::default()
    };
    let mut attached = attach(served.address, want, 16);
    let io = &mut attached.io;
    let before = pattern(1, 4096);
    assert!(io.write_blocks(9, &before, BLOCK).status.is_success());
    // In the capsule.
    let data = pattern(2, 4096);
    let mut sqe = io_sqe(
        NvmOpcode::WRITE,
        9,
        1,
        Sgl::InCapsule {
            offset: 0,
            len_bytes: 4096,
        },
    );
    sqe.cid.set(40);
    let mut bytes = io.capsule(sqe, &data);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    io.write(&bytes);
    let done = io.finish(40, &[]);
    assert_eq!(done.status.code(), Status::TRANSIENT_TRANSPORT_ERROR);
    // On request, damaged in the first of two PDUs.
    let mut sqe = io_sqe(NvmOpcode::WRITE, 9, 2, Sgl::Transport { len_bytes: 8192 });
    sqe.cid.set(41);
    io.send(sqe, &[]);
    let r2t = *R2t::decode(&io.receive().header).expect("a whole R2T");
    let data = pattern(3, 8192);
    let (pdu, layout) =
        wire::tcp::H2cData::new(41, r2t.ttag.get(), (0, 4096), false, &io.framing).expect("fits");
    let mut bytes = io.assemble(pdu.as_wire(), &layout, &data[..4096]);
    bytes[30] ^= 1;
    io.write(&bytes);
    io.send_h2c(41, r2t.ttag.get(), (4096, 4096), true, &data);
    assert_eq!(
        io.finish(41, &[]).status.code(),
        Status::TRANSIENT_TRANSPORT_ERROR
    );
    assert!(
        io.read_blocks(9, 1, BLOCK).data == before,
        "a failed write wrote nothing"
    );
}

fn with(mut sqe: Sqe, change: impl Fn(&mut Sqe)) -> Sqe {
    change(&mut sqe);
    sqe
}

#[test]
fn bad_io_commands_get_the_right_status() {
    let served = serve(BLOCK);
    let mut attached = attach(served.address, Link0::default(), 16);
    let read = read_sqe(0, 1, BLOCK);
    let transport = |len_bytes| Sgl::Transport { len_bytes };
    let table: Vec<(&str, Sqe, Status)> = vec![
        (
            "unknown opcode",
            with(read, |sqe| sqe.opcode = 0x77),
            Status::INVALID_OPCODE,
        ),
        (
            "write uncorrectable",
            with(read, |sqe| sqe.opcode = 4),
            Status::INVALID_OPCODE,
        ),
        (
            "namespace 0",
            with(read, |sqe| sqe.nsid.set(0)),
            Status::INVALID_NAMESPACE,
        ),
        (
            "namespace 2",
            with(read, |sqe| sqe.nsid.set(2)),
            Status::INVALID_NAMESPACE,
        ),
        (
            "every namespace",
            with(read, |sqe| sqe.nsid.set(NSID_ALL)),
            Status::INVALID_NAMESPACE,
        ),
        ("flush of 2", Sqe::flush(0, 2), Status::INVALID_NAMESPACE),
        (
            "PRP",
            with(read, |sqe| sqe.set_psdt(Psdt::PRP)),
            Status::INVALID_FIELD,
        ),
        (
            "metadata segment",
            with(read, |sqe| sqe.flags = 0x80),
            Status::INVALID_FIELD,
        ),
        (
            "reserved flags",
            with(read, |sqe| sqe.flags |= 0x04),
            Status::INVALID_FIELD,
        ),
        (
            "fuse 3",
            with(read, |sqe| sqe.flags |= 3),
            Status::INVALID_FIELD,
        ),
        (
            "fused read",
            with(read, |sqe| sqe.set_fuse(Fuse::FIRST)),
            Status::INVALID_FIELD,
        ),
        (
            "behind the end",
            read_sqe(BLOCKS, 1, BLOCK),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "over the end",
            read_sqe(BLOCKS - 1, 2, BLOCK),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "wrapping range",
            read_sqe(u64::MAX, 1, BLOCK),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "more than MDTS",
            read_sqe(0, 257, BLOCK),
            Status::INVALID_FIELD,
        ),
        (
            "SGL too short",
            read.with_data(transport(4095)),
            Status::SGL_DATA_LENGTH_INVALID,
        ),
        (
            "SGL too long",
            read.with_data(transport(8192)),
            Status::SGL_DATA_LENGTH_INVALID,
        ),
        (
            "SGL empty",
            read.with_data(transport(0)),
            Status::SGL_DATA_LENGTH_INVALID,
        ),
        (
            "read into the capsule",
            read.with_data(Sgl::InCapsule {
                offset: 0,
                len_bytes: 4096,
            }),
            Status::SGL_TYPE_INVALID,
        ),
        (
            "host address",
            read.with_data(Sgl::DataBlock {
                address: 0,
                len_bytes: 4096,
            }),
            Status::SGL_TYPE_INVALID,
        ),
        (
            "SGL segment",
            read.with_data(Sgl::Segment {
                address: 0,
                len_bytes: 16,
                offset: false,
                last: true,
            }),
            Status::INVALID_SGL_SEGMENT,
        ),
        (
            "unknown SGL type",
            with(read, |sqe| sqe.dptr.identifier = 0x90),
            Status::SGL_TYPE_INVALID,
        ),
        (
            "capsule data that is not there",
            io_sqe(
                NvmOpcode::WRITE,
                0,
                1,
                Sgl::InCapsule {
                    offset: 0,
                    len_bytes: 4096,
                },
            ),
            Status::SGL_OFFSET_INVALID,
        ),
        (
            "wrapping capsule offset",
            io_sqe(
                NvmOpcode::WRITE,
                0,
                1,
                Sgl::InCapsule {
                    offset: u64::MAX,
                    len_bytes: 4096,
                },
            ),
            Status::SGL_OFFSET_INVALID,
        ),
        (
            "stream directive",
            with(io_sqe(NvmOpcode::WRITE, 0, 1, transport(4096)), |sqe| {
                sqe.cdw12.set(1 << 20)
            }),
            Status::INVALID_FIELD,
        ),
        (
            "verify over the limit",
            ReadWrite::new(0, 257)
                .expect("a count")
                .encode(NvmOpcode::VERIFY, 0, 1, None),
            Status::INVALID_FIELD,
        ),
        (
            "write zeroes over the end",
            wire::nvme::command::WriteZeroes::new(BLOCKS, 1, false)
                .expect("ok")
                .encode(0, 1),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            "property on an I/O queue",
            PropertyGet::new(0, PropertySize::EIGHT, offset::CAP).to_sqe(),
            Status::INVALID_OPCODE,
        ),
        (
            "unknown fabrics command",
            with(Sqe::new(0x7f, 0, 0), |sqe| sqe.nsid.set(0x33)),
            Status::INVALID_OPCODE,
        ),
    ];
    for (name, sqe, expected) in table {
        let done = attached.io.run(sqe);
        assert_eq!(done.status.code(), expected, "{name}: {done:?}");
        assert!(
            done.status.dnr(),
            "{name}: the same command would fail again"
        );
    }
    // Data that no command wants is skipped.
    let done = attached.io.run_with(read_sqe(0, 2, BLOCK), &[0; 512], &[]);
    assert!(done.status.is_success());
    let second = ConnectCommand::new(0, 1, 16, 0).expect("a size").to_sqe();
    let done = attached.io.run_with(second, &[0; 1024], &[]);
    assert_eq!(done.status.code(), Status::COMMAND_SEQUENCE_ERROR);
    let range = DsmRange {
        attributes: U32::new(0),
        block_count: U32::new(2),
        slba: U64::new(BLOCKS - 1),
    };
    let dsm = DatasetManagement {
        deallocate: true,
        ..DatasetManagement::default()
    };
    let sqe = dsm.encode(
        0,
        1,
        Sgl::InCapsule {
            offset: 0,
            len_bytes: 16,
        },
    );
    let done = attached.io.run_with(sqe, range.as_wire(), &[]);
    assert_eq!(done.status.code(), Status::LBA_OUT_OF_RANGE);
}

#[test]
fn bad_admin_commands_get_the_right_status() {
    let served = serve(BLOCK);
    let mut attached = attach(served.address, Link0::default(), 16);
    let page = Sgl::Transport { len_bytes: 4096 };
    let identify = |cns, nsid| {
        Identify {
            cns,
            ..Identify::default()
        }
        .encode(0, nsid, page)
    };
    let log = |lid, numd, lpo| {
        wire::nvme::command::GetLogPage {
            lid: wire::nvme::log::LogId(lid),
            numd_zero_based: numd,
            lpo,
            ..Default::default()
        }
        .encode(0, 0, page)
    };
    let set = |fid, cdw11, save| {
        wire::nvme::command::SetFeatures {
            fid: wire::nvme::feature::FeatureId(fid),
            cdw11,
            save,
            cdw12: 0,
        }
        .encode(0, 0, None)
    };
    let table: Vec<(&str, Sqe, Status)> = vec![
        (
            "unknown opcode",
            Sqe::new(0xc5, 0, 0),
            Status::INVALID_OPCODE,
        ),
        ("create queue", Sqe::new(1, 0, 0), Status::INVALID_OPCODE),
        ("format", Sqe::new(0x80, 0, 1), Status::INVALID_OPCODE),
        (
            "identify namespace 0",
            identify(Cns::NAMESPACE, 0),
            Status::INVALID_NAMESPACE,
        ),
        (
            "identify namespace 2",
            identify(Cns::NAMESPACE, 2),
            Status::INVALID_NAMESPACE,
        ),
        (
            "list after all",
            identify(Cns::ACTIVE_NAMESPACES, NSID_ALL),
            Status::INVALID_NAMESPACE,
        ),
        (
            "unknown structure",
            identify(Cns(0x55), 0),
            Status::INVALID_FIELD,
        ),
        (
            "short identify",
            identify(Cns::CONTROLLER, 0).with_data(Sgl::Transport { len_bytes: 4092 }),
            Status::SGL_DATA_LENGTH_INVALID,
        ),
        ("unknown log", log(0xc0, 1, 0), Status::INVALID_LOG_PAGE),
        ("log over MDTS", log(1, u32::MAX, 0), Status::INVALID_FIELD),
        ("log offset odd", log(1, 1, 2), Status::INVALID_FIELD),
        (
            "log offset behind the end",
            log(1, 1, 1 << 40),
            Status::INVALID_FIELD,
        ),
        (
            "save a feature",
            set(0x0f, 0, true),
            Status::FEATURE_NOT_SAVEABLE,
        ),
        (
            "unknown feature",
            set(0xc0, 0, false),
            Status::INVALID_FIELD,
        ),
        (
            "no queues",
            set(0x07, 0xffff_ffff, false),
            Status::INVALID_FIELD,
        ),
        (
            "queues when connected",
            set(0x07, 0x0001_0001, false),
            Status::COMMAND_SEQUENCE_ERROR,
        ),
        (
            "cache off",
            set(0x06, 0, false),
            Status::FEATURE_NOT_CHANGEABLE,
        ),
        (
            "keep alive of a month",
            set(0x0f, u32::MAX, false),
            Status::KEEP_ALIVE_INVALID,
        ),
        (
            "unknown event",
            set(0x0b, 1 << 20, false),
            Status::INVALID_FIELD,
        ),
        (
            "unknown property",
            PropertyGet::new(0, PropertySize::FOUR, 0x999).to_sqe(),
            Status::INVALID_FIELD,
        ),
        (
            "half of CAP",
            PropertyGet::new(0, PropertySize::FOUR, offset::CAP).to_sqe(),
            Status::INVALID_FIELD,
        ),
    ];
    for (name, sqe, expected) in table {
        let done = attached.admin.run(sqe);
        assert_eq!(done.status.code(), expected, "{name}: {done:?}");
    }
    let done = attached.admin.property_set(offset::CAP, 1);
    assert_eq!(done.status.code(), Status::INVALID_FIELD);
}

fn connect_case(
    served: &Served,
    change: impl Fn(&mut ConnectCommand, &mut ConnectData),
) -> (Status, u64) {
    let mut host = Host::open(served.address, Link0::default());
    let mut command = ConnectCommand::new(1, 0, 32, 0).expect("a size");
    let nqn = volume_nqn();
    let mut data = ConnectData::new(HOST_ID, CNTLID_DYNAMIC, &nqn, HOST_NQN).expect("names");
    change(&mut command, &mut data);
    let done = host.run_with(command.to_sqe(), data.as_wire(), &[]);
    // The connection is not lost: a correct Connect works afterwards.
    if !done.status.is_success() {
        assert!(
            host.connect(0, 32, &nqn, CNTLID_DYNAMIC)
                .status
                .is_success()
        );
    }
    (done.status, done.result)
}

#[test]
fn bad_connects_get_the_right_status() {
    let served = serve(BLOCK);
    let attached = attach(served.address, Link0::default(), 16);
    let cntlid = attached.cntlid;
    let invalid = |parameter: InvalidParameter| {
        (
            Status::CONNECT_INVALID_PARAMETERS,
            u64::from(parameter.encode()),
        )
    };
    type Change = Box<dyn Fn(&mut ConnectCommand, &mut ConnectData)>;
    let io = move |command: &mut ConnectCommand, data: &mut ConnectData| {
        command.qid = U16::new(2);
        data.cntlid = U16::new(cntlid);
    };
    let name = |nqn: &str| NqnField::new(nqn, "test").expect("a name");
    let table: Vec<(&str, Change, (Status, u64))> = vec![
        (
            "record format",
            Box::new(|command, _| command.recfmt.set(1)),
            (Status::CONNECT_INCOMPATIBLE_FORMAT, 0),
        ),
        (
            "size 0",
            Box::new(|c, _| c.sqsize.set(0)),
            invalid(InvalidParameter::SQSIZE),
        ),
        (
            "size over MQES",
            Box::new(|c, _| c.sqsize.set(128)),
            invalid(InvalidParameter::SQSIZE),
        ),
        (
            "endless KATO",
            Box::new(|c, _| c.kato_ms.set(!0)),
            invalid(InvalidParameter::KATO),
        ),
        (
            "unknown subsystem",
            Box::new(move |_, data| data.subnqn = name("nqn.2026-11.io.bedplate:none")),
            invalid(InvalidParameter::SUBNQN),
        ),
        (
            "no terminator",
            Box::new(|_, data| data.subnqn.0 = [b'n'; 256]),
            invalid(InvalidParameter::SUBNQN),
        ),
        (
            "no host name",
            Box::new(|_, data| data.hostnqn = NqnField::default()),
            invalid(InvalidParameter::HOSTNQN),
        ),
        (
            "admin queue of a controller",
            Box::new(move |_, data| data.cntlid = U16::new(cntlid)),
            invalid(InvalidParameter::CNTLID),
        ),
        (
            "static controller",
            Box::new(|_, data| data.cntlid = U16::new(CNTLID_STATIC)),
            invalid(InvalidParameter::CNTLID),
        ),
        (
            "I/O queue of no controller",
            Box::new(move |c, data| (io(c, data), data.cntlid.set(0x7777)).1),
            invalid(InvalidParameter::CNTLID),
        ),
        (
            "I/O queue of another host",
            Box::new(move |c, data| {
                io(c, data);
                data.hostnqn = name("nqn.2014-08.org.example:other");
            }),
            invalid(InvalidParameter::HOSTNQN),
        ),
        (
            "I/O queue with another host identifier",
            Box::new(move |c, data| (io(c, data), data.hostid[0] ^= 1).1),
            invalid(InvalidParameter::HOSTID),
        ),
        (
            "queue over the granted number",
            Box::new(move |c, data| (io(c, data), c.qid.set(65)).1),
            invalid(InvalidParameter::QID),
        ),
        (
            "queue that is connected",
            Box::new(move |c, data| (io(c, data), c.qid.set(1)).1),
            (Status::COMMAND_SEQUENCE_ERROR, 0),
        ),
        (
            "I/O queue of discovery",
            Box::new(move |c, data| (io(c, data), data.subnqn = name(DISCOVERY_NQN)).1),
            invalid(InvalidParameter::QID),
        ),
    ];
    for (name, change, expected) in table {
        let (status, result) = connect_case(&served, change);
        assert_eq!((status.code(), result), expected, "{name}");
        assert!(status.dnr(), "{name}");
    }
}

#[test]
fn io_queue_before_enable_is_refused() {
    let served = serve(BLOCK);
    let mut admin = Host::open(served.address, Link0::default());
    let cntlid = admin.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC).result as u16;
    // Admin commands other than fabrics commands wait for the enable, too.
    let done = admin.identify(Cns::CONTROLLER, 0);
    assert_eq!(done.status.code(), Status::COMMAND_SEQUENCE_ERROR);
    let mut io = Host::open(served.address, Link0::default());
    let done = io.connect(1, 16, &volume_nqn(), cntlid);
    assert_eq!(done.status.code(), Status::COMMAND_SEQUENCE_ERROR);
    admin.enable();
    assert!(io.connect(1, 16, &volume_nqn(), cntlid).status.is_success());
}

#[test]
fn commands_before_connect_are_refused() {
    let served = serve(BLOCK);
    let mut host = Host::open(served.address, Link0::default());
    for sqe in [
        Sqe::keep_alive(0),
        read_sqe(0, 1, BLOCK),
        Sqe::new(0x7f, 0, 4),
    ] {
        assert_eq!(host.run(sqe).status.code(), Status::COMMAND_SEQUENCE_ERROR);
    }
    let done = host.run_with(read_sqe(0, 1, BLOCK), &[7; 4096], &[]);
    assert_eq!(
        done.status.code(),
        Status::COMMAND_SEQUENCE_ERROR,
        "its data was skipped"
    );
    assert!(
        host.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC)
            .status
            .is_success()
    );
}

#[test]
fn connect_data_may_come_on_request() {
    let served = serve(BLOCK);
    for want in [
        Link0::default(),
        Link0 {
            header_digest: true,
            data_digest: true,
            hpda: 0,
        },
    ] {
        let mut host = Host::open(served.address, want);
        let command = ConnectCommand::new(1, 0, 32, 0).expect("a size");
        let nqn = volume_nqn();
        let data = ConnectData::new(HOST_ID, CNTLID_DYNAMIC, &nqn, HOST_NQN).expect("names");
        let sqe = command
            .to_sqe()
            .with_data(Sgl::Transport { len_bytes: 1024 });
        assert!(host.run_with(sqe, &[], data.as_wire()).status.is_success());
        host.enable();
    }
}

#[test]
fn a_host_that_is_not_listed_is_refused() {
    let listed = SubsystemOptions {
        hosts: HostAccess::Listed(vec!["nqn.2014-08.org.example:friend".to_owned()]),
    };
    let served = serve_with(BLOCK, quick_options, listed);
    let mut host = Host::open(served.address, Link0::default());
    let done = host.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC);
    assert_eq!(done.status.code(), Status::CONNECT_INVALID_HOST);
    let nqn = volume_nqn();
    let friend = "nqn.2014-08.org.example:friend";
    let data = ConnectData::new(HOST_ID, CNTLID_DYNAMIC, &nqn, friend).expect("names");
    assert!(host.connect_with(0, 32, &data, 0).status.is_success());
}

#[test]
fn an_identifier_in_use_is_a_conflict() {
    let served = serve(BLOCK);
    let mut attached = attach(served.address, Link0::default(), 16);
    let io = &mut attached.io;
    let r2t = start_write(io, 5);
    let mut flush = Sqe::flush(5, 1);
    flush.cid.set(5);
    io.send(flush, &[]);
    let cqe = response(&io.receive());
    assert_eq!(cqe.status().code(), Status::COMMAND_ID_CONFLICT);
    io.send_data(&r2t, &[3; 16384]);
    assert!(io.finish(5, &[]).status.is_success());
}

#[test]
fn more_commands_than_entries_end_the_connection() {
    let served = serve(BLOCK);
    let mut bystander = attach(served.address, Link0::default(), 16);
    let attached = attach(served.address, Link0::default(), 4);
    let mut io = attached.io;
    for cid in 0..4 {
        start_write(&mut io, cid);
    }
    io.send(Sqe::flush(9, 1), &[]);
    assert_eq!(io.expect_term(), (SEQUENCE, 0));
    assert_unharmed(&mut bystander);
}

#[test]
fn a_host_may_send_everything_byte_by_byte() {
    let served = serve(BLOCK);
    let want = Link0 {
        header_digest: true,
        data_digest: true,
        hpda: 0,
    };
    let mut attached = attach(served.address, want, 16);
    let data = pattern(4, 4096);
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: 4096,
    };
    let mut sqe = io_sqe(NvmOpcode::WRITE, 3, 1, sgl);
    sqe.cid.set(900);
    for byte in attached.io.capsule(sqe, &data) {
        attached.io.write(&[byte]);
    }
    assert!(attached.io.finish(900, &[]).status.is_success());
    assert!(attached.io.read_blocks(3, 1, BLOCK).data == data);
}

#[test]
fn random_bytes_never_end_the_target() {
    let served = serve(BLOCK);
    let mut bystander = attach(served.address, Link0::default(), 16);
    let mut draw = Draw::new(0x9e37_79b9_7f4a_7c15);
    for round in 0..60 {
        let mut host = if round % 3 == 0 {
            Host::raw(served.address)
        } else {
            Host::open(served.address, Link0::default())
        };
        if round % 3 == 2 {
            assert!(
                host.connect(0, 32, &volume_nqn(), CNTLID_DYNAMIC)
                    .status
                    .is_success()
            );
        }
        let mut bytes: Vec<u8> = (0..400).map(|_| draw.below(256) as u8).collect();
        if round % 2 == 0 {
            // Something that frames as a command, with a random command inside.
            bytes[..8].copy_from_slice(&[4, 0, 72, 0, 72, 0, 0, 0]);
        }
        let _ = std::io::Write::write_all(&mut host.stream, &bytes);
        let _ = host.stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::Read::read_to_end(&mut host.stream, &mut Vec::new());
    }
    assert_unharmed(&mut bystander);
}
