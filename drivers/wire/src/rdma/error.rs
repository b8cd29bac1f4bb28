//! Why private data is refused, and the status that says so.
//!
//! Source: NVMe RDMA transport 1.0 section 3.5.1 (transport errors).

open_enum! {
    /// Status of a rejected connection, STS of [`CmReject`](super::CmReject).
    CmStatus: u16 {
        INVALID_LENGTH = 1, "The private data is too short.";
        INVALID_RECFMT = 2, "The record format is not known.";
        INVALID_QID = 3, "The controller has no such queue.";
        INVALID_HSQSIZE = 4, "The host's send queue has a size it cannot have.";
        INVALID_HRQSIZE = 5, "The host's receive queue has a size it cannot have.";
        NO_RESOURCES = 6, "The controller can make no queue pair now.";
        INVALID_IRD = 7, "The host takes an impossible number of RDMA READs.";
        INVALID_ORD = 8, "The host sends an impossible number of RDMA READs.";
        INVALID_CNTLID = 9, "There is no such controller.";
    }
}

/// Private data that ends the attempt to connect. A controller rejects with [`Self::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateDataError {
    /// Fewer bytes than the record has.
    #[error("{what} needs {need_bytes} bytes of private data, got {have_bytes}: reject")]
    Length {
        /// The record.
        what: &'static str,
        /// Its size.
        need_bytes: usize,
        /// What was there.
        have_bytes: usize,
    },
    /// Another record format than 0.
    #[error("{what} has record format {recfmt}, only 0 is known: reject")]
    RecordFormat {
        /// The record.
        what: &'static str,
        /// The format found.
        recfmt: u16,
    },
    /// HSQSIZE 0: one entry, and the smallest queue has two.
    #[error("the host's send queue has one entry, two are the least: reject")]
    HostSendQueue,
    /// HRQSIZE 0: no response could ever be received.
    #[error("the host's receive queue has no entry: reject")]
    HostReceiveQueue,
}

impl PrivateDataError {
    /// The status to reject with.
    #[must_use]
    pub const fn status(&self) -> CmStatus {
        match self {
            Self::Length { .. } => CmStatus::INVALID_LENGTH,
            Self::RecordFormat { .. } => CmStatus::INVALID_RECFMT,
            Self::HostSendQueue => CmStatus::INVALID_HSQSIZE,
            Self::HostReceiveQueue => CmStatus::INVALID_HRQSIZE,
        }
    }
}
