//! `multivac-worker`: learns what was accepted, and carries out the commands of operators.

use std::fmt::Display;
use std::process::ExitCode;

use multivac_core::runtime::config;
use multivac_worker::config::Config;

#[actix_web::main]
async fn main() -> ExitCode {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit(multivac_worker::commands::run(command, &config).await),
        None => exit(multivac_worker::run(config).await),
    }
}

/// Prints an error past the log, in whatever format that is: whoever started the program reads it as it is.
fn exit(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("multivac-worker: {error}");
            ExitCode::FAILURE
        }
    }
}
