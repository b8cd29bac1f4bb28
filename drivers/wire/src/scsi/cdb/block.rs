//! Commands on blocks.
//!
//! Source: SBC-3 section 5; WRITE ATOMIC (16): SBC-4 section 5.48.

use super::{Cdb, Command, be16, be24, be32, be64};

/// A range of blocks and how to treat the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Blocks {
    /// First block.
    pub lba: u64,
    /// Number of blocks; 0 is allowed.
    pub block_count: u32,
    /// Force unit access.
    pub fua: bool,
}

/// BYTCHK: what the data in the buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteCheck {
    /// There is none: read and check.
    Medium,
    /// As long as the range: compare.
    Compare,
    /// One block: compare with each block of the range.
    CompareOne,
    /// A reserved value.
    Reserved,
}

/// VERIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyRange {
    /// The range.
    pub blocks: Blocks,
    /// What to compare with.
    pub check: ByteCheck,
}

/// WRITE AND VERIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteVerify {
    /// The range.
    pub blocks: Blocks,
    /// What to compare with.
    pub check: ByteCheck,
}

/// WRITE SAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Same {
    /// The range.
    pub blocks: Blocks,
    /// Space may be given back.
    pub unmap: bool,
    /// Space is to be kept.
    pub anchor: bool,
    /// No data: zeros.
    pub no_data: bool,
}

/// FUA in byte 1.
const FUA: u8 = 0x08;

const fn blocks10(cdb: &Cdb) -> Blocks {
    Blocks {
        lba: be32(cdb, 2) as u64,
        block_count: be16(cdb, 7) as u32,
        fua: cdb[1] & FUA != 0,
    }
}

const fn blocks12(cdb: &Cdb) -> Blocks {
    Blocks {
        lba: be32(cdb, 2) as u64,
        block_count: be32(cdb, 6),
        fua: cdb[1] & FUA != 0,
    }
}

const fn blocks16(cdb: &Cdb) -> Blocks {
    Blocks {
        lba: be64(cdb, 2),
        block_count: be32(cdb, 10),
        fua: cdb[1] & FUA != 0,
    }
}

/// 21 bits of address; a length of 0 means 256.
const fn blocks6(cdb: &Cdb) -> Blocks {
    Blocks {
        lba: (be24(cdb, 1) & 0x1f_ffff) as u64,
        block_count: if cdb[4] == 0 { 256 } else { cdb[4] as u32 },
        fua: false,
    }
}

/// Bit 3 of VERIFY and of commands that have no FUA is another field, or reserved.
const fn without_fua(blocks: Blocks) -> Blocks {
    Blocks {
        fua: false,
        ..blocks
    }
}

const fn check(cdb: &Cdb) -> ByteCheck {
    match (cdb[1] >> 1) & 3 {
        0 => ByteCheck::Medium,
        1 => ByteCheck::Compare,
        3 => ByteCheck::CompareOne,
        _ => ByteCheck::Reserved,
    }
}

/// READ (6).
#[must_use]
pub fn read6(cdb: &Cdb) -> Command {
    Command::Read(blocks6(cdb))
}

/// READ (10).
#[must_use]
pub fn read10(cdb: &Cdb) -> Command {
    Command::Read(blocks10(cdb))
}

/// READ (12).
#[must_use]
pub fn read12(cdb: &Cdb) -> Command {
    Command::Read(blocks12(cdb))
}

/// READ (16).
#[must_use]
pub fn read16(cdb: &Cdb) -> Command {
    Command::Read(blocks16(cdb))
}

/// WRITE (6).
#[must_use]
pub fn write6(cdb: &Cdb) -> Command {
    Command::Write(blocks6(cdb))
}

/// WRITE (10).
#[must_use]
pub fn write10(cdb: &Cdb) -> Command {
    Command::Write(blocks10(cdb))
}

/// WRITE (12).
#[must_use]
pub fn write12(cdb: &Cdb) -> Command {
    Command::Write(blocks12(cdb))
}

/// WRITE (16).
#[must_use]
pub fn write16(cdb: &Cdb) -> Command {
    Command::Write(blocks16(cdb))
}

/// WRITE ATOMIC (16).
#[must_use]
pub fn write_atomic16(cdb: &Cdb) -> Command {
    Command::WriteAtomic {
        blocks: Blocks {
            block_count: be16(cdb, 12).into(),
            ..blocks16(cdb)
        },
        boundary_blocks: be16(cdb, 10),
    }
}

const fn write_verify(cdb: &Cdb, blocks: Blocks) -> Command {
    Command::WriteVerify(WriteVerify {
        blocks: without_fua(blocks),
        check: check(cdb),
    })
}

/// WRITE AND VERIFY (10).
#[must_use]
pub fn write_verify10(cdb: &Cdb) -> Command {
    write_verify(cdb, blocks10(cdb))
}

