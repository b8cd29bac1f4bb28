//! Listening and connecting.

use std::io;
use std::net::SocketAddr;

use super::{Connecting, Listener, RETRY_MAX_NS, RETRY_MIN_NS, Socket, SocketKind, Stream};
use super::{Waiter, node_ip, node_of};
use crate::sim::state::{Due, Happening, State};
use crate::sim::trace::{EventKind, FaultKind};

impl State {
    pub(crate) fn net_bind(
        &mut self,
        node: usize,
        addr: SocketAddr,
    ) -> io::Result<(u64, SocketAddr)> {
        let own =
            addr.ip().is_unspecified() || addr.ip().is_loopback() || addr.ip() == node_ip(node);
        let port = if addr.port() == 0 {
            self.net.free_port()
        } else {
            addr.port()
        };
        let bound = SocketAddr::new(addr.ip(), port);
        let errno = match () {
            () if !own => libc::EADDRNOTAVAIL,
            () if self.is_taken(node, bound) => libc::EADDRINUSE,
            () => 0,
        };
        let id = self.new_id();
        let numbers = [id, u64::from(port), errno as u64];
        self.trace(EventKind::Bind, &self.node_name(node), numbers);
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let listener = Listener {
            addr: bound,
            is_open: false,
            backlog: Default::default(),
            waiters: Default::default(),
        };
        self.net.sockets.insert(
            id,
            Socket {
                node,
                kind: SocketKind::Listener(listener),
            },
        );
        Ok((id, bound))
    }

    /// Lets connections come to a bound socket.
    pub(crate) fn net_listen(&mut self, id: u64) -> io::Result<()> {
        let Some(listener) = self.net.listener_mut(id) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        listener.is_open = true;
        let port = u64::from(listener.addr.port());
        let node = self.net.sockets[&id].node;
        self.trace(EventKind::Listen, &self.node_name(node), [id, port, 0]);
        Ok(())
    }

    fn is_taken(&self, node: usize, wanted: SocketAddr) -> bool {
        self.net.sockets.values().any(|socket| match &socket.kind {
            SocketKind::Listener(l) if socket.node == node && l.addr.port() == wanted.port() => {
                let (a, b) = (l.addr.ip(), wanted.ip());
                a.is_unspecified() || b.is_unspecified() || a == b
            }
            _ => false,
        })
    }

    /// Connections nobody accepted are reset, waiting accepts end.
    pub(crate) fn net_close_listener(&mut self, id: u64) {
        if self.net.listener_mut(id).is_none() {
            return;
        }
        let Some(Socket {
            kind: SocketKind::Listener(listener),
            node,
        }) = self.net.sockets.remove(&id)
        else {
            return;
        };
        self.trace(EventKind::Shutdown, &self.node_name(node), [id, 2, 0]);
        for waiter in listener.waiters {
            self.complete(waiter, Due::Failed(libc::EINVAL));
        }
        for socket in listener.backlog {
            self.net_reset(socket, libc::ECONNRESET);
        }
    }

    pub(crate) fn net_accept(&mut self, waiter: Waiter, listener: u64) {
        match self.net.listener_mut(listener) {
            Some(listener) => listener.waiters.push_back(waiter),
            None => return self.complete(waiter, Due::Failed(libc::EINVAL)),
        }
        self.serve_accepts(listener);
    }

    fn serve_accepts(&mut self, listener_id: u64) {
        loop {
            let Some(listener) = self.net.listener_mut(listener_id) else {
                return;
            };
            if listener.waiters.is_empty() || listener.backlog.is_empty() {
                return;
            }
            let pair = (listener.waiters.pop_front(), listener.backlog.pop_front());
            let (Some(waiter), Some(socket)) = pair else {
                return;
            };
            let Some(stream) = self.net.stream(socket) else {
                continue;
            };
            let remote = stream.remote;
            self.trace(
                EventKind::Accept,
                &self.node_name(self.core_node(waiter.0)),
                [socket, 0, 0],
            );
            self.complete(waiter, Due::Accepted(socket, remote));
        }
    }

    pub(crate) fn net_new_socket(&mut self, node: usize) -> u64 {
        let id = self.new_id();
        self.net.sockets.insert(
            id,
            Socket {
                node,
                kind: SocketKind::Unconnected,
            },
        );
        id
    }

    pub(crate) fn net_connect(&mut self, waiter: Waiter, socket: u64, target: SocketAddr) {
        let node = self.core_node(waiter.0);
        let numbers = [socket, u64::from(target.port()), 0];
        self.trace(EventKind::Connect, &self.node_name(node), numbers);
        let fresh = self.net.sockets.get(&socket).map(|s| &s.kind);
        if !matches!(fresh, Some(SocketKind::Unconnected)) {
            return self.complete(waiter, Due::Failed(libc::EISCONN));
        }
        let Some(peer) = node_of(&target, node).filter(|n| *n < self.node_count()) else {
            return self.complete(waiter, Due::Failed(libc::ENETUNREACH));
        };
        let refused = self.net_prng.chance_ppm(self.net.options.refuse_ppm);
        let unanswered = self
            .net_prng
            .chance_ppm(self.net.options.connect_timeout_ppm);
        if refused {
            self.fault(FaultKind::NetRefused, &self.node_name(node), (0, 0));
            return self.complete(waiter, Due::Failed(libc::ECONNREFUSED));
        }
        if unanswered {
            self.fault(FaultKind::NetTimeout, &self.node_name(node), (0, 0));
        }
        let connecting = Connecting {
            waiter: Some(waiter),
            target,
            started_ns: self.now_ns,
            retry_ns: RETRY_MIN_NS,
            unanswered,
        };
        if let Some(entry) = self.net.sockets.get_mut(&socket) {
            entry.kind = SocketKind::Connecting(connecting);
        }
        let at_ns = self.now_ns + self.link_ns(node, peer, 0);
        self.schedule(at_ns, Happening::Syn { socket });
    }

