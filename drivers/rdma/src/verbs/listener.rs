//! A listening address.

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, UdpSocket};
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
        let listening = managed.id().listen(address);
        let listening = listening.map_err(|error| taken(error, address));
        listening.map_err(failed("rdma_listen"))?;
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

/// The manager has one error for an address that is in use and for one that is not of this machine.
/// Which it is a socket without RDMA can tell.
fn taken(error: io::Error, address: SocketAddr) -> io::Error {
    let is_ours = || UdpSocket::bind((address.ip(), 0)).is_ok();
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) if is_ours() => io::Error::from_raw_os_error(libc::EADDRINUSE),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_told_from_a_strange_one() {
        let said = |number, address: &str| {
            let error = io::Error::from_raw_os_error(number);
            taken(error, address.parse().unwrap()).raw_os_error()
        };
        let (strange, in_use) = (libc::EADDRNOTAVAIL, libc::EADDRINUSE);
        assert_eq!(said(strange, "127.0.0.1:4420"), Some(in_use));
        assert_eq!(said(strange, "0.0.0.0:4420"), Some(in_use));
        assert_eq!(said(strange, "192.0.2.1:4420"), Some(strange));
        assert_eq!(said(libc::ENODEV, "127.0.0.1:4420"), Some(libc::ENODEV));
    }
}
