//! What needs a Redis of the test's own: users, certificates, restarts, loss of data, and durability.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use multivac_core::adapters::redis::{RedisQueue, RedisSettings};
use multivac_core::datum::DatumId;
use multivac_core::queue::{
    Acceptance, Durability, IdempotencyKey, JobState, Ledger, Outcome, Queue, QueueAdmin, QueueError, QueueSettings,
    Submission,
};
use multivac_testkit::port::free_port;
use multivac_testkit::redis::{RedisServer, installed, newer};
use multivac_testkit::sample::{job, submission};
use multivac_testkit::tls::make_certificate;
use multivac_testkit::wait::{until, until_ok};
use multivac_testkit::{TEST_TIMEOUT, environment};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::{self, complete, ledger, long_lease};

/// How soon work must go on once Redis answers again.
const RESUME_TIMEOUT: Duration = Duration::from_secs(5);

/// Cases of the contract that between them use every script and every command; each under a namespace of its own.
pub(crate) async fn the_contract_holds(settings: impl Fn() -> RedisSettings) {
    macro_rules! cases {
        ($($case:ident,)*) => { $( queue::$case(Arc::new(Redis(settings()))).await; )* };
    }
    cases! {
        the_ledger_follows_a_random_walk,
        dead_letters_are_listed_in_pages_and_retried,
        pages_of_dead_letters_go_on_where_they_ended_though_the_last_is_gone,
        whoever_asks_for_jobs_is_listed_with_its_version,
        all_dead_letters_are_retried_once_each_though_they_die_again,
        an_idempotency_key_is_one_datum,
        an_idempotency_key_is_of_one_text_and_of_one_user,
        a_waiting_lease_wakes_when_a_job_is_accepted,
        a_queue_full_of_text_refuses_and_adds_nothing,
        reconciling_brings_the_ledger_up_to_the_store_and_never_down,
        a_retraction_enters_the_ledger_once_wherever_the_job_stands,
        a_lease_that_ran_out_passes_to_one_other_consumer,
    }
}

/// The error of a queue that cannot be prepared.
async fn refusal(settings: RedisSettings, queue: QueueSettings) -> QueueError {
    RedisQueue::new(settings, queue).unwrap().prepare().await.unwrap_err()
}

#[tokio::test]
async fn a_user_with_just_the_documented_permissions_is_enough() {
    const DOCUMENTED: &str = include_str!("../../../../docs/redis.md");
    let Some(binary) = installed() else { return };
    let server = RedisServer::start(&binary, &[]).await;
    let rights = DOCUMENTED.lines().skip_while(|line| !line.starts_with("ACL SETUSER")).take_while(|l| *l != "```");
    let rights = rights.collect::<Vec<_>>().join(" ").replace('\\', " ").replace("~multivac:*", "~multivac_test_*");
    let words: Vec<&str> = rights.split_whitespace().collect();
    assert!(words.len() > 20 && words[2] == "multivac", "{words:?}");
    let mut user = cmd(words[0]);
    user.arg(&words[1..]);
    server.ask::<()>(&user).await.unwrap();
    let as_user = |password| redis_settings(vec![format!("redis://multivac:{password}@127.0.0.1:{}", server.port)], 2);
    the_contract_holds(|| as_user("secret")).await;

    let refused = refusal(as_user("wrong-password"), long_lease()).await;
    assert!(
        matches!(refused, QueueError::Misconfigured(_)) && !refused.to_string().contains("wrong-password"),
        "{refused}"
    );
    server.ask::<()>(cmd("ACL").arg("SETUSER").arg("multivac").arg("-evalsha")).await.unwrap();
    let refused = refusal(as_user("secret"), long_lease()).await;
    assert!(refused.to_string().contains("lacks a permission"), "{refused}");
}

#[tokio::test]
async fn tls_is_used_and_a_certificate_of_another_authority_is_refused() {
    let Some(binary) = installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    make_certificate(directory.path(), "redis");
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let server = RedisServer::start(
        &binary,
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("redis.crt"),
            "--tls-key-file",
            &file("redis.key"),
            "--tls-ca-cert-file",
            &file("redis-ca.pem"),
            "--tls-auth-clients",
            "no",
        ],
    )
    .await;
    let ca = Some(std::fs::read(file("redis-ca.pem")).unwrap());
    let url = format!("rediss://127.0.0.1:{port}");
    the_contract_holds(|| RedisSettings { ca: ca.clone(), ..redis_settings(vec![url.clone()], 2) }).await;
    // Neither the system's authorities nor another authority of that name have signed the certificate.
    let other = tempfile::tempdir().unwrap();
    make_certificate(other.path(), "redis");
    let other = Some(std::fs::read(other.path().join("redis-ca.pem")).unwrap());
    for ca in [None, other] {
        let refused = refusal(RedisSettings { ca, ..redis_settings(vec![url.clone()], 1) }, long_lease()).await;
        assert!(refused.is_transient(), "{refused}");
    }
    drop(server);
}

