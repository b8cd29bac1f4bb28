//! A connection as bytes and PDUs.
//!
//! The socket never blocks: while the host has something to send that the peer does not take, it
//! goes on receiving. A peer that stops reading until its own data is taken, as every bounded
//! target does, can therefore not deadlock with this host.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wire::tcp::icreq::dgst;
use wire::tcp::{
    CommonHeader, Framing, IcReq, IcResp, Layout, Link, PduType, Receiver, TermReq, digest,
};

use crate::{HostError, HostOptions};

/// Bytes that one receive asks for.
const RECEIVE_BYTES: usize = 256 << 10;
/// Bytes already used after which the rest of the input moves to the front.
const COMPACT_BYTES: usize = 1 << 20;
/// Most data that one C2HData PDU may bring; more than any MDTS in use.
const MAX_DATA_BYTES: u32 = 64 << 20;

/// One TCP connection to a controller.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    sent: usize,
    link: Link,
    outgoing: Framing,
    max_h2c_bytes: usize,
    timeout: Duration,
}

/// One PDU as it came in, digests checked and removed.
#[derive(Debug)]
pub struct RawPdu {
    /// The header, digest not included.
    pub header: Vec<u8>,
    /// The data, padding and digest not included.
    pub data: Vec<u8>,
    /// Where the parts lay.
    pub layout: Layout,
}

impl RawPdu {
    /// Type of the PDU.
    #[must_use]
    pub fn kind(&self) -> PduType {
        PduType(self.header.first().copied().unwrap_or(0xff))
    }

    /// The typed PDU; errors as [`wire::tcp::Pdu::parse`].
    pub fn parse(&self) -> Result<wire::tcp::Pdu<'_>, wire::Error> {
        wire::tcp::Pdu::parse(&self.header, &self.layout)
    }
}

