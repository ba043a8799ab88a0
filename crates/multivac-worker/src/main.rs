//! `multivac-worker`: learns what was accepted, and does what an operator tells it.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser;
use multivac_worker::config::Config;

#[actix_web::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let done = match config.command.clone() {
        Some(command) => told(multivac_worker::commands::run(command, &config).await),
        None => told(multivac_worker::run(config).await),
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether it went well. An error does not go through the log: whoever started it shall read it as it is, without a
/// trace of the program's inside.
fn told(done: Result<(), impl Display>) -> bool {
    if let Err(error) = &done {
        eprintln!("multivac-worker: {error}");
    }
    done.is_ok()
}
