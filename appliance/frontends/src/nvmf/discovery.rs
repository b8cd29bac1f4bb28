//! The discovery log as one host sees it. Source: base 2.0 section 5.16.1.23.

use std::net::{IpAddr, SocketAddr};

use wire::fabrics::connect::ADMIN_QUEUE_ENTRIES;
use wire::fabrics::discovery::{
    AddressFamily, CNTLID_DYNAMIC, DiscoveryEntry, DiscoveryHeader, SubsystemType, treq,
};
use wire::text::{Ascii, NqnField};
use zerocopy::little_endian::U16;

use crate::nvmf::directory::Directory;
use crate::nvmf::transport::Transport;

/// The whole log: a header, then one entry for every subsystem on every listener.
///
/// `reach` is the local address the host came in on, over whichever transport: a wildcard listener
/// is reported with it.
/// Cost: 1 KiB an entry, allocated; discovery is rare.
pub(crate) fn render(directory: &Directory, host_nqn: &str, reach: SocketAddr) -> Vec<u8> {
    let visible = directory.visible_to(host_nqn);
    let mut ports: Vec<(Transport, SocketAddr)> = visible
        .listeners
        .iter()
        .filter_map(|(transport, listener)| Some((*transport, reachable(*listener, reach)?)))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let count = ports.len() * visible.subsystems.len();
    let mut log = Vec::with_capacity(DiscoveryHeader::SIZE + count * DiscoveryEntry::SIZE);
    log.extend_from_slice(DiscoveryHeader::new(visible.generation, count as u64).as_wire());
    for nqn in &visible.subsystems {
        for (index, (transport, address)) in ports.iter().enumerate() {
            log.extend_from_slice(entry(nqn, *transport, *address, index).as_wire());
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

fn entry(nqn: &str, transport: Transport, address: SocketAddr, index: usize) -> DiscoveryEntry {
    let adrfam = match address.ip() {
        IpAddr::V4(_) => AddressFamily::IPV4,
        IpAddr::V6(_) => AddressFamily::IPV6,
    };
    DiscoveryEntry {
        trtype: transport.trtype(),
        adrfam,
        subtype: SubsystemType::NVM,
        treq: treq::SECURE_NOT_REQUIRED | treq::DISABLE_SQ_FLOW_CONTROL,
        portid: U16::new(u16::try_from(index + 1).unwrap_or(u16::MAX)),
        cntlid: U16::new(CNTLID_DYNAMIC),
        asqsz: U16::new(ADMIN_QUEUE_ENTRIES),
        trsvcid: Ascii::new(&address.port().to_string()),
        subnqn: NqnField::new(nqn, "SUBNQN").unwrap_or_default(),
        traddr: Ascii::new(&address.ip().to_string()),
        tsas: transport.tsas(),
        ..DiscoveryEntry::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reactor::sim::{World, WorldOptions};
    use wire::fabrics::discovery::TransportType;

    use super::*;
    use crate::options::HostAccess;

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
    /// Joining the directory needs a core.
    fn in_world(test: fn()) {
        let mut world = World::new(1, WorldOptions::default());
        let ended = world.run_once(
            "target",
            Duration::from_secs(1),
            move || async move { test() },
        );
        assert!(ended.is_some(), "the test ran");
    }

    /// The entries of a log, checked against its header.
    fn entries(log: &[u8]) -> Vec<DiscoveryEntry> {
        let header = DiscoveryHeader::check(log).expect("a good header");
        let entries = log[DiscoveryHeader::SIZE..].chunks(DiscoveryEntry::SIZE);
        let entries: Vec<_> = entries
            .map(|bytes| *DiscoveryEntry::decode(bytes).expect("whole entries"))
            .collect();
        assert_eq!(header.numrec.get(), entries.len() as u64);
        entries
    }

    /// What tells a host where to connect: transport, family, address, port.
    fn places(log: &[u8]) -> Vec<(TransportType, AddressFamily, String, String)> {
        let place = |entry: &DiscoveryEntry| {
            let (address, port) = (entry.traddr.as_str(), entry.trsvcid.as_str());
            (
                entry.trtype,
                entry.adrfam,
                address.to_owned(),
                port.to_owned(),
            )
        };
        entries(log).iter().map(place).collect()
    }

    fn with_volume() -> Directory {
        let directory = Directory::new();
        let home = directory.join(reactor::mailbox::channel(1).0);
        directory
            .add_subsystem("nqn.x:demo", HostAccess::Any, home)
            .expect("the first");
        directory
    }

    #[test]
    fn both_transports_are_listed_for_every_subsystem_even_at_the_same_address() {
        in_world(|| {
            let directory = with_volume();
            directory.add_listener(Transport::Rdma, address("10.0.0.1:4420"));
            directory.add_listener(Transport::Tcp, address("10.0.0.1:4420"));
            directory.add_listener(Transport::Rdma, address("[2001:db8::1]:4421"));
            let log = render(&directory, "nqn.y:host", address("10.0.0.1:4420"));
            let (v4, v6) = (AddressFamily::IPV4, AddressFamily::IPV6);
            let row = |trtype, family, address: &str, port: &str| {
                (trtype, family, address.to_owned(), port.to_owned())
            };
            assert_eq!(
                places(&log),
                [
                    row(TransportType::TCP, v4, "10.0.0.1", "4420"),
                    row(TransportType::RDMA, v4, "10.0.0.1", "4420"),
                    row(TransportType::RDMA, v6, "2001:db8::1", "4421"),
                ]
            );
            let ports: Vec<u16> = entries(&log).iter().map(|e| e.portid.get()).collect();
            assert_eq!(ports, [1, 2, 3], "each is a port of its own");
        });
    }

    #[test]
    fn an_rdma_entry_says_which_rdma_and_needs_no_secure_channel() {
        let rdma = entry("nqn.x:demo", Transport::Rdma, address("10.0.0.1:4420"), 0);
        // Reliable connected, RoCE v2, the connection manager of IP; no partition key.
        assert_eq!(rdma.tsas.0[..10], [1, 4, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert!(rdma.tsas.0[10..].iter().all(|byte| *byte == 0));
        assert_eq!(rdma.treq, 0b110);
        assert_eq!(rdma.asqsz.get(), 32);
        let tcp = entry("nqn.x:demo", Transport::Tcp, address("10.0.0.1:4420"), 0);
        assert_eq!(tcp.tsas.0, [0; 256], "no TLS");
    }

    #[test]
    fn wildcards_of_both_transports_become_the_address_the_host_came_in_on() {
        in_world(|| {
            let directory = with_volume();
            directory.add_listener(Transport::Rdma, address("0.0.0.0:4420"));
            directory.add_listener(Transport::Tcp, address("[::]:4420"));
            // A host on IPv6 cannot reach a wildcard of IPv4.
            let seen = |reach: &str| places(&render(&directory, "nqn.y:h", address(reach))).len();
            assert_eq!((seen("10.0.2.2:4420"), seen("[2001:db8::2]:4420")), (2, 1));
            directory.remove_listener(Transport::Rdma, address("0.0.0.0:4420"));
            assert_eq!(seen("10.0.2.2:4420"), 1, "the other transport stays");
        });
    }
}
