//! One NVMe queue over one connection: many commands in flight.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::fabrics::connect::{ConnectCommand, ConnectData, ConnectResponse, cattr};
use wire::nvme::command::Fuse;
use wire::nvme::{Cqe, Sgl, Status};
use wire::tcp::{ADMIN_CAPSULE_DATA_BYTES, CapsuleCmd, H2cData, Pdu, PduType, R2t};
use zerocopy::little_endian::U16;

use crate::pending::Pending;
use crate::raw::out_of_place;
use crate::table::Table;
use crate::{Cid, Command, Completion, HostError, HostOptions, Raw, RawPdu};

/// A queue that Connect has made, admin or I/O.
#[derive(Debug)]
pub struct Queue {
    raw: Raw,
    flow_control: bool,
    in_capsule: bool,
    capsule_data_bytes: usize,
    table: Table<Pending>,
}

/// Which queue of which controller to connect.
#[derive(Clone, Copy, Debug)]
pub struct QueueId<'a> {
    /// Subsystem.
    pub subnqn: &'a str,
    /// Controller; for the admin queue what it asks for.
    pub cntlid: u16,
    /// Queue; 0 is the admin queue.
    pub qid: u16,
    /// Entries, 2 or more.
    pub entries: u32,
}

impl Queue {
    /// Opens a connection, shakes hands and sends Connect. Also gives the Connect response.
    pub(crate) fn connect(
        address: SocketAddr,
        id: QueueId<'_>,
        options: &HostOptions,
    ) -> Result<(Self, ConnectResponse), HostError> {
        let mut raw = Raw::open(address, options.timeout)?;
        raw.handshake(options)?;
        let mut queue = Self {
            raw,
            flow_control: options.sq_flow_control,
            in_capsule: true,
            capsule_data_bytes: ADMIN_CAPSULE_DATA_BYTES as usize,
            table: Table::new(id.entries),
        };
        let kato_ms = if id.qid == 0 { options.kato_ms } else { 0 };
        let mut connect = ConnectCommand::new(0, id.qid, id.entries, kato_ms)?;
        if !options.sq_flow_control {
            connect.cattr |= cattr::DISABLE_SQ_FLOW_CONTROL;
        }
        let data = ConnectData::new(options.hostid, id.cntlid, id.subnqn, &options.hostnqn)?;
        let command = Command::sending(connect.to_sqe(), data.as_wire().to_vec());
        let done = queue.call("Connect", command)?;
        queue.in_capsule = options.in_capsule;
        Ok((queue, ConnectResponse::decode(done.cqe.dw0())))
    }

    /// Sets how much data a capsule of this queue may carry.
    pub(crate) fn set_capsule_data_bytes(&mut self, bytes: usize) {
        self.capsule_data_bytes = bytes;
    }

    /// Commands without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    /// Most commands that can be in flight: one entry of the ring stays free.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// The connection below, for tests that break the rules.
    pub fn raw(&mut self) -> &mut Raw {
        &mut self.raw
    }

