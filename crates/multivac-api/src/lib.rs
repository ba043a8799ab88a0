//! MultiVAC's HTTP server: thin. It checks requests, hands them to [`multivac_core`], and puts what comes back into words.
//!
//! [`app`] wires everything on one page; `server` is what listens; `routes` is the contract's table as code, a file for each
//! path. Below them: `state` (what handlers share), `replies` (every JSON reply as a type), `openapi` (the document made of
//! them), `body` and `negotiate` (what requests hold and ask for) with `pace`, `multipart` and `media` beneath them, `problem`
//! (errors as replies), `page` (the pages of `assets/`), `answering` (threads for questions), `watching` (what all event streams
//! share) and `sse` (one of them), `middleware` and `trace`, `origin` (requests that a browser sends for another site), `drain`
//! (stopping without refusing anybody), `wire` (requests are checked before they are parsed).
//!
//! [`commands`] is what people do from the command line; with a server elsewhere they do it by [`client`].

pub mod app;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod error;

mod answering;
mod body;
mod drain;
mod media;
mod middleware;
mod multipart;
mod negotiate;
mod openapi;
mod origin;
mod pace;
mod page;
mod problem;
mod query;
mod replies;
mod routes;
mod server;
mod sse;
mod state;
mod system;
mod trace;
mod watching;
mod wire;

use multivac_core::observe::{self, LogFormat};
use multivac_core::runtime::shutdown;

use app::Application;
use config::Config;
use error::AppError;

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or cannot go on: see [`AppError`].
pub async fn run(config: Config) -> Result<(), AppError> {
    // What this process writes is for its owner: the index holds the text, in files that tantivy makes.
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let format = LogFormat::or_default(config.log.log_format);
    let _telemetry =
        observe::start("multivac-api", format, config.log.gcp_project.as_deref()).map_err(AppError::Telemetry)?;
    let stop = shutdown::on_signal().map_err(AppError::Signals)?;
    let application = Application::build(config).await?;
    application.greet(format);
    application.run_until_stopped(stop).await
}
