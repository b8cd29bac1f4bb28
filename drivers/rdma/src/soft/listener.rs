//! A listening address: takes connections in, hears what they want, and keeps them for the user.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use net::Socket;
use reactor::JoinHandle;
use reactor::net::{TcpListener, TcpStream};
use reactor::sync::{Credits, Notify};
use reactor::time::{sleep, timeout};

use crate::card::{IncomingBackend, ListenerBackend, Setup};
use crate::error::RdmaError;

use super::card::Shared;
use super::faults::SetupStep;
use super::frame::{CONNECT_DATA_BYTES, Kind};
use super::incoming::{Incoming, Request};
use super::setup::{break_at, failed, hear};

/// Requests that wait for the user, and connections that have not said what they want.
const BACKLOG: usize = 128;
/// How long a connection may take to say what it wants.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// How long a request that vanished is kept without an answer.
const VANISHED: Duration = Duration::from_secs(60);
/// The pause after a failed accept (no descriptor is left, for example).
const PAUSE: Duration = Duration::from_millis(10);

struct Backlog {
    card: Rc<Shared>,
    waiting: RefCell<VecDeque<Incoming>>,
    bell: Notify,
    greeting: Credits,
    is_closed: Cell<bool>,
}

/// See the file's documentation.
pub(super) struct Listener {
    address: SocketAddr,
    backlog: Rc<Backlog>,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(card: Rc<Shared>, address: SocketAddr) -> Result<Self, RdmaError> {
        let setup = |error| failed("listening", address, error);
        let listener = TcpListener::bind(address).map_err(setup)?;
        let address = listener.local_addr().map_err(setup)?;
        let backlog = Rc::new(Backlog {
            card,
            waiting: RefCell::new(VecDeque::with_capacity(BACKLOG)),
            bell: Notify::new(),
            greeting: Credits::new(BACKLOG),
            is_closed: Cell::new(false),
        });
        let task = reactor::spawn(take_in(listener, backlog.clone()));
        Ok(Self {
            address,
            backlog,
            task: Some(task),
        })
    }
}

impl ListenerBackend for Listener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> Setup<'_, Box<dyn IncomingBackend>> {
        Box::pin(async {
            loop {
                let next = self.backlog.waiting.borrow_mut().pop_front();
                if let Some(incoming) = next {
                    return Ok(Box::new(incoming) as Box<dyn IncomingBackend>);
                }
                self.backlog.bell.notified().await;
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.backlog.is_closed.set(true);
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let refused = std::mem::take(&mut *self.backlog.waiting.borrow_mut());
        drop(refused);
    }
}

async fn take_in(listener: TcpListener, backlog: Rc<Backlog>) {
    loop {
        let credit = backlog.greeting.acquire(1).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let backlog = backlog.clone();
                reactor::spawn(async move {
                    let vanished = greet(stream, peer, &backlog).await;
                    drop((credit, backlog));
                    if let Some(socket) = vanished {
                        let _ = timeout(VANISHED, socket.discard()).await;
                    }
                })
                .detach();
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Hears what a connection wants. Gives it back when nobody is to know of it.
async fn greet(stream: TcpStream, peer: SocketAddr, backlog: &Backlog) -> Option<Socket<()>> {
    let local = stream.local_addr().ok()?;
    let socket = Socket::new(stream);
    let heard = timeout(GREETING_LIMIT, hear(&socket)).await;
    let (frame, private_data) = heard.ok()?.ok()?;
    let read_depth = frame.read_depth(CONNECT_DATA_BYTES)?;
    if frame.kind != Kind::Connect {
        return None;
    }
    let card = &backlog.card;
    if card.faults.vanishes() {
        return Some(socket);
    }
    break_at(card, SetupStep::Requested, peer).ok()?;
    let request = Request {
        private_data,
        peer,
        local,
        read_depth,
    };
    let incoming = Incoming::new(card.clone(), socket, request);
    let mut waiting = backlog.waiting.borrow_mut();
    if !backlog.is_closed.get() && waiting.len() < BACKLOG {
        waiting.push_back(incoming);
        backlog.bell.notify_one();
    }
    None
}
