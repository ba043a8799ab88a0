//! `multivac-worker`: learns what was accepted, and carries out the commands of operators.

use std::fmt::Display;
use std::process;

use multivac_core::runtime::config;
use multivac_worker::config::Config;

#[actix_web::main]
async fn main() {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit(multivac_worker::commands::run(command, &config).await),
        None => exit(multivac_worker::run(config).await),
    }
}

/// Prints an error past the log, in whatever format that is: whoever started the program reads it as it is.
///
/// Ends the process at once. A runtime that ends waits for its blocking threads, and one of them may ask a DNS server that
/// does not reply.
fn exit(result: Result<(), impl Display>) -> ! {
    let Err(error) = result else { process::exit(0) };
    eprintln!("multivac-worker: {error}");
    process::exit(1)
}
