//! A logical unit: what all nexuses of a volume share.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use reactor::sync::Gate;
use volume::{Volume, VolumeInfo};

use super::alua::Groups;
use super::mode::Mode;
use super::{Attention, Nexus, NexusPort, PortNames, Units, sanitize};
use crate::options::HostAccess;
use crate::reservation::Reservations;

/// A volume as a SCSI logical unit. Lives on the volume's home core.
pub struct LogicalUnit {
    volume: Volume,
    reservations: Rc<Reservations>,
    nexuses: RefCell<Vec<Weak<Nexus>>>,
    units: RefCell<Weak<Units>>,
    /// What MODE SELECT set.
    pub(super) mode: Cell<Mode>,
    pub(super) groups: Groups,
    pub(super) sanitize: Cell<sanitize::State>,
    /// START STOP UNIT stopped it.
    pub(super) is_stopped: Cell<bool>,
    /// Commands under way.
    pub(super) gate: Gate,
}

impl LogicalUnit {
    /// A unit for `volume`, whose reservations are `reservations`.
    pub fn new(volume: Volume, reservations: Rc<Reservations>) -> Rc<Self> {
        Rc::new(Self {
            volume,
            reservations,
            nexuses: RefCell::default(),
            units: RefCell::default(),
            mode: Cell::default(),
            groups: Groups::new(),
            sanitize: Cell::default(),
            is_stopped: Cell::new(false),
            gate: Gate::new(),
        })
    }

    /// Tells the unit of one more port of its target; attaching through a port tells it, too.
    pub fn add_port(&self, target_port: u16) {
        self.groups.add(target_port);
        self.reservations.offer_target_ports([target_port]);
    }

    /// Makes the unit known to the others, for copies of the hosts that may log in to it.
    pub fn join(self: &Rc<Self>, units: &Rc<Units>, hosts: HostAccess) {
        units.add(self, hosts);
        *self.units.borrow_mut() = Rc::downgrade(units);
    }

    /// Begins a nexus: a session of `names.initiator_port` through `names.target_port`. Dropping
    /// it ends it.
    pub fn attach(self: &Rc<Self>, port: Weak<dyn NexusPort>, names: PortNames) -> Rc<Nexus> {
        self.add_port(names.target_port);
        let nexus = Nexus::new(self.clone(), port, names);
        let mut nexuses = self.nexuses.borrow_mut();
        nexuses.retain(|nexus| nexus.strong_count() > 0);
        nexuses.push(Rc::downgrade(&nexus));
        nexus
    }

    /// The volume goes away: all nexuses are closed. Returns when no command is in the volume.
    pub async fn remove(&self) {
        self.gate.close();
        if let Some(units) = self.units() {
            units.remove(self);
        }
        for nexus in self.nexuses() {
            nexus.close();
        }
        self.gate.close_and_wait().await;
    }

    /// The capacity of the volume changed: all nexuses hear of it.
    pub fn capacity_changed(&self) {
        self.attention(Attention::CapacityChanged, None);
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// What never changes about the volume.
    pub fn info(&self) -> &VolumeInfo {
        self.volume.info()
    }

    /// Its reservations.
    pub fn reservations(&self) -> &Rc<Reservations> {
        &self.reservations
    }

    /// Whether its medium can be used.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_stopped.get() && self.sanitize.get() == sanitize::State::Idle
    }

    pub(super) fn units(&self) -> Option<Rc<Units>> {
        self.units.borrow().upgrade()
    }

    /// What a reset does to the unit: it starts, removal is allowed, mode pages are as saved.
    pub(super) fn set_back(&self) {
        self.is_stopped.set(false);
        self.mode.set(Mode::default());
        self.reservations.reset();
        for nexus in self.nexuses() {
            nexus.prevents_removal.set(false);
            nexus.copies.forget();
        }
    }

    /// The nexuses there are now.
    pub(super) fn nexuses(&self) -> Vec<Rc<Nexus>> {
        self.nexuses
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Establishes a condition for all nexuses but `except`.
    pub(super) fn attention(&self, attention: Attention, except: Option<&Nexus>) {
        for nexus in self.nexuses() {
            if !except.is_some_and(|except| std::ptr::eq(except, &raw const *nexus)) {
                nexus.attentions.establish(attention);
            }
        }
    }
}
