#![allow(clippy::unwrap_used)]

use super::super::Embedded;
use super::*;
use crate::queue::QueueSettings;

pub(in super::super) fn datum(id: DatumId, text: &str) -> StoredDatum {
    StoredDatum {
        id,
        text: text.into(),
        passages: vec![text.into(), "\"\u{1F320}\0".into()],
        received_at: Timestamp::from_millis(1),
        processed_at: Timestamp::from_millis(2),
        trace: None,
    }
}

fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), QueueSettings::default()).unwrap().store();
    (dir, store)
}

#[tokio::test]
async fn a_datum_is_kept_once_and_a_tombstone_stays() {
    let (_dir, store) = store();
    let (kept, gone) = (datum(DatumId::generate(), "kept"), datum(DatumId::Original([7; 12]), "gone"));
    let both = [kept.clone(), gone.clone()];
    assert_eq!(store.put(&both).await.unwrap(), [Put::Stored, Put::Stored]);
    assert_eq!(store.retract(gone.id).await.unwrap(), Retraction::WasLive);
    assert_eq!(store.retract(gone.id).await.unwrap(), Retraction::WasRetracted);
    assert_eq!(store.retract(DatumId::generate()).await.unwrap(), Retraction::WasAbsent);
    assert_eq!(store.put(&both).await.unwrap(), [Put::Stored, Put::Retracted]);
    assert_eq!(store.get(kept.id).await.unwrap(), Some(StoreEntry::Live(kept.clone())));
    let Some(StoreEntry::Tombstone { id, received_at, .. }) = store.get(gone.id).await.unwrap() else { panic!() };
    assert_eq!((id, received_at), (gone.id, Some(gone.received_at)));
    assert_eq!(store.counts().await.unwrap(), StoreCounts { learned: 1, retracted: 2 });
    let scanned: Vec<_> = store.scan().map(Result::unwrap).concat().await;
    assert_eq!(scanned, [kept]);
}

#[tokio::test]
async fn rows_are_such_as_0_1_0_can_read() {
    let (dir, store) = store();
    store.put(&[datum(DatumId::generate(), "kept")]).await.unwrap();
    let file = Connection::open(dir.path().join("multivac.db")).unwrap();
    let digest: String = file.query_row("SELECT digest FROM datum", [], |row| row.get(0)).unwrap();
    assert_eq!(digest, "");
}

#[tokio::test]
async fn a_scan_goes_on_past_its_batches() {
    let (_dir, store) = store();
    let many: Vec<_> = (0..2 * SCAN_ROWS + 1).map(|_| datum(DatumId::generate(), "x")).collect();
    store.put(&many).await.unwrap();
    let large: Vec<_> = (0..3).map(|_| datum(DatumId::generate(), &"y".repeat(3 << 20))).collect();
    store.put(&large).await.unwrap();
    let batches: Vec<_> = store.scan().map(Result::unwrap).collect().await;
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 2, 1, 1]);
    assert_eq!(batches.concat().len(), many.len() + large.len());
}

#[tokio::test]
async fn a_follower_sees_each_change_in_its_order_and_then_waits() {
    let (_dir, store) = store();
    let data: Vec<_> = (0..3).map(|_| datum(DatumId::generate(), "x")).collect();
    store.put(&data[..1]).await.unwrap();
    let from = store.position().await.unwrap();
    let mut changes = store.follow(from).await.unwrap();
    store.put(&data).await.unwrap();
    store.retract(data[1].id).await.unwrap();
    let first = changes.next(1).await.unwrap();
    assert_eq!(first.changes, [Change::Put(Box::new(data[2].clone()))]);
    let second = changes.next(9).await.unwrap();
    assert_eq!(second.changes, [Change::Removed(data[1].id)]);
    assert_eq!(second.position, store.position().await.unwrap());
    assert_eq!(changes.next(9).await.unwrap(), ChangeBatch { changes: vec![], position: second.position });
}

#[tokio::test]
async fn a_follower_that_waits_is_woken_and_one_that_is_dropped_loses_nothing() {
    let (_dir, store) = store();
    let mut changes = store.follow(Position(0)).await.unwrap();
    let first = changes.next(9).await.unwrap();
    assert_eq!(first.changes, [], "nothing is new, which it says without waiting");
    for _ in 0..50 {
        let new = datum(DatumId::generate(), "x");
        let cut = tokio::time::timeout(Duration::from_micros(300), changes.next(9)).await;
        assert!(cut.is_err(), "there is nothing yet");
        let started = Instant::now();
        let (batch, put) = tokio::join!(changes.next(9), store.put(std::slice::from_ref(&new)));
        put.unwrap();
        assert_eq!(batch.unwrap().changes, [Change::Put(Box::new(new))]);
        assert!(started.elapsed() < FOLLOW_WAIT / 2, "it was woken, not timed out");
    }
}

#[tokio::test]
async fn replicas_are_behind_until_they_have_come_far_enough() {
    let (_dir, store) = store();
    store.announce("a", Some(Position(3))).await.unwrap();
    store.announce("b", Some(Position(5))).await.unwrap();
    assert_eq!(store.replicas_behind(Position(5)).await.unwrap(), ["a"]);
    store.announce("a", None).await.unwrap();
    assert!(store.replicas_behind(Position(6)).await.unwrap() == ["b"]);
}
