//! Brings a backup into a store.
//!
//! Every step is idempotent by id, so whatever interrupts it, the same again ends it. A tombstone wins over a datum, whichever
//! of the two is in the backup: so nothing that was ever taken back comes again. Nothing is removed. It may run beside
//! everything else: replicas follow the store, and the ledger is reconciled with it here, or by a replica once the queue is
//! empty.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::read::{Reader, verify};
use super::{BackupError, Header, Told, Trailer};
use crate::adapters::{BackendError, Backends};
use crate::datum::DatumId;
use crate::runtime::retry::Retry;
use crate::store::{Put, Retraction, StoreCounts, StoreEntry, StoredDatum, Tombstone};

/// How many entries are restored in one step, and about how many bytes of text.
const BATCH_ENTRIES: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// Batches that wait for the store.
const WAITING_BATCHES: usize = 2;

/// For how long a step is tried again while a backend is away, and the waits in between.
const AWAY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How often the ledger is tried to be reconciled before that is left to a replica.
const RECONCILE_TRIES: u32 = 5;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup holds.
    pub trailer: Trailer,
    /// Data of the backup that the store knows to be retracted, and that stay so.
    pub stay_retracted: u64,
    /// Data of the store that tombstones of the backup took back.
    pub taken_back: u64,
    /// What the store holds now; `None` where it did not count in time.
    pub counts: Option<StoreCounts>,
    /// Whether the ledger agrees with the store. If not, a replica reconciles it when the queue is empty.
    pub reconciled: bool,
}

/// Verifies the whole file first: nothing is changed by one that is damaged.
///
/// # Errors
/// When it is.
pub async fn check(file: &File, told: impl Fn(u64) + Send + 'static) -> Result<(Header, Trailer), BackupError> {
    let file = file.try_clone()?;
    blocking(move || verify(begin(file)?, &told)).await
}

/// Restores a file that [`check`] found to be whole.
///
/// # Errors
/// When a backend stays away, or does not take some data. All is as if it were called no more than once, however often it is.
pub async fn restore(backends: &Backends, file: &File, told: Told<'_>) -> Result<Restored, BackupError> {
    again(async || Ok::<_, BackendError>(backends.store.prepare().await?)).await?;
    again(async || Ok::<_, BackendError>(backends.queue.prepare().await?)).await?;
    let ledger = again(async || Ok::<_, BackendError>(backends.queue.ledger().await?)).await?;
    let mut restoring = Restoring {
        backends,
        has_jobs: !ledger.is_quiet() || ledger.dead > 0,
        stay_retracted: 0,
        taken_back: 0,
        refused: None,
    };
    let (sender, mut batches) = mpsc::channel(WAITING_BATCHES);
    let file = file.try_clone()?;
    let reading = tokio::task::spawn_blocking(move || read(file, &sender));
    let mut done = 0;
    while let Some(batch) = batches.recv().await {
        done += restoring.batch(batch).await?;
        told(done);
    }
    let trailer = reading.await.map_err(|ended| BackupError::Task(ended.to_string()))??;
    let (counts, reconciled) = reconcile(backends).await;
    if let Some((count, id, why)) = restoring.refused {
        return Err(BackupError::Refused { count, id, why });
    }
    let Restoring { stay_retracted, taken_back, .. } = restoring;
    Ok(Restored { trailer, stay_retracted, taken_back, counts, reconciled })
}

pub(super) fn begin(mut file: File) -> Result<BufReader<File>, BackupError> {
    file.seek(SeekFrom::Start(0))?;
    Ok(BufReader::with_capacity(64 << 10, file))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| BackupError::Task(ended.to_string()))?
}

/// Data and tombstones that are restored together.
#[derive(Default)]
struct Batch {
    data: Vec<StoredDatum>,
    tombstones: Vec<Tombstone>,
    bytes: usize,
}

impl Batch {
    fn len(&self) -> usize {
        self.data.len() + self.tombstones.len()
    }
}

