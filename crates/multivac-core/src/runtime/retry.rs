//! Waiting between tries, for loops that go on until they succeed or are stopped.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

/// While failures go on, after how long one is told again.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Failures in a row, and how long to wait before the next try. The waits double, with jitter, so that not all processes
/// ask a backend at the same moment when it has just come back.
#[derive(Debug)]
pub struct Retry {
    policy: ExponentialBuilder,
    delays: ExponentialBackoff,
    failures: u32,
    told: Option<Instant>,
}

impl Retry {
    /// Waits from `shortest`, doubled with each failure in a row up to `longest`; jitter adds up to as much again.
    #[must_use]
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        let policy = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .without_max_times();
        Self { policy, delays: policy.build(), failures: 0, told: None }
    }

    /// Notes a failure; whether it is to be told: the first in a row, and then one a minute. The others are logged less
    /// loudly.
    pub fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        let tell = self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN_AFTER);
        if tell {
            self.told = Some(Instant::now());
        }
        tell
    }

    /// How many failures there were in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a success; whether failures came before it.
    pub fn succeeded(&mut self) -> bool {
        if self.failures == 0 {
            return false;
        }
        *self = Self { policy: self.policy, delays: self.policy.build(), failures: 0, told: None };
        true
    }

    /// Waits until the next try is due. Returns false, at once, when it was stopped.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.next_delay();
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }

    fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_millis(400));
        for shortest in [100, 200, 400, 400] {
            let range = Duration::from_millis(shortest)..=Duration::from_millis(2 * shortest);
            let delay = retry.next_delay();
            assert!(range.contains(&delay), "{shortest}: {delay:?}");
        }
        assert!(retry.failed() && !retry.failed());
        assert!(retry.succeeded() && !retry.succeeded());
        assert!(retry.failed(), "the first of a new row");
        assert!(retry.next_delay() <= Duration::from_millis(200));
    }

    #[test]
    fn what_goes_on_failing_is_told_again_after_a_minute() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(1));
        assert!(retry.failed() && !retry.failed());
        let told = retry.told.expect("it was told");
        retry.told = told.checked_sub(TELL_AGAIN_AFTER);
        assert!(retry.failed() && !retry.failed());
    }

    #[tokio::test]
    async fn a_wait_ends_when_it_is_stopped() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!Retry::new(Duration::from_secs(3_600), Duration::from_secs(3_600)).wait(&stop).await);
    }
}
