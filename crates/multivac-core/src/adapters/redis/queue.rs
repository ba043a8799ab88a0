//! The [`Queue`] in Redis streams: which partitions a call concerns, and in which order. The steps themselves are
//! scripts (`scripts.rs`).

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{self, Value};
use tokio::time::Instant;

use super::RedisSettings;
use super::connection::{Connection, Pool};
use super::entry::{EntryId, Fields, Place, read_dead_letter};
use super::keys::Keys;
use super::partitions::{Partitions, by_partition, total};
use super::replies::{PartitionLedger, Repaired};
use super::scripts::{AcceptCall, LeaseLimits, SCRIPT_MAX_JOBS, Scripts, create_group};
use super::{consumers, durability};
use crate::datum::DatumId;
use crate::observe::metrics;
use crate::queue::{
    Acceptance, DeadLetter, DeadLetterPlace, DeadLetterSummary, Durability, Failure, JobState, LEASE_MAX_BYTES, Lease,
    Ledger, Outcome, Partition, Queue, QueueAdmin, QueueConsumer, QueueError, QueueSettings, ServerMemory, Submission,
};

/// How long a waiting consumer sleeps at most before it looks for leases that ran out, for which there is no wakeup.
const EXPIRED_LEASES_INTERVAL: Duration = Duration::from_secs(1);

/// Dead letters read at once; each comes with its text.
const DEAD_LETTERS_AT_ONCE: usize = 20;

/// A consumer without leases that did nothing for so long belongs to a process that has ended.
const CONSUMER_MAX_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// Jobs in Redis streams; see the [module](super) for how it keeps the port's promises.
pub struct RedisQueue {
    settings: QueueSettings,
    pub(super) partitions: Partitions,
    scripts: Scripts,
}

impl RedisQueue {
    /// Reads the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`QueueError::Misconfigured`]: a URL cannot be read, the namespace is empty or holds a brace, or there is no
    /// partition.
    pub fn new(redis: RedisSettings, queue: QueueSettings) -> Result<Self, QueueError> {
        let partitions = Partitions::new(&redis)?;
        let pool = Pool::new(&redis.urls, redis.ca.as_deref())?;
        let scripts = Scripts::new(pool, consumers::new_name());
        Ok(Self { settings: queue, partitions, scripts })
    }

    pub(super) fn pool(&self) -> &Pool {
        self.scripts.pool()
    }

    /// In a Cluster, wakes a consumer for jobs of this partition. The scripts set the wakeup key of their own partition,
    /// but one connection cannot block on keys of several slots, so all consumers block on that of the first partition.
    ///
    /// A wakeup that fails is only logged: consumers look by themselves every [`EXPIRED_LEASES_INTERVAL`], and the jobs
    /// are where they belong.
    async fn forward_wakeup(&self, keys: &Keys) {
        if keys.partition() == 0 || matches!(self.pool(), Pool::Single(_)) {
            return;
        }
        if let Err(error) = self.scripts.wakeup(self.partitions.first()).await {
            tracing::debug!(%error, "no waiting consumer was woken; they look for jobs within a second");
        }
    }

    /// Waits for a wakeup, but no longer than until it is time to look for leases that ran out.
    async fn wait_for_wakeup(&self, wait: Duration) -> Result<(), QueueError> {
        // Short leases, as in tests, are looked after more often. BLPOP takes 0 for no limit at all.
        let time = wait.min(EXPIRED_LEASES_INTERVAL).min(self.settings.lease / 4).max(Duration::from_millis(1));
        let mut command = redis::cmd("BLPOP");
        match self.pool() {
            Pool::Single(_) => self.partitions.all().iter().for_each(|keys| {
                command.arg(keys.wakeup());
            }),
            Pool::Cluster(_) => {
                command.arg(self.partitions.first().wakeup());
            }
        }
        command.arg(time.as_secs_f64());
        let work = async |connection: &mut Connection| command.query_async::<Value>(connection).await;
        self.pool().call("wait for jobs", time, work).await.map(drop)
    }

