//! Dead letters, all at once: each that is dead now is seen once, however many there are and whatever becomes of them
//! meanwhile.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use crate::datum::DatumId;
use crate::queue::{DeadLetterPlace, DeadLetterSummary, QueueAdmin, QueueError};

/// How many are read at once.
const PAGE_SIZE: usize = 100;

/// How many are put back on the queue at the same time: the embedded queue makes one commit of them.
const RETRIED_AT_ONCE: usize = 32;

/// Those that are dead letters at its beginning, page by page.
///
/// One that is retried and dies again before the end does not come again: where it lies at its old place that was passed,
/// and where it lies at the end there are as many before it as there were at the beginning.
pub struct DeadNow<'a> {
    queue: &'a dyn QueueAdmin,
    left: u64,
    after: Option<DeadLetterPlace>,
}

impl<'a> DeadNow<'a> {
    /// Begins with the oldest.
    ///
    /// # Errors
    /// When the queue is out of reach.
    pub async fn begin(queue: &'a dyn QueueAdmin) -> Result<Self, QueueError> {
        let left = queue.ledger().await?.dead;
        Ok(Self { queue, left, after: None })
    }

    /// The next page; an empty one at the end.
    ///
    /// # Errors
    /// When the queue is out of reach; the same page comes when it is asked for again.
    pub async fn next_page(&mut self) -> Result<Vec<DeadLetterSummary>, QueueError> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(PAGE_SIZE);
        if max == 0 {
            return Ok(Vec::new());
        }
        let page = self.queue.dead_letters(self.after.clone(), max).await?;
        self.left -= page.len() as u64;
        self.after = page.last().map(|letter| letter.place.clone()).or(self.after.take());
        Ok(page)
    }
}

/// How [`retry_all`] came out.
#[derive(Debug)]
pub struct RetriedAll {
    /// How many are on the queue again.
    pub retried: u64,
    /// How many there was no time for, where there were any.
    pub left: Option<u64>,
    /// What kept it from the others: some may be on the queue as well, the rest are dead letters still.
    pub failed: Option<QueueError>,
}

/// Puts all that are dead letters now back on the queue, as many as there is time for.
pub async fn retry_all(queue: &dyn QueueAdmin, deadline: Instant) -> RetriedAll {
    let mut outcome = RetriedAll { retried: 0, left: None, failed: None };
    if let Err(error) = retry_pages(queue, deadline, &mut outcome).await {
        outcome.failed = Some(error);
    }
    outcome
}

async fn retry_pages(queue: &dyn QueueAdmin, deadline: Instant, outcome: &mut RetriedAll) -> Result<(), QueueError> {
    let mut dead = DeadNow::begin(queue).await?;
    loop {
        let page: Vec<DatumId> = dead.next_page().await?.into_iter().map(|letter| letter.id).collect();
        if page.is_empty() {
            return Ok(());
        }
        let going_on = AtomicBool::new(true);
        let begun = stream::iter(page).take_while(|_| ready(going_on.load(Ordering::Relaxed)));
        let mut retrying = begun.map(|id| queue.retry_dead(id)).buffer_unordered(RETRIED_AT_ONCE);
        let mut failed = Ok(());
        // After a failure no other is begun; what was begun is waited for, so that it is counted.
        while let Some(retried) = retrying.next().await {
            match retried {
                Ok(retried) => outcome.retried += u64::from(retried),
                Err(error) => failed = Err(error),
            }
            going_on.store(failed.is_ok(), Ordering::Relaxed);
        }
        failed?;
        if Instant::now() >= deadline {
            outcome.left = Some(dead.left).filter(|left| *left > 0);
            return Ok(());
        }
    }
}
