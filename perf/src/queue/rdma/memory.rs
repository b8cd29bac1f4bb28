//! The memory that the target's card reads and writes.

use std::fmt;

use rdma::{Access, Card, Exposed, Remote};
use reactor::buf::{Buf, MAX_BUF_BYTES, try_alloc};

use super::Shape;
use crate::error::PerfError;

/// Steps between places in the pattern: enough different ones, and aligned to cache lines.
const STEP_BYTES: usize = 64;

/// The memory of a queue.
pub enum Memory {
    /// Exposed for the whole run; nobody looks at what is read.
    Standing(Standing),
    /// A buffer for each slot, exposed for the time of a command.
    Kept(Kept),
}

/// See [`Memory::Standing`].
pub struct Standing {
    io_bytes: usize,
    reads: Vec<Exposed>,
    /// What writes inside their capsule take their data from.
    pattern: Vec<u8>,
    /// The same, for the others.
    exposed: Exposed,
    /// Where in the pattern the data of a slot's write starts.
    places: Vec<usize>,
}

/// See [`Memory::Kept`].
pub struct Kept {
    card: Card,
    slots: Vec<Place>,
}

/// The buffer of a slot.
enum Place {
    Here(Buf),
    Lent(Exposed),
    /// Exposing it failed, which ended the queue.
    Gone,
}

impl Memory {
    /// Memory for the queue of `shape`. `pattern` is what writes send when no data is kept; it has
    /// the bytes of one write or more.
    ///
    /// Errors: `Buffers`; `Rdma` when it cannot be exposed.
    pub fn new(card: &Card, shape: &Shape, pattern: Vec<u8>) -> Result<Self, PerfError> {
        let io_bytes = shape.io_bytes as usize;
        let slots = 0..usize::from(shape.depth);
        if shape.keep_data {
            let slots = slots.map(|_| buffer(io_bytes).map(Place::Here));
            return Ok(Self::Kept(Kept {
                card: card.clone(),
                slots: slots.collect::<Result<_, _>>()?,
            }));
        }
        let read = |_| Ok(card.expose(buffer(io_bytes)?, Access::Write)?);
        let mut pattern = pattern;
        pattern.truncate(MAX_BUF_BYTES);
        let mut copy = buffer(pattern.len())?;
        copy.as_mut().copy_from_slice(&pattern);
        Ok(Self::Standing(Standing {
            io_bytes,
            reads: slots.clone().map(read).collect::<Result<_, PerfError>>()?,
            pattern,
            exposed: card.expose(copy, Access::Read)?,
            places: slots.map(|_| 0).collect(),
        }))
    }

    /// Settles the data of a write. `fill` writes it when data is kept, else `choice` says where in
    /// the pattern it starts.
    pub fn fill(&mut self, cid: u16, choice: u64, fill: impl FnOnce(&mut [u8])) {
        let cid = usize::from(cid);
        match self {
            Self::Standing(standing) => {
                let last = standing.pattern.len().saturating_sub(standing.io_bytes);
                let count = (last / STEP_BYTES) as u64 + 1;
                if let Some(place) = standing.places.get_mut(cid) {
                    *place = (choice % count) as usize * STEP_BYTES;
                }
            }
            Self::Kept(kept) => {
                if let Some(Place::Here(buf)) = kept.slots.get_mut(cid)
                    && let Some(bytes) = buf.try_mut()
                {
                    fill(bytes);
                }
            }
        }
    }

    /// The data of a write that was settled and not lent.
    pub fn data(&self, cid: u16) -> &[u8] {
        match self {
            Self::Standing(standing) => {
                let place = standing.places.get(usize::from(cid)).copied();
                let start = place.unwrap_or_default();
                let data = standing.pattern.get(start..start + standing.io_bytes);
                data.unwrap_or_default()
            }
            Self::Kept(_) => self.buffer(cid),
        }
    }

    /// Lets the target read the data of a write.
    ///
    /// Errors: `Rdma`.
    pub fn lend_for_read(&mut self, cid: u16) -> Result<Remote, PerfError> {
        match self {
            Self::Standing(standing) => {
                let place = standing.places.get(usize::from(cid)).copied();
                let remote = standing.exposed.remote();
                Ok(Remote {
                    address: remote.address + place.unwrap_or_default() as u64,
                    ..remote
                })
            }
            Self::Kept(kept) => kept.lend(cid, Access::Read),
        }
    }

    /// Lets the target write the data of a read.
    ///
    /// Errors: `Rdma`.
    pub fn lend_for_write(&mut self, cid: u16) -> Result<Remote, PerfError> {
        match self {
            Self::Standing(standing) => {
                let exposed = standing.reads.get(usize::from(cid));
                exposed.map(Exposed::remote).ok_or(PerfError::Buffers)
            }
            Self::Kept(kept) => kept.lend(cid, Access::Write),
        }
    }

    /// The command of a slot is done: its buffer is here again.
    pub fn take_back(&mut self, cid: u16) {
        if let Self::Kept(kept) = self
            && let Some(place) = kept.slots.get_mut(usize::from(cid))
        {
            *place = match std::mem::replace(place, Place::Gone) {
                Place::Lent(exposed) => Place::Here(exposed.take()),
                other => other,
            };
        }
    }

    /// The buffer of a slot; empty when no data is kept or while it is lent.
    pub fn buffer(&self, cid: u16) -> &[u8] {
        match self {
            Self::Kept(kept) => match kept.slots.get(usize::from(cid)) {
                Some(Place::Here(buf)) => buf,
                _ => &[],
            },
            Self::Standing(_) => &[],
        }
    }
}

impl Kept {
    fn lend(&mut self, cid: u16, access: Access) -> Result<Remote, PerfError> {
        let place = self.slots.get_mut(usize::from(cid));
        let place = place.ok_or(PerfError::Buffers)?;
        match std::mem::replace(place, Place::Gone) {
            Place::Here(buf) => {
                let exposed = self.card.expose(buf, access)?;
                let remote = exposed.remote();
                *place = Place::Lent(exposed);
                Ok(remote)
            }
            Place::Lent(_) | Place::Gone => Err(PerfError::Buffers),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standing(standing) => write!(f, "Standing({} reads)", standing.reads.len()),
            Self::Kept(kept) => write!(f, "Kept({} slots)", kept.slots.len()),
        }
    }
}

fn buffer(len_bytes: usize) -> Result<Buf, PerfError> {
    try_alloc(len_bytes).ok_or(PerfError::Buffers)
}
