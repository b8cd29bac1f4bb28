//! Which superblock counts: facts about the two slots, and the decision that follows from them.

use block::{BlockError, Device};

use crate::error::{Foreign, StoreError};
use crate::format::superblock::{SLOT_BLOCKS, Superblock, SuperblockFault};
use crate::format::{Block, FORMAT_VERSION, OLDEST_VERSION};
use crate::pool::sniff;
use crate::pool::writer::write_block;
use crate::types::BLOCK_BYTES;

/// The generation each slot is known to hold; none when it holds nothing usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblocks {
    pub(crate) holds: [Option<u64>; 2],
}

impl Superblocks {
    /// The slot to write first: one that does not hold the current state, if there is one, so
    /// that the current state survives a torn write.
    pub(crate) fn first_to_write(&self, current: u64) -> usize {
        usize::from(self.holds[0] == Some(current) && self.holds[1] != Some(current))
    }

    /// Writes one slot. What it holds is unknown while the write runs.
    pub(crate) async fn write(
        &mut self,
        device: &Device,
        slot: usize,
        superblock: &Superblock,
    ) -> Result<(), BlockError> {
        self.holds[slot] = None;
        write_block(device, SLOT_BLOCKS[slot], &superblock.encode()).await?;
        self.holds[slot] = Some(superblock.generation);
        Ok(())
    }
}

/// What was found in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotFact {
    /// The block could not be read.
    Unreadable(BlockError),
    /// It was read, and is not a superblock we can use.
    Unusable(SuperblockFault),
    /// It is one.
    Valid(Superblock),
}

/// Reads both slots. Never fails: a failure is a fact about a slot.
pub(crate) async fn read_superblocks(device: &Device) -> [SlotFact; 2] {
    [read_slot(device, 0).await, read_slot(device, 1).await]
}

async fn read_slot(device: &Device, slot: usize) -> SlotFact {
    let buf = reactor::buf::engine_alloc(BLOCK_BYTES).await;
    let (result, buf) = device
        .read(SLOT_BLOCKS[slot] * BLOCK_BYTES as u64, buf)
        .await;
    match result {
        Ok(()) => {}
        // Too short to hold the slot: what ends before it was never a pool, or is truncated.
        Err(BlockError::OutOfRange { .. }) => return SlotFact::Unusable(SuperblockFault::NoMagic),
        Err(error) => return SlotFact::Unreadable(error),
    }
    let block: &Block = buf[..].try_into().expect("one block");
    match Superblock::decode(block) {
        Ok(superblock) => SlotFact::Valid(superblock),
        Err(fault) => SlotFact::Unusable(fault),
    }
}

/// What the two slots say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This superblock counts.
    Use(Box<Superblock>),
    /// Somebody else's data, or nothing.
    NotAPool,
    /// A later format: do not touch it.
    Newer { version: u16, minimum: u16 },
    /// A format that is not read any more: do not touch it either.
    Older { version: u16 },
    /// It is a pool, and neither slot can be used.
    Damaged(&'static str, &'static str),
    /// Two pools in one: a slot was copied or restored from elsewhere.
    Foreign,
}

