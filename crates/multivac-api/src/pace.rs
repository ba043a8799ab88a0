//! The body of a request while it arrives: not too slowly, and only so much of it.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout};

use crate::problem::Problem;

/// How long a body may make the server wait; what arrives wins time back, up to this again.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// How fast a body has to arrive once its time is used up, in bytes a second: a slower one would hold its connection, and
/// the memory of what has arrived, for hours or for ever.
const MIN_BYTES_PER_SECOND: u64 = 4 << 10;

/// A body, and how long it may still make the server wait. Only the time in which the server waits for the client counts, so a
/// backend that is slow costs the client nothing.
pub(crate) struct Paced<S = Payload> {
    chunks: S,
    wait_left: Duration,
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Paced<S> {
    pub(crate) fn new(chunks: S) -> Self {
        Self { chunks, wait_left: WAIT_LIMIT }
    }

    /// The next chunk: 408 if the body comes too slowly, 400 if it breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let started = Instant::now();
        let next = timeout(self.wait_left, self.chunks.next()).await;
        let next = next.map_err(|_| Problem::timeout("the body came too slowly"))?;
        let chunk = next.transpose().map_err(|error| match error {
            PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted => {
                Problem::bad_request("the body breaks off: it is shorter than announced, or its chunks are malformed")
            }
            error => Problem::bad_request(format!("the body cannot be read: {error}")),
        })?;
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let gained = Duration::from_micros(bytes.saturating_mul(1_000_000) / MIN_BYTES_PER_SECOND);
        self.wait_left = (self.wait_left.saturating_sub(started.elapsed()) + gained).min(WAIT_LIMIT);
        Ok(chunk)
    }

    /// The whole body; `None` if it has more than `max_size` bytes.
    pub(crate) async fn collect(mut self, max_size: usize) -> Result<Option<BytesMut>, Problem> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if body.len() + chunk.len() > max_size {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    /// How long a body is waited for that sends so many bytes at such intervals, for ever.
    async fn waited(bytes: usize, interval: Duration) -> Duration {
        let chunks = Box::pin(stream::unfold((), |()| async {
            sleep(interval).await;
            Some((Ok(Bytes::from(vec![b'x'; bytes])), ()))
        }));
        let started = Instant::now();
        let mut body = Paced::new(chunks);
        while started.elapsed() < Duration::from_secs(3_600) {
            if body.next().await.is_err() {
                break;
            }
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_waited_for_as_long_as_it_keeps_the_minimum_rate() {
        let second = Duration::from_secs(1);
        for (bytes, interval) in [(1, 5 * second), (1, second), (3_000, second), (0, second), (1, 60 * second)] {
            let waited = waited(bytes, interval).await;
            assert!(waited >= WAIT_LIMIT && waited < 5 * WAIT_LIMIT, "{bytes} bytes every {interval:?}: {waited:?}");
        }
        for (bytes, interval) in [(5_000, second), (100_000, 20 * second)] {
            assert!(waited(bytes, interval).await >= 3_600 * second, "{bytes} bytes every {interval:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        let mut body = Paced::new(stream::iter((0..10).map(|_| Ok(Bytes::from_static(b"x")))));
        while body.next().await.expect("it is there").is_some() {
            sleep(10 * WAIT_LIMIT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_start_does_not_buy_a_slow_end() {
        let fast = stream::iter([Ok(Bytes::from(vec![b'x'; 1 << 20]))]);
        let mut body = Paced::new(fast.chain(stream::pending()));
        body.next().await.expect("it is there");
        let started = Instant::now();
        assert!(body.next().await.is_err());
        assert!(started.elapsed() <= WAIT_LIMIT + Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
