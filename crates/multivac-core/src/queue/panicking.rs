//! Fault injection for unit tests: what becomes of callers when an adapter panics.

use super::*;

/// A queue whose `accept` and `lease` panic, as a bug in an adapter would make them.
pub(crate) struct PanickingQueue;

#[async_trait]
impl Queue for PanickingQueue {
    async fn accept(&self, _: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        panic!("on purpose")
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
