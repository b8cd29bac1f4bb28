//! The lines that attach a volume to a Linux host.

use std::net::{IpAddr, SocketAddr};

use control::model::{ConnectInfo, ListenerStatus};

/// Stands for an address of this machine that the host can reach.
const ANY: &str = "ADDRESS-OF-THIS-MACHINE";

/// Discovery and connect lines for one volume, for every listener.
pub fn info(name: &str, nqn: &str, listeners: &[ListenerStatus]) -> ConnectInfo {
    let mut commands = vec!["modprobe nvme-tcp".to_string()];
    for (address, port) in listeners.iter().filter_map(target) {
        commands.push(format!("nvme discover -t tcp -a {address} -s {port}"));
        commands.push(format!(
            "nvme connect -t tcp -a {address} -s {port} -n {nqn}"
        ));
    }
    ConnectInfo {
        name: name.into(),
        nqn: nqn.into(),
        commands,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> ListenerStatus {
        ListenerStatus {
            kind: "nvme-tcp".into(),
            address: address.into(),
        }
    }

    #[test]
    fn lines_can_be_typed_as_they_are() {
        let info = info("demo", "nqn.x:demo", &[listener("127.0.0.1:4420")]);
        assert_eq!(
            info.commands[1..],
            [
                "nvme discover -t tcp -a 127.0.0.1 -s 4420",
                "nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.x:demo"
            ]
        );
    }

    #[test]
    fn a_wildcard_listener_never_leaks_as_an_address() {
        let info = info(
            "demo",
            "n",
            &[listener("0.0.0.0:4420"), listener("[::]:4421")],
        );
        let text = info.commands.join("\n");
        assert!(!text.contains("0.0.0.0") && !text.contains("::"), "{text}");
    }
}
