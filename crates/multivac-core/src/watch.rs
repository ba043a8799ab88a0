//! Watches the queue and the store, so that a scrape of the metrics asks no server, and what cannot be asked is not shown.
//!
//! Each call has a time limit, and each server is asked by a loop of its own, so one that hangs holds up neither the figures
//! of the other nor a scrape. What was read last is forgotten as soon as a call fails.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::adapters::Backends;
use crate::datum::Timestamp;
use crate::observe::metrics;
use crate::queue::{Ledger, Partition, Queue, QueueAdmin, QueueError, ServerMemory};
use crate::status::Registry;
use crate::store::{BackupKind, Disk, Position, Store, StoreError};

/// How often a server is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is asked what changes slowly: once in so many times.
const SLOW: u32 = 10;

/// How often it is asked for the last backups, which are days apart.
const BACKUPS: u32 = 60;

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Watches until it is stopped. `registry` is that of a replica with an index, whose figures are then kept as well. Where
/// backups are expected, one that was never made is shown.
pub async fn watch(backends: Backends, registry: Option<Registry>, expect_backups: bool, stop: CancellationToken) {
    let queue = watch_queue(Arc::clone(&backends.queue), registry.clone());
    let store = watch_store(Arc::clone(&backends.store), registry, expect_backups);
    tokio::select! {
        () = stop.cancelled() => {}
        _ = join(queue, store) => {}
    }
}

async fn watch_queue(queue: Arc<dyn QueueAdmin>, registry: Option<Registry>) {
    let mut ticks = ticks();
    let (mut memory, mut turn) = (None, 0);
    loop {
        ticks.tick().await;
        // All that is asked in one turn shares its time limit: a queue that hangs in between is not reached either.
        let read = of_queue(async {
            let ledger = queue.ledger().await?;
            // Where requests are accepted, backpressure reads the partitions.
            let partitions = if registry.is_none() { Some(queue.partitions().await?) } else { None };
            if turn % SLOW == 0 {
                memory = queue.server_memory().await?;
            }
            Ok((ledger, partitions))
        })
        .await;
        set_reachable("queue", read.is_some());
        let (ledger, partitions) = read.unzip();
        // A replica's ledger is the one that its answers show. In it what is stored and not in its index is still processing.
        show_ledger(ledger.map(|ledger| registry.as_ref().map_or(ledger, |registry| registry.as_shown(ledger))));
        if let Some(registry) = &registry {
            let indexed = registry.index.snapshot().learned + registry.store.unreadable();
            let behind = ledger.map(|ledger: Ledger| ledger.learned.saturating_sub(indexed) as f64);
            metrics::INDEX_LAG_DATA.set_if_known(behind);
        } else {
            show_partitions(partitions.flatten().as_deref());
        }
        let memory = memory.filter(|_| ledger.is_some());
        metrics::QUEUE_SERVER_MEMORY.set_if_known(memory.map(|memory: ServerMemory| memory.used_bytes as f64));
        let max = memory.and_then(|memory| memory.max_bytes);
        metrics::QUEUE_SERVER_MEMORY_MAX.set_if_known(max.map(|bytes| bytes as f64));
        // After an outage everything is asked again.
        turn = if ledger.is_some() { turn + 1 } else { 0 };
    }
}

async fn watch_store(store: Arc<dyn Store>, registry: Option<Registry>, expect_backups: bool) {
    let (mut ticks, mut lag) = (ticks(), Lag::default());
    let (mut disk, mut turn) = (None, 0);
    loop {
        ticks.tick().await;
        let read = of_store(async {
            // It writes nothing, and yet needs all that a write needs: the primary, that it is not locked, and a majority.
            store.announce("a probe", None).await?;
            if turn % SLOW == 0 {
                disk = store.disk().await?;
            }
            if registry.is_some() { store.position().await.map(Some) } else { Ok(None) }
        })
        .await;
        set_reachable("store", read.is_some());
        show_disk("store", disk.filter(|_| read.is_some()));
        if read.is_some() && turn % BACKUPS == 0 {
            show_backups(&*store, expect_backups).await;
        }
        if let Some(registry) = &registry {
            let passed = registry.follower.progress().borrow().position;
            metrics::INDEX_LAG_SECONDS.set_if_known(lag.seconds(Instant::now(), read.flatten(), passed));
            if turn % SLOW == 0 {
                let index = Arc::clone(&registry.index);
                let (size, disk) = tokio::task::spawn_blocking(move || index.room()).await.unwrap_or((None, None));
                metrics::INDEX_BYTES.set_if_known(size.map(|bytes| bytes as f64));
                show_disk("index", disk);
            }
        }
        turn = if read.is_some() { turn + 1 } else { 0 };
    }
}

/// What each partition of a queue holds, shown as well; `None` where the queue does not say it in time.
pub(crate) async fn partitions(queue: &dyn Queue) -> Option<Vec<Partition>> {
    let partitions = of_queue(queue.partitions()).await;
    show_partitions(partitions.as_deref());
    partitions
}

