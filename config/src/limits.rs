//! Every bound and default of the configuration, in one place.
//!
//! docs/configuration.md says the same in a table; a test compares the two.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{ByteSize, Timespan};

/// Largest configuration file that is read. A full-size appliance needs a few hundred lines.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest name of a pool or a volume.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest NVMe Qualified Name. Source: NVMe base 2.0 section 4.5.
pub const NQN_BYTES_MAX: usize = 223;
/// Longest iSCSI name. Source: RFC 7143 section 4.2.7.1.
pub const ISCSI_NAME_BYTES_MAX: usize = 223;

/// Highest core number the kernel's fixed-size affinity mask can name.
pub const CORE_ID_MAX: u64 = 1023;
/// Spin time of an idle reactor before it parks.
pub const SPIN_DEFAULT: Timespan = Timespan::from_micros(50);
/// Above this, spinning is meant to last: that is written "always".
pub const SPIN_MAX: Timespan = Timespan::from_secs(1);

/// I/O buffer arena of one core.
pub const MEMORY_DEFAULT: ByteSize = ByteSize::mib(256);
/// Smallest arena that holds several of the largest commands at once.
pub const MEMORY_MIN: ByteSize = ByteSize::mib(32);
/// Largest arena of one core.
pub const MEMORY_MAX: ByteSize = ByteSize::gib(64);
/// The arena is made of whole huge pages where the machine has them.
pub const MEMORY_UNIT: ByteSize = ByteSize::mib(2);

/// Pools in one appliance.
pub const POOL_COUNT_MAX: usize = 64;
/// Smallest pool: room for its own metadata and the smallest journal.
pub const POOL_SIZE_MIN: ByteSize = ByteSize::mib(64);
/// Largest pool, and so the largest volume, that the on-disk format addresses.
pub const POOL_SIZE_MAX: ByteSize = ByteSize::tib(256);
/// Pools are made of whole mebibytes.
pub const POOL_SIZE_UNIT: ByteSize = ByteSize::mib(1);

/// Largest pool in memory. What the machine has is found out at start.
pub const POOL_MEMORY_MAX: ByteSize = ByteSize::tib(1);

/// Journal ring of a volume.
pub const JOURNAL_DEFAULT: ByteSize = ByteSize::mib(64);
/// Smallest journal ring: several of the largest commands.
pub const JOURNAL_MIN: ByteSize = ByteSize::mib(16);
/// Largest journal ring: it bounds how long recovery takes.
pub const JOURNAL_MAX: ByteSize = ByteSize::gib(4);
/// Journal rings are made of whole mebibytes.
pub const JOURNAL_UNIT: ByteSize = ByteSize::mib(1);

/// Memory for map pages of a pool.
pub const MAP_CACHE_DEFAULT: ByteSize = ByteSize::mib(64);
/// Smallest map cache.
pub const MAP_CACHE_MIN: ByteSize = ByteSize::mib(1);
/// Largest map cache: the whole map of the largest pool fits many times over.
pub const MAP_CACHE_MAX: ByteSize = ByteSize::gib(256);
/// Map caches are made of whole mebibytes.
pub const MAP_CACHE_UNIT: ByteSize = ByteSize::mib(1);

/// Volumes named in one configuration file.
pub const VOLUME_COUNT_MAX: usize = 1024;
/// Smallest volume.
pub const VOLUME_SIZE_MIN: ByteSize = ByteSize::mib(1);
/// Largest volume that the on-disk format addresses.
pub const VOLUME_SIZE_MAX: ByteSize = ByteSize::tib(256);
/// The map and the journal work in pages of 4 KiB, whatever block size hosts see.
pub const VOLUME_SIZE_UNIT: ByteSize = ByteSize::kib(4);
/// Hosts named in one allow-list.
pub const ALLOW_HOSTS_MAX: usize = 1024;

/// Where hosts connect when nothing is said: this machine only.
pub const NVME_TCP_LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4420);
/// Addresses of one kind of listener.
pub const LISTEN_COUNT_MAX: usize = 64;
/// I/O queues one host connection may ask for.
pub const QUEUES_DEFAULT: u64 = 64;
/// Most I/O queues of one controller.
pub const QUEUES_MAX: u64 = 1024;
/// Entries of one I/O queue.
pub const QUEUE_DEPTH_DEFAULT: u64 = 256;
/// Hosts ask for an admin queue of this many, and it has the same limit. Source: NVMe base 2.0,
/// ASQSZ in the Discovery Log Page.
pub const QUEUE_DEPTH_MIN: u64 = 32;
/// Most entries of one I/O queue.
pub const QUEUE_DEPTH_MAX: u64 = 1024;
/// Largest transfer of one command.
pub const MAX_IO_DEFAULT: ByteSize = ByteSize::mib(1);
/// Smallest setting of the largest transfer.
pub const MAX_IO_MIN: ByteSize = ByteSize::kib(128);
/// Largest setting of the largest transfer: what the volume engine takes in one request.
pub const MAX_IO_MAX: ByteSize = ByteSize::mib(1);
/// Write data that may travel inside the command capsule.
pub const IN_CAPSULE_DEFAULT: ByteSize = ByteSize::kib(8);
/// Smallest in-capsule data: one page.
pub const IN_CAPSULE_MIN: ByteSize = ByteSize::kib(4);
/// Largest in-capsule data.
pub const IN_CAPSULE_MAX: ByteSize = ByteSize::kib(64);
/// In-capsule data is made of whole pages.
pub const IN_CAPSULE_UNIT: ByteSize = ByteSize::kib(4);
/// TCP connections of all hosts together.
pub const CONNECTIONS_DEFAULT: u64 = 1024;
/// One admin queue and one I/O queue.
pub const CONNECTIONS_MIN: u64 = 2;
/// Most TCP connections of all hosts together.
pub const CONNECTIONS_MAX: u64 = 65536;

