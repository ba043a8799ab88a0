#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::writer::WriteContext;
use super::*;
use crate::datum::{Datum, DatumId, Timestamp};
use crate::queue::{Acceptance, Job, Ledger, QueueError, Submission};

fn open(dir: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(dir, QueueSettings::default())
}

/// What another process would see.
fn look(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

pub(super) fn submission(text: &str) -> Submission {
    let datum = Datum::accepted_before(text);
    let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: Some("00-a-b-01".into()) };
    Submission { job, idempotency_key: None }
}

#[tokio::test]
async fn opening_again_keeps_everything_and_frees_leases() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (submission("one"), submission("two"));
    let embedded = open(dir.path()).unwrap();
    let queue = embedded.queue();
    queue.accept(&[one.clone(), two.clone()]).await.unwrap();
    let leased = queue.lease(1, Duration::ZERO).await.unwrap();
    assert_eq!((leased.len(), leased[0].attempt), (1, 1));
    drop((embedded, queue));

    let queue = open(dir.path()).unwrap().queue();
    // A lease of the earlier process has ended.
    queue.release(&leased).await.unwrap();
    let again = queue.lease(9, Duration::ZERO).await.unwrap();
    let got: Vec<_> = again.iter().map(|lease| (lease.job.clone(), lease.attempt)).collect();
    assert_eq!(got, [(one.job, 2), (two.job, 1)]);
}

#[tokio::test]
async fn an_accepted_job_is_in_the_file_before_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path()).unwrap();
    let other = look(embedded.path());
    for n in 1..=20 {
        let answer = embedded.queue().accept(&[submission("durable")]).await.unwrap();
        assert_eq!(answer, [Acceptance::Accepted]);
        let seen: i64 = other.query_row("SELECT COUNT(*) FROM job", [], |row| row.get(0)).unwrap();
        assert_eq!(seen, n);
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_writes_succeed_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path()).unwrap();
    let queue = embedded.queue();
    let limit = async |pages: i64| {
        let set = move |context: &WriteContext<'_>| context.connection.pragma_update(None, "max_page_count", pages);
        embedded.queue.writer().write(0, set).await.unwrap();
    };
    limit(1).await;
    let big = submission(&"x".repeat(1 << 20));
    let error = queue.accept(std::slice::from_ref(&big)).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("the disk of the data directory is full; nothing was written"), "{error}");
    assert_eq!(queue.ledger().await.unwrap().accepted, 0);
    limit(1 << 30).await;
    assert_eq!(queue.accept(&[big]).await.unwrap(), [Acceptance::Accepted]);
}

#[tokio::test]
async fn retracted_and_completed_text_leaves_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path()).unwrap();
    let (queue, store) = (embedded.queue(), embedded.store());
    let secret = "a text that somebody wants back ".repeat(1000);
    queue.accept(&[submission(&secret)]).await.unwrap();
    let leases = queue.lease(1, Duration::ZERO).await.unwrap();
    let datum = store::tests::datum(leases[0].job.id, &secret);
    store.put(&[datum]).await.unwrap();
    queue.complete(&[(leases[0].clone(), crate::queue::Outcome::Learned)]).await.unwrap();
    store.retract(leases[0].job.id).await.unwrap();
    let path = embedded.path().to_owned();
    drop((embedded, queue, store));
    assert!(!String::from_utf8_lossy(&fs::read(path).unwrap()).contains("somebody wants back"));
    assert!(!dir.path().join("multivac.db-wal").exists(), "closing writes the log back and removes it");
}

#[tokio::test]
async fn a_write_that_panics_breaks_the_writer_loses_nothing_and_leaves_reads_alone() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path()).unwrap();
    let (queue, store) = (embedded.queue(), embedded.store());
    let (kept, refused) = (submission("kept"), submission("refused"));
    queue.accept(std::slice::from_ref(&kept)).await.unwrap();
    assert!(!embedded.broken().is_cancelled());

    let panics = |context: &WriteContext<'_>| -> rusqlite::Result<()> {
        context.connection.execute("DELETE FROM job", [])?;
        panic!("a bug")
    };
    embedded.queue.writer().write(0, panics).await.unwrap_err();
    embedded.broken().cancelled().await;

    let error = queue.accept(std::slice::from_ref(&refused)).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("nothing was written, and the process has to be restarted"), "{error}");
    let error = store.retract(kept.job.id).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("nothing was written, and the process has to be restarted"), "{error}");
    let ledger = Ledger { accepted: 1, queued: 1, ..Ledger::default() };
    assert_eq!(queue.ledger().await.unwrap(), ledger);
    drop((embedded, queue, store));

    let queue = open(dir.path()).unwrap().queue();
    assert_eq!(queue.ledger().await.unwrap(), ledger);
    assert_eq!(queue.lease(9, Duration::ZERO).await.unwrap()[0].job, kept.job);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_accepts_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = open(dir.path()).unwrap();
    let queue = embedded.queue();
    queue.accept(&[submission("before")]).await.unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(embedded.path(), &elsewhere).unwrap();
    for _ in 0..2 {
        let error = queue.accept(&[submission("lost")]).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("multivac.db was removed"), "{error}");
        // The same with another file in its place.
        fs::copy(&elsewhere, embedded.path()).unwrap();
    }
    assert_eq!(queue.ledger().await.unwrap().accepted, 1);
    fs::rename(&elsewhere, embedded.path()).unwrap();
    queue.accept(&[submission("after")]).await.unwrap();
}
