#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

fn readers() -> (tempfile::TempDir, Readers) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE n (n INTEGER); INSERT INTO n VALUES (7)").unwrap();
    let readers = Readers::start(&path).unwrap();
    (dir, readers)
}

fn select(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT n FROM n", [], |row| row.get(0))
}

/// Succeeds only if that many threads read at once.
async fn read_at_once(readers: &Readers, count: usize) {
    let barrier = Arc::new(Barrier::new(count));
    let reads = (0..count).map(|_| {
        let barrier = Arc::clone(&barrier);
        readers.read(move |connection| {
            barrier.wait();
            select(connection)
        })
    });
    for result in join_all(reads).await {
        assert_eq!(result.unwrap(), 7);
    }
}

#[tokio::test]
async fn reads_run_on_threads_of_their_own() {
    let (_dir, readers) = readers();
    let name = readers.read(|_| Ok(std::thread::current().name().map(str::to_owned))).await.unwrap();
    assert!(name.unwrap().starts_with("multivac-reader-"));
    read_at_once(&readers, READERS).await;
}

#[tokio::test]
async fn no_more_reads_run_at_once_than_there_are_threads() {
    let (_dir, readers) = readers();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let reads = (0..2 * MAX_PENDING_READS).map(|_| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        readers.read(move |connection| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let result = select(connection);
            running.fetch_sub(1, Ordering::SeqCst);
            result
        })
    });
    assert!(join_all(reads).await.into_iter().all(|result| result.unwrap() == 7));
    assert!((1..=READERS).contains(&most.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_read_that_panics_is_an_error_and_costs_no_thread() {
    let (_dir, readers) = readers();
    for _ in 0..2 * READERS {
        // In the middle of a statement, which is as bad a moment as there is.
        let panics = |connection: &Connection| {
            connection.query_row("SELECT n FROM n", [], |_| -> rusqlite::Result<i64> { panic!("a bug") })
        };
        assert!(matches!(readers.read(panics).await, Err(DatabaseError::ReadPanicked)));
    }
    read_at_once(&readers, READERS).await;
}

#[tokio::test]
async fn a_read_that_fails_costs_no_thread() {
    let (_dir, readers) = readers();
    for _ in 0..2 * READERS {
        let fails = |connection: &Connection| connection.execute_batch("SELECT * FROM nowhere");
        assert!(matches!(readers.read(fails).await, Err(DatabaseError::Sqlite(_))));
    }
    read_at_once(&readers, READERS).await;
}

#[tokio::test]
async fn a_read_whose_caller_has_gone_is_not_run() {
    let (_dir, readers) = readers();
    // All threads are busy until the sender is dropped.
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let mut busy: Vec<_> = (0..READERS)
        .map(|_| {
            let blocked = Arc::clone(&blocked);
            Box::pin(readers.read(move |_| {
                let _ = blocked.lock().unwrap().recv();
                Ok(())
            }))
        })
        .collect();
    for read in &mut busy {
        assert!(futures_util::poll!(read).is_pending());
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let mut gone = Box::pin(readers.read(move |_| Ok(counted.fetch_add(1, Ordering::SeqCst))));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    drop(unblock);
    join_all(busy).await;
    drop(readers);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}
