//! The commands beside serving: the operator's, and those for people, who have a server elsewhere. Each prints what it found or did to the standard output, and ends.

pub mod ask;
pub mod feed;
pub mod over_http;

use multivac_core::commands::backup::{self, Settings};
use multivac_core::commands::doctor::Subject;
use multivac_core::commands::{CommandError, dead, open, with_output};

use crate::cli::Command;
use crate::config::{Config, MIN_FILES};

/// Carries out a command; the status to end with.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(command: Command, config: &Config) -> Result<i32, CommandError> {
    let settings =
        || Settings { args: &config.backends, queue: config.backends.queue_settings(), data_dir: &config.data_dir };
    match command {
        Command::Ask(ask) => return Ok(ask.run().await),
        Command::Feed(feed) => return Ok(feed.run().await),
        Command::Health(args) => args.ask(&config.listen)?,
        Command::Dead(command) => {
            let (backends, _) =
                open(&config.backends, config.backends.queue_settings(), Some(&config.data_dir)).await?;
            with_output(async |out| dead::run(out, command, &backends).await).await?;
        }
        Command::Export(command) => match &command.over.to {
            Some(to) => over_http::export(command.export, to, &command.over.access).await?,
            None => command.export.run(settings()).await?,
        },
        Command::Import(command) => match &command.over.to {
            Some(to) => over_http::import(command.source, to, &command.over.access).await?,
            None => backup::import(command.source, settings()).await?,
        },
        Command::Drill(source) => backup::drill(source, settings()).await?,
        Command::Calibrate(calibrate) => {
            with_output(async |out| calibrate.run(out, settings()).await).await?;
        }
        Command::Doctor(doctor) => {
            let subject = Subject {
                args: &config.backends,
                queue: config.calibration().and_then(|_| config.queue_settings()),
                data_dir: Some(&config.data_dir),
                listen: &config.listen,
                has_index: true,
                open_files: MIN_FILES,
            };
            return doctor.run(subject).await;
        }
    }
    Ok(0)
}
