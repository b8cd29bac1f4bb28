//! The receive side of a connection: headers of PDUs, and data into its place.
//!
//! Source: RFC 7143 sections 11.1 (template), 11.2.3 (digests), 7.7 and 7.8 (errors).

use wire::iscsi::digest::{self, Crc32c, DIGEST_BYTES};
use wire::iscsi::{BHS_BYTES, Bhs, Layout, Link, PduError, Receiver};

use super::reason::{CloseReason, Socket};
use crate::intake::ReceiveBuffer;
pub(super) use crate::intake::Sink;

/// Cost of a PDU beside its bytes, so that tiny PDUs count too.
const PDU_COST_BYTES: usize = 4 << 10;

/// The receive side of one connection.
pub(crate) struct Intake {
    buffer: ReceiveBuffer,
    link: Link,
    /// Digests that did not match, for the counters.
    pub digest_errors: u64,
}

/// A header that came. Its data, if it has any, is still to be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// The basic header segment; additional ones are left out.
    pub bhs: Bhs,
    /// Where its parts lay.
    pub layout: Layout,
}

/// The next PDU, or what is wrong with it.
pub(super) type Next = Result<Incoming, (Bhs, PduError)>;

impl Intake {
    pub fn new() -> Self {
        Self {
            buffer: ReceiveBuffer::new(),
            link: Link::new(Receiver::Target),
            digest_errors: 0,
        }
    }

    /// Continues where another core stopped reading, during a login.
    pub fn resume(unread: &[u8]) -> Self {
        Self {
            buffer: ReceiveBuffer::resume(unread),
            ..Self::new()
        }
    }

    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Waits for the next header and consumes it. The inner error is the peer's: where it is not
    /// fatal the PDU was passed over.
    pub async fn next(&mut self, socket: &Socket) -> Result<Next, CloseReason> {
        self.buffer.breathe(PDU_COST_BYTES).await;
        self.buffer.fill(socket, BHS_BYTES).await?;
        let bhs = match Bhs::decode(self.bytes()) {
            Ok(bhs) => *bhs,
            Err(_) => return Err(CloseReason::SocketError),
        };
        let measured = match self.link.measure(&bhs) {
            Ok(measured) => measured,
            Err(error) => return Ok(Err((bhs, error))),
        };
        let header = measured.header();
        self.buffer
            .fill(socket, header + measured.header_digest)
            .await?;
        if measured.header_digest != 0 && !self.is_header_good(header) {
            self.digest_errors += 1;
            return Err(CloseReason::HeaderDigest);
        }
        self.buffer.consume(header + measured.header_digest);
        match self.link.frame(&bhs) {
            Ok(layout) => Ok(Ok(Incoming { bhs, layout })),
            Err(error) => {
                if !error.is_fatal() {
                    self.take_data(socket, &measured, Sink::Discard).await?;
                }
                Ok(Err((bhs, error)))
            }
        }
    }

    fn is_header_good(&self, header: usize) -> bool {
        let (header, rest) = self.bytes().split_at(header);
        rest.first_chunk::<DIGEST_BYTES>()
            .is_some_and(|received| digest::check_header(header, *received).is_ok())
    }

    /// Consumes data, padding and data digest. False when the digest does not match.
    pub async fn take_data(
        &mut self,
        socket: &Socket,
        layout: &Layout,
        mut sink: Sink<'_>,
    ) -> Result<bool, CloseReason> {
        if layout.data == 0 {
            return Ok(true);
        }
        let mut crc = (layout.data_digest != 0).then(Crc32c::new);
        let buffer = &mut self.buffer;
        buffer
            .take(socket, layout.data, &mut sink, &mut crc)
            .await?;
        let Some(mut crc) = crc else {
            buffer.skip(socket, layout.padding).await?;
            return Ok(true);
        };
        buffer.fill(socket, layout.padding + DIGEST_BYTES).await?;
        let (padding, rest) = buffer.bytes().split_at(layout.padding);
        crc.update(padding);
        let received = rest.first_chunk::<DIGEST_BYTES>().copied();
        let good =
            received.is_some_and(|received| digest::check_data(crc.value(), received).is_ok());
        buffer.consume(layout.padding + DIGEST_BYTES);
        self.digest_errors += u64::from(!good);
        Ok(good)
    }
}
