//! Golden rows of iSCSI headers: offsets from the figures of RFC 7143 section 11, the same meaning
//! through the constructors.

use wire::iscsi::{
    AsyncEvent, AsyncMessage, Bhs, DataIn, DataOut, Extent, InitiatorNumbers, LoginFlags,
    LoginRequest, LoginResponse, LoginStatus, LogoutReason, LogoutRequest, LogoutResponse,
    LogoutResult, NO_TAG, NopIn, NopOut, R2t, Reject, RejectReason, Residual, ScsiCommand,
    ScsiResponse, SnackRequest, Stage, TargetNumbers, TaskFunction, TaskRequest, TaskResponse,
    TaskResult, TextRequest, TextResponse, flags,
};

use crate::golden::{Decoded, Row};
use crate::row;
use crate::spec_bytes::{SpecBytes, be16, be24, be32, byte, raw};

const ITT: u32 = 0x0102_0304;
const TTT: u32 = 0x1122_3344;
const LUN: [u8; 8] = [0, 5, 0, 0, 0, 0, 0, 0];
const ISID: [u8; 6] = [0x80, 0x12, 0x34, 0x56, 0x78, 0x9a];
const CDB: [u8; 16] = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0];
const TARGET: TargetNumbers = TargetNumbers {
    stat_sn: 0xa1a2_a3a4,
    exp_cmd_sn: 0xb1b2_b3b4,
    max_cmd_sn: 0xc1c2_c3c4,
};
const INITIATOR: InitiatorNumbers = InitiatorNumbers {
    cmd_sn: 0xd1d2_d3d4,
    exp_stat_sn: 0xe1e2_e3e4,
};
const EXTENT: Extent = Extent {
    sn: 7,
    offset: 0x0001_0000,
    len_bytes: 0x0002_0001,
};

/// Who fills bytes 24 to 35 of a header with its numbers.
trait Numbers {
    fn put(&self, spec: &mut SpecBytes);
}

impl Numbers for TargetNumbers {
    fn put(&self, spec: &mut SpecBytes) {
        spec.put(24, &be32(self.stat_sn).0);
        spec.put(28, &be32(self.exp_cmd_sn).0);
        spec.put(32, &be32(self.max_cmd_sn).0);
    }
}

impl Numbers for InitiatorNumbers {
    fn put(&self, spec: &mut SpecBytes) {
        spec.put(24, &be32(self.cmd_sn).0);
        spec.put(28, &be32(self.exp_stat_sn).0);
    }
}

/// Headers that have not all of them.
struct Own;

impl Numbers for Own {
    fn put(&self, _: &mut SpecBytes) {}
}

/// A header of 48 bytes: hand-laid beside its numbers, and from its constructor.
macro_rules! header {
    ($name:literal, $ty:ident, $numbers:expr, { $($off:literal $kind:ident = $value:expr;)* }, $built:expr) => {{
        let mut spec = SpecBytes::new(48);
        $numbers.put(&mut spec);
        $( spec.put($off, &$kind($value).0); )*
        let built: $ty = $built;
        Row {
            name: $name,
            covers: stringify!($ty),
            bytes: spec.0,
            encoded: built.as_wire().to_vec(),
            decode: |bytes| {
                let view = <$ty>::decode(bytes)?;
                Ok(Decoded {
                    debug: format!("{view:#?}"),
                    reencoded: view.as_wire().to_vec(),
                })
            },
        }
    }};
}

pub fn rows() -> Vec<Row> {
    let mut rows = commands();
    rows.extend(data());
    rows.extend(negotiation());
    rows.extend(management());
    rows
}

