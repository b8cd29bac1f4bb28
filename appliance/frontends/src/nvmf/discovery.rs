//! The discovery log as one host sees it. Source: base 2.0 section 5.16.1.23.

use std::net::{IpAddr, SocketAddr};

use wire::fabrics::discovery::{
    AddressFamily, CNTLID_DYNAMIC, DiscoveryEntry, DiscoveryHeader, SubsystemType, TransportType,
    treq,
};
use wire::text::{Ascii, NqnField};
use zerocopy::little_endian::U16;

use crate::nvmf::directory::Directory;

/// Entries of an admin queue that every listener accepts.
const ADMIN_QUEUE_ENTRIES: u16 = 32;

/// The whole log: a header, then one entry for every subsystem on every listener.
///
/// `reach` is the local address the host came in on: a wildcard listener is reported with it.
/// Cost: 1 KiB an entry, allocated; discovery is rare.
pub(crate) fn render(directory: &Directory, host_nqn: &str, reach: SocketAddr) -> Vec<u8> {
    let visible = directory.visible_to(host_nqn);
    let mut addresses: Vec<SocketAddr> = visible
        .listeners
        .iter()
        .filter_map(|listener| reachable(*listener, reach))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let count = addresses.len() * visible.subsystems.len();
    let mut log = Vec::with_capacity(DiscoveryHeader::SIZE + count * DiscoveryEntry::SIZE);
    log.extend_from_slice(DiscoveryHeader::new(visible.generation, count as u64).as_wire());
    for nqn in &visible.subsystems {
        for (index, address) in addresses.iter().enumerate() {
            log.extend_from_slice(entry(nqn, *address, index).as_wire());
        }
    }
    log
}

/// The address a host can use for `listener`; none when it cannot reach it by this family.
pub(crate) fn reachable(listener: SocketAddr, reach: SocketAddr) -> Option<SocketAddr> {
    if !listener.ip().is_unspecified() {
        return Some(listener);
    }
    let ip = reach.ip().to_canonical();
    // A wildcard of IPv6 takes both families, one of IPv4 only its own.
    let served = listener.is_ipv6() || ip.is_ipv4();
    served.then(|| SocketAddr::new(ip, listener.port()))
}

fn entry(nqn: &str, address: SocketAddr, index: usize) -> DiscoveryEntry {
    let adrfam = match address.ip() {
        IpAddr::V4(_) => AddressFamily::IPV4,
        IpAddr::V6(_) => AddressFamily::IPV6,
    };
    DiscoveryEntry {
        trtype: TransportType::TCP,
        adrfam,
        subtype: SubsystemType::NVM,
        treq: treq::SECURE_NOT_REQUIRED | treq::DISABLE_SQ_FLOW_CONTROL,
        portid: U16::new(u16::try_from(index + 1).unwrap_or(u16::MAX)),
        cntlid: U16::new(CNTLID_DYNAMIC),
        asqsz: U16::new(ADMIN_QUEUE_ENTRIES),
        trsvcid: Ascii::new(&address.port().to_string()),
        subnqn: NqnField::new(nqn, "SUBNQN").unwrap_or_default(),
        traddr: Ascii::new(&address.ip().to_string()),
        ..DiscoveryEntry::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a test address")
    }

    #[test]
    fn wildcards_become_the_address_the_host_came_in_on() {
        let reach = address("10.0.2.2:4420");
        let seen = |listener: &str| reachable(address(listener), reach);
        assert_eq!(seen("0.0.0.0:4421"), Some(address("10.0.2.2:4421")));
        assert_eq!(seen("[::]:4420"), Some(address("10.0.2.2:4420")));
        assert_eq!(seen("127.0.0.1:4420"), Some(address("127.0.0.1:4420")));
        assert_eq!(
            reachable(address("0.0.0.0:1"), address("[fe80::1]:1")),
            None
        );
    }
}
