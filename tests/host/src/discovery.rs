//! The discovery log.

use wire::fabrics::discovery::{DiscoveryEntry, DiscoveryHeader};
use wire::nvme::log::LogId;

use crate::{Controller, HostError};

/// Times the log is read again because it changed meanwhile.
pub(crate) const ATTEMPTS: usize = 8;

/// The discovery log at one generation.
#[derive(Clone, Debug)]
pub struct DiscoveryLog {
    /// Generation counter.
    pub generation: u64,
    /// Its entries.
    pub entries: Vec<DiscoveryEntry>,
}

impl DiscoveryLog {
    /// Names of the subsystems.
    #[must_use]
    pub fn subsystems(&self) -> Vec<String> {
        let names = self
            .entries
            .iter()
            .filter_map(|entry| entry.subnqn.parse("SUBNQN").ok());
        names.map(str::to_owned).collect()
    }
}

impl Controller {
    /// Reads the discovery log of a discovery controller as the specification asks: header,
    /// entries, header again, until the generation stays the same.
    pub fn discovery_log(&mut self) -> Result<DiscoveryLog, HostError> {
        for _ in 0..ATTEMPTS {
            let (generation, count) = self.discovery_header()?;
            let mut entries = Vec::new();
            for index in 0..count {
                let offset = (DiscoveryHeader::SIZE as u64) + index * DiscoveryEntry::SIZE as u64;
                let bytes = self.get_log(LogId::DISCOVERY, 0, offset, DiscoveryEntry::SIZE)?;
                entries.push(*DiscoveryEntry::decode(&bytes)?);
            }
            if self.discovery_header()?.0 == generation {
                return Ok(DiscoveryLog {
                    generation,
                    entries,
                });
            }
        }
        Err(restless())
    }

    fn discovery_header(&mut self) -> Result<(u64, u64), HostError> {
        let bytes = self.get_log(LogId::DISCOVERY, 0, 0, DiscoveryHeader::SIZE)?;
        header(&bytes)
    }
}

/// Generation and number of entries.
pub(crate) fn header(bytes: &[u8]) -> Result<(u64, u64), HostError> {
    let header = DiscoveryHeader::check(bytes)?;
    Ok((header.genctr.get(), header.numrec.get()))
}

/// A log that never stayed the same while it was read.
pub(crate) fn restless() -> HostError {
    let problem = format!("changed {ATTEMPTS} times while it was read");
    HostError::Answer {
        what: "discovery log",
        problem,
    }
}
