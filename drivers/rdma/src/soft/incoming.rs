//! A request to connect, until its user has answered it.

use std::any::Any;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use net::Socket;
use reactor::net::{DetachedStream, TcpStream};
use reactor::time::timeout;

use crate::card::{IncomingBackend, PairBackend, Setup};
use crate::error::RdmaError;
use crate::options::PairOptions;

use super::card::{Shared, Slot};
use super::faults::SetupStep;
use super::frame::{ACCEPT_DATA_BYTES, Frame, Kind, REJECT_DATA_BYTES};
use super::handle::Handle;
use super::pair::Pair;
use super::setup::{break_at, check_len, gone, hear, nonsense, say};

/// How long a refusal may take to leave.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// What was said, and between whom.
pub(super) struct Request {
    pub private_data: Vec<u8>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub read_depth: u8,
}

/// See the file's documentation.
pub(super) struct Incoming {
    card: Rc<Shared>,
    /// None once it is answered.
    socket: Option<Socket<()>>,
    request: Request,
}

/// A request between two cores.
pub(super) struct Detached {
    stream: Option<DetachedStream>,
    request: Request,
}

impl Incoming {
    pub fn new(card: Rc<Shared>, socket: Socket<()>, request: Request) -> Self {
        Self {
            card,
            socket: Some(socket),
            request,
        }
    }

    pub fn attach(card: Rc<Shared>, detached: Detached) -> Result<Self, RdmaError> {
        let Detached { stream, request } = detached;
        let stream = stream.and_then(|stream| TcpStream::attach(stream).ok());
        let stream = stream.ok_or_else(|| gone(request.peer))?;
        Ok(Self::new(card, Socket::new(stream), request))
    }

    async fn answer(
        mut self: Box<Self>,
        private_data: &[u8],
        options: PairOptions,
    ) -> Result<Rc<dyn PairBackend>, RdmaError> {
        let (card, peer) = (self.card.clone(), self.request.peer);
        check_len(peer, private_data, ACCEPT_DATA_BYTES)?;
        let slot = Slot::take(&card, peer, &options)?;
        let socket = self.socket.take().ok_or_else(|| gone(peer))?;
        break_at(&card, SetupStep::Accepting, peer)?;
        let number = card.next_number();
        let len = private_data.len();
        let greeting = Frame::greeting(Kind::Accept, number, len, options.read_depth);
        let lost = |_| gone(peer);
        say(&socket, greeting, private_data).await.map_err(lost)?;
        break_at(&card, SetupStep::Accepted, peer)?;
        let (ready, _) = hear(&socket).await.map_err(lost)?;
        if ready.kind != Kind::Ready {
            return Err(nonsense(peer));
        }
        let read_depth = self.request.read_depth;
        let pair = Pair::start(slot, number, socket, options, read_depth);
        Ok(Rc::new(Handle(pair)))
    }
}

impl IncomingBackend for Incoming {
    fn private_data(&self) -> &[u8] {
        &self.request.private_data
    }

    fn peer(&self) -> SocketAddr {
        self.request.peer
    }

    fn local(&self) -> SocketAddr {
        self.request.local
    }

    fn accept<'a>(
        self: Box<Self>,
        private_data: &'a [u8],
        options: PairOptions,
    ) -> Setup<'a, Rc<dyn PairBackend>> {
        Box::pin(self.answer(private_data, options))
    }

    fn reject(mut self: Box<Self>, private_data: &[u8]) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        let len = private_data.len().min(REJECT_DATA_BYTES);
        let private_data = private_data.get(..len).unwrap_or_default().to_vec();
        reactor::spawn(async move {
            let said = async {
                say(
                    &socket,
                    Frame::greeting(Kind::Reject, 0, len, 0),
                    &private_data,
                )
                .await?;
                // The peer closes when it has read it.
                socket.discard().await;
                Ok::<_, net::Closed<()>>(())
            };
            let _ = timeout(REFUSAL_LIMIT, said).await;
        })
        .detach();
    }

    fn detach(mut self: Box<Self>) -> Box<dyn Any + Send> {
        let socket = self.socket.take();
        let stream = socket.and_then(|socket| socket.into_stream().detach().ok());
        let request = Request {
            private_data: std::mem::take(&mut self.request.private_data),
            ..self.request
        };
        Box::new(Detached { stream, request })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        if !reactor::sim::is_tearing_down() {
            // Without waiting: a peer that misses it sees the connection close.
            let refusal = Frame::greeting(Kind::Reject, 0, 0, 0).encode();
            let mut left = &refusal[..];
            while let Ok(sent @ 1..) = socket.try_send(&[IoSlice::new(left)]) {
                left = left.get(sent..).unwrap_or_default();
                if left.is_empty() {
                    break;
                }
            }
        }
    }
}
