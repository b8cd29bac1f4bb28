//! What a Linux host does: connect, identify, features, read, write, flush, trim, disconnect.

mod common;

use common::host::{Attached, Host, Link0, attach, io_sqe, pattern};
use common::{serve, volume_nqn};
use wire::fabrics::connect::CNTLID_DYNAMIC;
use wire::fabrics::disconnect::Disconnect;
use wire::fabrics::discovery::{DiscoveryEntry, DiscoveryHeader};
use wire::nvme::command::{DatasetManagement, GetFeatures, GetLogPage, SetFeatures, WriteZeroes};
use wire::nvme::dsm::DsmRange;
use wire::nvme::feature::{FeatureId, NumberOfQueues, async_event};
use wire::nvme::identify::{Cns, IdentifyController, IdentifyNamespace, NsidList};
use wire::nvme::log::LogId;
use wire::nvme::register::{Cap, PropertySize, offset};
use wire::nvme::{NvmOpcode, Sgl, Sqe, Status};
use wire::text::DISCOVERY_NQN;
use zerocopy::little_endian::{U32, U64};

fn log_page(host: &mut Host, lid: LogId, len_bytes: u32, lpo: u64) -> common::host::Done {
    let fields = GetLogPage {
        lid,
        numd_zero_based: len_bytes / 4 - 1,
        lpo,
        ..GetLogPage::default()
    };
    host.run(fields.encode(0, 0, Sgl::Transport { len_bytes }))
}

#[test]
fn a_host_finds_the_subsystem_by_discovery() {
    let served = serve(4096);
    let mut host = Host::open(served.address, Link0::default());
    assert!(
        host.connect(0, 32, DISCOVERY_NQN, CNTLID_DYNAMIC)
            .status
            .is_success()
    );
    host.enable();
    let done = host.identify(Cns::CONTROLLER, 0);
    let controller = *IdentifyController::decode(&done.data).expect("4096 bytes");
    assert_eq!(controller.cntrltype, 2);
    let header = log_page(&mut host, LogId::DISCOVERY, 1024, 0).data;
    let header = DiscoveryHeader::check(&header).expect("a good header");
    assert_eq!(header.numrec.get(), 1);
    let entry = log_page(&mut host, LogId::DISCOVERY, 1024, 1024).data;
    let entry = DiscoveryEntry::decode(&entry).expect("an entry");
    assert_eq!(entry.subnqn.parse("SUBNQN").expect("a name"), volume_nqn());
    assert_eq!(entry.traddr.as_str(), "127.0.0.1");
    assert_eq!(entry.trsvcid.as_str(), served.address.port().to_string());
}

#[test]
fn identify_and_features_tell_the_truth() {
    let served = serve(4096);
    let Attached {
        mut admin, io: _io, ..
    } = attach(served.address, Link0::default(), 128);
    let cap = Cap(admin.property_get(offset::CAP, PropertySize::EIGHT).result);
    assert_eq!(cap.mqes(), 127);
    let data = admin.identify(Cns::CONTROLLER, 0).data;
    let controller = *IdentifyController::decode(&data).expect("4096 bytes");
    assert_eq!(controller.mdts, 8, "1 MiB");
    assert_eq!(controller.ioccsz.get(), (64 + 8192) / 16);
    assert_eq!(
        controller.subnqn.parse("SUBNQN").expect("a name"),
        volume_nqn()
    );
    assert_eq!(controller.vwc, 0b111);
    let data = admin.identify(Cns::ACTIVE_NAMESPACES, 0).data;
    assert!(NsidList::decode(&data).expect("a list").iter().eq([1]));
    let data = admin.identify(Cns::NAMESPACE, 1).data;
    let namespace = *IdentifyNamespace::decode(&data).expect("4096 bytes");
    assert_eq!(namespace.nsze.get() * 4096, common::VOLUME_BYTES);
    assert_eq!(namespace.format_in_use().expect("a format").lbads, 12);
    assert!(
        admin
            .identify(Cns::NAMESPACE_DESCRIPTORS, 1)
            .status
            .is_success()
    );
    let fields = GetFeatures {
        fid: FeatureId::NUMBER_OF_QUEUES,
        ..GetFeatures::default()
    };
    let granted = NumberOfQueues::decode(admin.run(fields.encode(0, 0, None)).result as u32)
        .expect("a grant");
    assert_eq!(granted.submission_zero_based, 63);
    let fields = SetFeatures {
        fid: FeatureId::ASYNC_EVENT_CONFIG,
        cdw11: async_event::NAMESPACE_ATTRIBUTE,
        ..SetFeatures::default()
    };
    assert!(admin.run(fields.encode(0, 0, None)).status.is_success());
    assert!(admin.run(Sqe::keep_alive(0)).status.is_success());
    for (lid, len) in [
        (LogId::ERROR, 4096),
        (LogId::SMART, 512),
        (LogId::FIRMWARE_SLOT, 512),
        (LogId::CHANGED_NAMESPACES, 4096),
        (LogId::COMMANDS_EFFECTS, 4096),
        (LogId::SUPPORTED_LOG_PAGES, 1024),
    ] {
        let done = log_page(&mut admin, lid, len, 0);
        assert!(done.status.is_success(), "{lid:?}: {done:?}");
        assert_eq!(done.data.len(), len as usize);
    }
}

