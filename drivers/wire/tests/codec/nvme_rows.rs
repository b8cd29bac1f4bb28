//! Golden rows of NVMe and fabrics structures. Offsets are those of the specification's figures.

use wire::Error;
use wire::fabrics::connect::{ConnectCommand, ConnectData};
use wire::fabrics::disconnect::Disconnect;
use wire::fabrics::discovery::{DiscoveryEntry, DiscoveryHeader};
use wire::fabrics::property::{PropertyGet, PropertySet};
use wire::nvme::command::{
    Abort, AdminOpcode, DatasetManagement, Fuse, GetFeatures, GetLogPage, Identify, NvmOpcode,
    ReadWrite, SetFeatures, Sqe, WriteZeroes,
};
use wire::nvme::dsm::DsmRange;
use wire::nvme::feature::{FeatureId, FeatureSelect, HostIdentifier};
use wire::nvme::identify::{
    Cns, Csi, DescriptorIter, DescriptorWriter, IdentifyController, IdentifyControllerNvm,
    IdentifyNamespace, IdentifyNamespaceIndependent, IdentifyNamespaceNvm, IoCommandSets,
    LbaFormat, NsDescriptor, NsidList, NsidType, PowerState,
};
use wire::nvme::log::{
    CommandsEffectsLog, ErrorEntry, FirmwareSlotLog, LogId, SmartLog, SupportedLogPages,
};
use wire::nvme::register::{PropertySize, offset};
use wire::nvme::reservation::{
    AcquireAction, ChangePersistence, NotificationType, RegisterAction, RegisteredController,
    RegisteredControllerExtended, ReleaseAction, ReservationAcquire, ReservationKey,
    ReservationKeys, ReservationNotification, ReservationRegister, ReservationRelease,
    ReservationReport, ReservationStatus, ReservationStatusExtended,
};
use wire::nvme::{Cqe, Sgl, SglDescriptor, Status};

use crate::golden::Row;
use crate::spec_bytes::padded;
use crate::{meaning, row};

const SUB: &str = "nqn.2026-11.io.bedplate:demo";
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:2f6c2d5e-8f4b-4c6e-9f63-0d6a5f1b9c11";
const CAPSULE: Sgl = Sgl::InCapsule {
    offset: 0,
    len_bytes: 4096,
};
const TRANSPORT: Sgl = Sgl::Transport { len_bytes: 4096 };

fn sqe(bytes: &[u8]) -> Result<&Sqe, Error> {
    Sqe::decode(bytes)
}

/// Admin commands and I/O commands through their meanings.
pub fn commands() -> Vec<Row> {
    let mut rows = io_commands();
    rows.extend(reservation_commands());
    rows.extend(reservation_data());
    rows.extend(admin_commands());
    rows
}

