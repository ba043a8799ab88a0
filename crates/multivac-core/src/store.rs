//! Link 4, the port: a [`Store`] keeps every learned datum. It is the truth; all else can be rebuilt from it.
//!
//! Promises that every adapter keeps, and the contract tests check:
//!
//! - **Idempotent**: putting a datum again changes nothing.
//! - **Retracted stays retracted**: a tombstone without the text stays in a datum's place for good, so that a job that
//!   is delivered again cannot bring it back.
//! - **Followed without a gap**: whoever scans from a [`Position`] on and then follows from it sees every change.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};

use crate::datum::{DatumId, Timestamp};

/// A datum as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDatum {
    /// Its id.
    pub id: DatumId,
    /// The text, byte for byte as it was fed.
    pub text: String,
    /// Its passages, which [`process`](crate::process) made of the text.
    pub passages: Vec<String>,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// When it was processed.
    pub processed_at: Timestamp,
    /// The trace that it belongs to, as its [job](crate::queue::Job::trace) carried it.
    pub trace: Option<String>,
}

/// What lies under an id.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreEntry {
    /// A learned datum.
    Live(StoredDatum),
    /// It was taken back.
    Tombstone {
        /// Its id.
        id: DatumId,
        /// When the datum was accepted, where that is known.
        received_at: Option<Timestamp>,
        /// When it was taken back.
        retracted_at: Timestamp,
    },
    /// A learned datum whose entry is damaged.
    Unreadable {
        /// Its id.
        id: DatumId,
    },
}

impl StoreEntry {
    /// Under which id it lies.
    #[must_use]
    pub fn id(&self) -> DatumId {
        match self {
            Self::Live(datum) => datum.id,
            Self::Tombstone { id, .. } | Self::Unreadable { id } => *id,
        }
    }
}

/// A tombstone, as a backup brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The id of the datum that was taken back.
    pub id: DatumId,
    /// When the datum was accepted, where that is known.
    pub received_at: Option<Timestamp>,
    /// When it was taken back.
    pub retracted_at: Timestamp,
}

/// What was made for the case that all is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupKind {
    /// A backup, whole and in its place.
    Backup,
    /// A backup that was imported and asked, to see whether it serves.
    Drill,
}

impl BackupKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Backup, Self::Drill];

    /// Its name in the store and in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Drill => "drill",
        }
    }
}

/// What became of one datum that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there now, whether by this call or by one before.
    Stored,
    /// A tombstone lies in its place; nothing was written.
    Retracted,
    /// This one cannot be stored, now or later, for the reason given; the others are not affected.
    Refused(String),
    /// This one could not be stored now, for the reason given, which is not its own; the same put may succeed later.
    Unavailable(String),
}

/// What lay in a datum's place before it was retracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retraction {
    /// A learned datum.
    WasLive,
    /// Nothing: it had not been learned yet.
    WasAbsent,
    /// A tombstone.
    WasRetracted,
}

/// A change of the store, as a follower needs it.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This datum is live now.
    Put(Box<StoredDatum>),
    /// This datum is not live any more.
    Removed(DatumId),
}

impl Change {
    /// How long the datum's text is, in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Put(datum) => datum.text.len(),
            Self::Removed(_) => 0,
        }
    }
}

/// How far a follower has come. Positions of one store compare in the order of its changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Changes that arrived together, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeBatch {
    /// The changes; none when the store had nothing new at the time.
    pub changes: Vec<Change>,
    /// Where the follower stands when it has applied them; following on from here misses nothing.
    pub position: Position,
}

/// How many data the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Live data.
    pub learned: u64,
    /// Tombstones.
    pub retracted: u64,
}

/// The room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What is left, in bytes.
    pub free_bytes: u64,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is out of reach, or could not do it now: the same call may succeed later.
    #[error("the store is out of reach: {message}")]
    Unavailable {
        /// What was tried, and what came of it.
        message: String,
        /// The library's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The store answers, but cannot be used as it is set up: someone has to change that.
    #[error("{0}")]
    Misconfigured(String),
    /// The store remembers no changes as far back as the asked position: scan again.
    #[error("the store does not remember changes that far back")]
    PositionLost,
}

impl StoreError {
    /// Whether the same call may succeed later by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Misconfigured(_) | Self::PositionLost => false,
        }
    }
}

/// Follows the store's changes from a position on.
#[async_trait]
pub trait Changes: Send {
    /// The next changes, up to `max`, as soon as there are any; an empty batch when the store had nothing new for a
    /// while (a second at most): whatever was written before this call began has been seen then.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: follow again from the last position. [`StoreError::PositionLost`]: scan again.
    async fn next(&mut self, max: usize) -> Result<ChangeBatch, StoreError>;
}

/// Live data in batches, as [`Store::scan`] gives them.
pub type Scan<'a> = BoxStream<'a, Result<Vec<StoredDatum>, StoreError>>;

/// All entries in batches, as [`Store::snapshot`] gives them.
pub type SnapshotEntries<'a> = BoxStream<'a, Result<Vec<StoreEntry>, StoreError>>;

/// How long a replica may answer after it began to announce itself, by its own clock: see [`fence`](crate::index::fence).
pub const REPLICA_ALIVE: Duration = Duration::from_secs(5);

/// After how long without a new announcement a replica is not waited for any more: it has fenced itself, or is gone. More
/// than [`REPLICA_ALIVE`], since between a replica's last look at its clock and the moment its answer leaves it some time
/// passes.
pub const REPLICA_SILENT: Duration = Duration::from_secs(6);

