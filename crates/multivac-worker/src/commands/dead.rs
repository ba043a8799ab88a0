//! `dead`: what became of data whose attempts were used up, and what shall become of them.

use std::collections::HashSet;
use std::io::Write;

use multivac_core::adapters::Backends;
use multivac_core::datum::DatumId;
use multivac_core::queue::{DeadLetter, JobState, QueueAdmin};
use multivac_core::store::Retraction;
use serde_json::{Value, json};

use super::CommandError;
use crate::cli::{Dead, Output, Which};

/// Letters read at once; each has its text.
const PAGE: usize = 20;

pub(super) async fn run(out: &mut dyn Write, command: Dead, backends: &Backends) -> Result<(), CommandError> {
    match command {
        Dead::List { max, output } => list(out, &*backends.queue, max.unwrap_or(usize::MAX), output).await,
        Dead::Show { id, text, output } => {
            let letter = backends.queue.dead_letter(id).await?.ok_or(CommandError::NoSuch(vec![id]))?;
            Ok(show(out, &letter, text, output)?)
        }
        Dead::Retry(which) => each(out, which, backends, Act::Retry).await,
        Dead::Drop(which) => each(out, which, backends, Act::Drop).await,
    }
}

async fn list(out: &mut dyn Write, queue: &dyn QueueAdmin, max: usize, output: Output) -> Result<(), CommandError> {
    let (mut listed, mut after) = (HashSet::new(), None);
    while listed.len() < max {
        let page = queue.dead_letters(after, PAGE.min(max - listed.len())).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.job.id);
        let mut news = false;
        for letter in &page {
            // A list begins anew where somebody took its last letter away meanwhile.
            if listed.insert(letter.job.id) {
                news = true;
                write_line(out, letter, output)?;
            }
        }
        if !news {
            break;
        }
    }
    if listed.is_empty() && !output.json {
        writeln!(out, "there are no dead letters")?;
    }
    Ok(())
}

fn write_line(out: &mut dyn Write, letter: &DeadLetter, output: Output) -> std::io::Result<()> {
    if output.json {
        return writeln!(out, "{}", describe(letter));
    }
    let (id, bytes, error) = (letter.job.id, letter.job.datum.as_str().len(), first_line(&letter.error));
    writeln!(out, "{id}  died {}  {} attempts  {bytes} bytes  {error}", letter.died_at, letter.attempts)
}

/// An error may have several lines, a line of a list may not.
fn first_line(error: &str) -> &str {
    error.lines().next().unwrap_or_default()
}

fn describe(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.job.id.to_string(),
        "received_at": letter.job.received_at.to_string(),
        "died_at": letter.died_at.to_string(),
        "attempts": letter.attempts,
        "error": letter.error,
        "size_bytes": letter.job.datum.as_str().len(),
    })
}

fn show(out: &mut dyn Write, letter: &DeadLetter, text_alone: bool, output: Output) -> std::io::Result<()> {
    let text = letter.job.datum.as_str();
    if text_alone {
        return out.write_all(text.as_bytes());
    }
    if output.json {
        let mut letter = describe(letter);
        letter["data"] = text.into();
        return writeln!(out, "{letter}");
    }
    writeln!(out, "id        {}", letter.job.id)?;
    writeln!(out, "received  {}", letter.job.received_at)?;
    writeln!(out, "died      {}", letter.died_at)?;
    writeln!(out, "attempts  {}", letter.attempts)?;
    writeln!(out, "error     {}", letter.error)?;
    writeln!(out, "text      {} bytes\n\n{text}", text.len())
}

#[derive(Clone, Copy)]
enum Act {
    Retry,
    Drop,
}

impl Act {
    fn done(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Drop => "dropped",
        }
    }

    /// Whether there was such a letter.
    async fn on(self, backends: &Backends, id: DatumId) -> Result<bool, CommandError> {
        match self {
            Self::Retry => Ok(backends.queue.retry_dead(id).await?),
            Self::Drop => {
                if backends.queue.job_state(id).await? != Some(JobState::Dead) {
                    return Ok(false);
                }
                // The tombstone first, as with every retraction: what comes back later meets it.
                let before = backends.store.retract(id).await?;
                backends.queue.retract(id, before == Retraction::WasLive).await?;
                Ok(true)
            }
        }
    }
}

/// Does it to each, and says so. One that is not there keeps none of the others from it.
async fn each(out: &mut dyn Write, which: Which, backends: &Backends, act: Act) -> Result<(), CommandError> {
    let mut missing = Vec::new();
    let mut count = 0_u64;
    let mut say = |out: &mut dyn Write, id| {
        count += 1;
        match which.output.json {
            true => writeln!(out, "{}", json!({ act.done(): id })),
            false => writeln!(out, "{} {id}", act.done()),
        }
    };
    if which.all {
        // Those that lie there now: one that was retried, and is dead again before the end, is not retried again.
        let mut seen = HashSet::new();
        loop {
            let page = backends.queue.dead_letters(None, PAGE).await?;
            let new: Vec<DatumId> = page.iter().map(|letter| letter.job.id).filter(|id| seen.insert(*id)).collect();
            if new.is_empty() {
                break;
            }
            for id in new {
                if act.on(backends, id).await? {
                    say(out, id.to_string())?;
                }
            }
        }
    }
    for id in which.ids {
        if act.on(backends, id).await? {
            say(out, id.to_string())?;
        } else {
            missing.push(id);
        }
    }
    if which.all && !which.output.json {
        writeln!(out, "{} {count} in all", act.done())?;
    }
    if missing.is_empty() { Ok(()) } else { Err(CommandError::NoSuch(missing)) }
}