fn io_commands() -> Vec<Row> {
    vec![
        row!("sqe", Sqe, {
            0 byte (opcode) = 0x02;
            1 byte (flags) = 0x41;
            2 le16 (cid) = 0x1234;
            4 le32 (nsid) = 1;
            8 le32 (cdw2) = 0x0203_0405;
            12 le32 (cdw3) = 0x0304_0506;
            16 le64 (mptr) = 0x1122_3344_5566_7788;
            24 le64 (dptr.address) = 0x8877_6655_4433_2211;
            32 le32 (dptr.length) = 0x1000;
            36 raw (dptr.tail) = &[7, 8, 9];
            39 byte (dptr.identifier) = 0x5a;
            40 le32 (cdw10) = 10;
            44 le32 (cdw11) = 11;
            48 le32 (cdw12) = 12;
            52 le32 (cdw13) = 13;
            56 le32 (cdw14) = 14;
            60 le32 (cdw15) = 15;
        }),
        meaning!("cmd_write_fua", ReadWrite, 64, {
            0 byte = 0x01; 1 byte = 0x40; 2 le16 = 7; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01;
            40 le64 = 0x0001_0000_0002;
            48 le32 = 0x4000_0007; 52 le32 = 0x0005_0006; 56 le32 = 0xa1; 60 le32 = 0xb2;
        }, ReadWrite {
            slba: 0x0001_0000_0002, nlb_zero_based: 7, fua: true, dsm_hints: 6,
            directive_specific: 5, reference_tag: 0xa1, application_tag: 0xb2,
            ..ReadWrite::default()
        }, |b| ReadWrite::decode(sqe(b)?),
        |v| v.encode(NvmOpcode::WRITE, 7, 1, Some(CAPSULE)).as_wire().to_vec()),
        meaning!("cmd_read_limited_retry", ReadWrite, 64, {
            0 byte = 0x02; 1 byte = 0x40; 2 le16 = 8; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x5a;
            40 le64 = u64::MAX; 48 le32 = 0x8000_ffff | 0xf << 26 | 1 << 24 | 3 << 20;
        }, ReadWrite {
            slba: u64::MAX, nlb_zero_based: 0xffff, limited_retry: true, prinfo: 0xf,
            storage_tag_check: true, directive_type: 3, ..ReadWrite::default()
        }, |b| ReadWrite::decode(sqe(b)?),
        |v| v.encode(NvmOpcode::READ, 8, 1, Some(TRANSPORT)).as_wire().to_vec()),
        meaning!("cmd_compare_fused", ReadWrite, 64, {
            0 byte = 0x05; 1 byte = 0x41; 2 le16 = 9; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01; 40 le64 = 64;
        }, ReadWrite { slba: 64, ..ReadWrite::default() },
        |b| ReadWrite::decode(sqe(b)?),
        |v| {
            let mut compare = v.encode(NvmOpcode::COMPARE, 9, 1, Some(CAPSULE));
            compare.set_fuse(Fuse::FIRST);
            compare.as_wire().to_vec()
        }),
        meaning!("cmd_verify", ReadWrite, 64, {
            0 byte = 0x0c; 1 byte = 0x40; 2 le16 = 10; 4 le32 = 1; 40 le64 = 128; 48 le32 = 255;
        }, ReadWrite { slba: 128, nlb_zero_based: 255, ..ReadWrite::default() },
        |b| ReadWrite::decode(sqe(b)?),
        |v| v.encode(NvmOpcode::VERIFY, 10, 1, None).as_wire().to_vec()),
        meaning!("cmd_write_zeroes", WriteZeroes, 64, {
            0 byte = 0x08; 1 byte = 0x40; 2 le16 = 11; 4 le32 = 1; 40 le64 = 512;
            48 le32 = 0x7f | 1 << 25 | 2 << 26 | 1 << 30 | 1 << 31;
        }, WriteZeroes {
            slba: 512, nlb_zero_based: 0x7f, deallocate: true, fua: true, limited_retry: true,
            prinfo: 2,
        }, |b| WriteZeroes::decode(sqe(b)?), |v| v.encode(11, 1).as_wire().to_vec()),
        meaning!("cmd_dataset_management", DatasetManagement, 64, {
            0 byte = 0x09; 1 byte = 0x40; 2 le16 = 12; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01; 40 le32 = 255; 44 le32 = 0x5;
        }, DatasetManagement {
            nr_zero_based: 255, integral_read: true, integral_write: false, deallocate: true,
        }, |b| DatasetManagement::decode(sqe(b)?),
        |v| v.encode(12, 1, CAPSULE).as_wire().to_vec()),
        meaning!("cmd_flush", Sqe, 64, { 1 byte = 0x40; 2 le16 = 13; 4 le32 = 1; },
        Sqe::flush(13, 1), |b| sqe(b).copied(), |v| v.as_wire().to_vec()),
    ]
}

fn reservation_commands() -> Vec<Row> {
    vec![
        meaning!("cmd_reservation_register", ReservationRegister, 64, {
            0 byte = 0x0d; 1 byte = 0x40; 2 le16 = 20; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01; 40 le32 = 2 | 1 << 3 | 3 << 30;
        }, ReservationRegister {
            action: RegisterAction::REPLACE, ignore_key: true, persistence: ChangePersistence::SET,
        }, |b| ReservationRegister::decode(sqe(b)?),
        |v| v.encode(20, 1, CAPSULE).as_wire().to_vec()),
        meaning!("cmd_reservation_acquire", ReservationAcquire, 64, {
            0 byte = 0x11; 1 byte = 0x40; 2 le16 = 21; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01; 40 le32 = 2 | 1 << 3 | 6 << 8;
        }, ReservationAcquire {
            action: AcquireAction::PREEMPT_AND_ABORT, ignore_key: true, kind: 6,
        }, |b| ReservationAcquire::decode(sqe(b)?),
        |v| v.encode(21, 1, CAPSULE).as_wire().to_vec()),
        meaning!("cmd_reservation_release", ReservationRelease, 64, {
            0 byte = 0x15; 1 byte = 0x40; 2 le16 = 22; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x01; 40 le32 = 1 | 1 << 3 | 3 << 8;
        }, ReservationRelease { action: ReleaseAction::CLEAR, ignore_key: true, kind: 3 },
        |b| ReservationRelease::decode(sqe(b)?),
        |v| v.encode(22, 1, CAPSULE).as_wire().to_vec()),
        meaning!("cmd_reservation_report", ReservationReport, 64, {
            0 byte = 0x0e; 1 byte = 0x40; 2 le16 = 23; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x5a; 40 le32 = 1023; 44 le32 = 1;
        }, ReservationReport { numd_zero_based: 1023, extended: true },
        |b| ReservationReport::decode(sqe(b)?),
        |v| v.encode(23, 1, TRANSPORT).as_wire().to_vec()),
    ]
}