/// Entries of one I/O queue over RDMA: what a Linux host asks for when it is told nothing.
pub const RDMA_QUEUE_DEPTH_DEFAULT: u64 = 128;
/// Write data in a capsule over RDMA. Not more by default: Linux hosts from 5.4 to 5.12 can corrupt
/// writes whose length is no multiple of 4 KiB when they may send more than that in the capsule.
pub const RDMA_IN_CAPSULE_DEFAULT: ByteSize = ByteSize::kib(4);
/// Largest in-capsule data over RDMA. Every receive has a buffer of that size, used or not, and
/// Linux hosts send at most four pages.
pub const RDMA_IN_CAPSULE_MAX: ByteSize = ByteSize::kib(16);
/// Size of a command. Source: NVMe base 2.0 section 3.3.3.1.
pub const COMMAND_BYTES: u64 = 64;
/// Receives that one core has for all its connections.
pub const RECEIVE_ENTRIES_DEFAULT: u64 = 1024;
/// Fewest receives of a core: the admin queue of one host.
pub const RECEIVE_ENTRIES_MIN: u64 = 32;
/// Most receives of a core; common cards take this many in one shared queue.
pub const RECEIVE_ENTRIES_MAX: u64 = 32_768;

/// Commands that an iSCSI session may have in flight.
pub const ISCSI_QUEUE_DEPTH_DEFAULT: u64 = 128;
/// Fewest commands that an iSCSI session may have in flight.
pub const ISCSI_QUEUE_DEPTH_MIN: u64 = 2;
/// Most commands that an iSCSI session may have in flight.
pub const ISCSI_QUEUE_DEPTH_MAX: u64 = 512;
/// Largest file of CHAP secrets that is read.
pub const SECRETS_BYTES_MAX: u64 = 1 << 20;
/// Shortest CHAP secret: 96 bits. Source: RFC 7143 section 9.2.1.
pub const SECRET_BYTES_MIN: usize = 12;
/// Longest CHAP secret and user name.
pub const SECRET_BYTES_MAX: usize = 255;
/// Most initiators with a secret.
pub const SECRETS_MAX: usize = 4096;

/// Control socket when nothing is said; the command line looks for the server here.
pub const CONTROL_SOCKET_DEFAULT: &str = "var/bedplate.sock";
/// Longest path of a Unix socket: the kernel's 108 bytes less the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest path of a file. Source: PATH_MAX less the final zero.
pub const PATH_BYTES_MAX: usize = 4095;
/// Permission bits of the control socket when nothing is said: its owner only.
pub const CONTROL_MODE_DEFAULT: u32 = 0o600;

// Eight of the largest commands always fit into the smallest arena and into the smallest journal
// at least twice; capsule data never exceeds one command; one default host fits its connections.
const _: () = assert!(MEMORY_MIN.bytes() >= 8 * MAX_IO_MAX.bytes());
const _: () = assert!(JOURNAL_MIN.bytes() >= 2 * MAX_IO_MAX.bytes());
const _: () = assert!(IN_CAPSULE_MAX.bytes() <= MAX_IO_MIN.bytes());
const _: () = assert!(QUEUES_DEFAULT < CONNECTIONS_DEFAULT);
// The receives that nobody set leave room in the smallest arena, and serve the deepest queue.
const _: () = assert!(
    RECEIVE_ENTRIES_DEFAULT * (RDMA_IN_CAPSULE_DEFAULT.bytes() + COMMAND_BYTES)
        <= MEMORY_MIN.bytes() / 2
);
const _: () = assert!(RECEIVE_ENTRIES_DEFAULT >= QUEUE_DEPTH_MAX);
const _: () = assert!(JOURNAL_DEFAULT.bytes() <= JOURNAL_MAX.bytes());
const _: () = assert!(POOL_SIZE_MIN.bytes() > JOURNAL_MIN.bytes());
