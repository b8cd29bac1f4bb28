//! I/O commands of the NVM command set.
//!
//! Source: NVM command set 1.0 sections 3.2.1 (Compare), 3.2.3 (Dataset Management), 3.2.4 (Read),
//! 3.2.5 (Verify), 3.2.6 (Write), 3.2.8 (Write Zeroes).

use zerocopy::little_endian::U32;

use crate::Error;
use crate::nvme::command::{NvmOpcode, Sqe, bit};
use crate::nvme::sgl::Sgl;

/// Read, Write, Compare or Verify: a range of logical blocks and how to treat it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadWrite {
    /// First logical block.
    pub slba: u64,
    /// Number of logical blocks minus one, as on the wire.
    pub nlb_zero_based: u16,
    /// Force Unit Access: a write is durable, a read comes from durable media.
    pub fua: bool,
    /// Limited Retry: fail early rather than try hard.
    pub limited_retry: bool,
    /// Protection information bits (PRACT, PRCHK), 4 bits.
    pub prinfo: u8,
    /// Storage tag check.
    pub storage_tag_check: bool,
    /// Directive type of a write, 4 bits.
    pub directive_type: u8,
    /// Dataset management hints, dword 13 bits 7:0.
    pub dsm_hints: u8,
    /// Directive specific value of a write, dword 13 bits 31:16.
    pub directive_specific: u16,
    /// Expected initial reference tag, dword 14.
    pub reference_tag: u32,
    /// Expected application tag and its mask, dword 15.
    pub application_tag: u32,
}

impl ReadWrite {
    /// A range of `block_count` blocks, 1 to 65,536.
    ///
    /// Errors: `InvalidField` for a count that cannot be sent.
    pub fn new(slba: u64, block_count: u32) -> Result<Self, Error> {
        Ok(Self {
            slba,
            nlb_zero_based: zero_based("ReadWrite", block_count)?,
            ..Self::default()
        })
    }

    /// Number of logical blocks, 1 to 65,536.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32::from(self.nlb_zero_based) + 1
    }

    /// First block after the range; `None` when the range passes the end of the number space.
    #[must_use]
    pub fn end_lba(&self) -> Option<u64> {
        self.slba.checked_add(u64::from(self.block_count()))
    }

    /// Reads the dwords of a Read, Write, Compare or Verify.
    ///
    /// Errors: `WrongCommand` for any other opcode.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        let opcode = sqe.nvm_opcode();
        if !Self::OPCODES.contains(&opcode) {
            return Err(Error::WrongCommand {
                what: "Read, Write, Compare or Verify",
                opcode: sqe.opcode,
                fctype: sqe.fctype(),
            });
        }
        let (cdw12, cdw13) = (sqe.cdw12.get(), sqe.cdw13.get());
        Ok(Self {
            slba: Sqe::u64(sqe.cdw10, sqe.cdw11),
            nlb_zero_based: (cdw12 & 0xffff) as u16,
            fua: bit(cdw12, 30),
            limited_retry: bit(cdw12, 31),
            prinfo: (cdw12 >> 26 & 0xf) as u8,
            storage_tag_check: bit(cdw12, 24),
            directive_type: (cdw12 >> 20 & 0xf) as u8,
            dsm_hints: (cdw13 & 0xff) as u8,
            directive_specific: (cdw13 >> 16) as u16,
            reference_tag: sqe.cdw14.get(),
            application_tag: sqe.cdw15.get(),
        })
    }

    /// Builds the command; `opcode` is one of Read, Write, Compare, Verify. Verify has no data.
    #[must_use]
    pub fn encode(&self, opcode: NvmOpcode, cid: u16, nsid: u32, data: Option<Sgl>) -> Sqe {
        let mut sqe = Sqe::new(opcode.0, cid, nsid);
        Sqe::set_u64(&mut sqe.cdw10, &mut sqe.cdw11, self.slba);
        let cdw12 = u32::from(self.nlb_zero_based)
            | u32::from(self.directive_type & 0xf) << 20
            | u32::from(self.storage_tag_check) << 24
            | u32::from(self.prinfo & 0xf) << 26
            | u32::from(self.fua) << 30
            | u32::from(self.limited_retry) << 31;
        sqe.cdw12 = U32::new(cdw12);
        let cdw13 = u32::from(self.dsm_hints) | u32::from(self.directive_specific) << 16;
        sqe.cdw13 = U32::new(cdw13);
        sqe.cdw14 = U32::new(self.reference_tag);
        sqe.cdw15 = U32::new(self.application_tag);
        match data {
            Some(sgl) => sqe.with_data(sgl),
            None => sqe,
        }
    }

    const OPCODES: [NvmOpcode; 4] = [
        NvmOpcode::READ,
        NvmOpcode::WRITE,
        NvmOpcode::COMPARE,
        NvmOpcode::VERIFY,
    ];
}

