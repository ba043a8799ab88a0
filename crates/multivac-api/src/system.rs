//! The system as it was seen last: however many want to know, the queue and the store are asked once in a while.

use std::sync::Arc;
use std::time::Duration;

use multivac_core::queue::QueueError;
use multivac_core::status::{Registry, StatusError};
use multivac_core::system::System;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::problem::Problem;

/// From the end of one look to the beginning of the next, at least.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// How long the queue and the store may take to reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What was seen, and what does not change.
pub(crate) struct LastSeen {
    /// How many jobs the queue takes, and how much text.
    pub(crate) queue_limits: (u64, u64),
    /// Whether queue and store are in this process.
    pub(crate) is_embedded: bool,
    /// `None` within where the queue or the store was out of reach, which is not asked again at once either.
    kept: Mutex<Option<(Instant, Option<Arc<System>>)>>,
}

impl LastSeen {
    /// Nothing was seen yet.
    pub(crate) fn new(queue_limits: (u64, u64), is_embedded: bool) -> Self {
        Self { queue_limits, is_embedded, kept: Mutex::default() }
    }

    /// What the system is now, or was a moment ago. Whoever comes while it is found out waits for that.
    ///
    /// # Errors
    /// When the queue or the store is out of reach.
    pub(crate) async fn get(&self, registry: &Registry) -> Result<Arc<System>, Problem> {
        let mut kept = self.kept.lock().await;
        if let Some((_, seen)) = kept.as_ref().filter(|(at, _)| at.elapsed() < INTERVAL) {
            let out_of_reach = || Problem::unavailable("the queue or the store is out of reach", INTERVAL.as_secs());
            return seen.clone().ok_or_else(out_of_reach);
        }
        let late = || QueueError::Unavailable { message: "no reply in time".to_owned(), source: None };
        let seen = timeout(TIMEOUT, registry.system()).await;
        let seen = seen.unwrap_or_else(|_| Err(StatusError::Queue(late()))).map(Arc::new).map_err(Problem::from);
        *kept = Some((Instant::now(), seen.as_ref().ok().cloned()));
        seen
    }
}
