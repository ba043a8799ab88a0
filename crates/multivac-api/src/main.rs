//! `multivac-api`: the HTTP server.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use multivac_api::cli::Command;
use multivac_api::config::Config;
use multivac_core::runtime::health;

/// A question makes and drops thousands of small things, for which the system's allocator takes a sixth of its time, and
/// now and then 10 ms at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[actix_web::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Some(Command::Health(asking)) = config.command {
        return health::exit("multivac-api", asking.ask(&config.listen));
    }
    match multivac_api::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: whoever started it shall read it as it is, without a trace of the program's inside.
            eprintln!("multivac-api: {error}");
            ExitCode::FAILURE
        }
    }
}
