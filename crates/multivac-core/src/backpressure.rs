//! When the queue will have room again: what `Retry-After` says to those it had to refuse.
//!
//! The rate at which the queue drains is measured, over the last ten seconds. Those who were refused in that time want
//! in as well, so whoever is refused now is told to come when there has been time to drain all that. With as much
//! coming again as going, that holds the door at what workers can do; with no worker at all it says a minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::datum::Timestamp;
use crate::observe::metrics;
use crate::queue::{Partition, Queue};

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How far back drained and refused data count.
const WINDOW: Duration = Duration::from_secs(10);

/// What is said at least: the header has no fractions.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is said at most: who comes after a minute to a queue that is full still is told again.
const LONGEST: Duration = Duration::from_secs(60);

/// Jobs and their text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Amount {
    jobs: u64,
    bytes: u64,
}

/// Watches a queue drain, and remembers what it refused.
#[derive(Default)]
pub struct Backpressure {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What had left the queue by then; oldest first.
    drained: VecDeque<(Instant, Amount)>,
    /// What was refused then.
    refused: VecDeque<(Instant, Amount)>,
}

impl Backpressure {
    /// Starts watching; that ends when nobody holds it any more.
    #[must_use]
    pub fn watch(queue: &Arc<dyn Queue>) -> Arc<Self> {
        let watched = Arc::new(Self::default());
        tokio::spawn(look(Arc::downgrade(&watched), Arc::downgrade(queue)));
        watched
    }

    /// Notes that data were refused, and says when to come again.
    pub fn refuse(&self, now: Instant, jobs: u64, bytes: u64) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.refused.push_back((now, Amount { jobs, bytes }));
        seen.forget(now);
        seen.retry_after()
    }

    fn look(&self, now: Instant, partitions: &[Partition]) {
        let sum = |of: fn(&Partition) -> u64| partitions.iter().map(of).sum();
        let drained = Amount { jobs: sum(|p| p.drained), bytes: sum(|p| p.drained_bytes) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that came back empty counts from nothing.
        if seen.drained.back().is_some_and(|(_, before)| before.jobs > drained.jobs) {
            seen.drained.clear();
        }
        seen.drained.push_back((now, drained));
        seen.forget(now);
        if let Some((jobs_per_second, _)) = seen.rate() {
            metrics::QUEUE_DRAINED_PER_SECOND.set(jobs_per_second);
        }
        let oldest = partitions.iter().filter_map(|p| p.oldest).min();
        metrics::QUEUE_OLDEST_SECONDS.set(oldest.map_or(0.0, |at| Timestamp::now().since(at).as_secs_f64()));
        metrics::QUEUE_BYTES.set(sum(|p| p.size_bytes) as f64);
    }
}

/// Holds nothing while it sleeps: an embedded queue is closed by being dropped, and shall not wait for this.
async fn look(watched: Weak<Backpressure>, queue: Weak<dyn Queue>) {
    while let (Some(watched), Some(queue)) = (watched.upgrade(), queue.upgrade()) {
        match queue.partitions().await {
            Ok(partitions) => watched.look(Instant::now(), &partitions),
            // An old figure would look like a present one.
            Err(_) => {
                for gauge in [&metrics::QUEUE_BYTES, &metrics::QUEUE_OLDEST_SECONDS, &metrics::QUEUE_DRAINED_PER_SECOND]
                {
                    gauge.set(f64::NAN);
                }
            }
        }
        drop((watched, queue));
        sleep(LOOK).await;
    }
}

impl Seen {
    fn forget(&mut self, now: Instant) {
        while self.refused.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.refused.pop_front();
        }
        while self.drained.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.drained.pop_front();
        }
    }

    /// Jobs and bytes a second; `None` before there was time to measure.
    fn rate(&self) -> Option<(f64, f64)> {
        let ((from, before), (to, after)) = (self.drained.front()?, self.drained.back()?);
        let seconds = (*to - *from).as_secs_f64();
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        (seconds > 0.0).then(|| (per_second(before.jobs, after.jobs), per_second(before.bytes, after.bytes)))
    }

    fn retry_after(&self) -> Duration {
        let Some((jobs_rate, bytes_rate)) = self.rate() else { return SHORTEST };
        let refused = |of: fn(&Amount) -> u64| self.refused.iter().map(|(_, amount)| of(amount)).sum::<u64>() as f64;
        let seconds = (refused(|a| a.jobs) / jobs_rate).max(refused(|a| a.bytes) / bytes_rate);
        Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten looks, a second apart, at a queue that drains so many jobs of 100 bytes a second.
    fn draining(jobs: u64) -> (Backpressure, Instant) {
        let watched = Backpressure::default();
        let start = Instant::now();
        for second in 0..10 {
            let (drained, drained_bytes) = (second * jobs, second * jobs * 100);
            let partition = Partition { drained, drained_bytes, ..Partition::default() };
            watched.look(start + Duration::from_secs(second), &[partition]);
        }
        (watched, start + Duration::from_secs(9))
    }

    #[test]
    fn before_anything_is_measured_it_is_a_second() {
        assert_eq!(Backpressure::default().refuse(Instant::now(), 1_000, 1_000), Duration::from_secs(1));
    }

    #[test]
    fn it_is_the_time_to_drain_what_was_refused() {
        let (watched, now) = draining(100);
        assert_eq!(watched.refuse(now, 100, 100), Duration::from_secs(1));
        assert_eq!(watched.refuse(now, 400, 400), Duration::from_secs(5));
        // Few jobs with much text take as long as the text does.
        assert_eq!(watched.refuse(now, 1, 120_000), Duration::from_secs(13));
    }

    #[test]
    fn what_was_refused_long_ago_is_forgotten() {
        let (watched, now) = draining(100);
        watched.refuse(now - Duration::from_secs(8), 3_000, 3_000);
        assert_eq!(watched.refuse(now, 1, 1), Duration::from_secs(31));
        let (watched, now) = draining(100);
        watched.refuse(now - Duration::from_secs(11), 3_000, 3_000);
        assert_eq!(watched.refuse(now, 1, 1), Duration::from_secs(1));
    }

    #[test]
    fn a_queue_that_does_not_drain_is_a_minute() {
        let (watched, now) = draining(0);
        assert_eq!(watched.refuse(now, 1, 1), Duration::from_secs(60));
        let (watched, now) = draining(1);
        assert_eq!(watched.refuse(now, 10_000, 1), Duration::from_secs(60));
    }

    #[test]
    fn a_queue_that_starts_anew_is_measured_anew() {
        let (watched, now) = draining(1_000);
        watched.look(now + Duration::from_secs(1), &[Partition { drained: 5, ..Partition::default() }]);
        assert_eq!(watched.refuse(now + Duration::from_secs(1), 9_000, 1), Duration::from_secs(1));
    }
}
