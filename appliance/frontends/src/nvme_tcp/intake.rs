//! The receive side of a connection: PDU headers, and data into its place.
//!
//! Source: NVMe/TCP 1.0 sections 3.2 (termination), 3.5 (digests), 3.6.1 (headers).

use wire::tcp::digest::{self, Crc32c, DIGEST_BYTES};
use wire::tcp::{CommonHeader, Layout, Link, Pdu, PduError, Receiver};

use super::socket::Socket;
use crate::intake::ReceiveBuffer;
pub(super) use crate::intake::Sink;
use crate::nvmf::port::CloseReason;

/// Cost of a PDU beside its bytes, so that tiny PDUs count too.
const PDU_COST_BYTES: usize = 8 << 10;

/// The receive side of one connection.
pub(crate) struct Intake {
    buffer: ReceiveBuffer,
    link: Link,
    /// Digests that did not match, for the counters.
    pub digest_errors: u64,
}

impl Intake {
    pub fn new() -> Self {
        Self {
            buffer: ReceiveBuffer::new(),
            link: Link::new(Receiver::Controller),
            digest_errors: 0,
        }
    }

    /// Continues where another core stopped reading.
    pub fn resume(link: Link, unread: &[u8]) -> Self {
        Self {
            buffer: ReceiveBuffer::resume(unread),
            link,
            digest_errors: 0,
        }
    }

    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.buffer.consume(len);
    }

    /// Waits for the next PDU's header, checks its common part and its digest, and says where its
    /// parts lie. The header is not consumed. The inner error is a protocol error that the peer
    /// must be told of; the connection cannot go on after it.
    pub async fn next_header(
        &mut self,
        socket: &Socket,
    ) -> Result<Result<Layout, PduError>, CloseReason> {
        self.buffer.breathe(PDU_COST_BYTES).await;
        self.buffer.fill(socket, CommonHeader::SIZE).await?;
        let header = match CommonHeader::decode(self.bytes()) {
            Ok(header) => *header,
            Err(_) => return Err(CloseReason::SocketError),
        };
        let layout = match self.link.frame(&header) {
            Ok(layout) => layout,
            Err(error) => return Ok(Err(error)),
        };
        self.buffer
            .fill(socket, layout.header + layout.header_digest)
            .await?;
        if layout.header_digest != 0
            && let Err(error) = self.check_header_digest(&layout)
        {
            self.digest_errors += 1;
            return Ok(Err(error));
        }
        Ok(Ok(layout))
    }

    fn check_header_digest(&self, layout: &Layout) -> Result<(), PduError> {
        let (header, rest) = self.bytes().split_at(layout.header);
        match rest.first_chunk::<DIGEST_BYTES>() {
            Some(received) => digest::check_header(header, *received),
            None => Err(PduError::HeaderDigest {
                received: 0,
                computed: 0,
            }),
        }
    }

    /// Consumes padding, data and data digest of a PDU whose header was consumed. False when the
    /// data digest does not match: the command failed, the connection goes on.
    pub async fn take_data(
        &mut self,
        socket: &Socket,
        layout: &Layout,
        mut sink: Sink<'_>,
    ) -> Result<bool, CloseReason> {
        self.buffer.skip(socket, layout.pad).await?;
        let mut crc = (layout.data_digest != 0).then(Crc32c::new);
        self.buffer
            .take(socket, layout.data, &mut sink, &mut crc)
            .await?;
        let Some(crc) = crc else { return Ok(true) };
        self.buffer.fill(socket, DIGEST_BYTES).await?;
        let received = self
            .bytes()
            .first_chunk::<DIGEST_BYTES>()
            .copied()
            .unwrap_or_default();
        self.consume(DIGEST_BYTES);
        let good = crc.value() == u32::from_le_bytes(received);
        self.digest_errors += u64::from(!good);
        Ok(good)
    }

    /// The header at the front as far as it is there: what a termination request carries back.
    pub fn front_header(&self) -> &[u8] {
        let bytes = self.bytes();
        let hlen = CommonHeader::decode(bytes).map_or(0, |header| usize::from(header.hlen));
        bytes.get(..hlen.max(CommonHeader::SIZE)).unwrap_or(bytes)
    }
}

/// Parses the header at the front, which `next_header` said is there.
pub(super) fn parse<'a>(intake: &'a Intake, layout: &Layout) -> Result<Pdu<'a>, wire::Error> {
    Pdu::parse(intake.bytes(), layout)
}
