//! The basic header segments, one structure for each opcode.
//!
//! Source: RFC 7143 section 11.

use zerocopy::big_endian::{U16, U32};

/// Bit of byte 0: a request that is not ordered by CmdSN.
pub const IMMEDIATE: u8 = 0x40;
/// Bit of byte 1: the last PDU of a sequence; Transit in a login.
pub const FINAL: u8 = 0x80;

open_enum! {
    /// Bits 5:0 of byte 0.
    Opcode: u8 {
        NOP_OUT = 0x00, "NOP-Out.";
        SCSI_COMMAND = 0x01, "SCSI Command.";
        TASK_REQUEST = 0x02, "Task Management Function Request.";
        LOGIN_REQUEST = 0x03, "Login Request.";
        TEXT_REQUEST = 0x04, "Text Request.";
        DATA_OUT = 0x05, "SCSI Data-Out.";
        LOGOUT_REQUEST = 0x06, "Logout Request.";
        SNACK_REQUEST = 0x10, "SNACK Request.";
        NOP_IN = 0x20, "NOP-In.";
        SCSI_RESPONSE = 0x21, "SCSI Response.";
        TASK_RESPONSE = 0x22, "Task Management Function Response.";
        LOGIN_RESPONSE = 0x23, "Login Response.";
        TEXT_RESPONSE = 0x24, "Text Response.";
        DATA_IN = 0x25, "SCSI Data-In.";
        LOGOUT_RESPONSE = 0x26, "Logout Response.";
        R2T = 0x31, "Ready To Transfer.";
        ASYNC_MESSAGE = 0x32, "Asynchronous Message.";
        REJECT = 0x3f, "Reject.";
    }
}

wire_struct! {
    /// What every header has in common.
    Bhs[48] {
        0 opcode: u8, "Opcode in bits 5:0, IMMEDIATE in bit 6.";
        1 flags: u8, "FINAL in bit 7, the rest by opcode.";
        2 specific2: [u8; 2], "By opcode.";
        4 ahs_words: u8, "Length of additional header segments, in words of 4 bytes.";
        5 data_len: [u8; 3], "Length of the data segment in bytes, without padding.";
        8 lun: [u8; 8], "Logical unit number, or by opcode.";
        16 itt: U32, "Initiator task tag.";
        20 specific20: [u8; 28], "By opcode.";
    }
}

wire_struct! {
    /// SCSI Command (initiator to target), section 11.3.
    ScsiCommand[48] {
        0 opcode: u8, "01h, IMMEDIATE in bit 6.";
        1 flags: u8, "FINAL bit 7, Read bit 6, Write bit 5, task attribute bits 2:0.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Additional header segments in words.";
        5 data_len: [u8; 3], "Immediate data in bytes.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 expected_len: U32, "Expected data transfer length in bytes.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 cdb: [u8; 16], "CDB; longer ones go on in an additional header segment.";
    }
}

wire_struct! {
    /// SCSI Response (target to initiator), section 11.4.
    ScsiResponse[48] {
        0 opcode: u8, "21h.";
        1 flags: u8, "80h with residual bits o 10h, u 08h, O 04h, U 02h.";
        2 response: u8, "00h completed at the target, 01h target failure.";
        3 status: u8, "SCSI status.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Sense data in bytes, with its length of 2 bytes before it.";
        8 rsvd8: [u8; 8], "Reserved.";
        16 itt: U32, "Initiator task tag.";
        20 snack_tag: U32, "SNACK tag or zero.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 exp_data_sn: U32, "Number of Data-In and R2T PDUs of the command.";
        40 bidi_residual: U32, "Residual of the read part of a two-way command.";
        44 residual: U32, "Residual count in bytes.";
    }
}

wire_struct! {
    /// Task Management Function Request (initiator to target), section 11.5.
    TaskRequest[48] {
        0 opcode: u8, "02h, IMMEDIATE in bit 6.";
        1 flags: u8, "80h with the function in bits 6:0.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 ref_task_tag: U32, "Tag of the task it is about.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 ref_cmd_sn: U32, "CmdSN of the task it is about.";
        36 exp_data_sn: U32, "For a reassigned task.";
        40 rsvd40: [u8; 8], "Reserved.";
    }
}

wire_struct! {
    /// Task Management Function Response (target to initiator), section 11.6.
    TaskResponse[48] {
        0 opcode: u8, "22h.";
        1 flags: u8, "80h.";
        2 response: u8, "What came of it.";
        3 rsvd3: u8, "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 rsvd8: [u8; 8], "Reserved.";
        16 itt: U32, "Initiator task tag.";
        20 rsvd20: [u8; 4], "Reserved.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 rsvd36: [u8; 12], "Reserved.";
    }
}

