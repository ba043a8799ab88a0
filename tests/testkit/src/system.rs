//! The full system as real processes: api replicas and workers, on a Redis and a MongoDB that can be killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_redis::redis;
use mongodb::bson::{Document, doc};
use multivac_core::queue::Ledger;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::backends::{database, unique_name, with_database};
use crate::environment::variable;
use crate::mongo::ReplicaSet;
use crate::port::free_port;
use crate::process::Service;
use crate::redis::RedisServer;
use crate::{TEST_TIMEOUT, mongo};

/// What to start.
pub struct Plan {
    /// multivac-worker's program, which only its own tests know: `env!("CARGO_BIN_EXE_multivac-worker")`. multivac-api's
    /// lies beside it.
    pub worker_program: &'static str,
    /// How many replicas of the api.
    pub apis: usize,
    /// How many workers.
    pub workers: usize,
    /// `--lease`.
    pub lease: &'static str,
    /// `--partitions`.
    pub partitions: u16,
    /// What Redis does to be safe from a power cut: `always` or `everysec`.
    pub appendfsync: String,
    /// A replica set of its own, or a database in the one that all tests share.
    pub own_mongo: bool,
}

impl Plan {
    /// Two api replicas and three workers, on MongoDB's shared replica set.
    pub fn new(worker_program: &'static str) -> Self {
        Self {
            worker_program,
            apis: 2,
            workers: 3,
            lease: "3s",
            partitions: 1,
            appendfsync: "always".to_owned(),
            own_mongo: false,
        }
    }
}

/// All that runs.
pub struct System {
    /// Redis.
    pub redis: RedisServer,
    /// The api replicas.
    pub apis: Vec<Service>,
    /// The workers.
    pub workers: Vec<Service>,
    /// Where the api replicas are, in their order: `http://127.0.0.1:PORT`.
    pub bases: Vec<String>,
    /// A client for them.
    pub client: Client,
    replica_set: Option<ReplicaSet>,
    mongo_url: String,
    name: String,
    worker_line: Vec<OsString>,
    directory: TempDir,
}

impl System {
    /// Starts it, and waits until the replicas are ready. Where the servers' programs are not there, the test is skipped.
    pub async fn start(plan: Plan) -> Option<Self> {
        let (redis_server, mongod) = (crate::redis::installed()?, mongo::installed()?);
        let shared_mongo = variable("MULTIVAC_TEST_MONGO_URL")?;
        let (directory, name) = (tempfile::tempdir().unwrap(), unique_name());
        let redis = RedisServer::start(&redis_server, &["--appendfsync", &plan.appendfsync]).await;
        let replica_set = if plan.own_mongo { Some(ReplicaSet::start(&mongod).await) } else { None };
        let mongo_url = match &replica_set {
            Some(replica_set) => replica_set.url(&name),
            None => with_database(&shared_mongo, &name),
        };
        let shared: Vec<OsString> = ["--redis-url", &redis.url(), "--mongo-url", &mongo_url, "--lease", plan.lease]
            .into_iter()
            .chain(["--partitions", &plan.partitions.to_string(), "--namespace", &name])
            .map(Into::into)
            .collect();
        let (mut apis, mut bases) = (Vec::new(), Vec::new());
        for i in 0..plan.apis {
            let address = format!("127.0.0.1:{}", free_port());
            let mut line: Vec<OsString> = vec![api_beside(plan.worker_program).into()];
            line.extend(["--listen", &address].map(Into::into));
            line.extend(shared.iter().cloned());
            apis.push(Service::start(&format!("api {i}"), line, directory.path().join(format!("api-{i}.log"))));
            bases.push(format!("http://{address}"));
        }
        let mut worker_line: Vec<OsString> =
            [plan.worker_program, "--health-listen", "127.0.0.1:0"].map(Into::into).into();
        worker_line.extend(shared);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let workers = Vec::new();
        let mut system =
            Self { redis, apis, workers, bases, client, replica_set, mongo_url, name, worker_line, directory };
        for _ in 0..plan.workers {
            system.add_worker();
        }
        for i in 0..system.bases.len() {
            system.until(i, "/readyz", |ready| ready["ready"] == true).await;
        }
        Some(system)
    }

