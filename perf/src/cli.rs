//! The command line.

use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::card::CardKind;
use crate::units;

/// Load generator for NVMe/TCP, NVMe/RDMA and iSCSI targets: no kernel initiator, any target.
#[derive(Debug, Parser)]
#[command(name = "bedplate-perf", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put load on one namespace or unit and report throughput and latency.
    Run(Box<RunArgs>),
    /// Compare two running targets in alternating rounds; prints ratios with their spread.
    Compare(Box<CompareArgs>),
    /// Does a target reach what floor.toml asks for? Exit code 4 when it falls short.
    Floor(Box<FloorArgs>),
    /// Be a target that keeps nothing: shows what client, protocol and TCP can do at most.
    Null(NullArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs; the schema is in perf/README.md.
    Json,
}

/// What commands do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadWrite {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Random reads.
    Randread,
    /// Random writes.
    Randwrite,
    /// Random reads and writes, shared out by --read-percent.
    Mix,
}

/// What a load thread does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Look again at once: the true latency, one core in full use per thread.
    Spin,
    /// Sleep until the socket has something: kind to a shared machine, adds a wake-up.
    Poll,
}

/// Which namespace or unit, and how to reach it.
#[derive(Args, Clone, Debug)]
pub struct ConnectArgs {
    /// This host's qualified name. NVMe.
    #[arg(long, default_value = "nqn.2026-11.io.bedplate.perf:host")]
    pub hostnqn: String,
    /// This initiator's name. iSCSI.
    #[arg(
        long,
        value_name = "IQN",
        default_value = "iqn.2026-11.io.bedplate.perf:host"
    )]
    pub initiator: String,
    /// Namespace. NVMe.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub nsid: u32,
    /// Protect PDU headers with CRC32C.
    #[arg(long)]
    pub header_digest: bool,
    /// Protect data with CRC32C.
    #[arg(long)]
    pub data_digest: bool,
    /// R2Ts that the target may have open for one write.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_r2t: u32,
    /// InitialR2T=Yes: no data beyond immediate data goes unasked. iSCSI.
    #[arg(long)]
    pub initial_r2t: bool,
    /// ImmediateData=No: no data in the PDU of a command. iSCSI.
    #[arg(long)]
    pub no_immediate_data: bool,
    /// FirstBurstLength to ask for: what may go unasked. iSCSI.
    #[arg(long, value_name = "BYTES", default_value = "256k", value_parser = units::burst_bytes)]
    pub first_burst: u64,
    /// MaxBurstLength to ask for: what one R2T may ask for. iSCSI.
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = units::burst_bytes)]
    pub max_burst: u64,
    /// RDMA card to use. RDMA.
    #[arg(long, value_enum, default_value = "verbs")]
    pub card: CardKind,
    /// Longest wait for a connection or an admin command.
    #[arg(long, default_value = "10s", value_parser = units::timespan)]
    pub connect_timeout: Duration,
    /// Longest wait for one command; after it the run fails.
    #[arg(long, default_value = "30s", value_parser = units::timespan)]
    pub io_timeout: Duration,
}

/// The load.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Sequential or random, reads or writes.
    #[arg(long, value_enum, default_value = "randread")]
    pub rw: ReadWrite,
    /// Share of reads in a mix.
    #[arg(long, value_name = "0..100", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub read_percent: Option<u32>,
    /// Bytes of each read and write: 4k, 128KiB.
    #[arg(long, default_value = "4k", value_parser = units::size_bytes)]
    pub bs: u64,
    /// Commands in flight on each queue.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub qd: u16,
    /// I/O queues (connections) in all; default one per thread.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queues: Option<u16>,
    /// How random units are picked: uniform, zipf:THETA, or sequential.
    #[arg(long, value_name = "HOW")]
    pub distribution: Option<String>,
    /// A Flush after every N completed writes of a queue; 0 is never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub flush_every: u32,
    /// Share of writes with Force Unit Access.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub fua_percent: u32,
    /// Open loop: this many commands a second in all, whatever the target does: 100k.
    #[arg(long, value_name = "IOPS", value_parser = units::rate)]
    pub rate: Option<f64>,
    /// Open loop with random (Poisson) instead of equal distances.
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// Bytes of the namespace to use, from its start; default all.
    #[arg(long, value_parser = units::size_bytes)]
    pub span: Option<u64>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Threads and their cores.
#[derive(Args, Clone, Debug)]
pub struct ThreadArgs {
    /// Load threads; default one per core of --cores, else 1.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Cores to pin the threads to, in turn: 1 or 1,3,5. Default not pinned.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// What a thread does when there is nothing to do.
    #[arg(long, value_enum, default_value = "spin")]
    pub wait: Wait,
}

