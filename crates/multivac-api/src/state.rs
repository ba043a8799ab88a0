//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use multivac_core::accept::Acceptor;
use multivac_core::adapters::embedded::Damage;
use multivac_core::adapters::{Backends, Warnings};
use multivac_core::answer::{Calibration, StandingAnswer};
use multivac_core::observe::metrics;
use multivac_core::queue::QueueError;
use multivac_core::status::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::answering::AnswerThreads;
use crate::drain::Connections;
use crate::problem::Problem;
use crate::sse::Streams;
use crate::system::LastSeen;
use crate::watching::Watching;

/// How long the queue may take to reply to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What every handler may use.
pub(crate) struct State {
    /// Takes data in.
    pub(crate) acceptor: Acceptor,
    /// Knows the status of data.
    pub(crate) registry: Registry,
    /// The standing question and its answer.
    pub(crate) standing: Arc<StandingAnswer>,
    /// The answers that event streams follow.
    pub(crate) watching: Arc<Watching>,
    /// The event streams.
    pub(crate) streams: Streams,
    /// Replicas, workers and the queue.
    pub(crate) system: LastSeen,
    /// The threads that answer questions.
    pub(crate) answering: Arc<AnswerThreads>,
    /// The largest datum, in bytes.
    pub(crate) max_datum_size: usize,
    /// What confidence means, and from which on there is an answer.
    pub(crate) calibration: Arc<Calibration>,
    /// What the last check of the backends' set-up found; not set before the first.
    pub(crate) warnings: Warnings,
    /// Backups over HTTP.
    pub(crate) backups: Backups,
    /// What of the embedded file cannot be read.
    pub(crate) damage: Damage,
    /// Cancelled when the server is to stop.
    pub(crate) stop: CancellationToken,
    /// The open connections.
    pub(crate) connections: Arc<Connections>,
}

/// Backups over HTTP: where the operator allows them, and one at a time.
pub(crate) struct Backups {
    pub(crate) backends: Arc<Backends>,
    are_allowed: bool,
    one: Arc<Semaphore>,
}

impl Backups {
    pub(crate) fn new(backends: Backends, are_allowed: bool) -> Self {
        Self { backends: Arc::new(backends), are_allowed, one: Arc::new(Semaphore::new(1)) }
    }

    /// For as long as the permit is held there is no other. Each keeps a moment of the store, or writes to all of it.
    pub(crate) fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if !self.are_allowed {
            return Err(Problem::forbidden(
                "backups over HTTP are not allowed here; the operator may, by --allow-backup-over-http",
            ));
        }
        let busy = || Problem::unavailable("another export or import is under way on this replica", 5);
        Arc::clone(&self.one).try_acquire_owned().map_err(|_| busy())
    }
}

/// Makes a call to the queue for a probe, which reports what it found and does not fail itself: so a failed call is logged
/// and counted here.
pub(crate) async fn probe<T>(call: impl Future<Output = Result<T, QueueError>>) -> Option<T> {
    match tokio::time::timeout(PROBE_TIMEOUT, call).await {
        Ok(Ok(reply)) => return Some(reply),
        Ok(Err(error)) => warn!(%error, "a probe got no reply of the queue"),
        Err(_) => warn!(timeout_ms = PROBE_TIMEOUT.as_millis() as u64, "a probe got no reply of the queue in time"),
    }
    metrics::QUEUE_ERRORS.inc();
    None
}