/// Reads batches until nobody takes them any more. The checksums are compared again at the end: the file may have changed.
fn read(file: File, sender: &mpsc::Sender<Batch>) -> Result<Trailer, BackupError> {
    let mut reader = Reader::new(begin(file)?)?;
    let mut batch = Batch::default();
    while let Some(entry) = reader.next_entry()? {
        match entry {
            StoreEntry::Live(datum) => {
                batch.bytes += datum.text.len() + datum.passages.iter().map(String::len).sum::<usize>();
                batch.data.push(datum);
            }
            StoreEntry::Tombstone { id, received_at, retracted_at } => {
                batch.tombstones.push(Tombstone { id, received_at, retracted_at });
            }
            StoreEntry::Unreadable { .. } => {}
        }
        if (batch.len() >= BATCH_ENTRIES || batch.bytes >= BATCH_BYTES)
            && sender.blocking_send(std::mem::take(&mut batch)).is_err()
        {
            break;
        }
    }
    let _ = sender.blocking_send(batch);
    Ok(reader.trailer().clone())
}

struct Restoring<'a> {
    backends: &'a Backends,
    /// Whether the queue had jobs or dead letters, of which some may be retracted by the backup.
    has_jobs: bool,
    stay_retracted: u64,
    taken_back: u64,
    /// How many, and the first with the reason.
    refused: Option<(u64, DatumId, String)>,
}

impl Restoring<'_> {
    async fn batch(&mut self, batch: Batch) -> Result<u64, BackupError> {
        let done = batch.len() as u64;
        let mut waiting = batch.data;
        while !waiting.is_empty() {
            waiting = again(async || self.backends.store.put(&waiting).await.map_err(BackendError::from))
                .await
                .map(|puts| self.sort_out(waiting, puts))?;
            if !waiting.is_empty() {
                tokio::time::sleep(RETRY_DELAYS.0).await;
            }
        }
        if !batch.tombstones.is_empty() {
            self.tombstones(&batch.tombstones).await?;
        }
        Ok(done)
    }

    /// Counts what became of data; those that are to be put again.
    fn sort_out(&mut self, data: Vec<StoredDatum>, puts: Vec<Put>) -> Vec<StoredDatum> {
        let mut waiting = Vec::new();
        for (datum, put) in data.into_iter().zip(puts) {
            match put {
                Put::Stored => {}
                Put::Retracted => self.stay_retracted += 1,
                Put::Unavailable(_) => waiting.push(datum),
                Put::Refused(why) => self.refused.get_or_insert((0, datum.id, why)).0 += 1,
            }
        }
        waiting
    }

    async fn tombstones(&mut self, tombstones: &[Tombstone]) -> Result<(), BackupError> {
        let put = async || self.backends.store.put_tombstones(tombstones).await.map_err(BackendError::from);
        let before = again(put).await?;
        for (tombstone, before) in tombstones.iter().zip(before) {
            let was_live = before == Retraction::WasLive;
            self.taken_back += u64::from(was_live);
            // The ledger and a job or a dead letter of the datum, as when a client takes it back.
            if was_live || self.has_jobs {
                let retract =
                    async || Ok::<_, BackendError>(self.backends.queue.retract(tombstone.id, was_live).await?);
                again(retract).await?;
            }
        }
        Ok(())
    }
}

/// Makes a call until it succeeds, while its backend is away for no longer than [`AWAY_TIMEOUT`].
pub(crate) async fn again<T>(call: impl AsyncFn() -> Result<T, BackendError>) -> Result<T, BackupError> {
    let (started, stop) = (Instant::now(), CancellationToken::new());
    let mut retry = Retry::new(RETRY_DELAYS.0, RETRY_DELAYS.1);
    loop {
        match call().await {
            Ok(reply) => return Ok(reply),
            Err(source) if source.is_transient() && started.elapsed() >= AWAY_TIMEOUT => {
                return Err(BackupError::Away { minutes: AWAY_TIMEOUT.as_secs() / 60, source });
            }
            Err(error) if error.is_transient() => {
                retry.failed();
                retry.wait(&stop).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Brings the ledger in line with the store where nothing is unfinished, and whether it is then.
async fn reconcile(backends: &Backends) -> (Option<StoreCounts>, bool) {
    let mut counted = None;
    for _ in 0..RECONCILE_TRIES {
        let Ok(seen) = backends.queue.ledger().await else { break };
        let Ok(counts) = backends.store.counts().await else { break };
        counted = Some(counts);
        if !seen.is_quiet() {
            break;
        }
        if (seen.learned, seen.retracted) == (counts.learned, counts.retracted) {
            return (counted, true);
        }
        if matches!(backends.queue.reconcile(&seen, counts.learned, counts.retracted).await, Ok(true)) {
            return (counted, true);
        }
    }
    (counted, false)
}
