//! The iSCSI target of one core: its volumes, its sessions, and what the binary does with it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use reactor::CoreId;
use reactor::net::{BoundSocket, TcpStream};
use reactor::sync::Notify;
use volume::Volume;
use wire::iscsi::AsyncEvent;

use super::connection::Connection;
use super::directory::{HomeIndex, Portal};
use super::handover::CoreMessage;
use super::metrics::{MetricsSnapshot, SessionInfo, Totals};
use super::options::{Options, volume_iqn};
use super::reason::CloseReason;
use super::unit::Unit;
use crate::closing::Closing;
use crate::complaints::{Complaint, Complaints};
use crate::error::FrontendError;
use crate::guests::{Guest, Guests};
use crate::listener::{Acceptor, Listener};
use crate::options::HostAccess;
use crate::reservation::Reservations;
use crate::scsi::{LogicalUnit, Units};
use crate::seats::Seat;

/// Messages from other cores that may wait; more connections are then refused.
const MAILBOX_CAPACITY: usize = 1024;

/// An iSCSI target on this core. Clones share it; `!Send`.
#[derive(Clone)]
pub struct Target(Rc<Inner>);

struct Inner {
    core: CoreId,
    options: Options,
    home: HomeIndex,
    units: RefCell<BTreeMap<String, Rc<Unit>>>,
    discovery: Rc<Unit>,
    /// So that EXTENDED COPY finds other volumes.
    logical_units: Rc<Units>,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    listeners: RefCell<Vec<(Portal, Weak<Listener>)>>,
    last_connection: Cell<u64>,
    guests: Rc<Guests>,
    gone: Notify,
    closing: Closing,
    totals: Totals,
    complaints: Rc<Complaints>,
}

