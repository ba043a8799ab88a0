use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::adapters::embedded::Embedded;
use crate::datum::Datum;
use crate::process::process;
use crate::queue::fake::FakeQueue;
use crate::queue::{LeaseToken, QueueSettings, Submission};

#[test]
fn waits_double_and_are_spread_over_the_upper_half() {
    for (attempt, shortest, longest) in [(1, 100, 200), (2, 200, 400), (5, 1_600, 3_200), (1_000, 25_600, 51_200)] {
        let waits: Vec<Duration> = (0..200).map(|_| retry_delay(attempt)).collect();
        let range = Duration::from_millis(shortest)..=Duration::from_millis(longest);
        assert!(waits.iter().all(|wait| range.contains(wait)), "{attempt}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all alike");
    }
}

fn lease_of(bytes: usize, attempt: u32) -> Lease {
    let job = Job {
        id: DatumId::generate(),
        datum: Datum::accepted_before(&"x".repeat(bytes)),
        received_at: Timestamp::now(),
        trace: None,
    };
    Lease { job, attempt, exhausted: false, token: LeaseToken { partition: 0, entry: String::new() } }
}

#[test]
fn the_next_batch_is_taken_beside_a_full_one_of_new_jobs_alone() {
    let mut leases = vec![lease_of(1, 1); BATCH_SIZE];
    assert_eq!(may_go_on(&leases), 1);
    assert_eq!(may_go_on(&leases[1..]), 0);
    leases[7].attempt = 2;
    assert_eq!(may_go_on(&leases), 0);
}

/// Processing waits for it in a test.
static MAY_PROCESS: AtomicBool = AtomicBool::new(false);

#[tokio::test]
async fn of_a_backlog_a_loop_has_two_batches_under_way_and_never_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).expect("a new database");
    let queue = embedded.queue();
    let submissions: Vec<Submission> =
        (0..5 * BATCH_SIZE).map(|_| Submission { job: lease_of(1, 1).job, idempotency_key: None }).collect();
    queue.accept(&submissions).await.expect("accepted");
    let consumer = Consumer {
        queue: embedded.queue(),
        store: embedded.store(),
        lease: Duration::from_secs(30),
        concurrency: 1,
        max_bytes_under_way: 4 * LEASE_MAX_BYTES,
        process: |job, now| {
            while !MAY_PROCESS.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            process(job, now)
        },
        process_timeout: Duration::from_secs(60),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(stop.clone()));
    loop {
        let ledger = queue.ledger().await.expect("a ledger");
        assert!(ledger.processing <= 2 * BATCH_SIZE as u64, "{ledger:?}");
        if ledger.processing == 2 * BATCH_SIZE as u64 {
            MAY_PROCESS.store(true, Ordering::Relaxed);
        }
        if ledger.learned == 5 * BATCH_SIZE as u64 {
            break;
        }
    }
    assert!(MAY_PROCESS.load(Ordering::Relaxed), "two batches were under way at some point");
    stop.cancel();
    running.await.expect("no panic").expect("it was stopped");
}

#[test]
fn a_batch_is_learned_in_parts_of_bounded_size() {
    for (sizes, expected) in [
        (vec![], vec![]),
        (vec![3 << 20], vec![1]),
        (vec![1 << 20; 5], vec![2, 2, 1]),
        (vec![3 << 20, 1, 2 << 20, 1, 1], vec![1, 1, 1, 2]),
        (vec![100; 1_000], vec![1_000]),
    ] {
        let leases: Vec<Lease> = sizes.into_iter().map(|bytes| lease_of(bytes, 1)).collect();
        assert_eq!(parts(&leases).map(<[Lease]>::len).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn room_that_a_batch_does_not_need_is_returned() {
    let room = Arc::new(Semaphore::new(10));
    let mut held = Arc::clone(&room).acquire_many_owned(8).await.expect("it is open");
    keep_room_for(&mut held, &[]);
    assert_eq!((held.num_permits(), room.available_permits()), (0, 10));
}

#[tokio::test]
async fn a_loop_that_panics_ends_the_consumer_with_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let embedded = Embedded::open(directory.path(), QueueSettings::default()).expect("a new database");
    let consumer = Consumer {
        queue: Arc::new(FakeQueue::panicking()),
        store: embedded.store(),
        lease: Duration::from_secs(30),
        concurrency: 3,
        max_bytes_under_way: 0,
        process,
        process_timeout: Duration::from_secs(10),
    };
    let ended = consumer.run(CancellationToken::new()).await.expect_err("its loops panicked");
    assert_eq!(ended.to_string(), "a consumer loop panicked; the process cannot go on without it");
}
