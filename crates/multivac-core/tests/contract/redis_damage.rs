//! What becomes of the ledger when somebody deletes Redis's keys, puts others in their place, or the power is cut in the middle
//! of a write.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, FromRedisValue, cmd};
use multivac_core::datum::DatumId;
use multivac_core::queue::{
    Acceptance, Failure, IdempotencyKey, JobState, Lease, Ledger, Outcome, QueueAdmin, QueueError, QueueSettings,
    Submission,
};
use multivac_testkit::redis::{RedisServer, installed, newer};
use multivac_testkit::sample::{job, submission, submission_of};
use multivac_testkit::wait::until_ok;
use secrecy::ExposeSecret;

use crate::backends::{self, Backend, Redis, redis_settings};
use crate::queue::{accept, complete, lease, ledger, long_lease};

/// Redis past the adapter, under the namespace of a test.
struct Raw {
    connection: MultiplexedConnection,
    namespace: String,
}

impl Raw {
    async fn of(redis: &Redis) -> Self {
        let client = Client::open(redis.0.urls[0].expose_secret()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self { connection, namespace: redis.0.namespace.clone() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{{0}}:{name}", self.namespace)
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> T {
        command.query_async(&mut self.connection).await.unwrap()
    }

    /// Every key of the namespace, with all that is in it.
    async fn dump(&mut self) -> BTreeMap<String, Vec<u8>> {
        let keys: Vec<String> = self.ask(cmd("KEYS").arg(format!("{}:*", self.namespace))).await;
        let mut dump = BTreeMap::new();
        for key in keys {
            let value = self.ask(cmd("DUMP").arg(&key)).await;
            dump.insert(key, value);
        }
        dump
    }
}

/// Jobs in every state.
struct Scene {
    learned: DatumId,
    dead: DatumId,
    processing: Lease,
    retracted: DatumId,
    queued: DatumId,
}

impl Scene {
    const LEDGER: Ledger = Ledger { accepted: 5, queued: 2, processing: 1, learned: 1, retracted: 0, dead: 1 };

    async fn set(queue: &Arc<dyn QueueAdmin>) -> Self {
        let learned = accept(queue, "learned").await.id;
        complete(queue, &lease(queue, 1).await).await;
        let dead = accept(queue, "dead").await.id;
        let failed = lease(queue, 1).await.remove(0);
        assert_eq!(queue.fail(&failed, "bad", Duration::ZERO).await.unwrap(), Failure::Dead);
        accept(queue, "processing").await;
        let processing = lease(queue, 1).await.remove(0);
        let retracted = accept(queue, "retracted").await.id;
        queue.retract(retracted, false).await.unwrap();
        let queued = accept(queue, "queued").await.id;
        assert_eq!(ledger(queue).await, Self::LEDGER);
        Self { learned, dead, processing, retracted, queued }
    }
}

fn one_attempt() -> QueueSettings {
    QueueSettings { max_attempts: 1, ..long_lease() }
}

#[tokio::test]
async fn what_is_deleted_by_hand_leaves_the_ledger_and_its_ids_are_unknown() {
    let of_the_stream = Ledger { accepted: 3, learned: 1, retracted: 1, dead: 1, ..Ledger::default() };
    let cases: [(&'static [&'static str], Ledger); 5] = [
        (&["DEL", "stream"], of_the_stream),
        (&["XTRIM", "stream", "MAXLEN", "0"], of_the_stream),
        (&["DEL", "dead"], Ledger { accepted: 4, dead: 0, ..Scene::LEDGER }),
        (&["DEL", "jobs"], Scene::LEDGER),
        (&["DEL", "ledger"], Ledger { accepted: 4, learned: 0, ..Scene::LEDGER }),
    ];
    for (damage, expected) in cases {
        let Some(redis) = backends::redis(1) else { return };
        let mut raw = Raw::of(&redis).await;
        backends::run(Some(redis), async move |backend| {
            let queue = backend.queue(one_attempt()).await;
            let scene = Scene::set(&queue).await;
            let mut command = cmd(damage[0]);
            command.arg(raw.key(damage[1])).arg(&damage[2..]);
            raw.ask::<()>(&command).await;
            if damage[1] == "stream" {
                // At once, before anything was repaired.
                let now = ledger(&queue).await;
                assert_eq!((now.accepted, now.queued, now.processing), (2, 0, 0), "{damage:?}");
                for id in [scene.queued, scene.processing.job.id] {
                    assert_eq!(queue.job_state(id).await.unwrap(), None, "{damage:?}");
                }
            }
            for _ in 0..2 {
                queue.prepare().await.unwrap();
                assert_eq!(ledger(&queue).await, expected, "{damage:?}");
            }
            let there = expected.queued > 0;
            assert_eq!(queue.job_state(scene.queued).await.unwrap(), there.then_some(JobState::Queued));
            let processing = queue.job_state(scene.processing.job.id).await.unwrap();
            assert_eq!(processing, there.then_some(JobState::Processing));
            let dead = (expected.dead > 0).then_some(JobState::Dead);
            assert_eq!(queue.job_state(scene.dead).await.unwrap(), dead, "{damage:?}");
            assert_eq!(queue.job_state(scene.learned).await.unwrap(), None);

            // Work goes on: with what is left, and with what is new.
            assert_eq!(queue.retry_dead(scene.dead).await.unwrap(), dead.is_some(), "{damage:?}");
            accept(&queue, "after it").await;
            let left = usize::from(there) * 2 + usize::from(dead.is_some()) + 1;
            let mut leases = lease(&queue, left).await;
            leases.push(scene.processing);
            let outcome = |lease: &Lease| {
                if lease.job.id == scene.retracted { Outcome::Retracted } else { Outcome::Learned }
            };
            let finished: Vec<_> = leases.iter().map(|lease| (lease.clone(), outcome(lease))).collect();
            queue.complete(&finished).await.unwrap();
            let end = ledger(&queue).await;
            assert_eq!(
                (end.accepted, end.learned + end.retracted),
                (expected.accepted + 1, end.accepted),
                "{damage:?}"
            );
            queue.prepare().await.unwrap();
            assert_eq!(ledger(&queue).await, end, "{damage:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_of_many_jobs_that_is_deleted_is_told_apart_from_what_is_accepted_since() {
    let Some(redis) = backends::redis(3) else { return };
    let mut raw = Raw::of(&redis).await;
    backends::run(Some(redis), async move |backend| {
        let queue = backend.queue(one_attempt()).await;
        let batch = || (0..700).map(|n| submission(&format!("number {n}"))).collect::<Vec<_>>();
        for _ in 0..3 {
            queue.accept(&batch()).await.unwrap();
        }
        for partition in 0..3 {
            let stream = format!("{}:{{{partition}}}:stream", raw.namespace);
            raw.ask::<()>(cmd("DEL").arg(stream)).await;
        }
        queue.accept(&batch()).await.unwrap();
        let expected = Ledger { accepted: 700, queued: 700, ..Ledger::default() };
        assert_eq!(ledger(&queue).await, expected);
        queue.prepare().await.unwrap();
        assert_eq!(ledger(&queue).await, expected);
        complete(&queue, &lease(&queue, 700).await).await;
        assert_eq!(ledger(&queue).await, Ledger { accepted: 700, learned: 700, ..Ledger::default() });
    })
    .await;
}

/// Every call that runs a script.
const CALLS: [&str; 15] = [
    "accept",
    "lease",
    "extend",
    "complete",
    "fail",
    "release",
    "job_state",
    "retract a job",
    "retract a dead letter",
    "retract a datum",
    "ledger",
    "partitions",
    "reconcile",
    "retry_dead",
    "prepare",
];

async fn call(name: &str, queue: &Arc<dyn QueueAdmin>, scene: &Scene, fed: &Submission) -> Result<(), QueueError> {
    let held = std::slice::from_ref(&scene.processing);
    match name {
        "accept" => queue.accept(std::slice::from_ref(fed)).await.map(drop),
        "lease" => queue.lease(10, Duration::ZERO).await.map(drop),
        "extend" => queue.extend(held).await,
        "complete" => queue.complete(&[(scene.processing.clone(), Outcome::Learned)]).await,
        "fail" => queue.fail(&scene.processing, "bad", Duration::ZERO).await.map(drop),
        "release" => queue.release(held).await,
        "job_state" => queue.job_state(scene.queued).await.map(drop),
        "retract a job" => queue.retract(scene.queued, false).await,
        "retract a dead letter" => queue.retract(scene.dead, false).await,
        "retract a datum" => queue.retract(scene.learned, true).await,
        "ledger" => queue.ledger().await.map(drop),
        "partitions" => queue.partitions().await.map(drop),
        "reconcile" => queue.reconcile(&Scene::LEDGER, 9, 9).await.map(drop),
        "retry_dead" => queue.retry_dead(scene.dead).await.map(drop),
        "prepare" => queue.prepare().await.map(drop),
        _ => panic!("{name} is no call"),
    }
}

/// Whether a call fails, names the key that is in its way, and changes nothing.
async fn fails_and_changes_nothing(
    raw: &mut Raw,
    name: &str,
    key: &str,
    (queue, scene, fed): (&Arc<dyn QueueAdmin>, &Scene, &Submission),
) {
    let before = raw.dump().await;
    let failed = call(name, queue, scene, fed).await;
    let names_it = |error: &QueueError| matches!(error, QueueError::Misconfigured(what) if what.contains(key));
    assert!(failed.as_ref().is_err_and(names_it), "{name} with {key} in the way: {failed:?}");
    assert!(before == raw.dump().await, "{name} changed something, with {key} in the way");
}

#[tokio::test]
async fn a_key_of_another_type_fails_every_call_that_needs_it_and_changes_nothing() {
    let Some(redis) = backends::redis(1) else { return };
    let mut raw = Raw::of(&redis).await;
    backends::run(Some(redis), async move |backend| {
        let queue = backend.queue(one_attempt()).await;
        let scene = Scene::set(&queue).await;
        let fed = Submission { job: job("in the way"), idempotency_key: Some(IdempotencyKey::anyones([1; 16])) };
        let used = (&queue, &scene, &fed);
        // A set is none of the types that are used.
        for name in ["stream", "jobs", "ledger", "dead", "wakeup"] {
            let (key, saved) = (raw.key(name), raw.key("saved"));
            let was_there = raw.ask::<bool>(cmd("EXISTS").arg(&key)).await;
            if was_there {
                raw.ask::<()>(cmd("RENAME").arg(&key).arg(&saved)).await;
            }
            raw.ask::<()>(cmd("SADD").arg(&key).arg("foreign")).await;
            for call in CALLS {
                fails_and_changes_nothing(&mut raw, call, &key, used).await;
            }
            raw.ask::<()>(cmd("DEL").arg(&key)).await;
            if was_there {
                raw.ask::<()>(cmd("RENAME").arg(&saved).arg(&key)).await;
            }
        }
        for (call, name) in [
            ("accept", format!("accepted:{}", fed.job.id)),
            ("accept", format!("idem:{}", "01".repeat(16))),
            ("retract a job", format!("retracted:{}", scene.queued)),
            ("retract a dead letter", format!("retracted:{}", scene.dead)),
            ("retract a datum", format!("retracted:{}", scene.learned)),
        ] {
            let key = raw.key(&name);
            raw.ask::<()>(cmd("SADD").arg(&key).arg("foreign")).await;
            fails_and_changes_nothing(&mut raw, call, &key, used).await;
            raw.ask::<()>(cmd("DEL").arg(&key)).await;
        }
        // So is a count that is no number.
        let key = raw.key("ledger");
        for (count, right) in [("learned", 1), ("accepted", 5)] {
            raw.ask::<()>(cmd("HSET").arg(&key).arg(count).arg("1.5")).await;
            for call in CALLS {
                fails_and_changes_nothing(&mut raw, call, &key, used).await;
            }
            raw.ask::<()>(cmd("HSET").arg(&key).arg(count).arg(right)).await;
        }
        // Nothing is left in the way.
        assert_eq!(ledger(&queue).await, Scene::LEDGER);
        for name in CALLS {
            call(name, &queue, &scene, &fed).await.unwrap();
        }
        queue.prepare().await.unwrap();
        assert!(ledger(&queue).await.balances());
    })
    .await;
}

#[tokio::test]
async fn jobs_that_the_group_has_passed_are_leased_all_the_same() {
    let Some(redis) = backends::redis(1) else { return };
    let mut raw = Raw::of(&redis).await;
    backends::run(Some(redis), async move |backend| {
        let (queue, other) = (backend.queue(long_lease()).await, backend.queue(long_lease()).await);
        let jobs: Vec<_> = (0..40).map(|n| job(&format!("number {n}"))).collect();
        queue.accept(&jobs.iter().map(submission_of).collect::<Vec<_>>()).await.unwrap();
        let held = lease(&other, 7).await;
        raw.ask::<()>(cmd("XGROUP").arg("SETID").arg(raw.key("stream")).arg("workers").arg("$")).await;
        let new = accept(&queue, "after it").await;
        let mut leases = queue.lease(3, Duration::ZERO).await.unwrap();
        assert_eq!(leases.len(), 3);
        leases.extend(lease(&queue, 31).await);
        let came: BTreeSet<DatumId> = leases.iter().map(|lease| lease.job.id).collect();
        let expected: BTreeSet<DatumId> = jobs[7..].iter().map(|job| job.id).chain([new.id]).collect();
        assert_eq!(came, expected);
        assert_eq!((leases.len(), leases.iter().all(|lease| lease.attempt == 1)), (34, true));
        assert!(queue.lease(10, Duration::ZERO).await.unwrap().is_empty(), "one of them came twice");
        complete(&queue, &leases).await;
        complete(&other, &held).await;
        assert_eq!(ledger(&queue).await, Ledger { accepted: 41, learned: 41, ..Ledger::default() });
    })
    .await;
}

#[tokio::test]
async fn bytes_of_which_too_few_were_counted_are_never_fewer_than_none() {
    let Some(redis) = backends::redis(1) else { return };
    let mut raw = Raw::of(&redis).await;
    backends::run(Some(redis), async move |backend| {
        let queue = backend.queue(long_lease()).await;
        for text in ["is on the stream twice", "goes on being there"] {
            accept(&queue, text).await;
        }
        raw.ask::<()>(cmd("HSET").arg(raw.key("ledger")).arg("bytes").arg(3)).await;
        complete(&queue, &lease(&queue, 1).await).await;
        let held = async || queue.partitions().await.unwrap()[0].size_bytes;
        assert_eq!(held().await, 0);
        accept(&queue, "four").await;
        assert_eq!(held().await, 4, "all that comes after it counts");
    })
    .await;
}

/// The files of an append-only file.
fn read_files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(directory.join("appendonlydir")).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// What a worker has stored, and what a client got a 200 for.
#[derive(Default, Clone)]
struct Outside {
    stored: HashSet<DatumId>,
    told: HashSet<DatumId>,
}

impl Outside {
    /// Learns all that there is, and brings the ledger in line, as the programs do.
    async fn learn_all(&mut self, queue: &Arc<dyn QueueAdmin>) {
        queue.prepare().await.unwrap();
        for letter in queue.dead_letters(None, 100).await.unwrap() {
            queue.retry_dead(letter.id).await.unwrap();
        }
        let seen = until_ok("all is learned", async || {
            let leases = queue.lease(100, Duration::from_millis(20)).await.unwrap();
            self.stored.extend(leases.iter().map(|lease| lease.job.id));
            complete(queue, &leases).await;
            queue.prepare().await.unwrap();
            let ledger = queue.ledger().await.unwrap();
            if ledger.is_quiet() { Ok(ledger) } else { Err(ledger) }
        })
        .await;
        let stored = self.stored.len() as u64;
        assert!(seen.balances() && seen.dead == 0, "{seen:?}");
        assert!(seen.learned == stored || queue.reconcile(&seen, stored, 0).await.unwrap(), "{seen:?} of {stored}");
        let reconciled = ledger(queue).await;
        assert_eq!(reconciled, Ledger { accepted: stored, learned: stored, ..Ledger::default() });
        let lost: Vec<_> = self.told.difference(&self.stored).collect();
        assert!(lost.is_empty(), "{lost:?} got a 200 and are nowhere");
    }
}

/// Redis cuts a torn file off within a transaction, and executes the first half of it when it starts the next time.
async fn a_torn_append_only_file_loses_nothing_that_got_a_200(binary: PathBuf) {
    let mut server = RedisServer::start(&binary, &["--appendfsync", "always"]).await;
    let redis = Redis(redis_settings(vec![server.url()], 1));
    let queue = async |max_attempts| {
        redis.queue(QueueSettings { lease: Duration::from_millis(100), max_attempts, ..long_lease() }).await
    };
    let (last_attempt, many) = (queue(1).await, queue(1_000).await);
    let file = read_files(server.directory()).into_iter().find(|(path, _)| path.to_str().unwrap().contains("incr"));
    let file = file.unwrap().0;
    let mut outside = Outside::default();
    // What is true outside when the file is so long.
    let mut history: Vec<(u64, Outside)> = Vec::new();
    let mut note = |outside: &Outside| history.push((fs::metadata(&file).unwrap().len(), outside.clone()));
    note(&outside);
    for keyed in [false, true] {
        let key = |n| keyed.then_some(IdempotencyKey::anyones([n; 16]));
        let batch: Vec<_> = (0..4).map(|n| Submission { job: job("to be kept"), idempotency_key: key(n) }).collect();
        assert_eq!(many.accept(&batch).await.unwrap(), [Acceptance::Accepted; 4]);
        outside.told.extend(batch.iter().map(|submission| submission.job.id));
        note(&outside);
        let mut leases = lease(&last_attempt, 4).await;
        note(&outside);
        let failed = leases.pop().unwrap();
        last_attempt.fail(&failed, "bad", Duration::ZERO).await.unwrap();
        note(&outside);
        last_attempt.release(&leases[2..]).await.unwrap();
        note(&outside);
        outside.stored.extend(leases[..2].iter().map(|lease| lease.job.id));
        complete(&last_attempt, &leases[..2]).await;
        note(&outside);
        many.retry_dead(failed.job.id).await.unwrap();
        note(&outside);
    }
    server.kill();
    let whole = read_files(server.directory());

    let mut cuts = Vec::new();
    for step in history.windows(2) {
        let ((from, before), (to, after)) = (&step[0], &step[1]);
        // A worker stores first, so what it stored then is stored.
        let during = Outside { stored: after.stored.clone(), told: before.told.clone() };
        cuts.extend([1, 3, 5, 6, 7].map(|eighths| (from + (to - from) * eighths / 8, during.clone())));
    }
    for (cut, mut outside) in cuts {
        fs::remove_dir_all(server.directory().join("appendonlydir")).unwrap();
        fs::create_dir(server.directory().join("appendonlydir")).unwrap();
        for (path, content) in &whole {
            let end = if *path == file { usize::try_from(cut).unwrap() } else { content.len() };
            fs::write(path, &content[..end]).unwrap();
        }
        for _ in 0..2 {
            server.start_again().await;
            let queue = queue(1_000).await;
            outside.told.insert(accept(&queue, "since").await.id);
            outside.learn_all(&queue).await;
            server.kill();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_file_that_is_torn_anywhere_loses_nothing_that_got_a_200() {
    let (Some(old), Some(new)) = (installed(), newer()) else { return };
    tokio::join!(
        a_torn_append_only_file_loses_nothing_that_got_a_200(old),
        a_torn_append_only_file_loses_nothing_that_got_a_200(new)
    );
}
