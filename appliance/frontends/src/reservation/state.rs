//! What is registered and reserved, and what that allows.
//!
//! Source: SPC-4 section 5.13.1 tables 64 and 65; NVM Express base 2.0 section 8.19 (command
//! behaviour in the presence of a reservation), which agree.

use super::{Access, Identity};

/// Most registrants of a volume. More are refused: INSUFFICIENT REGISTRATION RESOURCES.
pub const REGISTRANTS_MAX: usize = 128;

/// Type of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The holder writes, everybody reads.
    WriteExclusive,
    /// The holder writes and reads, nobody else.
    ExclusiveAccess,
    /// Registrants write, everybody reads.
    WriteExclusiveRegistrantsOnly,
    /// Registrants write and read, nobody else.
    ExclusiveAccessRegistrantsOnly,
    /// As above, and each registrant is a holder.
    WriteExclusiveAllRegistrants,
    /// As above, and each registrant is a holder.
    ExclusiveAccessAllRegistrants,
}

impl Kind {
    /// Every type: its place here, plus 1, is its NVMe value.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];
    const SCSI: [u8; 6] = [1, 3, 5, 6, 7, 8];

    /// The type with this value in PERSISTENT RESERVE IN and OUT.
    pub fn from_scsi(value: u8) -> Option<Self> {
        let place = Self::SCSI.iter().position(|scsi| *scsi == value)?;
        Some(Self::ALL[place])
    }

    /// Its value in PERSISTENT RESERVE IN and OUT.
    pub fn scsi(self) -> u8 {
        Self::SCSI[self as usize]
    }

    /// The type with this value in NVMe reservation commands.
    pub fn from_nvme(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value).checked_sub(1)?).copied()
    }

    /// Its value in NVMe reservation commands.
    pub fn nvme(self) -> u8 {
        self as u8 + 1
    }

    /// Every registrant is a holder.
    pub fn is_all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Only the one holder has the rights.
    pub fn is_of_one(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    fn lets_all_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }
}

/// Somebody with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// Who.
    pub identity: Identity,
    /// Its key, not 0.
    pub key: u64,
}

/// The one reservation there can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its type.
    pub kind: Kind,
    /// Its holder; none when every registrant is.
    pub holder: Option<Identity>,
}

/// All there is to know about the persistent reservations of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) generation: u32,
    pub(super) registrants: Vec<Registrant>,
    pub(super) held: Option<Held>,
    pub(super) is_persistent: bool,
}

impl State {
    /// Counts changes of the registrants since the server started; wraps.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The registrants, in the order in which they registered.
    pub fn registrants(&self) -> &[Registrant] {
        &self.registrants
    }

    /// The reservation.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Whether all this is kept through power loss (APTPL, PTPL).
    pub fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// Whether anybody is registered.
    pub fn is_used(&self) -> bool {
        !self.registrants.is_empty()
    }

    /// The key of a registrant.
    pub fn key_of(&self, identity: &Identity) -> Option<u64> {
        let mut all = self.registrants.iter();
        let found = all.find(|registrant| registrant.identity == *identity);
        found.map(|registrant| registrant.key)
    }

    /// Whether it is a registrant.
    pub fn is_registrant(&self, identity: &Identity) -> bool {
        self.key_of(identity).is_some()
    }

    /// Whether it holds the reservation, alone or with the other registrants.
    pub fn is_holder(&self, identity: &Identity) -> bool {
        match &self.held {
            Some(Held {
                holder: Some(holder),
                ..
            }) => holder == identity,
            Some(Held { holder: None, .. }) => self.is_registrant(identity),
            None => false,
        }
    }

    /// The key that a report of the reservation shows: 0 when every registrant holds it.
    pub fn holder_key(&self) -> u64 {
        let holder = self.held.as_ref().and_then(|held| held.holder.as_ref());
        holder.and_then(|holder| self.key_of(holder)).unwrap_or(0)
    }

    /// What the persistent reservation allows.
    pub fn allows(&self, identity: &Identity, access: Access) -> bool {
        let Some(held) = &self.held else { return true };
        let has_rights = match held.kind.is_of_one() {
            true => self.is_holder(identity),
            false => self.is_registrant(identity),
        };
        match access {
            Access::Other => true,
            Access::Read => has_rights || held.kind.lets_all_read(),
            Access::Write => has_rights,
        }
    }
}
