//! `multivac-worker`: learns what was accepted, and carries out the commands of operators.

use mimalloc::MiMalloc;
use multivac_core::commands::exit;
use multivac_core::runtime::config;
use multivac_worker::config::Config;

/// A batch is tens of thousands of small texts, most of which are made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[actix_web::main]
async fn main() {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit("multivac-worker", multivac_worker::commands::run(command, &config).await),
        None => exit("multivac-worker", multivac_worker::run(config).await.map(|()| 0)),
    }
}
