//! Writes a backup.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{BackupError, FORMAT, Header, Told, Trailer, VERSION, lines, place};
use crate::datum::{DatumId, Timestamp};
use crate::observe::metrics;
use crate::store::{SnapshotEntries, StoreEntry};

/// Batches that wait for being written.
const WAITING_BATCHES: usize = 2;

/// Writes entries in their order.
pub struct Writer<W: Write> {
    out: GzEncoder<W>,
    digest: Sha256,
    trailer: Trailer,
    last: Option<(bool, DatumId)>,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: W) -> Result<Self, BackupError> {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            exported_at: Timestamp::now().to_string(),
            by: metrics::version().to_owned(),
        };
        // Fast, since MongoDB keeps the moment for minutes: a third larger than at gzip's default level, in a quarter of the time
        // (60 MB of prose, measured 2026-11-27).
        let mut out = GzEncoder::new(out, Compression::fast());
        let mut line = serde_json::to_vec(&header).map_err(io::Error::from)?;
        line.push(b'\n');
        out.write_all(&line)?;
        let trailer = Trailer { data: 0, tombstones: 0, unreadable: 0, sha256: String::new() };
        Ok(Self { out, digest: Sha256::new(), trailer, last: None, line })
    }

    /// Writes an entry, whose id comes after that of the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn entry(&mut self, entry: &StoreEntry) -> Result<(), BackupError> {
        let place = Some(place(entry.id()));
        if self.last >= place {
            return Err(BackupError::Task(format!("the store gave {} out of its order", entry.id())));
        }
        self.last = place;
        match entry {
            StoreEntry::Live(_) => self.trailer.data += 1,
            StoreEntry::Tombstone { .. } => self.trailer.tombstones += 1,
            StoreEntry::Unreadable { .. } => self.trailer.unreadable += 1,
        }
        self.line.clear();
        lines::write(entry, &mut self.line).map_err(io::Error::from)?;
        self.digest.update(&self.line);
        self.out.write_all(&self.line)?;
        // One large datum is not to hold its memory for all that follow.
        self.line.shrink_to(1 << 20);
        Ok(())
    }

    /// Writes the trailer, and returns it with what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(W, Trailer), BackupError> {
        self.trailer.sha256 = hexadecimal(&self.digest.finalize());
        self.line.clear();
        lines::write_end(self.trailer.clone(), &mut self.line).map_err(io::Error::from)?;
        self.out.write_all(&self.line)?;
        let mut out = self.out.finish()?;
        out.flush()?;
        Ok((out, self.trailer))
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a snapshot: packs on a thread of its own while the store is read.
///
/// # Errors
/// When the store cannot be read, or `out` not written.
pub async fn write<W: Write + Send + 'static>(
    mut snapshot: SnapshotEntries<'_>,
    out: W,
    told: Told<'_>,
) -> Result<(W, Trailer), BackupError> {
    let (sender, mut batches) = mpsc::channel::<Vec<StoreEntry>>(WAITING_BATCHES);
    let writing = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(out)?;
        while let Some(batch) = batches.blocking_recv() {
            for entry in &batch {
                writer.entry(entry)?;
            }
        }
        Ok(writer)
    });
    let (mut done, mut failed) = (0, None);
    while let Some(batch) = snapshot.next().await {
        match batch {
            Ok(batch) => {
                done += batch.len() as u64;
                // Where the writer has failed, its error says more.
                if sender.send(batch).await.is_err() {
                    break;
                }
                told(done);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let writer = writing.await.map_err(|ended| BackupError::Task(ended.to_string()))?;
    match (writer, failed) {
        (Err(error), _) => Err(error),
        (Ok(_), Some(error)) => Err(error.into()),
        (Ok(writer), None) => {
            let finishing = tokio::task::spawn_blocking(move || writer.finish());
            finishing.await.map_err(|ended| BackupError::Task(ended.to_string()))?
        }
    }
}
