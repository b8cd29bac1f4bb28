//! The command line, as clap sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use config::{BlockSize, ByteSize, Name};

/// Where a server started by `make run` listens, so that the commands work without options there.
pub const DEFAULT_SOCKET: &str = "var/bedplate.sock";

/// Block storage appliance: durable thin volumes over NVMe/TCP.
#[derive(Debug, Parser)]
#[command(name = "bedplate", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How lists and objects are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Management socket of the running server.
    #[arg(long, global = true, env = "BEDPLATE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// How lists and objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    Text,
    /// One JSON document for programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the appliance in the foreground.
    Serve {
        /// TOML file; see docs/configuration.md.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make or look at a pool while no server uses it.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Make, list, show and delete volumes of the running server.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Show what the running server does.
    Status,
    /// Print the lines that attach a volume to a host.
    ConnectInfo {
        /// Name of the volume.
        volume: String,
    },
    /// Check this machine and, with a configuration, what the server would find.
    Doctor {
        /// Also check the pools, addresses and limits this file asks for.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check every checksum and invariant of a pool that no server uses. Changes nothing.
    ///
    /// Exit code: 0 clean, 1 damaged (one line a finding), 2 could not run.
    Fsck {
        /// File or block device of the pool.
        pool: PathBuf,
    },
    /// Print a completion script.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Make a new, empty pool.
    Create(PoolCreate),
    /// Show the identity, geometry and volumes of a pool.
    Show {
        /// File or block device of the pool, or the name of a pool in the running server's memory.
        path: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct PoolCreate {
    /// File to make, or block device without a known content.
    pub path: PathBuf,
    /// Name written into the pool.
    #[arg(long, value_parser = parse_name)]
    pub name: Name,
    /// Size of a file; a block device brings its own.
    #[arg(long, value_parser = parse_size)]
    pub size: Option<ByteSize>,
}

#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume and export it at once.
    Create(VolumeCreate),
    /// List the volumes.
    List,
    /// Show one volume.
    Show {
        /// Name of the volume.
        name: String,
    },
    /// Clear the reservations and registrations of all hosts, also such as cannot be read. Make sure
    /// first that no host relies on them to keep others away.
    ClearReservations {
        /// Name of the volume.
        name: String,
    },
    /// Delete a volume and everything in it. Hosts lose it at once.
    Delete {
        /// Name of the volume.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct VolumeCreate {
    /// Name; becomes the end of the NQN.
    #[arg(value_parser = parse_name)]
    pub name: Name,
    /// Size that hosts see, such as 8GiB.
    #[arg(long, value_parser = parse_size)]
    pub size: ByteSize,
    /// Pool; may be left out when the server has just one.
    #[arg(long, value_parser = parse_name)]
    pub pool: Option<Name>,
    /// Logical block size, 4096 or 512.
    #[arg(long, value_parser = parse_block_size, default_value = "4096")]
    pub block_size: BlockSize,
}

fn parse_name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|e: config::InvalidName| e.to_string())
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|e: config::InvalidSize| e.to_string())
}

fn parse_block_size(text: &str) -> Result<BlockSize, String> {
    let bytes = text.parse().ok().and_then(BlockSize::from_bytes);
    bytes.ok_or_else(|| format!("'{text}' is not a block size: write 4096 or 512"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_volume_is_described_with_units() {
        let cli = Cli::try_parse_from(["bedplate", "volume", "create", "db", "--size", "8GiB"]);
        let Command::Volume(VolumeCommand::Create(create)) = cli.unwrap().command else {
            panic!("not a volume create");
        };
        assert_eq!(create.size.bytes(), 8 << 30);
        assert_eq!(create.block_size.bytes(), 4096);
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_remedy() {
        let line = [
            "bedplate",
            "volume",
            "create",
            "db",
            "--size",
            "8GiB",
            "--block-size",
            "777",
        ];
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(error.contains("4096 or 512"), "{error}");
        let line = ["bedplate", "volume", "create", "Bad Name", "--size", "8GiB"];
        assert!(Cli::try_parse_from(line).is_err());
    }
}
