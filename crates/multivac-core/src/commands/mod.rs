//! The operator's commands that both programs have: what they take and what they print.

pub mod dead;

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use crate::adapters::BackendError;
use crate::datum::DatumId;
use crate::queue::QueueError;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Some ids name no dead letter.
    #[error("no dead letter has the id {}", list(.0))]
    NoSuch(Vec<DatumId>),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<QueueError> for CommandError {
    fn from(error: QueueError) -> Self {
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
pub fn write_json(out: &mut dyn Write, reply: &impl Serialize) -> Result<(), CommandError> {
    serde_json::to_writer(&mut *out, reply).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}
