//! The operator's commands, as the command line has them.

use clap::Subcommand;
use multivac_core::commands::Output;
use multivac_core::commands::dead::Dead;
use multivac_core::runtime::health::HealthArgs;

/// What to do instead of working.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show the ledger, and what is queued in each partition.
    Status(Output),
    /// Show, retry or drop the dead letters: data whose attempts were used up.
    #[command(subcommand)]
    Dead(Dead),
    /// Ask the worker that listens at --health-listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check, since the image holds no other program that could ask.
    Health(HealthArgs),
}