/// `bedplate-perf run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The target: HOST:PORT, rdma://HOST[:PORT][/NQN] or iscsi://HOST[:PORT][/IQN[/LUN]].
    #[arg(long, value_name = "TARGET")]
    pub connect: String,
    /// Subsystem; default the only one that discovery lists. NVMe.
    #[arg(long)]
    pub nqn: Option<String>,
    #[command(flatten)]
    pub link: ConnectArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Measured time.
    #[arg(long, default_value = "10s", value_parser = units::timespan)]
    pub time: Duration,
    /// Time before it under the same load, not measured.
    #[arg(long, default_value = "1s", value_parser = units::timespan)]
    pub ramp: Duration,
    /// Writes carry block number and version, reads check them; at the end all is read back.
    /// DESTROYS what the span holds, as every write does.
    #[arg(long)]
    pub verify: bool,
    /// Go on after this many failed commands.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_errors: u64,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Show a progress line.
    #[arg(long)]
    pub progress: bool,
    /// Also write a report with plots, one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// `bedplate-perf compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Target to judge: HOST:PORT[/NQN], rdma://HOST[:PORT][/NQN] or
    /// iscsi://HOST[:PORT][/IQN[/LUN]].
    #[arg(long, value_name = "TARGET")]
    pub candidate: String,
    /// Target to judge it by, of any of these protocols.
    #[arg(long, value_name = "TARGET")]
    pub reference: String,
    /// Case to run, such as 4k-randread-qd32; may be given more than once.
    #[arg(long = "case", value_name = "CASE")]
    pub cases: Vec<String>,
    /// File with one case a line; # starts a comment.
    #[arg(long, value_name = "FILE")]
    pub case_file: Option<PathBuf>,
    /// Rounds; each runs both targets once, in alternating order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Measured time of each run.
    #[arg(long, default_value = "3s", value_parser = units::timespan)]
    pub time: Duration,
    /// Time before it under the same load, not measured.
    #[arg(long, default_value = "500ms", value_parser = units::timespan)]
    pub ramp: Duration,
    /// Bytes of each namespace to use, from its start; default all of the smaller one.
    #[arg(long, value_parser = units::size_bytes)]
    pub span: Option<u64>,
    /// Write the whole span of both targets once before the first round.
    #[arg(long)]
    pub fill: bool,
    #[command(flatten)]
    pub link: ConnectArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `bedplate-perf floor`.
#[derive(Args, Clone, Debug)]
pub struct FloorArgs {
    /// Target to judge, named as in `compare`. Its span is overwritten.
    #[arg(long, value_name = "TARGET")]
    pub connect: String,
    /// File with the gates; default the ones that come with the program (perf/floor.toml).
    #[arg(long, value_name = "FILE")]
    pub gates: Option<PathBuf>,
    /// File on the storage below the target, for gates against the raw device: OVERWRITTEN by
    /// write cases; a device is only read.
    #[arg(long, value_name = "FILE")]
    pub raw: Option<PathBuf>,
    /// Result stored earlier with --save.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Store this result as a baseline.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Core of the null target: the one that the target has.
    #[arg(long)]
    pub null_core: Option<usize>,
    /// Rounds; each runs all sides of every case once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Measured time of each run.
    #[arg(long, default_value = "2s", value_parser = units::timespan)]
    pub time: Duration,
    /// Time before it under the same load, not measured.
    #[arg(long, default_value = "300ms", value_parser = units::timespan)]
    pub ramp: Duration,
    /// Bytes of the namespace to use, from its start; default all.
    #[arg(long, value_parser = units::size_bytes)]
    pub span: Option<u64>,
    #[command(flatten)]
    pub link: ConnectArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `bedplate-perf null`.
#[derive(Args, Clone, Debug)]
pub struct NullArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Speak iSCSI instead of NVMe/TCP.
    #[arg(long)]
    pub iscsi: bool,
    /// Speak NVMe/RDMA instead of NVMe/TCP.
    #[arg(long, conflicts_with = "iscsi")]
    pub rdma: bool,
    /// RDMA card to use. RDMA.
    #[arg(long, value_enum, default_value = "verbs")]
    pub card: CardKind,
    /// Pretended size of the namespace or unit.
    #[arg(long, default_value = "1G", value_parser = units::size_bytes)]
    pub size: u64,
    /// Logical block in bytes.
    #[arg(long, default_value = "4096", value_parser = units::size_bytes)]
    pub block_size: u64,
    /// Data of a write that travels unasked: in-capsule data of I/O queues, FirstBurstLength.
    #[arg(long, default_value = "8k", value_parser = units::size_bytes)]
    pub in_capsule: u64,
    /// Most data in one H2CData or Data-Out PDU.
    #[arg(long, default_value = "128k", value_parser = units::size_bytes)]
    pub max_h2c: u64,
    /// Core to pin the loop to.
    #[arg(long)]
    pub core: Option<usize>,
    /// End after this time; default never.
    #[arg(long, value_parser = units::timespan)]
    pub time: Option<Duration>,
}

/// Resolves HOST:PORT.
///
/// Errors: a sentence that says what to write instead.
pub fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs();
    let mut found = found.map_err(|e| format!("{e}: write HOST:PORT, such as 127.0.0.1:4420"))?;
    found
        .next()
        .ok_or_else(|| "the name has no address: check it, or write an IP address".to_owned())
}
