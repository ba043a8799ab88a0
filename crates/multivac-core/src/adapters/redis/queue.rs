//! The [`Queue`] in Redis streams. The steps themselves are the scripts in `lua/`; here is what happens around them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{self, FromRedisValue, RedisResult, Script, ScriptInvocation, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::RedisSettings;
use super::connection::{Connection, Pool, is_no_group, is_no_script};
use super::keys::{GROUP, Keys};
use crate::datum::{Datum, DatumId, Timestamp};
use crate::queue::{
    Acceptance, BATCH_LIMITS, DeadLetter, Durability, Failure, IDEMPOTENCY_KEY_LIFETIME, Job, JobState, Lease,
    LeaseToken, Ledger, Outcome, Partition, Queue, QueueAdmin, QueueError, QueueSettings, REPLAY_WINDOW, Submission,
};

/// One script takes no more jobs, and no more text, than this: Redis does nothing else meanwhile.
const SCRIPT_MAX_JOBS: usize = 1_000;
const ACCEPT_MAX_BYTES: usize = 8 << 20;
/// One call of [`Queue::lease`] brings no more text than this, and the rest of the one that crosses it.
const LEASE_MAX_BYTES: usize = 8 << 20;
/// How long a waiting consumer sleeps at most before it looks for leases that ran out.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long Redis may take to write a job to disk, and to send it to a replica that does. By itself it does so every
/// second (`appendfsync everysec`).
const DURABLE_WITHIN: Duration = Duration::from_secs(2);
/// How long a worker that has a job which did not become durable may take to store it before we give up.
const STORED_WITHIN: Duration = Duration::from_secs(2);
/// A consumer without leases that was silent for so long belongs to a process that is gone.
const CONSUMER_GONE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The fields of an entry.
type Fields = HashMap<String, Vec<u8>>;

/// Where an entry stands in the order of a stream: the two numbers of its name.
type Order = (u64, u64);

/// Jobs in Redis streams; see the [module](super) for how it keeps the port's promises.
pub struct RedisQueue {
    pool: Pool,
    settings: QueueSettings,
    partitions: Vec<Keys>,
    /// The partition that is asked first for the next lease, so that none starves.
    turn: AtomicUsize,
    /// Our name in the consumer group.
    consumer: String,
    scripts: Scripts,
}

struct Scripts {
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
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $file))))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
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
        }
    }
}

impl RedisQueue {
    /// Reads the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`QueueError::Misconfigured`]: a URL cannot be read, the namespace is empty or holds a brace, or there is no
    /// partition.
    pub fn new(redis: RedisSettings, queue: QueueSettings) -> Result<Self, QueueError> {
        let namespace = &redis.namespace;
        // Another pair of braces would take the partition's place in the choice of a slot.
        if namespace.is_empty() || namespace.contains(['{', '}']) {
            return Err(QueueError::Misconfigured(format!(
                "the namespace {namespace:?} cannot be used: expected some text without braces"
            )));
        }
        if redis.partitions == 0 {
            return Err(QueueError::Misconfigured("0 partitions cannot hold a job: expected 1 or more".to_owned()));
        }
        Ok(Self {
            pool: Pool::new(&redis.urls, redis.ca.as_deref())?,
            settings: queue,
            partitions: (0..redis.partitions).map(|p| Keys::new(namespace, p)).collect(),
            turn: AtomicUsize::new(0),
            consumer: Uuid::now_v7().to_string(),
            scripts: Scripts::new(),
        })
    }

    /// Runs a script; makes the group first where Redis has none.
    async fn run<T: FromRedisValue>(
        &self,
        what: &str,
        keys: &Keys,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        let work = async |connection: &mut Connection| match call.invoke_async(connection).await {
            Err(error) if is_no_group(&error) => {
                tracing::warn!(stream = keys.stream(), "the consumer group is missing in Redis; making it again");
                make_group(connection, keys).await?;
                call.invoke_async(connection).await
            }
            answer => answer,
        };
        self.pool.call(what, Duration::ZERO, work).await
    }

