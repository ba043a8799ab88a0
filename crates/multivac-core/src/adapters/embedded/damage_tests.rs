#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use rusqlite::Connection;

use super::store::tests::datum;
use super::tests::submission;
use super::*;
use crate::datum::DatumId;
use crate::queue::{Acceptance, JobState, Ledger};
use crate::store::{Change, Position, Put, Retraction, StoreCounts, StoreEntry};

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, QueueSettings { max_attempts: 1, ..QueueSettings::default() }).unwrap()
}

/// Changes the file of a stopped process by hand.
fn by_hand(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

/// A closed file with these learned data.
async fn learned(dir: &Path, texts: &[&str]) -> (PathBuf, Vec<DatumId>) {
    let embedded = open(dir);
    let mut ids = Vec::new();
    for text in texts {
        let datum = datum(DatumId::generate(), text);
        assert_eq!(embedded.store().put(std::slice::from_ref(&datum)).await.unwrap(), [Put::Stored]);
        ids.push(datum.id);
    }
    (embedded.path().to_owned(), ids)
}

/// The ids that a scan brings, and those that a follower from the start does.
async fn all(embedded: &Embedded) -> (Vec<DatumId>, Vec<DatumId>) {
    let store = embedded.store();
    let scanned: Vec<_> = store.scan().map(Result::unwrap).concat().await;
    let (mut followed, mut changes) = (Vec::new(), store.follow(Position(0)).await.unwrap());
    let end = store.position().await.unwrap();
    loop {
        let batch = changes.next(3).await.unwrap();
        followed.extend(batch.changes.into_iter().map(|change| match change {
            Change::Put(datum) => datum.id,
            Change::Removed(id) => panic!("{id} was not removed"),
        }));
        if batch.position == end {
            break;
        }
    }
    (scanned.into_iter().map(|datum| datum.id).collect(), followed)
}

#[tokio::test]
async fn rows_whose_values_cannot_be_read_are_passed_over_and_named() {
    for damage in ["text = CAST(x'53fffe' AS TEXT)", "passages = '[\"half'", "passages = CAST(x'ff' AS TEXT)"] {
        let dir = tempfile::tempdir().unwrap();
        let (file, ids) = learned(dir.path(), &["one", "two", "three", "four", "five"]).await;
        by_hand(&file, &format!("UPDATE datum SET {damage} WHERE seq IN (2, 5)"));
        let embedded = open(dir.path());
        let rest = vec![ids[0], ids[2], ids[3]];
        assert_eq!(all(&embedded).await, (rest.clone(), rest), "{damage}");
        let named = embedded.damage().summary().unwrap();
        for part in ["2 rows of multivac.db", &format!("row 2 of the table datum (datum {})", ids[1]), "row 5"] {
            assert!(named.contains(part), "{named}");
        }
        // They are counted, their status can be asked for, and they can be retracted.
        let store = embedded.store();
        assert_eq!(store.unreadable(), 2);
        assert_eq!(store.counts().await.unwrap(), StoreCounts { learned: 5, retracted: 0 });
        assert_eq!(store.get(ids[1]).await.unwrap(), Some(StoreEntry::Unreadable { id: ids[1] }));
        assert_eq!(store.retract(ids[1]).await.unwrap(), Retraction::WasLive);
        assert_eq!(store.unreadable(), 1);
        let named = embedded.damage().summary().unwrap();
        assert!(named.starts_with("1 row of") && !named.contains("row 2"), "{named}");
    }
}

#[tokio::test]
async fn a_row_with_an_id_that_cannot_be_read_is_passed_over_too() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ids) = learned(dir.path(), &["one", "two", "three"]).await;
    by_hand(&file, "UPDATE datum SET id = x'0102' WHERE seq = 2");
    let embedded = open(dir.path());
    let rest = vec![ids[0], ids[2]];
    assert_eq!(all(&embedded).await, (rest.clone(), rest));
    assert!(
        embedded.damage().summary().unwrap().contains("row 2 of the table datum (an id that cannot be read either)")
    );
}