wire_struct! {
    /// SCSI Data-Out (initiator to target), section 11.7.
    DataOut[48] {
        0 opcode: u8, "05h.";
        1 flags: u8, "FINAL in bit 7.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Data in bytes.";
        8 lun: [u8; 8], "Logical unit, as in the R2T.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "Target transfer tag of the R2T, or NO_TAG for unsolicited data.";
        24 rsvd24: [u8; 4], "Reserved.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 4], "Reserved.";
        36 data_sn: U32, "Number within its sequence.";
        40 buffer_offset: U32, "Offset in the command's data, in bytes.";
        44 rsvd44: [u8; 4], "Reserved.";
    }
}

wire_struct! {
    /// SCSI Data-In (target to initiator), section 11.7.
    DataIn[48] {
        0 opcode: u8, "25h.";
        1 flags: u8, "FINAL bit 7, Acknowledge 40h, residual O 04h and U 02h, Status 01h.";
        2 rsvd2: u8, "Reserved.";
        3 status: u8, "SCSI status, when the Status bit is set.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Data in bytes.";
        8 lun: [u8; 8], "Logical unit, when the Acknowledge bit is set.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "NO_TAG, or a tag to acknowledge.";
        24 stat_sn: U32, "StatSN, when the Status bit is set.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 data_sn: U32, "Number within the command.";
        40 buffer_offset: U32, "Offset in the command's data, in bytes.";
        44 residual: U32, "Residual count, when the Status bit is set.";
    }
}

wire_struct! {
    /// Ready To Transfer (target to initiator), section 11.8.
    R2t[48] {
        0 opcode: u8, "31h.";
        1 flags: u8, "80h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "Target transfer tag.";
        24 stat_sn: U32, "The next StatSN; it does not advance.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 r2t_sn: U32, "Number within the command.";
        40 buffer_offset: U32, "Offset in the command's data, in bytes.";
        44 desired_len: U32, "Length asked for, in bytes.";
    }
}

wire_struct! {
    /// Asynchronous Message (target to initiator), section 11.9.
    AsyncMessage[48] {
        0 opcode: u8, "32h.";
        1 flags: u8, "80h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Sense data in bytes, for event 0.";
        8 lun: [u8; 8], "Logical unit, for event 0.";
        16 tag: U32, "NO_TAG.";
        20 rsvd20: [u8; 4], "Reserved.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 event: u8, "0 SCSI event, 1 asks for logout, 2 drops the connection, 3 drops all, 4 asks to negotiate.";
        37 vendor_code: u8, "For vendor events.";
        38 parameter1: U16, "Connection, or time to log out in seconds.";
        40 parameter2: U16, "Time2Wait in seconds.";
        42 parameter3: U16, "Time2Retain in seconds.";
        44 rsvd44: [u8; 4], "Reserved.";
    }
}

wire_struct! {
    /// Text Request (initiator to target), section 11.10.
    TextRequest[48] {
        0 opcode: u8, "04h, IMMEDIATE in bit 6.";
        1 flags: u8, "FINAL 80h, Continue 40h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Text in bytes.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "NO_TAG, or the tag of the response it goes on from.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 16], "Reserved.";
    }
}

wire_struct! {
    /// Text Response (target to initiator), section 11.11.
    TextResponse[48] {
        0 opcode: u8, "24h.";
        1 flags: u8, "FINAL 80h, Continue 40h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Text in bytes.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "NO_TAG, or a tag to go on with.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 rsvd36: [u8; 12], "Reserved.";
    }
}

wire_struct! {
    /// Login Request (initiator to target), section 11.12.
    LoginRequest[48] {
        0 opcode: u8, "43h: always immediate.";
        1 flags: u8, "Transit 80h, Continue 40h, CSG bits 3:2, NSG bits 1:0.";
        2 version_max: u8, "Highest version, 0.";
        3 version_min: u8, "Lowest version, 0.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Text in bytes.";
        8 isid: [u8; 6], "Initiator's part of the session identifier.";
        14 tsih: U16, "Target's part, 0 for a new session.";
        16 itt: U32, "Initiator task tag.";
        20 cid: U16, "Connection identifier.";
        22 rsvd22: [u8; 2], "Reserved.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 16], "Reserved.";
    }
}

wire_struct! {
    /// Login Response (target to initiator), section 11.13.
    LoginResponse[48] {
        0 opcode: u8, "23h.";
        1 flags: u8, "Transit 80h, Continue 40h, CSG bits 3:2, NSG bits 1:0.";
        2 version_max: u8, "Highest version, 0.";
        3 version_active: u8, "Version in use, 0.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Text in bytes.";
        8 isid: [u8; 6], "As in the request.";
        14 tsih: U16, "Target's part of the session identifier, in the final response.";
        16 itt: U32, "Initiator task tag.";
        20 rsvd20: [u8; 4], "Reserved.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 status_class: u8, "0 success, 1 redirection, 2 initiator error, 3 target error.";
        37 status_detail: u8, "Within the class.";
        38 rsvd38: [u8; 10], "Reserved.";
    }
}

