//! What all cores share: which subsystem lives on which core, and where hosts can connect.
//!
//! Read at Connect and for the discovery log, written when volumes or listeners come and go; never
//! touched by an I/O command. That is why a plain lock is right here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use reactor::{CoreId, CoreStats};

use crate::error::FrontendError;
use crate::nvme_rdma::Homes;
use crate::nvmf::handover::TargetMessage;
use crate::nvmf::transport::Transport;
use crate::options::HostAccess;
use crate::seats::{Seat, Seats};

/// Index of a core's target in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HomeIndex(usize);

impl HomeIndex {
    #[cfg(test)]
    pub fn of(index: usize) -> Self {
        Self(index)
    }
}

/// Shared by the targets of one appliance; cheap to clone.
#[derive(Clone, Default)]
pub struct Directory {
    state: Arc<Mutex<State>>,
    /// Connections of all cores, which together have one limit.
    seats: Seats,
    /// Where the controllers of hosts over RDMA live.
    homes: Homes,
}

#[derive(Default)]
struct State {
    generation: u64,
    subsystems: BTreeMap<String, Entry>,
    listeners: BTreeSet<(Transport, SocketAddr)>,
    homes: Vec<Option<CoreTarget>>,
    last_discovery_cntlid: u16,
}

/// The target of one core, as the others see it.
#[derive(Clone)]
pub(crate) struct CoreTarget {
    pub home: HomeIndex,
    pub core: CoreId,
    pub stats: Arc<CoreStats>,
    pub mailbox: reactor::mailbox::Sender<TargetMessage>,
}

struct Entry {
    hosts: HostAccess,
    home: HomeIndex,
}

/// What a host may know: one row of the discovery log before addresses are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    /// Changes whenever the rest may have changed.
    pub generation: u64,
    /// Qualified names of the subsystems this host may connect to, in order.
    pub subsystems: Vec<String>,
    /// Every listener, wildcard addresses as they were given.
    pub listeners: Vec<(Transport, SocketAddr)>,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes with every subsystem or listener that comes or goes.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Adds the target of the calling core; messages for it go to `mailbox`.
    pub(crate) fn join(&self, mailbox: reactor::mailbox::Sender<TargetMessage>) -> HomeIndex {
        let mut state = self.state();
        let home = HomeIndex(state.homes.len());
        state.homes.push(Some(CoreTarget {
            home,
            core: reactor::core_id(),
            stats: reactor::stats(),
            mailbox,
        }));
        home
    }

    /// Whether there are targets of several cores.
    pub(crate) fn is_shared(&self) -> bool {
        self.state().homes.iter().flatten().count() > 1
    }

    /// Where the controllers of hosts over RDMA live.
    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
    }

    /// The target of a core, while there is one.
    pub(crate) fn target(&self, home: HomeIndex) -> Option<CoreTarget> {
        self.state().homes.get(home.0)?.clone()
    }

    /// The targets there are, of all cores. Cost: takes the lock and allocates.
    pub(crate) fn targets(&self) -> Vec<CoreTarget> {
        self.state().homes.iter().flatten().cloned().collect()
    }

    /// Takes a core's target out with everything it serves.
    pub(crate) fn leave(&self, home: HomeIndex) {
        let mut state = self.state();
        if let Some(place) = state.homes.get_mut(home.0) {
            *place = None;
        }
        state.subsystems.retain(|_, entry| entry.home != home);
        state.changed();
    }

    pub(crate) fn add_subsystem(
        &self,
        nqn: &str,
        hosts: HostAccess,
        home: HomeIndex,
    ) -> Result<(), FrontendError> {
        let mut state = self.state();
        if state.subsystems.contains_key(nqn) {
            return Err(FrontendError::DuplicateSubsystem {
                nqn: nqn.to_owned(),
            });
        }
        state
            .subsystems
            .insert(nqn.to_owned(), Entry { hosts, home });
        state.changed();
        Ok(())
    }

    pub(crate) fn remove_subsystem(&self, nqn: &str) {
        let mut state = self.state();
        if state.subsystems.remove(nqn).is_some() {
            state.changed();
        }
    }

    pub(crate) fn add_listener(&self, transport: Transport, address: SocketAddr) {
        let mut state = self.state();
        if state.listeners.insert((transport, address)) {
            state.changed();
        }
    }

    pub(crate) fn remove_listener(&self, transport: Transport, address: SocketAddr) {
        let mut state = self.state();
        if state.listeners.remove(&(transport, address)) {
            state.changed();
        }
    }

    /// A place for one more connection; none when `limit` are taken.
    pub(crate) fn take_seat(&self, limit: usize) -> Option<Seat> {
        self.seats.take(limit)
    }

    /// Which core serves `nqn`, and the way to it.
    pub(crate) fn home_of(
        &self,
        nqn: &str,
    ) -> Option<(HomeIndex, reactor::mailbox::Sender<TargetMessage>)> {
        let state = self.state();
        let home = state.subsystems.get(nqn)?.home;
        let target = state.homes.get(home.0)?.as_ref()?;
        Some((home, target.mailbox.clone()))
    }

    /// What the host with this name may see.
    pub(crate) fn visible_to(&self, host_nqn: &str) -> Visible {
        let state = self.state();
        let seen = state
            .subsystems
            .iter()
            .filter(|(_, entry)| entry.hosts.allows(host_nqn));
        Visible {
            generation: state.generation,
            subsystems: seen.map(|(nqn, _)| nqn.clone()).collect(),
            listeners: state.listeners.iter().copied().collect(),
        }
    }

    /// A controller identifier for a discovery controller, not reused for 65,000 allocations.
    pub(crate) fn discovery_cntlid(&self) -> u16 {
        let mut state = self.state();
        state.last_discovery_cntlid = match state.last_discovery_cntlid {
            id if id < super::controller::LAST_CNTLID => id + 1,
            _ => 1,
        };
        state.last_discovery_cntlid
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held would have ended the process: the data stays good.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Counts the change and tells every core, so that waiting discovery hosts hear of it.
    fn changed(&mut self) {
        self.generation += 1;
        for home in self.homes.iter().flatten() {
            // A full mailbox already holds news that makes its reader look at the generation.
            let _ = home.mailbox.try_send(TargetMessage::DirectoryChanged);
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Directory")
            .field("generation", &state.generation)
            .field("subsystems", &state.subsystems.keys())
            .field("listeners", &state.listeners)
            .finish()
    }
}
