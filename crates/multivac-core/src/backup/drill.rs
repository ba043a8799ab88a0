//! Tries a backup: imports it into an embedded MultiVAC that is thrown away, and asks that.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::read::Reader;
use super::restore::{check, restore};
use super::write::write;
use super::{BackupError, Told, Trailer};
use crate::adapters::Backends;
use crate::answer::{Status, answer};
use crate::datum::DatumId;
use crate::index::Index;
use crate::index::follow::Follower;
use crate::process::sentences;
use crate::question::Question;
use crate::queue::QueueSettings;
use crate::store::StoreEntry;

/// How long the index may take to be filled.
const INDEX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Sentences that are asked for: one of them has to be found. Not each one makes a question, such as a row of numbers.
const SAMPLES: usize = 20;

/// What a drill has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// What the backup holds, and what was exported again after it was imported.
    pub trailer: Trailer,
    /// The question that was asked.
    pub question: String,
    /// The datum that was its evidence; `None` where there are no data, and none was asked for.
    pub evidence: Option<DatumId>,
}

/// Verifies the file, imports it into `directory`, exports it again, fills an index and asks.
///
/// # Errors
/// When anything of that does not come out as it should.
pub async fn drill(file: &File, directory: &Path, told: Told<'_>) -> Result<Drilled, BackupError> {
    let (_, expected) = check(file, |_| {}).await?;
    let backends = Backends::embedded(directory, QueueSettings::default())?;
    restore(&backends, file, told).await?;
    let counts = backends.store.counts().await?;
    if (counts.learned, counts.retracted) != (expected.data, expected.tombstones) {
        let (data, tombstones) = (expected.data, expected.tombstones);
        let found = format!("{} data and {} tombstones are there", counts.learned, counts.retracted);
        return Err(BackupError::Unfit(format!("it holds {data} data and {tombstones} tombstones, and {found}")));
    }
    let (_, again) = write(backends.store.snapshot(), io::sink(), &|_| {}).await?;
    if again.sha256 != expected.sha256 {
        return Err(BackupError::Unfit("exported again, it has another checksum".to_owned()));
    }
    let ledger = backends.queue.ledger().await?;
    if ledger.accepted != counts.learned + counts.retracted {
        return Err(BackupError::Unfit(format!("the ledger does not balance: {ledger:?}")));
    }
    let asked = ask(&backends, samples(file)?).await?;
    Ok(Drilled { trailer: expected, question: asked.0, evidence: asked.1 })
}

/// A sentence of each of the first data that have one.
fn samples(file: &File) -> Result<Vec<(DatumId, Question)>, BackupError> {
    let mut reader = Reader::new(super::restore::begin(file.try_clone()?)?)?;
    let mut samples = Vec::new();
    while samples.len() < SAMPLES
        && let Some(entry) = reader.next_entry()?
    {
        let StoreEntry::Live(datum) = entry else { continue };
        let all = datum.passages.iter().flat_map(|passage| sentences(passage).into_iter().map(|at| &passage[at]));
        let of =
            all.filter(|sentence| sentence.split_whitespace().count() >= 3).find_map(|sentence| sentence.parse().ok());
        samples.extend(of.map(|question| (datum.id, question)));
    }
    Ok(samples)
}

/// Fills an index and asks it. Whether an answer is likely to be right is not the point here, so any may be given.
async fn ask(backends: &Backends, samples: Vec<(DatumId, Question)>) -> Result<(String, Option<DatumId>), BackupError> {
    let index = Arc::new(Index::new()?);
    let follower = Follower::new(Arc::clone(&backends.store), Arc::clone(&index), "a drill".to_owned());
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    let caught_up = progress.wait_for(|progress| progress.caught_up);
    let caught_up = tokio::time::timeout(INDEX_TIMEOUT, caught_up).await.is_ok_and(|progress| progress.is_ok());
    let asked = if caught_up {
        let index = Arc::clone(&index);
        super::restore::blocking(move || ask_index(&index, samples)).await
    } else {
        Err(BackupError::Unfit("its index was not full in time".to_owned()))
    };
    stop.cancel();
    let _ = following.await;
    asked
}

fn ask_index(index: &Index, samples: Vec<(DatumId, Question)>) -> Result<(String, Option<DatumId>), BackupError> {
    let snapshot = index.snapshot();
    if samples.is_empty() {
        let standing = Question::default();
        let reply = answer(&standing, &snapshot, 1.0)?;
        if reply.status == Status::Answered && snapshot.learned == 0 {
            return Err(BackupError::Unfit("an empty one answers".to_owned()));
        }
        return Ok((standing.to_string(), None));
    }
    for (id, question) in samples {
        let reply = answer(&question, &snapshot, 0.0)?;
        if reply.status == Status::Answered && reply.evidence.iter().any(|evidence| evidence.id == id) {
            return Ok((question.to_string(), Some(id)));
        }
    }
    Err(BackupError::Unfit("asked for a sentence that is in it, its index does not find that".to_owned()))
}
