use super::*;
use crate::adapters::embedded::Embedded;
use crate::datum::Datum;
use crate::process::process;
use crate::queue::fake::FakeQueue;
use crate::queue::{LeaseToken, QueueSettings};

#[test]
fn waits_double_and_are_spread_over_the_upper_half() {
    for (attempt, shortest, longest) in [(1, 100, 200), (2, 200, 400), (5, 1_600, 3_200), (1_000, 25_600, 51_200)] {
        let waits: Vec<Duration> = (0..200).map(|_| retry_delay(attempt)).collect();
        let range = Duration::from_millis(shortest)..=Duration::from_millis(longest);
        assert!(waits.iter().all(|wait| range.contains(wait)), "{attempt}: {waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all alike");
    }
}

#[test]
fn a_batch_is_learned_in_parts_of_bounded_size() {
    let lease = |bytes: usize| Lease {
        job: Job {
            id: DatumId::generate(),
            datum: Datum::accepted_before(&"x".repeat(bytes)),
            received_at: Timestamp::now(),
            trace: None,
        },
        attempt: 1,
        exhausted: false,
        token: LeaseToken { partition: 0, entry: String::new() },
    };
    for (sizes, expected) in [
        (vec![], vec![]),
        (vec![3 << 20], vec![1]),
        (vec![1 << 20; 5], vec![2, 2, 1]),
        (vec![3 << 20, 1, 2 << 20, 1, 1], vec![1, 1, 1, 2]),
        (vec![100; 1_000], vec![1_000]),
    ] {
        let leases: Vec<Lease> = sizes.into_iter().map(lease).collect();
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
