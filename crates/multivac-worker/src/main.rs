//! `multivac-worker`: learns what was accepted.

use std::process::ExitCode;

use clap::Parser;
use multivac_core::runtime::health;
use multivac_worker::config::{Command, Config};

#[actix_web::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Some(Command::Health(asking)) = config.command {
        return health::exit("multivac-worker", asking.ask(&config.health_listen));
    }
    match multivac_worker::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: whoever started it shall read it as it is, without a trace of the program's inside.
            eprintln!("multivac-worker: {error}");
            ExitCode::FAILURE
        }
    }
}
