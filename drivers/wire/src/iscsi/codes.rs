//! Bits and codes inside the headers.
//!
//! Source: RFC 7143 section 11, RFC 7144 (functions 9 to 12 and their responses).

/// Flag bits of byte 1, beside FINAL.
pub mod flags {
    /// SCSI Command: data comes from the target.
    pub const READ: u8 = 0x40;
    /// SCSI Command: data goes to the target.
    pub const WRITE: u8 = 0x20;
    /// SCSI Command: the task attribute.
    pub const ATTRIBUTE: u8 = 0x07;
    /// SCSI Response: the read part of a two-way command did not fit.
    pub const BIDI_OVERFLOW: u8 = 0x10;
    /// SCSI Response: the read part of a two-way command was shorter than expected.
    pub const BIDI_UNDERFLOW: u8 = 0x08;
    /// SCSI Response, Data-In: the data did not fit.
    pub const OVERFLOW: u8 = 0x04;
    /// SCSI Response, Data-In: the data was shorter than expected.
    pub const UNDERFLOW: u8 = 0x02;
    /// Data-In: the initiator has to acknowledge.
    pub const ACKNOWLEDGE: u8 = 0x40;
    /// Data-In: the status is here, no SCSI Response follows.
    pub const STATUS: u8 = 0x01;
    /// Text and login: the text goes on in the next PDU.
    pub const CONTINUE: u8 = 0x40;
    /// Login: go on to the next stage.
    pub const TRANSIT: u8 = 0x80;
}

open_enum! {
    /// Task attribute of a SCSI command.
    TaskAttribute: u8 {
        UNTAGGED = 0, "As simple.";
        SIMPLE = 1, "In any order with other simple ones.";
        ORDERED = 2, "After all before it.";
        HEAD_OF_QUEUE = 3, "Before all others.";
        ACA = 4, "During an auto contingent allegiance.";
    }
}

open_enum! {
    /// Stage of a login.
    Stage: u8 {
        SECURITY = 0, "Security negotiation.";
        OPERATIONAL = 1, "Operational parameters.";
        FULL_FEATURE = 3, "Full feature phase: the login is over.";
    }
}

open_enum! {
    /// Task management function.
    TaskFunction: u8 {
        ABORT_TASK = 1, "Ends one task.";
        ABORT_TASK_SET = 2, "Ends the tasks of this nexus at the unit.";
        CLEAR_ACA = 3, "Ends an auto contingent allegiance.";
        CLEAR_TASK_SET = 4, "Ends all tasks of the unit's task set.";
        LOGICAL_UNIT_RESET = 5, "Resets the unit.";
        TARGET_WARM_RESET = 6, "Resets all units of the target.";
        TARGET_COLD_RESET = 7, "The same, and ends all connections.";
        TASK_REASSIGN = 8, "Moves a task to this connection.";
        QUERY_TASK = 9, "Is the task there?";
        QUERY_TASK_SET = 10, "Is any task there?";
        I_T_NEXUS_RESET = 11, "Ends the tasks of this nexus at all units.";
        QUERY_ASYNC_EVENT = 12, "Is a unit attention pending?";
    }
}

open_enum! {
    /// What came of a task management function.
    TaskResult: u8 {
        COMPLETE = 0, "Done.";
        NO_TASK = 1, "No such task.";
        NO_LUN = 2, "No such unit.";
        STILL_ALLEGIANT = 3, "The task still belongs to its connection.";
        REASSIGN_UNSUPPORTED = 4, "Tasks cannot be moved.";
        UNSUPPORTED = 5, "No such function here.";
        NOT_AUTHORIZED = 6, "Not for this initiator.";
        SUCCEEDED = 7, "Done; the answer to a query is yes.";
        REJECTED = 255, "Not done.";
    }
}

open_enum! {
    /// What a logout is about.
    LogoutReason: u8 {
        CLOSE_SESSION = 0, "All connections.";
        CLOSE_CONNECTION = 1, "The connection named by the CID.";
        REMOVE_FOR_RECOVERY = 2, "The connection goes, its tasks are to be moved.";
    }
}

