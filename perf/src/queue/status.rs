//! How a command ended, whatever the protocol.

use std::fmt;

use wire::nvme;
use wire::scsi::{self, Sense, SenseCode, SenseKey};

/// Status of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Of NVMe.
    Nvme(nvme::Status),
    /// Of SCSI, with what the sense data said, if any came.
    Scsi(scsi::Status, Option<(SenseKey, SenseCode)>),
}

impl Status {
    /// Whether the command did what it was asked.
    pub fn is_success(self) -> bool {
        match self {
            Self::Nvme(status) => status.is_success(),
            Self::Scsi(status, _) => status == scsi::Status::GOOD,
        }
    }

    /// From the SCSI status and its sense data, which may be empty.
    pub fn scsi(status: u8, sense: &[u8]) -> Self {
        let sense = Sense::decode(sense).map(|sense| (sense.key, sense.code));
        Self::Scsi(scsi::Status(status), sense)
    }

    /// Whether the unit only tells that something happened to it before.
    pub fn is_attention(self) -> bool {
        matches!(self, Self::Scsi(_, Some((SenseKey::UNIT_ATTENTION, _))))
    }

    /// What failures are counted by: the code alone.
    pub fn label(self) -> String {
        match self {
            Self::Nvme(status) => format!("{:?}", status.code()),
            Self::Scsi(..) => format!("{self:?}"),
        }
    }
}

impl From<nvme::Status> for Status {
    fn from(status: nvme::Status) -> Self {
        Self::Nvme(status)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nvme(status) => status.fmt(f),
            Self::Scsi(status, None) => status.fmt(f),
            Self::Scsi(_, Some((key, code))) => write!(f, "{key:?} {code:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_data_names_the_failure() {
        let sense = Sense::new(SenseKey::UNIT_ATTENTION, SenseCode::POWER_ON).fixed();
        let status = Status::scsi(scsi::Status::CHECK_CONDITION.0, &sense);
        assert!(status.is_attention() && !status.is_success());
        assert_eq!(status.label(), "UNIT_ATTENTION POWER_ON");
        let busy = Status::scsi(scsi::Status::BUSY.0, &[]);
        assert_eq!(busy.label(), "BUSY");
        assert!(Status::scsi(0, &[]).is_success());
    }
}
