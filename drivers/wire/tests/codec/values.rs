//! Numbers of the specification, written out: bit positions, codes and offsets.

use wire::fabrics::FabricsType;
use wire::fabrics::connect::{ConnectCommand, ConnectData, InvalidParameter, cattr};
use wire::nvme::command::{AsyncEvent, DataDirection, Psdt, ReadWrite, Sqe};
use wire::nvme::feature::{
    Arbitration, ErrorRecovery, NumberOfQueues, PowerManagement, TemperatureThreshold, async_event,
    capabilities, host_identifier, write_atomicity, write_cache,
};
use wire::nvme::identify::{
    IdentifyNamespace, ctratt, dlfeat, fna, nsfeat, oacs, ofcs, oncs, sgls, vwc,
};
use wire::nvme::log::{critical_warning, effects, log_page_support};
use wire::nvme::register::{Cap, Config, ControllerStatus, NSSR_MAGIC, Version, offset};
use wire::nvme::{NvmOpcode, Status};
use wire::tcp::{Framing, Layout, flags};

#[test]
fn register_fields_lie_where_the_specification_puts_them() {
    let cap = [
        (Cap(0).with_mqes(0xffff), 0xffff),
        (Cap(0).with_cqr(1), 1 << 16),
        (Cap(0).with_ams(3), 3 << 17),
        (Cap(0).with_timeout_500ms(0xff), 0xff << 24),
        (Cap(0).with_dstrd(0xf), 0xf << 32),
        (Cap(0).with_nssrs(1), 1 << 36),
        (Cap(0).with_css(0xff), 0xff << 37),
        (Cap(0).with_bps(1), 1 << 45),
        (Cap(0).with_cps(3), 3 << 46),
        (Cap(0).with_mpsmin(0xf), 0xf << 48),
        (Cap(0).with_mpsmax(0xf), 0xf << 52),
        (Cap(0).with_pmrs(1), 1 << 56),
        (Cap(0).with_cmbs(1), 1 << 57),
        (Cap(0).with_nsss(1), 1 << 58),
        (Cap(0).with_crms(3), 3 << 59),
    ];
    assert!(
        cap.iter().all(|(cap, bits): &(Cap, u64)| cap.0 == *bits),
        "{cap:?}"
    );
    let config = [
        (Config(0).with_en(1), 1),
        (Config(0).with_css(7), 7 << 4),
        (Config(0).with_mps(0xf), 0xf << 7),
        (Config(0).with_ams(7), 7 << 11),
        (Config(0).with_shn(3), 3 << 14),
        (Config(0).with_iosqes(0xf), 0xf << 16),
        (Config(0).with_iocqes(0xf), 0xf << 20),
        (Config(0).with_crime(1), 1 << 24),
    ];
    assert!(
        config
            .iter()
            .all(|(config, bits): &(Config, u32)| config.0 == *bits),
        "{config:?}"
    );
    let status = [
        (ControllerStatus(0).with_rdy(1), 1),
        (ControllerStatus(0).with_cfs(1), 2),
        (ControllerStatus(0).with_shst(3), 3 << 2),
        (ControllerStatus(0).with_nssro(1), 1 << 4),
        (ControllerStatus(0).with_pp(1), 1 << 5),
        (ControllerStatus(0).with_st(1), 1 << 6),
    ];
    assert!(
        status.iter().all(|(status, bits)| status.0 == *bits),
        "{status:?}"
    );
    assert_eq!(Version::V2_0, Version(0).with_major(2));
    assert_eq!(Version::V1_4, Version(0).with_major(1).with_minor(4));
    assert_eq!(Version(0).with_tertiary(0xff).0, 0xff);
    assert_eq!(NSSR_MAGIC.to_be_bytes(), *b"NVMe");
    let offsets = [
        offset::CAP,
        offset::VS,
        offset::CC,
        offset::CSTS,
        offset::NSSR,
        offset::CRTO,
    ];
    assert_eq!(offsets, [0x00, 0x08, 0x14, 0x1c, 0x20, 0x68]);
}

/// What a Linux host writes to CC to start a controller.
#[test]
fn a_linux_controller_configuration() {
    let config = Config(0x0046_0001);
    assert_eq!(
        (config.en(), config.css(), config.mps(), config.shn()),
        (1, 0, 0, 0)
    );
    assert_eq!((config.iosqes(), config.iocqes()), (6, 4));
}

