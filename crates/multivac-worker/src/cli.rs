//! The operator's commands, as the command line has them.

use clap::{Args, Subcommand};
use multivac_core::datum::{DatumId, NotAnId};
use multivac_core::runtime::health::HealthArgs;

/// What to do in place of working.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show the ledger, and what waits.
    Status(Output),
    /// Look after the dead letters: data whose attempts were used up.
    #[command(subcommand)]
    Dead(Dead),
    /// Ask the worker that listens at --health-listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check: the image holds nothing else that could ask.
    Health(HealthArgs),
}

/// How a command speaks.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// JSON, one object a line, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be done with dead letters.
#[derive(Subcommand, Clone)]
pub enum Dead {
    /// List them, oldest first.
    List {
        /// How many at most.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Show one, with its text.
    Show {
        /// The datum's id.
        #[arg(value_parser = id)]
        id: DatumId,
        /// The text alone, byte for byte as it was fed.
        #[arg(long, conflicts_with = "json")]
        text: bool,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Put them back on the queue, with all their attempts before them.
    Retry(Which),
    /// Take them back for good: as if each had been retracted by whoever fed it.
    Drop(Which),
}

/// Some dead letters.
#[derive(Args, Clone)]
pub struct Which {
    /// The data's ids.
    #[arg(value_parser = id, required_unless_present = "all")]
    pub(crate) ids: Vec<DatumId>,
    /// All that lie there.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

fn id(text: &str) -> Result<DatumId, String> {
    text.parse().map_err(|error: NotAnId| error.to_string())
}
