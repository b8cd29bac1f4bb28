//! The few commands that a load needs.
//!
//! Source: SBC-3 sections 5.11 (READ (16)), 5.16 (READ CAPACITY (16)), 5.23 (SYNCHRONIZE CACHE
//! (16)), 5.34 (WRITE (16)); SPC-4 section 6.4 (INQUIRY).

use wire::scsi::{Cdb, OpCode};

/// FUA in byte 1.
const FUA: u8 = 0x08;
/// EVPD in byte 1 of INQUIRY.
const EVPD: u8 = 0x01;
/// Service action of READ CAPACITY (16).
const READ_CAPACITY_16: u8 = 0x10;

/// TEST UNIT READY.
pub const TEST_UNIT_READY: Cdb = [0; 16];

/// Asks for standard INQUIRY data, or for a page of the vital product data.
pub fn inquiry(page: Option<u8>, allocation_bytes: u8) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = OpCode::INQUIRY.0;
    if let Some(page) = page {
        cdb[1] = EVPD;
        cdb[2] = page;
    }
    cdb[4] = allocation_bytes;
    cdb
}

/// READ CAPACITY (16).
pub fn read_capacity(allocation_bytes: u8) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = OpCode::SERVICE_ACTION_IN_16.0;
    cdb[1] = READ_CAPACITY_16;
    cdb[13] = allocation_bytes;
    cdb
}

/// READ (16).
pub fn read(lba: u64, blocks: u32) -> Cdb {
    range(OpCode::READ_16, lba, blocks)
}

/// WRITE (16).
pub fn write(lba: u64, blocks: u32, fua: bool) -> Cdb {
    let mut cdb = range(OpCode::WRITE_16, lba, blocks);
    if fua {
        cdb[1] = FUA;
    }
    cdb
}

/// SYNCHRONIZE CACHE (16) of the whole unit; the status comes when it is done.
pub fn flush() -> Cdb {
    range(OpCode::SYNCHRONIZE_CACHE_16, 0, 0)
}

fn range(opcode: OpCode, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = opcode.0;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use wire::scsi::cdb::{Blocks, Command, block, control};

    use super::*;

    #[test]
    fn a_target_reads_what_was_meant() {
        let (lba, block_count) = (0x0102_0304_0506_0708, 0x090a_0b0c);
        let blocks = |fua| Blocks {
            lba,
            block_count,
            fua,
        };
        let read = block::read16(&read(lba, block_count));
        assert_eq!(read, Command::Read(blocks(false)));
        for fua in [false, true] {
            let write = block::write16(&write(lba, block_count, fua));
            assert_eq!(write, Command::Write(blocks(fua)));
        }
        let capacity = Command::ReadCapacity16 {
            allocation_bytes: 32,
        };
        assert_eq!(block::read_capacity16(&read_capacity(32)), capacity);
        let Command::SynchronizeCache { blocks, immediate } = block::synchronize16(&flush()) else {
            panic!("another command");
        };
        assert_eq!((blocks, immediate), (Blocks::default(), false));
    }

    #[test]
    fn a_page_is_asked_for_by_its_number() {
        let Command::Inquiry(inquiry) = control::inquiry(&inquiry(Some(0xb0), 64)) else {
            panic!("another command");
        };
        assert_eq!((inquiry.vital, inquiry.page), (true, 0xb0));
    }
}
