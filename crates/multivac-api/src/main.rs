//! `multivac-api`: the HTTP server.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use multivac_api::cli::Command;
use multivac_api::config::Config;
use multivac_core::runtime::health;

/// A question allocates and frees thousands of small objects. The system's allocator takes a sixth of its time for that,
/// and now and then 10 ms at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[actix_web::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Some(Command::Health(args)) = config.command {
        return health::exit("multivac-api", args.ask(&config.listen));
    }
    let result = multivac_api::run(config).await;
    if let Err(error) = &result {
        // Past the log, in whatever format that is: whoever started the program reads this as it is.
        eprintln!("multivac-api: {error}");
    }
    // At once: a runtime that ends waits for its blocking threads, and one of them may ask a DNS server that does not reply.
    std::process::exit(i32::from(result.is_err()))
}
