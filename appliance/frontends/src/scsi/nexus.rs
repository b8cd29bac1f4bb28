//! A nexus: one session of a host with a unit.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use wire::scsi::Sense;
use wire::scsi::sense::{DESCRIPTOR_BYTES_MAX, FIXED_BYTES};

use super::attention::{Attention, Attentions};
use super::copy::CopyRecords;
use super::{AbortCause, LogicalUnit, NexusPort, PortNames};
use crate::reservation::{Identity, Listener, Notice, Participant};

/// One session of a host with a unit.
pub struct Nexus {
    unit: Rc<LogicalUnit>,
    port: Weak<dyn NexusPort>,
    names: PortNames,
    participant: Rc<Participant>,
    pub(super) attentions: Attentions,
    /// Commands that are being executed.
    in_flight: Cell<usize>,
    /// Pieces of copies that other units write here in the name of its host.
    copied_in: Cell<usize>,
    pub(super) copies: CopyRecords,
    /// PREVENT ALLOW MEDIUM REMOVAL.
    pub(super) prevents_removal: Cell<bool>,
}

impl Nexus {
    pub(super) fn new(
        unit: Rc<LogicalUnit>,
        port: Weak<dyn NexusPort>,
        names: PortNames,
    ) -> Rc<Self> {
        Rc::new_cyclic(|nexus: &Weak<Self>| {
            let identity = Identity::Scsi {
                initiator_port: names.initiator_port.clone(),
                target_port: names.target_port,
            };
            let participant = unit.reservations().attach(identity, nexus.clone());
            let attentions = Attentions::default();
            attentions.establish(Attention::PowerOn);
            Self {
                unit,
                port,
                names,
                participant,
                attentions,
                in_flight: Cell::new(0),
                copied_in: Cell::new(0),
                copies: CopyRecords::default(),
                prevents_removal: Cell::new(false),
            }
        })
    }

    /// The unit.
    pub fn unit(&self) -> &Rc<LogicalUnit> {
        &self.unit
    }

    /// How it takes part in reservations.
    pub fn participant(&self) -> &Rc<Participant> {
        &self.participant
    }

    /// What its ends are called.
    pub fn names(&self) -> &PortNames {
        &self.names
    }

    /// TAS of the control mode page: tasks that another nexus ended get status TASK ABORTED.
    pub fn reports_aborted_tasks(&self) -> bool {
        self.unit.mode.get().reports_aborted
    }

    /// Sense data as bytes, in the format that the control mode page asks for. Returns the length.
    pub fn sense_bytes(&self, sense: &Sense, out: &mut [u8; SENSE_BYTES_MAX]) -> usize {
        if self.unit.mode.get().descriptor_sense {
            return sense.descriptors(out);
        }
        out[..FIXED_BYTES].copy_from_slice(&sense.fixed());
        FIXED_BYTES
    }

    /// A command is executed until the guard is dropped.
    pub(super) fn executing(&self) -> Executing<'_> {
        self.in_flight.set(self.in_flight.get() + 1);
        Executing(self)
    }

    /// A copy that its host asked another unit for writes here until the guard is dropped.
    pub(super) fn copying_in(self: &Rc<Self>) -> CopyingIn {
        self.copied_in.set(self.copied_in.get() + 1);
        CopyingIn(self.clone())
    }

    pub(super) fn close(&self) {
        if let Some(port) = self.port.upgrade() {
            port.close();
        }
    }

    pub(super) fn port(&self) -> Option<Rc<dyn NexusPort>> {
        self.port.upgrade()
    }
}

/// The longest sense data.
pub const SENSE_BYTES_MAX: usize = DESCRIPTOR_BYTES_MAX;

impl Listener for Nexus {
    fn notify(&self, notice: Notice) {
        self.attentions.establish(match notice {
            Notice::Released => Attention::ReservationsReleased,
            Notice::Preempted => Attention::RegistrationsPreempted,
            Notice::ReservationsPreempted => Attention::ReservationsPreempted,
        });
    }

    fn abort_tasks(&self) {
        if let Some(port) = self.port.upgrade() {
            port.abort_tasks(AbortCause::Other);
        }
    }

    /// A host that is fenced must not write any more, not even when its session is gone and a
    /// command of it is still in the volume.
    fn is_settled(&self) -> bool {
        let is_settled = match self.port.upgrade() {
            Some(port) => port.is_settled(),
            None => self.in_flight.get() == 0,
        };
        is_settled && self.copied_in.get() == 0
    }
}

/// A command that is being executed.
pub(super) struct Executing<'a>(&'a Nexus);

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        let in_flight = &self.0.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}

/// A piece of a copy that another unit carries out.
pub(super) struct CopyingIn(Rc<Nexus>);

impl Drop for CopyingIn {
    fn drop(&mut self) {
        let copied_in = &self.0.copied_in;
        copied_in.set(copied_in.get().saturating_sub(1));
    }
}
