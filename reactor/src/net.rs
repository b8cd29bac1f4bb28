//! TCP. Two gears: plain non-blocking calls for a hot connection, an armed poll for a quiet one
//! (see the `net` crate for the policy).

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use crate::backend::{DetachedHandle, Handle, Op, Outcome};
use crate::context;
use crate::op::OpFuture;

/// An address that is ours and does not listen yet: hosts are refused as if nobody were there.
///
/// A server binds early, so that an address in use is found before anything else is touched, and
/// listens when it has something to serve. Dropping it gives the address back.
#[derive(Debug)]
pub struct BoundSocket {
    handle: Handle,
    local_addr: SocketAddr,
}

impl BoundSocket {
    /// Takes the address; port 0 picks a free one. Errors: `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied`.
    ///
    /// Nobody else can take it from now on. One exception, which only [`BoundSocket::listen`]
    /// finds: while the kernel remembers closed connections of the port, two may bind it.
    pub fn bind(addr: SocketAddr) -> io::Result<BoundSocket> {
        let (handle, local_addr) = context::with_core(|core| core.backend().bind(addr))?;
        Ok(BoundSocket { handle, local_addr })
    }

    /// The bound address, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts to listen: from now on hosts can connect. Errors: `AddrInUse` when another socket
    /// came first, see [`BoundSocket::bind`].
    pub fn listen(self) -> io::Result<TcpListener> {
        context::with_core(|core| core.backend().listen(&self.handle))?;
        let Self { handle, local_addr } = self;
        Ok(TcpListener { handle, local_addr })
    }
}

/// A listening socket. Dropping it stops listening.
#[derive(Debug)]
pub struct TcpListener {
    handle: Handle,
    local_addr: SocketAddr,
}

impl TcpListener {
    /// Binds and listens at once. Errors: as [`BoundSocket::bind`].
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        BoundSocket::bind(addr)?.listen()
    }

    /// The bound address, with its real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    /// The next connection. Cancel: a connection that arrives meanwhile goes to the next caller.
    /// Errors are of this one call (too many open files, for example): wait a little and go on.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let op = Op::Accept {
            listener: self.handle.clone(),
        };
        let (result, _) = OpFuture::new(context::current(), op).await;
        match result? {
            Outcome::Accepted(handle, peer) => Ok((TcpStream { handle }, peer)),
            other => panic!("an accept ended with {other:?}"),
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        if let Some(core) = context::try_current() {
            core.backend().close_listener(&self.handle);
        }
    }
}

/// A connection: TCP_NODELAY, keepalive, congestion control cubic where the kernel has it.
/// Dropping it closes it once no operation of it is in flight.
#[derive(Debug)]
pub struct TcpStream {
    handle: Handle,
}

impl TcpStream {
    /// Connects; waits as long as the kernel does (minutes): wrap it in [`crate::time::timeout`].
    pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        let handle = context::with_core(|core| core.backend().new_socket(addr))?;
        let op = Op::Connect {
            socket: handle.clone(),
            addr,
        };
        let (result, op) = OpFuture::new(context::current(), op).await;
        drop(op);
        result.map(|_| TcpStream { handle })
    }

    /// Takes what is there, without waiting: `WouldBlock` when nothing is, `Ok(0)` at end of
    /// stream.
    pub fn try_recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        context::with_core(|core| core.backend().try_recv(&self.handle, bytes))
    }

    /// Sends what the kernel takes, without waiting: `WouldBlock` when its buffer is full.
    /// At most 1024 slices are looked at.
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        context::with_core(|core| core.backend().try_send(&self.handle, slices))
    }

    /// Waits until [`TcpStream::try_recv`] has something to say. May wake for nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Op::Readable {
            socket: self.handle.clone(),
        })
        .await
    }

    /// Waits until [`TcpStream::try_send`] has something to say. May wake for nothing.
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Op::Writable {
            socket: self.handle.clone(),
        })
        .await
    }

    async fn wait(&self, op: Op) -> io::Result<()> {
        let (result, _) = OpFuture::new(context::current(), op).await;
        result.map(|_| ())
    }

    /// Closes both directions: the peer reads end of stream, pending waits end.
    pub fn shutdown(&self) -> io::Result<()> {
        context::with_core(|core| core.backend().shutdown(&self.handle))
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        context::with_core(|core| core.backend().peer_addr(&self.handle))
    }

    /// Our end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        context::with_core(|core| core.backend().local_addr(&self.handle))
    }

    /// Takes the connection off this core, to send it to another. Fails only when an operation of
    /// it is still in flight and the process has no descriptor left for a second one.
    pub fn detach(self) -> io::Result<DetachedStream> {
        context::with_core(|core| core.backend().detach(&self.handle)).map(DetachedStream)
    }

    /// Puts a connection on this core.
    pub fn attach(detached: DetachedStream) -> io::Result<TcpStream> {
        let handle = context::with_core(|core| core.backend().attach(detached.0))?;
        Ok(TcpStream { handle })
    }
}

/// A connection on its way to another core. Dropping it closes the connection.
pub struct DetachedStream(DetachedHandle);
