//! The configuration as the rest of the program sees it: complete and checked.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::limits;
use crate::{ByteSize, HostName, Name, Timespan};

/// Everything one appliance is told at start. Serializes to the TOML it can be read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[reactor]`: cores, polling and memory of the data path.
    pub reactor: ReactorConfig,
    /// `[[pool]]`, in file order; at least one. Names and paths differ.
    #[serde(rename = "pool")]
    pub pools: Vec<PoolConfig>,
    /// `[[volume]]`, in file order; names differ over all pools. May be empty.
    #[serde(rename = "volume")]
    pub volumes: Vec<VolumeConfig>,
    /// `[nvme_tcp]`: the NVMe/TCP listener and what it offers to hosts.
    pub nvme_tcp: NvmeTcpConfig,
    /// `[nvme_rdma]`: the NVMe/RDMA listener and what it offers to hosts. None: there is no NVMe/RDMA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvme_rdma: Option<NvmeRdmaConfig>,
    /// `[iscsi]`: the iSCSI listener and what it offers to hosts. None: there is no iSCSI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<IscsiConfig>,
    /// `[control]`: the management socket.
    pub control: ControlConfig,
    /// `[metrics]`: the HTTP listener for Prometheus.
    pub metrics: MetricsConfig,
    /// `[log]`: what is logged and how it looks.
    pub log: LogConfig,
}

/// `[reactor]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReactorConfig {
    /// Core numbers, one reactor each, all different. `None`: all but one of the cores that the
    /// process may use. Whether the process may use these is for the reactor to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<u32>>,
    /// How long a reactor without work polls before it parks.
    pub spin: Spin,
    /// I/O buffer arena of each core, a multiple of 2 MiB.
    pub memory: ByteSize,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        Self {
            cores: None,
            spin: Spin::For(limits::SPIN_DEFAULT),
            memory: limits::MEMORY_DEFAULT,
        }
    }
}

/// How long a reactor without work polls before it parks in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// This long; zero parks at once.
    For(Timespan),
    /// Never park: a whole core per reactor for the lowest latency.
    Always,
}

impl fmt::Display for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => span.fmt(f),
            Self::Always => f.write_str("always"),
        }
    }
}

/// `[[pool]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolConfig {
    /// What volumes call it.
    pub name: Name,
    /// Where its bytes are.
    #[serde(flatten)]
    pub place: PoolPlace,
    /// Journal ring of each volume that does not set its own. Multiple of 1 MiB.
    pub journal: ByteSize,
    /// Memory for map pages, shared by the volumes of the pool. Multiple of 1 MiB.
    pub map_cache: ByteSize,
}

impl PoolConfig {
    /// Whether what is written to it is gone when the server ends.
    pub fn is_volatile(&self) -> bool {
        matches!(self.place, PoolPlace::Memory { .. })
    }
}

/// Where a pool's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PoolPlace {
    /// In a file or on a block device.
    Path {
        /// The file or device. Relative paths start at the server's working directory.
        path: PathBuf,
        /// Size of a file that has to be made; a block device brings its own. Multiple of 1 MiB.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<ByteSize>,
    },
    /// In the memory of the server: for measurements, it keeps nothing.
    Memory {
        /// Its size. Multiple of 1 MiB.
        memory: ByteSize,
    },
}

impl PoolPlace {
    /// The file or device; none for memory.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path { path, .. } => Some(path),
            Self::Memory { .. } => None,
        }
    }

    /// How large the configuration says it is; none when the file or device says it.
    pub fn size(&self) -> Option<ByteSize> {
        match self {
            Self::Path { size, .. } => *size,
            Self::Memory { memory } => Some(*memory),
        }
    }
}

/// The path, or "memory".
impl fmt::Display for PoolPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, .. } => path.display().fmt(f),
            Self::Memory { .. } => f.write_str("memory"),
        }
    }
}

/// `[[volume]]`: made when missing, never resized or deleted from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeConfig {
    /// Ends the volume's NQN.
    pub name: Name,
    /// The pool that holds it; one of [`Config::pools`].
    pub pool: Name,
    /// Size that hosts see; space is taken from the pool when it is written. Multiple of 4 KiB.
    pub size: ByteSize,
    /// Logical block that hosts see.
    pub block_size: BlockSize,
    /// Which hosts may connect.
    #[serde(skip_serializing_if = "AllowHosts::is_any")]
    pub allow_hosts: AllowHosts,
    /// Journal ring: the volume's own setting, else that of its pool.
    pub journal: ByteSize,
}

