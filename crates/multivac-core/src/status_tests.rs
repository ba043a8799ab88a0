#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::adapters::embedded::Embedded;
use crate::queue::QueueSettings;
use crate::store::{
    BackupKind, Changes, Position, Put, Scan, SeenReplica, SnapshotEntries, StoreCounts, StoredDatum, Tombstone,
};

/// A store that cannot be counted, and says when that was tried.
struct Uncountable(mpsc::UnboundedSender<Instant>);

#[async_trait]
impl Store for Uncountable {
    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.0.send(Instant::now()).unwrap();
        Err(StoreError::Unavailable { message: "it takes too long".to_owned(), source: None })
    }
    async fn prepare(&self) -> Result<(), StoreError> {
        unreachable!("it is only counted")
    }
    async fn put(&self, _: &[StoredDatum]) -> Result<Vec<Put>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn get(&self, _: DatumId) -> Result<Option<StoreEntry>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn retract(&self, _: DatumId) -> Result<Retraction, StoreError> {
        unreachable!("it is only counted")
    }
    async fn position(&self) -> Result<Position, StoreError> {
        unreachable!("it is only counted")
    }
    fn scan(&self) -> Scan<'_> {
        unreachable!("it is only counted")
    }
    fn snapshot(&self) -> SnapshotEntries<'_> {
        unreachable!("it is only counted")
    }
    async fn put_tombstones(&self, _: &[Tombstone]) -> Result<Vec<Retraction>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn record_backup(&self, _: BackupKind, _: Timestamp) -> Result<(), StoreError> {
        unreachable!("it is only counted")
    }
    async fn last_backup(&self, _: BackupKind) -> Result<Option<Timestamp>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn follow(&self, _: Position) -> Result<Box<dyn Changes>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn announce(&self, _: &str, _: Option<Position>) -> Result<(), StoreError> {
        unreachable!("it is only counted")
    }
    async fn replicas_behind(&self, _: Position) -> Result<Vec<String>, StoreError> {
        unreachable!("it is only counted")
    }
    async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError> {
        unreachable!("it is only counted")
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_counted_is_asked_less_and_less() {
    let directory = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).unwrap();
    let index = Arc::new(Index::new().unwrap());
    let follower = Follower::new(embedded.store(), Arc::clone(&index), "a replica".to_owned());
    let stopped = CancellationToken::new();
    let following = tokio::spawn({
        let (follower, stopped) = (Arc::clone(&follower), stopped.clone());
        async move { follower.run(stopped).await }
    });
    follower.progress().wait_for(|progress| progress.caught_up).await.unwrap();
    stopped.cancel();
    following.await.unwrap();

    // Nothing else has a timer from here on, so time passes in the waits between two tries alone.
    tokio::time::pause();
    let ((trying, mut tried), stop) = (mpsc::unbounded_channel(), CancellationToken::new());
    let registry = Registry { queue: embedded.queue(), store: Arc::new(Uncountable(trying)), index, follower };
    let reconciling = tokio::spawn(registry.keep_reconciled(stop.clone()));
    let (mut waits, mut last) = (Vec::new(), tried.recv().await.unwrap());
    while waits.len() < 10 {
        let now = tried.recv().await.unwrap();
        waits.push((now - std::mem::replace(&mut last, now)).as_secs());
    }
    stop.cancel();
    reconciling.await.unwrap();
    assert!((2..=4).contains(&waits[0]), "{waits:?}");
    assert!(waits[6..].iter().all(|wait| (60..=121).contains(wait)), "{waits:?}");
}
