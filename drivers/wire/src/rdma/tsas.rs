//! TSAS of a discovery entry for RDMA. Source: NVMe RDMA transport 1.0 section 3.1 (figure 3).

use crate::fabrics::discovery::TransportSpecific;

/// RDMA_QPTYPE, byte 0: a reliable connection.
pub const QPTYPE_RELIABLE_CONNECTED: u8 = 1;
/// RDMA_PRTYPE, byte 1: the provider is not told.
pub const PRTYPE_NOT_SPECIFIED: u8 = 1;
/// RDMA_PRTYPE: InfiniBand.
pub const PRTYPE_INFINIBAND: u8 = 2;
/// RDMA_PRTYPE: RoCE, version 1.
pub const PRTYPE_ROCE: u8 = 3;
/// RDMA_PRTYPE: RoCE, version 2.
pub const PRTYPE_ROCE_V2: u8 = 4;
/// RDMA_PRTYPE: iWARP.
pub const PRTYPE_IWARP: u8 = 5;
/// RDMA_CMS, byte 2: the connection manager that takes IP addresses and ports.
pub const CMS_IP: u8 = 1;

/// TSAS of a listener with an IP address. RDMA_PKEY (bytes 9:8) is for InfiniBand addresses: zero.
#[must_use]
pub fn ip(prtype: u8) -> TransportSpecific {
    let mut tsas = [0; 256];
    tsas[..3].copy_from_slice(&[QPTYPE_RELIABLE_CONNECTED, prtype, CMS_IP]);
    TransportSpecific(tsas)
}
