//! `multivac-api`: the HTTP server.

use std::fmt::Display;
use std::process;

use mimalloc::MiMalloc;
use multivac_api::config::Config;
use multivac_core::runtime::config;

/// A question allocates and frees thousands of small objects. The system's allocator takes a sixth of its time for that,
/// and now and then 10 ms at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[actix_web::main]
async fn main() {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit(multivac_api::commands::run(command, &config).await),
        None => exit(multivac_api::run(config).await),
    }
}

/// Prints an error past the log, in whatever format that is: whoever started the program reads it as it is.
///
/// Ends the process at once. A runtime that ends waits for its blocking threads, and one of them may ask a DNS server that
/// does not reply.
fn exit(result: Result<(), impl Display>) -> ! {
    let Err(error) = result else { process::exit(0) };
    eprintln!("multivac-api: {error}");
    process::exit(1)
}
