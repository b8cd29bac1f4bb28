//! ICReq and ICResp: what the connection will do. Source: NVMe/TCP 1.0 sections 3.1, 3.6.2.1-2.

use std::net::SocketAddr;

use wire::tcp::icreq::dgst;
use wire::tcp::{
    ADMIN_CAPSULE_DATA_BYTES, Framing, IcReq, IcResp, Link, Pdu, PduError, PduType, Receiver,
    TermFrame,
};

use super::intake::{Intake, parse};
use super::socket::Socket;
use crate::complaints::Complaint;
use crate::nvmf::port::CloseReason;
use crate::nvmf::target::Target;
use crate::options::TargetOptions;

/// What ICReq and ICResp settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// Headers carry digests, both ways.
    pub header_digest: bool,
    /// Data carries digests, both ways.
    pub data_digest: bool,
    /// Alignment of the data we send, as in HPDA.
    pub hpda: u8,
}

impl Negotiated {
    /// The best that both sides can do.
    pub fn of(request: &IcReq, options: &TargetOptions) -> Self {
        Self {
            header_digest: options.header_digest && request.dgst & dgst::HEADER != 0,
            data_digest: options.data_digest && request.dgst & dgst::DATA != 0,
            hpda: request.hpda,
        }
    }

    /// Form of the PDUs we send.
    pub fn outgoing(&self) -> Framing {
        Framing {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            pda: self.hpda,
        }
    }

    /// What we expect from the host. We ask for no alignment (CPDA 0).
    pub fn link(&self, options: &TargetOptions) -> Link {
        Link {
            receiver: Receiver::Controller,
            ready: true,
            framing: Framing {
                pda: 0,
                ..self.outgoing()
            },
            max_capsule_data_bytes: options.in_capsule().max(ADMIN_CAPSULE_DATA_BYTES),
            max_data_bytes: options.maxh2cdata(),
        }
    }

    fn response(&self, options: &TargetOptions) -> IcResp {
        let header = if self.header_digest { dgst::HEADER } else { 0 };
        let data = if self.data_digest { dgst::DATA } else { 0 };
        IcResp::new(0, header | data, options.maxh2cdata())
    }
}

/// Reads ICReq, answers it, and sets the intake up for what follows.
pub(super) async fn shake_hands(
    socket: &Socket,
    intake: &mut Intake,
    target: &Target,
    peer: SocketAddr,
) -> Result<Negotiated, CloseReason> {
    let options = target.options();
    let layout = match intake.next_header(socket).await? {
        Ok(layout) => layout,
        Err(error) => return Err(refuse(socket, intake, &error, target, peer).await),
    };
    let parsed = parse(intake, &layout).map(|pdu| match pdu {
        Pdu::IcReq(request) => Some(Negotiated::of(request, options)),
        _ => None,
    });
    let negotiated = match parsed {
        Ok(Some(negotiated)) => negotiated,
        // Before the handshake only ICReq and a termination request pass `next_header`.
        Ok(None) => return Err(CloseReason::PeerTerminated),
        Err(error) => return Err(refuse(socket, intake, &fatal(error), target, peer).await),
    };
    intake.consume(layout.total());
    socket
        .send_all(negotiated.response(options).as_wire())
        .await?;
    intake.set_link(negotiated.link(options));
    Ok(negotiated)
}

/// Tells the peer why the connection ends, then gives it time to read that.
/// For use before the connection has its sender; later see `Connection::terminate`.
pub(super) async fn refuse(
    socket: &Socket,
    intake: &Intake,
    error: &PduError,
    target: &Target,
    peer: SocketAddr,
) -> CloseReason {
    target.complaints().about(Complaint::Protocol, || {
        tracing::warn!(%peer, %error, "protocol error: connection is terminated");
    });
    let frame = TermFrame::new(Receiver::Controller, error, intake.front_header());
    // The connection ends anyway; a peer that reads nothing gets nothing.
    let _ = socket.send_all(frame.as_wire()).await;
    CloseReason::ProtocolError
}

/// A parse error that is not a protocol error cannot happen: the header is there in full.
pub(super) fn fatal(error: wire::Error) -> PduError {
    match error {
        wire::Error::Pdu(error) => error,
        _ => PduError::Sequence {
            kind: PduType::CAPSULE_CMD,
        },
    }
}
