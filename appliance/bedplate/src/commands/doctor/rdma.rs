//! What NVMe/RDMA needs of this machine: libraries, kernel, cards, addresses, network, memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use config::{ByteSize, Config, NvmeRdmaConfig, limits};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use rdma::MissingLibrary;
use rdma::verbs::load_libraries;

use super::rdma_ports::{Gid, Port, network_mtu, ports, roce_mtu};
use super::{Check, Verdict};
use crate::output::bytes;

/// CAP_IPC_LOCK, with which the limit of locked memory does not count.
const CAP_IPC_LOCK: u32 = 14;
/// Network MTU from which RDMA packets have their largest size.
const JUMBO_MTU: u32 = 4192;

/// Where the checks look; tests make their own.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Root of the file system.
    pub root: PathBuf,
    /// Memory that this process may lock, in bytes.
    pub memlock_bytes: u64,
    /// Loads the RDMA libraries.
    pub load_libraries: fn() -> Result<(), MissingLibrary>,
}

impl Machine {
    /// The machine this runs on.
    pub fn here() -> Machine {
        let limit = getrlimit(Resource::RLIMIT_MEMLOCK);
        Machine {
            root: PathBuf::from("/"),
            memlock_bytes: limit.map_or(RLIM_INFINITY, |(soft, _)| soft),
            load_libraries,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// One line for a machine whose configuration has no `[nvme_rdma]`: nothing is wrong then.
pub fn unused(machine: &Machine) -> Check {
    let ports = ports(&machine.root);
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let text = match names.as_slice() {
        [] => "no RDMA card: hosts connect over TCP, which needs none".to_owned(),
        names => format!(
            "{}: used when the configuration has [nvme_rdma]",
            names.join(", ")
        ),
    };
    Check::new("rdma", Verdict::Ok, text)
}

/// Everything that `[nvme_rdma]` needs. `cores` run a reactor each.
pub fn configured(
    machine: &Machine,
    rdma: &NvmeRdmaConfig,
    config: &Config,
    cores: usize,
) -> Vec<Check> {
    let mut checks = vec![
        libraries(machine),
        connection_manager(machine),
        verbs(machine),
    ];
    let ports = ports(&machine.root);
    if ports.is_empty() {
        checks.push(no_card());
        return checks;
    }
    checks.push(providers(machine));
    checks.extend(rdma.listen.iter().map(|at| address(*at, &ports)));
    let used = used_ports(rdma, &ports);
    checks.extend(used.iter().flat_map(|port| of_port(machine, port)));
    let memory = config.reactor.memory.bytes().saturating_mul(cores as u64);
    checks.push(locked_memory(machine, memory, cards(&used)));
    checks.extend(old_hosts(rdma));
    checks
}

/// By loading them, as the server does: a file that is there may still lack what it needs.
fn libraries(machine: &Machine) -> Check {
    let check = "rdma libraries";
    match (machine.load_libraries)() {
        Ok(()) => Check::new(check, Verdict::Ok, "libibverbs and librdmacm"),
        Err(MissingLibrary { library, reason }) => {
            let text = format!(
                "{library} cannot be loaded ({reason}): install both (Debian: apt install \
                 librdmacm1 libibverbs1)"
            );
            Check::new(check, Verdict::Problem, text)
        }
    }
}

fn connection_manager(machine: &Machine) -> Check {
    let open = open_device(&machine.at("dev/infiniband/rdma_cm"));
    device_file("rdma connection manager", "rdma_ucm", open)
}

fn verbs(machine: &Machine) -> Check {
    let folder = fs::read_dir(machine.at("dev/infiniband"))
        .into_iter()
        .flatten();
    let names = folder.filter_map(|entry| Some(entry.ok()?.path()));
    let is_verbs = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("uverbs"))
    };
    let mut found: Vec<PathBuf> = names.filter(is_verbs).collect();
    found.sort();
    let open = match found.first() {
        None => Err(io::ErrorKind::NotFound.into()),
        // One that cannot be opened is enough to say so.
        Some(_) => found
            .iter()
            .try_fold(PathBuf::new(), |_, path| open_device(path)),
    };
    device_file("rdma verbs", "ib_uverbs", open)
}

fn open_device(path: &Path) -> io::Result<PathBuf> {
    let opened: io::Result<File> = OpenOptions::new().read(true).write(true).open(path);
    opened.map(|_| path.to_owned())
}

fn device_file(check: &str, module: &str, open: io::Result<PathBuf>) -> Check {
    let (verdict, text) = match open {
        Ok(path) => (Verdict::Ok, path.display().to_string()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (
            Verdict::Problem,
            format!("the kernel offers none: modprobe {module}, and load it at boot"),
        ),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => (
            Verdict::Problem,
            "below /dev/infiniband, not allowed to this user: add it to the group of the files"
                .to_owned(),
        ),
        Err(e) => (Verdict::Problem, format!("cannot be opened: {e}")),
    };
    Check::new(check, verdict, text)
}

fn no_card() -> Check {
    let text = "the kernel knows no RDMA card: install one and load its driver (such as mlx5_ib), \
                or remove [nvme_rdma]; for tests, `rdma link add rxe0 type rxe netdev ETH` makes \
                one of software";
    Check::new("rdma cards", Verdict::Problem, text)
}

/// The kernel's driver alone is not enough: the library has a half of its own for each card.
fn providers(machine: &Machine) -> Check {
    let folder = fs::read_dir(machine.at("etc/libibverbs.d"))
        .into_iter()
        .flatten();
    let is_driver = |path: &PathBuf| path.extension().is_some_and(|end| end == "driver");
    let drivers = folder.filter_map(|entry| Some(entry.ok()?.path()));
    match drivers.filter(is_driver).count() {
        0 => {
            let text = "libibverbs has none, and so sees no card (Debian: apt install \
                        ibverbs-providers)";
            Check::new("rdma providers", Verdict::Problem, text)
        }
        count => Check::new(
            "rdma providers",
            Verdict::Ok,
            format!("{count} kinds of card"),
        ),
    }
}

/// Whether some card has the address, and hosts can use it.
fn address(listen: SocketAddr, ports: &[Port]) -> Check {
    let check = format!("rdma listen {listen}");
    let ip = listen.ip().to_canonical();
    if ip.is_loopback() {
        let text = "hosts elsewhere cannot reach it: choose an address of an RDMA card";
        return Check::new(check, Verdict::Note, text);
    }
    let with: Vec<&Port> = ports.iter().filter(|p| serves(p, ip)).collect();
    match with.as_slice() {
        [] => Check::new(check, Verdict::Problem, why_not(ip, ports)),
        with => {
            let names: Vec<&str> = with.iter().map(|port| port.name.as_str()).collect();
            Check::new(
                check,
                Verdict::Ok,
                format!("RoCE v2 on {}", names.join(", ")),
            )
        }
    }
}

fn serves(port: &Port, ip: IpAddr) -> bool {
    let by_wildcard = |gid: &Gid| {
        let is_v4 = gid.address.to_ipv4_mapped().is_some();
        let is_link_local = gid.address.is_unicast_link_local();
        gid.is_roce_v2() && !is_link_local && (is_v4 || ip.is_ipv6())
    };
    let wildcard = ip.is_unspecified();
    let gids = port.gids.iter();
    if wildcard {
        gids.into_iter().any(by_wildcard)
    } else {
        gids.into_iter().any(|gid| gid.serves(ip))
    }
}

/// The address is with no card: the three ways in which that happens.
fn why_not(ip: IpAddr, ports: &[Port]) -> String {
    let same = |gid: &&Gid| match gid.address.to_ipv4_mapped() {
        Some(v4) => ip == v4,
        None => ip == gid.address,
    };
    if let Some(gid) = ports.iter().flat_map(|port| &port.gids).find(same) {
        let kind = if gid.kind.is_empty() {
            "unknown"
        } else {
            &gid.kind
        };
        return format!("only as {kind}, and RoCE v2 is needed: switch the card to RoCE v2");
    }
    if ip.is_unspecified() {
        return "no RDMA card has an IP address of this family: give one to its network card"
            .to_owned();
    }
    let v2 = ports.iter().flat_map(|port| &port.gids);
    let mut there: Vec<String> = v2
        .filter(|gid| gid.is_roce_v2() && !gid.address.is_unicast_link_local())
        .map(|gid| IpAddr::V6(gid.address).to_canonical().to_string())
        .collect();
    there.sort();
    there.dedup();
    match there.as_slice() {
        [] => "no RDMA card has an IP address: give this one to the card's network interface, and \
               set it up"
            .to_owned(),
        there => format!("no RDMA card has it; they have {}", there.join(", ")),
    }
}

/// The ports that the addresses are on; all when none is.
fn used_ports<'p>(rdma: &NvmeRdmaConfig, ports: &'p [Port]) -> Vec<&'p Port> {
    let is_used = |port: &&Port| {
        let mut ips = rdma.listen.iter().map(|listen| listen.ip().to_canonical());
        ips.any(|ip| serves(port, ip))
    };
    let used: Vec<&Port> = ports.iter().filter(is_used).collect();
    if used.is_empty() {
        return ports.iter().collect();
    }
    used
}

