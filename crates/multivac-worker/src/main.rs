//! `multivac-worker`: learns what was accepted, and carries out the commands of operators.

use multivac_core::commands::exit;
use multivac_core::runtime::config;
use multivac_worker::config::Config;

#[actix_web::main]
async fn main() {
    let config = config::parse::<Config>();
    match config.command.clone() {
        Some(command) => exit("multivac-worker", multivac_worker::commands::run(command, &config).await),
        None => exit("multivac-worker", multivac_worker::run(config).await.map(|()| 0)),
    }
}
