//! A socket that can be told to end, in two gears: polled while hot, armed while quiet.

use std::cell::Cell;
use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::pin::pin;
use std::task::Poll;

use reactor::Spin;
use reactor::net::TcpStream;
use reactor::sync::Notify;

use crate::nvmf::port::CloseReason;

/// A connected socket and whether it is to end.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    ending: Cell<Option<CloseReason>>,
    ended: Notify,
    drained: Cell<bool>,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            ending: Cell::new(None),
            ended: Notify::new(),
            drained: Cell::new(false),
        }
    }

    /// Gives the stream back.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Why it is to end, once it is.
    pub fn ending(&self) -> Option<CloseReason> {
        self.ending.get()
    }

    /// True when everything that the peer had sent was read, or nothing more will be.
    pub fn is_drained(&self) -> bool {
        self.drained.get() || self.ending.get().is_some()
    }

    /// Asks for the end; the first reason stays. Reads stop, sends go on.
    pub fn end(&self, reason: CloseReason) {
        if self.ending.get().is_none() {
            self.ending.set(Some(reason));
            self.ended.notify_all();
        }
    }

    /// Closes both directions at once.
    pub fn shutdown(&self) {
        // Fails only when the peer was faster.
        let _ = self.stream.shutdown();
    }

    /// Receives what is there, at least one byte. Polls once a turn for the core's spin time,
    /// then waits in the ring. Cost: 1 call when data is there.
    pub async fn recv(&self, bytes: &mut [u8]) -> Result<usize, CloseReason> {
        let start = reactor::now();
        loop {
            if let Some(reason) = self.ending.get() {
                return Err(reason);
            }
            match self.stream.try_recv(bytes) {
                Ok(0) => return Err(CloseReason::PeerClosed),
                Ok(len_bytes) => {
                    self.drained.set(false);
                    return Ok(len_bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained.set(true),
                Err(_) => return Err(CloseReason::SocketError),
            }
            let hot = match reactor::spin() {
                Spin::Always => true,
                Spin::For(window) => reactor::now().saturating_duration_since(start) < window,
            };
            if hot {
                reactor::next_turn().await;
            } else {
                self.or_ended(self.stream.readable())
                    .await?
                    .map_err(|_| CloseReason::SocketError)?;
            }
        }
    }

    /// Sends what the kernel takes; `Ok(0)` when it takes nothing now.
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> Result<usize, CloseReason> {
        match self.stream.try_send(slices) {
            Ok(len_bytes) => Ok(len_bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(CloseReason::SocketError),
        }
    }

    /// Waits until the kernel takes more.
    pub async fn writable(&self) -> Result<(), CloseReason> {
        self.stream
            .writable()
            .await
            .map_err(|_| CloseReason::SocketError)
    }

    /// Sends everything, waiting as needed. For the few bytes before the connection stands.
    pub async fn send_all(&self, mut bytes: &[u8]) -> Result<(), CloseReason> {
        while !bytes.is_empty() {
            match self.try_send(&[IoSlice::new(bytes)])? {
                0 => self.or_ended(self.writable()).await??,
                sent => bytes = bytes.get(sent..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Throws away what the peer still sends, until it closes. Bounded by the caller.
    pub async fn discard(&self) {
        let mut scratch = [0; 4096];
        loop {
            match self.stream.try_recv(&mut scratch) {
                Ok(0) => return,
                Ok(_) => reactor::next_turn().await,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.stream.readable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Runs `future` until it ends or the socket is to end. Cancel safe if `future` is.
    pub async fn or_ended<F: Future>(&self, future: F) -> Result<F::Output, CloseReason> {
        let mut future = pin!(future);
        let mut ended = pin!(self.ended.notified());
        std::future::poll_fn(|context| {
            if let Some(reason) = self.ending.get() {
                return Poll::Ready(Err(reason));
            }
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            match ended.as_mut().poll(context) {
                Poll::Ready(()) => {
                    Poll::Ready(Err(self.ending.get().unwrap_or(CloseReason::Shutdown)))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// Runs `work` until it ends or `stop` does; none when `stop` was first.
pub(crate) async fn first<W: Future, S: Future<Output = ()>>(
    work: W,
    stop: S,
) -> Option<W::Output> {
    let mut work = pin!(work);
    let mut stop = pin!(stop);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        stop.as_mut().poll(context).map(|()| None)
    })
    .await
}
