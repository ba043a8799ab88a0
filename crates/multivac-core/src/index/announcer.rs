//! Announces to the store how far the index of a replica has come: by a task of its own, every second and at once after a
//! removal, whatever the index is busy with. What that lets the replica do, the [fence](super::fence) knows.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::fence::Fence;
use crate::observe::metrics;
use crate::runtime::clock::since_boot;
use crate::store::{Position, Store};

/// From the beginning of one announcement to that of the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long one call of the store may take. An announcement that takes half of [`REPLICA_ALIVE`](crate::store::REPLICA_ALIVE)
/// leaves no time for a second one, so waiting longer than that would gain nothing.
const CALL_TIMEOUT: Duration = Duration::from_millis(2_500);

pub(super) struct Announcer {
    pub(super) store: Arc<dyn Store>,
    pub(super) fence: Arc<Fence>,
    pub(super) replica: String,
}

impl Announcer {
    /// Announces until it is stopped, and then signs the replica off. A panic, in the store's adapter say, fences the replica
    /// for as long as it lasts; it begins again.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        let announcing = async {
            loop {
                let next = Instant::now() + INTERVAL;
                if AssertUnwindSafe(self.announce(&mut failing)).catch_unwind().await.is_err() {
                    // The panic hook has logged where and why.
                    error!("announcing this replica panicked; it is tried again");
                }
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.fence.urgent() => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = announcing => {}
        }
        self.fence.close();
        match timeout(CALL_TIMEOUT, self.store.announce(&self.replica, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => info!(%error, "this replica could not be signed off; the others notice within seconds"),
            Err(_) => info!("this replica could not be signed off in time; the others notice within seconds"),
        }
    }

    /// Announces once, and looks at what the others have announced, so that this process knows who is silent since when
    /// before a retraction has to wait for it.
    async fn announce(&self, failing: &mut bool) {
        let announce = async {
            let began = since_boot();
            self.store.announce(&self.replica, Some(self.fence.passed())).await?;
            if self.fence.announced(began) {
                self.fence.aim_at(self.store.position().await?);
            }
            Ok(())
        };
        let announce = timeout(CALL_TIMEOUT, announce);
        let look = timeout(CALL_TIMEOUT, self.store.replicas_behind(Position::default()));
        let (announced, _) = join(announce, look).await;
        let error = match announced {
            Ok(Ok(())) => {
                if std::mem::take(failing) {
                    info!("this replica is announced again");
                }
                return;
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let error =
            error.map_or_else(|| "no reply in time".to_owned(), |error: crate::store::StoreError| error.to_string());
        metrics::STORE_ERRORS.inc();
        if std::mem::replace(failing, true) {
            debug!(error, "this replica cannot be announced");
        } else {
            warn!(error, "this replica cannot be announced; after 5 s it answers no question until it can be again");
        }
    }
}