fn reservation_data() -> Vec<Row> {
    vec![
        row!("reservation_keys", ReservationKeys, {
            0 le64 (current) = 0x1122_3344_5566_7788;
            8 le64 (other) = 0x99aa_bbcc_ddee_ff00;
        }),
        row!("reservation_key", ReservationKey, {
            0 le64 (current) = 0x1122_3344_5566_7788;
        }),
        row!("reservation_status", ReservationStatus, {
            0 le32 (generation) = 0x0102_0304;
            4 byte (kind) = 6;
            5 le16 (count) = 0x0102;
            9 byte (persistence) = 1;
        }),
        row!("reservation_status_extended", ReservationStatusExtended, {
            0 le32 (status.generation) = 0x0102_0304;
            4 byte (status.kind) = 6;
            5 le16 (status.count) = 0x0102;
            9 byte (status.persistence) = 1;
        }),
        row!("registered_controller", RegisteredController, {
            0 le16 (cntlid) = 0xffff;
            2 byte (status) = 1;
            8 le64 (host_id) = 0x1122_3344_5566_7788;
            16 le64 (key) = 0x99aa_bbcc_ddee_ff00;
        }),
        row!("registered_controller_extended", RegisteredControllerExtended, {
            0 le16 (cntlid) = 0x0102;
            2 byte (status) = 1;
            8 le64 (key) = 0x99aa_bbcc_ddee_ff00;
            16 raw (host_id) = b"0123456789abcdef";
        }),
        row!("log_reservation_notification", ReservationNotification, {
            0 le64 (count) = 0x0102;
            8 byte (kind.0) = NotificationType::RESERVATION_RELEASED.0;
            9 byte (available) = 3;
            12 le32 (nsid) = 1;
        }),
    ]
}

fn admin_commands() -> Vec<Row> {
    vec![
        meaning!("cmd_identify", Identify, 64, {
            0 byte = 0x06; 1 byte = 0x40; 2 le16 = 14; 4 le32 = 1;
            32 le32 = 4096; 39 byte = 0x5a;
            40 byte = 0x05; 42 le16 = 0x0102; 44 le16 = 0x0304; 47 byte = 2; 56 le32 = 0x55;
        }, Identify {
            cns: Cns::CSI_NAMESPACE, cntid: 0x0102, cnssid: 0x0304, csi: Csi::ZONED,
            uuid_index: 0x55,
        }, |b| Identify::decode(sqe(b)?), |v| v.encode(14, 1, TRANSPORT).as_wire().to_vec()),
        meaning!("cmd_get_log_page", GetLogPage, 64, {
            0 byte = 0x02; 1 byte = 0x40; 2 le16 = 15;
            32 le32 = 4096; 39 byte = 0x5a;
            40 byte = 0x70; 41 byte = 0x80 | 0x21; 42 le16 = 0x03ff; 44 le16 = 0x0001;
            46 le16 = 0x0203; 48 le64 = 0x1_0000_0400; 56 le32 = 0x11 | 1 << 23; 59 byte = 2;
        }, GetLogPage {
            lid: LogId::DISCOVERY, lsp: 0x21, rae: true, numd_zero_based: 0x0001_03ff,
            lsi: 0x0203, lpo: 0x1_0000_0400, offset_is_index: true, csi: Csi::ZONED,
            uuid_index: 0x11,
        }, |b| GetLogPage::decode(sqe(b)?), |v| v.encode(15, 0, TRANSPORT).as_wire().to_vec()),
        meaning!("cmd_get_features", GetFeatures, 64, {
            0 byte = 0x0a; 1 byte = 0x40; 2 le16 = 16; 40 le32 = 0x0307; 44 le32 = 0x99;
        }, GetFeatures {
            fid: FeatureId::NUMBER_OF_QUEUES, select: FeatureSelect::CAPABILITIES, cdw11: 0x99,
        }, |b| GetFeatures::decode(sqe(b)?), |v| v.encode(16, 0, None).as_wire().to_vec()),
        meaning!("cmd_set_features", SetFeatures, 64, {
            0 byte = 0x09; 1 byte = 0x40; 2 le16 = 17; 32 le32 = 4096; 39 byte = 0x01;
            40 le32 = 0x8000_0081; 44 le32 = 1; 48 le32 = 2;
        }, SetFeatures { fid: FeatureId::HOST_IDENTIFIER, save: true, cdw11: 1, cdw12: 2 },
        |b| SetFeatures::decode(sqe(b)?),
        |v| v.encode(17, 0, Some(CAPSULE)).as_wire().to_vec()),
        meaning!("cmd_abort", Abort, 64, {
            0 byte = 0x08; 1 byte = 0x40; 2 le16 = 18; 40 le16 = 3; 42 le16 = 0x1234;
        }, Abort { sqid: 3, cid: 0x1234 },
        |b| Abort::decode(sqe(b)?), |v| v.encode(18).as_wire().to_vec()),
        meaning!("cmd_keep_alive", Sqe, 64, { 0 byte = 0x18; 1 byte = 0x40; 2 le16 = 19; },
        Sqe::keep_alive(19), |b| sqe(b).copied(), |v| v.as_wire().to_vec()),
        meaning!("cmd_async_event_request", Sqe, 64, {
            0 byte = 0x0c; 1 byte = 0x40; 2 le16 = 20;
        }, Sqe::async_event_request(20), |b| sqe(b).copied(), |v| v.as_wire().to_vec()),
    ]
}

