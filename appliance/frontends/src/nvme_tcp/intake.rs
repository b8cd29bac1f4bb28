//! The receive side of a connection: a bounded buffer, PDU headers, and data into its place.
//!
//! Source: NVMe/TCP 1.0 sections 3.2 (termination), 3.5 (digests), 3.6.1 (headers).

use wire::tcp::digest::{self, Crc32c, DIGEST_BYTES};
use wire::tcp::{CommonHeader, Layout, Link, Pdu, PduError, Receiver};

use super::socket::Socket;
use crate::nvmf::port::CloseReason;

/// Receive buffer of a connection: many small commands in one call.
const BUFFER_BYTES: usize = 64 << 10;
/// Step inside a large payload: larger ones delay acknowledgements of the peer's data.
const STEP_BYTES: usize = 32 << 10;
/// Payload below this goes through the buffer, together with what follows it.
const DIRECT_BYTES: usize = 8 << 10;
/// Room for a receive below which the buffer is compacted first.
const MIN_RECV_BYTES: usize = 4 << 10;
/// Work done in one turn before other connections get theirs.
const TURN_BYTES: usize = 512 << 10;
/// Cost of a PDU beside its bytes, so that tiny PDUs count too.
const PDU_COST_BYTES: usize = 8 << 10;

/// Where the data of a PDU goes.
pub(super) enum Sink<'a> {
    /// Nowhere.
    Discard,
    /// Into memory; what does not fit is discarded.
    Memory {
        /// Bytes of the data that come before the wanted ones.
        skip: usize,
        /// The place.
        bytes: &'a mut [u8],
    },
}

/// The receive side of one connection.
pub(crate) struct Intake {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    link: Link,
    turn_left: usize,
    /// Digests that did not match, for the counters.
    pub digest_errors: u64,
}

impl Intake {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            link: Link::new(Receiver::Controller),
            turn_left: TURN_BYTES,
            digest_errors: 0,
        }
    }

    /// Continues where another core stopped reading.
    pub fn resume(link: Link, unread: &[u8]) -> Self {
        let mut intake = Self::new();
        let len = unread.len().min(BUFFER_BYTES);
        intake.buffer[..len].copy_from_slice(&unread[..len]);
        (intake.end, intake.link) = (len, link);
        intake
    }

    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Forgets the first `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.start = self.end.min(self.start + len);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for the next PDU's header, checks its common part and its digest, and says where its
    /// parts lie. The header is not consumed. The inner error is a protocol error that the peer
    /// must be told of; the connection cannot go on after it.
    pub async fn next_header(
        &mut self,
        socket: &Socket,
    ) -> Result<Result<Layout, PduError>, CloseReason> {
        self.breathe(PDU_COST_BYTES).await;
        self.fill(socket, CommonHeader::SIZE).await?;
        let header = match CommonHeader::decode(self.bytes()) {
            Ok(header) => *header,
            Err(_) => return Err(CloseReason::SocketError),
        };
        let layout = match self.link.frame(&header) {
            Ok(layout) => layout,
            Err(error) => return Ok(Err(error)),
        };
        self.fill(socket, layout.header + layout.header_digest)
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
        self.skip(socket, layout.pad).await?;
        let mut crc = (layout.data_digest != 0).then(Crc32c::new);
        let mut done = 0;
        while done < layout.data {
            done += self
                .take_piece(socket, &mut sink, done, layout.data, &mut crc)
                .await?;
        }
        let Some(crc) = crc else { return Ok(true) };
        self.fill(socket, DIGEST_BYTES).await?;
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

    /// Moves the next piece of data, at least one byte, and gives its length.
    async fn take_piece(
        &mut self,
        socket: &Socket,
        sink: &mut Sink<'_>,
        done: usize,
        total: usize,
        crc: &mut Option<Crc32c>,
    ) -> Result<usize, CloseReason> {
        let left = total - done;
        if self.bytes().is_empty() {
            if let Some(place) = sink.direct(done, left) {
                let step = place.len().min(STEP_BYTES);
                let len = socket.recv(&mut place[..step]).await?;
                if let Some(crc) = crc {
                    crc.update(&place[..len]);
                }
                self.breathe(len).await;
                return Ok(len);
            }
            self.fill(socket, 1).await?;
        }
        let len = left.min(self.end - self.start);
        let piece = &self.buffer[self.start..self.start + len];
        if let Some(crc) = crc {
            crc.update(piece);
        }
        sink.copy(done, piece);
        self.consume(len);
        self.breathe(len).await;
        Ok(len)
    }

    /// Throws away `len` bytes.
    async fn skip(&mut self, socket: &Socket, mut len: usize) -> Result<(), CloseReason> {
        while len > 0 {
            self.fill(socket, 1).await?;
            let part = len.min(self.end - self.start);
            self.consume(part);
            len -= part;
        }
        Ok(())
    }

    /// Receives until `need` bytes (at most a header) are in the buffer.
    async fn fill(&mut self, socket: &Socket, need: usize) -> Result<(), CloseReason> {
        while self.end - self.start < need {
            if BUFFER_BYTES - self.start < need || BUFFER_BYTES - self.end < MIN_RECV_BYTES {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let len = socket.recv(&mut self.buffer[self.end..]).await?;
            self.end += len;
        }
        Ok(())
    }

    /// Lets other tasks run when this connection has done its share of the turn.
    async fn breathe(&mut self, cost: usize) {
        match self.turn_left.checked_sub(cost) {
            Some(left) => self.turn_left = left,
            None => {
                self.turn_left = TURN_BYTES;
                reactor::next_turn().await;
            }
        }
    }

    /// The header at the front as far as it is there: what a termination request carries back.
    pub fn front_header(&self) -> &[u8] {
        let bytes = self.bytes();
        let hlen = CommonHeader::decode(bytes).map_or(0, |header| usize::from(header.hlen));
        bytes.get(..hlen.max(CommonHeader::SIZE)).unwrap_or(bytes)
    }
}

impl Sink<'_> {
    /// Memory for the rest of the data, when it is worth a call of its own.
    fn direct(&mut self, done: usize, left: usize) -> Option<&mut [u8]> {
        match self {
            Self::Memory { skip: 0, bytes } if left >= DIRECT_BYTES => {
                let end = bytes.len().min(done + left);
                let place = bytes.get_mut(done..end)?;
                (place.len() >= DIRECT_BYTES).then_some(place)
            }
            _ => None,
        }
    }

    /// Copies the piece that starts `done` bytes into the data.
    fn copy(&mut self, done: usize, piece: &[u8]) {
        let Self::Memory { skip, bytes } = self else {
            return;
        };
        let (from, to) = match done.checked_sub(*skip) {
            Some(to) => (0, to),
            None => (*skip - done, 0),
        };
        let Some(wanted) = piece.get(from..) else {
            return;
        };
        let Some(place) = bytes.get_mut(to..) else {
            return;
        };
        let len = wanted.len().min(place.len());
        place[..len].copy_from_slice(&wanted[..len]);
    }
}

/// Parses the header at the front, which `next_header` said is there.
pub(super) fn parse<'a>(intake: &'a Intake, layout: &Layout) -> Result<Pdu<'a>, wire::Error> {
    Pdu::parse(intake.bytes(), layout)
}
