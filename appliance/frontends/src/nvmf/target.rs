//! The target of one core: its subsystems, its connections, and what the binary does with it.
//!
//! A connection is with the target of the core that serves it. While that is not the core of its
//! controller, the target there has a stand-in for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use rdma::Card;
use reactor::CoreId;
use reactor::net::BoundSocket;
use reactor::sync::Notify;
use volume::Volume;

use crate::closing::Closing;
use crate::complaints::{Complaint, Complaints};
use crate::error::FrontendError;
use crate::guests::{Guest, Guests};
use crate::listener::Listener;
use crate::metrics::{ConnectionInfo, CounterValues, MetricsSnapshot, Totals};
use crate::nvme_rdma::RdmaListener;
use crate::nvmf::balance::{self, Balance};
use crate::nvmf::controller::Controller;
use crate::nvmf::directory::HomeIndex;
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::moves::Destination;
use crate::nvmf::placement::Placement;
use crate::nvmf::port::{CloseReason, QueuePort};
use crate::nvmf::stand_in::StandIn;
use crate::nvmf::subsystem::Subsystem;
use crate::nvmf::transport::Transport;
use crate::options::{SubsystemOptions, TargetOptions, volume_nqn};
use crate::reservation::Reservations;
use crate::seats::Seat;

/// Messages from other cores that may wait; more connections are then refused.
const MAILBOX_CAPACITY: usize = 1024;

/// An NVMe-oF target on this core. Clones share it; `!Send`.
#[derive(Clone)]
pub struct Target(Rc<Inner>);

struct Inner {
    core: CoreId,
    options: TargetOptions,
    home: HomeIndex,
    subsystems: RefCell<BTreeMap<String, Rc<Subsystem>>>,
    /// Removed subsystems that hosts are still connected to.
    retired: RefCell<Vec<Rc<Subsystem>>>,
    discovery: RefCell<Vec<Weak<Controller>>>,
    connections: RefCell<BTreeMap<u64, Rc<dyn Served>>>,
    /// For connections to subsystems of this core that other cores serve.
    stand_ins: RefCell<BTreeMap<u64, Rc<StandIn>>>,
    listeners: RefCell<Vec<Weak<Listener>>>,
    /// What this core has of RDMA, and where it listens there.
    card: RefCell<Option<Card>>,
    rdma_listeners: RefCell<Vec<Rc<RdmaListener>>>,
    last_connection: Cell<u64>,
    /// Sockets that are being greeted.
    guests: Rc<Guests>,
    gone: Notify,
    closing: Closing,
    totals: Totals,
    complaints: Rc<Complaints>,
    balance: Balance,
}

/// A connection of this core as its target sees it, whatever carries it.
pub(crate) trait Served {
    /// Identifier on this core, for logs and lists.
    fn id(&self) -> u64;
    /// What there is to know about it.
    fn info(&self) -> ConnectionInfo;
    /// What it counted on this core.
    fn counted_here(&self) -> CounterValues;
    /// Asks for the end, see [`QueuePort::close`].
    fn close(&self, reason: CloseReason);
    /// Whether it may be served by another core than its controller's.
    fn can_leave(&self) -> bool;
    /// True while it is on its way to another core.
    fn is_moving(&self) -> bool;
    /// Work done on it, in the unit of [`crate::nvmf::stand_in::work_of`].
    fn work(&self) -> u64;
    /// Asks for a move. False when it cannot be, or not now.
    fn ask_move(&self, to: Destination) -> bool;
}

/// A target that may be gone.
pub(crate) struct WeakTarget(Weak<Inner>);

impl WeakTarget {
    pub fn upgrade(&self) -> Option<Target> {
        self.0.upgrade().map(Target)
    }
}

impl Target {
    /// A target on the calling core, without subsystems and listeners.
    ///
    /// Errors: an option outside its limits. With several cores make one target on each, all with
    /// clones of one [`crate::Directory`] in their options.
    pub fn new(options: TargetOptions) -> Result<Self, FrontendError> {
        options.check()?;
        let (sender, receiver) = reactor::mailbox::channel(MAILBOX_CAPACITY);
        let home = options.directory.join(sender);
        let target = Self(Rc::new(Inner {
            core: reactor::core_id(),
            options,
            home,
            subsystems: RefCell::default(),
            retired: RefCell::default(),
            discovery: RefCell::default(),
            connections: RefCell::default(),
            stand_ins: RefCell::default(),
            listeners: RefCell::default(),
            card: RefCell::default(),
            rdma_listeners: RefCell::default(),
            last_connection: Cell::new(0),
            guests: Rc::default(),
            gone: Notify::new(),
            closing: Closing::default(),
            totals: Totals::default(),
            complaints: Rc::default(),
            balance: Balance::default(),
        }));
        if target.options().placement == Placement::Spread {
            let weak = WeakTarget(Rc::downgrade(&target.0));
            drop(reactor::spawn(balance::watch(weak)));
        }
        drop(reactor::spawn(read_mailbox(
            Rc::downgrade(&target.0),
            receiver,
        )));
        Ok(target)
    }

