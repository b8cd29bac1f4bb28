//! The transports that carry capsules, and what a controller announces differently for each.

use wire::fabrics::discovery::{TransportSpecific, TransportType};
use wire::nvme::identify::sgls;
use wire::rdma::tsas;

use crate::options::TargetOptions;

/// How hosts reach a controller. All queues of a controller come over the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA.
    Rdma,
}

impl Transport {
    /// As `nvme connect -t` names it, and status and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rdma => "rdma",
        }
    }

    /// TRTYPE of a discovery entry.
    pub(crate) const fn trtype(self) -> TransportType {
        match self {
            Self::Tcp => TransportType::TCP,
            Self::Rdma => TransportType::RDMA,
        }
    }

    /// TSAS of a discovery entry: no TLS, or a reliable connection over RoCE v2.
    pub(crate) fn tsas(self) -> TransportSpecific {
        match self {
            Self::Tcp => TransportSpecific([0; 256]),
            Self::Rdma => tsas::ip(tsas::PRTYPE_ROCE_V2),
        }
    }

    /// SGLS: the descriptors a command may have. Both transports take data without alignment and
    /// in the capsule. Source: NVMe/TCP 1.0 section 3.3; NVMe RDMA transport 1.0 section 3.3.1.
    pub(crate) const fn sgls(self) -> u32 {
        let shared = sgls::SUPPORTED | sgls::OFFSET_ADDRESS;
        match self {
            Self::Tcp => shared | sgls::TRANSPORT,
            Self::Rdma => shared | sgls::KEYED,
        }
    }

    /// Entries of the largest queue (MQES + 1).
    pub(crate) fn max_queue_entries(self, options: &TargetOptions) -> u16 {
        match self {
            Self::Tcp => options.max_queue_entries,
            Self::Rdma => options.rdma.max_queue_entries,
        }
    }

    /// Data that an I/O command may carry in its capsule, in whole steps of IOCCSZ.
    pub(crate) fn in_capsule_bytes(self, options: &TargetOptions) -> u32 {
        match self {
            Self::Tcp => options.in_capsule(),
            Self::Rdma => options.rdma.in_capsule_bytes & !15,
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}
