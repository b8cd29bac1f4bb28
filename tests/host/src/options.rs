//! How the host behaves.

use std::time::Duration;

use wire::tcp::IcReq;
use wire::tcp::icreq::dgst;

/// Settings of one host; the same for all its queues.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Qualified name of the host.
    pub hostnqn: String,
    /// Host identifier.
    pub hostid: [u8; 16],
    /// Ask for header digests; connecting fails when the controller refuses.
    pub header_digest: bool,
    /// Ask for data digests; connecting fails when the controller refuses.
    pub data_digest: bool,
    /// Send write data inside the capsule when it fits; otherwise always wait for an R2T.
    pub in_capsule: bool,
    /// Entries of each I/O queue, 2 to 65,536; one less can be in flight.
    pub queue_depth: u32,
    /// Keep alive timeout in milliseconds; 0 is none.
    pub kato_ms: u32,
    /// Alignment the host asks for in data sent to it: 0-based in dwords, 0 to 31.
    pub hpda: u8,
    /// R2Ts the host takes per command, 1 or more.
    pub max_r2t: u32,
    /// Use submission queue flow control; without it C2HData may end a command (SUCCESS).
    pub sq_flow_control: bool,
    /// Longest wait for the peer.
    pub timeout: Duration,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            hostnqn: "nqn.2026-11.io.bedplate.test:host".to_owned(),
            hostid: *b"bedplate-host-id",
            header_digest: false,
            data_digest: false,
            in_capsule: true,
            queue_depth: 128,
            kato_ms: 0,
            hpda: 0,
            max_r2t: 1,
            sq_flow_control: false,
            timeout: Duration::from_secs(20),
        }
    }
}

impl HostOptions {
    /// Both digests on.
    #[must_use]
    pub fn with_digests(mut self) -> Self {
        self.header_digest = true;
        self.data_digest = true;
        self
    }

    /// A queue of `entries` entries.
    #[must_use]
    pub fn with_queue_depth(mut self, entries: u32) -> Self {
        self.queue_depth = entries;
        self
    }

    /// Another host: name and identifier both from `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.hostnqn = format!("nqn.2026-11.io.bedplate.test:{name}");
        self.hostid = [0; 16];
        for (to, from) in self.hostid.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        self
    }

    /// The first PDU this host sends.
    #[must_use]
    pub fn ic_req(&self) -> IcReq {
        let header = if self.header_digest { dgst::HEADER } else { 0 };
        let data = if self.data_digest { dgst::DATA } else { 0 };
        IcReq::new(self.hpda, header | data, self.max_r2t.saturating_sub(1))
    }
}
