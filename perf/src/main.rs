//! `bedplate-perf`: puts load on NVMe/TCP, NVMe/RDMA and iSCSI targets and measures what they do.
//!
//! Two parts. The measuring one is a stack: [`queue`] is the protocol without I/O, [`lane`] adds
//! a connection, a stream of commands ([`access`]) and a schedule ([`pace`]), [`worker`] is the loop
//! of a thread, [`verbs`] that loop on a core with an RDMA card, [`run`] starts the threads and adds up their [`stats`]. Around it: [`cli`] and
//! [`plan`] check what is asked, [`target`] speaks to the admin side, [`output`] shows the
//! result, [`compare`] repeats runs in alternating order, [`floor`] judges their ratios, and [`null`] is a target that keeps
//! nothing, to see what the client itself can do.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator lives on the real clock and on real threads"
)]

mod access;
mod card;
mod cli;
mod compare;
mod error;
mod floor;
mod lane;
mod null;
mod output;
mod pace;
mod plan;
mod queue;
mod run;
mod stats;
mod target;
mod units;
mod verbs;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => output::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Null(args) => null::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bedplate-perf: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
