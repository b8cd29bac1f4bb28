//! What the kernel tells about RDMA cards: `/sys/class/infiniband`, and the network cards beside it.
//!
//! Everything is read below a root, `/` but in tests. What is missing or strange reads as unknown.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// One port of one card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// As `rdma link` names it: card and port.
    pub name: String,
    /// The word of the kernel, `ACTIVE` when it can be used.
    pub state: String,
    /// `Ethernet` or `InfiniBand`.
    pub link_layer: String,
    /// Its addresses.
    pub gids: Vec<Gid>,
    /// Made of software over an ordinary network card: soft RoCE or soft iWARP.
    pub is_software: bool,
    /// Packets that were lost or came late, by the counters that cards have for it.
    pub losses: u64,
    /// Congestion marks that were answered or honoured: ECN at work.
    pub congestion: u64,
}

/// One address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    /// IPv4 addresses are mapped into IPv6.
    pub address: Ipv6Addr,
    /// `RoCE v2`, or `IB/RoCE v1`.
    pub kind: String,
    /// The network card whose address it is.
    pub netdev: Option<String>,
}

impl Gid {
    /// Whether hosts can reach `address` here by RoCE v2.
    pub fn serves(&self, address: IpAddr) -> bool {
        let wanted = match address {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.is_roce_v2() && self.address == wanted
    }

    /// RoCE over UDP, the version that is routed and that cards prefer.
    pub fn is_roce_v2(&self) -> bool {
        self.kind == "RoCE v2"
    }
}

/// Counters of lost and late packets: first those of hardware, then those of soft RoCE.
const LOSSES: [&str; 5] = [
    "out_of_sequence",
    "packet_seq_err",
    "local_ack_timeout_err",
    "out_of_seq_request",
    "rcvd_seq_err",
];
/// Counters of congestion notifications, sent and handled.
const CONGESTION: [&str; 2] = ["np_cnp_sent", "rp_cnp_handled"];
/// GIDs of a port that are looked at.
const GIDS_MAX: usize = 1024;

/// Every port of every card, by name.
pub fn ports(root: &Path) -> Vec<Port> {
    let cards = entries(&root.join("sys/class/infiniband"));
    cards.iter().flat_map(|card| ports_of(card)).collect()
}

fn ports_of(card: &Path) -> Vec<Port> {
    // Soft RoCE names its network card in `parent`; a card that is none is no device of any bus.
    let is_software = card.join("parent").exists() || !card.join("device").exists();
    let numbers = entries(&card.join("ports"));
    let port = |path: &PathBuf| Port {
        name: format!("{}/{}", file_name(card), file_name(path)),
        state: after_colon(&text(&path.join("state"))),
        link_layer: text(&path.join("link_layer")),
        gids: gids(path),
        is_software,
        losses: sum(path, &LOSSES),
        congestion: sum(path, &CONGESTION),
    };
    numbers.iter().map(port).collect()
}

fn gids(port: &Path) -> Vec<Gid> {
    let files = entries(&port.join("gids"));
    let gid = |file: &PathBuf| {
        let index = file_name(file);
        let address: Ipv6Addr = text(file).parse().ok()?;
        let attributes = port.join("gid_attrs");
        let netdev = text(&attributes.join("ndevs").join(&index));
        let found = Gid {
            address,
            // An empty place of the table has no type: reading it fails.
            kind: text(&attributes.join("types").join(&index)),
            netdev: (!netdev.is_empty()).then_some(netdev),
        };
        (!address.is_unspecified()).then_some(found)
    };
    files.iter().take(GIDS_MAX).filter_map(gid).collect()
}

fn sum(port: &Path, counters: &[&str]) -> u64 {
    let folder = port.join("hw_counters");
    let values = counters.iter().map(|name| text(&folder.join(name)));
    let values = values.filter_map(|value| value.parse::<u64>().ok());
    values.fold(0, u64::saturating_add)
}

/// MTU of a network card in bytes.
pub fn network_mtu(root: &Path, netdev: &str) -> Option<u32> {
    let file = root.join("sys/class/net").join(netdev).join("mtu");
    text(&file).parse().ok()
}

/// The RDMA packets that fit into the frames of a network card, as the kernel chooses them for RoCE:
/// payload in bytes, a power of two from 256 to 4096. Headers take up to 96 bytes.
pub fn roce_mtu(network_mtu: u32) -> u32 {
    const HEADERS: u32 = 96;
    let room = network_mtu.saturating_sub(HEADERS);
    let sizes = [4096, 2048, 1024, 512];
    sizes.into_iter().find(|size| *size <= room).unwrap_or(256)
}

/// `4: ACTIVE` becomes `ACTIVE`.
fn after_colon(text: &str) -> String {
    let word = text.split_once(": ").map_or(text, |(_, word)| word);
    word.to_owned()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What is in a folder, in order; nothing when there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_frames_allow() {
        let table = [(9000, 4096), (4192, 4096), (4191, 2048), (1500, 1024)];
        for (network, rdma) in table {
            assert_eq!(roce_mtu(network), rdma, "{network}");
        }
        assert_eq!(roce_mtu(0), 256);
    }

    #[test]
    fn only_roce_v2_serves_an_address() {
        let gid = |address: &str, kind: &str| Gid {
            address: address.parse().unwrap(),
            kind: kind.into(),
            netdev: None,
        };
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let mapped = "0000:0000:0000:0000:0000:ffff:0a00:0001";
        assert!(gid(mapped, "RoCE v2").serves(ip));
        assert!(!gid(mapped, "IB/RoCE v1").serves(ip));
        assert!(!gid(mapped, "RoCE v2").serves("10.0.0.2".parse().unwrap()));
        let v6 = gid("2001:0db8:0000:0000:0000:0000:0000:0001", "RoCE v2");
        assert!(v6.serves("2001:db8::1".parse().unwrap()));
    }
}