    /// Leases what there is now.
    async fn lease_now(&self, max: usize) -> Result<Vec<Lease>, QueueError> {
        let max_attempts = self.settings.max_attempts;
        let mut leases: Vec<Lease> = Vec::new();
        let (mut remaining, mut bytes) = (max, 0);
        for keys in self.partitions.in_rotation() {
            if remaining == 0 || bytes >= LEASE_MAX_BYTES {
                break;
            }
            let limits =
                LeaseLimits { max_jobs: remaining, max_bytes: LEASE_MAX_BYTES - bytes, in_batch: leases.len() };
            let reply = match self.scripts.lease(keys, &self.settings, limits).await {
                Ok(reply) => reply,
                // Leases of other partitions are not to be lost; the next call meets the error again.
                Err(_) if !leases.is_empty() => break,
                Err(error) => return Err(error),
            };
            remaining = reply.remaining;
            metrics::LEASES_EXPIRED.inc_by(reply.ran_out);
            for (delivery, job, attempts) in reply.leased()? {
                bytes += job.datum.as_str().len();
                let attempt = attempts + delivery.number;
                leases.push(Lease {
                    job,
                    attempt: attempt.min(max_attempts),
                    exhausted: attempt > max_attempts,
                    token: delivery.token(keys.partition()),
                });
            }
            if reply.more_waiting {
                self.forward_wakeup(keys).await;
            }
        }
        Ok(leases)
    }

    /// The ledger of each partition.
    async fn ledgers(&self) -> Result<Vec<PartitionLedger>, QueueError> {
        let mut ledgers = Vec::new();
        for keys in self.partitions.all() {
            ledgers.push(self.scripts.ledger(keys).await?);
        }
        Ok(ledgers)
    }

    /// Finds what someone deleted by hand, or Redis evicted, and says how much it was.
    async fn repair(&self, keys: &Keys) -> Result<(), QueueError> {
        let Repaired { lost, found } = self.scripts.repair(keys).await?;
        if lost > 0 {
            metrics::LOST.inc_by(lost);
            tracing::error!(
                partition = keys.partition(),
                jobs = lost,
                "accepted data are lost: their jobs or dead letters are gone from Redis. Unless the store has them, \
                 they count as accepted no more, and their ids are unknown"
            );
        }
        if found > 0 {
            tracing::warn!(
                partition = keys.partition(),
                jobs = found,
                "keys of the queue were gone from Redis; they were made again from what was left"
            );
        }
        Ok(())
    }

    /// The partition of a dead letter, and its entry there.
    async fn find_dead_letter(&self, id: DatumId) -> Result<Option<(&Keys, EntryId)>, QueueError> {
        for keys in self.partitions.all() {
            let ask = async |connection: &mut Connection| {
                redis::cmd("HGET").arg(keys.jobs()).arg(id.to_string()).query_async::<Option<String>>(connection).await
            };
            let job = self.pool().call("find a dead letter", Duration::ZERO, ask).await?;
            if let Some(entry) = job.as_deref().and_then(|job| job.strip_prefix('d')) {
                return Ok(Some((keys, entry.parse()?)));
            }
        }
        Ok(None)
    }

    /// Dead letters of one partition in their order, `max` at most, between two ends as XRANGE takes them.
    async fn read_dead_letters(
        &self,
        keys: &Keys,
        (from, to): (&str, &str),
        max: usize,
    ) -> Result<Vec<(EntryId, Option<DeadLetter>)>, QueueError> {
        let read = async |connection: &mut Connection| {
            let mut range = redis::cmd("XRANGE");
            range.arg(keys.dead()).arg(from).arg(to).arg("COUNT").arg(max);
            range.query_async::<Vec<(String, Fields)>>(connection).await
        };
        let read = self.pool().call("read dead letters", Duration::ZERO, read).await?;
        let letter = |(entry, fields): (String, Fields)| {
            let entry = entry.parse()?;
            Ok((entry, read_dead_letter(entry, &fields)))
        };
        read.into_iter().map(letter).collect()
    }