open_enum! {
    /// What came of a logout.
    LogoutResult: u8 {
        CLOSED = 0, "Done.";
        NO_CID = 1, "No such connection.";
        NO_RECOVERY = 2, "Connections are not recovered here.";
        CLEANUP_FAILED = 3, "Something was left over.";
    }
}

open_enum! {
    /// Why a PDU was rejected.
    RejectReason: u8 {
        DATA_DIGEST_ERROR = 0x02, "The data did not match its digest.";
        SNACK_REJECT = 0x03, "Nothing is sent again here.";
        PROTOCOL_ERROR = 0x04, "The PDU breaks the protocol.";
        COMMAND_NOT_SUPPORTED = 0x05, "Unknown opcode.";
        IMMEDIATE_COMMAND_REJECT = 0x06, "Too many immediate commands.";
        TASK_IN_PROGRESS = 0x07, "The tag is in use.";
        INVALID_DATA_ACK = 0x08, "Acknowledges what was not sent.";
        INVALID_PDU_FIELD = 0x09, "A field has an impossible value.";
        LONG_OPERATION_REJECT = 0x0a, "No target transfer tag is free.";
        WAITING_FOR_LOGOUT = 0x0c, "Only a logout is expected.";
    }
}

open_enum! {
    /// Event of an asynchronous message.
    AsyncEvent: u8 {
        SCSI = 0, "Sense data is in the data segment.";
        LOGOUT = 1, "The target asks for a logout of this connection.";
        DROP_CONNECTION = 2, "The target is about to drop the connection of parameter 1.";
        DROP_SESSION = 3, "The target is about to drop all connections.";
        NEGOTIATE = 4, "The target asks for a negotiation of parameters.";
        TASKS_ENDED = 5, "All tasks at the unit are ended (FastAbort).";
        VENDOR = 255, "Of the vendor.";
    }
}

open_enum! {
    /// What is asked for again.
    SnackType: u8 {
        DATA = 0, "Data-In or R2T.";
        STATUS = 1, "Responses.";
        DATA_ACK = 2, "Nothing: it acknowledges Data-In.";
        R_DATA = 3, "Data-In, in other pieces.";
    }
}

open_enum! {
    /// Response code of a SCSI Response.
    Response: u8 {
        COMPLETED = 0, "The command got to its end: see the SCSI status.";
        TARGET_FAILURE = 1, "It did not.";
    }
}

open_enum! {
    /// Class (high byte) and detail (low byte) of a login's status.
    LoginStatus: u16 {
        SUCCESS = 0x0000, "Go on.";
        MOVED_TEMPORARILY = 0x0101, "The target is at TargetAddress for now.";
        MOVED_PERMANENTLY = 0x0102, "The target is at TargetAddress.";
        INITIATOR_ERROR = 0x0200, "Something is wrong with the request.";
        AUTHENTICATION_FAILED = 0x0201, "The initiator did not prove who it is.";
        NOT_AUTHORIZED = 0x0202, "The initiator may not use the target.";
        NOT_FOUND = 0x0203, "No such target.";
        REMOVED = 0x0204, "The target is gone for good.";
        UNSUPPORTED_VERSION = 0x0205, "No common version.";
        TOO_MANY_CONNECTIONS = 0x0206, "The session has as many as it can.";
        MISSING_PARAMETER = 0x0207, "A key that is needed did not come.";
        CANNOT_INCLUDE = 0x0208, "The connection cannot join the session.";
        SESSION_TYPE = 0x0209, "Sessions of this type are not served.";
        NO_SESSION = 0x020a, "No session with this TSIH.";
        INVALID_DURING_LOGIN = 0x020b, "Another request before the login's end.";
        TARGET_ERROR = 0x0300, "Something is wrong at the target.";
        UNAVAILABLE = 0x0301, "The target cannot serve now.";
        OUT_OF_RESOURCES = 0x0302, "The target has no room for more.";
    }
}

impl LoginStatus {
    /// The class: 0 is success.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The detail within the class.
    #[must_use]
    pub const fn detail(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    /// From the two bytes of a login response.
    #[must_use]
    pub const fn from_bytes(class: u8, detail: u8) -> Self {
        Self((class as u16) << 8 | detail as u16)
    }
}
