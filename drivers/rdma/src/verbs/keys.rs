//! A core's own copy of the table of registered memory: looked at without a lock.

use std::cell::RefCell;
use std::sync::Arc;

use reactor::buf::Buf;

use super::device::Device;
use super::regions::{Region, Regions};

/// The keys of registered memory, with one kind of access.
pub struct Keys {
    device: Arc<Device>,
    exposes: bool,
    known: RefCell<Regions>,
}

impl Keys {
    /// The keys of what is registered now and later.
    pub fn new(device: Arc<Device>, exposes: bool) -> Keys {
        let known = RefCell::new(device.regions(exposes));
        Keys {
            device,
            exposes,
            known,
        }
    }

    /// The region that a buffer lies in; none for memory that no core has registered. Cost: no
    /// lock, but for the first use of a core that has started since.
    pub fn find(&self, buf: &Buf) -> Option<Region> {
        let address = buf.as_ptr().addr() as u64;
        if let Some(region) = self.known.borrow().find(address, buf.len()) {
            return Some(*region);
        }
        let now = self.device.regions(self.exposes);
        let found = now.find(address, buf.len()).copied();
        *self.known.borrow_mut() = now;
        found
    }
}
