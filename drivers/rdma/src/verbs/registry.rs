//! What all cores of a process have in common: the open devices and the memory they know.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reactor::buf::BufPool;

use super::device::{Context, Device, all, hold_all};
use super::library::Library;
use crate::RdmaError;

/// The RDMA devices of this process and the memory that they know. Made once; clones share it.
///
/// A device has one protection domain, in which the buffer pools of all cores are registered, so
/// that memory is pinned once and any buffer can be sent from any core. Pools stay mapped and
/// registered until the last clone, card and queue pair is gone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    library: &'static Library,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: Vec<Arc<Device>>,
    pools: Vec<(BufPool, bool)>,
}

impl Registry {
    /// Loads the RDMA libraries; looks at no device yet. Errors: `NoLibrary`.
    pub fn new() -> Result<Registry, RdmaError> {
        let library = Library::get()?;
        let state = Mutex::default();
        Ok(Registry(Arc::new(Shared { library, state })))
    }

    pub(super) fn library(&self) -> &'static Library {
        self.0.library
    }

    /// Takes note of a core's pools, and registers them with the devices in use.
    pub(super) fn add_pools(&self, pools: &[BufPool], exposes: bool) -> Result<(), RdmaError> {
        let mut state = self.state();
        for pool in pools {
            let is_same = |(known, kind): &(BufPool, bool)| {
                known.memory().0 == pool.memory().0 && *kind == exposes
            };
            if !state.pools.iter().any(is_same) {
                state.pools.push((pool.clone(), exposes));
            }
            for device in &state.devices {
                device.register(pool, exposes)?;
            }
        }
        Ok(())
    }

    /// The device of a connection or listener, with all memory registered. `address` is for errors.
    pub(super) fn device(
        &self,
        context: Context,
        address: SocketAddr,
    ) -> Result<Arc<Device>, RdmaError> {
        let mut state = self.state();
        if let Some(known) = state
            .devices
            .iter()
            .find(|known| known.context() == context)
        {
            return Ok(known.clone());
        }
        hold_all(self.library());
        let device = Device::open(self.library(), context).map_err(|error| RdmaError::Setup {
            step: "opening the RDMA device",
            address,
            error,
        })?;
        for (pool, exposes) in &state.pools {
            device.register(pool, *exposes)?;
        }
        let (regions, len_bytes) = device.registered();
        let (name, limits) = (device.name(), device.limits());
        tracing::info!(
            device = name,
            regions,
            len_bytes,
            ?limits,
            "RDMA device in use"
        );
        let device = Arc::new(device);
        state.devices.push(device.clone());
        Ok(device)
    }

    /// All devices of the machine.
    pub(super) fn contexts(&self) -> Vec<Context> {
        all(self.library())
    }

    /// Memory regions and the bytes in them, of all devices.
    pub(super) fn registered(&self) -> (u64, u64) {
        let state = self.state();
        let each = state.devices.iter().map(|device| device.registered());
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