/// Completion, SGL, DSM and Identify structures.
pub fn structures() -> Vec<Row> {
    let mut rows = small_structures();
    rows.push(identify_controller());
    rows.push(identify_namespace());
    rows.extend(identify_others());
    rows
}

fn small_structures() -> Vec<Row> {
    vec![
        row!("cqe", Cqe, {
            0 le64 (result) = 0x1122_3344_5566_7788;
            8 le16 (sqhd) = 5;
            10 le16 (sqid) = 6;
            12 le16 (cid) = 7;
            14 le16 (status) = 0xc503;
        }),
        meaning!("cqe_read_error", Cqe, 16, {
            0 le32 = 0xdead_beef; 8 le16 = 9; 12 le16 = 0x42; 14 le16 = 0x8000 | 2 << 9 | 0x81 << 1;
        }, Cqe::new(0x42, 9, Status::UNRECOVERED_READ_ERROR.with_dnr(), 0xdead_beef),
        |b| Cqe::decode(b).copied(), |v| v.as_wire().to_vec()),
        row!("sgl_descriptor", SglDescriptor, {
            0 le64 (address) = 0x0102_0304_0506_0708;
            8 le32 (length) = 0x2000;
            12 raw (tail) = &[1, 2, 3];
            15 byte (identifier) = 0x00;
        }),
        meaning!("sgl_in_capsule", Sgl, 16, { 0 le64 = 512; 8 le32 = 4096; 15 byte = 0x01; },
        Sgl::InCapsule { offset: 512, len_bytes: 4096 },
        |b| SglDescriptor::decode(b)?.parse(), |v| v.encode().as_wire().to_vec()),
        meaning!("sgl_transport", Sgl, 16, { 8 le32 = 1 << 20; 15 byte = 0x5a; },
        Sgl::Transport { len_bytes: 1 << 20 },
        |b| SglDescriptor::decode(b)?.parse(), |v| v.encode().as_wire().to_vec()),
        meaning!("sgl_keyed_invalidate", Sgl, 16, {
            0 le64 = 0x7f00_0000_1000; 8 raw = &[0x00, 0x10, 0x20]; 11 le32 = 0xa1b2_c3d4;
            15 byte = 0x4f;
        }, Sgl::Keyed {
            address: 0x7f00_0000_1000, len_bytes: 0x0020_1000, key: 0xa1b2_c3d4, invalidate: true,
        }, |b| SglDescriptor::decode(b)?.parse(), |v| v.encode().as_wire().to_vec()),
        meaning!("sgl_last_segment", Sgl, 16, { 0 le64 = 64; 8 le32 = 32; 15 byte = 0x31; },
        Sgl::Segment { address: 64, len_bytes: 32, offset: true, last: true },
        |b| SglDescriptor::decode(b)?.parse(), |v| v.encode().as_wire().to_vec()),
        row!("dsm_range", DsmRange, {
            0 le32 (attributes) = 0x0000_0401;
            4 le32 (block_count) = 2048;
            8 le64 (slba) = 0x1_0000_0001;
        }),
        row!("host_identifier", HostIdentifier, { 0 raw (host_id) = b"0123456789abcdef"; }),
        row!("lba_format", LbaFormat, {
            0 le16 (ms) = 8;
            2 byte (lbads) = 12;
            3 byte (rp) = 1;
        }),
        row!("power_state", PowerState, {
            0 le16 (mp) = 2500;
            3 byte (flags) = 1;
            4 le32 (enlat_us) = 100;
            8 le32 (exlat_us) = 200;
            12 byte (rrt) = 1;
            13 byte (rrl) = 2;
            14 byte (rwt) = 3;
            15 byte (rwl) = 4;
            16 le16 (idlp) = 300;
            18 byte (ips) = 0x40;
            20 le16 (actp) = 400;
            22 byte (apw_aps) = 0x81;
        }),
    ]
}