fn commands() -> Vec<Row> {
    vec![
        row!("iscsi_bhs", Bhs, {
            0 byte (opcode) = 0x41;
            1 byte (flags) = 0x80;
            2 raw (specific2) = &[1, 2];
            4 byte (ahs_words) = 3;
            5 raw (data_len) = &[4, 5, 6];
            8 raw (lun) = &LUN;
            16 be32 (itt) = ITT;
            20 raw (specific20) = &[9; 28];
        }),
        header!("iscsi_scsi_command", ScsiCommand, INITIATOR, {
            0 byte = 0x01;
            1 byte = 0xc1;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = 4096;
            32 raw = &CDB;
        }, ScsiCommand::new(ITT, LUN, CDB, flags::READ, 4096, INITIATOR)),
        header!("iscsi_scsi_response_underflow", ScsiResponse, TARGET, {
            0 byte = 0x21;
            1 byte = 0x82;
            3 byte = 0x02;
            5 be24 = 20;
            16 be32 = ITT;
            36 be32 = 3;
            44 be32 = 512;
        }, ScsiResponse::new(ITT, 2, Residual::of(1024, 512), 3, 20, TARGET)),
        header!("iscsi_scsi_response_failure", ScsiResponse, TARGET, {
            0 byte = 0x21;
            1 byte = 0x80;
            2 byte = 0x01;
            16 be32 = ITT;
        }, ScsiResponse::target_failure(ITT, TARGET)),
        header!("iscsi_task_request", TaskRequest, INITIATOR, {
            0 byte = 0x42;
            1 byte = 0x81;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = 0x5152_5354;
            32 be32 = 0x6162_6364;
        }, TaskRequest::new(
            ITT, LUN, TaskFunction::ABORT_TASK, 0x5152_5354, 0x6162_6364, INITIATOR,
        )),
        header!("iscsi_task_response", TaskResponse, TARGET, {
            0 byte = 0x22;
            1 byte = 0x80;
            2 byte = 0x05;
            16 be32 = ITT;
        }, TaskResponse::new(ITT, TaskResult::UNSUPPORTED, TARGET)),
    ]
}

fn data() -> Vec<Row> {
    vec![
        header!("iscsi_data_out", DataOut, Own, {
            0 byte = 0x05;
            1 byte = 0x80;
            5 be24 = EXTENT.len_bytes;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = TTT;
            28 be32 = INITIATOR.exp_stat_sn;
            36 be32 = 7;
            40 be32 = EXTENT.offset;
        }, DataOut::new(ITT, TTT, LUN, EXTENT, true, INITIATOR.exp_stat_sn)),
        header!("iscsi_data_in_middle", DataIn, Own, {
            0 byte = 0x25;
            5 be24 = EXTENT.len_bytes;
            16 be32 = ITT;
            20 be32 = NO_TAG;
            28 be32 = TARGET.exp_cmd_sn;
            32 be32 = TARGET.max_cmd_sn;
            36 be32 = 7;
            40 be32 = EXTENT.offset;
        }, DataIn::new(ITT, EXTENT, false, TARGET)),
        header!("iscsi_data_in_status", DataIn, TARGET, {
            0 byte = 0x25;
            1 byte = 0x85;
            3 byte = 0x00;
            5 be24 = EXTENT.len_bytes;
            16 be32 = ITT;
            20 be32 = NO_TAG;
            36 be32 = 7;
            40 be32 = EXTENT.offset;
            44 be32 = 9;
        }, DataIn::with_status(ITT, EXTENT, 0, Residual::Overflow(9), TARGET)),
        header!("iscsi_r2t", R2t, TARGET, {
            0 byte = 0x31;
            1 byte = 0x80;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = TTT;
            36 be32 = 7;
            40 be32 = EXTENT.offset;
            44 be32 = EXTENT.len_bytes;
        }, R2t::new(ITT, TTT, LUN, EXTENT, TARGET)),
        row!("iscsi_snack", SnackRequest, {
            0 byte (opcode) = 0x10;
            1 byte (flags) = 0x81;
            8 raw (lun) = &LUN;
            16 be32 (itt) = ITT;
            20 be32 (ttt) = TTT;
            28 be32 (exp_stat_sn) = INITIATOR.exp_stat_sn;
            40 be32 (beg_run) = 3;
            44 be32 (run_length) = 4;
        }),
    ]
}

const FORM: LoginFlags = LoginFlags {
    transit: true,
    continues: false,
    current: Stage::OPERATIONAL,
    next: Stage::FULL_FEATURE,
};

