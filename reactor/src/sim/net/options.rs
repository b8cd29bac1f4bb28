//! What the simulated network may do: one struct, units in the names.

/// The network of a world. Times in virtual nanoseconds, probabilities in parts per million.
/// Defaults: a quiet 25 Gbit/s network that still cuts reads and writes at random places, because
/// TCP promises no boundaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// One-way time between two nodes.
    pub latency_ns: u64,
    /// One-way time inside a node.
    pub loopback_ns: u64,
    /// Uniform extra per segment, 0 to this.
    pub jitter_ns: u64,
    /// Bytes per microsecond (3000 = 24 Gbit/s).
    pub bytes_per_us: u64,
    /// Bytes one direction holds between the sender's call and the receiver's call; beyond it
    /// `try_send` would block.
    pub buffer_bytes: usize,
    /// Connections a listener holds before `accept`; further attempts are retried as TCP does.
    pub backlog: usize,
    /// A send takes a random part of what fits.
    pub partial_send_ppm: u32,
    /// A receive returns a random part of what is there.
    pub partial_recv_ppm: u32,
    /// A segment is delayed by up to `spike_ns` (a lost packet, a busy switch).
    pub spike_ppm: u32,
    /// Longest such delay.
    pub spike_ns: u64,
    /// A segment is answered by a reset of the connection, both sides.
    pub reset_ppm: u32,
    /// A connection attempt is refused although somebody listens.
    pub refuse_ppm: u32,
    /// A connection attempt gets no answer until it times out.
    pub connect_timeout_ppm: u32,
    /// How long connecting is tried before ETIMEDOUT.
    pub connect_timeout_ns: u64,
    /// How long un-acknowledged bytes are retransmitted before ETIMEDOUT.
    pub retransmit_timeout_ns: u64,
    /// How long a silent peer may be unreachable before an idle connection ends with ETIMEDOUT.
    pub keepalive_ns: u64,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            latency_ns: 25_000,
            loopback_ns: 8_000,
            jitter_ns: 10_000,
            bytes_per_us: 3_000,
            buffer_bytes: 256 << 10,
            backlog: 128,
            partial_send_ppm: 50_000,
            partial_recv_ppm: 100_000,
            spike_ppm: 500,
            spike_ns: 20_000_000,
            reset_ppm: 0,
            refuse_ppm: 0,
            connect_timeout_ppm: 0,
            connect_timeout_ns: 10_000_000_000,
            retransmit_timeout_ns: 30_000_000_000,
            keepalive_ns: 60_000_000_000,
        }
    }
}
