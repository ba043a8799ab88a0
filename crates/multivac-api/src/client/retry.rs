//! When to try again: what `Retry-After` says, with jitter, and for how long at all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};
use multivac_core::runtime::retry::Retry;
use tokio_util::sync::CancellationToken;

use super::ClientError;

/// The waits before a server is asked again that does not say how long it needs.
const DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How long a reply asks to wait: in seconds, or until a date (RFC 9110, 10.2.3).
#[must_use]
pub fn after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// A server that is away or too busy, as all requests to it see that: they wait together, and give up together.
pub struct Outage {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when nothing has succeeded.
    failing_since: Option<Instant>,
    /// Before that, the server wants no request.
    not_before: Option<Instant>,
}

/// What to do after a failure.
pub enum Next {
    /// The same again. True if it is the first failure after a success.
    Again(bool),
    /// No more.
    GiveUp,
}

impl Outage {
    /// For a server that may be away for so long.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// For how long the server may be away.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has succeeded; whether others had failed before it.
    pub fn succeeded(&self) -> bool {
        self.state().failing_since.take().is_some()
    }

    /// A request has failed in a way that may pass.
    pub fn failed(&self, retry_after: Option<Duration>) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        let is_first = state.failing_since.is_none();
        let since = *state.failing_since.get_or_insert(now);
        let after = retry_after.unwrap_or_default();
        if now.duration_since(since).saturating_add(after) > self.limit {
            return Next::GiveUp;
        }
        if !after.is_zero() {
            // Others were told the same: not all of them at the same moment.
            let jitter = after.mul_f64(0.2 * fastrand::f64()) + Duration::from_millis(fastrand::u64(..100));
            // One that is beyond all clocks is bounded by the limit.
            let not_before = now.checked_add(after + jitter).unwrap_or(now);
            state.not_before = state.not_before.max(Some(not_before));
        }
        Next::Again(is_first)
    }

    /// Waits until the server may be asked; false if it is stopped before that.
    pub async fn pass(&self, stop: &CancellationToken) -> bool {
        loop {
            let not_before = self.state().not_before.filter(|at| *at > Instant::now());
            let Some(at) = not_before else { return !stop.is_cancelled() };
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep_until(at.into()) => {}
            }
        }
    }
}

/// Makes a call until it succeeds or there is no point in it any more.
///
/// # Errors
/// The call's last.
pub async fn again<T>(
    away_timeout: Duration,
    call: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let (outage, stop) = (Outage::new(away_timeout), CancellationToken::new());
    let mut retry = delays();
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                let retry_after = error.retry_after().filter(|after| !after.is_zero());
                match outage.failed(retry_after) {
                    Next::Again(_) if retry_after.is_some() => {
                        outage.pass(&stop).await;
                    }
                    Next::Again(_) => {
                        retry.wait(&stop).await;
                    }
                    Next::GiveUp => return Err(error),
                }
            }
            done => return done,
        }
    }
}

/// Growing waits between tries.
#[must_use]
pub fn delays() -> Retry {
    Retry::new(DELAYS.0, DELAYS.1)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn of(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).expect("a header"));
        after(&headers)
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        let soon = of(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90))).expect("a date");
        assert!((88..=90).contains(&soon.as_secs()), "{soon:?}");
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "it is over");
        for value in ["", "soon", "-1", "1.5"] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    #[test]
    fn a_wait_ends_where_the_server_asks_for_more_than_there_is() {
        let outage = Outage::new(Duration::from_secs(60));
        assert!(matches!(outage.failed(None), Next::Again(true)));
        assert!(matches!(outage.failed(Some(Duration::from_secs(5))), Next::Again(false)));
        assert!(matches!(outage.failed(Some(Duration::from_secs(u64::MAX))), Next::GiveUp));
        assert!(outage.succeeded() && !outage.succeeded());
    }

    #[tokio::test(start_paused = true)]
    async fn all_wait_as_long_as_one_of_them_was_told() {
        let (outage, stop) = (Outage::new(Duration::from_secs(60)), CancellationToken::new());
        let _ = outage.failed(Some(Duration::from_secs(30)));
        let waited = tokio::time::timeout(Duration::from_secs(29), outage.pass(&stop)).await;
        assert!(waited.is_err(), "it passed too early");
        stop.cancel();
        assert!(!outage.pass(&stop).await, "it is stopped");
    }
}
