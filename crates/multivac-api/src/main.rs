//! `multivac-api`: the HTTP server.

use mimalloc::MiMalloc;
use multivac_api::config::Config;
use multivac_core::commands::exit;
use multivac_core::runtime::config;

/// A question allocates and frees thousands of small objects. The system's allocator takes a sixth of its time for that,
/// and now and then 10 ms at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[actix_web::main]
async fn main() {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit("multivac-api", multivac_api::commands::run(command, &config).await),
        None => exit("multivac-api", multivac_api::run(config).await.map(|()| 0)),
    }
}
