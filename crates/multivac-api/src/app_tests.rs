use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use multivac_core::datum::DatumId;
use multivac_core::queue::{
    Acceptance, Durability, Failure, JobState, Lease, Ledger, Outcome, Partition, Queue, QueueError, Submission,
};

use super::*;

/// How long the process may take to end after a task has: the drain of no connections takes a tenth of a second.
const PROMPTLY: Duration = Duration::from_secs(5);

async fn application(directory: &tempfile::TempDir) -> Application {
    let data_dir = directory.path().to_str().expect("a path of text");
    let config = Config::parse_from(["multivac-api", "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    Application::build(config).await.expect("it can be built")
}

/// How an application ends that nobody stops.
async fn ended(application: Application) -> AppError {
    let running = application.run_until_stopped(CancellationToken::new());
    tokio::time::timeout(PROMPTLY, running).await.expect("it ends promptly").expect_err("nobody has stopped it")
}

#[actix_web::test]
async fn a_server_that_ends_by_itself_ends_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let application = application(&directory).await;
    let handle = application.server.handle();
    let (error, ()) = tokio::join!(ended(application), handle.stop(false));
    assert_eq!(error.to_string(), "the HTTP server ended by itself; the process cannot go on without it");
}

#[actix_web::test]
async fn a_consumer_that_ends_by_itself_ends_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut application = application(&directory).await;
    application.consumer.as_mut().expect("it is embedded").queue = Arc::new(PanickingQueue);
    let error = ended(application).await.to_string();
    assert!(error.contains("consumer") && error.contains("the process cannot go on without it"), "{error}");
}

#[actix_web::test]
async fn an_embedded_file_that_cannot_be_written_any_more_ends_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let application = application(&directory).await;
    application.backends.broken.cancel();
    let error = ended(application).await;
    assert!(error.to_string().starts_with("the writer of the embedded file ended by itself"), "{error}");
}

/// A queue with a bug: it panics when jobs are leased.
struct PanickingQueue;

#[async_trait]
impl Queue for PanickingQueue {
    async fn lease(&self, _: usize, _: Duration) -> Result<Vec<Lease>, QueueError> {
        panic!("on purpose")
    }

    async fn accept(&self, _: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        unreachable!("the consumer accepts nothing")
    }

    fn durability(&self) -> Durability {
        Durability::Server
    }

    async fn extend(&self, _: &[Lease]) -> Result<(), QueueError> {
        unreachable!("nothing was leased")
    }

    async fn complete(&self, _: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        unreachable!("nothing was leased")
    }

    async fn fail(&self, _: &Lease, _: &str, _: Duration) -> Result<Failure, QueueError> {
        unreachable!("nothing was leased")
    }

    async fn release(&self, _: &[Lease]) -> Result<(), QueueError> {
        unreachable!("nothing was leased")
    }

    async fn job_state(&self, _: DatumId) -> Result<Option<JobState>, QueueError> {
        unreachable!("the consumer does not ask")
    }

    async fn retract(&self, _: DatumId, _: bool) -> Result<(), QueueError> {
        unreachable!("the consumer retracts nothing")
    }

    async fn ledger(&self) -> Result<Ledger, QueueError> {
        unreachable!("the consumer does not ask")
    }

    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        unreachable!("the consumer does not ask")
    }
}
