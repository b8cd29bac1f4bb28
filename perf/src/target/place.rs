//! A target as it is named on the command line.

use std::net::SocketAddr;

use crate::cli;
use crate::error::PerfError;

/// How the name of an iSCSI target begins.
const ISCSI: &str = "iscsi://";
/// How the name of an NVMe/RDMA target begins.
const RDMA: &str = "rdma://";

/// Where a target is, and which one it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// HOST:PORT or HOST:PORT/NQN.
    Nvme {
        /// Where.
        address: SocketAddr,
        /// Subsystem; none: the only one that discovery lists.
        nqn: Option<String>,
    },
    /// iscsi://HOST[:PORT][/IQN[/LUN]].
    Iscsi {
        /// Where.
        address: SocketAddr,
        /// Target; none: the only one that discovery lists.
        iqn: Option<String>,
        /// Logical unit.
        lun: u16,
    },
    /// rdma://HOST[:PORT][/NQN].
    Rdma {
        /// Where: an address that an RDMA device serves.
        address: SocketAddr,
        /// Subsystem; none: the only one that discovery lists.
        nqn: Option<String>,
    },
}

impl Place {
    /// Parses what was given for `option`.
    ///
    /// Errors: `Option`.
    pub fn new(option: &'static str, text: &str) -> Result<Self, PerfError> {
        let bad = |problem: String| PerfError::option(option, text, problem);
        if let Some(rest) = text.strip_prefix(ISCSI) {
            return Self::iscsi(rest).map_err(bad);
        }
        if let Some(rest) = text.strip_prefix(RDMA) {
            return Self::rdma(rest).map_err(bad);
        }
        let (address, nqn) = match text.split_once('/') {
            Some((address, nqn)) => (address, Some(nqn.to_owned())),
            None => (text, None),
        };
        let address = cli::resolve(address).map_err(bad)?;
        Ok(Self::Nvme { address, nqn })
    }

    fn iscsi(rest: &str) -> Result<Self, String> {
        let mut parts = rest.splitn(3, '/');
        let host = parts.next().unwrap_or_default();
        let iqn = parts.next().filter(|iqn| !iqn.is_empty());
        let lun = match parts.next() {
            None => 0,
            // The flat form of a unit number has 14 bits.
            Some(text) => text
                .parse()
                .ok()
                .filter(|lun| *lun < 1 << 14)
                .ok_or_else(|| format!("the unit {text} is none of 0 to 16383"))?,
        };
        Ok(Self::Iscsi {
            address: resolve(host, wire::iscsi::PORT)?,
            iqn: iqn.map(str::to_owned),
            lun,
        })
    }

    fn rdma(rest: &str) -> Result<Self, String> {
        let (host, nqn) = rest.split_once('/').unwrap_or((rest, ""));
        let nqn = Some(nqn.to_owned()).filter(|nqn| !nqn.is_empty());
        let address = resolve(host, wire::rdma::PORT)?;
        Ok(Self::Rdma { address, nqn })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Nvme { address, .. }
            | Self::Iscsi { address, .. }
            | Self::Rdma { address, .. } => *address,
        }
    }

    /// Whether it is a target of iSCSI.
    pub fn is_iscsi(&self) -> bool {
        matches!(self, Self::Iscsi { .. })
    }
}

/// Resolves HOST or HOST:PORT.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    // The port is what follows the brackets of an IPv6 address, or the only colon.
    let has_port = match host.rsplit_once(']') {
        Some((_, rest)) => rest.starts_with(':'),
        None => host.contains(':'),
    };
    if has_port {
        return cli::resolve(host);
    }
    cli::resolve(&format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iscsi(address: &str, iqn: Option<&str>, lun: u16) -> Place {
        Place::Iscsi {
            address: address.parse().unwrap(),
            iqn: iqn.map(str::to_owned),
            lun,
        }
    }

    fn rdma(address: &str, nqn: Option<&str>) -> Place {
        Place::Rdma {
            address: address.parse().unwrap(),
            nqn: nqn.map(str::to_owned),
        }
    }

    #[test]
    fn every_form_is_read() {
        let iqn = "iqn.2026-11.io.bedplate:demo";
        let full = format!("iscsi://127.0.0.1:3261/{iqn}/7");
        for (text, place) in [
            (full.as_str(), iscsi("127.0.0.1:3261", Some(iqn), 7)),
            ("iscsi://127.0.0.1", iscsi("127.0.0.1:3260", None, 0)),
            ("iscsi://[::1]", iscsi("[::1]:3260", None, 0)),
            ("iscsi://[::1]:9//3", iscsi("[::1]:9", None, 3)),
            ("rdma://127.0.0.1", rdma("127.0.0.1:4420", None)),
            ("rdma://[::1]:9/", rdma("[::1]:9", None)),
            ("rdma://[::1]/nqn.x", rdma("[::1]:4420", Some("nqn.x"))),
            (
                "127.0.0.1:4420/nqn.x",
                Place::Nvme {
                    address: "127.0.0.1:4420".parse().unwrap(),
                    nqn: Some("nqn.x".to_owned()),
                },
            ),
        ] {
            assert_eq!(Place::new("--connect", text).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn a_unit_that_cannot_be_is_refused() {
        for lun in ["16384", "-1", "a", ""] {
            let text = format!("iscsi://127.0.0.1/iqn.x/{lun}");
            assert!(Place::new("--connect", &text).is_err(), "{text}");
        }
    }
}