    /// Runs an accept script, and waits for what it wrote to be as durable as was asked. Returns its answers, and whether
    /// it was in time.
    async fn accept_durably(
        &self,
        keys: &Keys,
        call: &ScriptInvocation<'_>,
    ) -> Result<(Vec<String>, bool), QueueError> {
        let replicas = match self.settings.durability {
            Durability::Server => return Ok((self.run("accept jobs", keys, call).await?, true)),
            Durability::Fsync => 0,
            Durability::Replicated => 1,
        };
        // On the same connection, right behind the script: Redis waits for what this connection has written.
        let mut both = redis::pipe();
        both.invoke_script(call);
        both.cmd("WAITAOF").arg(1).arg(replicas).arg(millis(DURABLE_WITHIN));
        type Answer = (Vec<String>, (i64, i64));
        let work = async |connection: &mut Connection| {
            let mut answer = both.query_async::<Answer>(connection).await;
            if answer.as_ref().is_err_and(is_no_script) {
                call.load_async(connection).await?;
                answer = both.query_async(connection).await;
            }
            match answer {
                // The append-only file was switched off since the start. The jobs are accepted; this is what was answered.
                Err(error) if error.to_string().contains("WAITAOF") => {
                    Ok((call.invoke_async(connection).await?, (0, 0)))
                }
                answer => answer,
            }
        };
        let (answers, (local, at_replicas)) = self.pool.call("accept jobs durably", DURABLE_WITHIN, work).await?;
        Ok((answers, local >= 1 && at_replicas >= replicas))
    }