fn identify_controller() -> Row {
    row!("identify_controller", IdentifyController, {
        0 le16 (vid) = 0x1af4;
        2 le16 (ssvid) = 0x1af5;
        4 raw (sn.0) = &padded("0123456789", b' ');
        24 raw (mn.0) = &padded("Bedplate volume", b' ');
        64 raw (fr.0) = &padded("0.1.0", b' ');
        72 byte (rab) = 6;
        73 raw (ieee) = &[0x11, 0x22, 0x33];
        76 byte (cmic) = 0x03;
        77 byte (mdts) = 8;
        78 le16 (cntlid) = 0x0101;
        80 le32 (ver) = 0x0002_0000;
        84 le32 (rtd3r_us) = 1001;
        88 le32 (rtd3e_us) = 1002;
        92 le32 (oaes) = 0x8000_0100;
        96 le32 (ctratt) = 0x41;
        100 le16 (rrls) = 0x11;
        111 byte (cntrltype) = 1;
        112 raw (fguid) = b"FEDCBA9876543210";
        128 le16 (crdt1) = 10;
        130 le16 (crdt2) = 20;
        132 le16 (crdt3) = 30;
        253 byte (nvmsr) = 1;
        254 byte (vwci) = 2;
        255 byte (mec) = 3;
        256 le16 (oacs) = 0x0008;
        258 byte (acl) = 7;
        259 byte (aerl) = 3;
        260 byte (frmw) = 0x03;
        261 byte (lpa) = 0x06;
        262 byte (elpe) = 63;
        263 byte (npss) = 1;
        264 byte (avscc) = 1;
        265 byte (apsta) = 1;
        266 le16 (wctemp) = 343;
        268 le16 (cctemp) = 353;
        270 le16 (mtfa) = 44;
        272 le32 (hmpre) = 45;
        276 le32 (hmmin) = 46;
        280 le128 (tnvmcap) = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
        296 le128 (unvmcap) = 0x1112;
        312 le32 (rpmbs) = 47;
        316 le16 (edstt) = 48;
        318 byte (dsto) = 49;
        319 byte (fwug) = 50;
        320 le16 (kas) = 1;
        322 le16 (hctma) = 51;
        324 le16 (mntmt) = 52;
        326 le16 (mxtmt) = 53;
        328 le32 (sanicap) = 54;
        332 le32 (hmminds) = 55;
        336 le16 (hmmaxd) = 56;
        338 le16 (nsetidmax) = 57;
        340 le16 (endgidmax) = 58;
        342 byte (anatt) = 59;
        343 byte (anacap) = 60;
        344 le32 (anagrpmax) = 61;
        348 le32 (nanagrpid) = 62;
        352 le32 (pels) = 63;
        356 le16 (did) = 64;
        368 le128 (megcap) = 65;
        512 byte (sqes) = 0x66;
        513 byte (cqes) = 0x44;
        514 le16 (maxcmd) = 128;
        516 le32 (nn) = 1024;
        520 le16 (oncs) = 0x008d;
        522 le16 (fuses) = 1;
        524 byte (fna) = 4;
        525 byte (vwc) = 7;
        526 le16 (awun) = 66;
        528 le16 (awupf) = 67;
        530 byte (nvscc) = 1;
        531 byte (nwpc) = 68;
        532 le16 (acwu) = 69;
        534 le16 (cdfs) = 3;
        536 le32 (sgls) = 0x0030_0001;
        540 le32 (mnan) = 70;
        544 le128 (maxdna) = 71;
        560 le32 (maxcna) = 72;
        768 raw (subnqn.0) = &padded(SUB, 0);
        1792 le32 (ioccsz) = 516;
        1796 le32 (iorcsz) = 1;
        1800 le16 (icdoff) = 73;
        1802 byte (fcatt) = 1;
        1803 byte (msdbd) = 1;
        1804 le16 (ofcs) = 1;
        2048 le16 (psd[0].mp) = 2500;
        3062 byte (psd[31].apw_aps) = 0x82;
    })
}

