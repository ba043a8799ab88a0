//! The commands of the program, beside serving.

use clap::Subcommand;
use multivac_core::runtime::health::HealthArgs;

/// What else the program can do.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Asks the server that listens at --listen whether it is ready; exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check: the image holds nothing else that could ask.
    Health(HealthArgs),
}
