//! Headers that an initiator sends, and what a target reads from them.
//!
//! Every constructor fills what is fixed: opcode, FINAL, tags that name nothing. What a caller
//! wants to differ, it sets after.
//!
//! Source: RFC 7143 section 11.

use zerocopy::big_endian::{U16, U32};

use super::codes::flags;
use super::parts::{Extent, InitiatorNumbers, LoginFlags};
use super::pdu::{FINAL, IMMEDIATE, data_len};
use super::{
    DataOut, LoginRequest, LogoutReason, LogoutRequest, NopOut, Opcode, ScsiCommand, TaskFunction,
    TaskRequest, TextRequest,
};

/// Fills the two numbers of an initiator's header.
macro_rules! ordered {
    ($numbers:expr, $name:ident { $($field:ident : $value:expr),* $(,)? }) => {
        $name {
            cmd_sn: U32::new($numbers.cmd_sn),
            exp_stat_sn: U32::new($numbers.exp_stat_sn),
            flags: FINAL,
            $($field: $value,)*
            ..$name::zeroed()
        }
    };
}

impl LoginRequest {
    /// A request of an initiator; always immediate.
    #[must_use]
    pub fn new(
        isid: [u8; 6],
        (tsih, cid): (u16, u16),
        itt: u32,
        form: LoginFlags,
        len_bytes: usize,
        numbers: InitiatorNumbers,
    ) -> Self {
        let mut pdu = ordered!(
            numbers,
            LoginRequest {
                opcode: Opcode::LOGIN_REQUEST.0 | IMMEDIATE,
                data_len: data_len(len_bytes),
                isid: isid,
                tsih: U16::new(tsih),
                itt: U32::new(itt),
                cid: U16::new(cid),
            }
        );
        pdu.flags = form.encode();
        pdu
    }

    /// The flags.
    #[must_use]
    pub const fn form(&self) -> LoginFlags {
        LoginFlags::decode(self.flags)
    }
}

impl ScsiCommand {
    /// A simple task without its data; `direction` is [`flags::READ`], [`flags::WRITE`] or 0. FINAL
    /// is set: no unsolicited Data-Out follows.
    #[must_use]
    pub fn new(
        itt: u32,
        lun: [u8; 8],
        cdb: [u8; 16],
        direction: u8,
        expected_len: u32,
        numbers: InitiatorNumbers,
    ) -> Self {
        let mut pdu = ordered!(
            numbers,
            ScsiCommand {
                opcode: Opcode::SCSI_COMMAND.0,
                lun: lun,
                itt: U32::new(itt),
                expected_len: U32::new(expected_len),
                cdb: cdb,
            }
        );
        pdu.flags |= direction | super::TaskAttribute::SIMPLE.0;
        pdu
    }

    /// The task attribute.
    #[must_use]
    pub const fn attribute(&self) -> super::TaskAttribute {
        super::TaskAttribute(self.flags & flags::ATTRIBUTE)
    }

    /// Whether data comes from the target.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.flags & flags::READ != 0
    }

    /// Whether data goes to the target.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.flags & flags::WRITE != 0
    }
}

impl DataOut {
    /// Data for the target: `ttt` is the R2T's, or [`NO_TAG`] for unsolicited data.
    #[must_use]
    pub fn new(
        itt: u32,
        ttt: u32,
        lun: [u8; 8],
        extent: Extent,
        last: bool,
        exp_stat_sn: u32,
    ) -> Self {
        Self {
            opcode: Opcode::DATA_OUT.0,
            flags: if last { FINAL } else { 0 },
            data_len: data_len(extent.len_bytes as usize),
            lun,
            itt: U32::new(itt),
            ttt: U32::new(ttt),
            exp_stat_sn: U32::new(exp_stat_sn),
            data_sn: U32::new(extent.sn),
            buffer_offset: U32::new(extent.offset),
            ..Self::zeroed()
        }
    }
}

impl TaskRequest {
    /// Asks for a function; always immediate.
    #[must_use]
    pub fn new(
        itt: u32,
        lun: [u8; 8],
        function: TaskFunction,
        ref_task_tag: u32,
        ref_cmd_sn: u32,
        numbers: InitiatorNumbers,
    ) -> Self {
        let mut pdu = ordered!(
            numbers,
            TaskRequest {
                opcode: Opcode::TASK_REQUEST.0 | IMMEDIATE,
                lun: lun,
                itt: U32::new(itt),
                ref_task_tag: U32::new(ref_task_tag),
                ref_cmd_sn: U32::new(ref_cmd_sn),
            }
        );
        pdu.flags |= function.0;
        pdu
    }

    /// The function.
    #[must_use]
    pub const fn function(&self) -> TaskFunction {
        TaskFunction(self.flags & !FINAL)
    }
}

impl LogoutRequest {
    /// Asks for a logout; always immediate.
    #[must_use]
    pub fn new(itt: u32, reason: LogoutReason, cid: u16, numbers: InitiatorNumbers) -> Self {
        let mut pdu = ordered!(
            numbers,
            LogoutRequest {
                opcode: Opcode::LOGOUT_REQUEST.0 | IMMEDIATE,
                itt: U32::new(itt),
                cid: U16::new(cid),
            }
        );
        pdu.flags |= reason.0;
        pdu
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> LogoutReason {
        LogoutReason(self.flags & !FINAL)
    }
}

impl TextRequest {
    /// The last (or only) request of an exchange; not immediate.
    #[must_use]
    pub fn new(itt: u32, ttt: u32, len_bytes: usize, numbers: InitiatorNumbers) -> Self {
        ordered!(
            numbers,
            TextRequest {
                opcode: Opcode::TEXT_REQUEST.0,
                data_len: data_len(len_bytes),
                itt: U32::new(itt),
                ttt: U32::new(ttt),
            }
        )
    }
}

impl NopOut {
    /// A ping with `len_bytes` of data, or (with [`NO_TAG`] and the target's tag) the answer to
    /// one; always immediate.
    #[must_use]
    pub fn new(
        itt: u32,
        ttt: u32,
        lun: [u8; 8],
        len_bytes: usize,
        numbers: InitiatorNumbers,
    ) -> Self {
        ordered!(
            numbers,
            NopOut {
                opcode: Opcode::NOP_OUT.0 | IMMEDIATE,
                data_len: data_len(len_bytes),
                lun: lun,
                itt: U32::new(itt),
                ttt: U32::new(ttt),
            }
        )
    }
}
