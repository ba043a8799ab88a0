//! Fault injection for unit tests: what becomes of callers when an adapter panics, or takes its time.

use futures_util::future::BoxFuture;

use super::*;

/// What becomes of submissions, and when.
type Accept = Box<dyn Fn(&[Submission]) -> BoxFuture<'static, Vec<Acceptance>> + Send + Sync>;

/// A queue whose `accept` is the test's, and whose `lease` panics, as a bug in an adapter would make it.
pub(crate) struct FakeQueue(pub(crate) Accept);

impl FakeQueue {
    /// One whose `accept` panics too.
    pub(crate) fn panicking() -> Self {
        Self(Box::new(|_| panic!("on purpose")))
    }
}

#[async_trait]
impl Queue for FakeQueue {
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        Ok((self.0)(submissions).await)
    }
    fn durability(&self) -> Durability {
        Durability::Server
    }
    async fn lease(&self, _: usize, _: Duration) -> Result<Vec<Lease>, QueueError> {
        panic!("on purpose")
    }
    async fn extend(&self, _: &[Lease]) -> Result<(), QueueError> {
        Ok(())
    }
    async fn complete(&self, _: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        Ok(())
    }
    async fn fail(&self, _: &Lease, _: &str, _: Duration) -> Result<Failure, QueueError> {
        Ok(Failure::Retried)
    }
    async fn release(&self, _: &[Lease]) -> Result<(), QueueError> {
        Ok(())
    }
    async fn job_state(&self, _: DatumId) -> Result<Option<JobState>, QueueError> {
        Ok(None)
    }
    async fn retract(&self, _: DatumId, _: bool) -> Result<(), QueueError> {
        Ok(())
    }
    async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(Ledger::default())
    }
    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        Ok(Vec::new())
    }
}
