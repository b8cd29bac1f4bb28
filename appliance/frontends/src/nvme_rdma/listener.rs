//! Takes requests to connect on one address.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::request;
use crate::closing::Closing;
use crate::complaints::Complaint;
use crate::nvmf::target::Target;

/// Pause after a failed accept, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening address of a target, for NVMe/RDMA.
#[derive(Debug)]
pub struct RdmaListener {
    address: SocketAddr,
    closing: Closing,
}

impl RdmaListener {
    pub(crate) fn open(target: Target, listener: rdma::Listener) -> Rc<Self> {
        let this = Rc::new(Self {
            address: listener.address(),
            closing: Closing::default(),
        });
        // The task keeps the listener: it stays open until it is closed.
        drop(reactor::spawn(accept_loop(
            target,
            listener,
            Rc::clone(&this),
        )));
        this
    }

    /// The bound address, with the port the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting. Connections there are stay.
    pub fn close(&self) {
        self.closing.begin();
    }
}

async fn accept_loop(target: Target, listener: rdma::Listener, this: Rc<RdmaListener>) {
    while let Some(accepted) = this.closing.until(listener.accept()).await {
        match accepted {
            Ok(incoming) => request::arrive(&target, incoming),
            Err(error) => {
                target.complaints().about(Complaint::Accept, || {
                    tracing::warn!(address = %this.address, %error, "accept over RDMA failed");
                });
                reactor::time::sleep(PAUSE).await;
            }
        }
    }
}