    /// The same without their texts, which come from Redis all the same: so a few at a time.
    async fn list_dead_letters(
        &self,
        keys: &Keys,
        mut from: String,
        max: usize,
    ) -> Result<Vec<(Place, DeadLetterSummary)>, QueueError> {
        let mut listed = Vec::new();
        while listed.len() < max {
            let count = DEAD_LETTERS_AT_ONCE.min(max - listed.len());
            let read = self.read_dead_letters(keys, (&from, "+"), count).await?;
            let Some((last, _)) = read.last() else { break };
            from = format!("({last}");
            let is_last = read.len() < count;
            listed.extend(read.into_iter().filter_map(|(entry, letter)| {
                let place = Place { entry, partition: keys.partition() };
                Some((place, DeadLetterSummary::new(letter?, DeadLetterPlace(place.to_string()))))
            }));
            if is_last {
                break;
            }
        }
        Ok(listed)
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        let mut results = vec![Acceptance::Full; submissions.len()];
        for (keys, indexes) in self.partitions.assign(submissions) {
            let call = AcceptCall {
                keys,
                submissions: indexes.iter().map(|&i| &submissions[i]).collect(),
                max_queued: self.partitions.share(self.settings.max_queued),
                max_queued_bytes: self.partitions.share(self.settings.max_queued_bytes),
            };
            let acceptances = match durability::accept(&self.scripts, self.settings.durability, &call).await {
                // Nothing of this call was accepted, but something of an earlier one may have been, so the outcome of
                // the batch is unknown.
                Err(error) if results.iter().any(Acceptance::may_be_there) => return Err(error.into_unknown()),
                acceptances => acceptances?,
            };
            for (i, acceptance) in indexes.into_iter().zip(acceptances) {
                results[i] = acceptance;
            }
            self.forward_wakeup(keys).await;
        }
        Ok(results)
    }

