//! Submission queue entry and the meaning of each command's dwords.
//!
//! A meaning struct has `decode(&Sqe)` and `encode(cid, nsid, data)`. Decoding keeps what the
//! command says and checks only what would make the rest meaningless; policy (bounds, supported
//! values) belongs to the controller.
//!
//! Source: base 2.0 sections 3.3.3.1 (layout) and 5 (admin commands); NVM command set 1.0
//! section 3 (I/O commands).

mod admin;
mod io;

pub use admin::{
    Abort, AsyncEvent, AsyncEventType, GetFeatures, GetLogPage, Identify, SetFeatures,
};
pub use io::{DatasetManagement, ReadWrite, WriteZeroes};

use zerocopy::little_endian::{U16, U32, U64};

use crate::Error;
use crate::nvme::sgl::{Sgl, SglDescriptor};

open_enum! {
    /// Admin command opcodes.
    AdminOpcode: u8 {
        DELETE_IO_SQ = 0x00, "Delete I/O Submission Queue; not over fabrics.";
        CREATE_IO_SQ = 0x01, "Create I/O Submission Queue; not over fabrics.";
        GET_LOG_PAGE = 0x02, "Get Log Page.";
        DELETE_IO_CQ = 0x04, "Delete I/O Completion Queue; not over fabrics.";
        CREATE_IO_CQ = 0x05, "Create I/O Completion Queue; not over fabrics.";
        IDENTIFY = 0x06, "Identify.";
        ABORT = 0x08, "Abort.";
        SET_FEATURES = 0x09, "Set Features.";
        GET_FEATURES = 0x0a, "Get Features.";
        ASYNC_EVENT_REQUEST = 0x0c, "Asynchronous Event Request.";
        NAMESPACE_MANAGEMENT = 0x0d, "Namespace Management.";
        FIRMWARE_COMMIT = 0x10, "Firmware Commit.";
        FIRMWARE_DOWNLOAD = 0x11, "Firmware Image Download.";
        DEVICE_SELF_TEST = 0x14, "Device Self-test.";
        NAMESPACE_ATTACHMENT = 0x15, "Namespace Attachment.";
        KEEP_ALIVE = 0x18, "Keep Alive.";
        FABRICS = 0x7f, "A fabrics command; byte 4 says which.";
        FORMAT_NVM = 0x80, "Format NVM.";
        SECURITY_SEND = 0x81, "Security Send.";
        SECURITY_RECEIVE = 0x82, "Security Receive.";
        SANITIZE = 0x84, "Sanitize.";
    }
}

open_enum! {
    /// I/O command opcodes of the NVM command set.
    NvmOpcode: u8 {
        FLUSH = 0x00, "Flush.";
        WRITE = 0x01, "Write.";
        READ = 0x02, "Read.";
        WRITE_UNCORRECTABLE = 0x04, "Write Uncorrectable.";
        COMPARE = 0x05, "Compare.";
        WRITE_ZEROES = 0x08, "Write Zeroes.";
        DATASET_MANAGEMENT = 0x09, "Dataset Management.";
        VERIFY = 0x0c, "Verify.";
        RESERVATION_REGISTER = 0x0d, "Reservation Register.";
        RESERVATION_REPORT = 0x0e, "Reservation Report.";
        RESERVATION_ACQUIRE = 0x11, "Reservation Acquire.";
        RESERVATION_RELEASE = 0x15, "Reservation Release.";
        COPY = 0x19, "Copy.";
        FABRICS = 0x7f, "A fabrics command; byte 4 says which.";
    }
}

open_enum! {
    /// Fused operation: bits 1:0 of the flags.
    Fuse: u8 {
        NONE = 0, "A command of its own.";
        FIRST = 1, "First of a fused pair (Compare).";
        SECOND = 2, "Second of a fused pair (Write).";
    }
}

open_enum! {
    /// How the data pointer is to be read: bits 7:6 of the flags.
    Psdt: u8 {
        PRP = 0, "PRP entries; not allowed over fabrics.";
        SGL = 1, "SGL, metadata in one contiguous buffer.";
        SGL_METADATA_SEGMENT = 2, "SGL, metadata pointer is an SGL segment.";
    }
}

/// Direction of a command's data, bits 1:0 of every opcode (and of a fabrics command's type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDirection {
    /// No data.
    None,
    /// Host to controller.
    HostToController,
    /// Controller to host.
    ControllerToHost,
    /// Both ways.
    Bidirectional,
}

