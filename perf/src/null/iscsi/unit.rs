//! The unit of the null target: what it says of itself, and what commands come to.

use wire::scsi::cdb::{Command, block, control};
use wire::scsi::data::capacity::{self, Capacity};
use wire::scsi::data::inquiry::{self, BlockLimits, Standard};
use wire::scsi::{Cdb, OpCode, Sense, SenseCode, SenseKey, Writer};

use super::super::{Disguise, IO_BYTES_MAX};

/// Pages of vital product data.
const SERIAL_PAGE: u8 = 0x80;
const LIMITS_PAGE: u8 = 0xb0;
/// Most bytes of a parameter list that it answers with.
const ANSWER_BYTES_MAX: usize = 256;

/// What a command comes to.
#[derive(Debug)]
pub enum Reply {
    /// Done.
    Good,
    /// These bytes.
    Data(Vec<u8>),
    /// So many bytes of content.
    Read(u32),
    /// Takes so many bytes.
    Write(u32),
    /// Failed.
    Check(Sense),
}

/// What `cdb` comes to. `attention` is a unit attention that was not told yet.
pub fn answer(disguise: &Disguise, cdb: &Cdb, attention: &mut bool) -> Reply {
    let opcode = OpCode(cdb[0]);
    if opcode == OpCode::INQUIRY {
        return inquiry(disguise, cdb);
    }
    if opcode == OpCode::REPORT_LUNS {
        return data(|out| capacity::write_luns(true, out), usize::MAX);
    }
    if std::mem::take(attention) {
        return Reply::Check(Sense::new(SenseKey::UNIT_ATTENTION, SenseCode::POWER_ON));
    }
    let len_bytes = |count: u32| count.saturating_mul(disguise.block_bytes);
    let reply = match opcode {
        OpCode::TEST_UNIT_READY | OpCode::SYNCHRONIZE_CACHE_10 | OpCode::SYNCHRONIZE_CACHE_16 => {
            Reply::Good
        }
        OpCode::SERVICE_ACTION_IN_16 if cdb[1] & 0x1f == 0x10 => data(
            |out| {
                let capacity = Capacity {
                    block_count: disguise.blocks,
                    block_bytes: disguise.block_bytes,
                    physical_exponent: 0,
                };
                capacity.write_long(out);
            },
            usize::MAX,
        ),
        OpCode::READ_16 => match block::read16(cdb) {
            Command::Read(blocks) => Reply::Read(len_bytes(blocks.block_count)),
            _ => unknown(),
        },
        OpCode::WRITE_16 => match block::write16(cdb) {
            Command::Write(blocks) => Reply::Write(len_bytes(blocks.block_count)),
            _ => unknown(),
        },
        _ => unknown(),
    };
    match reply {
        Reply::Read(bytes) | Reply::Write(bytes) if bytes as usize > IO_BYTES_MAX => {
            Reply::Check(Sense::illegal(SenseCode::INVALID_FIELD_IN_CDB))
        }
        reply => reply,
    }
}

fn unknown() -> Reply {
    Reply::Check(Sense::illegal(SenseCode::INVALID_OPCODE))
}

fn inquiry(disguise: &Disguise, cdb: &Cdb) -> Reply {
    let Command::Inquiry(asked) = control::inquiry(cdb) else {
        return unknown();
    };
    let most = usize::from(asked.allocation_bytes);
    match (asked.vital, asked.page) {
        (false, 0) => data(
            |out| {
                let standard = Standard {
                    peripheral: inquiry::PRESENT,
                    vendor: b"BEDPLATE",
                    product: b"null target",
                    revision: b"0",
                };
                standard.write(out);
            },
            most,
        ),
        (true, SERIAL_PAGE) => data(
            |out| {
                out.bytes(&[inquiry::PRESENT, SERIAL_PAGE, 0, 1, b'0']);
            },
            most,
        ),
        (true, LIMITS_PAGE) => data(
            |out| {
                let limits = BlockLimits {
                    max_transfer: IO_BYTES_MAX as u32 / disguise.block_bytes,
                    ..BlockLimits::default()
                };
                limits.write(inquiry::PRESENT, out);
            },
            most,
        ),
        _ => Reply::Check(Sense::illegal(SenseCode::INVALID_FIELD_IN_CDB)),
    }
}

/// What `write` writes, cut to `most` bytes.
fn data(write: impl FnOnce(&mut Writer<'_>), most: usize) -> Reply {
    let mut bytes = vec![0; ANSWER_BYTES_MAX];
    let mut out = Writer::new(&mut bytes);
    write(&mut out);
    let len = out.written().min(most);
    bytes.truncate(len);
    Reply::Data(bytes)
}
