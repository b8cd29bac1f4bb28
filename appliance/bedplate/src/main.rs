//! The bedplate command: parses the command line and runs one command.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod output;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use control::client::Client;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let fsck = matches!(cli.command, Command::Fsck { .. });
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("bedplate: {e:#}");
            // For fsck 1 means "damaged"; not being able to look is another thing.
            ExitCode::from(if fsck { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let client = || Client::new(&cli.socket);
    match cli.command {
        Command::Serve { config } => serve::run(&config)?,
        Command::Pool(command) => commands::pool::run(&client(), command, cli.output)?,
        Command::Volume(command) => commands::client::volume(&client(), command, cli.output)?,
        Command::Status => commands::client::status(&client(), cli.output)?,
        Command::ConnectInfo { volume } => {
            commands::client::connect_info(&client(), &volume, cli.output)?;
        }
        Command::Doctor { config } => {
            if !commands::doctor::run(config.as_deref(), cli.output) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Fsck { pool } => return commands::fsck::run(&client(), &pool, cli.output),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "bedplate",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
