//! MultiVAC's HTTP server: thin. It checks what comes, hands it to [`multivac_core`], and words what comes back.
//!
//! [`app`] wires everything on one page; `routes` is the contract's table as code.

pub mod app;
pub mod cli;
pub mod config;

mod body;
mod drain;
mod middleware;
mod negotiate;
mod problem;
mod routes;
mod state;
mod trace;

use multivac_core::observe::{self, LogFormat};
use multivac_core::runtime::shutdown;

use app::{Application, StartError};
use config::Config;

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: see [`StartError`].
pub async fn run(config: Config) -> Result<(), StartError> {
    let format = LogFormat::or_default(config.log.log_format);
    let _telemetry = observe::start("multivac-api", format).map_err(StartError::Telemetry)?;
    let stop = shutdown::on_signal().map_err(StartError::Signals)?;
    let application = Application::build(config).await?;
    application.greet(format);
    application.run_until_stopped(stop).await
}