/// Write Zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteZeroes {
    /// First logical block.
    pub slba: u64,
    /// Number of logical blocks minus one, as on the wire.
    pub nlb_zero_based: u16,
    /// Deallocate: the blocks may be given back, provided they then read as zeroes.
    pub deallocate: bool,
    /// Force Unit Access.
    pub fua: bool,
    /// Limited Retry.
    pub limited_retry: bool,
    /// Protection information bits, 4 bits.
    pub prinfo: u8,
}

impl WriteZeroes {
    /// A range of `block_count` blocks, 1 to 65,536.
    ///
    /// Errors: `InvalidField` for a count that cannot be sent.
    pub fn new(slba: u64, block_count: u32, deallocate: bool) -> Result<Self, Error> {
        let nlb_zero_based = zero_based("WriteZeroes", block_count)?;
        Ok(Self {
            slba,
            nlb_zero_based,
            deallocate,
            ..Self::default()
        })
    }

    /// Number of logical blocks, 1 to 65,536.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32::from(self.nlb_zero_based) + 1
    }

    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Write Zeroes", NvmOpcode::WRITE_ZEROES.0)?;
        let cdw12 = sqe.cdw12.get();
        Ok(Self {
            slba: Sqe::u64(sqe.cdw10, sqe.cdw11),
            nlb_zero_based: (cdw12 & 0xffff) as u16,
            deallocate: bit(cdw12, 25),
            fua: bit(cdw12, 30),
            limited_retry: bit(cdw12, 31),
            prinfo: (cdw12 >> 26 & 0xf) as u8,
        })
    }

    /// Builds the command.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32) -> Sqe {
        let mut sqe = Sqe::new(NvmOpcode::WRITE_ZEROES.0, cid, nsid);
        Sqe::set_u64(&mut sqe.cdw10, &mut sqe.cdw11, self.slba);
        let cdw12 = u32::from(self.nlb_zero_based)
            | u32::from(self.deallocate) << 25
            | u32::from(self.prinfo & 0xf) << 26
            | u32::from(self.fua) << 30
            | u32::from(self.limited_retry) << 31;
        sqe.cdw12 = U32::new(cdw12);
        sqe
    }
}

/// Dataset Management; the ranges are the command's data, see [`crate::nvme::dsm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Number of ranges minus one, as on the wire (8 bits).
    pub nr_zero_based: u8,
    /// Hint: the ranges will be read as a unit.
    pub integral_read: bool,
    /// Hint: the ranges will be written as a unit.
    pub integral_write: bool,
    /// Deallocate the ranges.
    pub deallocate: bool,
}

impl DatasetManagement {
    /// Number of ranges, 1 to 256.
    #[must_use]
    pub fn range_count(&self) -> usize {
        usize::from(self.nr_zero_based) + 1
    }

    /// Reads the dwords; errors: `WrongCommand`.
    pub fn decode(sqe: &Sqe) -> Result<Self, Error> {
        sqe.expect("Dataset Management", NvmOpcode::DATASET_MANAGEMENT.0)?;
        let cdw11 = sqe.cdw11.get();
        Ok(Self {
            nr_zero_based: (sqe.cdw10.get() & 0xff) as u8,
            integral_read: bit(cdw11, 0),
            integral_write: bit(cdw11, 1),
            deallocate: bit(cdw11, 2),
        })
    }

    /// Builds the command.
    #[must_use]
    pub fn encode(&self, cid: u16, nsid: u32, data: Sgl) -> Sqe {
        let mut sqe = Sqe::new(NvmOpcode::DATASET_MANAGEMENT.0, cid, nsid).with_data(data);
        sqe.cdw10 = U32::new(u32::from(self.nr_zero_based));
        let cdw11 = u32::from(self.integral_read)
            | u32::from(self.integral_write) << 1
            | u32::from(self.deallocate) << 2;
        sqe.cdw11 = U32::new(cdw11);
        sqe
    }
}

fn zero_based(what: &'static str, block_count: u32) -> Result<u16, Error> {
    block_count
        .checked_sub(1)
        .and_then(|count| u16::try_from(count).ok())
        .ok_or(Error::InvalidField {
            what,
            field: "block_count",
            value: u64::from(block_count),
        })
}
