//! The scripts in `lua/` as typed calls. Here alone arguments are written, in the order in which a script reads them;
//! `replies.rs` reads what comes back.

use std::time::Duration;

use deadpool_redis::redis::{self, FromRedisValue, RedisResult, Script, ScriptInvocation};
use tokio::time::Instant;

use super::clock::{Clocks, Late, TRIES, Window, always_late};
use super::connection::{CALL_TIMEOUT, Connection, Pool, is_group_missing};
use super::entry::Delivery;
use super::keys::{GROUP, Keys};
use super::packed;
use super::replies::{self, AcceptReply, LeaseReply, PartitionLedger, Repaired};
use crate::datum::{DatumId, Timestamp};
use crate::queue::{
    BATCH_LIMITS, Failure, IDEMPOTENCY_KEY_LIFETIME, JobState, Lease, Outcome, Partition, QueueError, QueueSettings,
    REPLAY_WINDOW, Submission,
};

/// How many jobs one script takes at most: Redis does nothing else meanwhile.
pub(super) const SCRIPT_MAX_JOBS: usize = 1_000;

/// About what a job has beside its text when it is submitted.
const SUBMISSION_BYTES: usize = 128;

/// How long it is known where a dead letter stood that was retried. Those of all that are retried at once are kept as long.
const PLACE_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The scripts, and the connections that they run on.
pub(super) struct Scripts {
    pool: Pool,
    /// Our name in the consumer group.
    consumer: String,
    accept: Script,
    lease: Script,
    extend: Script,
    complete: Script,
    fail: Script,
    release: Script,
    job_state: Script,
    retract: Script,
    ledger: Script,
    partition: Script,
    rollback: Script,
    reconcile: Script,
    retry_dead: Script,
    remove_idle_consumers: Script,
    wakeup: Script,
    replicas: Script,
    repair: Script,
    clocks: Clocks,
}

/// What one accept script puts into one partition.
pub(super) struct AcceptCall<'a> {
    pub(super) keys: &'a Keys,
    /// One at least, and no more than [`SCRIPT_MAX_JOBS`].
    pub(super) submissions: Vec<&'a Submission>,
    /// The partition's share of [`QueueSettings::max_queued`].
    pub(super) max_queued: u64,
    /// The partition's share of [`QueueSettings::max_queued_bytes`].
    pub(super) max_queued_bytes: u64,
}

impl AcceptCall<'_> {
    /// Where the reply is kept, so that the same call made twice gets the same reply.
    fn reply_key(&self) -> String {
        self.keys.accepted(self.submissions[0].job.id)
    }
}

/// How much one lease script brings.
pub(super) struct LeaseLimits {
    pub(super) max_jobs: usize,
    /// The job that crosses it still comes.
    pub(super) max_bytes: usize,
    /// How many jobs the batch holds already, from other partitions.
    pub(super) in_batch: usize,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $file))))
    };
}

