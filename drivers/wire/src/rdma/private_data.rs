//! Private data of the connection manager's request, accept and reject.
//!
//! **Sizes.** HSQSIZE is 0's based: it is the SQSIZE of the Connect command that follows, so a queue
//! of 128 entries sends 127. HRQSIZE and CRQSIZE are counts. So says the specification, so does the
//! Linux host (HSQSIZE 127 and HRQSIZE 128 for 128 entries), and so the Linux target takes it
//! (HSQSIZE + 1 receives). Hosts that take CRQSIZE as the limit of their queue read it as a count.
//!
//! **Lengths.** The connection manager gives more than was sent: its field has a fixed size (56 bytes
//! of a request over RoCE) and the rest is zero. So longer data is right, and a request without any
//! private data arrives as zeroes; it is refused for its queue sizes.
//!
//! Source: NVMe RDMA transport 1.0 section 3.1.

use zerocopy::little_endian::U16;

use super::{CmStatus, PrivateDataError, RECFMT};

wire_struct! {
    /// RDMA_CM_REQUEST: which queue the host wants, and how large it is.
    CmRequest[32] {
        0 recfmt: U16, "Record format, 0.";
        2 qid: U16, "The queue: 0 is the admin queue.";
        4 hrqsize: U16, "Entries of the host's receive queue.";
        6 hsqsize: U16, "Entries of the host's send queue, 0's based: SQSIZE of Connect.";
        8 cntlid: U16, "The controller of an I/O queue; 0 for an admin queue, and from older hosts.";
        10 rsvd10: [u8; 22], "Reserved.";
    }
}

impl CmRequest {
    /// A request for queue `qid` of `entries` entries in both directions, 2 to 65,535.
    ///
    /// `cntlid` is the controller of an I/O queue; for the admin queue it is not sent.
    #[must_use]
    pub fn new(qid: u16, entries: u16, cntlid: u16) -> Self {
        Self {
            recfmt: U16::new(RECFMT),
            qid: U16::new(qid),
            hrqsize: U16::new(entries),
            hsqsize: U16::new(entries.saturating_sub(1)),
            cntlid: U16::new(if qid == 0 { 0 } else { cntlid }),
            ..Self::zeroed()
        }
    }

    /// Views and checks what the connection manager gave; bytes after the record are ignored.
    ///
    /// Errors: `Length`; `RecordFormat`; `HostSendQueue` and `HostReceiveQueue` for queues that no
    /// queue of NVMe can have. Which sizes and queues a controller takes is for its owner to say.
    pub fn check(bytes: &[u8]) -> Result<&Self, PrivateDataError> {
        let request = view(bytes, "RDMA_CM_REQUEST", Self::SIZE, Self::decode)?;
        format("RDMA_CM_REQUEST", request.recfmt)?;
        if request.hsqsize.get() == 0 {
            return Err(PrivateDataError::HostSendQueue);
        }
        if request.hrqsize.get() == 0 {
            return Err(PrivateDataError::HostReceiveQueue);
        }
        Ok(request)
    }

    /// Commands that the host may have in flight: its send queue, as a count.
    #[must_use]
    pub const fn send_entries(&self) -> u32 {
        self.hsqsize.get() as u32 + 1
    }

    /// Responses that the host can receive at the same time.
    #[must_use]
    pub const fn receive_entries(&self) -> u32 {
        self.hrqsize.get() as u32
    }

    /// The controller the queue belongs to; none for an admin queue, or when the host does not say.
    #[must_use]
    pub const fn controller(&self) -> Option<u16> {
        match (self.qid.get(), self.cntlid.get()) {
            (0, _) | (_, 0) => None,
            (_, cntlid) => Some(cntlid),
        }
    }
}

wire_struct! {
    /// RDMA_CM_ACCEPT: the controller's receive queue.
    CmAccept[32] {
        0 recfmt: U16, "Record format, 0.";
        2 crqsize: U16, "Entries of the controller's receive queue for this queue.";
        4 rsvd4: [u8; 28], "Reserved.";
    }
}

impl CmAccept {
    /// An accept of a queue for which the controller has `entries` receives.
    #[must_use]
    pub fn new(entries: u16) -> Self {
        Self {
            recfmt: U16::new(RECFMT),
            crqsize: U16::new(entries),
            ..Self::zeroed()
        }
    }

    /// Views and checks what the connection manager gave; bytes after the record are ignored.
    ///
    /// Errors: `Length`, `RecordFormat`.
    pub fn check(bytes: &[u8]) -> Result<&Self, PrivateDataError> {
        let accept = view(bytes, "RDMA_CM_ACCEPT", Self::SIZE, Self::decode)?;
        format("RDMA_CM_ACCEPT", accept.recfmt)?;
        Ok(accept)
    }
}

wire_struct! {
    /// RDMA_CM_REJECT: why there is no connection.
    CmReject[4] {
        0 recfmt: U16, "Record format, 0.";
        2 sts: U16, "Status, see `CmStatus`.";
    }
}

impl CmReject {
    /// A reject with this status.
    #[must_use]
    pub fn new(status: CmStatus) -> Self {
        Self {
            recfmt: U16::new(RECFMT),
            sts: U16::new(status.0),
        }
    }

    /// Views and checks what the connection manager gave; bytes after the record are ignored.
    ///
    /// Rejects come from below the transport, too (nobody listens), without this record.
    ///
    /// Errors: `Length`, `RecordFormat`.
    pub fn check(bytes: &[u8]) -> Result<&Self, PrivateDataError> {
        let reject = view(bytes, "RDMA_CM_REJECT", Self::SIZE, Self::decode)?;
        format("RDMA_CM_REJECT", reject.recfmt)?;
        Ok(reject)
    }

    /// The status, known or not.
    #[must_use]
    pub const fn status(&self) -> CmStatus {
        CmStatus(self.sts.get())
    }
}

fn view<'b, T>(
    bytes: &'b [u8],
    what: &'static str,
    need_bytes: usize,
    decode: impl FnOnce(&'b [u8]) -> Result<&'b T, crate::Error>,
) -> Result<&'b T, PrivateDataError> {
    decode(bytes).map_err(|_| PrivateDataError::Length {
        what,
        need_bytes,
        have_bytes: bytes.len(),
    })
}

fn format(what: &'static str, recfmt: U16) -> Result<(), PrivateDataError> {
    match recfmt.get() {
        RECFMT => Ok(()),
        recfmt => Err(PrivateDataError::RecordFormat { what, recfmt }),
    }
}
