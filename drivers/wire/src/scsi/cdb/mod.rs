//! Command descriptor blocks: from 16 bytes to what they mean.
//!
//! A block is padded with zeros to 16 bytes first, so that no decoder can fail. Whether bits that
//! must be zero are zero is the caller's business: it knows which of them it supports.
//! Source: SPC-4 section 6, SBC-3 section 5.

pub mod block;
pub mod control;

pub use block::{Blocks, ByteCheck, Same, VerifyRange, WriteVerify};
pub use control::{
    CopyResults, Diagnostic, Inquiry, ModeSelect, ModeSense, PageControl, Power, ReportCommands,
    Reporting, Sanitize, SanitizeAction,
};

/// A padded command descriptor block.
pub type Cdb = [u8; 16];

/// What a command asks for. Small and `Copy`: it is kept while the data travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE.
    RequestSense {
        /// Descriptor format instead of fixed.
        descriptors: bool,
        /// Bytes at most.
        allocation_bytes: u8,
    },
    /// INQUIRY.
    Inquiry(Inquiry),
    /// REPORT LUNS.
    ReportLuns {
        /// Which of them.
        select: u8,
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// MODE SENSE (6), (10).
    ModeSense(ModeSense),
    /// MODE SELECT (6), (10).
    ModeSelect(ModeSelect),
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16).
    ReadCapacity16 {
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// READ (6), (10), (12), (16).
    Read(Blocks),
    /// WRITE (6), (10), (12), (16).
    Write(Blocks),
    /// WRITE ATOMIC (16).
    WriteAtomic {
        /// The range.
        blocks: Blocks,
        /// Must not cross multiples of so many blocks; 0: no such boundary.
        boundary_blocks: u16,
    },
    /// WRITE AND VERIFY (10), (12), (16).
    WriteVerify(WriteVerify),
    /// VERIFY (10), (12), (16).
    Verify(VerifyRange),
    /// COMPARE AND WRITE.
    CompareAndWrite(Blocks),
    /// ORWRITE (16).
    OrWrite(Blocks),
    /// PRE-FETCH (10), (16).
    PreFetch {
        /// The range; 0 blocks: to the end.
        blocks: Blocks,
        /// Status before it is done.
        immediate: bool,
    },
    /// SYNCHRONIZE CACHE (10), (16).
    SynchronizeCache {
        /// The range; 0 blocks: to the end.
        blocks: Blocks,
        /// Status before it is done.
        immediate: bool,
    },
    /// UNMAP.
    Unmap {
        /// Anchored instead of deallocated.
        anchor: bool,
        /// Length of the parameter list.
        list_bytes: u16,
    },
    /// WRITE SAME (10), (16).
    WriteSame(Same),
    /// GET LBA STATUS.
    LbaStatus {
        /// First block.
        lba: u64,
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// EXTENDED COPY (LID1).
    ExtendedCopy {
        /// Length of the parameter list.
        list_bytes: u32,
    },
    /// RECEIVE COPY RESULTS.
    CopyResults(CopyResults),
    /// REPORT TARGET PORT GROUPS.
    ReportTargetPortGroups {
        /// Parameter data format: 1 has a longer header.
        format: u8,
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// SET TARGET PORT GROUPS.
    SetTargetPortGroups {
        /// Length of the parameter list.
        list_bytes: u32,
    },
    /// REPORT SUPPORTED OPERATION CODES.
    ReportCommands(ReportCommands),
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    ReportTaskManagement {
        /// With the extended fields.
        extended: bool,
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// PREVENT ALLOW MEDIUM REMOVAL.
    PreventAllow {
        /// Removal is prevented.
        prevent: bool,
    },
    /// START STOP UNIT.
    Power(Power),
    /// SANITIZE.
    Sanitize(Sanitize),
    /// SEND DIAGNOSTIC.
    SendDiagnostic(Diagnostic),
    /// RECEIVE DIAGNOSTIC RESULTS.
    ReceiveDiagnostic {
        /// The page code is valid.
        page_valid: bool,
        /// Which page.
        page: u8,
        /// Bytes at most.
        allocation_bytes: u16,
    },
    /// READ DEFECT DATA (10), (12).
    ReadDefectData {
        /// The form of 12 bytes, with its longer header.
        long: bool,
        /// List of the manufacturer.
        primary: bool,
        /// List of those found since.
        grown: bool,
        /// Format of the addresses.
        format: u8,
        /// Bytes at most.
        allocation_bytes: u32,
    },
    /// A reservation command: decoded where reservations are.
    Reservation(Cdb),
}

/// The bytes of a block, padded with zeros. `None` when there are none, or more than 16.
#[must_use]
pub fn pad(bytes: &[u8]) -> Option<Cdb> {
    let mut cdb = [0; 16];
    let used = cdb.get_mut(..bytes.len())?;
    used.copy_from_slice(bytes);
    (!bytes.is_empty()).then_some(cdb)
}

pub(crate) const fn be16(cdb: &Cdb, at: usize) -> u16 {
    u16::from_be_bytes([cdb[at], cdb[at + 1]])
}

pub(crate) const fn be24(cdb: &Cdb, at: usize) -> u32 {
    u32::from_be_bytes([0, cdb[at], cdb[at + 1], cdb[at + 2]])
}

pub(crate) const fn be32(cdb: &Cdb, at: usize) -> u32 {
    u32::from_be_bytes([cdb[at], cdb[at + 1], cdb[at + 2], cdb[at + 3]])
}

pub(crate) const fn be64(cdb: &Cdb, at: usize) -> u64 {
    (be32(cdb, at) as u64) << 32 | be32(cdb, at + 4) as u64
}
