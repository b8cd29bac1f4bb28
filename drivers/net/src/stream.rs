//! One connection with two gears.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use reactor::net::TcpStream;
use reactor::{Instant, Spin};

/// A connection. One task may receive while another sends.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    last_bytes: Cell<Instant>,
}

impl Stream {
    /// Takes a connection over; it starts hot.
    pub fn new(tcp: TcpStream) -> Stream {
        Stream {
            tcp,
            last_bytes: Cell::new(reactor::now()),
        }
    }

    /// Connects; see [`TcpStream::connect`].
    pub async fn connect(addr: SocketAddr) -> io::Result<Stream> {
        TcpStream::connect(addr).await.map(Stream::new)
    }

    /// Receives at least one byte, or `Ok(0)` at end of stream (or for an empty `bytes`).
    /// Cancel: no byte is lost. Cost: one system call per turn while hot; when quiet one poll.
    pub async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tcp.try_recv(bytes) {
                Ok(count) => {
                    self.last_bytes.set(reactor::now());
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.is_hot() {
                reactor::next_turn().await;
            } else {
                self.tcp.readable().await?;
            }
        }
    }

    /// Fills `bytes`; `UnexpectedEof` when the stream ends before.
    /// Cancel: the bytes received so far are lost to the caller.
    pub async fn recv_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.recv(&mut bytes[filled..]).await? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Whether the connection is polled rather than armed.
    pub fn is_hot(&self) -> bool {
        match reactor::spin() {
            Spin::Always => true,
            Spin::For(spin) => self.last_bytes.get().elapsed() < spin,
        }
    }

    /// Sends what the kernel takes now; waits only when it takes nothing. `Ok(0)` only for no
    /// bytes. Cancel: nothing was sent.
    pub async fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.tcp.try_send(slices) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.tcp.writable().await?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }

    /// Sends what the kernel takes, without waiting; see [`TcpStream::try_send`].
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.try_send(slices)
    }

    /// Waits until [`Stream::try_send`] has something to say.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Sends everything. `slices` is used up on the way.
    /// Cancel: an unknown part was sent, so the stream can only be closed.
    pub async fn send_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.send(slices).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                sent => IoSlice::advance_slices(&mut slices, sent),
            }
        }
        Ok(())
    }

    /// Closes both directions; waits in [`Stream::recv`] and [`Stream::send`] end.
    pub fn shutdown(&self) -> io::Result<()> {
        self.tcp.shutdown()
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// The connection, for moving it to another core.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }
}
