//! Jobs and data as past releases wrote them are found, finished and retracted. `../compat/README.md` says how they were made.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use deadpool_redis::redis::cmd;
use mongodb::bson::{Document, oid::ObjectId};
use multivac_core::adapters::Backends;
use multivac_core::adapters::embedded::Embedded;
use multivac_core::backup::restore::{check, restore};
use multivac_core::backup::write::write;
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::queue::{Acceptance, IdempotencyKey, Job, JobState, Ledger, QueueAdmin, QueueSettings, Submission};
use multivac_core::store::{Put, Store, StoreCounts, StoreEntry, StoredDatum};
use multivac_testkit::sample::stored_datum;
use rusqlite::Connection;

use crate::backends;
use crate::queue::{complete, lease, ledger, long_lease};
use crate::store::{catch_up, put_one, scan};
use crate::store_backends::mongo_and_its_database;

const EMBEDDED_0_1_0: &str = include_str!("../compat/multivac-0.1.0.sql");
const MONGO_0_1_0: &str = include_str!("../compat/mongo-0.1.0.jsonl");
const BACKUP_1: &[u8] = include_bytes!("../compat/backup-1.ndjson.gz");
const REDIS_0_1_0: &str = include_str!("../compat/redis-0.1.0.jsonl");

/// The year 2100 in milliseconds: what expired a day after the files were made has not expired in the tests.
const NOT_EXPIRED: i64 = 4_102_444_800_000;

const LEARNED: u8 = 1;
const RETRACTED: u8 = 2;
const DEAD: u8 = 3;
const FAILED_ONCE: u8 = 4;
const QUEUED: u8 = 5;
const ABANDONED: u8 = 6;

fn id(number: u8) -> DatumId {
    format!("01a2070d-70f8-7000-8000-00000000000{number}").parse().unwrap()
}

fn received_at(number: u8) -> Timestamp {
    Timestamp::from_millis(1_795_406_022_000 + i64::from(number))
}

fn job(number: u8) -> Job {
    let (text, trace) = match number {
        DEAD => ("This could not be processed.", Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
        FAILED_ONCE => ("This failed once.", None),
        QUEUED => ("line one\r\nline two \u{feff}", Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")),
        ABANDONED => ("Its worker died.", None),
        other => panic!("{other} is not a job any more"),
    };
    let datum = Datum::accepted_before(text);
    Job { id: id(number), datum, received_at: received_at(number), trace: trace.map(str::to_owned) }
}

/// The settings under which the files were made, with leases that do not run out in a test.
fn settings() -> QueueSettings {
    QueueSettings { max_attempts: 2, ..long_lease() }
}

async fn all_jobs_are_found_and_finished(queue: &Arc<dyn QueueAdmin>) {
    let expected = Ledger { accepted: 6, queued: 2, processing: 1, learned: 1, retracted: 1, dead: 1 };
    assert_eq!(ledger(queue).await, expected);
    let partition = queue.partitions().await.unwrap()[0];
    assert_eq!((partition.size_bytes, partition.drained, partition.drained_bytes), (55, 3, 112));
    for (number, state) in [
        (LEARNED, None),
        (RETRACTED, None),
        (DEAD, Some(JobState::Dead)),
        (FAILED_ONCE, Some(JobState::Queued)),
        (QUEUED, Some(JobState::Queued)),
        (ABANDONED, Some(JobState::Processing)),
    ] {
        assert_eq!(queue.job_state(id(number)).await.unwrap(), state, "{number}");
    }
    // A key, and a retraction, that came before the upgrade and come again after it.
    // What was accepted with the key is not known any more, nor whose it was: it answers all of them as it did.
    let of_a_user = IdempotencyKey { of_user: [[8; 8], [7; 8]].concat().try_into().unwrap(), of_anyone: [7; 16] };
    for (key, text) in [(IdempotencyKey::anyones([7; 16]), "again"), (of_a_user, "again"), (of_a_user, "another text")]
    {
        let again = Submission { job: multivac_testkit::sample::job(text), idempotency_key: Some(key) };
        assert_eq!(queue.accept(&[again]).await.unwrap(), [Acceptance::AcceptedBefore(id(LEARNED))]);
    }
    queue.retract(id(RETRACTED), true).await.unwrap();
    assert_eq!(ledger(queue).await, expected);

    let letters = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, letters[0].attempts), (id(DEAD), 2));
    assert_eq!(queue.dead_letter(id(DEAD)).await.unwrap().unwrap().job, job(DEAD));
    assert_eq!(letters[0].error, "failure number 2: é");
    assert!(letters[0].died_at > received_at(DEAD));

    let leases = lease(queue, 3).await;
    for lease in &leases {
        let (number, attempt) = [(FAILED_ONCE, 2), (QUEUED, 1), (ABANDONED, 2)]
            .into_iter()
            .find(|(number, _)| id(*number) == lease.job.id)
            .unwrap_or_else(|| panic!("it is not in the file: {lease:?}"));
        assert_eq!((&lease.job, lease.attempt, lease.exhausted), (&job(number), attempt, false));
    }
    assert_eq!(leases.iter().map(|lease| lease.job.id).collect::<BTreeSet<_>>().len(), 3);
    complete(queue, &leases).await;

    assert!(queue.retry_dead(id(DEAD)).await.unwrap());
    let retried = lease(queue, 1).await;
    assert_eq!((&retried[0].job, retried[0].attempt), (&job(DEAD), 1));
    complete(queue, &retried).await;
    assert_eq!(ledger(queue).await, Ledger { accepted: 6, learned: 5, retracted: 1, ..Ledger::default() });
    let partition = queue.partitions().await.unwrap()[0];
    assert_eq!((partition.size_bytes, partition.drained), (0, 7));
}

