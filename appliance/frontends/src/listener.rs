//! Accepts connections on one address.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::net::{BoundSocket, TcpListener, TcpStream};

use crate::closing::Closing;
use crate::complaints::{Complaint, Complaints};
use crate::error::FrontendError;

/// Pause after a failed accept (too many open files), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who takes the sockets of a listener.
pub(crate) trait Acceptor: 'static {
    /// Serves a new socket; returns at once.
    fn accept(&self, stream: TcpStream, peer: SocketAddr);
    /// For log lines.
    fn complaints(&self) -> &Rc<Complaints>;
}

/// A listening address of a target.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    closing: Closing,
}

impl Listener {
    pub(crate) fn open(
        acceptor: impl Acceptor,
        bound: BoundSocket,
    ) -> Result<Rc<Self>, FrontendError> {
        let address = bound.local_addr();
        let socket = bound
            .listen()
            .map_err(|error| FrontendError::Listen { address, error })?;
        let listener = Rc::new(Self {
            address,
            closing: Closing::default(),
        });
        // The task keeps the listener: it stays open until it is closed.
        drop(reactor::spawn(accept_loop(
            acceptor,
            socket,
            Rc::clone(&listener),
        )));
        Ok(listener)
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

async fn accept_loop(acceptor: impl Acceptor, socket: TcpListener, listener: Rc<Listener>) {
    while let Some(accepted) = listener.closing.until(socket.accept()).await {
        match accepted {
            Ok((stream, peer)) => acceptor.accept(stream, peer),
            Err(error) => {
                acceptor.complaints().about(Complaint::Accept, || {
                    tracing::warn!(address = %listener.address, %error, "accept failed");
                });
                reactor::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