fn identify_namespace() -> Row {
    row!("identify_namespace", IdentifyNamespace, {
        0 le64 (nsze) = 262_144;
        8 le64 (ncap) = 262_143;
        16 le64 (nuse) = 4096;
        24 byte (nsfeat) = 0x19;
        25 byte (nlbaf) = 1;
        26 byte (flbas) = 1;
        27 byte (mc) = 1;
        28 byte (dpc) = 2;
        29 byte (dps) = 3;
        30 byte (nmic) = 1;
        31 byte (rescap) = 4;
        32 byte (fpi) = 5;
        33 byte (dlfeat) = 0x09;
        34 le16 (nawun) = 6;
        36 le16 (nawupf) = 7;
        38 le16 (nacwu) = 8;
        40 le16 (nabsn) = 9;
        42 le16 (nabo) = 10;
        44 le16 (nabspf) = 11;
        46 le16 (noiob) = 12;
        48 le128 (nvmcap) = 0x4000_0000;
        64 le16 (npwg) = 13;
        66 le16 (npwa) = 14;
        68 le16 (npdg) = 15;
        70 le16 (npda) = 16;
        72 le16 (nows) = 17;
        74 le16 (mssrl) = 18;
        76 le32 (mcl) = 19;
        80 byte (msrc) = 20;
        92 le32 (anagrpid) = 21;
        99 byte (nsattr) = 1;
        100 le16 (nvmsetid) = 22;
        102 le16 (endgid) = 23;
        104 raw (nguid) = b"nguid-nguid-ngui";
        120 raw (eui64) = b"eui64eui";
        130 byte (lbaf[0].lbads) = 9;
        132 le16 (lbaf[1].ms) = 8;
        134 byte (lbaf[1].lbads) = 12;
        383 byte (lbaf[63].rp) = 3;
    })
}

fn identify_others() -> Vec<Row> {
    vec![
        row!("identify_controller_nvm", IdentifyControllerNvm, {
            0 byte (vsl) = 8;
            1 byte (wzsl) = 9;
            2 byte (wusl) = 10;
            3 byte (dmrl) = 255;
            4 le32 (dmrsl) = 0x0102_0304;
            8 le64 (dmsl) = 0x0102_0304_0506_0708;
        }),
        row!("identify_namespace_nvm", IdentifyNamespaceNvm, {
            0 le64 (lbstm) = 0x0102_0304_0506_0708;
            8 byte (pic) = 3;
            12 le32 (elbaf[0]) = 0x11;
            264 le32 (elbaf[63]) = 0x22;
        }),
        row!("identify_namespace_independent", IdentifyNamespaceIndependent, {
            0 byte (nsfeat) = 8;
            1 byte (nmic) = 1;
            2 byte (rescap) = 2;
            3 byte (fpi) = 3;
            4 le32 (anagrpid) = 4;
            8 byte (nsattr) = 1;
            10 le16 (nvmsetid) = 5;
            12 le16 (endgid) = 6;
            14 byte (nstat) = 1;
        }),
        row!("io_command_sets", IoCommandSets, {
            0 le64 (vectors.0[0]) = 1;
            8 le64 (vectors.0[1]) = 5;
        }),
        meaning!("active_namespaces", NsidList, 4096, { 0 le32 = 1; 4 le32 = 3; 8 le32 = 700; },
        NsidList::new([1, 3, 700]), |b| NsidList::decode(b).copied(), |v| v.as_wire().to_vec()),
        descriptors(),
    ]
}

/// All descriptors of a list, in a form that owns nothing but numbers.
type Descriptors = Vec<(u8, Vec<u8>)>;

fn descriptors() -> Row {
    meaning!("namespace_descriptors", Descriptors, 4096, {
        0 byte = 1; 1 byte = 8; 4 raw = b"eui64eui";
        12 byte = 2; 13 byte = 16; 16 raw = b"nguid-nguid-ngui";
        32 byte = 3; 33 byte = 16; 36 raw = b"uuid-uuid-uuid-u";
        52 byte = 4; 53 byte = 1; 56 byte = 2;
        57 byte = 0x7f; 58 byte = 2; 61 raw = &[9, 8];
    }, vec![
        (1, b"eui64eui".to_vec()),
        (2, b"nguid-nguid-ngui".to_vec()),
        (3, b"uuid-uuid-uuid-u".to_vec()),
        (4, vec![2]),
        (0x7f, vec![9, 8]),
    ], |bytes| {
        if bytes.len() < 4096 {
            let (need_bytes, have_bytes) = (4096, bytes.len());
            return Err(Error::Truncated { what: "Identify", need_bytes, have_bytes });
        }
        DescriptorIter::new(bytes).map(|item| item.map(|descriptor| flat(&descriptor))).collect()
    }, |list| {
        let mut writer = DescriptorWriter::new();
        for (kind, value) in list {
            writer.push(&unflat(*kind, value)).expect("it fits");
        }
        writer.as_wire().to_vec()
    })
}

