//! What crashes and tests do to the network.

use super::{SocketKind, node_ip};
use crate::sim::state::{Happening, State};
use crate::sim::trace::{EventKind, FaultKind};

impl State {
    /// One-way time from node to node for `bytes`.
    pub(crate) fn link_ns(&mut self, from: usize, to: usize, bytes: usize) -> u64 {
        let options = &self.net.options;
        let base_ns = if from == to {
            options.loopback_ns
        } else {
            options.latency_ns
        };
        let wire_ns = bytes as u64 * 1_000 / options.bytes_per_us.max(1);
        let mut ns = base_ns + wire_ns + self.net_prng.between(0, options.jitter_ns);
        if from != to && self.net_prng.chance_ppm(options.spike_ppm) {
            let extra_ns = self.net_prng.between(0, options.spike_ns);
            ns += extra_ns;
            self.fault(FaultKind::NetDelay, &self.node_name(from), (extra_ns, 0));
        }
        ns
    }

    /// Blocks or opens one direction.
    pub(crate) fn net_set_blocked(&mut self, from: usize, to: usize, blocked: bool) {
        if blocked {
            self.net.blocked.insert((from, to));
            self.watch_idle(|a, b| (a, b) == (from, to) || (b, a) == (from, to));
        } else {
            self.net.blocked.remove(&(from, to));
        }
        let numbers = [from as u64, to as u64, u64::from(blocked)];
        self.trace(EventKind::Test, "link", numbers);
    }

    /// Keepalive probes of idle connections will find out about a silent peer.
    fn watch_idle(&mut self, concerns: impl Fn(usize, usize) -> bool) {
        let at_ns = self.now_ns + self.net.options.keepalive_ns;
        let ids: Vec<u64> = self
            .net
            .sockets
            .iter()
            .filter(|(_, socket)| match &socket.kind {
                SocketKind::Stream(stream) => concerns(socket.node, stream.peer_node),
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for socket in ids {
            self.schedule(at_ns, Happening::Keepalive { socket });
        }
    }

    pub(crate) fn net_keepalive(&mut self, socket: u64) {
        let Some(node) = self.net.sockets.get(&socket).map(|s| s.node) else {
            return;
        };
        let Some(stream) = self.net.stream(socket) else {
            return;
        };
        let (peer, peer_node) = (stream.peer, stream.peer_node);
        let reachable = self.node_is_powered(peer_node)
            && self.net.is_open(node, peer_node)
            && self.net.is_open(peer_node, node);
        if !reachable {
            self.net_fail(socket, libc::ETIMEDOUT);
        } else if self.net.stream(peer).is_none() {
            self.net_fail(socket, libc::ECONNRESET);
        }
    }

    /// Resets every connection between two nodes; returns how many.
    pub(crate) fn net_drop_connections(&mut self, a: usize, b: usize) -> usize {
        let ids: Vec<u64> = self
            .net
            .sockets
            .iter()
            .filter(|(_, socket)| match &socket.kind {
                SocketKind::Stream(s) => socket.node == a && s.peer_node == b && s.error.is_none(),
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for socket in &ids {
            self.fault(FaultKind::NetReset, &self.node_name(a), (*socket, 0));
            self.net_reset(*socket, libc::ECONNRESET);
        }
        ids.len()
    }

    /// The process died: its kernel closes every socket, politely.
    pub(crate) fn net_kill(&mut self, node: usize) {
        for (id, is_listener) in self.sockets_of(node) {
            if is_listener {
                self.net_close_listener(id);
            } else {
                self.net_close(id);
            }
        }
    }

    /// The node is gone without a word: its peers stay half-open.
    pub(crate) fn net_power_loss(&mut self, node: usize) {
        self.watch_idle(|from, to| to == node && from != node);
        for (id, _) in self.sockets_of(node) {
            let Some(socket) = self.net.sockets.remove(&id) else {
                continue;
            };
            if let SocketKind::Stream(stream) = socket.kind
                && stream.peer_node != node
                && self
                    .net
                    .stream(stream.peer)
                    .is_some_and(|peer| peer.error.is_none())
            {
                self.fault(
                    FaultKind::HalfOpen,
                    &self.node_name(stream.peer_node),
                    (stream.peer, 0),
                );
            }
        }
    }

    fn sockets_of(&self, node: usize) -> Vec<(u64, bool)> {
        let owned = self
            .net
            .sockets
            .iter()
            .filter(|(_, socket)| socket.node == node);
        owned
            .map(|(id, s)| (*id, matches!(s.kind, SocketKind::Listener(_))))
            .collect()
    }

    /// The address other nodes reach this one at.
    pub(crate) fn ip_of(&self, node: usize) -> std::net::IpAddr {
        node_ip(node)
    }
}