/// A replica that announces itself, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenReplica {
    /// Its name, new at each start.
    pub name: String,
    /// The version of its program, where that is known.
    pub version: Option<String>,
    /// Whether it was announced within [`REPLICA_ALIVE`], by this process's clock: so whether it may answer.
    pub is_alive: bool,
}

/// Keeps learned data; see the [module](self) for what it promises.
///
/// # Errors
/// Every method: [`StoreError::Unavailable`] when the backend did not do it or did not reply, so it may have been done all
/// the same. Every method is safe to repeat with the same arguments.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Connects, makes what is missing, and checks the backend's set-up. Called at start, and again until it succeeds.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: waiting will not help (wrong password, no replica set).
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Puts data, durably, and says what became of each, in their order.
    async fn put(&self, data: &[StoredDatum]) -> Result<Vec<Put>, StoreError>;

    /// What lies under an id.
    async fn get(&self, id: DatumId) -> Result<Option<StoreEntry>, StoreError>;

    /// Puts a tombstone in a datum's place, durably, whether the datum is there yet or not.
    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError>;

    /// The position of now: every change that was durable before the call is at it or before it.
    async fn position(&self) -> Result<Position, StoreError>;

    /// All live data, in no order. What is written meanwhile may or may not come.
    fn scan(&self) -> Scan<'_>;

    /// The same in up to `parts` scans, each of other data, to be read at the same time. Where the store cannot divide its
    /// data, there is one.
    async fn scan_in_parts(&self, _parts: usize) -> Result<Vec<Scan<'_>>, StoreError> {
        Ok(vec![self.scan()])
    }

    /// All data and tombstones as they were at one moment after the call, each once, in the order of their ids: those of
    /// MultiVAC (UUIDs), then those of the original application. What cannot be read comes as
    /// [`StoreEntry::Unreadable`] where its id is known, and what is no datum not at all.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: the backend does not keep that moment for as long as it takes to read all.
    fn snapshot(&self) -> SnapshotEntries<'_>;

    /// Puts tombstones that a backup brings, durably and with their own times, whether their data are there or not; says
    /// what lay in the place of each, in their order. One that is there already stays as it is.
    async fn put_tombstones(&self, tombstones: &[Tombstone]) -> Result<Vec<Retraction>, StoreError>;

    /// Notes that a backup or a drill has succeeded.
    async fn record_backup(&self, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError>;

    /// When the last of this kind has succeeded; `None` if none ever has.
    async fn last_backup(&self, kind: BackupKind) -> Result<Option<Timestamp>, StoreError>;

    /// The ids of all live data; others may be among them, such as those of what is no datum. Much cheaper than a scan
    /// where the store can tell without reading texts.
    async fn live_ids(&self) -> Result<HashSet<DatumId>, StoreError> {
        let (mut ids, mut scan) = (HashSet::new(), self.scan());
        while let Some(batch) = scan.next().await {
            ids.extend(batch?.into_iter().map(|datum| datum.id));
        }
        Ok(ids)
    }

    /// Notes, durably, that an index which is kept over restarts, under a name of its own, holds changes up to `position`. Called
    /// after that position was read of this store and before the index keeps it: so a store without the mark, or with an
    /// earlier one, is another than the one that the index was made from, or an older state of it. A store that cannot note
    /// it has no index kept.
    async fn mark_index(&self, _name: &str, _position: Position) -> Result<(), StoreError> {
        Ok(())
    }

    /// What was [marked](Self::mark_index) last under a name; `None` if nothing was, or if the data are not those any more, since
    /// they were dropped and made again. May be an older mark where two were made at once.
    async fn marked_index(&self, _name: &str) -> Result<Option<Position>, StoreError> {
        Ok(None)
    }

    /// Follows changes from a position on; changes at the position itself may come again.
    ///
    /// # Errors
    /// [`StoreError::PositionLost`], here or at the first [`Changes::next`].
    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError>;

    /// About how many data there are, to show how far a scan has come; tombstones may be counted too.
    async fn estimate(&self) -> Result<u64, StoreError> {
        Ok(self.counts().await?.learned)
    }

    /// Counts live data and tombstones. May take seconds; it is for reconciling the ledger, which is rare.
    async fn counts(&self) -> Result<StoreCounts, StoreError>;

    /// How many live data cannot be read, as far as was noticed. They are counted as learned, and neither a scan nor a
    /// follower brings them.
    fn unreadable(&self) -> u64 {
        0
    }

    /// The disk that the store lies on; `None` where it does not tell.
    async fn disk(&self) -> Result<Option<Disk>, StoreError> {
        Ok(None)
    }

    /// Whether replicas in other processes may follow this store, and retract from it.
    fn is_shared(&self) -> bool {
        true
    }

    /// Publishes how far the index of a replica has come, and that it is alive; with `None`, that it has ended, for good.
    /// A call that is carried out late, after others, makes a replica look older or alive for longer, never newer or gone.
    async fn announce(&self, replica: &str, position: Option<Position>) -> Result<(), StoreError>;

    /// Names the replicas that have not come as far as `position` and may still answer: not those that have ended, nor those
    /// of which this object has seen nothing new for [`REPLICA_SILENT`], by this process's clock and not by any that can be
    /// set. So it has to be called now and then, or a replica that ended without a word is waited for once more.
    ///
    /// What was announced before the call began is seen, whatever happens to the backend's servers meanwhile.
    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError>;

    /// The replicas that announced themselves in the last minute, as far as this object has seen, and have not ended; in the
    /// order of their names.
    async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError>;
}