#[test]
fn status_words() {
    let table = [
        (Status::SUCCESS, 0x0000),
        (Status::INVALID_OPCODE, 0x0002),
        (Status::INVALID_FIELD.with_dnr(), 0x8004),
        (Status::ABORTED_BY_REQUEST, 0x000e),
        (Status::SGL_TYPE_INVALID, 0x0022),
        (Status::SGL_OFFSET_INVALID, 0x002c),
        (Status::TRANSIENT_TRANSPORT_ERROR, 0x0044),
        (Status::LBA_OUT_OF_RANGE.with_more(), 0x4100),
        (Status::CAPACITY_EXCEEDED, 0x0102),
        (Status::NAMESPACE_NOT_READY.with_retry_delay(3), 0x3104),
        (Status::AER_LIMIT_EXCEEDED, 0x020a),
        (Status::INVALID_LOG_PAGE, 0x0212),
        (Status::CONNECT_INVALID_PARAMETERS, 0x0304),
        (Status::CONNECT_INVALID_HOST, 0x0308),
        (Status::COMMAND_SIZE_LIMIT_EXCEEDED, 0x0306),
        (Status::DISCOVER_RESTART, 0x0320),
        (Status::WRITE_FAULT, 0x0500),
        (Status::UNRECOVERED_READ_ERROR, 0x0502),
        (Status::COMPARE_FAILURE, 0x050a),
        (Status::ANA_INACCESSIBLE, 0x0604),
        (Status::ABORTED_BY_HOST, 0x06e2),
    ];
    for (status, field) in table {
        assert_eq!(status.field(false), field, "{status:?}");
        assert_eq!(status.field(true), field | 1, "{status:?}");
        assert_eq!(Status::from_field(field | 1), status);
    }
    assert_eq!(Status::build(2, 0x81, true, true), 0xc502);
    assert_eq!(
        format!("{:?}", Status::COMPARE_FAILURE.with_dnr()),
        "COMPARE_FAILURE do-not-retry"
    );
    assert!(Status::SUCCESS.with_more().is_success() && !Status::INVALID_FIELD.is_success());
}

#[test]
fn capability_bits() {
    let sixteen = [
        (oacs::NAMESPACE_MANAGEMENT, 0x08),
        (oncs::COMPARE, 0x01),
        (oncs::DATASET_MANAGEMENT, 0x04),
        (oncs::WRITE_ZEROES, 0x08),
        (oncs::RESERVATIONS, 0x20),
        (oncs::VERIFY, 0x80),
        (oncs::COPY, 0x100),
        (ofcs::DISCONNECT, 0x01),
    ];
    assert!(
        sixteen.iter().all(|(bit, value)| bit == value),
        "{sixteen:?}"
    );
    let thirty_two = [
        (ctratt::HOST_ID_128, 0x01),
        (ctratt::TRAFFIC_KEEP_ALIVE, 0x40),
        (sgls::SUPPORTED, 0x01),
        (sgls::SUPPORTED_DWORD, 0x02),
        (sgls::KEYED, 0x04),
        (sgls::OFFSET_ADDRESS, 0x0010_0000),
        (sgls::TRANSPORT, 0x0020_0000),
        (async_event::NAMESPACE_ATTRIBUTE, 0x100),
        (async_event::ANA_CHANGE, 0x800),
        (async_event::DISCOVERY_LOG, 0x8000_0000),
        (capabilities::CHANGEABLE, 0x04),
        (host_identifier::EXTENDED, 0x01),
        (write_cache::ENABLE, 0x01),
        (write_atomicity::DISABLE_NORMAL, 0x01),
        (effects::CSUPP, 0x01),
        (effects::LBCC, 0x02),
        (effects::SCOPE_NAMESPACE, 0x0010_0000),
        (log_page_support::LSUPP, 0x01),
        (log_page_support::IOS, 0x02),
    ];
    assert!(
        thirty_two.iter().all(|(bit, value)| bit == value),
        "{thirty_two:?}"
    );
    let eight = [
        (vwc::PRESENT | vwc::FLUSH_ALL_YES, 0x07),
        (vwc::PRESENT | vwc::FLUSH_ALL_NO, 0x05),
        (nsfeat::THIN, 0x01),
        (nsfeat::NAMESPACE_ATOMICS, 0x02),
        (nsfeat::OPTIMAL_IO, 0x10),
        (dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATE, 0x09),
        (fna::CRYPTO_ERASE, 0x04),
        (critical_warning::READ_ONLY, 0x08),
        (cattr::DISABLE_SQ_FLOW_CONTROL, 0x04),
        (
            flags::HDGSTF | flags::DDGSTF | flags::LAST_PDU | flags::SUCCESS,
            0x0f,
        ),
        (flags::LAST_PDU, 0x04),
    ];
    assert!(eight.iter().all(|(bit, value)| bit == value), "{eight:?}");
}

#[test]
fn feature_dwords() {
    let queues = NumberOfQueues {
        submission_zero_based: 63,
        completion_zero_based: 31,
    };
    assert_eq!(queues.encode(), 0x001f_003f);
    let arbitration = Arbitration {
        burst: 7,
        low_weight: 1,
        medium_weight: 2,
        high_weight: 3,
    };
    assert_eq!(arbitration.encode(), 0x0302_0107);
    assert_eq!(
        PowerManagement {
            power_state: 2,
            workload_hint: 3
        }
        .encode(),
        0x62
    );
    let threshold = TemperatureThreshold {
        kelvin: 343,
        sensor: 2,
        under: true,
    };
    assert_eq!(threshold.encode(), 0x0012_0157);
    assert_eq!(
        ErrorRecovery {
            timeout_100ms: 9,
            deallocated_error: true
        }
        .encode(),
        0x0001_0009
    );
    assert_eq!(AsyncEvent::NAMESPACE_CHANGED.encode(), 0x0004_0002);
    assert_eq!(AsyncEvent::DISCOVERY_LOG_CHANGED.encode(), 0x0070_f002);
}

