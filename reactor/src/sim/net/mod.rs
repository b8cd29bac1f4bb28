//! A simulated network of TCP-like byte streams.
//!
//! Model: bytes arrive in order and unchanged, cut at arbitrary places, after a latency. Each
//! direction is bounded. What cannot be delivered (partition, peer without power) is retransmitted
//! with growing pauses until the sender gives up with ETIMEDOUT; the receiver may never hear of
//! it (half-open). A peer that was killed answers with FIN or RST, because its kernel lives on; a
//! peer without power answers with nothing until it is up again, and then with RST.

mod connect;
mod faults;
mod options;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use self::options::NetOptions;
use crate::op::OpKey;

/// Who waits: a core and the operation to complete.
pub(crate) type Waiter = (usize, OpKey);

/// First pause before something undeliverable is tried again; doubles up to `RETRY_MAX_NS`.
const RETRY_MIN_NS: u64 = 200_000_000;
const RETRY_MAX_NS: u64 = 5_000_000_000;

/// All sockets and links of a world.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) options: NetOptions,
    pub(crate) sockets: BTreeMap<u64, Socket>,
    /// Links (from, to) that carry nothing.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    next_port: u16,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) node: usize,
    pub(crate) kind: SocketKind,
}

#[derive(Debug)]
pub(crate) enum SocketKind {
    Unconnected,
    Connecting(Connecting),
    Listener(Listener),
    Stream(Box<Stream>),
}

#[derive(Debug)]
pub(crate) struct Connecting {
    pub(crate) waiter: Option<Waiter>,
    pub(crate) target: SocketAddr,
    pub(crate) started_ns: u64,
    pub(crate) retry_ns: u64,
    /// The fault: this attempt will never be answered.
    pub(crate) unanswered: bool,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    /// It listens; before that the address is only taken.
    pub(crate) is_open: bool,
    pub(crate) backlog: VecDeque<u64>,
    pub(crate) waiters: VecDeque<Waiter>,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) peer: u64,
    pub(crate) peer_node: usize,
    pub(crate) received: VecDeque<u8>,
    /// The peer sent FIN and everything before it has arrived.
    pub(crate) peer_closed: bool,
    /// We called shutdown or closed.
    pub(crate) closed: bool,
    /// The user's handle is gone; the rest is delivered, then the socket disappears.
    pub(crate) abandoned: bool,
    pub(crate) error: Option<i32>,
    pub(crate) outgoing: VecDeque<Segment>,
    /// Bytes sent that the peer's user has not taken (as far as we know).
    pub(crate) outstanding: usize,
    /// Taken by the peer's user, but the acknowledgement cannot reach us.
    pub(crate) unheard_acks: usize,
    pub(crate) last_arrival_ns: u64,
    pub(crate) pump_scheduled: bool,
    pub(crate) stuck_since_ns: Option<u64>,
    pub(crate) retry_ns: u64,
    pub(crate) readers: Vec<Waiter>,
    pub(crate) writers: Vec<Waiter>,
}

/// Bytes on their way, or the FIN.
#[derive(Debug)]
pub(crate) enum Segment {
    Bytes(u64, Vec<u8>),
    Fin(u64),
}

impl Segment {
    fn arrival_ns(&self) -> u64 {
        match self {
            Self::Bytes(at, _) | Self::Fin(at) => *at,
        }
    }
}

impl Stream {
    fn new(local: SocketAddr, remote: SocketAddr, peer: u64, peer_node: usize) -> Self {
        Self {
            local,
            remote,
            peer,
            peer_node,
            received: VecDeque::new(),
            peer_closed: false,
            closed: false,
            abandoned: false,
            error: None,
            outgoing: VecDeque::new(),
            outstanding: 0,
            unheard_acks: 0,
            last_arrival_ns: 0,
            pump_scheduled: false,
            stuck_since_ns: None,
            retry_ns: RETRY_MIN_NS,
            readers: Vec::new(),
            writers: Vec::new(),
        }
    }

    pub(crate) fn is_readable(&self) -> bool {
        !self.received.is_empty() || self.peer_closed || self.closed || self.error.is_some()
    }

    /// As Linux: a full socket reports writable only when a third of it is free again.
    pub(crate) fn is_writable(&self, buffer_bytes: usize) -> bool {
        let free = buffer_bytes.saturating_sub(self.outstanding);
        self.closed || self.error.is_some() || free >= (buffer_bytes / 3).max(1)
    }
}

impl Net {
    pub(crate) fn new(options: NetOptions) -> Self {
        let (sockets, blocked) = (BTreeMap::new(), BTreeSet::new());
        Self {
            options,
            sockets,
            blocked,
            next_port: 40_000,
        }
    }

    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        from == to || !self.blocked.contains(&(from, to))
    }

    pub(crate) fn stream_mut(&mut self, id: u64) -> Option<&mut Stream> {
        match &mut self.sockets.get_mut(&id)?.kind {
            SocketKind::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream(&self, id: u64) -> Option<&Stream> {
        match &self.sockets.get(&id)?.kind {
            SocketKind::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    fn listener_mut(&mut self, id: u64) -> Option<&mut Listener> {
        match &mut self.sockets.get_mut(&id)?.kind {
            SocketKind::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    fn listener_on(&self, node: usize, target: SocketAddr) -> Option<u64> {
        let listens = |listener: &Listener| {
            let (bound, asked) = (listener.addr, target);
            listener.is_open
                && bound.port() == asked.port()
                && (bound.ip().is_unspecified() || bound.ip() == asked.ip())
        };
        self.sockets
            .iter()
            .find_map(|(id, socket)| match &socket.kind {
                SocketKind::Listener(l) if socket.node == node && listens(l) => Some(*id),
                _ => None,
            })
    }

    fn free_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == u16::MAX { 40_000 } else { port + 1 };
        port
    }
}

/// The address of the node with this index.
pub(crate) fn node_ip(node: usize) -> IpAddr {
    let number = node as u32 + 1;
    IpAddr::V4(Ipv4Addr::from(0x0A00_0000 | number))
}

/// The node that `addr` names, seen from `from`.
pub(crate) fn node_of(addr: &SocketAddr, from: usize) -> Option<usize> {
    match addr.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => Some(from),
        IpAddr::V4(ip) if ip.octets()[0] == 10 => (u32::from(ip) & 0x00FF_FFFF)
            .checked_sub(1)
            .map(|n| n as usize),
        _ => None,
    }
}
