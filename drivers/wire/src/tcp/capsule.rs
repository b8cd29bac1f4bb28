//! Command and response capsules.
//!
//! Source: NVMe/TCP 1.0 sections 3.6.2.5 (CapsuleCmd) and 3.6.2.6 (CapsuleResp).

use super::{CommonHeader, Framing, Layout, PduError, PduType};
use crate::nvme::{Cqe, Sqe};

wire_struct! {
    /// Command capsule; in-capsule data may follow.
    CapsuleCmd[72] {
        0 ch: CommonHeader, "Type 04h, HLEN 72.";
        8 sqe: Sqe, "The command.";
    }
}

impl CapsuleCmd {
    /// A capsule with `data_len` bytes of in-capsule data, and where its parts lie.
    ///
    /// Errors: `LimitExceeded` when the data does not fit into a PDU.
    pub fn new(sqe: Sqe, data_len: usize, framing: &Framing) -> Result<(Self, Layout), PduError> {
        let layout = Layout::to_send(Self::SIZE, data_len, framing);
        let ch = layout.common_header(PduType::CAPSULE_CMD, 0)?;
        Ok((Self { ch, sqe }, layout))
    }
}

wire_struct! {
    /// Response capsule.
    CapsuleResp[24] {
        0 ch: CommonHeader, "Type 05h, HLEN 24.";
        8 cqe: Cqe, "The completion.";
    }
}

impl CapsuleResp {
    /// A response, and where its parts lie.
    #[must_use]
    pub fn new(cqe: Cqe, framing: &Framing) -> (Self, Layout) {
        let layout = Layout::to_send(Self::SIZE, 0, framing);
        (
            Self {
                ch: layout.small_header(PduType::CAPSULE_RESP),
                cqe,
            },
            layout,
        )
    }
}
