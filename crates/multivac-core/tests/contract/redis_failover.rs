//! "Nothing was accepted" holds whatever becomes of Redis next: a replica takes over that has the jobs and not their rollback, or
//! a call is executed long after it was made.

use std::sync::Arc;

use deadpool_redis::redis::cmd;
use multivac_core::accept::{AcceptError, AcceptRequest, Acceptor};
use multivac_core::datum::Datum;
use multivac_core::queue::{
    Acceptance, Durability, IdempotencyKey, JobState, Ledger, QueueAdmin, QueueError, QueueSettings, Submission,
};
use multivac_core::runtime::supervise::Supervisor;
use multivac_testkit::proxy::{Mode, Proxy};
use multivac_testkit::redis::{RedisServer, newer};
use multivac_testkit::sample::submission;
use multivac_testkit::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::{ledger, long_lease};
use crate::redis::durable;

/// A master, and a replica that reaches it through a proxy.
struct Pair {
    master: RedisServer,
    replica: RedisServer,
    between: Proxy,
    redis: Redis,
}

impl Pair {
    /// With a replica that never says that it has written to a disk: it has no append-only file.
    async fn start() -> Option<Self> {
        let binary = newer()?;
        let master = RedisServer::start(&binary, &["--appendfsync", "always", "--repl-diskless-sync-delay", "0"]).await;
        let between = Proxy::start(format!("127.0.0.1:{}", master.port)).await;
        let port = between.address.port().to_string();
        let replica = RedisServer::start(&binary, &["--replicaof", "127.0.0.1", &port, "--appendonly", "no"]).await;
        let redis = Redis(redis_settings(vec![master.url()], 1));
        let pair = Self { master, replica, between, redis };
        until("the replica follows", async || info(&pair.replica).await.contains("master_link_status:up")).await;
        pair.until_connected(1).await;
        Some(pair)
    }

    async fn until_connected(&self, replicas: u32) {
        let line = format!("connected_slaves:{replicas}\r");
        until(&line, async || info(&self.master).await.contains(&line)).await;
    }

    fn stream(&self) -> String {
        format!("{}:{{0}}:stream", self.redis.0.namespace)
    }

    /// How many jobs the replica holds.
    async fn replicated(&self) -> u64 {
        self.replica.ask(cmd("XLEN").arg(self.stream())).await.unwrap()
    }

    /// The master is gone for good, and the replica takes its place.
    async fn fail_over(&mut self) -> Arc<dyn QueueAdmin> {
        self.master.kill();
        self.replica.ask::<()>(cmd("REPLICAOF").arg("NO").arg("ONE")).await.unwrap();
        let urls = vec![self.replica.url().into()];
        let settings = multivac_core::adapters::redis::RedisSettings { urls, ..self.redis.0.clone() };
        Redis(settings).queue(long_lease()).await
    }
}