fn flat(descriptor: &NsDescriptor<'_>) -> (u8, Vec<u8>) {
    match descriptor {
        NsDescriptor::Eui64(id) => (1, id.to_vec()),
        NsDescriptor::Nguid(id) => (2, id.to_vec()),
        NsDescriptor::Uuid(id) => (3, id.to_vec()),
        NsDescriptor::Csi(csi) => (4, vec![csi.0]),
        NsDescriptor::Unknown(kind, value) => (kind.0, value.to_vec()),
    }
}

fn unflat(kind: u8, value: &[u8]) -> NsDescriptor<'_> {
    match kind {
        1 => NsDescriptor::Eui64(value.try_into().expect("8 bytes")),
        2 => NsDescriptor::Nguid(value.try_into().expect("16 bytes")),
        3 => NsDescriptor::Uuid(value.try_into().expect("16 bytes")),
        4 => NsDescriptor::Csi(Csi(value[0])),
        other => NsDescriptor::Unknown(NsidType(other), value),
    }
}

/// Log pages.
pub fn logs() -> Vec<Row> {
    vec![
        row!("log_error_entry", ErrorEntry, {
            0 le64 (error_count) = 5;
            8 le16 (sqid) = 1;
            10 le16 (cid) = 2;
            12 le16 (status) = 0x4502;
            14 le16 (parameter_location) = 0xffff;
            16 le64 (lba) = 0x1_0000_0000;
            24 le32 (nsid) = 1;
            28 byte (vendor_log) = 0xc0;
            29 byte (trtype) = 3;
            32 le64 (command_specific) = 6;
            40 le16 (transport_specific) = 7;
        }),
        row!("log_smart", SmartLog, {
            0 byte (critical_warning) = 0x08;
            1 le16 (composite_temperature) = 310;
            3 byte (available_spare) = 100;
            4 byte (available_spare_threshold) = 10;
            5 byte (percentage_used) = 1;
            6 byte (endurance_group_warning) = 2;
            32 le128 (data_units_read) = 1 << 64;
            48 le128 (data_units_written) = 2;
            64 le128 (host_read_commands) = 3;
            80 le128 (host_write_commands) = 4;
            96 le128 (controller_busy_minutes) = 5;
            112 le128 (power_cycles) = 6;
            128 le128 (power_on_hours) = 7;
            144 le128 (unsafe_shutdowns) = 8;
            160 le128 (media_errors) = 9;
            176 le128 (error_log_entries) = 10;
            192 le32 (warning_temperature_minutes) = 11;
            196 le32 (critical_temperature_minutes) = 12;
            200 le16 (temperature_sensors[0]) = 300;
            214 le16 (temperature_sensors[7]) = 301;
            216 le32 (thermal_transitions_1) = 13;
            220 le32 (thermal_transitions_2) = 14;
            224 le32 (thermal_seconds_1) = 15;
            228 le32 (thermal_seconds_2) = 16;
        }),
        row!("log_firmware_slot", FirmwareSlotLog, {
            0 byte (afi) = 0x21;
            8 raw (revisions[0].0) = &padded("0.1.0", b' ');
            56 raw (revisions[6].0) = &padded("7.0", b' ');
        }),
        row!("log_commands_effects", CommandsEffectsLog, {
            8 le32 (admin.0[0x02]) = 1;
            24 le32 (admin.0[0x06]) = 1;
            1024 le32 (io.0[0x00]) = 1;
            1028 le32 (io.0[0x01]) = 0x0000_0003;
            1060 le32 (io.0[0x09]) = 0x0010_0003;
            2044 le32 (io.0[0xff]) = 0x8000_0000;
        }),
        row!("log_supported_pages", SupportedLogPages, {
            0 le32 (pages.0[0]) = 1;
            448 le32 (pages.0[0x70]) = 3;
        }),
        meaning!("log_changed_namespaces", NsidList, 4096, { 0 le32 = 0xffff_ffff; },
        NsidList::new([u32::MAX]), |b| NsidList::decode(b).copied(), |v| v.as_wire().to_vec()),
    ]
}

