//! How long MongoDB may take.
//!
//! A server may hang and go on replying to the driver's monitor: one that is locked (`fsyncLock`), one whose majority never
//! comes, one behind a disk that stalls. So each call ends after a time of its own, done or not. Where the server can be
//! told to give up too (`maxTimeMS`, `wtimeout`), it is.
//!
//! Nobody waits for a call that has run out of time, but it is not dropped: the driver's futures are to be run to their
//! end, and a write that the server has begun goes on there anyway. So that the calls of hours do not pile up in a server
//! that hangs, and in our memory, there are [`MAX_WRITES`] at a time; the next ones wait here, for no longer either.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::StoreError;

/// A call that concerns a document or two.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A batch of data.
const PUT_TIMEOUT: Duration = Duration::from_secs(10);

/// A batch of a scan or of changes, and what counts documents.
const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes that the server has not replied to, at most.
pub(super) const MAX_WRITES: usize = 8;

/// The same for announcements: one, and a probe.
const MAX_ANNOUNCEMENTS: usize = 2;

/// Makes calls that end in time.
#[derive(Clone)]
pub(super) struct Calls {
    /// The time of a call that concerns a document or two.
    pub(super) call: Duration,
    /// The time of a batch of data.
    pub(super) put: Duration,
    /// The time of a batch of a scan or of changes.
    pub(super) scan: Duration,
    writes: Arc<Semaphore>,
    /// Of their own, so that a replica is announced however many retractions wait.
    announcements: Arc<Semaphore>,
}

impl Calls {
    /// With our own times, or `longest` where that is shorter.
    pub(super) fn new(longest: Option<Duration>) -> Self {
        let [call, put, scan] =
            [CALL_TIMEOUT, PUT_TIMEOUT, SCAN_TIMEOUT].map(|ours| longest.map_or(ours, |longest| longest.min(ours)));
        // A quiet change stream replies a few times a second; whoever sets less time for a call does not mean to end that.
        let scan = scan.max(CALL_TIMEOUT);
        Self {
            call,
            put,
            scan,
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            announcements: Arc::new(Semaphore::new(MAX_ANNOUNCEMENTS)),
        }
    }

    /// The result of a call that reads, if it comes within `limit`.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = async { tokio::spawn(call).await.map_err(|ended| unavailable("the call ended early", ended)) };
        in_time(limit, call).await?
    }

    /// The result of a call that writes, if it comes within `limit`; else it may be done all the same, now or later.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        with_permit(&self.writes, limit, call).await
    }

    /// As [`Self::write`], for what a replica says of itself.
    pub(super) async fn announce<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        with_permit(&self.announcements, limit, call).await
    }
}

async fn with_permit<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    limit: Duration,
    call: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    let permits = Arc::clone(permits);
    let call = async {
        let permit = permits.acquire_owned().await.map_err(|closed| unavailable("no call can be made", closed))?;
        let call = async move {
            let result = call.await;
            drop(permit);
            result
        };
        tokio::spawn(call).await.map_err(|ended| unavailable("the call ended early", ended))
    };
    in_time(limit, call).await?
}

/// What comes of it, if it does within `limit`.
pub(super) async fn in_time<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T, StoreError> {
    timeout(limit, call).await.map_err(|_| StoreError::Unavailable {
        message: format!("MongoDB did not reply within {} s", limit.as_secs_f64()),
        source: None,
    })
}

fn unavailable(message: &str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { message: message.to_owned(), source: Some(Box::new(source)) }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_time_of_a_call_is_ours_or_the_urls_where_that_is_shorter() {
        let times = |calls: Calls| [calls.call, calls.put, calls.scan].map(|time| time.as_secs());
        assert_eq!(times(Calls::new(None)), [5, 10, 30]);
        assert_eq!(times(Calls::new(Some(Duration::from_secs(7)))), [5, 7, 7]);
    }

    #[tokio::test]
    async fn a_call_ends_in_time_whatever_the_server_does() {
        let calls = Calls::new(Some(Duration::from_millis(50)));
        let error = calls.read(calls.call, pending::<()>()).await.expect_err("no reply comes");
        assert!(error.is_transient() && error.to_string().contains("did not reply within 0.05 s"), "{error}");
        assert!(calls.write(calls.put, pending::<()>()).await.expect_err("no reply comes").is_transient());
        assert_eq!(calls.read(Duration::from_secs(60), async { 7 }).await.expect("a reply"), 7);
    }

    #[tokio::test]
    async fn writes_to_a_server_that_hangs_do_not_pile_up_and_go_on_when_it_is_back() {
        let calls = Calls::new(None);
        let (back, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let write = |limit: Duration| {
            let (back, begun) = (Arc::clone(&back), Arc::clone(&begun));
            calls.write(limit, async move {
                begun.fetch_add(1, Ordering::Relaxed);
                back.acquire_owned().await.expect("it is open").forget();
            })
        };
        for _ in 0..3 * MAX_WRITES {
            write(Duration::from_millis(10)).await.expect_err("it hangs");
        }
        assert_eq!(begun.load(Ordering::Relaxed), MAX_WRITES);
        back.add_permits(4 * MAX_WRITES);
        write(Duration::from_secs(60)).await.expect("it replies again");
    }
}