fn show_partitions(partitions: Option<&[Partition]>) {
    let sum = |of: fn(&Partition) -> u64| partitions.map(|all| all.iter().map(of).sum::<u64>() as f64);
    metrics::QUEUE_UNFINISHED.set_if_known(sum(|partition| partition.queued + partition.processing));
    metrics::QUEUE_BYTES.set_if_known(sum(|partition| partition.size_bytes));
    let oldest = partitions.map(|all| all.iter().filter_map(|partition| partition.oldest).min());
    let age = |at| Timestamp::now().since(at).as_secs_f64();
    metrics::QUEUE_OLDEST_SECONDS.set_if_known(oldest.map(|oldest| oldest.map_or(0.0, age)));
}

fn show_ledger(ledger: Option<Ledger>) {
    let show = |state, of: fn(&Ledger) -> u64| {
        metrics::LEDGER.of(state).set_if_known(ledger.as_ref().map(|ledger| of(ledger) as f64));
    };
    show("accepted", |ledger| ledger.accepted);
    show("queued", |ledger| ledger.queued);
    show("processing", |ledger| ledger.processing);
    show("learned", |ledger| ledger.learned);
    show("retracted", |ledger| ledger.retracted);
    show("dead", |ledger| ledger.dead);
}

fn show_disk(of: &str, disk: Option<Disk>) {
    metrics::DISK_FREE.of(of).set_if_known(disk.map(|disk| disk.free_bytes as f64));
    metrics::DISK_SIZE.of(of).set_if_known(disk.map(|disk| disk.size_bytes as f64));
}

/// What was known last stays true while the store does not tell.
async fn show_backups(store: &dyn Store, expected: bool) {
    for kind in BackupKind::ALL {
        let Some(last) = of_store(store.last_backup(kind)).await else { continue };
        let seconds = last.map(|at| (at.as_millis() / 1_000) as f64).or(expected.then_some(0.0));
        metrics::BACKUP_COMPLETED.of(kind.as_str()).set_if_known(seconds);
    }
}

fn set_reachable(backend: &str, reached: bool) {
    metrics::REACHABLE.of(backend).set(f64::from(u8::from(reached)));
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The reply to a call, if there is one in time. Nobody else sees it fail, so it is counted here.
async fn in_time<T, E: Display>(
    backend: &'static str,
    errors: &Counter,
    call: impl Future<Output = Result<T, E>>,
) -> Option<T> {
    let error = match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(reply)) => return Some(reply),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no reply within {CALL_TIMEOUT:?}"),
    };
    errors.inc();
    debug!(of = backend, error, "the figures of a backend cannot be read");
    None
}

fn of_queue<T>(call: impl Future<Output = Result<T, QueueError>>) -> impl Future<Output = Option<T>> {
    in_time("the queue", &metrics::QUEUE_ERRORS, call)
}

fn of_store<T>(call: impl Future<Output = Result<T, StoreError>>) -> impl Future<Output = Option<T>> {
    in_time("the store", &metrics::STORE_ERRORS, call)
}

/// Where the store was, and when: what the index has passed of it says how far it is behind.
#[derive(Default)]
struct Lag(VecDeque<(Instant, Position)>);

/// More than an hour is an hour: what is kept is bounded.
const LONGEST_LAG: usize = 3_600;

impl Lag {
    /// The age of the oldest position that the index has not passed; `None` while that is unknown.
    fn seconds(&mut self, now: Instant, store_at: Option<Position>, passed: Position) -> Option<f64> {
        while self.0.front().is_some_and(|(_, position)| *position <= passed) {
            self.0.pop_front();
        }
        let oldest = self.0.front().map(|(at, _)| now.saturating_duration_since(*at).as_secs_f64());
        if let Some(position) = store_at.filter(|position| *position > passed)
            && self.0.len() < LONGEST_LAG
        {
            self.0.push_back((now, position));
        }
        oldest.or(store_at.map(|_| 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_what_was_not_passed() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lag.seconds(at(0), None, Position(0)), None, "nothing is known");
        assert_eq!(lag.seconds(at(1), Some(Position(5)), Position(5)), Some(0.0));
        // A store that is a moment ahead is no lag yet.
        assert_eq!(lag.seconds(at(2), Some(Position(7)), Position(5)), Some(0.0));
        assert_eq!(lag.seconds(at(3), Some(Position(9)), Position(6)), Some(1.0));
        assert_eq!(lag.seconds(at(4), Some(Position(9)), Position(8)), Some(1.0));
        // Out of reach: what is known of before still counts.
        assert_eq!(lag.seconds(at(9), None, Position(8)), Some(6.0));
        assert_eq!(lag.seconds(at(10), Some(Position(9)), Position(9)), Some(0.0));
    }
}