    /// The options it was made with.
    pub fn options(&self) -> &TargetOptions {
        &self.0.options
    }

    /// Offers a volume of this core to hosts, under `nqn.2026-11.io.bedplate:NAME`. `reservations`
    /// are the volume's: whoever else serves it has the same ones.
    ///
    /// Errors: `DuplicateSubsystem` when a volume of this name is offered on any core.
    pub fn add_volume(
        &self,
        volume: Volume,
        reservations: Rc<Reservations>,
        options: SubsystemOptions,
    ) -> Result<(), FrontendError> {
        options.check()?;
        if self.0.closing.has_begun() {
            return Err(FrontendError::ShuttingDown);
        }
        let subsystem = Subsystem::new(volume, reservations, options.hosts.clone());
        let nqn = subsystem.nqn.clone();
        self.0
            .options
            .directory
            .add_subsystem(&nqn, options.hosts, self.0.home)?;
        self.retire_namesakes(&nqn);
        self.0.subsystems.borrow_mut().insert(nqn, subsystem);
        Ok(())
    }

    /// Stops offering a volume: connected hosts are told that the namespace is gone, commands in
    /// the volume finish, and then this returns. The hosts' controllers stay, without a
    /// namespace, until the hosts disconnect.
    ///
    /// Errors: `NoSuchSubsystem`. Cancel: the volume is no longer offered all the same.
    pub async fn remove_volume(&self, name: &str) -> Result<(), FrontendError> {
        let nqn = volume_nqn(name);
        let removed = self.0.subsystems.borrow_mut().remove(&nqn);
        let subsystem = removed.ok_or_else(|| FrontendError::NoSuchSubsystem {
            name: name.to_owned(),
        })?;
        self.0.options.directory.remove_subsystem(&nqn);
        self.0.retired.borrow_mut().push(Rc::clone(&subsystem));
        subsystem.remove_namespace().await;
        self.0
            .retired
            .borrow_mut()
            .retain(|old| old.controller_count() != 0);
        Ok(())
    }

    /// The reservations of an offered volume, such as for an operator who has to clear them.
    pub fn reservations(&self, name: &str) -> Option<Rc<Reservations>> {
        let subsystem = self.subsystem(&volume_nqn(name))?;
        Some(Rc::clone(&subsystem.reservations))
    }

    /// Binds `address`, then as [`Target::listen_on`].
    ///
    /// Errors: `Listen` with what the system said.
    pub async fn listen(&self, address: SocketAddr) -> Result<Rc<Listener>, FrontendError> {
        let bound =
            BoundSocket::bind(address).map_err(|error| FrontendError::Listen { address, error })?;
        self.listen_on(bound)
    }

    /// Starts to accept NVMe/TCP connections on a socket that was bound earlier. The returned
    /// listener tells its address (of use with port 0); it stays open when the handle is dropped.
    ///
    /// Errors: `Listen` with what the system said; `ShuttingDown`.
    pub fn listen_on(&self, bound: BoundSocket) -> Result<Rc<Listener>, FrontendError> {
        if self.0.closing.has_begun() {
            return Err(FrontendError::ShuttingDown);
        }
        let listener = Listener::open(self.clone(), bound)?;
        let directory = &self.0.options.directory;
        directory.add_listener(Transport::Tcp, listener.address());
        self.0.listeners.borrow_mut().push(Rc::downgrade(&listener));
        Ok(listener)
    }

    /// Gives the core a card, for NVMe/RDMA connections that it is to serve. Each core of an appliance
    /// that listens over RDMA needs one, whichever core it is that listens.
    pub fn use_card(&self, card: Card) {
        *self.0.card.borrow_mut() = Some(card);
    }

    /// The core's card, if it has one.
    pub(crate) fn card(&self) -> Option<Card> {
        self.0.card.borrow().clone()
    }