/// Overwrites the page that holds `text`, as a failing disk does: the last such page, since an earlier one may hold what is left
/// of it from before the table grew.
fn spoil_page(file: &Path, text: &str) {
    const PAGE: usize = 4096;
    let mut bytes = Vec::new();
    File::open(file).unwrap().read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).unwrap() / PAGE * PAGE;
    let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[0xa5; PAGE]).unwrap();
}

#[tokio::test]
async fn rows_on_a_damaged_page_are_passed_over_and_those_behind_it_are_read() {
    let dir = tempfile::tempdir().unwrap();
    // Of three on a page, some dozen pages.
    let texts: Vec<String> = (0..40).map(|n| format!("row {n:02}, {}", "which takes room. ".repeat(30))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (file, ids) = learned(dir.path(), &texts).await;
    spoil_page(&file, "row 20,");
    let embedded = open(dir.path());
    let (scanned, followed) = all(&embedded).await;
    assert_eq!(scanned, followed);
    assert!(!scanned.contains(&ids[20]) && (30..40).contains(&scanned.len()), "{} of 40", scanned.len());
    assert!(scanned.contains(&ids[0]) && scanned.contains(&ids[39]));
    let store = embedded.store();
    assert_eq!(store.unreadable() as usize, 40 - scanned.len());
    let named = embedded.damage().summary().unwrap();
    assert!(named.contains(&format!("(datum {})", ids[20])), "{named}");
    assert_eq!(store.get(ids[20]).await.unwrap(), Some(StoreEntry::Unreadable { id: ids[20] }));
    // What comes is stored as before.
    let new = datum(DatumId::generate(), "new");
    assert_eq!(store.put(std::slice::from_ref(&new)).await.unwrap(), [Put::Stored]);
    assert_eq!(store.get(new.id).await.unwrap(), Some(StoreEntry::Live(new)));
}

#[tokio::test]
async fn a_job_that_cannot_be_read_becomes_a_dead_letter_and_the_others_are_leased() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = ["one", "two", "three"].map(submission);
    let embedded = open(dir.path());
    embedded.queue().accept(&jobs).await.unwrap();
    let file = embedded.path().to_owned();
    drop(embedded);
    by_hand(&file, "UPDATE job SET text = CAST(x'53ff' AS TEXT) WHERE seq = 1");
    let embedded = open(dir.path());
    let queue = embedded.queue();
    // One at a time, so that it stands before the others.
    for rest in &jobs[1..] {
        let leases = queue.lease(1, Duration::from_secs(10)).await.unwrap();
        assert_eq!(leases[0].job, rest.job);
    }
    let ledger = Ledger { accepted: 3, processing: 2, dead: 1, ..Ledger::default() };
    assert_eq!(queue.ledger().await.unwrap(), ledger);
    assert_eq!(queue.job_state(jobs[0].job.id).await.unwrap(), Some(JobState::Dead));
    let dead = queue.dead_letter(jobs[0].job.id).await.unwrap().unwrap();
    assert!(dead.error.starts_with("it cannot be read: "), "{}", dead.error);
    assert_eq!(dead.job.datum.as_str(), "S\u{fffd}");
    let named = embedded.damage().summary().unwrap();
    assert!(named.contains(&format!("row 1 of the table job (datum {})", jobs[0].job.id)), "{named}");
    assert_eq!(embedded.store().unreadable(), 0, "it is counted as a dead letter");
}

#[tokio::test]
async fn a_damaged_page_of_jobs_is_told_and_feeding_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let jobs: Vec<_> =
        (0..40).map(|n| submission(&format!("job {n:02}, {}", "which takes room. ".repeat(30)))).collect();
    let embedded = open(dir.path());
    embedded.queue().accept(&jobs).await.unwrap();
    let file = embedded.path().to_owned();
    drop(embedded);
    spoil_page(&file, "job 00,");
    let embedded = open(dir.path());
    let queue = embedded.queue();
    let error = queue.lease(7, Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("multivac.db in the data directory is damaged"), "{error}");
    let named = embedded.damage().summary().unwrap();
    assert!(named.contains("a page of the table job"), "{named}");
    assert_eq!(queue.accept(&[submission("new")]).await.unwrap(), [Acceptance::Accepted]);
    assert_eq!(queue.partitions().await.unwrap()[0].queued, 41);
}
