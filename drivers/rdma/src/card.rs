//! What one core has of RDMA, and the seam to the two kinds of cards.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use reactor::buf::Buf;

use crate::error::{PostError, RdmaError};
use crate::inbox::Inbox;
use crate::options::PairOptions;
use crate::pair::QueuePair;
use crate::stats::CardStats;
use crate::work::{Access, Remote, Work};

/// A future of the set-up, where an allocation does not matter.
pub(crate) type Setup<'a, T> = Pin<Box<dyn Future<Output = Result<T, RdmaError>> + 'a>>;

/// What a kind of card implements, for one core.
pub(crate) trait CardBackend {
    fn listen(&self, address: SocketAddr) -> Setup<'_, Box<dyn ListenerBackend>>;
    fn connect<'a>(
        &'a self,
        address: SocketAddr,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, (Rc<dyn PairBackend>, Vec<u8>)>;
    fn attach(&self, detached: Box<dyn Any + Send>) -> Result<Box<dyn IncomingBackend>, RdmaError>;
    fn expose(&self, buf: Buf, access: Access) -> Result<Box<dyn ExposedBackend>, RdmaError>;
    fn stats(&self) -> CardStats;
}

/// A listening address.
pub(crate) trait ListenerBackend {
    fn address(&self) -> SocketAddr;
    fn accept(&self) -> Setup<'_, Box<dyn IncomingBackend>>;
}

/// A request to connect. Dropping it refuses it.
pub(crate) trait IncomingBackend {
    fn private_data(&self) -> &[u8];
    fn peer(&self) -> SocketAddr;
    fn local(&self) -> SocketAddr;
    fn accept<'a>(
        self: Box<Self>,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, Rc<dyn PairBackend>>;
    fn reject(self: Box<Self>, private_data: &[u8]);
    fn detach(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// A queue pair. Its drop ends it and gives its resources back when the card is done with it.
pub(crate) trait PairBackend {
    fn post(&self, tag: u64, work: Work) -> Result<(), PostError>;
    fn kick(&self);
    fn inbox(&self) -> &Inbox;
    fn room(&self) -> u32;
    fn disconnect(&self);
    fn number(&self) -> u32;
}

/// Memory that a peer may use. Its drop takes it away from the peer.
pub(crate) trait ExposedBackend {
    fn remote(&self) -> Remote;
    fn take(self: Box<Self>) -> Buf;
}

/// What this core has of RDMA. Clones share it.
#[derive(Clone)]
pub struct Card(Rc<dyn CardBackend>);

impl Card {
    pub(crate) fn new(backend: Rc<dyn CardBackend>) -> Self {
        Self(backend)
    }

    /// Listens on an address of an RDMA device; a wildcard address takes all devices.
    ///
    /// Errors: `NoDevice`; `Memory`; `Setup` with what the system said (address in use).
    pub async fn listen(&self, address: SocketAddr) -> Result<Listener, RdmaError> {
        Ok(Listener(self.0.listen(address).await?))
    }

    /// Connects to `address`, with a few bytes for its application (56 at most over RoCE). Gives the
    /// pair and what the other side said. Wrap it in [`reactor::time::timeout`].
    pub async fn connect(
        &self,
        address: SocketAddr,
        private_data: &[u8],
        options: PairOptions,
    ) -> Result<(QueuePair, Vec<u8>), RdmaError> {
        let (pair, said) = self.0.connect(address, private_data, options).await?;
        Ok((QueuePair::new(pair), said))
    }

    /// Goes on with a request that another core took in.
    pub fn attach(&self, detached: DetachedIncoming) -> Result<Incoming, RdmaError> {
        Ok(Incoming(self.0.attach(detached.0)?))
    }

    /// Lets peers read or write a buffer until it is taken back. Errors: the card was made without
    /// [`CardOptions::exposes_memory`](crate::CardOptions::exposes_memory), or the buffer is shared.
    pub fn expose(&self, buf: Buf, access: Access) -> Result<Exposed, RdmaError> {
        Ok(Exposed(self.0.expose(buf, access)?))
    }

    /// Counters.
    pub fn stats(&self) -> CardStats {
        self.0.stats()
    }
}

/// A listening address. Dropping it ends it; connections there are stay.
pub struct Listener(Box<dyn ListenerBackend>);

impl Listener {
    /// The bound address, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The next request to connect. Cancel: it goes to the next caller.
    /// Errors are of one request; go on.
    pub async fn accept(&self) -> Result<Incoming, RdmaError> {
        Ok(Incoming(self.0.accept().await?))
    }
}

/// Somebody wants to connect. Dropping it refuses the request.
pub struct Incoming(Box<dyn IncomingBackend>);

impl Incoming {
    /// What it says, as many bytes as the connection manager carries (zeroes may follow).
    pub fn private_data(&self) -> &[u8] {
        self.0.private_data()
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer()
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.0.local()
    }

    /// Makes a queue pair of this core for it, and returns when the connection stands. Messages that
    /// came with it wait in the pair. Wrap it in [`reactor::time::timeout`]; cancel ends it.
    pub async fn accept(
        self,
        private_data: &[u8],
        options: PairOptions,
    ) -> Result<QueuePair, RdmaError> {
        Ok(QueuePair::new(self.0.accept(private_data, options).await?))
    }

    /// Refuses it, and says why in the application's words.
    pub fn reject(self, private_data: &[u8]) {
        self.0.reject(private_data);
    }

    /// Takes it off this core, for [`Card::attach`] on another.
    pub fn detach(self) -> DetachedIncoming {
        DetachedIncoming(self.0.detach())
    }
}

/// A request on its way to another core. Dropping it refuses it.
pub struct DetachedIncoming(Box<dyn Any + Send>);

/// Memory that a peer may use, until this is dropped or taken back.
pub struct Exposed(Box<dyn ExposedBackend>);

impl Exposed {
    /// What to tell the peer.
    pub fn remote(&self) -> Remote {
        self.0.remote()
    }

    /// Takes it away from the peer. The caller knows that the peer is done: for a real card the
    /// region stays registered, so that a peer that breaks its word could still reach it.
    pub fn take(self) -> Buf {
        self.0.take()
    }
}
