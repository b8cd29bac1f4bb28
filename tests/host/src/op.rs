//! I/O commands by name.

use wire::nvme::command::{DatasetManagement, ReadWrite, WriteZeroes};
use wire::nvme::dsm::DsmRange;
use wire::nvme::{NvmOpcode, Sgl, Sqe};
use zerocopy::little_endian::{U32, U64};

use crate::{Command, HostError};

/// The namespace every volume has.
pub(crate) const NSID: u32 = 1;

/// One I/O command. Ranges are in logical blocks; data must be whole blocks.
#[derive(Clone, Debug)]
pub enum Op {
    /// Read `count` blocks.
    Read {
        /// First block.
        lba: u64,
        /// Blocks, 1 to 65,536.
        count: u32,
    },
    /// Write.
    Write {
        /// First block.
        lba: u64,
        /// Whole blocks.
        data: Vec<u8>,
        /// Force Unit Access.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Write Zeroes.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// Blocks, 1 to 65,536.
        count: u32,
        /// Allow the target to give the space back.
        deallocate: bool,
    },
    /// Dataset Management, deallocate: first block and count of each range.
    Deallocate(Vec<(u64, u32)>),
    /// Compare.
    Compare {
        /// First block.
        lba: u64,
        /// What should be there.
        data: Vec<u8>,
    },
    /// Fused Compare and Write of the same range.
    CompareAndWrite {
        /// First block.
        lba: u64,
        /// What should be there.
        compare: Vec<u8>,
        /// What replaces it.
        write: Vec<u8>,
    },
    /// Verify.
    Verify {
        /// First block.
        lba: u64,
        /// Blocks, 1 to 65,536.
        count: u32,
    },
}

/// One or two commands: a fused pair is submitted together.
pub(crate) enum Encoded {
    One(Command),
    Fused(Command, Command),
}

impl Op {
    /// The commands to send, for blocks of `block_bytes`.
    pub(crate) fn encode(self, block_bytes: usize) -> Result<Encoded, HostError> {
        let single = match self {
            Self::Read { lba, count } => {
                let receive_bytes = count as usize * block_bytes;
                Command::receiving(range(NvmOpcode::READ, lba, count, false)?, receive_bytes)
            }
            Self::Write { lba, data, fua } => {
                with_data(NvmOpcode::WRITE, lba, data, fua, block_bytes)?
            }
            Self::Flush => Command::bare(Sqe::flush(0, NSID)),
            Self::WriteZeroes {
                lba,
                count,
                deallocate,
            } => Command::bare(WriteZeroes::new(lba, count, deallocate)?.encode(0, NSID)),
            Self::Deallocate(ranges) => deallocate(&ranges)?,
            Self::Compare { lba, data } => {
                with_data(NvmOpcode::COMPARE, lba, data, false, block_bytes)?
            }
            Self::CompareAndWrite {
                lba,
                compare,
                write,
            } => {
                return Ok(Encoded::Fused(
                    with_data(NvmOpcode::COMPARE, lba, compare, false, block_bytes)?,
                    with_data(NvmOpcode::WRITE, lba, write, false, block_bytes)?,
                ));
            }
            Self::Verify { lba, count } => {
                Command::bare(range(NvmOpcode::VERIFY, lba, count, false)?)
            }
        };
        Ok(Encoded::One(single))
    }
}

fn range(opcode: NvmOpcode, lba: u64, count: u32, fua: bool) -> Result<Sqe, HostError> {
    let meaning = ReadWrite {
        fua,
        ..ReadWrite::new(lba, count)?
    };
    Ok(meaning.encode(opcode, 0, NSID, None))
}

fn with_data(
    opcode: NvmOpcode,
    lba: u64,
    data: Vec<u8>,
    fua: bool,
    block_bytes: usize,
) -> Result<Command, HostError> {
    let count = data.len() / block_bytes;
    if count * block_bytes != data.len() {
        let problem = format!("{} bytes are not whole blocks of {block_bytes}", data.len());
        return Err(HostError::Answer {
            what: "write data",
            problem,
        });
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Command::sending(range(opcode, lba, count, fua)?, data))
}

fn deallocate(ranges: &[(u64, u32)]) -> Result<Command, HostError> {
    let nr_zero_based = ranges
        .len()
        .checked_sub(1)
        .and_then(|nr| u8::try_from(nr).ok());
    let Some(nr_zero_based) = nr_zero_based else {
        let problem = format!("{} ranges: 1 to 256 can be sent", ranges.len());
        return Err(HostError::Answer {
            what: "Dataset Management",
            problem,
        });
    };
    let meaning = DatasetManagement {
        nr_zero_based,
        deallocate: true,
        ..DatasetManagement::default()
    };
    let mut data = Vec::with_capacity(ranges.len() * DsmRange::SIZE);
    for &(slba, block_count) in ranges {
        let entry = DsmRange {
            attributes: U32::ZERO,
            block_count: U32::new(block_count),
            slba: U64::new(slba),
        };
        data.extend_from_slice(entry.as_wire());
    }
    // The queue replaces the data pointer by one for the way it sends the data.
    let sqe = meaning.encode(0, NSID, Sgl::Transport { len_bytes: 0 });
    Ok(Command::sending(sqe, data))
}
