//! The lines that attach a volume to a Linux host, over each protocol there is a listener for.

use std::net::{IpAddr, SocketAddr};

use control::model::{ConnectInfo, ListenerStatus, VolumeStatus};

/// Stands for an address of this machine that the host can reach.
const ANY: &str = "ADDRESS-OF-THIS-MACHINE";

/// Kinds of listeners, as `ready:` lines and status name them.
pub const NVME_TCP: &str = "nvme-tcp";
/// As [`NVME_TCP`].
pub const NVME_RDMA: &str = "nvme-rdma";
/// As [`NVME_TCP`].
pub const ISCSI: &str = "iscsi";

/// Discovery and connect lines for one volume, for every listener.
pub fn info(volume: &VolumeStatus, listeners: &[ListenerStatus]) -> ConnectInfo {
    let of = |kind| listeners.iter().filter(move |l| l.kind == kind);
    let mut commands = vec!["modprobe nvme-tcp".to_string()];
    commands.extend(of(NVME_TCP).flat_map(|at| nvme("tcp", at, &volume.nqn)));
    if of(NVME_RDMA).next().is_some() {
        commands.push("modprobe nvme-rdma".to_string());
    }
    commands.extend(of(NVME_RDMA).flat_map(|at| nvme("rdma", at, &volume.nqn)));
    if let Some(iqn) = &volume.iqn {
        for listener in of(ISCSI).filter_map(target) {
            let portal = portal(&listener);
            commands.push(format!("iscsiadm -m discovery -t sendtargets -p {portal}"));
            commands.push(format!("iscsiadm -m node -T {iqn} -p {portal} --login"));
        }
    }
    ConnectInfo {
        name: volume.name.clone(),
        nqn: volume.nqn.clone(),
        iqn: volume.iqn.clone(),
        commands,
    }
}

/// Discovery and connect lines of nvme-cli for one listener.
fn nvme(transport: &str, listener: &ListenerStatus, nqn: &str) -> Vec<String> {
    let lines = target(listener).map(|(address, port)| {
        let to = format!("-t {transport} -a {address} -s {port}");
        [
            format!("nvme discover {to}"),
            format!("nvme connect {to} -n {nqn}"),
        ]
    });
    lines.into_iter().flatten().collect()
}

fn target(listener: &ListenerStatus) -> Option<(String, u16)> {
    let address: SocketAddr = listener.address.parse().ok()?;
    let ip = match address.ip() {
        ip if ip.is_unspecified() => ANY.to_string(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    };
    Some((ip, address.port()))
}

/// Address and port in one, as open-iscsi takes them.
fn portal((address, port): &(String, u16)) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(kind: &str, address: &str) -> ListenerStatus {
        ListenerStatus {
            kind: kind.into(),
            address: address.into(),
        }
    }

    fn volume(iqn: Option<&str>) -> VolumeStatus {
        VolumeStatus {
            name: "demo".into(),
            pool: "main".into(),
            size_bytes: 0,
            block_bytes: 4096,
            mapped_bytes: 0,
            uuid: String::new(),
            nqn: "nqn.x:demo".into(),
            iqn: iqn.map(str::to_owned),
            iscsi_sessions: 0,
            volatile: false,
            core: 0,
            connections: Vec::new(),
            state: "live".into(),
            counters: None,
        }
    }

    #[test]
    fn lines_can_be_typed_as_they_are() {
        let listeners = [
            listener(NVME_TCP, "127.0.0.1:4420"),
            listener(ISCSI, "127.0.0.1:3260"),
            listener(ISCSI, "[2001:db8::1]:3261"),
        ];
        let nvme = [
            "nvme discover -t tcp -a 127.0.0.1 -s 4420",
            "nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.x:demo",
        ];
        assert_eq!(info(&volume(None), &listeners).commands[1..], nvme);
        let both = info(&volume(Some("iqn.x:demo")), &listeners);
        assert_eq!(both.commands[1..3], nvme);
        assert_eq!(
            both.commands[3..],
            [
                "iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3260",
                "iscsiadm -m node -T iqn.x:demo -p 127.0.0.1:3260 --login",
                "iscsiadm -m discovery -t sendtargets -p [2001:db8::1]:3261",
                "iscsiadm -m node -T iqn.x:demo -p [2001:db8::1]:3261 --login",
            ]
        );
    }

    #[test]
    fn each_transport_has_its_module_and_its_lines() {
        let listeners = [
            listener(NVME_TCP, "10.0.0.1:4420"),
            listener(NVME_RDMA, "10.0.0.1:4420"),
            listener(NVME_RDMA, "[2001:db8::1]:4421"),
        ];
        assert_eq!(
            info(&volume(None), &listeners).commands,
            [
                "modprobe nvme-tcp",
                "nvme discover -t tcp -a 10.0.0.1 -s 4420",
                "nvme connect -t tcp -a 10.0.0.1 -s 4420 -n nqn.x:demo",
                "modprobe nvme-rdma",
                "nvme discover -t rdma -a 10.0.0.1 -s 4420",
                "nvme connect -t rdma -a 10.0.0.1 -s 4420 -n nqn.x:demo",
                "nvme discover -t rdma -a 2001:db8::1 -s 4421",
                "nvme connect -t rdma -a 2001:db8::1 -s 4421 -n nqn.x:demo",
            ]
        );
    }

    #[test]
    fn a_wildcard_listener_never_leaks_as_an_address() {
        let listeners = [
            listener(NVME_TCP, "0.0.0.0:4420"),
            listener(NVME_TCP, "[::]:4421"),
            listener(NVME_RDMA, "0.0.0.0:4420"),
            listener(ISCSI, "0.0.0.0:3260"),
        ];
        let text = info(&volume(Some("iqn.x:demo")), &listeners)
            .commands
            .join("\n");
        assert!(!text.contains("0.0.0.0") && !text.contains("::"), "{text}");
        assert!(text.contains("-p ADDRESS-OF-THIS-MACHINE:3260"), "{text}");
    }
}
