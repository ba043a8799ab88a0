//! When the queue will have room again: what `Retry-After` says to those it had to refuse.
//!
//! The rate at which the queue drains is measured over the last ten seconds. The data that were refused in that time will
//! be sent again, so a client that is refused now is told to wait for as long as draining all of those takes. So no more
//! comes than workers can learn; with no worker at all it is a minute.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::observe::metrics;
use crate::queue::{Partition, Queue};
use crate::runtime::supervise::Supervisor;
use crate::watch;

/// How often the queue is asked for its figures.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How far back drained and refused data count.
const WINDOW: Duration = Duration::from_secs(10);

/// The shortest `Retry-After`: the header has no fractions.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The longest `Retry-After`: a client that finds the queue still full after it is told again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Jobs and their text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Amount {
    jobs: u64,
    bytes: u64,
}

/// Watches a queue drain, and remembers what it refused.
#[derive(Default)]
pub struct Backpressure {
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    /// What had left the queue by then; oldest first.
    drained: VecDeque<(Instant, Amount)>,
    /// What was refused then.
    refused: VecDeque<(Instant, Amount)>,
}

impl Backpressure {
    /// Starts watching, in a task of `supervisor`'s that ends when the result or the queue is dropped.
    #[must_use]
    pub fn watch(queue: &Arc<dyn Queue>, supervisor: &Supervisor) -> Arc<Self> {
        let backpressure = Arc::new(Self::default());
        let polling = poll(Arc::downgrade(&backpressure), Arc::downgrade(queue));
        supervisor.spawn("the task that watches the queue", polling);
        backpressure
    }

    /// Notes that data were refused, and says when to come again.
    pub fn refuse(&self, now: Instant, jobs: u64, bytes: u64) -> Duration {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.refused.push_back((now, Amount { jobs, bytes }));
        history.forget(now);
        history.retry_after()
    }

    fn record(&self, now: Instant, partitions: &[Partition]) {
        let sum = |of: fn(&Partition) -> u64| partitions.iter().map(of).sum();
        let drained = Amount { jobs: sum(|p| p.drained), bytes: sum(|p| p.drained_bytes) };
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that came back empty counts from nothing.
        if history.drained.back().is_some_and(|(_, before)| before.jobs > drained.jobs) {
            history.drained.clear();
        }
        history.drained.push_back((now, drained));
        history.forget(now);
        metrics::QUEUE_DRAINED_PER_SECOND.set_if_known(history.rate().map(|(jobs_per_second, _)| jobs_per_second));
    }
}

/// Polls the queue. Holds nothing while it sleeps: an embedded queue is closed by being dropped, which must not wait for
/// this task.
async fn poll(backpressure: Weak<Backpressure>, queue: Weak<dyn Queue>) {
    while let (Some(backpressure), Some(queue)) = (backpressure.upgrade(), queue.upgrade()) {
        match watch::partitions(&*queue).await {
            Some(partitions) => backpressure.record(Instant::now(), &partitions),
            None => metrics::QUEUE_DRAINED_PER_SECOND.forget(),
        }
        drop((backpressure, queue));
        sleep(POLL_INTERVAL).await;
    }
}

impl History {
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
        let Some((jobs_rate, bytes_rate)) = self.rate() else { return SHORTEST_WAIT };
        let refused = |of: fn(&Amount) -> u64| self.refused.iter().map(|(_, amount)| of(amount)).sum::<u64>() as f64;
        let seconds = (refused(|a| a.jobs) / jobs_rate).max(refused(|a| a.bytes) / bytes_rate);
        Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(LONGEST_WAIT).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten readings, a second apart, of a queue that drains so many jobs of 100 bytes a second.
    fn draining(jobs: u64) -> (Backpressure, Instant) {
        let backpressure = Backpressure::default();
        let start = Instant::now();
        for second in 0..10 {
            let (drained, drained_bytes) = (second * jobs, second * jobs * 100);
            let partition = Partition { drained, drained_bytes, ..Partition::default() };
            backpressure.record(start + Duration::from_secs(second), &[partition]);
        }
        (backpressure, start + Duration::from_secs(9))
    }

    #[test]
    fn before_anything_is_measured_it_is_a_second() {
        assert_eq!(Backpressure::default().refuse(Instant::now(), 1_000, 1_000), Duration::from_secs(1));
    }

    #[test]
    fn it_is_the_time_to_drain_what_was_refused() {
        let (backpressure, now) = draining(100);
        assert_eq!(backpressure.refuse(now, 100, 100), Duration::from_secs(1));
        assert_eq!(backpressure.refuse(now, 400, 400), Duration::from_secs(5));
        // Few jobs with much text take as long as the text does.
        assert_eq!(backpressure.refuse(now, 1, 120_000), Duration::from_secs(13));
    }

    #[test]
    fn what_was_refused_long_ago_is_forgotten() {
        let (backpressure, now) = draining(100);
        backpressure.refuse(now - Duration::from_secs(8), 3_000, 3_000);
        assert_eq!(backpressure.refuse(now, 1, 1), Duration::from_secs(31));
        let (backpressure, now) = draining(100);
        backpressure.refuse(now - Duration::from_secs(11), 3_000, 3_000);
        assert_eq!(backpressure.refuse(now, 1, 1), Duration::from_secs(1));
    }

    #[test]
    fn a_queue_that_does_not_drain_is_a_minute() {
        let (backpressure, now) = draining(0);
        assert_eq!(backpressure.refuse(now, 1, 1), Duration::from_secs(60));
        let (backpressure, now) = draining(1);
        assert_eq!(backpressure.refuse(now, 10_000, 1), Duration::from_secs(60));
    }

    #[test]
    fn a_queue_that_starts_anew_is_measured_anew() {
        let (backpressure, now) = draining(1_000);
        backpressure.record(now + Duration::from_secs(1), &[Partition { drained: 5, ..Partition::default() }]);
        assert_eq!(backpressure.refuse(now + Duration::from_secs(1), 9_000, 1), Duration::from_secs(1));
    }
}
