//! The operator's commands, as the command line has them.

use clap::{Args, Subcommand};
use multivac_core::datum::{DatumId, NotAnId};
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

/// How a command writes its output.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// Write JSON, one object a line, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be done with dead letters.
#[derive(Subcommand, Clone)]
pub enum Dead {
    /// List the dead letters, oldest first.
    List {
        /// List so many at most.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Show one dead letter, with its text.
    Show {
        /// The datum's id.
        #[arg(value_parser = id)]
        id: DatumId,
        /// Print the text alone, byte for byte as it was fed.
        #[arg(long, conflicts_with = "json")]
        text: bool,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Put dead letters back on the queue, with all attempts again.
    Retry(Selection),
    /// Drop dead letters for good: each counts as retracted, as if whoever fed it had taken it back.
    Drop(Selection),
}

/// Which dead letters.
#[derive(Args, Clone)]
pub struct Selection {
    /// The ids of the data.
    #[arg(value_parser = id, required_unless_present = "all")]
    pub(crate) ids: Vec<DatumId>,
    /// All dead letters.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// How it is written.
    #[command(flatten)]
    pub(crate) output: Output,
}

fn id(text: &str) -> Result<DatumId, String> {
    text.parse().map_err(|error: NotAnId| error.to_string())
}