#[test]
fn data_written_is_data_read() {
    let served = serve(4096);
    let Attached {
        mut io,
        admin: _admin,
        ..
    } = attach(served.address, Link0::default(), 128);
    for (seed, blocks) in [(1, 1), (2, 2), (3, 3), (4, 16), (5, 100), (6, 256)] {
        let data = pattern(seed, blocks * 4096);
        let lba = u64::from(seed) * 1000;
        assert!(io.write_blocks(lba, &data, 4096).status.is_success());
        let done = io.read_blocks(lba, blocks as u32, 4096);
        assert!(done.status.is_success());
        assert!(done.data == data, "{blocks} blocks differ");
        assert!(
            done.has_response,
            "with flow control every command has a response"
        );
    }
    assert!(io.run(Sqe::flush(0, 1)).status.is_success());
    assert!(
        io.run(Sqe::flush(0, wire::nvme::NSID_ALL))
            .status
            .is_success()
    );
}

#[test]
fn zeroes_trim_compare_and_verify() {
    let served = serve(512);
    let Attached {
        mut io,
        admin: _admin,
        ..
    } = attach(served.address, Link0::default(), 32);
    let data = pattern(9, 16 * 512);
    assert!(io.write_blocks(0, &data, 512).status.is_success());
    let zeroes = WriteZeroes::new(2, 2, true).expect("a good count");
    assert!(io.run(zeroes.encode(0, 1)).status.is_success());
    let range = DsmRange {
        attributes: U32::new(0),
        block_count: U32::new(3),
        slba: U64::new(6),
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
    assert!(io.run_with(sqe, range.as_wire(), &[]).status.is_success());
    let mut expected = data.clone();
    expected[2 * 512..4 * 512].fill(0);
    expected[6 * 512..9 * 512].fill(0);
    assert!(io.read_blocks(0, 16, 512).data == expected);
    let sgl = Sgl::InCapsule {
        offset: 0,
        len_bytes: 8192,
    };
    let compare = io_sqe(NvmOpcode::COMPARE, 0, 16, sgl);
    assert!(io.run_with(compare, &expected, &[]).status.is_success());
    let done = io.run_with(compare, &data, &[]);
    assert_eq!(done.status.code(), Status::COMPARE_FAILURE);
    let verify = wire::nvme::command::ReadWrite::new(0, 16).expect("a good count");
    assert!(
        io.run(verify.encode(NvmOpcode::VERIFY, 0, 1, None))
            .status
            .is_success()
    );
}

#[test]
fn every_combination_of_digests_and_alignment_works() {
    let served = serve(4096);
    for bits in 0..8u8 {
        let want = Link0 {
            header_digest: bits & 1 != 0,
            data_digest: bits & 2 != 0,
            hpda: if bits & 4 != 0 { 15 } else { 0 },
        };
        let Attached {
            mut io,
            admin: _admin,
            ..
        } = attach(served.address, want, 16);
        for len in [4096, 8192, 12288, 1 << 20] {
            let data = pattern(bits, len);
            assert!(
                io.write_blocks(64, &data, 4096).status.is_success(),
                "{want:?} {len}"
            );
            assert!(
                io.read_blocks(64, len as u32 / 4096, 4096).data == data,
                "{want:?} {len}"
            );
        }
    }
}

#[test]
fn success_flag_stands_for_the_response_without_flow_control() {
    let served = serve(4096);
    let Attached {
        cntlid,
        admin: _admin,
        ..
    } = attach(served.address, Link0::default(), 16);
    let mut io = Host::open(served.address, Link0::default());
    io.no_flow_control = true;
    let done = io.connect(2, 16, &volume_nqn(), cntlid);
    assert_eq!(
        done.sqhd, 0xffff,
        "the target agrees to do without flow control"
    );
    assert!(!io.read_blocks(0, 1, 4096).has_response);
}

#[test]
fn disconnect_ends_an_io_queue() {
    let served = serve(4096);
    let Attached {
        mut io, mut admin, ..
    } = attach(served.address, Link0::default(), 16);
    assert!(io.run(Disconnect::new(0).to_sqe()).status.is_success());
    assert!(io.is_closed());
    assert!(admin.run(Sqe::keep_alive(0)).status.is_success());
    let refused = admin.run(Disconnect::new(0).to_sqe());
    assert_eq!(refused.status.code(), Status::DISCONNECT_INVALID_QUEUE_TYPE);
    drop(admin);
    served.wait_for("the controller's end", |metrics| {
        metrics.connections.is_empty()
    });
    served.stop();
}
