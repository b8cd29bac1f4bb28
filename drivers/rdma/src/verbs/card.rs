//! The card of one core: where the seam meets the pieces.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use reactor::buf::{self, Buf};

use super::cm_id::Parameters;
use super::device::{Context, Device};
use super::event::Signal;
use super::expose::expose;
use super::incoming::{Detached, IncomingRequest};
use super::listener::VerbsListener;
use super::manager::Manager;
use super::pair::{Pair, PairHandle};
use super::queues::Queues;
use super::registry::Registry;
use crate::card::{
    CardBackend, ExposedBackend, IncomingBackend, ListenerBackend, PairBackend, Setup,
};
use crate::{Access, CardOptions, CardStats, PairOptions, RdmaError};

/// What one core has of RDMA devices.
pub struct VerbsCard(Rc<CoreCard>);

/// The same, shared with its listeners and requests.
pub struct CoreCard {
    registry: Registry,
    options: CardOptions,
    manager: RefCell<Option<Rc<Manager>>>,
    queues: RefCell<Vec<Rc<Queues>>>,
}

impl VerbsCard {
    /// See [`crate::Card::verbs`].
    pub fn new(registry: Registry, options: CardOptions) -> Result<VerbsCard, RdmaError> {
        let pools = [buf::pool(), buf::engine_pool()];
        registry.add_pools(&pools, options.exposes_memory)?;
        Ok(VerbsCard(Rc::new(CoreCard {
            registry,
            options,
            manager: RefCell::default(),
            queues: RefCell::default(),
        })))
    }
}

impl CoreCard {
    /// The connection manager. `address` is for errors: without it no device serves anything.
    pub fn manager(&self, address: SocketAddr) -> Result<Rc<Manager>, RdmaError> {
        let mut manager = self.manager.borrow_mut();
        if let Some(manager) = &*manager {
            return Ok(manager.clone());
        }
        let started = Manager::start(self.registry.library()).map_err(|error| {
            tracing::warn!(%error, "the RDMA connection manager of the kernel is not there");
            RdmaError::NoDevice { address }
        })?;
        Ok(manager.insert(started).clone())
    }

    /// The queues on a device, made when they are first needed. `address` is for errors.
    pub fn queues(&self, context: Context, address: SocketAddr) -> Result<Rc<Queues>, RdmaError> {
        let mut all = self.queues.borrow_mut();
        if let Some(known) = all.iter().find(|known| known.device().context() == context) {
            return Ok(known.clone());
        }
        let device = self.registry.device(context, address)?;
        let made = Queues::open(device, &self.options);
        let made = made.map_err(|error| RdmaError::Setup {
            step: "making the completion and receive queues",
            address,
            error,
        })?;
        all.push(made.clone());
        Ok(made)
    }

    /// Registers memory with the device of a listener, or with all for a wildcard address, so that
    /// the first connection does not wait for that.
    pub fn prepare(&self, context: Option<Context>, address: SocketAddr) -> Result<(), RdmaError> {
        if let Some(context) = context {
            return self.queues(context, address).map(drop);
        }
        let contexts = self.registry.contexts();
        if contexts.is_empty() {
            return Err(RdmaError::NoDevice { address });
        }
        for context in contexts {
            self.registry.device(context, address)?;
        }
        Ok(())
    }

    /// Sizes.
    pub fn options(&self) -> &CardOptions {
        &self.options
    }

    /// How many reads a pair serves its peer, of those that it would like to ask.
    pub fn reads_served(&self, queues: &Queues, peer_asks: u8) -> u8 {
        match self.options.exposes_memory {
            true => queues.device().limits().reads_served.min(peer_asks),
            false => 0,
        }
    }

    /// The device whose keys are told to peers: the first in use, else the first there is.
    pub fn first_device(&self) -> Option<Arc<Device>> {
        if let Some(first) = self.queues.borrow().first() {
            return Some(first.device().clone());
        }
        let nowhere = SocketAddr::from(([0; 4], 0));
        let first = *self.registry.contexts().first()?;
        self.registry.device(first, nowhere).ok()
    }