    /// Starts to accept NVMe/RDMA connections at `address`. The listener stays open when the handle is
    /// dropped.
    ///
    /// Errors: `NoCard` before [`Target::use_card`]; `ListenRdma` with what the card said;
    /// `ShuttingDown`.
    pub async fn listen_rdma(
        &self,
        address: SocketAddr,
    ) -> Result<Rc<RdmaListener>, FrontendError> {
        let card = self.card().ok_or(FrontendError::NoCard { address })?;
        let listener = card.listen(address).await;
        let listener = listener.map_err(|error| FrontendError::ListenRdma { address, error })?;
        if self.0.closing.has_begun() {
            return Err(FrontendError::ShuttingDown);
        }
        let listener = RdmaListener::open(self.clone(), listener);
        let directory = &self.0.options.directory;
        directory.add_listener(Transport::Rdma, listener.address());
        self.0
            .rdma_listeners
            .borrow_mut()
            .push(Rc::clone(&listener));
        Ok(listener)
    }

    /// Ends the target: no new connections, commands in the volumes finish, connections close.
    /// Returns when nothing of it is left on this core. Calling it again waits as well.
    pub async fn shutdown(&self) {
        self.0.closing.begin();
        for listener in self.0.listeners.borrow_mut().drain(..) {
            if let Some(listener) = listener.upgrade() {
                let directory = &self.0.options.directory;
                directory.remove_listener(Transport::Tcp, listener.address());
                listener.close();
            }
        }
        for listener in self.0.rdma_listeners.borrow_mut().drain(..) {
            let directory = &self.0.options.directory;
            directory.remove_listener(Transport::Rdma, listener.address());
            listener.close();
        }
        self.0.options.directory.leave(self.0.home);
        let connections: Vec<_> = self.0.connections.borrow().values().cloned().collect();
        for connection in connections {
            connection.close(CloseReason::Shutdown);
        }
        // Volumes close next, so those that other cores serve have to end first.
        self.each_stand_in(|stand_in| stand_in.close(CloseReason::Shutdown));
        while self.is_in_use() {
            self.0.gone.notified().await;
        }
        for subsystem in self.0.subsystems.borrow().values() {
            subsystem.close_all(CloseReason::Shutdown);
        }
        self.0.subsystems.borrow_mut().clear();
        self.0.retired.borrow_mut().clear();
        self.0.card.borrow_mut().take();
    }

    fn is_in_use(&self) -> bool {
        !self.0.connections.borrow().is_empty()
            || !self.0.stand_ins.borrow().is_empty()
            || self.0.guests.count() != 0
    }

    /// Counters of this core's target, as plain data that any thread may have.
    pub fn snapshot_metrics(&self) -> MetricsSnapshot {
        let connections = self.0.connections.borrow();
        self.0.totals.snapshot(
            connections
                .values()
                .map(|connection| (connection.info(), connection.counted_here())),
        )
    }