impl Raw {
    /// Connects; no byte is sent. `timeout` is the limit of this and every later wait.
    pub fn open(address: SocketAddr, timeout: Duration) -> Result<Self, HostError> {
        let io = |source| HostError::Io {
            doing: "connecting",
            source,
        };
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        stream.set_nonblocking(true).map_err(io)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            link: Link::new(Receiver::Host),
            outgoing: Framing::default(),
            max_h2c_bytes: 4096,
            timeout,
        })
    }

    /// Changes the limit of every later wait.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The limit of every wait.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// This end's address.
    pub fn local_address(&self) -> Result<SocketAddr, HostError> {
        self.stream.local_addr().map_err(|source| HostError::Io {
            doing: "local address",
            source,
        })
    }

    /// Form of the PDUs this host has to send.
    #[must_use]
    pub fn outgoing(&self) -> Framing {
        self.outgoing
    }

    /// MAXH2CDATA: most bytes in one H2CData PDU.
    #[must_use]
    pub fn max_h2c_bytes(&self) -> usize {
        self.max_h2c_bytes
    }

    /// Exchanges ICReq and ICResp as `options` say.
    ///
    /// Errors: `Answer` when a digest that was asked for is refused, and as [`Self::read_pdu`].
    pub fn handshake(&mut self, options: &HostOptions) -> Result<IcResp, HostError> {
        let request = options.ic_req();
        let response = self.exchange(&request)?;
        if response.dgst & request.dgst != request.dgst {
            let problem = format!(
                "asked for digests {:#x}, got {:#x}",
                request.dgst, response.dgst
            );
            return Err(HostError::Answer {
                what: "ICReq",
                problem,
            });
        }
        Ok(response)
    }

    /// Sends `request` and takes over what the ICResp says.
    pub fn exchange(&mut self, request: &IcReq) -> Result<IcResp, HostError> {
        self.send_bytes(request.as_wire())?;
        let pdu = self.read_pdu()?;
        let response = match pdu.parse()? {
            wire::tcp::Pdu::IcResp(response) => *response,
            _ => return Err(out_of_place(pdu.kind(), "expected ICResp")),
        };
        response.check(request).map_err(wire::Error::from)?;
        let header_digest = response.dgst & dgst::HEADER != 0;
        let data_digest = response.dgst & dgst::DATA != 0;
        self.outgoing = Framing {
            header_digest,
            data_digest,
            pda: response.cpda,
        };
        self.link = Link {
            ready: true,
            framing: Framing {
                header_digest,
                data_digest,
                pda: request.hpda,
            },
            max_data_bytes: MAX_DATA_BYTES,
            ..self.link
        };
        self.max_h2c_bytes = response.maxh2cdata.get() as usize;
        Ok(response)
    }

    /// Queues bytes and sends them to the last one.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    /// Queues one PDU: header, digest, padding, data, digest, as `layout` says.
    ///
    /// Nothing is sent before [`Self::flush`] or the next read.
    pub fn queue_pdu(&mut self, header: &[u8], layout: &Layout, data: &[u8]) {
        self.output.extend_from_slice(header);
        if layout.header_digest > 0 {
            self.output
                .extend_from_slice(&digest::header_digest(header));
        }
        self.output.resize(self.output.len() + layout.pad, 0);
        self.output.extend_from_slice(data);
        if layout.data_digest > 0 {
            self.output
                .extend_from_slice(&digest::crc32c(data).to_le_bytes());
        }
    }

    /// Sends what is queued; receives meanwhile.
    pub fn flush(&mut self) -> Result<(), HostError> {
        let deadline = Instant::now() + self.timeout;
        while self.push()? {
            self.wait("sending", deadline, true)?;
            // What the peer said before it closed is still in the input: keep it for the reader.
            match self.pull() {
                Err(HostError::Closed { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for one PDU. Checks its form and its digests.
    ///
    /// Errors: `Terminated` for a termination request, `Wire` for a malformed PDU or a wrong
    /// digest, `Closed`, `Timeout`, `Io`.
    pub fn read_pdu(&mut self) -> Result<RawPdu, HostError> {
        let deadline = Instant::now() + self.timeout;
        self.read_pdu_until(deadline)?
            .ok_or_else(|| self.timed_out("receiving"))
    }

    /// As [`Self::read_pdu`]; `None` when nothing complete came before `deadline`.
    pub fn read_pdu_until(&mut self, deadline: Instant) -> Result<Option<RawPdu>, HostError> {
        loop {
            if let Some(pdu) = self.next_pdu()? {
                return termination(pdu).map(Some);
            }
            let unsent = self.push()?;
            if self.pull()? {
                continue;
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            match self.wait("receiving", deadline, unsent) {
                Err(HostError::Timeout { .. }) => return Ok(None),
                other => other?,
            }
        }
    }

    /// Waits until the peer closes; what it still sends is dropped.
    ///
    /// Errors: `Timeout` when it stays open.
    pub fn wait_closed(&mut self) -> Result<(), HostError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.pull() {
                Ok(_) => self.taken = self.input.len(),
                Err(error) if error.is_disconnect() => return Ok(()),
                Err(error) => return Err(error),
            }
            self.wait("waiting for the peer to close", deadline, false)?;
        }
    }

    fn timed_out(&self, doing: &'static str) -> HostError {
        let after_ms = self.timeout.as_millis() as u64;
        HostError::Timeout {
            doing,
            after_ms,
            in_flight: Vec::new(),
        }
    }

    /// Sends what the socket takes; true when something is left.
    fn push(&mut self) -> Result<bool, HostError> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(HostError::Io {
                        doing: "sending",
                        source,
                    });
                }
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(false)
    }

    /// Receives what is there; true when something came.
    fn pull(&mut self) -> Result<bool, HostError> {
        if self.taken == self.input.len() || self.taken >= COMPACT_BYTES {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let held = self.input.len();
        self.input.resize(held + RECEIVE_BYTES, 0);
        let result = self.stream.read(&mut self.input[held..]);
        self.input
            .truncate(held + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(HostError::Closed { doing: "receiving" }),
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                _ => Err(HostError::Io {
                    doing: "receiving",
                    source: error,
                }),
            },
        }
    }

    fn wait(
        &self,
        doing: &'static str,
        deadline: Instant,
        writable: bool,
    ) -> Result<(), HostError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timed_out(doing));
        }
        let flags = if writable {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        // Rounded up: a wait of less than a millisecond must not become a busy loop.
        let left_ms = u32::try_from(left.as_millis() + 1).unwrap_or(u32::MAX);
        let limit = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.stream.as_fd(), flags)], limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(HostError::Io {
                doing,
                source: errno.into(),
            }),
        }
    }

    /// Takes one complete PDU out of the input.
    fn next_pdu(&mut self) -> Result<Option<RawPdu>, HostError> {
        let bytes = &self.input[self.taken..];
        if bytes.len() < CommonHeader::SIZE {
            return Ok(None);
        }
        let layout = self
            .link
            .frame(CommonHeader::decode(bytes)?)
            .map_err(wire::Error::from)?;
        let Some(bytes) = bytes.get(..layout.total()) else {
            return Ok(None);
        };
        let (header, rest) = bytes.split_at(layout.header);
        if let (Some(received), true) = (rest.first_chunk(), layout.header_digest > 0) {
            digest::check_header(header, *received).map_err(wire::Error::from)?;
        }
        let (data, tail) = bytes[layout.data_offset()..].split_at(layout.data);
        if let Some(received) = tail.first_chunk() {
            digest::check_data(digest::crc32c(data), *received)?;
        }
        let pdu = RawPdu {
            header: header.to_vec(),
            data: data.to_vec(),
            layout,
        };
        self.taken += layout.total();
        Ok(Some(pdu))
    }
}

fn termination(pdu: RawPdu) -> Result<RawPdu, HostError> {
    if pdu.kind() != PduType::C2H_TERM_REQ {
        return Ok(pdu);
    }
    let request = TermReq::decode(&pdu.header)?;
    Err(HostError::Terminated {
        status: request.status(),
        information: request.fei.get(),
    })
}

/// A PDU that belongs to no command.
pub(crate) fn out_of_place(kind: PduType, problem: &'static str) -> HostError {
    HostError::Protocol {
        kind,
        cid: 0,
        problem,
    }
}
