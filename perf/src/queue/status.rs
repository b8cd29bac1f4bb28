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
        let (status, sense) = match self {
            Self::Nvme(status) => return status.fmt(f),
            Self::Scsi(status, sense) => (status, sense),
        };
        // Names alone where there are some: that is how they are looked up.
        let Some((key, code)) = sense else {
            return match status.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "status {:#04x}", status.0),
            };
        };
        match (key.name(), code.name()) {
            (Some(key), Some(code)) => write!(f, "{key} {code}"),
            _ => write!(f, "sense {:x}/{:04x}", key.0, code.0),
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
        let unknown = Sense::new(SenseKey::NOT_READY, SenseCode(0x1234)).fixed();
        let unknown = Status::scsi(scsi::Status::CHECK_CONDITION.0, &unknown);
        assert_eq!(unknown.label(), "sense 2/1234");
        assert_eq!(Status::scsi(0x99, &[]).label(), "status 0x99");
        assert!(Status::scsi(0, &[]).is_success());
    }
}