    /// The connections there are, by age.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.0
            .connections
            .borrow()
            .values()
            .map(|connection| connection.info())
            .collect()
    }

    /// Names of the subsystems that live on this core.
    pub fn subsystem_nqns(&self) -> Vec<String> {
        self.0.subsystems.borrow().keys().cloned().collect()
    }

    /// Connections to subsystems of this core that other cores serve, by identifier on this core.
    pub fn away(&self) -> Vec<(u64, CoreId)> {
        let stand_ins = self.0.stand_ins.borrow();
        let away = stand_ins.values();
        away.map(|stand_in| (stand_in.id(), stand_in.core()))
            .collect()
    }

    /// Asks connection `id` of this core to move to another core, under load, unseen by its host.
    /// [`Placement::Spread`] does so by itself.
    ///
    /// False when there is no such connection or core, or it cannot leave: an admin queue never does,
    /// and one is moved at a time. It may yet be given up, see [`MetricsSnapshot::moves_given_up`].
    pub fn send_away(&self, id: u64, core: CoreId) -> bool {
        let targets = self.0.options.directory.targets();
        let to = targets.into_iter().find(|other| other.core == core);
        to.is_some_and(|to| self.ask_move(id, Destination::Core(to)))
    }

    /// Asks a connection of [`Target::away`] to come back. False when there is none, or it was asked
    /// already.
    pub fn call_home(&self, id: u64) -> bool {
        let stand_in = self.0.stand_ins.borrow().get(&id).cloned();
        stand_in.is_some_and(|stand_in| stand_in.call_home())
    }

    pub(crate) fn ask_move(&self, id: u64, to: Destination) -> bool {
        let connection = self.0.connections.borrow().get(&id).cloned();
        connection.is_some_and(|connection| connection.ask_move(to))
    }

    pub(crate) fn each_connection(&self, mut look: impl FnMut(&dyn Served)) {
        let connections = self.0.connections.borrow();
        connections
            .values()
            .for_each(|connection| look(&**connection));
    }

    pub(crate) fn each_stand_in(&self, mut look: impl FnMut(&StandIn)) {
        let stand_ins = self.0.stand_ins.borrow();
        stand_ins.values().for_each(|stand_in| look(stand_in));
    }

    pub(crate) fn enter_stand_in(&self, stand_in: Rc<StandIn>) {
        let mut stand_ins = self.0.stand_ins.borrow_mut();
        stand_ins.insert(stand_in.id(), stand_in);
    }

    pub(crate) fn leave_stand_in(&self, id: u64) {
        self.0.stand_ins.borrow_mut().remove(&id);
        self.0.gone.notify_all();
    }

    pub(crate) fn balance(&self) -> &Balance {
        &self.0.balance
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.has_begun()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// For log lines that a host can cause as often as it likes.
    pub(crate) fn complaints(&self) -> &Rc<Complaints> {
        &self.0.complaints
    }

    /// The core it is on.
    pub fn core(&self) -> CoreId {
        self.0.core
    }

    pub(crate) fn home(&self) -> HomeIndex {
        self.0.home
    }

    pub(crate) fn subsystem(&self, nqn: &str) -> Option<Rc<Subsystem>> {
        self.0.subsystems.borrow().get(nqn).cloned()
    }

    /// Tells a discovery controller of changes from now on.
    pub(crate) fn watch_discovery(&self, controller: &Rc<Controller>) {
        let mut watched = self.0.discovery.borrow_mut();
        watched.retain(|old| old.strong_count() != 0);
        watched.push(Rc::downgrade(controller));
    }

    pub(crate) fn next_connection_id(&self) -> u64 {
        let id = self.0.last_connection.get() + 1;
        self.0.last_connection.set(id);
        id
    }

    /// A place for a socket that was just accepted; none when all cores together have too many.
    pub(crate) fn take_seat(&self) -> Option<Seat> {
        let options = &self.0.options;
        let seat = options.directory.take_seat(options.max_connections);
        if seat.is_none() {
            self.0.totals.refused(CloseReason::Limit);
            self.0.complaints.about(Complaint::Limit, || {
                tracing::warn!(
                    max_connections = options.max_connections,
                    "too many connections: a new one is closed"
                );
            });
        }
        seat
    }

    /// Counts a socket that is being greeted; none when there are too many.
    pub(crate) fn begin_greeting(&self) -> Option<Greeting> {
        let admitted = (!self.0.closing.has_begun())
            .then(|| self.0.guests.admit(self.0.options.max_unconnected))
            .flatten();
        let Some(guest) = admitted else {
            self.0.totals.refused(CloseReason::Limit);
            return None;
        };
        Some(Greeting {
            target: Rc::clone(&self.0),
            guest: Some(guest),
        })
    }

    /// Runs `future` unless the target shuts down first.
    pub(crate) async fn until_closing<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.closing.until(future).await
    }

    /// Enters a connection.
    pub(crate) fn enter(&self, connection: Rc<dyn Served>) {
        self.0
            .connections
            .borrow_mut()
            .insert(connection.id(), connection);
    }

    pub(crate) fn leave(&self, id: u64) {
        self.0.connections.borrow_mut().remove(&id);
        self.0.gone.notify_all();
    }

    /// Hosts that still hold an old volume of this name must see the new one as a new one.
    fn retire_namesakes(&self, nqn: &str) {
        let old: Vec<_> = {
            let mut retired = self.0.retired.borrow_mut();
            let (same, other) = retired.drain(..).partition(|old| old.nqn == nqn);
            *retired = other;
            same
        };
        for subsystem in old {
            subsystem.close_all(CloseReason::Replaced);
        }
    }

    fn directory_changed(&self) {
        let watched: Vec<_> = self
            .0
            .discovery
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for controller in watched {
            controller.discovery_changed();
        }
    }
}

/// A socket that is being greeted.
pub(crate) struct Greeting {
    target: Rc<Inner>,
    guest: Option<Guest>,
}

impl Greeting {
    /// Returns when newer sockets need the place.
    pub(crate) async fn crowded_out(&self) {
        if let Some(guest) = &self.guest {
            guest.crowded_out().await;
        }
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.guest.take();
        self.target.gone.notify_all();
    }
}

/// Reads what other cores send until the target is gone.
async fn read_mailbox(target: Weak<Inner>, mut mailbox: reactor::mailbox::Receiver<TargetMessage>) {
    while let Some(message) = mailbox.recv().await {
        let Some(inner) = target.upgrade() else {
            return;
        };
        let target = Target(inner);
        match message {
            TargetMessage::DirectoryChanged => target.directory_changed(),
            TargetMessage::Connection(traveller) => traveller.arrive(&target),
            TargetMessage::ConnectFor(connect) => connect.carry_out(&target),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("subsystems", &self.0.subsystems.borrow().keys())
            .field("connections", &self.0.connections.borrow().len())
            .finish_non_exhaustive()
    }
}