    /// What becomes of jobs that were accepted and did not become durable in time: those that nobody has are taken off
    /// again; those that a worker has, it may store in the next moment, and then the store vouches for them.
    async fn rollback(
        &self,
        keys: &Keys,
        call_of: &[usize],
        remembered: &str,
        jobs: &[(usize, &Submission)],
        results: &mut [Acceptance],
    ) -> Result<(), QueueError> {
        let position = |place: usize| call_of.iter().position(|at| *at == place).unwrap_or(0);
        let deadline = Instant::now() + STORED_WITHIN;
        let mut unclear = jobs.to_vec();
        loop {
            let mut call = self.scripts.rollback.prepare_invoke();
            call.key(keys.of_scripts()).key(remembered).arg(GROUP);
            let mut idempotency_keys = 0;
            for (place, submission) in &unclear {
                call.arg(submission.job.id.to_string()).arg(position(*place) + 1);
                if let Some(key) = &submission.idempotency_key {
                    idempotency_keys += 1;
                    call.key(keys.idempotency(key)).arg(idempotency_keys);
                } else {
                    call.arg(0);
                }
            }
            let answers: Vec<String> = match self.run("roll back jobs", keys, &call).await {
                // They are accepted by now, and may stay so.
                Err(QueueError::Unavailable { message, source }) => {
                    return Err(QueueError::OutcomeUnknown { message, source });
                }
                answers => answers?,
            };
            let mut left = Vec::new();
            for (job, answer) in unclear.into_iter().zip(answers) {
                results[job.0] = match answer.as_str() {
                    "-" => Acceptance::NotDurable { rolled_back: true },
                    "+" => Acceptance::Stored,
                    // Another Redis than the one that accepted it. The same call again finds out, or accepts it anew.
                    "0" => {
                        let message = "Redis knows nothing of a job that it has just accepted".to_owned();
                        return Err(QueueError::OutcomeUnknown { message, source: None });
                    }
                    _ => {
                        left.push(job);
                        Acceptance::NotDurable { rolled_back: false }
                    }
                };
            }
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(());
            }
            unclear = left;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Refuses at start what this Redis cannot keep.
    async fn check_durability(&self, version: &str) -> Result<(), QueueError> {
        let asked = self.settings.durability;
        if asked == Durability::Server {
            return Ok(());
        }
        if !is_at_least(version, (7, 2)) {
            return Err(QueueError::Misconfigured(format!(
                "durability {} needs Redis 7.2 or newer (WAITAOF); this is {version}",
                asked.as_str()
            )));
        }
        if self.setting("appendonly").await.is_some_and(|values| values.iter().any(|on| on != "yes")) {
            return Err(QueueError::Misconfigured(format!(
                "durability {} needs an append-only file: set appendonly to yes in Redis",
                asked.as_str()
            )));
        }
        Ok(())
    }

    /// A setting of Redis, of each node one; `None` where it does not show it.
    async fn setting(&self, name: &str) -> Option<Vec<String>> {
        let ask = async |connection: &mut Connection| {
            redis::cmd("CONFIG").arg("GET").arg(name).query_async::<Value>(connection).await
        };
        let answer = self.pool.call("show its settings", Duration::ZERO, ask).await.ok()?;
        let words = texts(&answer);
        let values: Vec<String> = words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect();
        (!values.is_empty()).then_some(values)
    }

    fn keys(&self, partition: u16) -> Result<&Keys, QueueError> {
        self.partitions.get(usize::from(partition)).ok_or_else(|| {
            QueueError::Misconfigured(format!(
                "a lease of partition {partition} comes from a queue with more partitions"
            ))
        })
    }

    /// The partition that a number which is spread evenly falls to.
    fn partition_of(&self, spread: u64) -> usize {
        // The remainder is less than the number of partitions, which came as a u16.
        usize::try_from(spread % self.partitions.len() as u64).unwrap_or(0)
    }

    /// Wakes a consumer for a partition on whose wakeup key nobody waits: in a Cluster, nobody can block on two slots at once,
    /// so all of them wait on that of partition 0. (Should we die before it is set, they look by themselves within a second.)
    async fn pass_on_wakeup(&self, partition: usize) -> Result<(), QueueError> {
        if partition == 0 || matches!(self.pool, Pool::Single(_)) {
            return Ok(());
        }
        let keys = &self.partitions[0];
        self.run("wake a consumer", keys, self.scripts.wakeup.prepare_invoke().key(keys.of_scripts())).await
    }

    /// Waits for a wakeup, but no longer than until it is time to look for leases that ran out.
    async fn wait_for_wakeup(&self, wait: Duration) -> Result<(), QueueError> {
        // A short lease (in tests) is looked for more often. Redis takes a time of zero for "for ever".
        let time = wait.min(LOOK_EVERY).min(self.settings.lease / 4).max(Duration::from_millis(1));
        let mut command = redis::cmd("BLPOP");
        match self.pool {
            Pool::Single(_) => self.partitions.iter().for_each(|keys| {
                command.arg(keys.wakeup());
            }),
            Pool::Cluster(_) => {
                command.arg(self.partitions[0].wakeup());
            }
        }
        command.arg(time.as_secs_f64());
        let work = async |connection: &mut Connection| command.query_async::<Value>(connection).await;
        self.pool.call("wait for jobs", time, work).await.map(drop)
    }

    /// Leases what there is now.
    async fn lease_now(&self, max: usize) -> Result<Vec<Lease>, QueueError> {
        let count = self.partitions.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut leases: Vec<Lease> = Vec::new();
        let (mut room, mut bytes) = (max, 0);
        for i in 0..count {
            if room == 0 || bytes >= LEASE_MAX_BYTES {
                break;
            }
            let partition = first.wrapping_add(i) % count;
            let keys = &self.partitions[partition];
            let mut call = self.scripts.lease.prepare_invoke();
            call.key(keys.of_scripts())
                .arg(GROUP)
                .arg(&self.consumer)
                .arg(room)
                .arg(LEASE_MAX_BYTES - bytes)
                .arg(millis(self.settings.lease))
                .arg(self.settings.max_attempts)
                .arg(leases.len());
            for limit in BATCH_LIMITS {
                call.arg(limit);
            }
            let answer = self.run::<(bool, usize, Vec<(String, u32, Fields)>)>("lease jobs", keys, &call).await;
            let (more, entries);
            (more, room, entries) = match answer {
                Ok(answer) => answer,
                // Those leased from other partitions come first; the next call meets the error again.
                Err(_) if !leases.is_empty() => break,
                Err(error) => return Err(error),
            };
            for (entry, delivery, mut fields) in entries {
                let Some((job, attempts)) = read_job(&entry, &mut fields) else { continue };
                bytes += job.datum.as_str().len();
                let (attempt, most) = (attempts + delivery, self.settings.max_attempts);
                let token = token(partition, &entry, delivery);
                leases.push(Lease { job, attempt: attempt.min(most), exhausted: attempt > most, token });
            }
            if more && let Err(error) = self.pass_on_wakeup(partition).await {
                tracing::debug!(%error, "no other consumer was woken; they look by themselves soon");
            }
        }
        Ok(leases)
    }

    /// What each partition counts.
    async fn counts(&self) -> Result<Vec<[i64; 6]>, QueueError> {
        let mut counts = Vec::with_capacity(self.partitions.len());
        for keys in &self.partitions {
            let mut call = self.scripts.ledger.prepare_invoke();
            counts.push(self.run("read the ledger", keys, call.key(keys.of_scripts()).arg(GROUP)).await?);
        }
        Ok(counts)
    }

    /// The place of a dead letter in their order, and its partition.
    async fn letter_of(&self, id: DatumId) -> Result<Option<(Order, usize)>, QueueError> {
        for (partition, keys) in self.partitions.iter().enumerate() {
            let ask = async |connection: &mut Connection| {
                redis::cmd("HGET").arg(keys.jobs()).arg(id.to_string()).query_async::<Option<String>>(connection).await
            };
            let note = self.pool.call("find a dead letter", Duration::ZERO, ask).await?;
            if let Some(entry) = note.as_deref().and_then(|note| note.strip_prefix('d')) {
                return Ok(Some((order_of(entry)?, partition)));
            }
        }
        Ok(None)
    }

    /// Looks for settings under which Redis could lose what it holds.
    async fn durability_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.setting("maxmemory-policy").await {
            None => warnings.push(
                "Redis does not show its maxmemory-policy: make sure that it is noeviction, or accepted data can be lost"
                    .to_owned(),
            ),
            Some(policies) => warnings.extend(policies.iter().find(|policy| *policy != "noeviction").map(|policy| {
                format!(
                    "Redis deletes keys when its memory is full (maxmemory-policy {policy}), and accepted data with them: \
                     set maxmemory-policy to noeviction"
                )
            })),
        }
        match self.setting("appendonly").await {
            None => warnings.push(
                "Redis does not show whether it writes an append-only file: make sure that appendonly is yes, or accepted \
                 data can be lost when it restarts"
                    .to_owned(),
            ),
            Some(values) if values.iter().any(|on| on != "yes") => warnings.push(
                "Redis writes no append-only file, so accepted data are lost when it restarts: set appendonly to yes"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        warnings
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        let Some(first) = submissions.first() else { return Ok(Vec::new()) };
        // The batch stays together, in an order; but a key must meet itself again, and so must the same call made twice.
        // Hence no round-robin: a batch goes where its first id falls.
        let home = self.partition_of(spread(first.job.id));
        let mut by_partition = vec![Vec::new(); self.partitions.len()];
        for (i, submission) in submissions.iter().enumerate() {
            let partition = match submission.idempotency_key {
                Some(key) => self.partition_of(u128::from_be_bytes(key.0) as u64),
                None => home,
            };
            by_partition[partition].push(i);
        }
        let share = |limit: u64| limit.div_ceil(self.partitions.len() as u64);
        let mut results = vec![Acceptance::Full; submissions.len()];
        for (partition, places) in by_partition.iter().enumerate() {
            let keys = &self.partitions[partition];
            for places in chunks(places, |&i| submissions[i].job.datum.as_str().len()) {
                let remembered = keys.accepted(submissions[places[0]].job.id);
                let mut call = self.scripts.accept.prepare_invoke();
                call.key(keys.of_scripts())
                    .key(&remembered)
                    .arg(share(self.settings.max_queued))
                    .arg(share(self.settings.max_queued_bytes))
                    .arg(IDEMPOTENCY_KEY_LIFETIME.as_secs())
                    .arg(REPLAY_WINDOW.as_secs());
                let mut idempotency_keys = 0;
                for &i in places {
                    let Submission { job, idempotency_key } = &submissions[i];
                    call.arg(job.id.to_string())
                        .arg(job.received_at.as_millis())
                        .arg(job.datum.as_str())
                        .arg(job.trace.as_deref().unwrap_or_default());
                    if let Some(key) = idempotency_key {
                        idempotency_keys += 1;
                        call.key(keys.idempotency(key)).arg(idempotency_keys);
                    } else {
                        call.arg(0);
                    }
                }
                let (answers, durable) = match self.accept_durably(keys, &call).await {
                    // Of this part nothing, but of one before it.
                    Err(QueueError::Unavailable { message, source })
                        if results.iter().any(Acceptance::may_be_there) =>
                    {
                        return Err(QueueError::OutcomeUnknown { message, source });
                    }
                    answers => answers?,
                };
                let mut too_weak = Vec::new();
                for (&i, answer) in places.iter().zip(answers) {
                    results[i] = match answer.as_str() {
                        "-" => Acceptance::Full,
                        "+" if durable => Acceptance::Accepted,
                        "+" => {
                            too_weak.push((i, &submissions[i]));
                            Acceptance::NotDurable { rolled_back: false }
                        }
                        _ if !durable => Acceptance::NotDurable { rolled_back: false },
                        id => {
                            Acceptance::AcceptedBefore(id.parse().map_err(|_| unreadable("an idempotency key's id"))?)
                        }
                    };
                }
                if !too_weak.is_empty() {
                    self.rollback(keys, places, &remembered, &too_weak, &mut results).await?;
                }
                if let Err(error) = self.pass_on_wakeup(partition).await {
                    tracing::debug!(%error, "no consumer was woken; they look by themselves soon");
                }
            }
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
        // A partition that is out of reach does not hold up the others; here and below.
        let mut all = Ok(());
        for (partition, leases) in by_partition(leases, |lease| lease) {
            let keys = self.keys(partition)?;
            let mut call = self.scripts.extend.prepare_invoke();
            call.key(keys.of_scripts()).arg(GROUP).arg(&self.consumer);
            for lease in leases {
                let (entry, delivery) = read_token(&lease.token)?;
                call.arg(entry).arg(delivery);
            }
            all = all.and(self.run::<()>("extend leases", keys, &call).await);
        }
        all
    }

    async fn complete(&self, finished: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        let mut all = Ok(());
        for (partition, finished) in by_partition(finished, |(lease, _)| lease) {
            let keys = self.keys(partition)?;
            for finished in finished.chunks(SCRIPT_MAX_JOBS) {
                let mut call = self.scripts.complete.prepare_invoke();
                call.key(keys.of_scripts()).arg(GROUP);
                for (lease, outcome) in finished {
                    let (entry, _) = read_token(&lease.token)?;
                    call.arg(entry).arg(lease.job.id.to_string()).arg(match outcome {
                        Outcome::Learned => "learned",
                        Outcome::Retracted => "retracted",
                    });
                    call.arg(lease.job.datum.as_str().len());
                }
                all = all.and(self.run::<()>("complete jobs", keys, &call).await);
            }
        }
        all
    }

    async fn fail(&self, lease: &Lease, error: &str, retry_after: Duration) -> Result<Failure, QueueError> {
        let keys = self.keys(lease.token.partition)?;
        let (entry, delivery) = read_token(&lease.token)?;
        let mut call = self.scripts.fail.prepare_invoke();
        call.key(keys.of_scripts())
            .arg(GROUP)
            .arg(&self.consumer)
            .arg(entry)
            .arg(delivery)
            .arg(lease.job.id.to_string())
            .arg(lease.attempt)
            .arg(u8::from(lease.attempt >= self.settings.max_attempts))
            .arg(error)
            .arg(millis(self.settings.lease.saturating_sub(retry_after)))
            .arg(Timestamp::now().as_millis());
        let dead: bool = self.run("fail a job", keys, &call).await?;
        Ok(if dead { Failure::Dead } else { Failure::Retried })
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let mut all = Ok(());
        for (partition, leases) in by_partition(leases, |lease| lease) {
            let keys = self.keys(partition)?;
            let mut call = self.scripts.release.prepare_invoke();
            call.key(keys.of_scripts()).arg(GROUP).arg(&self.consumer);
            for lease in leases {
                let (entry, delivery) = read_token(&lease.token)?;
                call.arg(entry).arg(delivery).arg(lease.used());
            }
            all = all.and(self.run::<()>("release jobs", keys, &call).await);
            if let Err(error) = self.pass_on_wakeup(usize::from(partition)).await {
                tracing::debug!(%error, "no consumer was woken; they look by themselves soon");
            }
        }
        all
    }

    async fn job_state(&self, id: DatumId) -> Result<Option<JobState>, QueueError> {
        for keys in &self.partitions {
            let mut call = self.scripts.job_state.prepare_invoke();
            call.key(keys.of_scripts()).arg(GROUP).arg(id.to_string());
            let state: Option<String> = self.run("find a job", keys, &call).await?;
            match state.as_deref() {
                Some("queued") => return Ok(Some(JobState::Queued)),
                Some("processing") => return Ok(Some(JobState::Processing)),
                Some(_) => return Ok(Some(JobState::Dead)),
                None => {}
            }
        }
        Ok(None)
    }

    async fn retract(&self, id: DatumId, was_learned: bool) -> Result<(), QueueError> {
        // Partition 0 comes last: when no other knows the id, it counts a learned datum as retracted.
        for (partition, keys) in self.partitions.iter().enumerate().rev() {
            let mut call = self.scripts.retract.prepare_invoke();
            call.key(keys.of_scripts())
                .key(keys.retracted(id))
                .arg(id.to_string())
                .arg(u8::from(was_learned && partition == 0))
                .arg(IDEMPOTENCY_KEY_LIFETIME.as_secs());
            if self.run("retract a job", keys, &call).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(total(&self.counts().await?))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for keys in &self.partitions {
            let mut call = self.scripts.partition.prepare_invoke();
            let counts: [i64; 7] = self.run("count its jobs", keys, call.key(keys.of_scripts()).arg(GROUP)).await?;
            partitions.push(Partition {
                queued: count(counts[0]),
                processing: count(counts[1]),
                dead: count(counts[2]),
                size_bytes: count(counts[3]),
                oldest: (counts[4] >= 0).then(|| Timestamp::from_millis(counts[4])),
                drained: count(counts[5]),
                drained_bytes: count(counts[6]),
            });
        }
        Ok(partitions)
    }
}

#[async_trait]
impl QueueAdmin for RedisQueue {
    async fn prepare(&self) -> Result<Vec<String>, QueueError> {
        let ask =
            async |connection: &mut Connection| redis::cmd("INFO").arg("server").query_async::<Value>(connection).await;
        let info = self.pool.call("say its version", Duration::ZERO, ask).await?;
        for version in
            texts(&info).iter().flat_map(|text| text.lines()).filter_map(|l| l.strip_prefix("redis_version:"))
        {
            // Since 6.2 XPENDING knows how long entries were idle, and ranges may leave out their ends.
            if !is_at_least(version, (6, 2)) {
                return Err(QueueError::Misconfigured(format!("Redis {version} is too old: expected 6.2 or newer")));
            }
            self.check_durability(version).await?;
        }
        for keys in &self.partitions {
            let make = async |connection: &mut Connection| make_group(connection, keys).await;
            self.pool.call("make the consumer group", Duration::ZERO, make).await?;
            let mut tidy = self.scripts.remove_idle_consumers.prepare_invoke();
            tidy.key(keys.of_scripts()).arg(GROUP).arg(millis(CONSUMER_GONE_AFTER));
            self.run::<()>("remove old consumers", keys, &tidy).await?;
        }
        Ok(self.durability_warnings().await)
    }

    async fn reconcile(&self, seen: &Ledger, learned: u64, retracted: u64) -> Result<bool, QueueError> {
        let counts = self.counts().await?;
        // Downwards nothing is reconciled: the store has lost data then, and the ledger shall show it.
        if total(&counts) != *seen || learned + retracted < seen.learned + seen.retracted {
            return Ok(false);
        }
        let keys = &self.partitions[0];
        let mut call = self.scripts.reconcile.prepare_invoke();
        call.key(keys.of_scripts())
            .arg(GROUP)
            .arg(difference(learned, seen.learned))
            .arg(difference(retracted, seen.retracted))
            .arg(&counts[0]);
        self.run("reconcile the ledger", keys, &call).await
    }

    async fn dead_letters(&self, after: Option<DatumId>, max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        // The order is that of their entries, which is that of their deaths, and then that of the partitions.
        let mut letters: Vec<(Order, usize, DeadLetter)> = Vec::new();
        // A letter that is gone by now (retried between two pages) has no place any more: the list begins anew.
        let start = match after {
            Some(id) => self.letter_of(id).await?,
            None => None,
        };
        for (partition, keys) in self.partitions.iter().enumerate() {
            let from = match start {
                // One of a later partition that died in the same millisecond comes after it all the same.
                Some(((ms, seq), of)) if partition > of => format!("{ms}-{seq}"),
                Some(((ms, seq), _)) => format!("({ms}-{seq}"),
                None => "-".to_owned(),
            };
            let read = async |connection: &mut Connection| {
                let mut range = redis::cmd("XRANGE");
                range.arg(keys.dead()).arg(from).arg("+").arg("COUNT").arg(max);
                range.query_async::<Vec<(String, Fields)>>(connection).await
            };
            for (entry, mut fields) in self.pool.call("list dead letters", Duration::ZERO, read).await? {
                if let Some(letter) = read_dead_letter(&entry, &mut fields) {
                    letters.push((order_of(&entry)?, partition, letter));
                }
            }
        }
        letters.sort_by_key(|(order, partition, _)| (*order, *partition));
        letters.truncate(max);
        Ok(letters.into_iter().map(|(_, _, letter)| letter).collect())
    }

    async fn dead_letter(&self, id: DatumId) -> Result<Option<DeadLetter>, QueueError> {
        let Some(((ms, seq), partition)) = self.letter_of(id).await? else { return Ok(None) };
        let (keys, entry) = (&self.partitions[partition], format!("{ms}-{seq}"));
        let read = async |connection: &mut Connection| {
            let mut range = redis::cmd("XRANGE");
            range.arg(keys.dead()).arg(&entry).arg(&entry);
            range.query_async::<Vec<(String, Fields)>>(connection).await
        };
        let found = self.pool.call("read a dead letter", Duration::ZERO, read).await?;
        Ok(found.into_iter().find_map(|(entry, mut fields)| read_dead_letter(&entry, &mut fields)))
    }

    async fn retry_dead(&self, id: DatumId) -> Result<bool, QueueError> {
        for (partition, keys) in self.partitions.iter().enumerate() {
            let mut call = self.scripts.retry_dead.prepare_invoke();
            call.key(keys.of_scripts()).arg(id.to_string());
            if self.run("retry a dead letter", keys, &call).await? {
                self.pass_on_wakeup(partition).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Makes the consumer group where there is none. It starts with the oldest entry, so that a lost group loses no job.
async fn make_group(connection: &mut Connection, keys: &Keys) -> RedisResult<()> {
    let mut command = redis::cmd("XGROUP");
    command.arg("CREATE").arg(keys.stream()).arg(GROUP).arg("0").arg("MKSTREAM");
    match command.query_async(connection).await {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        answer => answer,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number out of an id that is spread evenly over the ids.
fn spread(id: DatumId) -> u64 {
    let bytes = match id {
        DatumId::Uuid(uuid) => *uuid.as_bytes(),
        DatumId::Original(bytes) => {
            let mut wide = [0; 16];
            wide[4..].copy_from_slice(&bytes);
            wide
        }
    };
    // The last bytes of both are random or counted up.
    u64::from(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]))
}

/// Cuts a batch into parts that one accept script may take: a part is full when the next would be too much for it.
fn chunks<T>(batch: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, item) in batch.iter().enumerate() {
        if i > start && (i - start == SCRIPT_MAX_JOBS || bytes + size(item) > ACCEPT_MAX_BYTES) {
            parts.push(&batch[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += size(item);
    }
    if start < batch.len() {
        parts.push(&batch[start..]);
    }
    parts
}

fn by_partition<T>(items: &[T], lease: impl Fn(&T) -> &Lease) -> BTreeMap<u16, Vec<&T>> {
    let mut sorted: BTreeMap<u16, Vec<&T>> = BTreeMap::new();
    for item in items {
        sorted.entry(lease(item).token.partition).or_default().push(item);
    }
    sorted
}

/// A lease is an entry and which delivery of it: the next one is another lease, even with the same consumer.
fn token(partition: usize, entry: &str, delivery: u32) -> LeaseToken {
    let partition = u16::try_from(partition).expect("partitions are counted by a u16");
    LeaseToken { partition, entry: format!("{entry}/{delivery}") }
}

fn read_token(token: &LeaseToken) -> Result<(&str, &str), QueueError> {
    token
        .entry
        .split_once('/')
        .ok_or_else(|| QueueError::Misconfigured(format!("{:?} is no lease of this queue", token.entry)))
}

/// The job of an entry, and how many attempts at it were used up before the entry was made. One that cannot be read is
/// logged and passed over, and comes again, until somebody deletes it.
fn read_job(entry: &str, fields: &mut Fields) -> Option<(Job, u32)> {
    let mut text = |name: &str| String::from_utf8(fields.remove(name)?).ok();
    let job = (|| {
        let job = Job {
            id: text("id")?.parse().ok()?,
            datum: Datum::accepted_before(&text("data")?),
            received_at: Timestamp::from_millis(text("at")?.parse().ok()?),
            trace: text("trace"),
        };
        Some((job, text("attempts")?.parse().ok()?))
    })();
    if job.is_none() {
        tracing::error!(entry, "an entry of the stream is no job; delete it by hand");
    }
    job
}

fn read_dead_letter(entry: &str, fields: &mut Fields) -> Option<DeadLetter> {
    let (job, attempts) = read_job(entry, fields)?;
    // The error is whatever the consumer said; only this text may be changed where it is no UTF-8.
    let error = String::from_utf8_lossy(&fields.remove("error")?).into_owned();
    let died_at = String::from_utf8(fields.remove("died_at")?).ok()?.parse().ok()?;
    Some(DeadLetter { job, attempts, error, died_at: Timestamp::from_millis(died_at) })
}

fn order_of(entry: &str) -> Result<Order, QueueError> {
    let order = entry.split_once('-').and_then(|(ms, seq)| Some((ms.parse().ok()?, seq.parse().ok()?)));
    order.ok_or_else(|| unreadable("the name of an entry"))
}

fn unreadable(what: &str) -> QueueError {
    QueueError::Misconfigured(format!("{what} in Redis cannot be read: do other programs use the same namespace?"))
}

/// Every text in an answer, however a Cluster wraps what its nodes said.
fn texts(answer: &Value) -> Vec<String> {
    match answer {
        Value::Array(values) | Value::Set(values) => values.iter().flat_map(texts).collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(name, value)| [texts(name), texts(value)].concat()).collect(),
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

/// The whole ledger. Each partition's part balances by itself, and no job moves between them, so their sum does.
fn total(counts: &[[i64; 6]]) -> Ledger {
    // A part may be negative (partition 0 counts what was learned in another as retracted), their sum is not.
    let sum = |i: usize| counts.iter().map(|part| part[i]).sum::<i64>();
    let count = |i: usize| u64::try_from(sum(i)).unwrap_or(0);
    // But for a Redis that is younger than the store: it may have been told of retractions alone, until it is reconciled.
    let accepted = u64::try_from(sum(0) - sum(3).min(0)).unwrap_or(0);
    Ledger { accepted, queued: count(1), processing: count(2), learned: count(3), retracted: count(4), dead: count(5) }
}

fn difference(to: u64, from: u64) -> i64 {
    i64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_6_2_are_too_old() {
        assert!(["6.2.0", "7.0.15", "10.1"].into_iter().all(|version| is_at_least(version, (6, 2))));
        assert!(!["6.0.16", "5.0.7", ""].into_iter().any(|version| is_at_least(version, (6, 2))));
    }

    #[test]
    fn a_batch_is_cut_by_jobs_and_by_bytes_and_nothing_is_left_out() {
        let small = vec![1; 2_500];
        assert_eq!(chunks(&small, |&size| size).into_iter().map(<[_]>::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let large = vec![3 << 20; 7];
        assert_eq!(chunks(&large, |&size| size).into_iter().map(<[_]>::len).collect::<Vec<_>>(), [2, 2, 2, 1]);
    }

    #[test]
    fn a_namespace_with_braces_and_no_partitions_are_refused() {
        for (namespace, partitions) in [("a{b}", 1), ("", 1), ("multivac", 0)] {
            let redis = RedisSettings {
                urls: vec!["redis://localhost".into()],
                ca: None,
                namespace: namespace.to_owned(),
                partitions,
            };
            let refused = RedisQueue::new(redis, QueueSettings::default());
            assert!(matches!(refused, Err(QueueError::Misconfigured(_))), "{namespace} {partitions}");
        }
    }
}
