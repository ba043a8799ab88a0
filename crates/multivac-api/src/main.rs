//! `multivac-api`: the HTTP server.

use std::process::ExitCode;

use clap::Parser;
use multivac_api::config::{Command, Config};
use multivac_core::runtime::health;

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