    async fn connect(
        &self,
        address: SocketAddr,
        private_data: &[u8],
        options: PairOptions,
    ) -> Result<(Rc<dyn PairBackend>, Vec<u8>), RdmaError> {
        let failed = |step| move |error| setup_error(step, address, error);
        let managed = self
            .manager(address)?
            .new_id()
            .map_err(failed("rdma_create_id"))?;
        let entry = managed.entry().clone();
        let id = managed.id();
        id.resolve_address(address)
            .map_err(failed("rdma_resolve_addr"))?;
        expect(&entry.next().await, "rdma_resolve_addr", address)?;
        id.resolve_route().map_err(failed("rdma_resolve_route"))?;
        expect(&entry.next().await, "rdma_resolve_route", address)?;
        let context = id.context().ok_or(RdmaError::NoDevice { address })?;
        let queues = self.queues(context, address)?;
        let pair = Pair::new(managed, &queues, options, self.options.flush_timeout)
            .map_err(failed("making a queue pair"))?;
        let parameters = Parameters {
            private_data,
            reads_served: self.reads_served(&queues, u8::MAX),
            reads_asked: options.read_depth.min(queues.device().limits().reads_asked),
        };
        let id = pair.pair().managed().id();
        id.connect(&parameters).map_err(failed("rdma_connect"))?;
        let said = established(&pair, address).await?;
        Ok((Rc::new(pair), said))
    }
}

/// Waits until a connection stands, and gives what the other side said.
pub async fn established(pair: &PairHandle, address: SocketAddr) -> Result<Vec<u8>, RdmaError> {
    let entry = pair.pair().managed().entry();
    loop {
        match entry.next().await {
            Signal::Established(said) => return Ok(said),
            Signal::Refused(private_data) => {
                return Err(RdmaError::Refused {
                    address,
                    private_data,
                });
            }
            Signal::Failed(error) => return Err(setup_error("connecting", address, error)),
            Signal::Disconnected | Signal::AddressChange => {
                return Err(RdmaError::Gone { address });
            }
            Signal::DeviceRemoval => return Err(RdmaError::NoDevice { address }),
            _ => {}
        }
    }
}

/// Whether a step of the way to a connection went well.
fn expect(signal: &Signal, step: &'static str, address: SocketAddr) -> Result<(), RdmaError> {
    match signal {
        Signal::AddressResolved | Signal::RouteResolved => Ok(()),
        Signal::Failed(error) => {
            let error = match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::other(error.to_string()),
            };
            Err(setup_error(step, address, error))
        }
        _ => Err(RdmaError::NoDevice { address }),
    }
}

/// What an error of a call means for an address.
pub fn setup_error(step: &'static str, address: SocketAddr, error: io::Error) -> RdmaError {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::EADDRNOTAVAIL) => RdmaError::NoDevice { address },
        _ => RdmaError::Setup {
            step,
            address,
            error,
        },
    }
}

impl CardBackend for VerbsCard {
    fn listen(&self, address: SocketAddr) -> Setup<'_, Box<dyn ListenerBackend>> {
        Box::pin(async move {
            let listener = VerbsListener::open(&self.0, address)?;
            Ok(Box::new(listener) as Box<dyn ListenerBackend>)
        })
    }

    fn connect<'a>(
        &'a self,
        address: SocketAddr,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, (Rc<dyn PairBackend>, Vec<u8>)> {
        Box::pin(self.0.connect(address, private_data, options))
    }

    fn attach(&self, detached: Box<dyn Any + Send>) -> Result<Box<dyn IncomingBackend>, RdmaError> {
        let detached = detached
            .downcast::<Detached>()
            .map_err(|_| RdmaError::Setup {
                step: "attaching a request of another kind of card",
                address: SocketAddr::from(([0; 4], 0)),
                error: io::Error::from(io::ErrorKind::InvalidInput),
            })?;
        Ok(Box::new(IncomingRequest::attach(&self.0, *detached)?))
    }

    fn expose(&self, buf: Buf, access: Access) -> Result<Box<dyn ExposedBackend>, RdmaError> {
        expose(&self.0, buf, access)
    }

    fn stats(&self) -> CardStats {
        let (memory_regions, registered_bytes) = self.0.registry.registered();
        let mut stats = CardStats {
            memory_regions,
            registered_bytes,
            ..CardStats::default()
        };
        for queues in self.0.queues.borrow().iter() {
            queues.add_stats(&mut stats);
        }
        stats
    }
}

impl Drop for CoreCard {
    fn drop(&mut self) {
        for queues in self.queues.get_mut() {
            queues.close();
        }
        if let Some(manager) = self.manager.get_mut() {
            manager.close();
        }
    }
}