    /// Changes the limit of every later wait.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.raw.set_timeout(timeout);
    }

    /// Queues one command and gives its identifier; it is sent at the latest by the next wait.
    ///
    /// Errors: `QueueFull`, and whatever ends the connection.
    pub fn submit(&mut self, command: Command) -> Result<Cid, HostError> {
        let cid = self.table.free_cid(1)?;
        self.queue_command(cid, command)?;
        self.raw.flush()?;
        Ok(cid)
    }

    /// Queues a fused pair; the two completions are given as one, under the returned identifier:
    /// the first one that failed, else the second.
    pub fn submit_fused(&mut self, first: Command, second: Command) -> Result<Cid, HostError> {
        let one = self.table.free_cid(2)?;
        let (mut first, mut second) = (first, second);
        first.sqe.set_fuse(Fuse::FIRST);
        second.sqe.set_fuse(Fuse::SECOND);
        self.queue_command(one, first)?;
        let two = self.table.free_cid(1)?;
        self.queue_command(two, second)?;
        self.table.fuse(one, two);
        self.raw.flush()?;
        Ok(two)
    }

    /// Waits for the next completion, in the controller's order.
    pub fn next_completion(&mut self) -> Result<Completion, HostError> {
        let timeout = self.raw.timeout();
        self.poll_completion(timeout)?
            .ok_or_else(|| self.timed_out(timeout))
    }

    fn timed_out(&self, after: Duration) -> HostError {
        HostError::Timeout {
            doing: "waiting for a completion",
            after_ms: after.as_millis() as u64,
            in_flight: self.table.cids(),
        }
    }

    /// Waits at most `limit` for the next completion.
    pub fn poll_completion(&mut self, limit: Duration) -> Result<Option<Completion>, HostError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = self.table.next_done() {
                return Ok(Some(done));
            }
            match self.raw.read_pdu_until(deadline)? {
                Some(pdu) => self.handle(pdu)?,
                None => return Ok(None),
            }
        }
    }

    /// Submits one command and waits for it; others that complete meanwhile are kept.
    ///
    /// Errors: `Command` when its status is not success.
    pub fn call(&mut self, what: &'static str, command: Command) -> Result<Completion, HostError> {
        let cid = self.submit(command)?;
        self.wait_for(cid)?.ok(what)
    }

    /// Waits for the command `cid`; others that complete meanwhile are kept.
    pub fn wait_for(&mut self, cid: Cid) -> Result<Completion, HostError> {
        loop {
            if let Some(done) = self.table.take_done(cid) {
                return Ok(done);
            }
            let timeout = self.raw.timeout();
            match self.raw.read_pdu_until(Instant::now() + timeout)? {
                Some(pdu) => self.handle(pdu)?,
                None => return Err(self.timed_out(timeout)),
            }
        }
    }

    fn queue_command(&mut self, cid: Cid, command: Command) -> Result<(), HostError> {
        let Command {
            mut sqe,
            send,
            receive_bytes,
        } = command;
        sqe.cid = U16::new(cid);
        let inside = self.in_capsule && !send.is_empty() && send.len() <= self.capsule_data_bytes;
        let len_bytes = send.len().max(receive_bytes) as u32;
        if inside {
            sqe.dptr = Sgl::InCapsule {
                offset: 0,
                len_bytes,
            }
            .encode();
        } else if len_bytes > 0 {
            sqe.dptr = Sgl::Transport { len_bytes }.encode();
        }
        let data = if inside { send.as_slice() } else { &[] };
        let framing = self.raw.outgoing();
        let (capsule, layout) =
            CapsuleCmd::new(sqe, data.len(), &framing).map_err(wire::Error::from)?;
        self.raw.queue_pdu(capsule.as_wire(), &layout, data);
        let send = if inside { Vec::new() } else { send };
        self.table.insert(cid, Pending::new(send, receive_bytes));
        Ok(())
    }

    fn handle(&mut self, pdu: RawPdu) -> Result<(), HostError> {
        match pdu.parse()? {
            Pdu::CapsuleResp(response) => self.table.complete(response.cqe),
            Pdu::R2t(r2t) => self.transfer(r2t),
            Pdu::C2hData(data) => {
                let cid = data.cccid.get();
                let pending = self.table.find(PduType::C2H_DATA, cid)?;
                pending.take(data, &pdu.data)?;
                if !data.is_success() {
                    return Ok(());
                }
                if self.flow_control {
                    let problem = "SUCCESS although the queue uses flow control";
                    return Err(HostError::Protocol {
                        kind: PduType::C2H_DATA,
                        cid,
                        problem,
                    });
                }
                self.table.complete(Cqe::new(cid, 0, Status::SUCCESS, 0))
            }
            _ => Err(out_of_place(pdu.kind(), "not allowed after the handshake")),
        }
    }

    /// Answers an R2T with H2CData PDUs of at most MAXH2CDATA bytes.
    fn transfer(&mut self, r2t: &R2t) -> Result<(), HostError> {
        let cid = r2t.cccid.get();
        let (limit, framing) = (self.raw.max_h2c_bytes(), self.raw.outgoing());
        let pending = self.table.find(PduType::R2T, cid)?;
        let range = pending.grant(r2t)?;
        let mut offset = range.start;
        for data in pending.send[range.clone()].chunks(limit) {
            let span = (offset as u32, data.len() as u32);
            offset += data.len();
            let last = offset == range.end;
            let (pdu, layout) = H2cData::new(cid, r2t.ttag.get(), span, last, &framing)
                .map_err(wire::Error::from)?;
            self.raw.queue_pdu(pdu.as_wire(), &layout, data);
        }
        self.raw.flush()
    }
}