async fn the_learned_and_the_retracted_datum_are_found(store: &dyn Store) {
    let Some(StoreEntry::Live(learned)) = store.get(id(LEARNED)).await.unwrap() else { panic!("it is not live") };
    assert_eq!(learned.id, id(LEARNED));
    assert_eq!(learned.text, "The first paragraph, é 🌌.\n\nThe second paragraph.");
    assert_eq!(learned.passages, ["The first paragraph, é 🌌.", "The second paragraph."]);
    assert_eq!(learned.received_at, received_at(LEARNED));
    assert_eq!(learned.processed_at, Timestamp::from_millis(1_795_406_023_000));
    assert_eq!(learned.trace.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_eq!(scan(store).await.get(&learned.id), Some(&learned));

    let tombstone = store.get(id(RETRACTED)).await.unwrap();
    let Some(StoreEntry::Tombstone { received_at: at, .. }) = tombstone else {
        panic!("{tombstone:?} is no tombstone")
    };
    assert_eq!(at, Some(received_at(RETRACTED)));
    let again = StoredDatum { id: id(RETRACTED), ..stored_datum("again") };
    assert_eq!(put_one(store, &again).await, Put::Retracted);
}

#[tokio::test]
async fn what_0_1_0_left_in_redis_is_found_and_finished() {
    let Some(redis) = backends::redis(1) else { return };
    let raw = redis.clone();
    backends::run(Some(redis), async move |backend| {
        for line in REDIS_0_1_0.lines() {
            let mut words: Vec<String> = serde_json::from_str(line).unwrap();
            for i in 1..words.len() {
                words[i] = match words[i - 1].as_str() {
                    // When the lease began: long ago by any clock.
                    "TIME" => "1".to_owned(),
                    "PXAT" => NOT_EXPIRED.to_string(),
                    _ => words[i].replacen("compat:", &format!("{}:", raw.0.namespace), 1),
                };
            }
            raw.command(cmd(&words[0]).arg(&words[1..])).await;
        }
        all_jobs_are_found_and_finished(&backend.queue(settings()).await).await;
    })
    .await;
}

#[tokio::test]
async fn documents_of_0_1_0_and_of_the_original_application_are_data() {
    mongo_and_its_database(async |mongo| {
        let from = mongo.store.position().await.unwrap();
        let documents: Vec<Document> = MONGO_0_1_0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        mongo.entropy().insert_many(documents).await.unwrap();
        the_learned_and_the_retracted_datum_are_found(&mongo.store).await;
        let original = DatumId::Original(ObjectId::parse_str("6500010203040506070809ff").unwrap().bytes());
        let Some(StoreEntry::Live(datum)) = mongo.store.get(original).await.unwrap() else { panic!("it is not live") };
        assert_eq!(datum.text, "Learned by the original application.");
        assert_eq!(mongo.store.counts().await.unwrap(), StoreCounts { learned: 2, retracted: 1 });
        let mut followed = [].into();
        catch_up(&mut *mongo.store.follow(from).await.unwrap(), &mut followed).await;
        assert_eq!(followed, scan(&mongo.store).await);
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_of_0_1_0_is_opened_with_all_that_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let file = Connection::open(directory.path().join("multivac.db")).unwrap();
    file.execute_batch(EMBEDDED_0_1_0).unwrap();
    file.execute("UPDATE idempotency SET expires_at = ?1", [NOT_EXPIRED]).unwrap();
    file.close().unwrap();

    let embedded = Embedded::open(directory.path(), settings()).unwrap();
    let (queue, store) = (embedded.queue(), embedded.store());
    queue.prepare().await.unwrap();
    store.prepare().await.unwrap();
    all_jobs_are_found_and_finished(&queue).await;
    the_learned_and_the_retracted_datum_are_found(&*store).await;
    assert_eq!(store.counts().await.unwrap(), StoreCounts { learned: 1, retracted: 1 });
}

#[tokio::test]
async fn a_backup_of_the_first_version_of_the_format_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let backends = Backends::embedded(directory.path(), QueueSettings::default()).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(BACKUP_1).unwrap();
    let (header, trailer) = check(&file, |_| {}).await.unwrap();
    assert_eq!((header.version, header.by.as_str()), (1, "0.1.0"));
    assert_eq!((trailer.data, trailer.tombstones, trailer.unreadable), (2, 2, 0));
    let restored = restore(&backends, &file, &|_| {}).await.unwrap();
    assert!(restored.reconciled && restored.counts == Some(StoreCounts { learned: 2, retracted: 2 }), "{restored:?}");
    the_learned_and_the_retracted_datum_are_found(&*backends.store).await;
    let original = |last: u8| DatumId::Original([0x5f, 0x0c, 0x6a, 0x1d, 0, 0, 0, 0, 0, 0, 0, last]);
    let Some(StoreEntry::Live(datum)) = backends.store.get(original(7)).await.unwrap() else { panic!("it is live") };
    assert_eq!(datum.text, "As the original wrote it: \"quoted\", \0.");
    let tombstone = StoreEntry::Tombstone {
        id: original(8),
        received_at: None,
        retracted_at: Timestamp::from_millis(1_795_641_822_027),
    };
    assert_eq!(backends.store.get(original(8)).await.unwrap(), Some(tombstone));
    // As long as this is the version that is written, it is written in the same way.
    let (_, again) = write(backends.store.snapshot(), std::io::sink(), &|_| {}).await.unwrap();
    assert_eq!(again, trailer);
}