    /// Starts one more worker.
    pub fn add_worker(&mut self) {
        let i = self.workers.len();
        let log = self.directory.path().join(format!("worker-{i}.log"));
        self.workers.push(Service::start(&format!("worker {i}"), self.worker_line.clone(), log));
    }

    /// The flags that say where the servers are, and the settings that all processes share.
    pub fn server_flags(&self) -> &[OsString] {
        // After the program and its flag for health.
        &self.worker_line[3..]
    }

    /// MongoDB's replica set, where the system has one of its own.
    pub fn replica_set(&mut self) -> &mut ReplicaSet {
        self.replica_set.as_mut().expect("a plan with own_mongo")
    }

    /// Asks a replica until its reply fulfils `condition`; fails with the last reply and the logs.
    pub async fn until(&self, replica: usize, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let request =
                self.client.get(format!("{}{path}", self.bases[replica])).header("Accept", "application/json");
            let seen = match request.send().await {
                Ok(reply) => reply.json().await.unwrap_or_default(),
                Err(error) => Value::String(error.to_string()),
            };
            if condition(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}\n{}", self.log_tails());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is unfinished and each replica can answer with all that was learned.
    pub async fn until_quiet(&self) -> Ledger {
        let mut last = Ledger::default();
        for replica in 0..self.bases.len() {
            let quiet = |stats: &Value| ledger(stats).is_some_and(|ledger| ledger.accepted > 0 && ledger.is_quiet());
            last = ledger(&self.until(replica, "/multivac/stats", quiet).await).expect("it was one just now");
        }
        last
    }

    /// The last lines of each process's log.
    pub fn log_tails(&self) -> String {
        let all = self.apis.iter().chain(&self.workers).chain([&self.redis.service]);
        all.map(|service| format!("{} logged:\n{}\n", service.name, service.log_tail())).collect()
    }

    /// How many jobs each consumer of the first partition's group holds.
    pub async fn consumers(&self) -> Vec<(String, u64)> {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(format!("{}:{{0}}:stream", self.name)).arg("workers");
        let consumers: Vec<std::collections::HashMap<String, redis::Value>> = self.redis.ask(&command).await.unwrap();
        let read = |of: &std::collections::HashMap<String, redis::Value>| {
            let name = redis::from_redis_value(of["name"].clone()).unwrap();
            (name, redis::from_redis_value(of["pending"].clone()).unwrap())
        };
        consumers.iter().map(read).collect()
    }

    /// Every document of the store.
    pub async fn stored(&self) -> Vec<Document> {
        let database = database(&self.mongo_url, &self.name).await;
        let mut documents = database.collection::<Document>("entropy").find(doc! {}).await.unwrap();
        let mut all = Vec::new();
        while documents.advance().await.unwrap() {
            all.push(documents.deserialize_current().unwrap());
        }
        all
    }

    /// Deletes what does not go by itself with its processes and its directories.
    pub async fn clean_up(self) {
        if self.replica_set.is_none() {
            database(&self.mongo_url, &self.name).await.drop().await.unwrap();
        }
    }
}

/// The ledger in a reply of `/multivac/stats`.
pub fn ledger(stats: &Value) -> Option<Ledger> {
    let of = |name: &str| stats[name].as_u64();
    Some(Ledger {
        accepted: of("accepted")?,
        queued: of("queued")?,
        processing: of("processing")?,
        learned: of("learned")?,
        retracted: of("retracted")?,
        dead: of("dead")?,
    })
}

/// multivac-api's program. Cargo tells a package's tests of its own programs only; this one lies beside the worker's.
fn api_beside(worker: &str) -> PathBuf {
    let api = Path::new(worker).with_file_name("multivac-api");
    assert!(api.exists(), "{} is not built: cargo build --workspace --bins", api.display());
    api
}