impl Target {
    /// A target on the calling core, without volumes and listeners.
    ///
    /// Errors: an option outside its limits. With several cores make one target on each, all with
    /// clones of one [`super::Directory`] in their options.
    pub fn new(options: Options) -> Result<Self, FrontendError> {
        options.check()?;
        let (sender, receiver) = reactor::mailbox::channel(MAILBOX_CAPACITY);
        let home = options.directory.join(sender);
        let logical_units = Units::new(options.directory.units());
        let target = Self(Rc::new(Inner {
            core: reactor::core_id(),
            options,
            home,
            units: RefCell::default(),
            discovery: Unit::discovery(),
            logical_units,
            connections: RefCell::default(),
            listeners: RefCell::default(),
            last_connection: Cell::new(0),
            guests: Rc::default(),
            gone: Notify::new(),
            closing: Closing::default(),
            totals: Totals::default(),
            complaints: Rc::default(),
        }));
        drop(reactor::spawn(read_mailbox(
            Rc::downgrade(&target.0),
            receiver,
        )));
        Ok(target)
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Offers a volume of this core as LUN 0 of the target `iqn.2026-11.io.bedplate:NAME`.
    ///
    /// Errors: `DuplicateTarget` when a volume of this name is offered on any core; `ShuttingDown`.
    pub fn add_volume(
        &self,
        volume: Volume,
        reservations: Rc<Reservations>,
        hosts: HostAccess,
    ) -> Result<(), FrontendError> {
        if self.0.closing.has_begun() {
            return Err(FrontendError::ShuttingDown);
        }
        let hosts = lower_case(hosts);
        let lun = LogicalUnit::new(volume, reservations);
        let unit = Unit::new(Rc::clone(&lun), hosts.clone());
        let directory = &self.0.options.directory;
        directory.add_volume(&unit.iqn, hosts.clone(), self.0.home)?;
        lun.join(&self.0.logical_units, hosts);
        for portal in directory.portals() {
            lun.add_port(portal.tag);
        }
        self.0.units.borrow_mut().insert(unit.iqn.clone(), unit);
        Ok(())
    }

    /// Stops offering a volume: its sessions end, commands in the volume finish, and then this
    /// returns.
    ///
    /// Errors: `NoSuchSubsystem`. Cancel: the volume is no longer offered all the same.
    pub async fn remove_volume(&self, name: &str) -> Result<(), FrontendError> {
        let iqn = volume_iqn(name);
        let removed = self.0.units.borrow_mut().remove(&iqn);
        let unit = removed.ok_or_else(|| FrontendError::NoSuchSubsystem {
            name: name.to_owned(),
        })?;
        self.0.options.directory.remove_volume(&iqn);
        unit.set_removed();
        if let Some(lun) = unit.lun() {
            lun.remove().await;
        }
        unit.end_sessions(CloseReason::Removed);
        unit.idle().await;
        Ok(())
    }

    /// Starts to accept connections on a socket that was bound earlier. `portal` is the target
    /// portal group tag of its sessions, and the relative target port identifier: the same on all
    /// cores, from 1 on. The listener stays open when the handle is dropped.
    ///
    /// Errors: `Listen` with what the system said; `ShuttingDown`.
    pub fn listen_on(
        &self,
        bound: BoundSocket,
        portal: u16,
    ) -> Result<Rc<Listener>, FrontendError> {
        if self.0.closing.has_begun() {
            return Err(FrontendError::ShuttingDown);
        }
        let acceptor = PortalAcceptor {
            target: self.clone(),
            portal,
        };
        let listener = Listener::open(acceptor, bound)?;
        let portal = Portal {
            tag: portal,
            address: listener.address(),
        };
        self.0.options.directory.add_portal(portal);
        self.note_portals();
        let entry = (portal, Rc::downgrade(&listener));
        self.0.listeners.borrow_mut().push(entry);
        Ok(listener)
    }

    /// Ends the target: no new connections, initiators are asked to log out and get some time for
    /// it, commands in the volumes finish, connections close. Returns when nothing of it is left
    /// on this core. Calling it again waits as well.
    pub async fn shutdown(&self) {
        self.0.closing.begin();
        for (portal, listener) in self.0.listeners.borrow_mut().drain(..) {
            self.0.options.directory.remove_portal(portal);
            if let Some(listener) = listener.upgrade() {
                listener.close();
            }
        }
        self.0.options.directory.leave(self.0.home);
        self.ask_for_logout().await;
        for connection in self.connections() {
            connection.close(CloseReason::Shutdown);
        }
        while self.is_in_use() {
            self.0.gone.notified().await;
        }
        // Pieces of copies that other cores make end, too.
        let units = std::mem::take(&mut *self.0.units.borrow_mut());
        for lun in units.values().filter_map(|unit| unit.lun()) {
            lun.remove().await;
        }
    }

    /// Gives initiators that understand it the time to leave by themselves.
    async fn ask_for_logout(&self) {
        let linger = self.0.options.linger;
        let seconds = u16::try_from(linger.as_secs()).unwrap_or(u16::MAX);
        for connection in self.connections() {
            connection.tell(AsyncEvent::LOGOUT, [0, 0, seconds]);
        }
        let gone = async {
            while !self.0.connections.borrow().is_empty() {
                self.0.gone.notified().await;
            }
        };
        let _ = reactor::time::timeout(linger, gone).await;
    }

    fn is_in_use(&self) -> bool {
        !self.0.connections.borrow().is_empty() || self.0.guests.count() != 0
    }

    /// The sessions there are.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let units = self.0.units.borrow();
        let units = units.values().chain([&self.0.discovery]);
        units
            .flat_map(|unit| unit.sessions())
            .map(|session| session.info())
            .collect()
    }

    /// Counters of this core's target, as plain data that any thread may have.
    pub fn metrics(&self) -> MetricsSnapshot {
        let connections = self.0.connections.borrow();
        let living = connections.values().map(|one| one.counters.snapshot());
        self.0.totals.snapshot(self.sessions(), living)
    }

    /// Names of the targets that live on this core.
    pub fn target_names(&self) -> Vec<String> {
        self.0.units.borrow().keys().cloned().collect()
    }

    /// The core it is on.
    pub fn core(&self) -> CoreId {
        self.0.core
    }