/// Logical block sizes a volume can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes, for hosts that know nothing else.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    /// The block size in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// The block size with this many bytes, if there is one.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }
}

/// Which hosts may connect to a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AllowHosts {
    /// Every host that reaches the listener.
    Any,
    /// These hosts; never empty.
    Only(Vec<HostName>),
}

impl AllowHosts {
    /// Whether every host may connect.
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// Whether a host that presents this name may connect. Compares byte for byte.
    pub fn admits(&self, host_name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(hosts) => hosts.iter().any(|host| host.as_str() == host_name),
        }
    }
}

/// `[nvme_tcp]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NvmeTcpConfig {
    /// Addresses to listen on; at least one, no two claim the same address and port.
    pub listen: Vec<SocketAddr>,
    /// I/O queues one controller grants, the admin queue not counted.
    pub max_queues: u16,
    /// Entries of each I/O queue.
    pub queue_depth: u16,
    /// Largest transfer of one command; a power of two, shown to hosts as MDTS.
    pub max_io: ByteSize,
    /// Write data a host may send inside the command capsule; multiple of 4 KiB.
    pub in_capsule: ByteSize,
    /// TCP connections of all hosts together; more than `max_queues`.
    pub max_connections: u32,
    /// Which core serves a connection.
    pub placement: Placement,
}

/// Which core serves a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The home core of its volume, and another one while that is busy.
    #[default]
    Spread,
    /// Always the home core of its volume.
    Home,
}

impl Default for NvmeTcpConfig {
    fn default() -> Self {
        Self {
            listen: vec![limits::NVME_TCP_LISTEN_DEFAULT],
            max_queues: limits::QUEUES_DEFAULT as u16,
            queue_depth: limits::QUEUE_DEPTH_DEFAULT as u16,
            max_io: limits::MAX_IO_DEFAULT,
            in_capsule: limits::IN_CAPSULE_DEFAULT,
            max_connections: limits::CONNECTIONS_DEFAULT as u32,
            placement: Placement::Spread,
        }
    }
}

/// `[nvme_rdma]`. What it does not say holds as for NVMe/TCP: I/O queues of a controller, largest
/// transfer, connections of all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NvmeRdmaConfig {
    /// Addresses to listen on, at least one; ports are apart from those of TCP.
    pub listen: Vec<SocketAddr>,
    /// Entries of each I/O queue.
    pub queue_depth: u16,
    /// Write data a host may send inside the command capsule; multiple of 4 KiB.
    pub in_capsule: ByteSize,
    /// Receives of each core, which all its connections share; at least `queue_depth`.
    pub receive_entries: u32,
}

impl NvmeRdmaConfig {
    /// Memory that the receives of one core take.
    pub fn receive_bytes(&self) -> ByteSize {
        // No overflow: at most 32,768 receives of little more than 16 KiB.
        let each = self.in_capsule.bytes() + limits::COMMAND_BYTES;
        ByteSize::from_bytes(u64::from(self.receive_entries) * each)
    }
}

/// `[iscsi]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IscsiConfig {
    /// Addresses to listen on, at least one; each is a target portal group of its own, numbered
    /// from 1.
    pub listen: Vec<SocketAddr>,
    /// Commands that a session may have in flight.
    pub queue_depth: u16,
    /// TCP connections of all hosts together.
    pub max_connections: u32,
    /// File of CHAP secrets, see [`crate::ChapSecrets`]. None: hosts need not say who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlConfig {
    /// Unix socket of the management API; at most 107 bytes, the kernel's limit.
    pub socket: PathBuf,
    /// Permission bits of the socket file.
    pub mode: SocketMode,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(limits::CONTROL_SOCKET_DEFAULT),
            mode: SocketMode(limits::CONTROL_MODE_DEFAULT),
        }
    }
}

/// Permission bits of the control socket: the owner, and the group if wanted. Never others, since
/// whoever opens the socket may delete volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// The bits as given to chmod.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Reads "0600" or "0660".
    pub fn from_octal(text: &str) -> Option<Self> {
        match text {
            "0600" | "600" => Some(Self(0o600)),
            "0660" | "660" => Some(Self(0o660)),
            _ => None,
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetricsConfig {
    /// Address of the HTTP listener; `None`: no listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// The least important messages that are kept.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Importance of a log message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something works less well than it should.
    Warn,
    /// What an operator wants to see: start, stop, hosts coming and going.
    #[default]
    Info,
    /// What a developer wants to see.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

impl Serialize for Spin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for BlockSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.bytes())
    }
}