wire_struct! {
    /// A 64-byte submission queue entry.
    Sqe[64] {
        0 opcode: u8, "Opcode; its meaning depends on the queue.";
        1 flags: u8, "Fused operation in bits 1:0, data pointer kind in bits 7:6.";
        2 cid: U16, "Command identifier, unique among the commands in flight on the queue.";
        4 nsid: U32, "Namespace; byte 4 is the command type in fabrics commands.";
        8 cdw2: U32, "Command dword 2.";
        12 cdw3: U32, "Command dword 3.";
        16 mptr: U64, "Metadata pointer.";
        24 dptr: SglDescriptor, "Data pointer: one SGL descriptor over fabrics.";
        40 cdw10: U32, "Command dword 10.";
        44 cdw11: U32, "Command dword 11.";
        48 cdw12: U32, "Command dword 12.";
        52 cdw13: U32, "Command dword 13.";
        56 cdw14: U32, "Command dword 14.";
        60 cdw15: U32, "Command dword 15.";
    }
}

impl Sqe {
    /// A command with SGLs selected, as fabrics demand, and every other field zero.
    #[must_use]
    pub fn new(opcode: u8, cid: u16, nsid: u32) -> Self {
        let mut sqe = Self::zeroed();
        sqe.opcode = opcode;
        sqe.set_psdt(Psdt::SGL);
        sqe.cid = U16::new(cid);
        sqe.nsid = U32::new(nsid);
        sqe
    }

    /// The same command with its data described by `sgl`.
    #[must_use]
    pub fn with_data(mut self, sgl: Sgl) -> Self {
        self.dptr = sgl.encode();
        self
    }

    /// A Flush of namespace `nsid`.
    #[must_use]
    pub fn flush(cid: u16, nsid: u32) -> Self {
        Self::new(NvmOpcode::FLUSH.0, cid, nsid)
    }

    /// A Keep Alive.
    #[must_use]
    pub fn keep_alive(cid: u16) -> Self {
        Self::new(AdminOpcode::KEEP_ALIVE.0, cid, 0)
    }

    /// An Asynchronous Event Request.
    #[must_use]
    pub fn async_event_request(cid: u16) -> Self {
        Self::new(AdminOpcode::ASYNC_EVENT_REQUEST.0, cid, 0)
    }

    /// The opcode on an admin queue.
    #[must_use]
    pub const fn admin_opcode(&self) -> AdminOpcode {
        AdminOpcode(self.opcode)
    }

    /// The opcode on an I/O queue.
    #[must_use]
    pub const fn nvm_opcode(&self) -> NvmOpcode {
        NvmOpcode(self.opcode)
    }

    /// True when byte 4 is a fabrics command type.
    #[must_use]
    pub const fn is_fabrics(&self) -> bool {
        self.opcode == AdminOpcode::FABRICS.0
    }

    /// Byte 4: the fabrics command type when [`Self::is_fabrics`].
    #[must_use]
    pub fn fctype(&self) -> u8 {
        self.nsid.get().to_le_bytes()[0]
    }

    /// Fused operation.
    #[must_use]
    pub const fn fuse(&self) -> Fuse {
        Fuse(self.flags & 0x03)
    }

    /// Sets the fused operation.
    pub fn set_fuse(&mut self, fuse: Fuse) {
        self.flags = (self.flags & !0x03) | (fuse.0 & 0x03);
    }

    /// Data pointer kind. Fabrics accept [`Psdt::SGL`] alone.
    #[must_use]
    pub const fn psdt(&self) -> Psdt {
        Psdt(self.flags >> 6)
    }

    /// Sets the data pointer kind.
    pub fn set_psdt(&mut self, psdt: Psdt) {
        self.flags = (self.flags & 0x3f) | (psdt.0 << 6);
    }

    /// Which way the command's data goes.
    #[must_use]
    pub fn data_direction(&self) -> DataDirection {
        let code = if self.is_fabrics() {
            self.fctype()
        } else {
            self.opcode
        };
        match code & 0x03 {
            0 => DataDirection::None,
            1 => DataDirection::HostToController,
            2 => DataDirection::ControllerToHost,
            _ => DataDirection::Bidirectional,
        }
    }

    /// The decoded data pointer; errors as [`SglDescriptor::parse`].
    pub fn sgl(&self) -> Result<Sgl, Error> {
        self.dptr.parse()
    }

    pub(crate) fn expect(&self, what: &'static str, opcode: u8) -> Result<(), Error> {
        if self.opcode == opcode {
            return Ok(());
        }
        Err(Error::WrongCommand {
            what,
            opcode: self.opcode,
            fctype: self.fctype(),
        })
    }

    pub(crate) fn set_u64(low: &mut U32, high: &mut U32, value: u64) {
        low.set((value & 0xffff_ffff) as u32);
        high.set((value >> 32) as u32);
    }

    pub(crate) fn u64(low: U32, high: U32) -> u64 {
        u64::from(low.get()) | (u64::from(high.get()) << 32)
    }
}

/// Tests bit `bit` of `value`.
pub(crate) const fn bit(value: u32, bit: u32) -> bool {
    value >> bit & 1 != 0
}
