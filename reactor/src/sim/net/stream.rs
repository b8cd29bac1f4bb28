//! Bytes in, bytes out, and their way between.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::{RETRY_MAX_NS, RETRY_MIN_NS, Segment, SocketKind, Stream, Waiter};
use crate::sim::state::{Due, Happening, State};
use crate::sim::trace::{EventKind, FaultKind};

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl State {
    pub(crate) fn net_readable(&mut self, waiter: Waiter, socket: u64) {
        match self.net.stream_mut(socket) {
            Some(stream) if !stream.is_readable() => stream.readers.push(waiter),
            Some(_) => self.complete(waiter, Due::Done),
            None => self.complete(waiter, Due::Failed(libc::ENOTCONN)),
        }
    }

    pub(crate) fn net_writable(&mut self, waiter: Waiter, socket: u64) {
        let buffer_bytes = self.net.options.buffer_bytes;
        match self.net.stream_mut(socket) {
            Some(stream) if !stream.is_writable(buffer_bytes) => stream.writers.push(waiter),
            Some(_) => self.complete(waiter, Due::Done),
            None => self.complete(waiter, Due::Failed(libc::ENOTCONN)),
        }
    }

    /// Completes the waits that became true.
    pub(crate) fn net_notify(&mut self, socket: u64) {
        let buffer_bytes = self.net.options.buffer_bytes;
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        let mut woken = Vec::new();
        if stream.is_readable() {
            woken.append(&mut stream.readers);
        }
        if stream.is_writable(buffer_bytes) {
            woken.append(&mut stream.writers);
        }
        for waiter in woken {
            self.complete(waiter, Due::Done);
        }
    }

    pub(crate) fn net_recv(&mut self, socket: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let partial_ppm = self.net.options.partial_recv_ppm;
        let Some(stream) = self.net.stream_mut(socket) else {
            return Err(error(libc::ENOTCONN));
        };
        if stream.closed || bytes.is_empty() {
            return Ok(0);
        }
        if stream.received.is_empty() {
            return match (stream.error, stream.peer_closed) {
                (Some(errno), _) => Err(error(errno)),
                (None, true) => Ok(0),
                (None, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let mut count = stream.received.len().min(bytes.len());
        if self.net_prng.chance_ppm(partial_ppm) {
            count = self.net_prng.between(1, count as u64) as usize;
        }
        let Some(stream) = self.net.stream_mut(socket) else {
            return Ok(0);
        };
        for (place, byte) in bytes.iter_mut().zip(stream.received.drain(..count)) {
            *place = byte;
        }
        let peer = stream.peer;
        self.trace(EventKind::Receive, "socket", [socket, count as u64, 0]);
        self.acknowledge(socket, peer, count);
        Ok(count)
    }

    /// The user took bytes: the sender may send more, once it hears of it.
    fn acknowledge(&mut self, socket: u64, peer: u64, count: usize) {
        let Some(node) = self.net.sockets.get(&socket).map(|s| s.node) else {
            return;
        };
        let Some(peer_node) = self.net.sockets.get(&peer).map(|s| s.node) else {
            return;
        };
        let heard = self.net.is_open(node, peer_node);
        let Some(sender) = self.net.stream_mut(peer) else {
            return;
        };
        if heard {
            sender.outstanding -= count;
            self.net_notify(peer);
        } else {
            sender.unheard_acks += count;
            self.pump_at(peer, self.now_ns + RETRY_MIN_NS);
        }
    }

    pub(crate) fn net_send(&mut self, socket: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (buffer_bytes, partial_ppm) = (
            self.net.options.buffer_bytes,
            self.net.options.partial_send_ppm,
        );
        let Some(node) = self.net.sockets.get(&socket).map(|s| s.node) else {
            return Err(error(libc::ENOTCONN));
        };
        let Some(stream) = self.net.stream_mut(socket) else {
            return Err(error(libc::ENOTCONN));
        };
        if let Some(errno) = stream.error {
            return Err(error(errno));
        }
        if stream.closed {
            return Err(error(libc::EPIPE));
        }
        let asked: usize = slices.iter().map(|s| s.len()).sum();
        let room = buffer_bytes.saturating_sub(stream.outstanding);
        let (mut count, peer_node) = (asked.min(room), stream.peer_node);
        if asked == 0 {
            return Ok(0);
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.net_prng.chance_ppm(partial_ppm) {
            count = self.net_prng.between(1, count as u64) as usize;
        }
        let bytes = gather(slices, count);
        let arrival_ns = self.now_ns + self.link_ns(node, peer_node, count);
        self.trace(EventKind::Send, "socket", [socket, count as u64, 0]);
        self.enqueue(socket, |at| Segment::Bytes(at, bytes), arrival_ns);
        if let Some(stream) = self.net.stream_mut(socket) {
            stream.outstanding += count;
        }
        Ok(count)
    }

    fn enqueue(&mut self, socket: u64, segment: impl FnOnce(u64) -> Segment, arrival_ns: u64) {
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        // Bytes never overtake each other.
        let at_ns = arrival_ns.max(stream.last_arrival_ns + 1);
        stream.last_arrival_ns = at_ns;
        stream.outgoing.push_back(segment(at_ns));
        self.pump_at(socket, at_ns);
    }

    fn pump_at(&mut self, socket: u64, at_ns: u64) {
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        if !std::mem::replace(&mut stream.pump_scheduled, true) {
            self.schedule(at_ns.max(self.now_ns), Happening::Pump { socket });
        }
    }

    /// Moves what has arrived from the sender `socket` to its peer.
    pub(crate) fn net_pump(&mut self, socket: u64) {
        let Some(node) = self.net.sockets.get(&socket).map(|s| s.node) else {
            return;
        };
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        stream.pump_scheduled = false;
        let (peer, peer_node) = (stream.peer, stream.peer_node);
        let has_work = !stream.outgoing.is_empty() || stream.unheard_acks > 0;
        if !has_work {
            return;
        }
        let powered = self.node_is_powered(peer_node);
        let there = powered && self.net.is_open(node, peer_node);
        let back = powered && self.net.is_open(peer_node, node);
        if there && self.net.stream(peer).is_none() {
            // Nobody knows this connection there: RST, if it finds its way back.
            return if back {
                self.net_fail(socket, libc::ECONNRESET)
            } else {
                self.stuck(socket)
            };
        }
        if there && self.net_prng.chance_ppm(self.net.options.reset_ppm) {
            self.fault(FaultKind::NetReset, "socket", (socket, 0));
            return self.net_reset(socket, libc::ECONNRESET);
        }
        if there {
            self.deliver_arrived(socket, peer);
        }
        self.hear_acks(socket, back);
        if there && back {
            self.unstick(socket)
        } else {
            self.stuck(socket)
        }
        self.remove_if_drained(socket);
    }

    fn deliver_arrived(&mut self, socket: u64, peer: u64) {
        let now_ns = self.now_ns;
        loop {
            let Some(stream) = self.net.stream_mut(socket) else {
                return;
            };
            if stream
                .outgoing
                .front()
                .is_none_or(|segment| segment.arrival_ns() > now_ns)
            {
                break;
            }
            let Some(segment) = stream.outgoing.pop_front() else {
                break;
            };
            self.deliver(socket, peer, segment);
        }
        self.net_notify(peer);
    }

    fn deliver(&mut self, from: u64, peer: u64, segment: Segment) {
        let Some(receiver) = self.net.stream_mut(peer) else {
            return;
        };
        let count = match segment {
            // A closed receiver answers data with RST.
            Segment::Bytes(..) if receiver.closed => {
                return self.net_fail(from, libc::ECONNRESET);
            }
            Segment::Bytes(_, bytes) => {
                receiver.received.extend(&bytes);
                bytes.len()
            }
            Segment::Fin(_) => {
                receiver.peer_closed = true;
                0
            }
        };
        self.trace(EventKind::Deliver, "socket", [peer, count as u64, 0]);
    }

    fn hear_acks(&mut self, socket: u64, back: bool) {
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        if back && stream.unheard_acks > 0 {
            stream.outstanding -= std::mem::take(&mut stream.unheard_acks);
            self.net_notify(socket);
        }
    }

    fn unstick(&mut self, socket: u64) {
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        (stream.stuck_since_ns, stream.retry_ns) = (None, RETRY_MIN_NS);
        if let Some(next) = stream.outgoing.front().map(Segment::arrival_ns) {
            self.pump_at(socket, next);
        }
    }

    /// Nothing gets through: try again later, give up after the retransmission timeout.
    fn stuck(&mut self, socket: u64) {
        let (now_ns, limit_ns) = (self.now_ns, self.net.options.retransmit_timeout_ns);
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        let since_ns = *stream.stuck_since_ns.get_or_insert(now_ns);
        if now_ns - since_ns >= limit_ns {
            return self.net_fail(socket, libc::ETIMEDOUT);
        }
        let at_ns = (now_ns + stream.retry_ns).min(since_ns + limit_ns);
        stream.retry_ns = (stream.retry_ns * 2).min(RETRY_MAX_NS);
        if since_ns == now_ns {
            self.fault(FaultKind::PartitionHold, "socket", (socket, 0));
        }
        self.pump_at(socket, at_ns);
    }

    pub(crate) fn net_shutdown(&mut self, socket: u64) -> io::Result<()> {
        let Some(node) = self.net.sockets.get(&socket).map(|s| s.node) else {
            return Err(error(libc::ENOTCONN));
        };
        let Some(stream) = self.net.stream_mut(socket) else {
            return Err(error(libc::ENOTCONN));
        };
        if std::mem::replace(&mut stream.closed, true) || stream.error.is_some() {
            return Ok(());
        }
        let (peer, peer_node) = (stream.peer, stream.peer_node);
        let unread = stream.received.len();
        stream.received.clear();
        self.trace(EventKind::Shutdown, &self.node_name(node), [socket, 1, 0]);
        self.acknowledge(socket, peer, unread);
        let arrival_ns = self.now_ns + self.link_ns(node, peer_node, 0);
        self.enqueue(socket, Segment::Fin, arrival_ns);
        self.net_notify(socket);
        Ok(())
    }

    /// The user's handle is gone. Unread bytes make it a reset, as in every kernel.
    pub(crate) fn net_close(&mut self, socket: u64) {
        let Some(entry) = self.net.sockets.get_mut(&socket) else {
            return;
        };
        let SocketKind::Stream(stream) = &mut entry.kind else {
            self.net.sockets.remove(&socket);
            return;
        };
        stream.abandoned = true;
        if !stream.received.is_empty() && stream.error.is_none() {
            self.net_reset(socket, libc::ECONNRESET);
        } else if self.net_shutdown(socket).is_err() {
            return;
        }
        self.remove_if_drained(socket);
    }

    fn remove_if_drained(&mut self, socket: u64) {
        let drained = |s: &Stream| s.abandoned && (s.outgoing.is_empty() || s.error.is_some());
        if self.net.stream(socket).is_some_and(drained) {
            self.net.sockets.remove(&socket);
        }
    }

    /// This end fails; the other end is not told.
    pub(crate) fn net_fail(&mut self, socket: u64, errno: i32) {
        let Some(stream) = self.net.stream_mut(socket) else {
            return;
        };
        stream.outgoing.clear();
        if stream.error.replace(errno).is_none() {
            self.trace(EventKind::Reset, "socket", [socket, errno as u64, 0]);
        }
        self.net_notify(socket);
        self.remove_if_drained(socket);
    }

    /// Both ends fail. Bytes that had arrived but were not read may be lost with it.
    pub(crate) fn net_reset(&mut self, socket: u64, errno: i32) {
        let Some(peer) = self.net.stream(socket).map(|s| s.peer) else {
            return;
        };
        for end in [socket, peer] {
            let forget = self.net_prng.chance_percent(50);
            if let Some(stream) = self.net.stream_mut(end).filter(|_| forget) {
                stream.received.clear();
            }
            self.net_fail(end, errno);
        }
    }

    pub(crate) fn net_peer_addr(&self, socket: u64) -> io::Result<SocketAddr> {
        let stream = self
            .net
            .stream(socket)
            .ok_or_else(|| error(libc::ENOTCONN))?;
        Ok(stream.remote)
    }

    pub(crate) fn net_local_addr(&self, socket: u64) -> io::Result<SocketAddr> {
        match self.net.sockets.get(&socket).map(|s| &s.kind) {
            Some(SocketKind::Stream(stream)) => Ok(stream.local),
            Some(SocketKind::Listener(listener)) => Ok(listener.addr),
            _ => Err(error(libc::ENOTCONN)),
        }
    }
}

fn gather(slices: &[IoSlice<'_>], count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for slice in slices {
        let take = slice.len().min(count - bytes.len());
        bytes.extend_from_slice(&slice[..take]);
    }
    bytes
}
