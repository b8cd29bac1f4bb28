//! A listening address.

use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;

use super::card::{CoreCard, setup_error};
use super::event::Signal;
use super::incoming::IncomingRequest;
use super::manager::{Entry, Managed};
use crate::RdmaError;
use crate::card::{IncomingBackend, ListenerBackend, Setup};

/// A listener and the requests that wait in it. Dropping it refuses those.
pub struct VerbsListener {
    card: Rc<CoreCard>,
    address: SocketAddr,
    entry: Rc<Entry>,
    /// None once its device is gone.
    managed: RefCell<Option<Managed>>,
}

impl VerbsListener {
    /// Listens. Errors: `NoDevice`, `Memory`, `Setup` with what the system said.
    pub fn open(card: &Rc<CoreCard>, address: SocketAddr) -> Result<VerbsListener, RdmaError> {
        let failed = |step| move |error| setup_error(step, address, error);
        let managed = card
            .manager(address)?
            .new_id()
            .map_err(failed("rdma_create_id"))?;
        managed
            .id()
            .listen(address)
            .map_err(failed("rdma_listen"))?;
        card.prepare(managed.id().context(), address)?;
        Ok(VerbsListener {
            card: card.clone(),
            address: managed.id().addresses().0,
            entry: managed.entry().clone(),
            managed: RefCell::new(Some(managed)),
        })
    }

    async fn next(&self) -> IncomingRequest {
        loop {
            match self.entry.next().await {
                Signal::Request(request) => {
                    if let Some(incoming) = IncomingRequest::new(&self.card, request) {
                        return incoming;
                    }
                }
                Signal::DeviceRemoval => {
                    tracing::error!(address = %self.address, "the device of a listener is gone");
                    self.managed.take();
                    pending::<()>().await;
                }
                _ => {}
            }
        }
    }
}

impl ListenerBackend for VerbsListener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> Setup<'_, Box<dyn IncomingBackend>> {
        Box::pin(async move {
            let incoming = self.next().await;
            Ok(Box::new(incoming) as Box<dyn IncomingBackend>)
        })
    }
}
