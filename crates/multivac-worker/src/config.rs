//! The worker's settings.

use std::thread::available_parallelism;

use clap::Parser;
use multivac_core::runtime::config::{BackendArgs, LogArgs};
use multivac_core::runtime::hosts::AllowedHosts;

use crate::cli::Command;

/// Open files beside the connection of each consumer loop to Redis: more of those, connections to MongoDB, to probes.
const OTHER_FILES: u64 = 128;

/// MultiVAC's worker: learns what multivac-api accepted. Any number of workers share the work.
///
/// Without a command it works until SIGTERM or SIGINT stops it; a second one ends it at once, with status 130. An empty variable
/// is an unset one.
#[derive(Parser, Clone)]
#[command(name = "multivac-worker", version, max_term_width = 100)]
pub struct Config {
    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The address and port that serve /healthz, /readyz and /metrics; port 0 lets the system choose one.
    #[arg(
        long,
        global = true,
        env = "MULTIVAC_HEALTH_LISTEN",
        default_value = "127.0.0.1:5001",
        value_name = "ADDRESS"
    )]
    pub health_listen: String,

    /// Names by which that address is reached, beside localhost and its loopback addresses, with commas between them. Where
    /// it is a loopback address, a request whose Host is any other gets 403, so that no web page can make its own name mean
    /// this machine (DNS rebinding). Elsewhere Host is checked only if this is set, and addresses pass.
    #[arg(long, env = "MULTIVAC_ALLOWED_HOSTS", value_name = "NAME,…", value_parser = AllowedHosts::parse)]
    pub allowed_hosts: Option<AllowedHosts>,

    /// How many batches are processed at once; at most 256, since each holds a connection to Redis while it waits for jobs.
    /// The number of cores if left out.
    #[arg(long, env = "MULTIVAC_CONCURRENCY", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Option<u16>,

    #[command(flatten)]
    /// Where the queue and the store are.
    pub backends: BackendArgs,

    #[command(flatten)]
    /// How the worker logs.
    pub log: LogArgs,
}

impl Config {
    /// How many batches are processed at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency.map_or_else(|| available_parallelism().map_or(1, |cores| cores.get().min(256)), usize::from)
    }

    /// How many files it has open at once, at least.
    pub(crate) fn open_files(&self) -> u64 {
        OTHER_FILES + self.concurrency() as u64
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }
}