/// WRITE AND VERIFY (12).
#[must_use]
pub fn write_verify12(cdb: &Cdb) -> Command {
    write_verify(cdb, blocks12(cdb))
}

/// WRITE AND VERIFY (16).
#[must_use]
pub fn write_verify16(cdb: &Cdb) -> Command {
    write_verify(cdb, blocks16(cdb))
}

const fn verify(cdb: &Cdb, blocks: Blocks) -> Command {
    Command::Verify(VerifyRange {
        blocks: without_fua(blocks),
        check: check(cdb),
    })
}

/// VERIFY (10).
#[must_use]
pub fn verify10(cdb: &Cdb) -> Command {
    verify(cdb, blocks10(cdb))
}

/// VERIFY (12).
#[must_use]
pub fn verify12(cdb: &Cdb) -> Command {
    verify(cdb, blocks12(cdb))
}

/// VERIFY (16).
#[must_use]
pub fn verify16(cdb: &Cdb) -> Command {
    verify(cdb, blocks16(cdb))
}

/// COMPARE AND WRITE. Its data is twice as long: first what to compare with.
#[must_use]
pub fn compare_and_write(cdb: &Cdb) -> Command {
    Command::CompareAndWrite(Blocks {
        block_count: cdb[13].into(),
        ..blocks16(cdb)
    })
}

/// ORWRITE (16).
#[must_use]
pub fn orwrite16(cdb: &Cdb) -> Command {
    Command::OrWrite(blocks16(cdb))
}

const fn pre_fetch(cdb: &Cdb, blocks: Blocks) -> Command {
    Command::PreFetch {
        blocks: without_fua(blocks),
        immediate: cdb[1] & 0x02 != 0,
    }
}

/// PRE-FETCH (10).
#[must_use]
pub fn pre_fetch10(cdb: &Cdb) -> Command {
    pre_fetch(cdb, blocks10(cdb))
}

/// PRE-FETCH (16).
#[must_use]
pub fn pre_fetch16(cdb: &Cdb) -> Command {
    pre_fetch(cdb, blocks16(cdb))
}

const fn synchronize(cdb: &Cdb, blocks: Blocks) -> Command {
    Command::SynchronizeCache {
        blocks: without_fua(blocks),
        immediate: cdb[1] & 0x02 != 0,
    }
}

/// SYNCHRONIZE CACHE (10).
#[must_use]
pub fn synchronize10(cdb: &Cdb) -> Command {
    synchronize(cdb, blocks10(cdb))
}

/// SYNCHRONIZE CACHE (16).
#[must_use]
pub fn synchronize16(cdb: &Cdb) -> Command {
    synchronize(cdb, blocks16(cdb))
}

/// UNMAP.
#[must_use]
pub fn unmap(cdb: &Cdb) -> Command {
    Command::Unmap {
        anchor: cdb[1] & 0x01 != 0,
        list_bytes: be16(cdb, 7),
    }
}

const fn same(cdb: &Cdb, blocks: Blocks, no_data: bool) -> Command {
    Command::WriteSame(Same {
        blocks: without_fua(blocks),
        anchor: cdb[1] & 0x10 != 0,
        unmap: cdb[1] & 0x08 != 0,
        no_data,
    })
}

/// WRITE SAME (10).
#[must_use]
pub fn write_same10(cdb: &Cdb) -> Command {
    same(cdb, blocks10(cdb), false)
}

/// WRITE SAME (16).
#[must_use]
pub fn write_same16(cdb: &Cdb) -> Command {
    same(cdb, blocks16(cdb), cdb[1] & 0x01 != 0)
}

/// GET LBA STATUS.
#[must_use]
pub fn lba_status(cdb: &Cdb) -> Command {
    Command::LbaStatus {
        lba: be64(cdb, 2),
        allocation_bytes: be32(cdb, 10),
    }
}

/// READ CAPACITY (10).
#[must_use]
pub fn read_capacity10(_cdb: &Cdb) -> Command {
    Command::ReadCapacity10
}

/// READ CAPACITY (16).
#[must_use]
pub fn read_capacity16(cdb: &Cdb) -> Command {
    Command::ReadCapacity16 {
        allocation_bytes: be32(cdb, 10),
    }
}

/// READ DEFECT DATA (10).
#[must_use]
pub fn read_defect_data10(cdb: &Cdb) -> Command {
    Command::ReadDefectData {
        long: false,
        primary: cdb[2] & 0x10 != 0,
        grown: cdb[2] & 0x08 != 0,
        format: cdb[2] & 0x07,
        allocation_bytes: be16(cdb, 7).into(),
    }
}

/// READ DEFECT DATA (12).
#[must_use]
pub fn read_defect_data12(cdb: &Cdb) -> Command {
    Command::ReadDefectData {
        long: true,
        primary: cdb[1] & 0x10 != 0,
        grown: cdb[1] & 0x08 != 0,
        format: cdb[1] & 0x07,
        allocation_bytes: be32(cdb, 6),
    }
}
