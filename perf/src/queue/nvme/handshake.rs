//! Opens the connection of an I/O queue: ICReq, ICResp, Connect.
//!
//! These few round trips use a blocking socket with a time limit; the queue takes over after.
//!
//! Source: NVMe/TCP 1.0 section 3.6.2.1 (ICReq) and 3.6.2.2 (ICResp), base 2.0 section 6.3 (Connect).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wire::fabrics::connect::{ConnectCommand, ConnectData, ConnectResponse, cattr};
use wire::nvme::Cqe;
use wire::tcp::digest::{self, DIGEST_BYTES};
use wire::tcp::icreq::dgst;
use wire::tcp::{CapsuleCmd, CommonHeader, Framing, IcReq, IcResp, Link, Pdu, Receiver};

use super::Terms;
use crate::error::PerfError;
use crate::queue::socket::{self, read_exact, write};

/// Which queue of which controller to open, and how.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The target.
    pub address: SocketAddr,
    /// Subsystem.
    pub subnqn: String,
    /// This host.
    pub hostnqn: String,
    /// This host's identifier.
    pub hostid: [u8; 16],
    /// Controller that the admin queue got.
    pub cntlid: u16,
    /// Entries of the queue: one more than can be in flight.
    pub entries: u32,
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// R2Ts in flight for one command, 1 or more.
    pub max_r2t: u32,
    /// Longest wait for each step.
    pub timeout: Duration,
}

/// Opens I/O queue `qid`. The socket comes back in non-blocking mode.
///
/// Errors: `Socket`, `Closed`, `Wire`, `Terminated`, `Protocol`; `Refused` when Connect fails.
pub fn open(opening: &Opening, qid: u16) -> Result<(TcpStream, Terms), PerfError> {
    let mut socket = socket::connect(opening.address, opening.timeout)?;
    let terms = handshake(&mut socket, opening)?;
    connect(&mut socket, opening, qid, &terms)?;
    socket::unblock(&socket)?;
    Ok((socket, terms))
}

/// ICReq and ICResp.
pub fn handshake(socket: &mut (impl Read + Write), opening: &Opening) -> Result<Terms, PerfError> {
    let header = if opening.header_digest {
        dgst::HEADER
    } else {
        0
    };
    let data = if opening.data_digest { dgst::DATA } else { 0 };
    let request = IcReq::new(0, header | data, opening.max_r2t.saturating_sub(1));
    write(socket, "sending ICReq", request.as_wire())?;
    let response = read_ic_resp(socket)?;
    response.check(&request).map_err(wire::Error::from)?;
    if response.dgst & request.dgst != request.dgst {
        let problem = "the target refuses a digest that was asked for: leave out its option";
        return Err(super::refuse(response.ch.kind, 0, problem));
    }
    let outgoing = Framing {
        header_digest: opening.header_digest,
        data_digest: opening.data_digest,
        pda: response.cpda,
    };
    Ok(Terms {
        link: Link {
            ready: true,
            framing: Framing { pda: 0, ..outgoing },
            ..Link::new(Receiver::Host)
        },
        outgoing,
        max_h2c_bytes: response.maxh2cdata.get(),
    })
}

fn read_ic_resp(socket: &mut impl Read) -> Result<IcResp, PerfError> {
    let link = Link::new(Receiver::Host);
    let bytes = read_pdu(socket, "waiting for ICResp", &link)?;
    let header = CommonHeader::decode(&bytes)?;
    let layout = link.frame(header).map_err(wire::Error::from)?;
    match Pdu::parse(&bytes, &layout)? {
        Pdu::IcResp(response) => Ok(*response),
        Pdu::C2hTermReq(request) => Err(super::terminated(request)),
        _ => Err(super::refuse(header.kind, 0, "ICResp was expected")),
    }
}

/// Connect, with its data in the capsule.
fn connect(
    socket: &mut (impl Read + Write),
    opening: &Opening,
    qid: u16,
    terms: &Terms,
) -> Result<(), PerfError> {
    let mut command = ConnectCommand::new(0, qid, opening.entries, 0)?;
    command.cattr |= cattr::DISABLE_SQ_FLOW_CONTROL;
    let (cntlid, host) = (opening.cntlid, &opening.hostnqn);
    let data = ConnectData::new(opening.hostid, cntlid, &opening.subnqn, host)?;
    let data = data.as_wire();
    let (capsule, layout) = CapsuleCmd::new(command.to_sqe(), data.len(), &terms.outgoing)
        .map_err(wire::Error::from)?;
    let mut bytes = capsule.as_wire().to_vec();
    if layout.header_digest > 0 {
        bytes.extend(digest::header_digest(capsule.as_wire()));
    }
    bytes.resize(layout.data_offset(), 0);
    bytes.extend(data);
    if layout.data_digest > 0 {
        bytes.extend(digest::crc32c(data).to_le_bytes());
    }
    write(socket, "sending Connect", &bytes)?;
    let cqe = read_response(socket, &terms.link)?;
    if !cqe.status().is_success() {
        return Err(PerfError::Refused {
            status: cqe.status(),
            result: cqe.result.get(),
        });
    }
    let response = ConnectResponse::decode(cqe.dw0());
    if response.cntlid == opening.cntlid {
        return Ok(());
    }
    let problem = "Connect answers with another controller";
    Err(super::refuse(wire::tcp::PduType::CAPSULE_RESP, 0, problem))
}

fn read_response(socket: &mut impl Read, link: &Link) -> Result<Cqe, PerfError> {
    let bytes = read_pdu(socket, "waiting for the answer to Connect", link)?;
    let header = CommonHeader::decode(&bytes)?;
    let layout = link.frame(header).map_err(wire::Error::from)?;
    let (head, sum) = bytes.split_at(layout.header.min(bytes.len()));
    if let (Some(sum), true) = (sum.first_chunk::<DIGEST_BYTES>(), layout.header_digest > 0) {
        digest::check_header(head, *sum).map_err(wire::Error::from)?;
    }
    match Pdu::parse(head, &layout)? {
        Pdu::CapsuleResp(response) => Ok(response.cqe),
        Pdu::C2hTermReq(request) => Err(super::terminated(request)),
        _ => Err(super::refuse(header.kind, 0, "a response was expected")),
    }
}

/// Reads one PDU in full. Its length is bounded by what `link` lets pass: a header, or a
/// termination request.
fn read_pdu(
    socket: &mut impl Read,
    doing: &'static str,
    link: &Link,
) -> Result<Vec<u8>, PerfError> {
    let mut bytes = vec![0; CommonHeader::SIZE];
    read_exact(socket, doing, &mut bytes)?;
    let layout = link
        .frame(CommonHeader::decode(&bytes)?)
        .map_err(wire::Error::from)?;
    bytes.resize(layout.total(), 0);
    let rest = bytes.get_mut(CommonHeader::SIZE..).unwrap_or_default();
    read_exact(socket, doing, rest)?;
    Ok(bytes)
}
