//! Who a registrant is, and what the other protocol's hosts see of it.

use std::collections::BTreeSet;

/// What begins the name under which SCSI hosts see an NVMe host; its identifier as a UUID follows.
/// The naming authority is this project's own, so that no initiator has such a name.
pub(super) const NVME_HOST_PREFIX: &str = "iqn.2026-11.io.bedplate:nvme-host:";

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

impl Identity {
    /// The name that SCSI hosts see: of an initiator port its own, of an NVMe host one that is made
    /// of its host identifier.
    pub fn scsi_name(&self) -> String {
        match self {
            Self::Scsi { initiator_port, .. } => initiator_port.clone(),
            Self::Nvme { host_id } => format!("{NVME_HOST_PREFIX}{}", uuid_text(host_id)),
        }
    }

    /// Reads a name as [`Identity::scsi_name`] gives it; an initiator port is one at `target_port`.
    pub fn from_scsi_name(name: &str, target_port: u16) -> Option<Self> {
        match name.strip_prefix(NVME_HOST_PREFIX) {
            Some(uuid) => parse_uuid(uuid).map(|host_id| Self::Nvme { host_id }),
            None => Some(Self::Scsi {
                initiator_port: name.to_owned(),
                target_port,
            }),
        }
    }

    /// The host identifier that NVMe hosts see: an NVMe host's own; of a SCSI nexus the 128-bit
    /// FNV-1a hash of the initiator port's name, a zero byte, and the target port in big-endian
    /// order, the hash in big-endian order.
    pub fn host_id(&self) -> [u8; 16] {
        match self {
            Self::Nvme { host_id } => *host_id,
            Self::Scsi {
                initiator_port,
                target_port,
            } => {
                let port = target_port.to_be_bytes();
                let bytes = initiator_port.bytes().chain([0]).chain(port);
                fnv1a_128(bytes).to_be_bytes()
            }
        }
    }

    /// The relative identifier of the target port; 0 for an NVMe host, which has none.
    pub fn target_port(&self) -> u16 {
        match self {
            Self::Scsi { target_port, .. } => *target_port,
            Self::Nvme { .. } => 0,
        }
    }

    /// The same initiator port at each of these target ports; an NVMe host is at all of them anyway.
    pub(super) fn at_ports(&self, target_ports: &BTreeSet<u16>) -> Vec<Self> {
        match self {
            Self::Nvme { .. } => vec![self.clone()],
            Self::Scsi {
                initiator_port,
                target_port,
            } => {
                let all = target_ports.iter().copied();
                let mut ports: BTreeSet<u16> = all.collect();
                ports.insert(*target_port);
                let at = |target_port| Self::Scsi {
                    initiator_port: initiator_port.clone(),
                    target_port,
                };
                ports.into_iter().map(at).collect()
            }
        }
    }
}

/// Source: FNV-1a with the parameters of draft-eastlake-fnv for 128 bits.
fn fnv1a_128(bytes: impl Iterator<Item = u8>) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    let digits: String = text.chars().filter(|&digit| digit != '-').collect();
    let value = u128::from_str_radix(&digits, 16).ok()?;
    let bytes = value.to_be_bytes();
    // Also refuses capitals and hyphens in other places: there is one name for each host.
    (uuid_text(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nvme_host_has_a_scsi_name_and_is_found_by_it() {
        let host = Identity::Nvme {
            host_id: *b"\x01\x23\x45\x67\x89\xab\xcd\xef0123456\xff",
        };
        let name = host.scsi_name();
        assert_eq!(
            name,
            "iqn.2026-11.io.bedplate:nvme-host:01234567-89ab-cdef-3031-3233343536ff"
        );
        assert_eq!(Identity::from_scsi_name(&name, 3), Some(host));
        for wrong in [
            &name.replace('b', "B")[..],
            "iqn.2026-11.io.bedplate:nvme-host:",
            "iqn.2026-11.io.bedplate:nvme-host:0123456789abcdef30313233343536ff",
            "iqn.2026-11.io.bedplate:nvme-host:01234567-89ab-cdef-3031-32333435+6ff",
        ] {
            let host = Identity::from_scsi_name(wrong, 3);
            assert!(!matches!(host, Some(Identity::Nvme { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_nexus_has_a_host_id_of_its_name_and_port() {
        assert_eq!(
            fnv1a_128(b"foobar".iter().copied()),
            0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18,
            "a published value of the hash"
        );
        let at = |target_port| Identity::Scsi {
            initiator_port: "iqn.2026-11.example:a,i,0x800000000001".to_owned(),
            target_port,
        };
        assert_eq!(at(1).host_id(), at(1).host_id());
        assert_ne!(at(1).host_id(), at(2).host_id());
    }
}
