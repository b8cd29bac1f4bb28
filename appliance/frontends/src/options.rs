//! Options of the target, with their limits; checked once, when the target is made.

use std::time::Duration;

use wire::fabrics::connect::ADMIN_QUEUE_ENTRIES;
use wire::text::check_nqn;

use crate::error::FrontendError;
use crate::nvmf::directory::Directory;
use crate::nvmf::placement::Placement;

/// Start of the qualified name of every subsystem; the volume's name follows.
pub const NQN_PREFIX: &str = "nqn.2026-11.io.bedplate:";

/// The qualified name under which hosts find the volume `name`.
pub fn volume_nqn(name: &str) -> String {
    format!("{NQN_PREFIX}{name}")
}

/// How the target behaves. Everything a host can make it hold is bounded by these.
#[derive(Clone)]
pub struct TargetOptions {
    /// I/O queues a controller may have, 1 to 1024.
    pub max_io_queues: u16,
    /// Entries of the largest queue (MQES + 1), 2 to 1024: as many commands may be in flight.
    pub max_queue_entries: u16,
    /// Most data of one command (MDTS), a power of two from 8 KiB (MDTS 0 would mean no limit) to
    /// 1 MiB.
    pub max_io_bytes: u32,
    /// Data an I/O command may carry in its capsule, up to 64 KiB; rounded down to a multiple of 16.
    pub in_capsule_bytes: u32,
    /// Largest payload of one H2CData PDU (MAXH2CDATA), 4 KiB to 1 MiB; rounded down to a
    /// multiple of 4.
    pub max_h2c_data_bytes: u32,
    /// Connections at the same time of all targets that share the directory, sockets that are being
    /// greeted included; more are closed at once.
    pub max_connections: usize,
    /// Connections that have not finished Connect; a newer one closes the oldest.
    pub max_unconnected: usize,
    /// Agree to header digests when the host offers them.
    pub header_digest: bool,
    /// Agree to data digests when the host offers them.
    pub data_digest: bool,
    /// How long a new connection may take until its Connect command completed.
    pub connect_timeout: Duration,
    /// How long a peer may take nothing while output waits, or owe data that it was asked for.
    pub stall_timeout: Duration,
    /// How long the socket stays open after a termination request, for the peer to read it.
    pub linger: Duration,
    /// Added to every keep alive timeout: covers scheduling and network jitter of the host.
    pub keep_alive_grace: Duration,
    /// Payload bytes that the commands of one connection hold at the same time, read or written.
    pub connection_data_bytes: usize,
    /// What NVMe/RDMA offers otherwise than NVMe/TCP.
    pub rdma: RdmaOptions,
    /// Where connections are served.
    pub placement: Placement,
    /// Shared by the targets of all cores: which subsystem lives where, the listeners, and how many
    /// connections there are.
    pub directory: Directory,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            max_io_queues: 64,
            max_queue_entries: 128,
            max_io_bytes: 1 << 20,
            in_capsule_bytes: 8 << 10,
            max_h2c_data_bytes: 256 << 10,
            max_connections: 1024,
            max_unconnected: 64,
            header_digest: true,
            data_digest: true,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            keep_alive_grace: Duration::from_secs(2),
            connection_data_bytes: 16 << 20,
            rdma: RdmaOptions::default(),
            placement: Placement::Spread,
            directory: Directory::new(),
        }
    }
}

/// What NVMe/RDMA offers; all other limits are those of [`TargetOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdmaOptions {
    /// Entries of the largest queue (MQES + 1), 32 to 1024: an admin queue has 32.
    pub max_queue_entries: u16,
    /// Data an I/O command may carry in its capsule, up to 16 KiB; rounded down to a multiple of 16.
    /// Each receive has a buffer of this size.
    pub in_capsule_bytes: u32,
    /// Receives that wait for the commands of all connections of a core, `max_queue_entries` to
    /// 32,768. A command that finds none is sent again by the host's network card.
    pub receive_entries: u32,
}

impl Default for RdmaOptions {
    fn default() -> Self {
        Self {
            max_queue_entries: 128,
            // Linux hosts from 5.4 to 5.12 corrupt some writes when they may send more.
            in_capsule_bytes: 4096,
            receive_entries: 1024,
        }
    }
}

impl RdmaOptions {
    /// Entries of the completion queue of a core that serves `connections` of the largest queue at
    /// once: each has room for everything that it may post, so that the queue never overflows.
    pub fn completion_entries(&self, connections: u32) -> u32 {
        let each = crate::nvme_rdma::send_entries(u32::from(self.max_queue_entries));
        self.receive_entries
            .saturating_add(connections.saturating_mul(each))
    }

    fn check(&self) -> Result<(), FrontendError> {
        let entries = u64::from(self.max_queue_entries);
        let least = u64::from(ADMIN_QUEUE_ENTRIES);
        within("rdma.max_queue_entries", entries, least, 1024)?;
        let in_capsule = u64::from(self.in_capsule_bytes);
        within("rdma.in_capsule_bytes", in_capsule, 0, 16 << 10)?;
        let receives = u64::from(self.receive_entries);
        within("rdma.receive_entries", receives, entries, 32_768)
    }
}

