//! The units of one core and, by the directory, of all: EXTENDED COPY finds the other end of a copy
//! here.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard};

use reactor::mailbox::{self, Sender};
use reactor::sync::Credits;
use volume::VolumeInfo;

use super::LogicalUnit;
use super::copy::{self, Ask, COPIES_MAX};
use crate::options::HostAccess;

/// What copies of other cores ask for and nobody has looked at yet. A copy at work asks for two
/// pieces at a time; a core that is asked for more than this is not reachable.
const ASKS_MAX: usize = 256;

/// The units of one core.
pub struct Units {
    members: RefCell<Vec<Member>>,
    directory: UnitDirectory,
    home: Home,
    /// One for each copy at work.
    pub(super) copies: Credits,
}

struct Member {
    unit: Weak<LogicalUnit>,
    hosts: HostAccess,
}

impl Units {
    /// None yet. Those that join can be used by copies of all cores whose units are in `directory`.
    #[must_use]
    pub fn new(directory: &UnitDirectory) -> Rc<Self> {
        let (core, asks) = mailbox::channel(ASKS_MAX);
        let units = Rc::new(Self {
            members: RefCell::default(),
            directory: directory.clone(),
            home: directory.enter(core),
            copies: Credits::new(COPIES_MAX),
        });
        drop(reactor::spawn(copy::serve(Rc::downgrade(&units), asks)));
        units
    }

    pub(super) fn add(&self, unit: &Rc<LogicalUnit>, hosts: HostAccess) {
        self.remove(unit);
        self.directory.add(unit.info(), hosts.clone(), self.home);
        let unit = Rc::downgrade(unit);
        let mut members = self.members.borrow_mut();
        members.retain(|member| member.unit.strong_count() > 0);
        members.push(Member { unit, hosts });
    }

    pub(super) fn remove(&self, unit: &LogicalUnit) {
        self.directory.remove(unit.info(), self.home);
        let mut members = self.members.borrow_mut();
        members.retain(|member| !std::ptr::eq(member.unit.as_ptr(), unit));
    }

    /// The first unit of this core for which `is_it` holds, and that `initiator` may log in to.
    pub(super) fn find(
        &self,
        initiator: &str,
        is_it: impl Fn(&VolumeInfo) -> bool,
    ) -> Option<Rc<LogicalUnit>> {
        let members = self.members.borrow();
        let mut open = members
            .iter()
            .filter(|member| member.hosts.allows(initiator))
            .filter_map(|member| member.unit.upgrade());
        open.find(|unit| is_it(unit.info()))
    }

    /// The unit of this core whose volume has this identifier.
    pub(super) fn with_nguid(&self, nguid: [u8; 16]) -> Option<Rc<LogicalUnit>> {
        let members = self.members.borrow();
        let mut units = members.iter().filter_map(|member| member.unit.upgrade());
        units.find(|unit| unit.info().nguid == nguid)
    }

    /// As `find` among the units of the other cores: what it is, and the way to it.
    pub(super) fn find_elsewhere(
        &self,
        initiator: &str,
        is_it: impl Fn(&VolumeInfo) -> bool,
    ) -> Option<(VolumeInfo, Sender<Ask>)> {
        let state = self.directory.state();
        let mut others = state.units.iter().filter(|entry| entry.home != self.home);
        let found = others.find(|entry| entry.hosts.allows(initiator) && is_it(&entry.info))?;
        let core = state.homes.get(found.home.0)?.clone()?;
        Some((found.info.clone(), core))
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.directory.leave(self.home);
    }
}

/// Which unit lives on which core. Cheap to clone; clones are the same. Written when units come and
/// go, read when a copy begins, and not touched by its pieces: that is why a plain lock is right.
#[derive(Clone, Default)]
pub struct UnitDirectory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    units: Vec<Entry>,
    homes: Vec<Option<Sender<Ask>>>,
}

struct Entry {
    info: VolumeInfo,
    hosts: HostAccess,
    home: Home,
}

/// Index of a core in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home(usize);

impl UnitDirectory {
    fn enter(&self, core: Sender<Ask>) -> Home {
        let mut state = self.state();
        state.homes.push(Some(core));
        Home(state.homes.len() - 1)
    }

    fn leave(&self, home: Home) {
        let mut state = self.state();
        state.units.retain(|entry| entry.home != home);
        if let Some(place) = state.homes.get_mut(home.0) {
            *place = None;
        }
    }

    fn add(&self, info: &VolumeInfo, hosts: HostAccess, home: Home) {
        let info = info.clone();
        self.state().units.push(Entry { info, hosts, home });
    }

    fn remove(&self, info: &VolumeInfo, home: Home) {
        let is_it = |entry: &Entry| entry.home == home && entry.info.nguid == info.nguid;
        self.state().units.retain(|entry| !is_it(entry));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held would have ended the process: the data stays good.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for UnitDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let names = state.units.iter().map(|entry| &entry.info.name);
        f.debug_list().entries(names).finish()
    }
}
