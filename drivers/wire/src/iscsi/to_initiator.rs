//! Headers that a target sends, and what an initiator reads from them.
//!
//! Every constructor fills what is fixed: opcode, FINAL, tags that name nothing. What a caller
//! wants to differ, it sets after.
//!
//! Source: RFC 7143 section 11.

use zerocopy::big_endian::{U16, U32};

use super::codes::flags;
use super::parts::{Extent, LoginFlags, Residual, TargetNumbers};
use super::pdu::{FINAL, data_len};
use super::{
    AsyncEvent, AsyncMessage, DataIn, LoginRequest, LoginResponse, LoginStatus, LogoutResponse,
    LogoutResult, NO_TAG, NopIn, Opcode, R2t, Reject, RejectReason, Response, ScsiResponse,
    TaskResponse, TaskResult, TextResponse,
};

/// Fills the three numbers of a target's header.
macro_rules! numbered {
    ($numbers:expr, $name:ident { $($field:ident : $value:expr),* $(,)? }) => {
        $name {
            stat_sn: U32::new($numbers.stat_sn),
            exp_cmd_sn: U32::new($numbers.exp_cmd_sn),
            max_cmd_sn: U32::new($numbers.max_cmd_sn),
            flags: FINAL,
            $($field: $value,)*
            ..$name::zeroed()
        }
    };
}

impl ScsiResponse {
    /// The end of a command. `data_sn_count` is the number of Data-In and R2T PDUs it had, `sense_len`
    /// the length of the data segment.
    #[must_use]
    pub fn new(
        itt: u32,
        status: u8,
        residual: Residual,
        data_sn_count: u32,
        sense_len: usize,
        numbers: TargetNumbers,
    ) -> Self {
        let (flag, count) = residual.encode();
        let mut pdu = numbered!(
            numbers,
            ScsiResponse {
                opcode: Opcode::SCSI_RESPONSE.0,
                response: Response::COMPLETED.0,
                status: status,
                data_len: data_len(sense_len),
                itt: U32::new(itt),
                exp_data_sn: U32::new(data_sn_count),
                residual: U32::new(count),
            }
        );
        pdu.flags |= flag;
        pdu
    }

    /// The command did not get to its end for a reason that is not SCSI's.
    #[must_use]
    pub fn target_failure(itt: u32, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            ScsiResponse {
                opcode: Opcode::SCSI_RESPONSE.0,
                response: Response::TARGET_FAILURE.0,
                itt: U32::new(itt),
            }
        )
    }
}

impl DataIn {
    /// Data without a status. `last` ends a sequence. The StatSN of such a PDU means nothing.
    #[must_use]
    pub fn new(itt: u32, extent: Extent, last: bool, numbers: TargetNumbers) -> Self {
        let mut pdu = numbered!(
            numbers,
            DataIn {
                opcode: Opcode::DATA_IN.0,
                data_len: data_len(extent.len_bytes as usize),
                itt: U32::new(itt),
                ttt: U32::new(NO_TAG),
                data_sn: U32::new(extent.sn),
                buffer_offset: U32::new(extent.offset),
            }
        );
        pdu.stat_sn = U32::ZERO;
        if !last {
            pdu.flags = 0;
        }
        pdu
    }

    /// The last data of a command, with its status; only for commands that end well.
    #[must_use]
    pub fn with_status(
        itt: u32,
        extent: Extent,
        status: u8,
        residual: Residual,
        numbers: TargetNumbers,
    ) -> Self {
        let (flag, count) = residual.encode();
        let mut pdu = Self::new(itt, extent, true, numbers);
        pdu.flags |= flags::STATUS | flag;
        pdu.status = status;
        pdu.stat_sn = U32::new(numbers.stat_sn);
        pdu.residual = U32::new(count);
        pdu
    }
}

impl R2t {
    /// Asks for data. The StatSN is the next one, and does not advance.
    #[must_use]
    pub fn new(itt: u32, ttt: u32, lun: [u8; 8], extent: Extent, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            R2t {
                opcode: Opcode::R2T.0,
                lun: lun,
                itt: U32::new(itt),
                ttt: U32::new(ttt),
                r2t_sn: U32::new(extent.sn),
                buffer_offset: U32::new(extent.offset),
                desired_len: U32::new(extent.len_bytes),
            }
        )
    }
}

impl TaskResponse {
    /// What came of a task management function.
    #[must_use]
    pub fn new(itt: u32, result: TaskResult, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            TaskResponse {
                opcode: Opcode::TASK_RESPONSE.0,
                response: result.0,
                itt: U32::new(itt),
            }
        )
    }
}