    pub(super) fn home(&self) -> HomeIndex {
        self.0.home
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.has_begun()
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// For log lines that an initiator can cause as often as it likes.
    pub(super) fn complaints(&self) -> &Rc<Complaints> {
        &self.0.complaints
    }

    pub(super) fn unit(&self, iqn: &str) -> Option<Rc<Unit>> {
        self.0.units.borrow().get(iqn).cloned()
    }

    pub(super) fn discovery(&self) -> &Rc<Unit> {
        &self.0.discovery
    }

    pub(super) fn next_connection_id(&self) -> u64 {
        let id = self.0.last_connection.get() + 1;
        self.0.last_connection.set(id);
        id
    }

    fn connections(&self) -> Vec<Rc<Connection>> {
        self.0.connections.borrow().values().cloned().collect()
    }

    pub(super) fn enter(&self, connection: Rc<Connection>) {
        let mut connections = self.0.connections.borrow_mut();
        connections.insert(connection.id, connection);
    }

    pub(super) fn leave(&self, id: u64) {
        self.0.connections.borrow_mut().remove(&id);
        self.0.gone.notify_all();
    }

    pub(super) fn session_left(&self) {
        self.0.gone.notify_all();
    }

    /// A place for a socket that was just accepted; none when all cores together have too many.
    pub(super) fn take_seat(&self) -> Option<Seat> {
        let options = &self.0.options;
        let seat = options.directory.take_connection(options.max_connections);
        if seat.is_none() {
            self.0.totals.refused(CloseReason::Limit);
            self.0.complaints.about(Complaint::Limit, || {
                tracing::warn!(
                    max_connections = options.max_connections,
                    "too many iSCSI connections: a new one is closed"
                );
            });
        }
        seat
    }

    /// Counts a login; none when there are too many.
    pub(super) fn begin_login(&self) -> Option<Login> {
        let admitted = (!self.0.closing.has_begun())
            .then(|| self.0.guests.admit(self.0.options.max_unconnected))
            .flatten();
        let Some(guest) = admitted else {
            self.0.totals.refused(CloseReason::Limit);
            return None;
        };
        Some(Login {
            target: Rc::clone(&self.0),
            guest: Some(guest),
        })
    }

    /// Runs `future` unless the target shuts down first.
    pub(super) async fn until_closing<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.closing.until(future).await
    }

    fn note_portals(&self) {
        let portals = self.0.options.directory.portals();
        let units = self.0.units.borrow();
        for lun in units.values().filter_map(|unit| unit.lun()) {
            for portal in &portals {
                lun.add_port(portal.tag);
            }
        }
    }
}

/// Names of initiators are compared in lower case.
fn lower_case(hosts: HostAccess) -> HostAccess {
    match hosts {
        HostAccess::Any => HostAccess::Any,
        HostAccess::Listed(names) => {
            HostAccess::Listed(names.iter().map(|name| name.to_lowercase()).collect())
        }
    }
}

/// Accepts the sockets of one portal.
struct PortalAcceptor {
    target: Target,
    portal: u16,
}

impl Acceptor for PortalAcceptor {
    fn accept(&self, stream: TcpStream, peer: SocketAddr) {
        Connection::accept(&self.target, self.portal, stream, peer);
    }

    fn complaints(&self) -> &Rc<Complaints> {
        self.target.complaints()
    }
}

/// A login in progress.
pub(super) struct Login {
    target: Rc<Inner>,
    guest: Option<Guest>,
}

impl Login {
    /// Returns when newer logins need the place.
    pub async fn crowded_out(&self) {
        if let Some(guest) = &self.guest {
            guest.crowded_out().await;
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.guest.take();
        self.target.gone.notify_all();
    }
}

/// Reads what other cores send until the target is gone.
async fn read_mailbox(target: Weak<Inner>, mut mailbox: reactor::mailbox::Receiver<CoreMessage>) {
    while let Some(message) = mailbox.recv().await {
        let Some(inner) = target.upgrade() else {
            return;
        };
        let target = Target(inner);
        match message {
            CoreMessage::PortalsChanged => target.note_portals(),
            CoreMessage::Login(handover) => Connection::resume(&target, *handover),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("units", &self.0.units.borrow().keys())
            .field("connections", &self.0.connections.borrow().len())
            .finish_non_exhaustive()
    }
}