/// Feeds and completes jobs until it is drained, whatever fails meanwhile, as the programs do.
pub(crate) struct Load {
    stop: CancellationToken,
    confirmed: Arc<Mutex<HashMap<DatumId, Instant>>>,
    seen: Arc<Mutex<Seen>>,
    feeding: Vec<JoinHandle<()>>,
    working: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    ids: HashSet<DatumId>,
    /// For each partition, when the latest of its completed jobs was accepted.
    latest: BTreeMap<u16, Instant>,
    errors: u32,
}

impl Load {
    /// Starts two tasks that feed and two that complete, each with a queue of its own.
    pub(crate) async fn start(redis: &RedisSettings, durability: Durability) -> Self {
        let lease = Duration::from_secs(2);
        let settings = QueueSettings { lease, max_attempts: 1_000, durability, ..QueueSettings::default() };
        let load = Self {
            stop: CancellationToken::new(),
            confirmed: Arc::default(),
            seen: Arc::default(),
            feeding: Vec::new(),
            working: Vec::new(),
        };
        let queue = || Arc::new(RedisQueue::new(redis.clone(), settings.clone()).unwrap());
        queue().prepare().await.unwrap();
        let (mut feeding, mut working) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            feeding.push(tokio::spawn(feed(
                queue(),
                load.stop.clone(),
                Arc::clone(&load.confirmed),
                Arc::clone(&load.seen),
            )));
            working.push(tokio::spawn(work(queue(), Arc::clone(&load.seen))));
        }
        Self { feeding, working, ..load }
    }

    pub(crate) fn errors(&self) -> u32 {
        self.seen.lock().unwrap().errors
    }

    /// Waits until jobs of each partition were fed and completed since then; how long it took.
    pub(crate) async fn flows_since(&self, since: Instant, partitions: u16) -> Duration {
        let flows = |seen: &Seen| (0..partitions).all(|p| seen.latest.get(&p).is_some_and(|at| *at > since));
        while !flows(&self.seen.lock().unwrap()) {
            assert!(since.elapsed() < TEST_TIMEOUT, "work does not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    /// Stops feeding and waits until all is completed: the ledger, the jobs that were leased, and when each lost job (accepted
    /// and never leased) was accepted.
    pub(crate) async fn drain(self, queue: &Arc<dyn QueueAdmin>) -> (Ledger, HashSet<DatumId>, Vec<Instant>) {
        self.stop.cancel();
        for task in self.feeding {
            task.await.unwrap();
        }
        let end = until_ok("all jobs are completed", async || match queue.ledger().await {
            Ok(end) if end.is_quiet() => Ok(end),
            unfinished => Err(unfinished),
        })
        .await;
        for task in self.working {
            task.abort();
        }
        assert!(end.balances(), "{end:?}");
        let seen = std::mem::take(&mut *self.seen.lock().unwrap()).ids;
        let confirmed = self.confirmed.lock().unwrap();
        let lost = confirmed.iter().filter(|(id, _)| !seen.contains(id)).map(|(_, at)| *at).collect();
        (end, seen, lost)
    }
}

async fn feed(
    queue: Arc<RedisQueue>,
    stop: CancellationToken,
    confirmed: Arc<Mutex<HashMap<DatumId, Instant>>>,
    seen: Arc<Mutex<Seen>>,
) {
    while !stop.is_cancelled() {
        let batch: Vec<Submission> = (0..5).map(|n| submission(&format!("number {n}"))).collect();
        match queue.accept(&batch).await {
            Ok(answers) => {
                let now = Instant::now();
                let accepted = batch
                    .iter()
                    .zip(answers)
                    .filter(|(_, answer)| matches!(answer, Acceptance::Accepted | Acceptance::Stored));
                confirmed.lock().unwrap().extend(accepted.map(|(submission, _)| (submission.job.id, now)));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Whether it was accepted is not known; a client would send it again.
            Err(_) => {
                seen.lock().unwrap().errors += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn work(queue: Arc<RedisQueue>, seen: Arc<Mutex<Seen>>) {
    let started = (Instant::now(), multivac_core::datum::Timestamp::now());
    loop {
        let leases = match queue.lease(100, Duration::from_millis(500)).await {
            Ok(leases) => leases,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        seen.lock().unwrap().ids.extend(leases.iter().map(|lease| lease.job.id));
        let finished: Vec<_> = leases.iter().map(|lease| (lease.clone(), Outcome::Learned)).collect();
        if queue.complete(&finished).await.is_ok() {
            let mut seen = seen.lock().unwrap();
            for lease in &leases {
                let accepted_at = started.0 + lease.job.received_at.since(started.1);
                let latest = seen.latest.entry(lease.token.partition).or_insert(accepted_at);
                *latest = accepted_at.max(*latest);
            }
        }
    }
}

pub(crate) fn assert_resumed_in_time(took: Duration, what: &str) {
    environment::report(&format!("work went on {} ms after {what}", took.as_millis()));
    assert!(took < RESUME_TIMEOUT, "it took {took:?} after {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_resumes_by_itself_after_redis_was_killed_and_nothing_is_lost() {
    let Some(binary) = installed() else { return };
    let mut server = RedisServer::start(&binary, &["--appendfsync", "always"]).await;
    let settings = redis_settings(vec![server.url()], 3);
    let load = Load::start(&settings, Durability::Server).await;
    load.flows_since(Instant::now(), 3).await;
    for _ in 0..2 {
        server.kill();
        let errors = load.errors();
        // It stays down until the load has noticed.
        while load.errors() < errors + 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.start_again().await;
        assert_resumed_in_time(load.flows_since(Instant::now(), 3).await, "a killed Redis was back");
    }
    let queue = Redis(settings).queue(long_lease()).await;
    let (end, seen, lost) = load.drain(&queue).await;
    assert!(lost.is_empty(), "{} of {} were lost", lost.len(), end.accepted);
    assert_eq!((end.accepted, end.learned), (seen.len() as u64, seen.len() as u64), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_resumes_by_itself_when_redis_lost_its_data_its_scripts_or_its_group() {
    let Some(binary) = installed() else { return };
    let server = RedisServer::start(&binary, &[]).await;
    let settings = redis_settings(vec![server.url()], 2);
    let load = Load::start(&settings, Durability::Server).await;
    load.flows_since(Instant::now(), 2).await;
    let stream = format!("{}:{{0}}:stream", settings.namespace);
    for (what, command) in [
        ("its group was gone", cmd("XGROUP").arg("DESTROY").arg(&stream).arg("workers")),
        ("its stream was gone", cmd("DEL").arg(&stream)),
        ("all was gone", &mut cmd("FLUSHALL")),
        ("all and the scripts were gone", cmd("FUNCTION").arg("FLUSH")),
    ] {
        if what.contains("scripts") {
            server.ask::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
            server.ask::<()>(&cmd("FLUSHALL")).await.unwrap();
        } else {
            server.ask::<()>(command).await.unwrap();
        }
        assert_resumed_in_time(load.flows_since(Instant::now(), 2).await, what);
    }
    let queue = Redis(settings).queue(long_lease()).await;
    load.drain(&queue).await;
}

#[tokio::test]
async fn settings_that_could_lose_data_are_named_until_they_are_changed() {
    let Some(binary) = installed() else { return };
    let server = RedisServer::start(&binary, &["--maxmemory-policy", "allkeys-lru"]).await;
    let queue = RedisQueue::new(redis_settings(vec![server.url()], 1), long_lease()).unwrap();
    let set = async |name: &str, value: &str| {
        server.ask::<()>(cmd("CONFIG").arg("SET").arg(name).arg(value)).await.unwrap();
    };
    set("appendonly", "no").await;
    let warnings = queue.prepare().await.unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("allkeys-lru") && warnings[1].contains("append-only"), "{warnings:?}");
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "yes").await;
    assert_eq!(queue.prepare().await.unwrap(), Vec::<String>::new());
}

pub(crate) fn durable(durability: Durability) -> QueueSettings {
    QueueSettings { durability, ..long_lease() }
}

#[tokio::test]
async fn durability_that_redis_cannot_keep_is_refused_at_start() {
    let (Some(old), Some(new)) = (installed(), newer()) else { return };
    let server = RedisServer::start(&old, &[]).await;
    let version: String = server.ask(cmd("INFO").arg("server")).await.unwrap();
    if version.contains("redis_version:7.0") || version.contains("redis_version:6") {
        let refused = refusal(redis_settings(vec![server.url()], 1), durable(Durability::Fsync)).await;
        assert!(refused.to_string().contains("needs Redis 7.2 or newer"), "{refused}");
        assert!(!refused.is_transient());
    }
    let server = RedisServer::start(&new, &["--appendonly", "no"]).await;
    let refused = refusal(redis_settings(vec![server.url()], 1), durable(Durability::Replicated)).await;
    assert!(refused.to_string().contains("set appendonly to yes"), "{refused}");
}

#[tokio::test]
async fn with_durability_fsync_a_job_is_on_the_disk_when_it_is_accepted() {
    let Some(new) = newer() else { return };
    let server = RedisServer::start(&new, &["--appendfsync", "always"]).await;
    let settings = || redis_settings(vec![server.url()], 2);
    the_contract_holds(settings).await;
    let queue = Redis(settings()).queue(durable(Durability::Fsync)).await;
    assert_eq!(queue.durability(), Durability::Fsync);
    let keyed = |n| Submission { job: job("to the disk"), idempotency_key: Some(IdempotencyKey::anyones([n; 16])) };
    let (first, second) = (keyed(1), keyed(2));
    for _ in 0..2 {
        assert_eq!(queue.accept(&[first.clone(), second.clone()]).await.unwrap(), [Acceptance::Accepted; 2]);
    }
    let again = queue.accept(&[keyed(1), keyed(2)]).await.unwrap();
    let before = [first, second].map(|submission| Acceptance::AcceptedBefore(submission.job.id));
    assert_eq!(again, before);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 2, queued: 2, ..Ledger::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_replica_has_written_is_not_accepted_unless_it_is_stored_by_then() {
    let Some(new) = newer() else { return };
    // A replica gets its first copy at once; by default Redis waits 5 s for more to come.
    let server = RedisServer::start(&new, &["--appendfsync", "always", "--repl-diskless-sync-delay", "0"]).await;
    let follow = ["--appendfsync", "always", "--replicaof", "127.0.0.1", &server.port.to_string()];
    let mut replica = RedisServer::start(&new, &follow).await;
    let queue = Redis(redis_settings(vec![server.url()], 1)).queue(durable(Durability::Replicated)).await;
    let keyed = || Submission { job: job("to two disks"), idempotency_key: Some(IdempotencyKey::anyones([7; 16])) };
    let accept =
        async |submission: &Submission| queue.accept(std::slice::from_ref(submission)).await.unwrap().remove(0);
    // The first may come while the replica still loads its copy.
    until("the replica writes", async || accept(&submission("first")).await == Acceptance::Accepted).await;
    let leases = queue::lease(&queue, 1).await;
    complete(&queue, &leases).await;
    replica.kill();

    // No replica and no worker has it: it is rolled back, and its key with it.
    let rolled_back = keyed();
    let before = ledger(&queue).await;
    assert_eq!(accept(&rolled_back).await, Acceptance::NotDurable { rolled_back: true });
    assert_eq!(ledger(&queue).await, before);
    assert_eq!(queue.job_state(rolled_back.job.id).await.unwrap(), None);
    assert_eq!(queue.partitions().await.unwrap()[0].size_bytes, 0);

    // Another call has got its id: it stays.
    let shared = || Submission { job: job("of two calls"), idempotency_key: Some(IdempotencyKey::anyones([8; 16])) };
    let (one, other) = (shared(), shared());
    let first = tokio::spawn({
        let (queue, one) = (Arc::clone(&queue), one.clone());
        async move { queue.accept(&[one]).await.unwrap().remove(0) }
    });
    until_found(&queue, one.job.id).await;
    assert_eq!(accept(&other).await, Acceptance::NotDurable { rolled_back: false });
    assert_eq!(first.await.unwrap(), Acceptance::NotDurable { rolled_back: false });
    assert_eq!(queue.job_state(one.job.id).await.unwrap(), Some(JobState::Queued));
    let leases = queue::lease(&queue, 1).await;
    complete(&queue, &leases).await;

    // A worker has it, and does not store it in time.
    let slow = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue::lease(&queue, 1).await }
    });
    let held = submission("held");
    assert_eq!(accept(&held).await, Acceptance::NotDurable { rolled_back: false });
    assert_eq!(queue.job_state(held.job.id).await.unwrap(), Some(JobState::Processing));
    complete(&queue, &slow.await.unwrap()).await;

    // A worker has stored it.
    let quick = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            let leases = queue::lease(&queue, 1).await;
            complete(&queue, &leases).await;
        }
    });
    assert_eq!(accept(&submission("stored")).await, Acceptance::Stored);
    quick.await.unwrap();

    // The replica is back, and the key stands for nothing.
    replica.start_again().await;
    until("the replica writes again", async || accept(&keyed()).await == Acceptance::Accepted).await;
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, queued: 1, learned: 4, ..Ledger::default() });

    // Redis loses it meanwhile, as one that takes over may: that it is not there does not mean that it is finished.
    replica.kill();
    let forgotten = submission("forgotten");
    let accepting = tokio::spawn({
        let (queue, forgotten) = (Arc::clone(&queue), forgotten.clone());
        async move { queue.accept(&[forgotten]).await }
    });
    until_found(&queue, forgotten.job.id).await;
    server.ask::<()>(&cmd("FLUSHALL")).await.unwrap();
    let unknown = accepting.await.unwrap();
    assert!(matches!(unknown, Err(QueueError::OutcomeUnknown { .. })), "{unknown:?}");
}

async fn until_found(queue: &Arc<dyn QueueAdmin>, id: DatumId) {
    until("the job is there", async || queue.job_state(id).await.unwrap().is_some()).await;
}
