//! The commands of the program, beside serving.

use clap::Subcommand;
use multivac_core::runtime::health::HealthArgs;

/// What to do instead of serving.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Ask the server that listens at --listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check, since the image holds no other program that could ask.
    Health(HealthArgs),
}