/// The constants point at the fields that the structures have.
#[test]
fn connect_parameters_name_their_fields() {
    use core::mem::offset_of;
    let table = [
        (
            InvalidParameter::QID,
            offset_of!(ConnectCommand, qid),
            false,
            42,
        ),
        (
            InvalidParameter::SQSIZE,
            offset_of!(ConnectCommand, sqsize),
            false,
            44,
        ),
        (
            InvalidParameter::CATTR,
            offset_of!(ConnectCommand, cattr),
            false,
            46,
        ),
        (
            InvalidParameter::KATO,
            offset_of!(ConnectCommand, kato_ms),
            false,
            48,
        ),
        (
            InvalidParameter::HOSTID,
            offset_of!(ConnectData, hostid),
            true,
            0,
        ),
        (
            InvalidParameter::CNTLID,
            offset_of!(ConnectData, cntlid),
            true,
            16,
        ),
        (
            InvalidParameter::SUBNQN,
            offset_of!(ConnectData, subnqn),
            true,
            256,
        ),
        (
            InvalidParameter::HOSTNQN,
            offset_of!(ConnectData, hostnqn),
            true,
            512,
        ),
    ];
    for (parameter, field, in_data, number) in table {
        assert_eq!(
            (usize::from(parameter.offset), parameter.in_data),
            (field, in_data)
        );
        assert_eq!(parameter.encode(), number | u32::from(in_data) << 16);
    }
}

#[test]
fn the_format_in_use() {
    let table = [(0x00, 0, Some(9)), (0x01, 1, Some(12)), (0x01, 0, None)];
    for (flbas, nlbaf, expected) in table {
        let mut namespace = IdentifyNamespace {
            flbas,
            nlbaf,
            ..IdentifyNamespace::zeroed()
        };
        (namespace.lbaf[0].lbads, namespace.lbaf[1].lbads) = (9, 12);
        assert_eq!(
            namespace.format_in_use().map(|format| format.lbads),
            expected
        );
    }
    // Index 17: bit 4 of the index is bit 5 of FLBAS; bit 4 of FLBAS is about metadata.
    for (flbas, expected) in [(0x21, 17), (0x31, 17), (0x11, 1), (0x41, 33), (0x6f, 63)] {
        let mut namespace = IdentifyNamespace {
            flbas,
            nlbaf: 63,
            ..IdentifyNamespace::zeroed()
        };
        for (format, index) in namespace.lbaf.iter_mut().zip(0..) {
            format.lbads = index;
        }
        let found = namespace.format_in_use().map(|format| format.lbads);
        assert_eq!(found, Some(expected), "{flbas:#x}");
    }
}

#[test]
fn data_goes_where_the_opcode_says() {
    let direction = |opcode: NvmOpcode| Sqe::new(opcode.0, 1, 1).data_direction();
    assert_eq!(direction(NvmOpcode::FLUSH), DataDirection::None);
    assert_eq!(direction(NvmOpcode::WRITE), DataDirection::HostToController);
    assert_eq!(direction(NvmOpcode::READ), DataDirection::ControllerToHost);
    assert_eq!(
        direction(NvmOpcode::COMPARE),
        DataDirection::HostToController
    );
    assert_eq!(direction(NvmOpcode::VERIFY), DataDirection::None);
    let connect = ConnectCommand::new(1, 0, 32, 0)
        .expect("32 entries")
        .to_sqe();
    assert_eq!(connect.fabrics_type(), Some(FabricsType::CONNECT));
    assert_eq!(connect.data_direction(), DataDirection::HostToController);
    assert_eq!(connect.psdt(), Psdt::SGL);
    assert_eq!(Sqe::flush(1, 1).fabrics_type(), None);
}

#[test]
fn block_counts_that_cannot_be_sent() {
    assert!(ReadWrite::new(0, 0).is_err());
    assert!(ReadWrite::new(0, 65_537).is_err());
    assert_eq!(
        ReadWrite::new(0, 65_536).map(|range| range.block_count()),
        Ok(65_536)
    );
}

#[test]
fn padding_follows_the_alignment() {
    // (HLEN, digests, PDA) and where the data starts.
    let table = [
        (72, false, 0, 72),
        (72, true, 0, 76),
        (72, true, 1, 80),
        (72, false, 2, 72),
        (72, true, 2, 84),
        (24, true, 15, 64),
        (72, true, 31, 128),
    ];
    for (hlen, digests, pda, start) in table {
        let framing = Framing {
            header_digest: digests,
            data_digest: digests,
            pda,
        };
        assert_eq!(
            Layout::to_send(hlen, 512, &framing).data_offset(),
            start,
            "{hlen} {pda}"
        );
    }
}
