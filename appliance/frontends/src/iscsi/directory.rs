//! What the iSCSI targets of all cores share: which volume lives on which core, and the portals.
//!
//! Read at logins and for SendTargets, written when volumes or portals come and go; never touched
//! by a command. That is why a plain lock is right here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use super::handover::CoreMessage;
use crate::error::FrontendError;
use crate::options::HostAccess;
use crate::scsi::UnitDirectory;
use crate::seats::{Seat, Seats};

/// Index of a core's target in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HomeIndex(usize);

/// The way to a core's target.
pub(crate) type Mailbox = reactor::mailbox::Sender<CoreMessage>;

/// Shared by the iSCSI targets of one appliance; cheap to clone.
#[derive(Clone, Default)]
pub struct Directory {
    state: Arc<Mutex<State>>,
    units: UnitDirectory,
    connections: Seats,
    sessions: Seats,
}

#[derive(Default)]
struct State {
    volumes: BTreeMap<String, Entry>,
    portals: BTreeSet<Portal>,
    homes: Vec<Option<Mailbox>>,
}

struct Entry {
    hosts: HostAccess,
    home: HomeIndex,
}

/// A listening address and the tag of its target portal group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portal {
    /// Target portal group tag, at once the relative target port identifier.
    pub tag: u16,
    /// The address, wildcards as they were given.
    pub address: SocketAddr,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The logical units of all cores.
    pub(crate) fn units(&self) -> &UnitDirectory {
        &self.units
    }

    /// Adds the target of the calling core.
    pub(crate) fn join(&self, mailbox: Mailbox) -> HomeIndex {
        let mut state = self.state();
        let home = HomeIndex(state.homes.len());
        state.homes.push(Some(mailbox));
        home
    }

    /// Takes a core's target out with everything it serves.
    pub(crate) fn leave(&self, home: HomeIndex) {
        let mut state = self.state();
        if let Some(place) = state.homes.get_mut(home.0) {
            *place = None;
        }
        state.volumes.retain(|_, entry| entry.home != home);
    }

    pub(crate) fn add_volume(
        &self,
        iqn: &str,
        hosts: HostAccess,
        home: HomeIndex,
    ) -> Result<(), FrontendError> {
        let mut state = self.state();
        if state.volumes.contains_key(iqn) {
            let iqn = iqn.to_owned();
            return Err(FrontendError::DuplicateTarget { iqn });
        }
        state.volumes.insert(iqn.to_owned(), Entry { hosts, home });
        Ok(())
    }

    pub(crate) fn remove_volume(&self, iqn: &str) {
        self.state().volumes.remove(iqn);
    }

    /// Every core hears of it: each of its units has this port.
    pub(crate) fn add_portal(&self, portal: Portal) {
        let mut state = self.state();
        if state.portals.insert(portal) {
            for mailbox in state.homes.iter().flatten() {
                // A full mailbox is read soon, and its reader looks at all portals.
                let _ = mailbox.try_send(CoreMessage::PortalsChanged);
            }
        }
    }

    pub(crate) fn remove_portal(&self, portal: Portal) {
        self.state().portals.remove(&portal);
    }

    /// All portals in the order of their tags.
    pub fn portals(&self) -> Vec<Portal> {
        self.state().portals.iter().copied().collect()
    }

    /// Which core serves `iqn`, and the way to it.
    pub(crate) fn home_of(&self, iqn: &str) -> Option<(HomeIndex, Mailbox)> {
        let state = self.state();
        let home = state.volumes.get(iqn)?.home;
        let mailbox = state.homes.get(home.0)?.as_ref()?;
        Some((home, mailbox.clone()))
    }

    /// Names of the targets that this initiator may log in to, in order.
    pub(crate) fn visible_to(&self, initiator: &str) -> Vec<String> {
        let state = self.state();
        let seen = state
            .volumes
            .iter()
            .filter(|(_, entry)| entry.hosts.allows(initiator));
        seen.map(|(iqn, _)| iqn.clone()).collect()
    }

    /// A place for one more connection; none when `limit` are taken.
    pub(crate) fn take_connection(&self, limit: usize) -> Option<Seat> {
        self.connections.take(limit)
    }

    /// A place for one more session; none when `limit` are taken.
    pub(crate) fn take_session(&self, limit: usize) -> Option<Seat> {
        self.sessions.take(limit)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held would have ended the process: the data stays good.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Directory")
            .field("volumes", &state.volumes.keys())
            .field("portals", &state.portals)
            .finish()
    }
}
