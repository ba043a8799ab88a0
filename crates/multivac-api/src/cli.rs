//! The commands of the program, beside serving.

use clap::Subcommand;
use multivac_core::commands::dead::Dead;
use multivac_core::runtime::health::HealthArgs;

/// What to do instead of serving.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show, retry or drop the dead letters: data whose attempts were used up.
    ///
    /// Those of Redis with REDIS_URL and MONGO_URL; else those of --data-dir, while the server that uses it is stopped.
    #[command(subcommand)]
    Dead(Dead),
    /// Ask the server that listens at --listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check, since the image holds no other program that could ask.
    Health(HealthArgs),
}
