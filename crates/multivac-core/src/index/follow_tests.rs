use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;

use super::*;
use crate::adapters::embedded::Embedded;
use crate::datum::{Datum, DatumId, Timestamp};
use crate::process::process;
use crate::queue::{Job, QueueSettings};
use crate::store::{
    BackupKind, Changes, Put, Retraction, Scan, SeenReplica, SnapshotEntries, StoreCounts, StoreEntry, StoredDatum,
    Tombstone,
};

/// The embedded store as if other processes used it, whose changes panic when they are read for the first time.
struct PanicsOnce {
    store: Arc<dyn Store>,
    panicked: Arc<AtomicBool>,
    announced: AtomicUsize,
}

struct PanickingChanges {
    changes: Box<dyn Changes>,
    panicked: Arc<AtomicBool>,
}

#[async_trait]
impl Changes for PanickingChanges {
    async fn next(&mut self, max: usize) -> Result<ChangeBatch, StoreError> {
        assert!(self.panicked.swap(true, Ordering::SeqCst), "on purpose, once");
        self.changes.next(max).await
    }
}

#[async_trait]
impl Store for PanicsOnce {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.prepare().await
    }
    async fn put(&self, data: &[StoredDatum]) -> Result<Vec<Put>, StoreError> {
        self.store.put(data).await
    }
    async fn get(&self, id: DatumId) -> Result<Option<StoreEntry>, StoreError> {
        self.store.get(id).await
    }
    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError> {
        self.store.retract(id).await
    }
    async fn position(&self) -> Result<Position, StoreError> {
        self.store.position().await
    }
    fn scan(&self) -> Scan<'_> {
        self.store.scan()
    }
    fn snapshot(&self) -> SnapshotEntries<'_> {
        self.store.snapshot()
    }
    async fn put_tombstones(&self, tombstones: &[Tombstone]) -> Result<Vec<Retraction>, StoreError> {
        self.store.put_tombstones(tombstones).await
    }
    async fn record_backup(&self, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError> {
        self.store.record_backup(kind, completed_at).await
    }
    async fn last_backup(&self, kind: BackupKind) -> Result<Option<Timestamp>, StoreError> {
        self.store.last_backup(kind).await
    }
    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError> {
        let changes = self.store.follow(from).await?;
        Ok(Box::new(PanickingChanges { changes, panicked: Arc::clone(&self.panicked) }))
    }
    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.store.counts().await
    }
    async fn announce(&self, replica: &str, position: Option<Position>) -> Result<(), StoreError> {
        self.announced.fetch_add(1, Ordering::SeqCst);
        self.store.announce(replica, position).await
    }
    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError> {
        self.store.replicas_behind(position).await
    }
    async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError> {
        self.store.replicas().await
    }
}

fn datum(text: &str) -> StoredDatum {
    let now = Timestamp::now();
    let job = Job { id: DatumId::generate(), datum: Datum::accepted_before(text), received_at: now, trace: None };
    process(&job, now)
}

#[tokio::test]
async fn a_puller_that_panics_is_started_again_and_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).expect("a new database");
    let store =
        Arc::new(PanicsOnce { store: embedded.store(), panicked: Arc::default(), announced: AtomicUsize::new(0) });
    let index = Arc::new(Index::new().expect("a new index"));
    let follower = Follower::new(store.clone(), Arc::clone(&index), "a replica".to_owned());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    progress.wait_for(|progress| progress.following).await.expect("it runs");
    assert_eq!(follower.interruptions(), 1);
    // It follows: what is put now becomes visible.
    let learned = datum("Entropy was reversed.");
    store.put(std::slice::from_ref(&learned)).await.expect("stored");
    let position = store.position().await.expect("a position");
    progress.wait_for(|progress| progress.position >= position).await.expect("it runs");
    assert!(index.contains(learned.id));
    stop.cancel();
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_replica_is_announced_while_its_index_is_busy_and_signed_off_when_it_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).expect("a new database");
    let panicked = Arc::new(AtomicBool::new(true));
    let store = Arc::new(PanicsOnce { store: embedded.store(), panicked, announced: AtomicUsize::new(0) });
    let index = Arc::new(Index::new().expect("a new index"));
    let follower = Follower::new(store.clone(), Arc::clone(&index), "a replica".to_owned());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    progress.wait_for(|progress| progress.following).await.expect("it runs");
    let (learned, taken_back) = (datum("Entropy was reversed."), datum("Entropy was not reversed."));
    store.put(&[learned.clone(), taken_back.clone()]).await.expect("stored");
    progress.wait_for(|_| index.contains(taken_back.id)).await.expect("it runs");
    assert!(!follower.fence().is_fenced());
    // The index is busy: nothing can be applied until `release`.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (holding, held) = tokio::sync::oneshot::channel();
    let busy = std::thread::spawn({
        let index = Arc::clone(&index);
        move || {
            let _files = index.files();
            let _ = holding.send(());
            let _ = released.recv();
        }
    });
    held.await.expect("it holds the index");
    store.retract(taken_back.id).await.expect("retracted");
    let position = store.position().await.expect("a position");
    let before = store.announced.load(Ordering::SeqCst);
    while store.announced.load(Ordering::SeqCst) < before + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.replicas_behind(position).await.expect("known"), ["a replica"], "it is waited for");
    drop(release);
    busy.join().expect("no panic");
    while !store.replicas_behind(position).await.expect("known").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!index.contains(taken_back.id) && index.contains(learned.id));
    assert_eq!(follower.removed_at(taken_back.id), Some(position));
    stop.cancel();
    running.await.expect("no panic");
    assert!(follower.fence().is_fenced(), "whoever still asks it gets nothing");
    assert!(store.replicas_behind(Position(u64::MAX)).await.expect("known").is_empty());
}

#[tokio::test]
async fn an_index_whose_directory_is_removed_is_filled_again_in_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).expect("a new database");
    let store = embedded.store();
    let index = Arc::new(Index::new().expect("a new index"));
    let before = datum("Entropy was reversed.");
    store.put(std::slice::from_ref(&before)).await.expect("stored");
    let follower = Follower::new(Arc::clone(&store), Arc::clone(&index), "a replica".to_owned());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (follower, stop) = (Arc::clone(&follower), stop.clone());
        async move { follower.run(stop).await }
    });
    let mut progress = follower.progress();
    progress.wait_for(|progress| progress.following).await.expect("it runs");
    for n in 0..3 {
        let path = index.files().directory.path().to_owned();
        std::fs::remove_dir_all(&path).expect("it is there");
        if n > 0 {
            // Found by a commit that fails; without one, by the check.
            store.put(&[datum(&format!("Soup number {n} was cooked."))]).await.expect("stored");
        }
        let lost = progress.wait_for(|progress| !progress.following).await.expect("it runs");
        assert!(lost.caught_up && lost.unwritable);
        drop(lost);
        assert!(index.contains(before.id), "what was visible stays so meanwhile");
        let position = store.position().await.expect("a position");
        progress.wait_for(|now| now.following && now.position >= position).await.expect("it runs");
        assert_eq!(index.snapshot().learned, 1 + n);
        assert_ne!(index.files().directory.path(), path);
    }
    stop.cancel();
    running.await.expect("no panic");
}