    fn durability(&self) -> Durability {
        self.settings.durability
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let leases = self.lease_now(max).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            self.wait_for_wakeup(left).await?;
        }
    }

    async fn extend(&self, leases: &[Lease]) -> Result<(), QueueError> {
        // A partition that is out of reach does not hold up the others; nor does it in `complete` and `release`.
        let mut all = Ok(());
        for (partition, leases) in by_partition(leases, |lease| lease) {
            let keys = self.partitions.of_lease(partition)?;
            all = all.and(self.scripts.extend(keys, &leases).await);
        }
        all
    }

    async fn complete(&self, finished: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        let mut all = Ok(());
        for (partition, finished) in by_partition(finished, |(lease, _)| lease) {
            let keys = self.partitions.of_lease(partition)?;
            for finished in finished.chunks(SCRIPT_MAX_JOBS) {
                all = all.and(self.scripts.complete(keys, finished).await);
            }
        }
        all
    }

    async fn fail(&self, lease: &Lease, error: &str, retry_after: Duration) -> Result<Failure, QueueError> {
        let keys = self.partitions.of_lease(lease.token.partition)?;
        self.scripts.fail(keys, &self.settings, lease, error, retry_after).await
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let mut all = Ok(());
        for (partition, leases) in by_partition(leases, |lease| lease) {
            let keys = self.partitions.of_lease(partition)?;
            all = all.and(self.scripts.release(keys, &leases).await);
            self.forward_wakeup(keys).await;
        }
        all
    }

    async fn job_state(&self, id: DatumId) -> Result<Option<JobState>, QueueError> {
        for keys in self.partitions.all() {
            if let Some(state) = self.scripts.job_state(keys, id).await? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    async fn retract(&self, id: DatumId, was_learned: bool) -> Result<(), QueueError> {
        // Partition 0 comes last: when no other knows the id, it counts a learned datum as retracted.
        for keys in self.partitions.all().iter().rev() {
            if self.scripts.retract(keys, id, was_learned && keys.partition() == 0).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(total(&self.ledgers().await?))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        let mut partitions = Vec::new();
        for keys in self.partitions.all() {
            partitions.push(self.scripts.partition(keys).await?);
        }
        Ok(partitions)
    }
}

#[async_trait]
impl QueueAdmin for RedisQueue {
    async fn prepare(&self) -> Result<Vec<String>, QueueError> {
        durability::check(self.pool(), self.settings.durability).await?;
        for keys in self.partitions.all() {
            self.repair(keys).await?;
            let create = async |connection: &mut Connection| create_group(connection, keys).await;
            self.pool().call("make the consumer group", Duration::ZERO, create).await?;
            self.scripts.remove_idle_consumers(keys, CONSUMER_MAX_IDLE).await?;
        }
        Ok(durability::warnings(self.pool()).await)
    }

    async fn server_memory(&self) -> Result<Option<ServerMemory>, QueueError> {
        durability::memory(self.pool()).await
    }

    async fn consumers(&self) -> Result<Vec<QueueConsumer>, QueueError> {
        let mut found = Vec::new();
        for keys in self.partitions.all() {
            found.extend(consumers::of_partition(self.pool(), keys).await?.unwrap_or_default());
        }
        Ok(consumers::across_partitions(found))
    }

    async fn reconcile(&self, seen: &Ledger, learned: u64, retracted: u64) -> Result<bool, QueueError> {
        let ledgers = self.ledgers().await?;
        if total(&ledgers) != *seen {
            return Ok(false);
        }
        let more_learned = difference(learned, seen.learned);
        let more_retracted = difference(retracted, seen.retracted);
        // Each partition knows by itself whether it may count too much. All others leave it to the first.
        for (keys, ledger) in self.partitions.all().iter().zip(&ledgers) {
            if self.scripts.reconcile(keys, more_learned, more_retracted, ledger).await? {
                return Ok(true);
            }
            if more_learned + more_retracted >= 0 {
                break;
            }
        }
        Ok(false)
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPlace>,
        max: usize,
    ) -> Result<Vec<DeadLetterSummary>, QueueError> {
        let after = after.map(|DeadLetterPlace(place)| place.parse::<Place>()).transpose()?;
        // They are ordered by their entries, which is the order in which they died, and then by partition.
        let mut letters = Vec::new();
        for keys in self.partitions.all() {
            let from = match after {
                // An equal entry id of a later partition comes after it.
                Some(place) if keys.partition() > place.partition => place.entry.to_string(),
                Some(place) => format!("({}", place.entry),
                None => "-".to_owned(),
            };
            letters.extend(self.list_dead_letters(keys, from, max).await?);
        }
        letters.sort_by_key(|(place, _)| *place);
        letters.truncate(max);
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }

    async fn dead_letter_place(&self, id: DatumId) -> Result<Option<DeadLetterPlace>, QueueError> {
        let place = |keys: &Keys, entry| DeadLetterPlace(Place { entry, partition: keys.partition() }.to_string());
        if let Some((keys, entry)) = self.find_dead_letter(id).await? {
            return Ok(Some(place(keys, entry)));
        }
        for keys in self.partitions.all() {
            let ask = async |connection: &mut Connection| {
                let retried = redis::cmd("GET").arg(keys.retried(id)).query_async::<Option<String>>(connection).await?;
                let retracted = redis::cmd("GET").arg(keys.retracted(id)).query_async(connection).await?;
                Ok([retried, retracted])
            };
            let stood = self.pool().call("find where a dead letter stood", Duration::ZERO, ask).await?;
            if let Some(entry) = stood.into_iter().flatten().find(|entry| !entry.is_empty()) {
                return Ok(Some(place(keys, entry.parse()?)));
            }
        }
        Ok(None)
    }

    async fn dead_letter(&self, id: DatumId) -> Result<Option<DeadLetter>, QueueError> {
        let Some((keys, entry)) = self.find_dead_letter(id).await? else { return Ok(None) };
        let entry = entry.to_string();
        let found = self.read_dead_letters(keys, (&entry, &entry), 1).await?;
        Ok(found.into_iter().next().and_then(|(_, letter)| letter))
    }

    async fn retry_dead(&self, id: DatumId) -> Result<bool, QueueError> {
        for keys in self.partitions.all() {
            if self.scripts.retry_dead(keys, id).await? {
                self.forward_wakeup(keys).await;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn difference(to: u64, from: u64) -> i64 {
    i64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0)
}
