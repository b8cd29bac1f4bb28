//! A target as initiators see it: one volume as logical unit 0, and the sessions that use it.
//! Discovery sessions have a unit of their own that has no volume.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use reactor::sync::Notify;

use super::options::volume_iqn;
use super::reason::CloseReason;
use super::session::{Identity, Session};
use crate::options::HostAccess;
use crate::scsi::LogicalUnit;

/// How often a login looks whether what its initiator sent earlier was read.
const DRAIN_PAUSE: Duration = Duration::from_millis(1);

/// Lives on the volume's home core.
pub(super) struct Unit {
    /// Name of the target; empty for discovery.
    pub iqn: String,
    /// Who may log in.
    pub hosts: HostAccess,
    lun: Option<Rc<LogicalUnit>>,
    sessions: RefCell<BTreeMap<u16, Rc<Session>>>,
    last_tsih: Cell<u16>,
    /// Rings when a session is over.
    left: Notify,
    removed: Cell<bool>,
}

impl Unit {
    /// Offers a volume.
    pub fn new(lun: Rc<LogicalUnit>, hosts: HostAccess) -> Rc<Self> {
        let iqn = volume_iqn(&lun.info().name);
        Self::make(iqn, hosts, Some(lun))
    }

    /// For discovery sessions.
    pub fn discovery() -> Rc<Self> {
        Self::make(String::new(), HostAccess::Any, None)
    }

    fn make(iqn: String, hosts: HostAccess, lun: Option<Rc<LogicalUnit>>) -> Rc<Self> {
        Rc::new(Self {
            iqn,
            hosts,
            lun,
            sessions: RefCell::default(),
            last_tsih: Cell::new(0),
            left: Notify::new(),
            removed: Cell::new(false),
        })
    }

    pub fn is_discovery(&self) -> bool {
        self.lun.is_none()
    }

    /// Whether the volume was taken away.
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    pub fn set_removed(&self) {
        self.removed.set(true);
    }

    pub fn lun(&self) -> Option<&Rc<LogicalUnit>> {
        self.lun.as_ref()
    }

    /// A TSIH that was not used for as long as possible; none when all are in use.
    pub fn allocate_tsih(&self) -> Option<u16> {
        let sessions = self.sessions.borrow();
        let mut tsih = self.last_tsih.get();
        for _ in 0..u16::MAX {
            tsih = tsih.checked_add(1).unwrap_or(1);
            if !sessions.contains_key(&tsih) {
                self.last_tsih.set(tsih);
                return Some(tsih);
            }
        }
        None
    }

    pub fn enter(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.insert(session.tsih, Rc::clone(session));
    }

    pub fn leave(&self, tsih: u16) {
        let left = self.sessions.borrow_mut().remove(&tsih);
        if let Some(session) = left {
            session.target.session_left();
        }
        self.left.notify_all();
    }

    /// The session with this TSIH.
    pub fn session(&self, tsih: u16) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&tsih).cloned()
    }

    /// The session of this initiator port at this portal.
    pub fn session_of(&self, identity: &Identity) -> Option<Rc<Session>> {
        let sessions = self.sessions.borrow();
        let mut all = sessions.values();
        all.find(|session| session.identity == *identity).cloned()
    }

    pub fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().cloned().collect()
    }

    pub fn end_sessions(&self, reason: CloseReason) {
        for session in self.sessions() {
            session.end(reason);
        }
    }

    /// Returns when the session with this TSIH is over: nothing of it can take effect any more.
    pub async fn gone(&self, tsih: u16) {
        while self.sessions.borrow().contains_key(&tsih) {
            self.left.notified().await;
        }
    }

    /// Returns when there is no session.
    pub async fn idle(&self) {
        while !self.sessions.borrow().is_empty() {
            self.left.notified().await;
        }
    }

    /// Returns when what `initiator` sent on earlier connections was read.
    ///
    /// An initiator that lost a connection sends its commands again, maybe by a session of another
    /// name. Without this wait an old write that lies unread in the old socket could take effect
    /// after a newer one.
    pub async fn wait_drained(&self, initiator: &str) {
        // What the kernel knows of closed sockets reaches their readers within these turns.
        reactor::next_turn().await;
        reactor::next_turn().await;
        while !self.is_drained(initiator) {
            reactor::time::sleep(DRAIN_PAUSE).await;
        }
    }

    fn is_drained(&self, initiator: &str) -> bool {
        let sessions = self.sessions.borrow();
        let mut own = sessions
            .values()
            .filter(|session| session.identity.initiator == initiator);
        own.all(|session| session.is_drained())
    }
}
