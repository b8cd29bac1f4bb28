//! For the tests of other crates (feature `testing`).

use std::rc::Rc;

use crate::memory::Memory;
use crate::volume::Volume;

/// A volume of zeros kept in memory: same type, same checks, no journal. Must be used inside an
/// executor; memory grows with what is written.
pub fn memory_volume(block_count: u64, block_bytes: u32) -> Volume {
    assert!(
        matches!(block_bytes, 512 | 4096),
        "a block has 512 or 4096 bytes"
    );
    Volume::from_memory(Rc::new(Memory::new(block_count, block_bytes)))
}

/// As [`memory_volume`], with an identity of its own for each `number` from 1 to 9, in a pool with
/// room for `room_blocks` written blocks.
pub fn numbered_volume(number: u8, block_count: u64, block_bytes: u32, room_blocks: u64) -> Volume {
    assert!((1..=9).contains(&number), "a number has one digit");
    let memory = Memory::numbered(number, block_count, block_bytes, room_blocks);
    Volume::from_memory(Rc::new(memory))
}