impl TargetOptions {
    /// Checks every limit. Errors name the option and what it may be.
    pub fn check(&self) -> Result<(), FrontendError> {
        within("max_io_queues", u64::from(self.max_io_queues), 1, 1024)?;
        within(
            "max_queue_entries",
            u64::from(self.max_queue_entries),
            u64::from(ADMIN_QUEUE_ENTRIES),
            1024,
        )?;
        within(
            "max_io_bytes",
            u64::from(self.max_io_bytes),
            4096,
            MAX_IO_BYTES,
        )?;
        if !self.max_io_bytes.is_power_of_two() {
            let value = u64::from(self.max_io_bytes);
            return Err(FrontendError::NotPowerOfTwo {
                option: "max_io_bytes",
                value,
            });
        }
        within(
            "in_capsule_bytes",
            u64::from(self.in_capsule_bytes),
            0,
            64 << 10,
        )?;
        within(
            "max_h2c_data_bytes",
            u64::from(self.max_h2c_data_bytes),
            4096,
            1 << 20,
        )?;
        within("max_connections", self.max_connections as u64, 1, 65_536)?;
        within("max_unconnected", self.max_unconnected as u64, 1, 65_536)?;
        let held = self.connection_data_bytes as u64;
        within(
            "connection_data_bytes",
            held,
            u64::from(self.max_io_bytes),
            1 << 40,
        )?;
        self.rdma.check()
    }

    /// `max_h2c_data_bytes` rounded down to the 4-byte step of the PDU field.
    pub(crate) fn maxh2cdata(&self) -> u32 {
        self.max_h2c_data_bytes & !3
    }

    /// `in_capsule_bytes` rounded down to the 16-byte step of IOCCSZ.
    pub(crate) fn in_capsule(&self) -> u32 {
        self.in_capsule_bytes & !15
    }
}

/// The engine takes no more in one request, see [`volume::MAX_REQUEST_BYTES`].
const MAX_IO_BYTES: u64 = volume::MAX_REQUEST_BYTES as u64;

pub(crate) fn within(
    option: &'static str,
    value: u64,
    lowest: u64,
    highest: u64,
) -> Result<(), FrontendError> {
    if (lowest..=highest).contains(&value) {
        return Ok(());
    }
    Err(FrontendError::OptionOutOfRange {
        option,
        value,
        lowest,
        highest,
    })
}

/// Which hosts may connect to a subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// Any host.
    #[default]
    Any,
    /// Hosts with one of these qualified names.
    Listed(Vec<String>),
}

impl HostAccess {
    /// True when the host with this qualified name may connect.
    pub fn allows(&self, host_nqn: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(names) => names.iter().any(|name| name == host_nqn),
        }
    }
}

/// How one volume is offered to hosts.
#[derive(Clone, Debug, Default)]
pub struct SubsystemOptions {
    /// Who may connect. An empty list refuses everybody.
    pub hosts: HostAccess,
}

impl SubsystemOptions {
    /// Checks the names in the allow-list.
    pub fn check(&self) -> Result<(), FrontendError> {
        let HostAccess::Listed(names) = &self.hosts else {
            return Ok(());
        };
        for nqn in names {
            check_nqn(nqn).map_err(|problem| FrontendError::BadNqn {
                nqn: nqn.clone(),
                problem,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_options_are_good() {
        assert!(TargetOptions::default().check().is_ok());
    }

    #[test]
    fn options_outside_their_limits_are_named() {
        type Change = fn(&mut TargetOptions);
        let table: [(&str, Change); 12] = [
            ("max_io_queues", |options| options.max_io_queues = 0),
            ("max_queue_entries", |options| {
                options.max_queue_entries = 1025
            }),
            ("max_queue_entries", |options| {
                options.max_queue_entries = 31
            }),
            ("max_io_bytes", |options| options.max_io_bytes = 2 << 20),
            ("max_io_bytes", |options| options.max_io_bytes = 100_000),
            ("in_capsule_bytes", |options| {
                options.in_capsule_bytes = 65_537
            }),
            ("max_h2c_data_bytes", |options| {
                options.max_h2c_data_bytes = 4095
            }),
            ("max_connections", |options| options.max_connections = 0),
            ("connection_data_bytes", |options| {
                options.connection_data_bytes = 4096
            }),
            ("rdma.max_queue_entries", |options| {
                options.rdma.max_queue_entries = 31
            }),
            ("rdma.in_capsule_bytes", |options| {
                options.rdma.in_capsule_bytes = 16_385
            }),
            ("rdma.receive_entries", |options| {
                options.rdma.receive_entries = 127
            }),
        ];
        for (name, change) in table {
            let mut options = TargetOptions::default();
            change(&mut options);
            let message = options.check().expect_err(name).to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn names_in_an_allow_list_are_checked() {
        let options = SubsystemOptions {
            hosts: HostAccess::Listed(vec!["not a name".to_owned()]),
        };
        assert!(matches!(options.check(), Err(FrontendError::BadNqn { .. })));
        let friend = "nqn.2014-08.org.example:friend";
        let listed = HostAccess::Listed(vec![friend.to_owned()]);
        assert!(listed.allows(friend));
        assert!(!listed.allows("nqn.2014-08.org.example:other"));
        assert!(
            !HostAccess::Listed(Vec::new()).allows(friend),
            "an empty list is nobody"
        );
        assert!(HostAccess::Any.allows(friend));
    }
}
