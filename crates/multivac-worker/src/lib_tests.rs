use std::time::Duration;

use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::queue::{Job, QueueSettings, Submission};

use super::*;

/// How long the process may take to end after a task has.
const PROMPTLY: Duration = Duration::from_secs(5);

/// A worker on real backends, which for this need no servers.
struct Worker {
    backends: Backends,
    consumer: Consumer,
    ops: Server,
    _directory: tempfile::TempDir,
}

impl Worker {
    fn new(lease: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let backends = Backends::embedded(directory.path(), QueueSettings::default()).expect("an embedded file");
        let consumer = Consumer {
            queue: backends.queue.clone(),
            store: backends.store.clone(),
            lease,
            concurrency: 1,
            max_bytes_under_way: 8 << 20,
            process,
            process_timeout: Duration::from_secs(10),
        };
        let ops = ops::serve("127.0.0.1:0", None, &backends, CancellationToken::new());
        Self { backends, consumer, ops: ops.expect("it listens"), _directory: directory }
    }

    /// How a worker ends that nobody stops.
    async fn ended(self) -> WorkerError {
        let running = run_until_stopped(self.backends, self.consumer, false, self.ops, CancellationToken::new());
        tokio::time::timeout(PROMPTLY, running).await.expect("it ends promptly").expect_err("nobody has stopped it")
    }
}

#[actix_web::test]
async fn a_server_of_health_that_ends_by_itself_ends_the_process() {
    let worker = Worker::new(Duration::from_secs(30));
    let handle = worker.ops.handle();
    let (error, ()) = tokio::join!(worker.ended(), handle.stop(false));
    let expected = "the server of health and metrics ended by itself; the process cannot go on without it";
    assert_eq!(error.to_string(), expected);
}

#[actix_web::test]
async fn a_consumer_that_ends_by_itself_ends_the_process() {
    // The settings refuse a lease of no time. A consumer that has one panics when it is to extend a lease now and then.
    let worker = Worker::new(Duration::ZERO);
    let datum = Datum::new("Stars go out.", 100).expect("a datum");
    let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: None };
    let submission = Submission { job, idempotency_key: None };
    worker.backends.queue.accept(&[submission]).await.expect("it is accepted");
    let error = worker.ended().await.to_string();
    assert!(error.contains("consumer") && error.contains("the process cannot go on without it"), "{error}");
}
