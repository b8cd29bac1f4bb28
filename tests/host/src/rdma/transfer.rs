//! One command in flight, and the memory it exposes.
//!
//! Source: NVMe RDMA transport 1.0 section 3.3 (data) and 3.4 (invalidation).

use rdma::{Access, Card, Exposed};
use reactor::buf::{Buf, alloc};
use wire::nvme::{Cqe, Sgl};
use wire::tcp::PduType;

use crate::table::Transfer;
use crate::{Cid, Command, Completion, HostError};

/// What memory holds that a controller has to fill: data that it forgot shows.
const POISON: u8 = 0xeb;

#[derive(Default)]
pub(crate) struct Flying {
    exposed: Option<Exposed>,
    receives: bool,
    /// The controller was asked to invalidate.
    invalidate: bool,
    invalidated: bool,
}

impl Flying {
    /// Exposes what `command` sends or receives; nothing when it does neither.
    ///
    /// Errors: `Rdma`; `Answer` for data above the longest buffer.
    pub async fn new(card: &Card, command: &Command, invalidate: bool) -> Result<Self, HostError> {
        let receives = command.receive_bytes > 0;
        let (buf, access) = if receives {
            let mut buf = buffer(command.receive_bytes).await?;
            buf.as_mut().fill(POISON);
            (buf, Access::Write)
        } else if command.send.is_empty() {
            return Ok(Self::default());
        } else {
            let mut buf = buffer(command.send.len()).await?;
            buf.as_mut().copy_from_slice(&command.send);
            (buf, Access::Read)
        };
        Ok(Self {
            exposed: Some(card.expose(buf, access)?),
            receives,
            invalidate,
            invalidated: false,
        })
    }

    /// The descriptor of its memory, which has `len_bytes` bytes.
    pub fn descriptor(&self, len_bytes: u32) -> Option<Sgl> {
        let remote = self.exposed.as_ref()?.remote();
        Some(Sgl::Keyed {
            address: remote.address,
            len_bytes,
            key: remote.key,
            invalidate: self.invalidate,
        })
    }

    /// Notes that the controller had the key `key` invalidated with the answer of this command.
    ///
    /// Errors: `Protocol` when it was not asked to, or for another key.
    pub fn invalidate(&mut self, cid: Cid, key: u32) -> Result<(), HostError> {
        let mine = self.exposed.as_ref().map(|exposed| exposed.remote().key);
        let refuse = |problem| {
            Err(HostError::Protocol {
                kind: PduType::CAPSULE_RESP,
                cid,
                problem,
            })
        };
        if mine != Some(key) {
            return refuse("invalidates a key of another command");
        }
        if !self.invalidate {
            return refuse("invalidates a key although nobody asked");
        }
        self.invalidated = true;
        Ok(())
    }
}

impl std::fmt::Debug for Flying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let remote = self.exposed.as_ref().map(Exposed::remote);
        write!(f, "Flying({remote:?}, receives: {})", self.receives)
    }
}

impl Transfer for Flying {
    fn finish(self, cid: Cid, cqe: Cqe) -> Result<Completion, HostError> {
        let data = self.exposed.map(Exposed::take);
        let wanted = self.receives && cqe.status().is_success();
        let data = data.filter(|_| wanted).map(|buf| buf.to_vec());
        if self.invalidate && data.is_some() && !self.invalidated {
            return Err(HostError::Protocol {
                kind: PduType::CAPSULE_RESP,
                cid,
                problem: "does not invalidate the key although it was asked to",
            });
        }
        Ok(Completion { cid, cqe, data })
    }
}

/// A buffer of `len_bytes`.
///
/// Errors: `Answer` above the longest one.
pub(crate) async fn buffer(len_bytes: usize) -> Result<Buf, HostError> {
    if len_bytes > reactor::buf::MAX_BUF_BYTES {
        let problem = format!("{len_bytes} bytes are more than one buffer has");
        return Err(HostError::Answer {
            what: "data of a command",
            problem,
        });
    }
    Ok(alloc(len_bytes).await)
}
