//! Waiting until something is so, for [`TEST_TIMEOUT`] at most.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::TEST_TIMEOUT;

/// How often it is tried.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    until_ok(what, async || if condition().await { Ok(()) } else { Err("it is not so") }).await;
}

/// Tries until there is a value, and fails with the last error if there is none.
pub async fn until_ok<T, E: Debug>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error:?}, after {TEST_TIMEOUT:?}"),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
