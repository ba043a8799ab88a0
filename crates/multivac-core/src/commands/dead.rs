//! `dead`: shows the dead letters (data whose attempts were used up), retries them, drops them.

use std::io::Write;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CommandError, Output, write_json};
use crate::adapters::Backends;
use crate::datum::{DatumId, NotAnId};
use crate::dead_letters::DeadNow;
use crate::queue::{DeadLetter, DeadLetterSummary, JobState, QueueAdmin};
use crate::store::Retraction;

/// What can be done with dead letters.
#[derive(Subcommand, Clone)]
pub enum Dead {
    /// List the dead letters, oldest first.
    List {
        /// List so many at most.
        #[arg(long, value_name = "N")]
        max: Option<usize>,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Show one dead letter, with its text.
    Show {
        /// The datum's id.
        #[arg(value_parser = id)]
        id: DatumId,
        /// Print the text alone, byte for byte as it was fed.
        #[arg(long, conflicts_with = "json")]
        text: bool,
        /// How it is written.
        #[command(flatten)]
        output: Output,
    },
    /// Put dead letters back on the queue, with all attempts again.
    Retry(Selection),
    /// Drop dead letters for good: each counts as retracted, as if whoever fed it had taken it back.
    Drop(Selection),
}

/// Which dead letters.
#[derive(Args, Clone)]
pub struct Selection {
    /// The ids of the data.
    #[arg(value_parser = id, required_unless_present = "all")]
    pub ids: Vec<DatumId>,
    /// All dead letters.
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// How it is written.
    #[command(flatten)]
    pub output: Output,
}

fn id(text: &str) -> Result<DatumId, String> {
    text.parse().map_err(|error: NotAnId| error.to_string())
}

/// Dead letters read at once.
const PAGE_SIZE: usize = 100;

/// Carries the command out.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(out: &mut dyn Write, command: Dead, backends: &Backends) -> Result<(), CommandError> {
    match command {
        Dead::List { max, output } => list(out, &*backends.queue, max.unwrap_or(usize::MAX), output).await,
        Dead::Show { id, text, output } => {
            let letter = backends.queue.dead_letter(id).await?.ok_or(CommandError::NoSuch(vec![id]))?;
            show(out, &letter, text, output)
        }
        Dead::Retry(selection) => for_each(out, selection, backends, Action::Retry).await,
        Dead::Drop(selection) => for_each(out, selection, backends, Action::Drop).await,
    }
}

async fn list(out: &mut dyn Write, queue: &dyn QueueAdmin, max: usize, output: Output) -> Result<(), CommandError> {
    let (mut listed, mut after) = (0, None);
    while listed < max {
        let page = queue.dead_letters(after, PAGE_SIZE.min(max - listed)).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        listed += page.len();
        for letter in &page {
            write_line(out, letter, output)?;
        }
    }
    if listed == 0 && !output.json {
        writeln!(out, "there are no dead letters")?;
    }
    Ok(())
}

fn write_line(out: &mut dyn Write, letter: &DeadLetterSummary, output: Output) -> Result<(), CommandError> {
    if output.json {
        return write_json(out, &DeadLetterReply::from(letter));
    }
    let DeadLetterSummary { id, died_at, attempts, size_bytes, error, .. } = letter;
    Ok(writeln!(out, "{id}  died {died_at}  {attempts} attempts  {size_bytes} bytes  {}", first_line(error))?)
}

/// An error may have several lines, and a line of the list has room for one.
fn first_line(error: &str) -> &str {
    error.lines().next().unwrap_or_default()
}

/// A line of `dead list --json`; with its text, `dead show --json`.
#[derive(Serialize)]
struct DeadLetterReply<'a> {
    id: DatumId,
    received_at: String,
    died_at: String,
    attempts: u32,
    error: &'a str,
    size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
}

impl<'a> From<&'a DeadLetter> for DeadLetterReply<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        Self {
            id: letter.job.id,
            received_at: letter.job.received_at.to_string(),
            died_at: letter.died_at.to_string(),
            attempts: letter.attempts,
            error: &letter.error,
            size_bytes: letter.job.datum.as_str().len() as u64,
            data: Some(letter.job.datum.as_str()),
        }
    }
}

impl<'a> From<&'a DeadLetterSummary> for DeadLetterReply<'a> {
    fn from(letter: &'a DeadLetterSummary) -> Self {
        Self {
            id: letter.id,
            received_at: letter.received_at.to_string(),
            died_at: letter.died_at.to_string(),
            attempts: letter.attempts,
            error: &letter.error,
            size_bytes: letter.size_bytes,
            data: None,
        }
    }
}

fn show(out: &mut dyn Write, letter: &DeadLetter, text_alone: bool, output: Output) -> Result<(), CommandError> {
    let text = letter.job.datum.as_str();
    if text_alone {
        return Ok(out.write_all(text.as_bytes())?);
    }
    if output.json {
        return write_json(out, &DeadLetterReply::from(letter));
    }
    writeln!(out, "id        {}", letter.job.id)?;
    writeln!(out, "received  {}", letter.job.received_at)?;
    writeln!(out, "died      {}", letter.died_at)?;
    writeln!(out, "attempts  {}", letter.attempts)?;
    writeln!(out, "error     {}", letter.error)?;
    Ok(writeln!(out, "text      {} bytes\n\n{text}", text.len())?)
}

#[derive(Clone, Copy)]
enum Action {
    Retry,
    Drop,
}

/// What was done to a dead letter: `{"retried": "…"}`, a line of the commands' `--json`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum DoneReply {
    Retried(DatumId),
    Dropped(DatumId),
}

impl Action {
    fn past_tense(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Drop => "dropped",
        }
    }

    /// Does it to one dead letter; `false` if there is none with this id.
    async fn apply(self, backends: &Backends, id: DatumId) -> Result<bool, CommandError> {
        match self {
            Self::Retry => Ok(backends.queue.retry_dead(id).await?),
            Self::Drop => {
                if backends.queue.job_state(id).await? != Some(JobState::Dead) {
                    return Ok(false);
                }
                // The tombstone first, as with every retraction, so that the store refuses a job that comes back later.
                let before = backends.store.retract(id).await?;
                backends.queue.retract(id, before == Retraction::WasLive).await?;
                Ok(true)
            }
        }
    }

    fn report(self, out: &mut dyn Write, id: DatumId, output: Output) -> Result<(), CommandError> {
        if !output.json {
            return Ok(writeln!(out, "{} {id}", self.past_tense())?);
        }
        let reply = match self {
            Self::Retry => DoneReply::Retried(id),
            Self::Drop => DoneReply::Dropped(id),
        };
        write_json(out, &reply)
    }
}

/// Does it to each of the selection, and reports it. An id that names no dead letter does not keep it from the others.
async fn for_each(
    out: &mut dyn Write,
    selection: Selection,
    backends: &Backends,
    action: Action,
) -> Result<(), CommandError> {
    let Selection { ids, all, output } = selection;
    let mut missing = Vec::new();
    for id in ids {
        if action.apply(backends, id).await? {
            action.report(out, id, output)?;
        } else {
            missing.push(id);
        }
    }
    if all {
        let mut count = 0_u64;
        let mut dead = DeadNow::begin(&*backends.queue).await?;
        loop {
            let page = dead.next_page().await?;
            if page.is_empty() {
                break;
            }
            for letter in page {
                if action.apply(backends, letter.id).await? {
                    count += 1;
                    action.report(out, letter.id, output)?;
                }
            }
        }
        if !output.json {
            writeln!(out, "{} {count} in all", action.past_tense())?;
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(CommandError::NoSuch(missing)) }
}
