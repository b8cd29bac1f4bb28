//! Write path 1/9, the half that all transports share: a queue. Next: `nvmf::io` (2), the command
//! becomes a request.
//!
//! A connection is one queue of one controller over one [`Link`], which is what differs between
//! transports. The link reads commands and hands them to the queue; the queue checks them, gives
//! them memory, has their data fetched, starts and ends them, and says the answer back to the link.
//! Each command in the volume is a task of its own; all on one core. While the controller lives on
//! another core, commands go there instead (`nvmf::away`).
//!
//! The link is known when compiling: a command passes from one half to the other for the price of a
//! call.

mod abort;
mod arrive;
mod commands;
mod ending;
mod from_home;
mod fuse;
mod link;
mod memory;
mod running;
#[cfg(test)]
mod tests;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use reactor::sync::Notify;

pub(crate) use from_home::listen;
pub(crate) use fuse::Fused;
pub(crate) use link::{Fetch, Link};
pub(crate) use watch::watch;

use crate::metrics::{ConnectionInfo, CounterValues, Counters};
use crate::nvmf::abort::AbortSignal;
use crate::nvmf::moves::Destination;
use crate::nvmf::owner::Owner;
use crate::nvmf::port::{CloseReason, QueuePort};
use crate::nvmf::stand_in::WORK_BYTES;
use crate::nvmf::table::CommandTable;
use crate::nvmf::target::{Served, Target};
use crate::seats::Seat;

/// One queue of one controller over one connection.
pub(crate) struct Queue<L: Link> {
    id: u64,
    pub target: Target,
    pub link: L,
    seat: Seat,
    pub peer: SocketAddr,
    local: SocketAddr,
    pub owner: Owner,
    pub qid: u16,
    pub no_flow_control: bool,
    pub table: RefCell<CommandTable>,
    /// One for each slot; none where another core executes the commands.
    signals: Box<[Rc<AbortSignal>]>,
    queued: RefCell<VecDeque<u16>>,
    held_bytes: Cell<usize>,
    retrying: Cell<bool>,
    fused: Cell<Fused>,
    /// Commands in the volume, or on another core that has it.
    executing: Cell<u32>,
    orphans: Cell<bool>,
    idle: Notify,
    /// Nobody listens to the home core any more.
    is_hushed: Cell<bool>,
    hushed: Notify,
    pub counters: Counters,
    /// What it had counted and sent when it came to this core.
    before: (CounterValues, u64),
}

/// What a queue is beside its link and its controller: this moves from core to core.
pub(crate) struct Carried {
    pub seat: Seat,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub qid: u16,
    pub no_flow_control: bool,
    pub table: CommandTable,
    pub queued: VecDeque<u16>,
    pub held_bytes: usize,
    pub fused: Fused,
    pub counters: CounterValues,
    pub sent_bytes: u64,
}

/// Where a connection is, between which ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

impl Carried {
    /// That of a queue of `entries` that was just connected; its Connect moved the queue head to
    /// `sqhd`.
    pub fn fresh(seat: Seat, ends: Ends, qid: u16, entries: u16, sqhd: u16) -> Self {
        let mut table = CommandTable::new(entries);
        table.start_at(sqhd);
        Self {
            seat,
            peer: ends.peer,
            local: ends.local,
            qid,
            no_flow_control: false,
            table,
            queued: VecDeque::with_capacity(usize::from(entries)),
            held_bytes: 0,
            fused: Fused::None,
            counters: CounterValues::default(),
            sent_bytes: 0,
        }
    }
}

