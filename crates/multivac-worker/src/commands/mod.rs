//! The operator's commands. Each but `health` and `doctor` connects to the queue and the store that the settings name, prints
//! what it found or did to the standard output, and ends; workers need not be stopped for any.

mod status;

use multivac_core::commands::doctor::Subject;
use multivac_core::commands::{CommandError, dead, open, with_output};

use crate::cli::Command;
use crate::config::Config;

/// Carries out a command; the status to end with.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(command: Command, config: &Config) -> Result<i32, CommandError> {
    let backends = async || open(&config.backends, config.backends.queue_settings(), None).await;
    match command {
        Command::Health(args) => args.ask(&config.health_listen)?,
        Command::Status(output) => {
            let (backends, warnings) = backends().await?;
            with_output(async |out| status::status(out, output, &backends, &warnings).await).await?;
        }
        Command::Dead(command) => {
            let (backends, _) = backends().await?;
            with_output(async |out| dead::run(out, command, &backends).await).await?;
        }
        Command::Doctor(doctor) => {
            let subject = Subject {
                args: &config.backends,
                queue: Ok(config.backends.queue_settings()),
                data_dir: None,
                listen: &config.health_listen,
                has_index: false,
                open_files: config.open_files(),
            };
            return doctor.run(subject).await;
        }
    }
    Ok(0)
}