async fn info(server: &RedisServer) -> String {
    server.ask(cmd("INFO").arg("replication")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_has_that_takes_over_is_not_said_to_be_rolled_back() {
    for durability in [Durability::Fsync, Durability::Replicated] {
        let Some(mut pair) = Pair::start().await else { return };
        let queue = pair.redis.queue(durable(durability)).await;
        if durability == Durability::Fsync {
            // Only then does a write not reach the disk in time.
            pair.master.ask::<()>(cmd("CONFIG").arg("SET").arg("appendonly").arg("no")).await.unwrap();
        }
        // As in bulk.
        let batch: Vec<_> = (0..20).map(|n| submission(&format!("number {n}"))).collect();
        let accepting = tokio::spawn({
            let (queue, batch) = (Arc::clone(&queue), batch.clone());
            async move { queue.accept(&batch).await.unwrap() }
        });
        until("the replica has them, or had", async || pair.replicated().await == 20 || accepting.is_finished()).await;
        let has_them = pair.replicated().await == 20;
        pair.between.set(Mode::Cut);
        let told = accepting.await.unwrap();
        assert_eq!(ledger(&queue).await.accepted, 0, "they are rolled back where they were accepted");
        let queue = pair.fail_over().await;
        let learned = ledger(&queue).await.accepted;
        assert!(!has_them || learned == 20, "the replica has {learned}");
        let said = Acceptance::NotDurable { rolled_back: learned == 0 };
        // Where the rollback came as well, it may be said or not.
        let truthful = |told: &Acceptance| *told == said || *told == Acceptance::NotDurable { rolled_back: false };
        assert!(told.iter().all(truthful), "the replica has {learned}, and it was said {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_believed_when_every_connected_replica_has_it_on_its_disk() {
    let Some(mut pair) = Pair::start().await else { return };
    let queue = pair.redis.queue(durable(Durability::Replicated)).await;
    let accept =
        async |submission: &Submission| queue.accept(std::slice::from_ref(submission)).await.unwrap().remove(0);
    let unsaid = Acceptance::NotDurable { rolled_back: false };
    // One that is connected has it, and cannot say that it has written it.
    assert_eq!(accept(&submission("in memory")).await, unsaid);
    // One that is suspended has it perhaps.
    pair.replica.service.pause();
    assert_eq!(accept(&submission("suspended")).await, unsaid);
    // Two are connected, and one of them says nothing.
    pair.replica.service.resume();
    assert_eq!(ledger(&queue).await, Ledger::default());
    // None is connected, and none was when it came.
    pair.replica.kill();
    pair.until_connected(0).await;
    assert_eq!(accept(&submission("nowhere else")).await, Acceptance::NotDurable { rolled_back: true });
    assert_eq!(ledger(&queue).await, Ledger::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_made_again_does_not_forget_which_replicas_were_there_the_first_time() {
    let Some(mut pair) = Pair::start().await else { return };
    let proxy = Proxy::start_dropping_replies(format!("127.0.0.1:{}", pair.master.port), "broken off", 1).await;
    let mut settings = pair.redis.0.clone();
    settings.urls = vec![format!("redis://{}", proxy.address).into()];
    let queue = Redis(settings).queue(durable(Durability::Replicated)).await;
    // Redis knows the scripts from here on, and we know its clock.
    assert_eq!(queue.accept(&[submission("first")]).await.unwrap(), [Acceptance::NotDurable { rolled_back: false }]);
    let batch = [submission("broken off"), submission("and another")];
    // The connection breaks when the script was executed, while its disk is waited for.
    let unknown = queue.accept(&batch).await;
    assert!(matches!(unknown, Err(QueueError::OutcomeUnknown { .. })), "{unknown:?}");
    until("the replica has them", async || pair.replicated().await == 2).await;
    pair.between.set(Mode::Cut);
    pair.until_connected(0).await;
    assert_eq!(queue.accept(&batch).await.unwrap(), [Acceptance::NotDurable { rolled_back: false }; 2]);
    assert_eq!(ledger(&queue).await.accepted, 0);
    // What was rolled back is not called refused by a full queue when the call comes a third time.
    assert_eq!(queue.accept(&batch).await.unwrap(), [Acceptance::NotDurable { rolled_back: false }; 2]);
    assert_eq!(ledger(&pair.fail_over().await).await.accepted, 2, "the replica has them, and they will be learned");
}

/// A proxy that holds requests back which hold a text, until it is told to send them on, whoever still waits for them.
struct HoldingProxy {
    url: String,
    held: watch::Receiver<u32>,
    open: watch::Sender<bool>,
}

impl HoldingProxy {
    /// In front of a server; all requests with `text` after the first `pass` are held.
    async fn start(server: &RedisServer, text: &'static str, pass: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (open, opened) = watch::channel(false);
        let (count, held) = watch::channel(0);
        let (count, port) = (Arc::new(count), server.port);
        tokio::spawn(async move {
            let seen = Arc::new(std::sync::atomic::AtomicU32::new(0));
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (count, seen, mut opened) = (Arc::clone(&count), Arc::clone(&seen), opened.clone());
                tokio::spawn(async move {
                    let mut request = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = from_client.read(&mut request).await {
                        let has_text = request[..n].windows(text.len()).any(|window| window == text.as_bytes());
                        if has_text && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= pass {
                            count.send_modify(|count| *count += 1);
                            let _ = opened.wait_for(|open| *open).await;
                        }
                        if to_server.write_all(&request[..n]).await.is_err() {
                            return;
                        }
                    }
                });
                tokio::spawn(async move {
                    // Until both ends are gone: what was held is executed though its client has left.
                    let mut reply = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = from_server.read(&mut reply).await {
                        let _ = to_client.write_all(&reply[..n]).await;
                    }
                });
            }
        });
        Self { url, held, open }
    }

    /// Waits until a request is held.
    async fn holds(&mut self) {
        self.held.wait_for(|held| *held > 0).await.unwrap();
    }

    /// Sends on what it holds, and waits until the server has executed it.
    async fn release(&self, server: &RedisServer) {
        let executed = async || -> u64 {
            let stats: String = server.ask(cmd("INFO").arg("commandstats")).await.unwrap();
            let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap_or("0,");
            line.split(',').next().unwrap().parse().unwrap()
        };
        let before = executed().await;
        self.open.send_replace(true);
        until("it is executed", async || executed().await > before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_executed_when_nobody_waits_for_it_accepts_nothing() {
    let Some(binary) = newer() else { return };
    let server = RedisServer::start(&binary, &["--appendfsync", "always"]).await;
    for durability in [Durability::Server, Durability::Fsync] {
        let mut proxy = HoldingProxy::start(&server, "held on the way", 0).await;
        let queue = Redis(redis_settings(vec![proxy.url.clone()], 1)).queue(durable(durability)).await;
        assert_eq!(queue.accept(&[submission("before")]).await.unwrap(), [Acceptance::Accepted]);
        let batch = [submission("held on the way"), submission("and another")];
        let unknown = queue.accept(&batch).await;
        assert!(matches!(unknown, Err(QueueError::OutcomeUnknown { .. })), "{unknown:?}");
        proxy.holds().await;
        proxy.release(&server).await;
        assert_eq!(ledger(&queue).await, Ledger { accepted: 1, queued: 1, ..Ledger::default() });
        assert_eq!(queue.job_state(batch[0].job.id).await.unwrap(), None);
        // The clock was known, and is not asked for again.
        assert_eq!(queue.accept(&batch).await.unwrap(), [Acceptance::Accepted; 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_executed_late_takes_no_job_off_that_was_reported_as_accepted_since() {
    let Some(binary) = newer() else { return };
    let server = RedisServer::start(&binary, &["--appendfsync", "always"]).await;
    let file = async |value: &str| {
        server.ask::<()>(cmd("CONFIG").arg("SET").arg("appendonly").arg(value)).await.unwrap();
        until("the file is written", async || {
            let info: String = server.ask(cmd("INFO").arg("persistence")).await.unwrap();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        })
        .await;
    };
    let fed = submission("to be kept");
    // Its rollback holds its id, as the accepting call does.
    let id: &'static str = fed.job.id.to_string().leak();
    let mut proxy = HoldingProxy::start(&server, id, 1).await;
    let queue = Redis(redis_settings(vec![proxy.url.clone()], 1)).queue(durable(Durability::Fsync)).await;
    assert_eq!(queue.accept(&[submission("before")]).await.unwrap(), [Acceptance::Accepted]);
    file("no").await;
    // Redis knows the script of the rollback from here on.
    let rolled_back = queue.accept(&[submission("rolled back")]).await.unwrap();
    assert_eq!(rolled_back, [Acceptance::NotDurable { rolled_back: true }]);
    let unknown = queue.accept(std::slice::from_ref(&fed)).await;
    assert!(matches!(unknown, Err(QueueError::OutcomeUnknown { .. })), "{unknown:?}");
    proxy.holds().await;
    file("yes").await;
    let direct = multivac_core::adapters::redis::RedisSettings {
        urls: vec![server.url().into()],
        namespace: queue_namespace(&server).await,
        ..redis_settings(vec![server.url()], 1)
    };
    let direct = Redis(direct).queue(durable(Durability::Fsync)).await;
    assert_eq!(direct.accept(std::slice::from_ref(&fed)).await.unwrap(), [Acceptance::Accepted]);
    proxy.release(&server).await;
    assert_eq!(direct.job_state(fed.job.id).await.unwrap(), Some(JobState::Queued));
    assert_eq!(ledger(&direct).await, Ledger { accepted: 2, queued: 2, ..Ledger::default() });
}

/// The only namespace on a server.
async fn queue_namespace(server: &RedisServer) -> String {
    let keys: Vec<String> = server.ask(cmd("KEYS").arg("*:{0}:stream")).await.unwrap();
    keys[0].split(':').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datum_whose_outcome_is_unknown_is_named_where_its_id_is_known() {
    let Some(binary) = newer() else { return };
    let server = RedisServer::start(&binary, &[]).await;
    let proxy = HoldingProxy::start(&server, "held on the way", 0).await;
    let queue = Redis(redis_settings(vec![proxy.url.clone()], 1)).queue(long_lease()).await;
    let acceptor = Acceptor::new(queue.clone(), &Supervisor::new(CancellationToken::new()));
    let request = |text, key| AcceptRequest { datum: Datum::accepted_before(text), key };
    acceptor.accept(request("before", None)).await.unwrap();
    // In one request of Redis's, as in bulk.
    let held = vec![request("held on the way", None), request("the same", Some(IdempotencyKey::anyones([3; 16])))];
    let told = acceptor.accept_many(held).await;
    proxy.release(&server).await;
    let [Err(first), Err(second)] = &told[..] else { panic!("{told:?}") };
    let (AcceptError::OutcomeUnknown { id: Some(id), .. }, AcceptError::OutcomeUnknown { id: None, .. }) =
        (first, second)
    else {
        panic!("{told:?}")
    };
    let detail = first.to_string();
    assert!(detail.contains("may be accepted") && detail.contains(&id.to_string()), "{detail}");
    assert!(second.to_string().contains("send it again with the same Idempotency-Key"), "{second}");
    assert_eq!(ledger(&queue).await.accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_does_not_hide_that_the_call_before_may_still_find_room() {
    let Some(binary) = newer() else { return };
    let server = RedisServer::start(&binary, &[]).await;
    let proxy = Proxy::start_dropping_replies(format!("127.0.0.1:{}", server.port), "no room", 1).await;
    let redis = Redis(redis_settings(vec![format!("redis://{}", proxy.address)], 1));
    let queue = redis.queue(QueueSettings { max_queued: 1, ..long_lease() }).await;
    let acceptor = Acceptor::new(queue.clone(), &Supervisor::new(CancellationToken::new()));
    let request = |text| AcceptRequest { datum: Datum::accepted_before(text), key: None };
    acceptor.accept(request("fills it")).await.unwrap();
    let broken_off = acceptor.accept(request("no room")).await.unwrap_err();
    assert!(matches!(broken_off, AcceptError::OutcomeUnknown { .. }), "{broken_off}");
    let refused = acceptor.accept(request("no room")).await.unwrap_err();
    assert!(matches!(refused, AcceptError::Full { .. }), "{refused}");
}
