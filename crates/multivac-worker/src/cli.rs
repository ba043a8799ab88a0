//! The operator's commands, as the command line has them.

use clap::Subcommand;
use multivac_core::commands::Output;
use multivac_core::commands::dead::Dead;
use multivac_core::commands::doctor::Doctor;
use multivac_core::runtime::health::HealthArgs;

/// What to do instead of working.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show the ledger, and what is queued in each partition.
    Status(Output),
    /// Show, retry or drop the dead letters: data whose attempts were used up.
    #[command(subcommand)]
    Dead(Dead),
    /// Look at everything that the worker depends on, and say what to do about what is not well.
    ///
    /// The settings, this machine, Redis and MongoDB; the queue's ledger, replicas, clocks, disks. Nothing is changed, and
    /// workers may go on running. Within 15 seconds, whatever hangs.
    ///
    /// Exit code: 0 all is well; 3 there are warnings; 4 there are errors. As with every command, 1 is a command that failed,
    /// and 2 a command line that was not understood, so neither says anything of the system.
    Doctor(Doctor),
    /// Ask the worker that listens at --health-listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check, since the image holds no other program that could ask.
    Health(HealthArgs),
}