impl Scripts {
    pub(super) fn new(pool: Pool, consumer: String) -> Self {
        Self {
            pool,
            consumer,
            accept: script!("accept.lua"),
            lease: script!("lease.lua"),
            extend: script!("extend.lua"),
            complete: script!("complete.lua"),
            fail: script!("fail.lua"),
            release: script!("release.lua"),
            job_state: script!("job_state.lua"),
            retract: script!("retract.lua"),
            ledger: script!("ledger.lua"),
            partition: script!("partition.lua"),
            rollback: script!("rollback.lua"),
            reconcile: script!("reconcile.lua"),
            retry_dead: script!("retry_dead.lua"),
            remove_idle_consumers: script!("remove_idle_consumers.lua"),
            wakeup: script!("wakeup.lua"),
            replicas: script!("replicas.lua"),
            repair: script!("repair.lua"),
            clocks: Clocks::default(),
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs a script; makes the consumer group first where Redis has none. `what` it does goes into an error.
    async fn run<T: FromRedisValue>(
        &self,
        what: &str,
        keys: &Keys,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        let work = async |connection: &mut Connection| with_group(connection, keys, call).await;
        self.pool.call(what, Duration::ZERO, work).await
    }

    /// From when to when a call that begins now may be executed.
    pub(super) fn window(&self, keys: &Keys) -> Window {
        self.clocks.window(keys.partition(), Instant::now(), CALL_TIMEOUT)
    }

    /// Keeps what Redis's clock showed, so that the next call is in time.
    pub(super) fn set_clock(&self, keys: &Keys, late: Late) {
        self.clocks.set(keys.partition(), late, Instant::now());
    }

    /// Puts jobs on the stream. One reply for each, in their order.
    pub(super) async fn accept(&self, call: &AcceptCall<'_>) -> Result<Vec<AcceptReply>, QueueError> {
        for _ in 0..TRIES {
            let script = self.prepare_accept(call);
            let work = async |connection: &mut Connection| match script.invoke_async::<String>(connection).await {
                Err(error) => Late::read(&error).map(Err).ok_or(error),
                Ok(replies) => Ok(Ok(replies)),
            };
            match self.pool.call("accept jobs", Duration::ZERO, work).await? {
                // What cannot be read was done all the same.
                Ok(replies) => return AcceptReply::parse_all(&replies).map_err(QueueError::into_unknown),
                Err(late) => self.set_clock(call.keys, late),
            }
        }
        Err(always_late())
    }

    /// The same, not run yet. Its reply is for [`AcceptReply::parse_all`].
    pub(super) fn prepare_accept(&self, call: &AcceptCall<'_>) -> ScriptInvocation<'_> {
        let window = self.window(call.keys);
        let mut script = self.accept.prepare_invoke();
        script
            .key(call.keys.of_partition())
            .key(call.reply_key())
            .arg(call.max_queued)
            .arg(call.max_queued_bytes)
            .arg(IDEMPOTENCY_KEY_LIFETIME.as_secs())
            .arg(REPLAY_WINDOW.as_secs());
        let bytes =
            call.submissions.iter().map(|submission| SUBMISSION_BYTES + submission.job.datum.as_str().len()).sum();
        let mut jobs = packed::Writer::new(6 * call.submissions.len(), bytes);
        let mut keys = 0;
        for Submission { job, idempotency_key } in &call.submissions {
            jobs.push(job.id.to_string());
            jobs.push(job.received_at.as_millis().to_string());
            jobs.push(job.datum.as_str());
            jobs.push(job.trace.as_deref().unwrap_or_default());
            if let Some(key) = idempotency_key {
                script.key(call.keys.idempotency(key.of_user)).key(call.keys.idempotency(key.of_anyone));
                jobs.push((keys + 1).to_string());
                jobs.push(hex(job.datum.digest()));
                keys += 2;
            } else {
                jobs.push("0");
                jobs.push("");
            }
        }
        script.arg(jobs.finish());
        script.arg(window.earliest).arg(window.latest);
        script
    }

    /// Looks which replicas may hold what is written now. Its reply is for [`Replicas::parse`](super::replies::Replicas).
    pub(super) fn prepare_replicas(&self, call: &AcceptCall<'_>) -> ScriptInvocation<'_> {
        let mut script = self.replicas.prepare_invoke();
        script.key(call.keys.of_partition()).key(call.reply_key());
        script
    }

    /// Takes jobs of an accepting call, by their indexes in it, off the stream again. The reply, one for each, is for
    /// [`RollbackReply::parse_all`](super::replies::RollbackReply::parse_all).
    pub(super) fn prepare_rollback(&self, call: &AcceptCall<'_>, indexes: &[usize]) -> ScriptInvocation<'_> {
        let window = self.window(call.keys);
        let mut script = self.rollback.prepare_invoke();
        script.key(call.keys.of_partition()).key(call.reply_key()).arg(GROUP);
        let mut idempotency_keys = 0;
        for &index in indexes {
            let Submission { job, idempotency_key } = call.submissions[index];
            // Lua counts from 1.
            script.arg(job.id.to_string()).arg(index + 1);
            if let Some(key) = idempotency_key {
                idempotency_keys += 1;
                script.key(call.keys.idempotency(key.of_user)).arg(idempotency_keys);
            } else {
                script.arg(0);
            }
        }
        script.arg(window.earliest).arg(window.latest);
        script
    }

    /// Leases jobs to this consumer.
    pub(super) async fn lease(
        &self,
        keys: &Keys,
        settings: &QueueSettings,
        limits: LeaseLimits,
    ) -> Result<LeaseReply, QueueError> {
        let mut script = self.lease.prepare_invoke();
        script
            .key(keys.of_partition())
            .arg(GROUP)
            .arg(&self.consumer)
            .arg(limits.max_jobs)
            .arg(limits.max_bytes)
            .arg(millis(settings.lease))
            .arg(settings.max_attempts)
            .arg(limits.in_batch)
            .arg(&BATCH_LIMITS);
        self.run("lease jobs", keys, &script).await.map(LeaseReply::new)
    }

    /// Starts the time of leases anew.
    pub(super) async fn extend(&self, keys: &Keys, leases: &[&Lease]) -> Result<(), QueueError> {
        let mut script = self.extend.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(&self.consumer);
        for lease in leases {
            let delivery = Delivery::from_token(&lease.token)?;
            script.arg(delivery.entry).arg(delivery.number);
        }
        self.run("extend leases", keys, &script).await
    }

    /// Takes finished jobs off the stream; no more than [`SCRIPT_MAX_JOBS`].
    pub(super) async fn complete(&self, keys: &Keys, finished: &[&(Lease, Outcome)]) -> Result<(), QueueError> {
        let mut jobs = packed::Writer::new(4 * finished.len(), 80 * finished.len());
        for (lease, outcome) in finished {
            let outcome = match outcome {
                Outcome::Learned => "learned",
                Outcome::Retracted => "retracted",
            };
            jobs.push(Delivery::from_token(&lease.token)?.entry.to_string());
            jobs.push(lease.job.id.to_string());
            jobs.push(outcome);
            jobs.push(lease.job.datum.as_str().len().to_string());
        }
        let mut script = self.complete.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(jobs.finish());
        self.run("complete jobs", keys, &script).await
    }

    /// Ends an attempt: the job moves to the dead letters when it was the last, or comes again after `retry_after`.
    pub(super) async fn fail(
        &self,
        keys: &Keys,
        settings: &QueueSettings,
        lease: &Lease,
        error: &str,
        retry_after: Duration,
    ) -> Result<Failure, QueueError> {
        let delivery = Delivery::from_token(&lease.token)?;
        let mut script = self.fail.prepare_invoke();
        script
            .key(keys.of_partition())
            .arg(GROUP)
            .arg(&self.consumer)
            .arg(delivery.entry)
            .arg(delivery.number)
            .arg(lease.job.id.to_string())
            .arg(lease.attempt)
            .arg(u8::from(lease.attempt >= settings.max_attempts))
            .arg(error)
            .arg(millis(settings.lease.saturating_sub(retry_after)))
            .arg(Timestamp::now().as_millis());
        let dead: bool = self.run("fail a job", keys, &script).await?;
        Ok(if dead { Failure::Dead } else { Failure::Retried })
    }

    /// Puts leased jobs back as if they had not been leased.
    pub(super) async fn release(&self, keys: &Keys, leases: &[&Lease]) -> Result<(), QueueError> {
        let mut script = self.release.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(&self.consumer);
        for lease in leases {
            let delivery = Delivery::from_token(&lease.token)?;
            script.arg(delivery.entry).arg(delivery.number).arg(lease.used());
        }
        self.run("release jobs", keys, &script).await
    }

    /// Where an unfinished job of this partition stands.
    pub(super) async fn job_state(&self, keys: &Keys, id: DatumId) -> Result<Option<JobState>, QueueError> {
        let mut script = self.job_state.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(id.to_string());
        let state: Option<String> = self.run("find a job", keys, &script).await?;
        state.as_deref().map(replies::job_state).transpose()
    }

    /// Enters a retraction into the ledger. Whether it is there now: `false` when this partition does not know the id
    /// and `was_learned` is not set.
    pub(super) async fn retract(&self, keys: &Keys, id: DatumId, was_learned: bool) -> Result<bool, QueueError> {
        let mut script = self.retract.prepare_invoke();
        script
            .key(keys.of_partition())
            .key(keys.retracted(id))
            .arg(id.to_string())
            .arg(u8::from(was_learned))
            .arg(IDEMPOTENCY_KEY_LIFETIME.as_secs());
        self.run("retract a job", keys, &script).await
    }

    pub(super) async fn ledger(&self, keys: &Keys) -> Result<PartitionLedger, QueueError> {
        let mut script = self.ledger.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP);
        self.run("read the ledger", keys, &script).await.map(PartitionLedger::from_counts)
    }

    pub(super) async fn partition(&self, keys: &Keys) -> Result<Partition, QueueError> {
        let mut script = self.partition.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP);
        self.run("count its jobs", keys, &script).await.map(replies::partition)
    }

    /// Adds to what the ledger counts, unless it is another than `seen` by now. Whether it was done.
    pub(super) async fn reconcile(
        &self,
        keys: &Keys,
        more_learned: i64,
        more_retracted: i64,
        seen: &PartitionLedger,
    ) -> Result<bool, QueueError> {
        let mut script = self.reconcile.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(more_learned).arg(more_retracted).arg(&seen.counts());
        self.run("reconcile the ledger", keys, &script).await
    }

    /// Puts a dead letter back on the stream; `false` when there is none with this id in the partition.
    pub(super) async fn retry_dead(&self, keys: &Keys, id: DatumId) -> Result<bool, QueueError> {
        let mut script = self.retry_dead.prepare_invoke();
        script.key(keys.of_partition()).key(keys.retried(id)).arg(id.to_string()).arg(PLACE_LIFETIME.as_secs());
        self.run("retry a dead letter", keys, &script).await
    }

    /// Removes consumers without leases that did nothing for `idle`.
    pub(super) async fn remove_idle_consumers(&self, keys: &Keys, idle: Duration) -> Result<(), QueueError> {
        let mut script = self.remove_idle_consumers.prepare_invoke();
        script.key(keys.of_partition()).arg(GROUP).arg(millis(idle));
        self.run("remove old consumers", keys, &script).await
    }

    /// Brings the ids of unfinished jobs in line with the streams, where someone has deleted some of either.
    pub(super) async fn repair(&self, keys: &Keys) -> Result<Repaired, QueueError> {
        let mut repaired = Repaired::default();
        // The ledger is looked at when ids and entries fit together.
        for _ in 0..2 {
            let mut place = String::new();
            loop {
                let mut script = self.repair.prepare_invoke();
                script.key(keys.of_partition()).arg(GROUP).arg(&place);
                let (next, lost, found): (String, u64, u64) = self.run("repair the ledger", keys, &script).await?;
                repaired.lost += lost;
                repaired.found += found;
                if next.is_empty() {
                    break;
                }
                place = next;
            }
        }
        Ok(repaired)
    }

    /// Wakes a consumer that waits on this partition's wakeup key.
    pub(super) async fn wakeup(&self, keys: &Keys) -> Result<(), QueueError> {
        let mut script = self.wakeup.prepare_invoke();
        script.key(keys.of_partition());
        self.run("wake a consumer", keys, &script).await
    }
}

/// Invokes a script; makes the consumer group first where Redis has none.
pub(super) async fn with_group<T: FromRedisValue>(
    connection: &mut Connection,
    keys: &Keys,
    call: &ScriptInvocation<'_>,
) -> RedisResult<T> {
    match call.invoke_async(connection).await {
        Err(error) if is_group_missing(&error) => {
            tracing::warn!(stream = keys.stream(), "the consumer group is missing in Redis; making it again");
            create_group(connection, keys).await?;
            call.invoke_async(connection).await
        }
        reply => reply,
    }
}

/// Creates the consumer group where there is none. It starts with the oldest entry, so that a lost group loses no job.
///
/// It is looked for first, since a Redis whose memory is full refuses to create one that is there already.
pub(super) async fn create_group(connection: &mut Connection, keys: &Keys) -> RedisResult<()> {
    match redis::cmd("XPENDING").arg(keys.stream()).arg(GROUP).query_async::<redis::Value>(connection).await {
        Err(error) if is_group_missing(&error) => {}
        found => return found.map(drop),
    }
    let mut command = redis::cmd("XGROUP");
    command.arg("CREATE").arg(keys.stream()).arg(GROUP).arg("0").arg("MKSTREAM");
    match command.query_async(connection).await {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        reply => reply,
    }
}

fn hex(digest: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(digest))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
