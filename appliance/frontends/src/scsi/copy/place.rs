//! An end of a copy: a unit of this core, or of another one.

use std::rc::Rc;

use reactor::buf::Buf;
use volume::VolumeInfo;
use wire::scsi::Sense;

use super::far::Far;
use super::piece::{self, Host};
use crate::reservation::Access as Wanted;
use crate::scsi::{LogicalUnit, Nexus};

/// A unit that a copy reads or writes.
#[derive(Clone)]
pub(super) enum Place {
    /// On this core.
    Here(Rc<LogicalUnit>),
    /// On another core.
    There(Rc<Far>),
}

impl Place {
    /// The unit of this core or another that `is_it`, and that the host of `nexus` may use.
    pub fn find(nexus: &Nexus, is_it: impl Fn(&VolumeInfo) -> bool) -> Option<Self> {
        if is_it(nexus.unit().info()) {
            return Some(Self::Here(nexus.unit().clone()));
        }
        let (units, names) = (nexus.unit().units()?, nexus.names());
        if let Some(unit) = units.find(names.initiator(), &is_it) {
            return Some(Self::Here(unit));
        }
        let (info, core) = units.find_elsewhere(names.initiator(), &is_it)?;
        Some(Self::There(Rc::new(Far::new(info, core, names.clone()))))
    }

    /// What never changes about its volume.
    pub fn info(&self) -> &VolumeInfo {
        match self {
            Self::Here(unit) => unit.info(),
            Self::There(far) => far.info(),
        }
    }

    /// Whether both are one unit.
    pub fn is(&self, other: &Self) -> bool {
        self.info().nguid == other.info().nguid
    }

    /// As [`piece::check`].
    pub async fn check(&self, nexus: &Rc<Nexus>, wanted: Wanted) -> Result<(), Sense> {
        match self {
            Self::Here(unit) => piece::check(unit, &Host::of(nexus), wanted),
            Self::There(far) => far.check(wanted).await,
        }
    }

    /// As [`piece::read`].
    pub async fn read(&self, nexus: &Rc<Nexus>, at: u64, len_bytes: u64) -> Result<Buf, Sense> {
        match self {
            Self::Here(unit) => piece::read(unit, &Host::of(nexus), at, len_bytes).await,
            Self::There(far) => far.read(at, len_bytes).await,
        }
    }

    /// As [`piece::write`].
    pub async fn write(&self, nexus: &Rc<Nexus>, at: u64, data: Buf) -> Result<(), Sense> {
        match self {
            Self::Here(unit) => piece::write(unit, &Host::of(nexus), at, data).await,
            Self::There(far) => far.write(at, data).await,
        }
    }
}
