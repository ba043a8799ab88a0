//! The operator's commands that both programs have: what they take, what they print, and how they end.

pub mod backup;
pub mod calibrate;
pub mod dead;
pub mod doctor;
pub mod files;

mod progress;
mod settings;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use calibrate::CalibrateError;

use crate::adapters::embedded::OpenError;
use crate::adapters::{BackendError, Backends};
use crate::backup::BackupError;
use crate::datum::DatumId;
use crate::queue::{QueueError, QueueSettings};
use crate::runtime::config::{BackendArgs, ConfigError};
use crate::runtime::health::HealthError;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No server is named, and the program has no data of its own.
    #[error("REDIS_URL and MONGO_URL are needed: these commands are for the full system")]
    NoServers,
    /// There is no data directory, and a command makes none.
    #[error("{} does not exist: --data-dir or MULTIVAC_DATA_DIR names the directory that the server uses", .0.display())]
    NoData(PathBuf),
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The process whose health was asked for is not well, or does not reply.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// Some ids name no dead letter.
    #[error("no dead letter has the id {}", list(.0))]
    NoSuch(Vec<DatumId>),
    /// A server that was asked over HTTP.
    #[error("{0}")]
    Remote(String),
    /// A backup is binary.
    #[error("a backup is not for a terminal: name a file, or send it on with > or |")]
    Terminal,
    /// The file is there.
    #[error("{} exists: --force replaces it", .0.display())]
    Exists(PathBuf),
    /// There is nothing that `export --directory` wrote.
    #[error("there is no backup in {}", .0.display())]
    NoBackup(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no whole backup, or does not serve.
    #[error("{}: {source}", path.display())]
    BadBackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BackupError>,
    },
    /// The backup cannot be written or restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The confidence cannot be calibrated.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<QueueError> for CommandError {
    fn from(error: QueueError) -> Self {
        Self::Backend(error.into())
    }
}

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        Self::Backend(error.into())
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Backend(error.into())
    }
}

fn list(ids: &[DatumId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Ends a program with the status that it or its command came to, or with 1 and why it failed.
///
/// Prints the error past the log, in whatever format that is: whoever started the program reads it as it is. Ends the process
/// at once. A runtime that ends waits for its blocking threads, and one of them may ask a DNS server that does not reply.
pub fn exit(program: &str, result: Result<i32, impl Display>) -> ! {
    let status = result.unwrap_or_else(|error| {
        eprintln!("{program}: {error}");
        1
    });
    std::process::exit(status)
}

/// Connects to the backends that the settings name: the servers, or the data directory of a program that has one.
///
/// Beside them comes what [`prepare`](crate::queue::QueueAdmin::prepare) warns of.
///
/// # Errors
/// When they cannot be used, or there are none.
pub async fn open(
    args: &BackendArgs,
    settings: QueueSettings,
    data_dir: Option<&Path>,
) -> Result<(Backends, Vec<String>), CommandError> {
    let backends = match (args.server_urls()?, data_dir) {
        (Some(urls), _) => Backends::servers(urls, args, settings).await?,
        (None, None) => return Err(CommandError::NoServers),
        (None, Some(directory)) => {
            let file = directory.join("multivac.db");
            if !file.exists() {
                return Err(CommandError::NoData(file));
            }
            Backends::embedded(directory, settings)?
        }
    };
    let warnings = backends.queue.prepare().await?;
    Ok((backends, warnings))
}

/// How a command writes its output.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// Write JSON, one object a line, for scripts.
    #[arg(long)]
    pub json: bool,
}

/// Runs a command with the standard output. A reader that has seen enough, as `head` has, is no error.
///
/// # Errors
/// The command's own.
pub async fn with_output(
    command: impl AsyncFnOnce(&mut dyn Write) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let done = command(&mut out).await;
    match done.and_then(|()| Ok(out.flush()?)) {
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes one line of JSON.
///
/// # Errors
/// When the output cannot be written.
pub fn write_json(out: &mut dyn Write, reply: &(impl Serialize + ?Sized)) -> Result<(), CommandError> {
    serde_json::to_writer(&mut *out, reply).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}
