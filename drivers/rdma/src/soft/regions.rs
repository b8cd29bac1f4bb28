//! Memory that peers may use, by key.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::card::ExposedBackend;
use crate::error::RdmaError;
use crate::work::{Access, Remote};

/// A key is the place in the table and, in its lowest byte, how often that place was used: a stale
/// key does not match.
const USE_BITS: u32 = 8;
const REGIONS_MAX: usize = 1 << (32 - USE_BITS);

struct Place {
    uses: u8,
    region: Option<Region>,
}

struct Region {
    buf: Buf,
    access: Access,
    /// A peer said so: the key is of no use, and the memory still waits for its owner.
    is_forgotten: bool,
}

#[derive(Default)]
struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    count: u64,
    len_bytes: u64,
}

/// What one card exposes.
#[derive(Default)]
pub(super) struct Regions(RefCell<Table>);

impl Regions {
    /// Exposes a buffer; see [`crate::Card::expose`].
    pub fn expose(self: &Rc<Self>, buf: Buf, access: Access) -> Result<Exposed, RdmaError> {
        if !buf.is_unique() {
            return Err(refused(buf.len(), "the buffer is shared"));
        }
        let mut table = self.0.borrow_mut();
        let table = &mut *table;
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.places.len() == REGIONS_MAX => {
                return Err(refused(buf.len(), "all keys are in use"));
            }
            None => {
                let region = None;
                table.places.push(Place { uses: 0, region });
                table.places.len() as u32 - 1
            }
        };
        let Some(place) = table.places.get_mut(index as usize) else {
            return Err(refused(buf.len(), "a key without a place"));
        };
        place.uses = place.uses.wrapping_add(1);
        let remote = Remote {
            address: buf.as_ptr().addr() as u64,
            key: index << USE_BITS | u32::from(place.uses),
        };
        table.count += 1;
        table.len_bytes += buf.len() as u64;
        place.region = Some(Region {
            buf,
            access,
            is_forgotten: false,
        });
        Ok(Exposed {
            regions: self.clone(),
            remote,
        })
    }

    /// Regions and the bytes in them.
    pub fn extent(&self) -> (u64, u64) {
        let table = self.0.borrow();
        (table.count, table.len_bytes)
    }

    /// The memory that a peer reads. None when it may not.
    pub fn read(&self, remote: Remote, len_bytes: usize) -> Option<Buf> {
        let table = self.0.borrow();
        let region = table.usable(remote.key, Access::Read)?;
        let start = region.offset(remote.address, len_bytes)?;
        Some(region.buf.slice(start..start + len_bytes))
    }

    /// Whether a peer may write there.
    pub fn is_writable(&self, remote: Remote, len_bytes: usize) -> bool {
        let table = self.0.borrow();
        let region = table.usable(remote.key, Access::Write);
        region.is_some_and(|region| region.offset(remote.address, len_bytes).is_some())
    }

    /// A peer writes. False when it may not (any more).
    pub fn write(&self, remote: Remote, bytes: &[u8]) -> bool {
        let mut table = self.0.borrow_mut();
        let Some(region) = table.usable(remote.key, Access::Write) else {
            return false;
        };
        let Some(start) = region.offset(remote.address, bytes.len()) else {
            return false;
        };
        let target = table
            .region_mut(remote.key)
            .and_then(|region| region.buf.try_mut())
            .and_then(|memory| memory.get_mut(start..start + bytes.len()));
        target.map(|target| target.copy_from_slice(bytes)).is_some()
    }

    /// A peer has us forget a key. False when there is none such.
    pub fn forget(&self, key: u32) -> bool {
        let mut table = self.0.borrow_mut();
        match table.region_mut(key) {
            Some(region) => !std::mem::replace(&mut region.is_forgotten, true),
            None => false,
        }
    }

    fn take(&self, key: u32) -> Option<Buf> {
        let mut table = self.0.borrow_mut();
        let region = table.place_mut(key)?.region.take()?;
        table.free.push(key >> USE_BITS);
        table.count -= 1;
        table.len_bytes -= region.buf.len() as u64;
        Some(region.buf)
    }
}

impl Table {
    fn place_mut(&mut self, key: u32) -> Option<&mut Place> {
        let place = self.places.get_mut((key >> USE_BITS) as usize)?;
        (place.uses == key as u8).then_some(place)
    }

    fn region_mut(&mut self, key: u32) -> Option<&mut Region> {
        self.place_mut(key)?.region.as_mut()
    }

    fn usable(&self, key: u32, access: Access) -> Option<&Region> {
        let place = self.places.get((key >> USE_BITS) as usize)?;
        let region = place.region.as_ref()?;
        let is_usable = place.uses == key as u8 && region.access == access && !region.is_forgotten;
        is_usable.then_some(region)
    }
}

impl Region {
    /// Where in the buffer an address is, if all of `len_bytes` lies in it.
    fn offset(&self, address: u64, len_bytes: usize) -> Option<usize> {
        let start = address.checked_sub(self.buf.as_ptr().addr() as u64)?;
        let end = start.checked_add(len_bytes as u64)?;
        (end <= self.buf.len() as u64).then_some(start as usize)
    }
}

fn refused(len_bytes: usize, why: &'static str) -> RdmaError {
    RdmaError::Memory {
        device: String::from(super::DEVICE),
        len_bytes,
        error: io::Error::new(io::ErrorKind::InvalidInput, why),
    }
}

/// No card exposes memory unless it was made to.
pub(super) fn not_exposing(len_bytes: usize) -> RdmaError {
    refused(len_bytes, "the card was made without exposes_memory")
}

/// One exposed buffer.
pub(super) struct Exposed {
    regions: Rc<Regions>,
    remote: Remote,
}

impl ExposedBackend for Exposed {
    fn remote(&self) -> Remote {
        self.remote
    }

    fn take(self: Box<Self>) -> Buf {
        // Only this value can take it, and it does so once.
        self.regions
            .take(self.remote.key)
            .expect("an exposed buffer is in its card's table")
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        drop(self.regions.take(self.remote.key));
    }
}
