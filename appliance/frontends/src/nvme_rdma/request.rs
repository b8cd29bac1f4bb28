//! A request to connect: what the host's private data asks for, and which core shall serve it.
//!
//! Source: NVMe RDMA transport 1.0 section 3.1.

use rdma::{DetachedIncoming, Incoming};
use wire::rdma::{CmReject, CmRequest, CmStatus};

use super::greet;
use crate::complaints::Complaint;
use crate::nvmf::directory::CoreTarget;
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::moves::Traveller;
use crate::nvmf::port::CloseReason;
use crate::nvmf::target::Target;
use crate::seats::Seat;

/// What a checked request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// 0 for an admin queue.
    pub qid: u16,
    /// Commands that may be in flight.
    pub entries: u16,
    /// Which controller, if the host says.
    pub cntlid: Option<u16>,
}

/// A request on its way to another core.
struct Sent {
    incoming: DetachedIncoming,
    seat: Seat,
    asked: Asked,
}

/// Takes in a request, here or on the core that most likely has its controller.
pub(super) fn arrive(target: &Target, incoming: Incoming) {
    let most = target.options().rdma.max_queue_entries;
    let asked = match check(incoming.private_data(), most) {
        Ok(asked) => asked,
        Err(status) => return refuse(target, incoming, status),
    };
    let Some(seat) = target.take_seat() else {
        return refuse(target, incoming, CmStatus::NO_RESOURCES);
    };
    let guess = target.options().directory.homes();
    let guess = guess.guess(incoming.peer().ip(), asked.cntlid);
    let elsewhere = guess.filter(|home| *home != target.home());
    match elsewhere.and_then(|home| target.options().directory.target(home)) {
        Some(core) => send(target, core, incoming, (seat, asked)),
        None => greet::begin(target, incoming, seat, asked),
    }
}

/// Checks private data. `most` is the largest queue, in entries.
fn check(private_data: &[u8], most: u16) -> Result<Asked, CmStatus> {
    let request = CmRequest::check(private_data).map_err(|error| error.status())?;
    if request.send_entries() > u32::from(most) {
        return Err(CmStatus::INVALID_HSQSIZE);
    }
    Ok(Asked {
        qid: request.qid.get(),
        entries: request.send_entries() as u16,
        cntlid: request.controller(),
    })
}

/// Refuses a request in the words of the transport.
pub(super) fn refuse(target: &Target, incoming: Incoming, status: CmStatus) {
    target.complaints().about(Complaint::Connect, || {
        tracing::info!(peer = %incoming.peer(), ?status, "RDMA connection refused");
    });
    target.totals().refused(CloseReason::ProtocolError);
    incoming.reject(CmReject::new(status).as_wire());
}

fn send(target: &Target, core: CoreTarget, incoming: Incoming, (seat, asked): (Seat, Asked)) {
    let peer = incoming.peer();
    let sent = Sent {
        incoming: incoming.detach(),
        seat,
        asked,
    };
    let message = TargetMessage::Connection(Box::new(sent));
    if core.mailbox.try_send(message).is_err() {
        // Dropped, and so refused: the host tries again.
        target.complaints().about(Complaint::Handover, || {
            tracing::warn!(%peer, "core is overloaded: connection refused");
        });
        target.totals().refused(CloseReason::Limit);
    }
}

impl Traveller for Sent {
    fn arrive(self: Box<Self>, target: &Target) {
        let Some(card) = target.card() else { return };
        match card.attach(self.incoming) {
            Ok(incoming) => greet::begin(target, incoming, self.seat, self.asked),
            Err(error) => target.complaints().about(Complaint::Handover, || {
                tracing::warn!(%error, "RDMA connection could not move: refused");
            }),
        }
    }
}