    /// A connection attempt reaches the other node, or does not and is tried again.
    pub(crate) fn net_syn(&mut self, socket: u64) {
        let Some(Socket {
            node,
            kind: SocketKind::Connecting(connecting),
        }) = self.net.sockets.get(&socket)
        else {
            return;
        };
        let (node, target, unanswered) = (*node, connecting.target, connecting.unanswered);
        let Some(peer) = node_of(&target, node) else {
            return;
        };
        let reachable = self.node_is_powered(peer)
            && self.net.is_open(node, peer)
            && self.net.is_open(peer, node)
            && !unanswered;
        if !reachable {
            return self.retry_syn(socket);
        }
        let Some(listener) = self.net.listener_on(peer, target) else {
            return self.end_connect(socket, Err(libc::ECONNREFUSED));
        };
        let backlog_max = self.net.options.backlog;
        if self
            .net
            .listener_mut(listener)
            .is_some_and(|l| l.backlog.len() >= backlog_max)
        {
            return self.retry_syn(socket);
        }
        self.establish(socket, node, listener, peer, target);
    }

    fn retry_syn(&mut self, socket: u64) {
        let (now_ns, limit_ns) = (self.now_ns, self.net.options.connect_timeout_ns);
        let Some(Socket {
            kind: SocketKind::Connecting(connecting),
            ..
        }) = self.net.sockets.get_mut(&socket)
        else {
            return;
        };
        let give_up_ns = connecting.started_ns + limit_ns;
        if now_ns >= give_up_ns {
            return self.end_connect(socket, Err(libc::ETIMEDOUT));
        }
        let at_ns = (now_ns + connecting.retry_ns).min(give_up_ns);
        connecting.retry_ns = (connecting.retry_ns * 2).min(RETRY_MAX_NS);
        self.schedule(at_ns, Happening::Syn { socket });
    }

    fn establish(
        &mut self,
        socket: u64,
        node: usize,
        listener: u64,
        peer: usize,
        target: SocketAddr,
    ) {
        let port = self.net.free_port();
        let local_ip = if node == peer {
            target.ip()
        } else {
            node_ip(node)
        };
        let local = SocketAddr::new(local_ip, port);
        let accepted = self.new_id();
        let server = Stream::new(target, local, socket, node);
        let kind = SocketKind::Stream(Box::new(server));
        self.net
            .sockets
            .insert(accepted, Socket { node: peer, kind });
        if let Some(listener) = self.net.listener_mut(listener) {
            listener.backlog.push_back(accepted);
        }
        self.serve_accepts(listener);
        self.end_connect(
            socket,
            Ok(Box::new(Stream::new(local, target, accepted, peer))),
        );
    }

    fn end_connect(&mut self, socket: u64, result: Result<Box<Stream>, i32>) {
        let Some(entry) = self.net.sockets.get_mut(&socket) else {
            return;
        };
        let node = entry.node;
        let errno = result.as_ref().err().copied().unwrap_or(0);
        let kind = match result {
            Ok(stream) => SocketKind::Stream(stream),
            Err(_) => SocketKind::Unconnected,
        };
        let previous = std::mem::replace(&mut entry.kind, kind);
        self.trace(
            EventKind::ConnectEnd,
            &self.node_name(node),
            [socket, errno as u64, 0],
        );
        if let SocketKind::Connecting(Connecting {
            waiter: Some(waiter),
            target,
            ..
        }) = previous
        {
            let peer = node_of(&target, node).unwrap_or(node);
            let at_ns = self.now_ns + self.link_ns(peer, node, 0);
            let due = if errno == 0 {
                Due::Done
            } else {
                Due::Failed(errno)
            };
            self.schedule(at_ns, Happening::Complete { waiter, due });
        }
    }

    /// A connection that was on its way to a caller who is gone goes to the next one.
    fn return_accepted(&mut self, (core, key): Waiter) {
        let (node, inbox) = (self.cores[core].node, &mut self.cores[core].inbox);
        let taken = inbox.iter_mut().find_map(|(k, due)| match due {
            Due::Accepted(socket, _) if *k == key => {
                let socket = *socket;
                *due = Due::Failed(libc::ECANCELED);
                Some(socket)
            }
            _ => None,
        });
        let Some(socket) = taken else { return };
        let local = self.net.stream(socket).map(|stream| stream.local);
        let Some(listener) = local.and_then(|local| self.net.listener_on(node, local)) else {
            return self.net_close(socket);
        };
        if let Some(listener) = self.net.listener_mut(listener) {
            listener.backlog.push_front(socket);
        }
        self.serve_accepts(listener);
    }

    /// The future of this wait is gone: complete it if it still waits.
    pub(crate) fn net_cancel(&mut self, waiter: Waiter) {
        self.return_accepted(waiter);
        let mut found = false;
        for socket in self.net.sockets.values_mut() {
            match &mut socket.kind {
                SocketKind::Listener(l) => {
                    let before = l.waiters.len();
                    l.waiters.retain(|w| *w != waiter);
                    found |= l.waiters.len() != before;
                }
                SocketKind::Stream(s) => {
                    let before = s.readers.len() + s.writers.len();
                    s.readers.retain(|w| *w != waiter);
                    s.writers.retain(|w| *w != waiter);
                    found |= s.readers.len() + s.writers.len() != before;
                }
                SocketKind::Connecting(c) if c.waiter == Some(waiter) => {
                    c.waiter = None;
                    found = true;
                }
                _ => {}
            }
        }
        if found {
            self.complete(waiter, Due::Failed(libc::ECANCELED));
        }
    }
}