/// Fabrics commands and data.
pub fn fabrics() -> Vec<Row> {
    let mut rows = fabrics_commands();
    rows.extend([
        row!("connect_data", ConnectData, {
            0 raw (hostid) = b"host-id-host-id-";
            16 le16 (cntlid) = 0xffff;
            256 raw (subnqn.0) = &padded(SUB, 0);
            512 raw (hostnqn.0) = &padded(HOST, 0);
        }),
        row!("discovery_header", DiscoveryHeader, {
            0 le64 (genctr) = 3;
            8 le64 (numrec) = 2;
            16 le16 (recfmt) = 0;
        }),
        row!("discovery_entry", DiscoveryEntry, {
            0 byte (trtype.0) = 3;
            1 byte (adrfam.0) = 1;
            2 byte (subtype.0) = 2;
            3 byte (treq) = 4;
            4 le16 (portid) = 1;
            6 le16 (cntlid) = 0xffff;
            8 le16 (asqsz) = 32;
            10 le16 (eflags) = 1;
            32 raw (trsvcid.0) = &padded("4420", b' ');
            256 raw (subnqn.0) = &padded(SUB, 0);
            512 raw (traddr.0) = &padded("127.0.0.1", b' ');
            768 byte (tsas.0[0]) = 0;
        }),
    ]);
    rows
}

fn fabrics_commands() -> Vec<Row> {
    vec![
        row!("connect_command_all_fields", ConnectCommand, {
            0 byte (opcode) = 0x7f;
            1 byte (flags) = 0x40;
            2 le16 (cid) = 1;
            4 byte (fctype.0) = 1;
            32 le32 (sgl.length) = 1024;
            39 byte (sgl.identifier) = 1;
            40 le16 (recfmt) = 2;
            42 le16 (qid) = 3;
            44 le16 (sqsize) = 127;
            46 byte (cattr) = 4;
            48 le32 (kato_ms) = 120_000;
        }),
        meaning!("connect_command", ConnectCommand, 64, {
            0 byte = 0x7f; 1 byte = 0x40; 2 le16 = 1; 4 byte = 1; 32 le32 = 1024; 39 byte = 1;
            42 le16 = 0; 44 le16 = 31; 48 le32 = 15_000;
        }, ConnectCommand::new(1, 0, 32, 15_000).expect("32 entries"),
        |b| ConnectCommand::from_sqe(sqe(b)?).copied(), |v| v.to_sqe().as_wire().to_vec()),
        meaning!("property_get", PropertyGet, 64, {
            0 byte = 0x7f; 1 byte = 0x40; 2 le16 = 2; 4 byte = 4; 40 byte = 1; 44 le32 = 0;
        }, PropertyGet::new(2, PropertySize::EIGHT, offset::CAP),
        |b| PropertyGet::from_sqe(sqe(b)?).copied(), |v| v.to_sqe().as_wire().to_vec()),
        meaning!("property_set", PropertySet, 64, {
            0 byte = 0x7f; 1 byte = 0x40; 2 le16 = 3; 40 byte = 0; 44 le32 = 0x14;
            48 le64 = 0x0046_0001;
        }, PropertySet::new(3, PropertySize::FOUR, offset::CC, 0x0046_0001),
        |b| PropertySet::from_sqe(sqe(b)?).copied(), |v| v.to_sqe().as_wire().to_vec()),
        meaning!("disconnect", Disconnect, 64, {
            0 byte = 0x7f; 1 byte = 0x40; 2 le16 = 4; 4 byte = 8;
        }, Disconnect::new(4),
        |b| Disconnect::from_sqe(sqe(b)?).copied(), |v| v.to_sqe().as_wire().to_vec()),
    ]
}

#[test]
fn a_decoder_refuses_every_other_command() {
    let wrong = Sqe::new(AdminOpcode::FIRMWARE_COMMIT.0, 1, 1);
    assert!(ReadWrite::decode(&wrong).is_err());
    assert!(WriteZeroes::decode(&wrong).is_err());
    assert!(DatasetManagement::decode(&wrong).is_err());
    assert!(Identify::decode(&wrong).is_err());
    assert!(GetLogPage::decode(&wrong).is_err());
    assert!(GetFeatures::decode(&wrong).is_err());
    assert!(SetFeatures::decode(&wrong).is_err());
    assert!(Abort::decode(&wrong).is_err());
    let disconnect = Disconnect::new(1).to_sqe();
    assert!(ConnectCommand::from_sqe(&disconnect).is_err());
    assert!(PropertyGet::from_sqe(&disconnect).is_err());
    assert!(PropertySet::from_sqe(&disconnect).is_err());
    assert!(Disconnect::from_sqe(&wrong).is_err());
}
