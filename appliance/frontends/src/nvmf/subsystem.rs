//! A subsystem: one volume as hosts see it, namespace 1, and the controllers that use it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use reactor::Instant;
use reactor::sync::Notify;
use volume::{Volume, VolumeInfo};

use crate::nvmf::controller::{Controller, Host, LAST_CNTLID};
use crate::nvmf::port::CloseReason;
use crate::options::{HostAccess, volume_nqn};
use crate::reservation::Reservations;

/// Model number of every subsystem.
pub const MODEL: &str = "Bedplate Volume";

/// How often a new queue looks whether old commands of its host are settled.
const ORPHAN_PAUSE: Duration = Duration::from_millis(1);

/// Lives on the volume's home core.
pub struct Subsystem {
    /// Qualified name.
    pub nqn: String,
    /// Identity of the volume; stays readable after the namespace was removed.
    pub info: VolumeInfo,
    /// Who may connect.
    pub hosts: HostAccess,
    /// When it was added, for the log of power-on hours.
    pub since: reactor::Instant,
    /// Who may do what with the volume; shared with the hosts of other protocols.
    pub reservations: Rc<Reservations>,
    volume: RefCell<Option<Volume>>,
    controllers: RefCell<BTreeMap<u16, Rc<Controller>>>,
    last_cntlid: Cell<u16>,
    in_flight: Cell<u32>,
    orphaned: Cell<u32>,
    settled: Notify,
}

impl Subsystem {
    /// Offers `volume`.
    pub fn new(volume: Volume, reservations: Rc<Reservations>, hosts: HostAccess) -> Rc<Self> {
        let info = volume.info().clone();
        Rc::new(Self {
            nqn: volume_nqn(&info.name),
            info,
            hosts,
            since: reactor::now(),
            reservations,
            volume: RefCell::new(Some(volume)),
            controllers: RefCell::default(),
            last_cntlid: Cell::new(0),
            in_flight: Cell::new(0),
            orphaned: Cell::new(0),
            settled: Notify::new(),
        })
    }

    /// The namespace's volume; none once it was removed. Cost: a reference count.
    pub fn volume(&self) -> Option<Volume> {
        self.volume.borrow().clone()
    }

    /// True while the namespace is there.
    pub fn is_live(&self) -> bool {
        self.volume.borrow().is_some()
    }

    /// A controller identifier that was not used for as long as possible, so that a message meant
    /// for an old controller does not reach a new one. None when all 65,519 are in use.
    pub fn allocate_cntlid(&self) -> Option<u16> {
        let controllers = self.controllers.borrow();
        let mut id = self.last_cntlid.get();
        for _ in 0..LAST_CNTLID {
            id = if id >= LAST_CNTLID { 1 } else { id + 1 };
            if !controllers.contains_key(&id) {
                self.last_cntlid.set(id);
                return Some(id);
            }
        }
        None
    }

    /// Enters a controller.
    pub fn add_controller(&self, controller: Rc<Controller>) {
        self.controllers
            .borrow_mut()
            .insert(controller.cntlid, controller);
    }

    /// The controller with this identifier.
    pub fn controller(&self, cntlid: u16) -> Option<Rc<Controller>> {
        self.controllers.borrow().get(&cntlid).cloned()
    }

    /// Takes a controller out.
    pub fn forget_controller(&self, cntlid: u16) {
        self.controllers.borrow_mut().remove(&cntlid);
    }

    /// Identifiers of the controllers there are, rising.
    pub fn cntlids(&self) -> Vec<u16> {
        self.controllers.borrow().keys().copied().collect()
    }

    /// Identifiers of the controllers of the host with this identifier, rising.
    pub fn cntlids_of(&self, host_id: [u8; 16]) -> Vec<u16> {
        let controllers = self.controllers.borrow();
        let of_host = controllers.values().filter(|one| one.host.id == host_id);
        of_host.map(|one| one.cntlid).collect()
    }

    /// Number of controllers.
    pub fn controller_count(&self) -> usize {
        self.controllers.borrow().len()
    }

    /// Ends every connection to this subsystem.
    pub fn close_all(&self, reason: CloseReason) {
        let controllers: Vec<_> = self.controllers.borrow().values().cloned().collect();
        for controller in controllers {
            controller.close(reason);
        }
    }

    /// Takes the namespace away: new commands get Invalid Namespace, connected hosts hear of it,
    /// and this returns when the commands in the volume have finished.
    pub async fn remove_namespace(&self) {
        self.volume.borrow_mut().take();
        let controllers: Vec<_> = self.controllers.borrow().values().cloned().collect();
        for controller in controllers {
            controller.namespace_changed();
        }
        self.wait_idle().await;
    }

    /// Returns when no command is in the volume.
    pub async fn wait_idle(&self) {
        while self.in_flight.get() != 0 {
            self.settled.notified().await;
        }
    }

    /// Returns when what `host` sent on earlier connections cannot take effect any more, or has.
    ///
    /// A host that lost its connections sends its commands again. Without this wait an old write
    /// could take effect after a newer one that came by a new connection: one that was in the
    /// volume when its connection closed, or one that lies unread in the old socket because
    /// memory was short.
    pub async fn wait_orphans(&self, host: &Host, cntlid: u16) {
        let since = reactor::now();
        // What the kernel knows of closed sockets reaches their readers within these turns.
        reactor::next_turn().await;
        reactor::next_turn().await;
        while self.orphaned.get() != 0 || !self.are_drained(host, cntlid, since) {
            reactor::time::sleep(ORPHAN_PAUSE).await;
        }
    }

    fn are_drained(&self, host: &Host, cntlid: u16, since: Instant) -> bool {
        let controllers = self.controllers.borrow();
        let mut others = controllers.values().filter(|other| other.cntlid != cntlid);
        others.all(|other| other.host != *host || other.is_drained(since))
    }

    /// Commands in the volume now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// A command enters the volume.
    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// A command left the volume; `orphan` when its connection closed meanwhile.
    pub(crate) fn end(&self, orphan: bool) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if orphan {
            self.orphaned.set(self.orphaned.get().saturating_sub(1));
        }
        if self.in_flight.get() == 0 {
            self.settled.notify_all();
        }
    }

    /// A connection closed while `count` of its commands were in the volume.
    pub(crate) fn orphan(&self, count: u32) {
        self.orphaned.set(self.orphaned.get() + count);
    }
}

impl std::fmt::Debug for Subsystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subsystem")
            .field("nqn", &self.nqn)
            .field("live", &self.is_live())
            .field("controllers", &self.controllers.borrow().len())
            .finish_non_exhaustive()
    }
}