fn of_port(machine: &Machine, port: &Port) -> Vec<Check> {
    let mut checks = vec![link(port)];
    checks.extend(packets(machine, port));
    if port.is_software {
        let text = "a card of software (soft RoCE or soft iWARP): for tests, slower than NVMe/TCP";
        checks.push(Check::new(
            format!("rdma {} kind", port.name),
            Verdict::Note,
            text,
        ));
    }
    checks.push(flow_control(port));
    checks
}

fn link(port: &Port) -> Check {
    let name = format!("rdma {} link", port.name);
    if port.state != "ACTIVE" {
        let state = if port.state.is_empty() {
            "unknown"
        } else {
            &port.state
        };
        let text = format!("{state}: plug in the cable, and set its network interface up");
        return Check::new(name, Verdict::Problem, text);
    }
    if port.link_layer != "Ethernet" {
        let text = format!(
            "{}: Bedplate is made for RoCE, which is on Ethernet, and not tested here",
            port.link_layer
        );
        return Check::new(name, Verdict::Note, text);
    }
    Check::new(name, Verdict::Ok, "active, Ethernet")
}

/// RDMA packets are never larger than the frames of the network card.
fn packets(machine: &Machine, port: &Port) -> Option<Check> {
    let netdev = port.gids.iter().find_map(|gid| gid.netdev.as_deref())?;
    let mtu = network_mtu(&machine.root, netdev)?;
    let size = roce_mtu(mtu);
    let name = format!("rdma {} MTU", port.name);
    if mtu >= JUMBO_MTU {
        let text = format!("{size}-byte packets ({netdev} has {mtu})");
        return Some(Check::new(name, Verdict::Ok, text));
    }
    let text = format!(
        "{size}-byte packets, since {netdev} has {mtu}: for 4096 give it {JUMBO_MTU} or more, \
         usually 9000, and switches and hosts too"
    );
    Some(Check::new(name, Verdict::Note, text))
}

