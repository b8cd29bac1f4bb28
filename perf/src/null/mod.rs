//! `bedplate-perf null`: a target that keeps nothing.
//!
//! It answers every read with the same bytes and drops every write, so what a run against it
//! shows is the client, the protocol and the kernel's TCP, and nothing else: the ceiling of a
//! comparison on this machine, and something to try options on. It serves whoever connects and
//! is not for anything but measurement.

mod admin;
mod connection;
mod iscsi;
mod rdma;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cli::{self, NullArgs};
use crate::error::PerfError;
use connection::Connection;

/// Turns between two looks for new connections, and at admin queues.
const QUIET_TURNS: u32 = 64;
/// Empty turns before the loop sleeps: an idle null target must not eat a core.
const EMPTY_TURNS_MAX: u32 = 200_000;
/// Sleep of an idle loop.
const SLEEP: Duration = Duration::from_millis(1);
/// Most connections at once.
const CONNECTIONS_MAX: usize = 1024;

/// Most bytes of one command: what reads are answered from.
const IO_BYTES_MAX: usize = 16 << 20;

/// What every read is answered with.
fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || (0..IO_BYTES_MAX as u32 / 4).flat_map(u32::to_le_bytes);
    CONTENT.get_or_init(|| make().collect())
}

/// What the null target pretends to be.
#[derive(Clone, Copy, Debug)]
pub struct Disguise {
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// In-capsule data of I/O queues, or FirstBurstLength, in bytes.
    pub capsule_bytes: u32,
    /// MAXH2CDATA or MaxRecvDataSegmentLength in bytes.
    pub max_h2c_bytes: u32,
    /// Address, for the discovery log.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What the null target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA.
    Rdma,
    /// iSCSI.
    Iscsi,
}

impl Protocol {
    fn of(args: &NullArgs) -> Self {
        match (args.iscsi, args.rdma) {
            (true, _) => Self::Iscsi,
            (_, true) => Self::Rdma,
            _ => Self::Tcp,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "nvme-tcp",
            Self::Rdma => "nvme-rdma",
            Self::Iscsi => "iscsi",
        }
    }
}

/// A connection of either protocol.
#[derive(Debug)]
enum Peer {
    Nvme(Connection),
    Iscsi(iscsi::Connection),
}

impl Peer {
    fn new(socket: TcpStream, disguise: Disguise) -> Result<Self, PerfError> {
        let prepared = socket
            .set_nonblocking(true)
            .and_then(|()| socket.set_nodelay(true));
        prepared.map_err(|source| PerfError::Socket {
            doing: "accepting",
            source,
        })?;
        Ok(if disguise.protocol == Protocol::Iscsi {
            Self::Iscsi(iscsi::Connection::new(socket, disguise))
        } else {
            Self::Nvme(Connection::new(socket, disguise))
        })
    }

    fn is_quiet(&self) -> bool {
        match self {
            Self::Nvme(connection) => connection.is_quiet(),
            Self::Iscsi(connection) => connection.is_quiet(),
        }
    }

    fn turn(&mut self) -> Result<bool, PerfError> {
        match self {
            Self::Nvme(connection) => connection.turn(),
            Self::Iscsi(connection) => connection.turn(),
        }
    }
}

/// Serves until the time is over, or for ever. Prints one `ready:` line with the address.
///
/// Errors: `Option` for a disguise that cannot be, `System` when the port cannot be had.
pub fn run(args: &NullArgs) -> Result<(), PerfError> {
    let address = cli::resolve(&args.listen)
        .map_err(|problem| PerfError::option("--listen", &args.listen, problem))?;
    let disguise = disguise(args, address)?;
    if disguise.protocol == Protocol::Rdma {
        return rdma::run(args, disguise);
    }
    if let Some(core) = args.core {
        crate::worker::pin(core)?;
    }
    let system = |doing| move |source| PerfError::System { doing, source };
    let listener = TcpListener::bind(address).map_err(system("listening"))?;
    listener
        .set_nonblocking(true)
        .map_err(system("listening"))?;
    let local = listener.local_addr().map_err(system("listening"))?;
    let disguise = Disguise {
        address: local,
        ..disguise
    };
    // Made before anybody comes: it takes a while.
    content();
    disguise.announce();
    let deadline = args.time.map(|time| Instant::now() + time);
    serve(&listener, disguise, deadline)
}

impl Disguise {
    /// Says that it can be connected to.
    fn announce(&self) {
        let (protocol, address) = (self.protocol.name(), self.address);
        println!("ready: {protocol} {address} (null target: keeps nothing)");
    }
}

fn disguise(args: &NullArgs, address: SocketAddr) -> Result<Disguise, PerfError> {
    let block_bytes = u32::try_from(args.block_size).unwrap_or(0);
    if !block_bytes.is_power_of_two() || !(512..=65_536).contains(&block_bytes) {
        let problem = "must be a power of two from 512 to 65,536";
        return Err(PerfError::option("--block-size", args.block_size, problem));
    }
    let small = |option, bytes: u64| {
        let fits = u32::try_from(bytes).ok().filter(|b| b.is_multiple_of(4096));
        fits.filter(|bytes| *bytes <= 16 << 20)
            .ok_or_else(|| PerfError::option(option, bytes, "must be 4k steps up to 16M"))
    };
    Ok(Disguise {
        block_bytes,
        blocks: args.size / u64::from(block_bytes),
        capsule_bytes: small("--in-capsule", args.in_capsule)?,
        max_h2c_bytes: small("--max-h2c", args.max_h2c)?,
        address,
        protocol: Protocol::of(args),
    })
}

fn serve(
    listener: &TcpListener,
    disguise: Disguise,
    deadline: Option<Instant>,
) -> Result<(), PerfError> {
    let mut connections: Vec<Peer> = Vec::new();
    let (mut turn, mut empty_turns) = (0u32, 0u32);
    loop {
        turn = turn.wrapping_add(1);
        let all = turn.is_multiple_of(QUIET_TURNS);
        let mut worked = all && accept(listener, disguise, &mut connections)?;
        connections.retain_mut(|connection| {
            if connection.is_quiet() && !all {
                return true;
            }
            let kept = turn_or_drop(connection);
            worked |= kept == Some(true);
            kept.is_some()
        });
        empty_turns = if worked {
            0
        } else {
            empty_turns.saturating_add(1)
        };
        if all && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(());
        }
        if empty_turns > EMPTY_TURNS_MAX || connections.is_empty() {
            std::thread::sleep(SLEEP);
        }
    }
}

/// Whether something came; `None` when the connection is to be dropped.
fn turn_or_drop(connection: &mut Peer) -> Option<bool> {
    match connection.turn() {
        Ok(worked) => Some(worked),
        Err(PerfError::Closed { .. }) => None,
        Err(error) => {
            eprintln!("bedplate-perf null: connection dropped: {error}");
            None
        }
    }
}

fn accept(
    listener: &TcpListener,
    disguise: Disguise,
    connections: &mut Vec<Peer>,
) -> Result<bool, PerfError> {
    match listener.accept() {
        Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
            connections.push(Peer::new(socket, disguise)?);
            Ok(true)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(source) => Err(PerfError::System {
            doing: "accepting",
            source,
        }),
    }
}