impl LogoutResponse {
    /// What came of a logout. The times are in seconds.
    #[must_use]
    pub fn new(
        itt: u32,
        result: LogoutResult,
        (time2wait, time2retain): (u16, u16),
        numbers: TargetNumbers,
    ) -> Self {
        numbered!(
            numbers,
            LogoutResponse {
                opcode: Opcode::LOGOUT_RESPONSE.0,
                response: result.0,
                itt: U32::new(itt),
                time2wait: U16::new(time2wait),
                time2retain: U16::new(time2retain),
            }
        )
    }
}

impl NopIn {
    /// The answer to a NOP-Out, whose data of `len_bytes` comes back.
    #[must_use]
    pub fn answer(itt: u32, lun: [u8; 8], len_bytes: usize, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            NopIn {
                opcode: Opcode::NOP_IN.0,
                data_len: data_len(len_bytes),
                lun: lun,
                itt: U32::new(itt),
                ttt: U32::new(NO_TAG),
            }
        )
    }

    /// A ping of the target: a NOP-Out with `ttt` is wanted; [`NO_TAG`] wants none and only tells
    /// the numbers. The StatSN is the next one, and does not advance.
    #[must_use]
    pub fn ping(ttt: u32, lun: [u8; 8], numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            NopIn {
                opcode: Opcode::NOP_IN.0,
                lun: lun,
                itt: U32::new(NO_TAG),
                ttt: U32::new(ttt),
            }
        )
    }
}

impl Reject {
    /// Refuses a PDU, whose basic header of 48 bytes is the data segment.
    #[must_use]
    pub fn new(reason: RejectReason, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            Reject {
                opcode: Opcode::REJECT.0,
                reason: reason.0,
                data_len: data_len(super::BHS_BYTES),
                tag: U32::new(NO_TAG),
            }
        )
    }
}

impl AsyncMessage {
    /// An event other than a SCSI one; the parameters are the event's.
    #[must_use]
    pub fn new(event: AsyncEvent, parameters: [u16; 3], numbers: TargetNumbers) -> Self {
        let [first, second, third] = parameters.map(U16::new);
        numbered!(
            numbers,
            AsyncMessage {
                opcode: Opcode::ASYNC_MESSAGE.0,
                tag: U32::new(NO_TAG),
                event: event.0,
                parameter1: first,
                parameter2: second,
                parameter3: third,
            }
        )
    }
}

impl TextResponse {
    /// The last (or only) response of an exchange.
    #[must_use]
    pub fn last(itt: u32, lun: [u8; 8], len_bytes: usize, numbers: TargetNumbers) -> Self {
        numbered!(
            numbers,
            TextResponse {
                opcode: Opcode::TEXT_RESPONSE.0,
                data_len: data_len(len_bytes),
                lun: lun,
                itt: U32::new(itt),
                ttt: U32::new(NO_TAG),
            }
        )
    }

    /// A response that is not the last: the initiator goes on with `ttt`. `cut` says that the text
    /// itself ends in the middle.
    #[must_use]
    pub fn more(
        itt: u32,
        ttt: u32,
        lun: [u8; 8],
        len_bytes: usize,
        cut: bool,
        numbers: TargetNumbers,
    ) -> Self {
        let mut pdu = Self::last(itt, lun, len_bytes, numbers);
        pdu.flags = if cut { flags::CONTINUE } else { 0 };
        pdu.ttt = U32::new(ttt);
        pdu
    }
}

impl LoginResponse {
    /// The answer to `request`; refused when `status` is not success, and then the flags are zero.
    #[must_use]
    pub fn new(
        request: &LoginRequest,
        form: LoginFlags,
        tsih: u16,
        status: LoginStatus,
        len_bytes: usize,
        numbers: TargetNumbers,
    ) -> Self {
        let mut pdu = numbered!(
            numbers,
            LoginResponse {
                opcode: Opcode::LOGIN_RESPONSE.0,
                data_len: data_len(len_bytes),
                isid: request.isid,
                tsih: U16::new(tsih),
                itt: request.itt,
                status_class: status.class(),
                status_detail: status.detail(),
            }
        );
        let refused = status.class() >= 2;
        pdu.flags = if refused { 0 } else { form.encode() };
        pdu
    }

    /// Class and detail of the status.
    #[must_use]
    pub const fn status(&self) -> LoginStatus {
        LoginStatus::from_bytes(self.status_class, self.status_detail)
    }

    /// The flags.
    #[must_use]
    pub const fn form(&self) -> LoginFlags {
        LoginFlags::decode(self.flags)
    }
}