/// Whether the network is lossless cannot be read here; whether it lost packets can.
fn flow_control(port: &Port) -> Check {
    let name = format!("rdma {} losses", port.name);
    let netdev = port.gids.iter().find_map(|gid| gid.netdev.as_deref());
    let ask = match netdev {
        Some(netdev) => format!("`dcb pfc show dev {netdev}`"),
        None => "`dcb pfc show`".to_owned(),
    };
    let ecn = match port.congestion {
        0 => "",
        _ => "; ECN is at work",
    };
    if port.losses > 0 {
        let text = format!(
            "{} packets lost or out of order since boot{ecn}: see priority flow control and ECN, \
             here ({ask}), on the switch and on hosts",
            port.losses
        );
        return Check::new(name, Verdict::Note, text);
    }
    let text = format!(
        "none seen{ecn}; whether priority flow control is on is not told here: {ask} and the \
         switch say"
    );
    Check::new(name, Verdict::Ok, text)
}

fn cards(ports: &[&Port]) -> u64 {
    let mut names: Vec<&str> = ports
        .iter()
        .filter_map(|port| port.name.split('/').next())
        .collect();
    names.dedup();
    names.len() as u64
}

/// Cards read and write memory by themselves, so the kernel locks it: once for each card.
fn locked_memory(machine: &Machine, memory_bytes: u64, cards: u64) -> Check {
    let name = "rdma locked memory";
    let needed = memory_bytes.saturating_mul(cards);
    let limit = machine.memlock_bytes;
    if limit == RLIM_INFINITY || may_lock(machine) {
        let text = format!("unlimited, {} needed", bytes(needed));
        return Check::new(name, Verdict::Ok, text);
    }
    let text = format!(
        "limit {} in this shell, {} needed (`memory` of each core, for each card)",
        bytes(limit),
        bytes(needed)
    );
    if limit < needed {
        let remedy = "raise it: LimitMEMLOCK=infinity in the service, or ulimit -l unlimited";
        return Check::new(name, Verdict::Problem, format!("{text}: {remedy}"));
    }
    Check::new(name, Verdict::Ok, text)
}

/// Whether the process has the capability that lifts the limit.
fn may_lock(machine: &Machine) -> bool {
    let status = fs::read_to_string(machine.at("proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_IPC_LOCK) != 0)
}

fn old_hosts(rdma: &NvmeRdmaConfig) -> Option<Check> {
    let safe: ByteSize = limits::RDMA_IN_CAPSULE_DEFAULT;
    (rdma.in_capsule > safe).then(|| {
        let text = format!(
            "{}: Linux hosts from 5.4 to 5.12 can corrupt writes with more than {safe}; leave it \
             out where there may be such",
            rdma.in_capsule
        );
        Check::new("[nvme_rdma] in_capsule", Verdict::Note, text)
    })
}

#[cfg(test)]
mod tests;