/// Decides by the facts alone.
///
/// | slot a | slot b | decision |
/// |---|---|---|
/// | newer or older format | anything | `Newer`, `Older`: even an intact slot beside it may be stale |
/// | valid | valid, same pool and geometry | the larger generation |
/// | valid | valid, another pool | `Foreign` |
/// | valid | unusable or unreadable | the valid one: torn by a crash, or damaged since |
/// | damaged or unreadable | damaged, unreadable or no magic | `Damaged` |
/// | no magic | no magic | `NotAPool` |
pub(crate) fn choose(facts: &[SlotFact; 2]) -> Choice {
    for fact in facts {
        if let SlotFact::Unusable(SuperblockFault::Newer { version, minimum }) = *fact {
            return Choice::Newer { version, minimum };
        }
        if let SlotFact::Unusable(SuperblockFault::Older { version }) = *fact {
            return Choice::Older { version };
        }
    }
    match facts {
        [SlotFact::Valid(a), SlotFact::Valid(b)] if !same_pool(a, b) => Choice::Foreign,
        [SlotFact::Valid(a), SlotFact::Valid(b)] => Choice::Use(Box::new(
            if a.generation >= b.generation { a } else { b }.clone(),
        )),
        [SlotFact::Valid(one), _] | [_, SlotFact::Valid(one)] => Choice::Use(Box::new(one.clone())),
        [
            SlotFact::Unusable(SuperblockFault::NoMagic),
            SlotFact::Unusable(SuperblockFault::NoMagic),
        ] => Choice::NotAPool,
        [a, b] => Choice::Damaged(what(a), what(b)),
    }
}

fn same_pool(a: &Superblock, b: &Superblock) -> bool {
    use crate::pool::PoolGeometry;
    a.pool_uuid == b.pool_uuid && PoolGeometry::of(a) == PoolGeometry::of(b)
}

fn what(fact: &SlotFact) -> &'static str {
    match fact {
        SlotFact::Unreadable(_) => "cannot be read",
        SlotFact::Unusable(SuperblockFault::NoMagic) => "magic is missing",
        SlotFact::Unusable(SuperblockFault::Damaged(what)) => what,
        SlotFact::Unusable(SuperblockFault::Newer { .. }) => "newer format",
        SlotFact::Unusable(SuperblockFault::Older { .. }) => "older format",
        SlotFact::Valid(_) => "intact",
    }
}

/// Turns a decision into the superblock or the error that says what to do.
pub(crate) async fn decide(
    device: &Device,
    facts: &[SlotFact; 2],
) -> Result<Superblock, StoreError> {
    let path = || device.path().to_owned();
    match choose(facts) {
        Choice::Use(superblock) => check_length(device, *superblock),
        Choice::NotAPool => {
            let found = sniff::look(device).await?;
            Err(StoreError::NotAPool {
                path: path(),
                found,
            })
        }
        Choice::Newer { version, minimum } => Err(StoreError::NewerFormat {
            path: path(),
            version,
            minimum,
            ours: FORMAT_VERSION,
        }),
        Choice::Older { version } => Err(StoreError::OlderFormat {
            path: path(),
            version,
            oldest: OLDEST_VERSION,
        }),
        Choice::Damaged(first, second) => {
            readable(facts)?;
            Err(StoreError::SuperblocksDamaged {
                path: path(),
                first,
                second,
            })
        }
        Choice::Foreign => {
            let (first, second) = ("of one pool", "of another pool");
            Err(StoreError::SuperblocksDamaged {
                path: path(),
                first,
                second,
            })
        }
    }
}

/// A device that cannot be read at all has not got damaged superblocks: it is the device.
fn readable(facts: &[SlotFact; 2]) -> Result<(), StoreError> {
    match facts {
        [SlotFact::Unreadable(error), SlotFact::Unreadable(_)] => Err(error.clone().into()),
        _ => Ok(()),
    }
}

fn check_length(device: &Device, superblock: Superblock) -> Result<Superblock, StoreError> {
    let actual_bytes = device.geometry().len_bytes;
    if actual_bytes < superblock.device_bytes {
        return Err(StoreError::Truncated {
            path: device.path().to_owned(),
            expected_bytes: superblock.device_bytes,
            actual_bytes,
        });
    }
    Ok(superblock)
}

/// Used where a caller only asks whether there is a pool.
pub(crate) fn is_pool(facts: &[SlotFact; 2]) -> bool {
    !matches!(choose(facts), Choice::NotAPool)
}

/// What creating a pool here would destroy.
pub(crate) async fn occupied(device: &Device) -> Result<Option<Foreign>, StoreError> {
    let found = sniff::look(device).await?;
    Ok((found != Foreign::Zeros).then_some(found))
}