fn negotiation() -> Vec<Row> {
    let request = LoginRequest::new(ISID, (0, 0x0203), ITT, FORM, 300, INITIATOR);
    vec![
        header!("iscsi_login_request", LoginRequest, INITIATOR, {
            0 byte = 0x43;
            1 byte = 0x87;
            5 be24 = 300;
            8 raw = &ISID;
            16 be32 = ITT;
            20 be16 = 0x0203;
        }, request),
        header!("iscsi_login_response", LoginResponse, TARGET, {
            0 byte = 0x23;
            1 byte = 0x87;
            5 be24 = 200;
            8 raw = &ISID;
            14 be16 = 0x0708;
            16 be32 = ITT;
        }, LoginResponse::new(&request, FORM, 0x0708, LoginStatus::SUCCESS, 200, TARGET)),
        header!("iscsi_login_refused", LoginResponse, TARGET, {
            0 byte = 0x23;
            8 raw = &ISID;
            16 be32 = ITT;
            36 byte = 0x02;
            37 byte = 0x03;
        }, LoginResponse::new(&request, FORM, 0, LoginStatus::NOT_FOUND, 0, TARGET)),
        header!("iscsi_text_request", TextRequest, INITIATOR, {
            0 byte = 0x04;
            1 byte = 0x80;
            5 be24 = 16;
            16 be32 = ITT;
            20 be32 = NO_TAG;
        }, TextRequest::new(ITT, NO_TAG, 16, INITIATOR)),
        header!("iscsi_text_response", TextResponse, TARGET, {
            0 byte = 0x24;
            1 byte = 0x80;
            5 be24 = 99;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = NO_TAG;
        }, TextResponse::last(ITT, LUN, 99, TARGET)),
        header!("iscsi_text_response_cut", TextResponse, TARGET, {
            0 byte = 0x24;
            1 byte = 0x40;
            5 be24 = 8192;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = TTT;
        }, TextResponse::more(ITT, TTT, LUN, 8192, true, TARGET)),
    ]
}

fn management() -> Vec<Row> {
    vec![
        header!("iscsi_logout_request", LogoutRequest, INITIATOR, {
            0 byte = 0x46;
            1 byte = 0x81;
            16 be32 = ITT;
            20 be16 = 0x0203;
        }, LogoutRequest::new(ITT, LogoutReason::CLOSE_CONNECTION, 0x0203, INITIATOR)),
        header!("iscsi_logout_response", LogoutResponse, TARGET, {
            0 byte = 0x26;
            1 byte = 0x80;
            2 byte = 0x01;
            16 be32 = ITT;
            40 be16 = 2;
            42 be16 = 20;
        }, LogoutResponse::new(ITT, LogoutResult::NO_CID, (2, 20), TARGET)),
        header!("iscsi_nop_out", NopOut, INITIATOR, {
            0 byte = 0x40;
            1 byte = 0x80;
            5 be24 = 4;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = NO_TAG;
        }, NopOut::new(ITT, NO_TAG, LUN, 4, INITIATOR)),
        header!("iscsi_nop_in_answer", NopIn, TARGET, {
            0 byte = 0x20;
            1 byte = 0x80;
            5 be24 = 4;
            8 raw = &LUN;
            16 be32 = ITT;
            20 be32 = NO_TAG;
        }, NopIn::answer(ITT, LUN, 4, TARGET)),
        header!("iscsi_nop_in_ping", NopIn, TARGET, {
            0 byte = 0x20;
            1 byte = 0x80;
            8 raw = &LUN;
            16 be32 = NO_TAG;
            20 be32 = TTT;
        }, NopIn::ping(TTT, LUN, TARGET)),
        header!("iscsi_reject", Reject, TARGET, {
            0 byte = 0x3f;
            1 byte = 0x80;
            2 byte = 0x04;
            5 be24 = 48;
            16 be32 = NO_TAG;
        }, Reject::new(RejectReason::PROTOCOL_ERROR, TARGET)),
        header!("iscsi_async_message", AsyncMessage, TARGET, {
            0 byte = 0x32;
            1 byte = 0x80;
            16 be32 = NO_TAG;
            36 byte = 2;
            38 be16 = 1;
            40 be16 = 2;
            42 be16 = 20;
        }, AsyncMessage::new(AsyncEvent::DROP_CONNECTION, [1, 2, 20], TARGET)),
    ]
}