wire_struct! {
    /// Logout Request (initiator to target), section 11.14.
    LogoutRequest[48] {
        0 opcode: u8, "06h, IMMEDIATE in bit 6.";
        1 flags: u8, "80h with the reason in bits 6:0: 0 session, 1 connection, 2 for recovery.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 rsvd8: [u8; 8], "Reserved.";
        16 itt: U32, "Initiator task tag.";
        20 cid: U16, "Connection it is about.";
        22 rsvd22: [u8; 2], "Reserved.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 16], "Reserved.";
    }
}

wire_struct! {
    /// Logout Response (target to initiator), section 11.15.
    LogoutResponse[48] {
        0 opcode: u8, "26h.";
        1 flags: u8, "80h.";
        2 response: u8, "0 done, 1 no such connection, 2 no recovery here, 3 cleanup failed.";
        3 rsvd3: u8, "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 rsvd8: [u8; 8], "Reserved.";
        16 itt: U32, "Initiator task tag.";
        20 rsvd20: [u8; 4], "Reserved.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 rsvd36: [u8; 4], "Reserved.";
        40 time2wait: U16, "In seconds.";
        42 time2retain: U16, "In seconds.";
        44 rsvd44: [u8; 4], "Reserved.";
    }
}

wire_struct! {
    /// SNACK Request (initiator to target), section 11.16.
    SnackRequest[48] {
        0 opcode: u8, "10h.";
        1 flags: u8, "80h with the type in bits 3:0.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Zero.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag.";
        20 ttt: U32, "Target transfer tag or SNACK tag.";
        24 rsvd24: [u8; 4], "Reserved.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 8], "Reserved.";
        40 beg_run: U32, "First of what is asked for.";
        44 run_length: U32, "How many.";
    }
}

wire_struct! {
    /// Reject (target to initiator), section 11.17.
    Reject[48] {
        0 opcode: u8, "3Fh.";
        1 flags: u8, "80h.";
        2 reason: u8, "Why.";
        3 rsvd3: u8, "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "The header that is refused, in bytes.";
        8 rsvd8: [u8; 8], "Reserved.";
        16 tag: U32, "NO_TAG.";
        20 rsvd20: [u8; 4], "Reserved.";
        24 stat_sn: U32, "StatSN.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 data_sn: U32, "For a protocol error in a data sequence.";
        40 rsvd40: [u8; 8], "Reserved.";
    }
}

wire_struct! {
    /// NOP-Out (initiator to target), section 11.18.
    NopOut[48] {
        0 opcode: u8, "00h, IMMEDIATE in bit 6.";
        1 flags: u8, "80h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Ping data in bytes.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag; NO_TAG wants no answer.";
        20 ttt: U32, "Tag of the NOP-In it answers, or NO_TAG.";
        24 cmd_sn: U32, "CmdSN.";
        28 exp_stat_sn: U32, "ExpStatSN.";
        32 rsvd32: [u8; 16], "Reserved.";
    }
}

wire_struct! {
    /// NOP-In (target to initiator), section 11.19.
    NopIn[48] {
        0 opcode: u8, "20h.";
        1 flags: u8, "80h.";
        2 rsvd2: [u8; 2], "Reserved.";
        4 ahs_words: u8, "Zero.";
        5 data_len: [u8; 3], "Returned ping data in bytes.";
        8 lun: [u8; 8], "Logical unit.";
        16 itt: U32, "Initiator task tag; NO_TAG when the target asks.";
        20 ttt: U32, "Tag to answer with, or NO_TAG.";
        24 stat_sn: U32, "StatSN; it does not advance when the target asks.";
        28 exp_cmd_sn: U32, "ExpCmdSN.";
        32 max_cmd_sn: U32, "MaxCmdSN.";
        36 rsvd36: [u8; 12], "Reserved.";
    }
}

const _: () = assert!(Bhs::SIZE == super::BHS_BYTES);

impl Bhs {
    /// The opcode without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        Opcode(self.opcode & 0x3f)
    }

    /// Whether the immediate bit is set.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        self.opcode & IMMEDIATE != 0
    }

    /// Whether the final bit is set.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// Length of the additional header segments in bytes.
    #[must_use]
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.ahs_words) * 4
    }

    /// Length of the data segment in bytes, without its padding.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        let [a, b, c] = self.data_len;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }
}

/// The form of a data segment's length in a header.
#[must_use]
pub fn data_len(len_bytes: usize) -> [u8; 3] {
    let [_, a, b, c] = (len_bytes as u32).to_be_bytes();
    [a, b, c]
}