impl<L: Link> Queue<L> {
    /// Enters a connection of this core in its target.
    pub fn new(target: Target, link: L, owner: Owner, carried: Carried) -> Rc<Self> {
        let signals = match owner {
            Owner::Here(_) => (0..carried.table.entries())
                .map(|_| Rc::default())
                .collect(),
            Owner::Away(_) => Box::default(),
        };
        let queue = Rc::new(Self {
            id: target.next_connection_id(),
            link,
            seat: carried.seat,
            peer: carried.peer,
            local: carried.local,
            owner,
            qid: carried.qid,
            no_flow_control: carried.no_flow_control,
            table: RefCell::new(carried.table),
            signals,
            queued: RefCell::new(carried.queued),
            held_bytes: Cell::new(carried.held_bytes),
            retrying: Cell::new(false),
            fused: Cell::new(carried.fused),
            executing: Cell::new(0),
            orphans: Cell::new(false),
            idle: Notify::new(),
            is_hushed: Cell::new(false),
            hushed: Notify::new(),
            counters: Counters::from(carried.counters),
            before: (carried.counters, carried.sent_bytes),
            target,
        });
        let served: Rc<dyn Served> = Rc::clone(&queue) as Rc<dyn Served>;
        queue.target.enter(served);
        queue
    }

    /// Its link, and all that goes with it to another core.
    pub fn take_apart(self) -> (L, Carried) {
        let sent_bytes = self.sent_bytes();
        let carried = Carried {
            seat: self.seat,
            peer: self.peer,
            local: self.local,
            qid: self.qid,
            no_flow_control: self.no_flow_control,
            table: self.table.into_inner(),
            queued: self.queued.into_inner(),
            held_bytes: self.held_bytes.get(),
            fused: self.fused.get(),
            counters: self.counters.snapshot(),
            sent_bytes,
        };
        (self.link, carried)
    }

    /// The connection as its controller sees it.
    pub fn port(self: &Rc<Self>) -> Weak<dyn QueuePort> {
        let port: Rc<dyn QueuePort> = Rc::clone(self) as Rc<dyn QueuePort>;
        Rc::downgrade(&port)
    }

    fn sent_bytes(&self) -> u64 {
        self.before.1 + self.link.sent_bytes()
    }

    pub fn log(&self, what: &str) {
        tracing::info!(
            transport = L::TRANSPORT.label(), peer = %self.peer, host = %self.owner.host_nqn(),
            cntlid = self.owner.cntlid(), qid = self.qid, subsystem = self.owner.subsystem_nqn(),
            core = %self.target.core(), "{what}"
        );
    }

    /// True when everything that the host had sent was read, or nothing more will be.
    fn has_read_all(&self) -> bool {
        self.link.is_drained()
    }

    /// Times that a message home found no room.
    pub fn mailbox_waits(&self) -> u64 {
        self.owner.away().map_or(0, |away| away.waits())
    }
}

impl<L: Link> Served for Queue<L> {
    fn id(&self) -> u64 {
        self.id
    }

    fn info(&self) -> ConnectionInfo {
        let (header_digest, data_digest) = self.link.digests();
        ConnectionInfo {
            id: self.id,
            transport: L::TRANSPORT,
            peer: self.peer,
            local: self.local,
            host_nqn: self.owner.host_nqn().to_owned(),
            subsystem_nqn: self.owner.subsystem_nqn().map(str::to_owned),
            cntlid: self.owner.cntlid(),
            qid: self.qid,
            header_digest,
            data_digest,
            in_flight: self.table.borrow().in_flight(),
            sent_bytes: self.sent_bytes(),
            counters: self.counters.snapshot(),
            core: self.target.core(),
            home: self.owner.home(self.target.core()),
            mailbox_waits: self.mailbox_waits(),
        }
    }

    fn counted_here(&self) -> CounterValues {
        self.counters.snapshot() - self.before.0
    }

    fn close(&self, reason: CloseReason) {
        self.link.end(reason);
    }

    fn can_leave(&self) -> bool {
        L::CAN_MOVE && self.qid != 0 && matches!(self.owner, Owner::Here(_))
    }

    fn is_moving(&self) -> bool {
        self.link.is_moving()
    }

    fn work(&self) -> u64 {
        let counted = self.counters.snapshot();
        counted.commands + counted.payload_bytes / WORK_BYTES
    }

    fn ask_move(&self, to: Destination) -> bool {
        L::ask_move(self, to)
    }
}

impl<L: Link> std::fmt::Debug for Queue<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("transport", &L::TRANSPORT)
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("qid", &self.qid)
            .finish_non_exhaustive()
    }
}
