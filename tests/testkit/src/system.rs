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
use crate::clock::Clock;
use crate::cluster::RedisCluster;
use crate::disk::SmallDisk;
use crate::environment::variable;
use crate::faults::{Disk, Target};
use crate::mongo::ReplicaSet;
use crate::port::free_port;
use crate::process::Service;
use crate::redis::RedisServer;
use crate::{TEST_TIMEOUT, mongo};

/// Room for Redis's append-only file, and for the indexes: enough for minutes of load, and soon filled up.
const REDIS_DISK_MIB: u32 = 768;
const INDEX_DISK_MIB: u32 = 512;

/// How a text begins that MongoDB refuses, where [`Plan::poison`] says so.
pub const POISON: &str = "Poison";

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
    /// A Redis Cluster of three masters with a replica each, and `--durability replicated`; else one Redis.
    pub cluster: bool,
    /// Each program but MongoDB runs by a clock of its own, which can be set.
    pub clocks: bool,
    /// Redis and the indexes have small disks of their own, which can be filled up.
    pub small_disks: bool,
    /// MongoDB refuses documents whose text begins with [`POISON`].
    pub poison: bool,
    /// Variables of our programs: `NAME=value`.
    pub environment: Vec<String>,
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
            cluster: false,
            clocks: false,
            small_disks: false,
            poison: false,
            environment: Vec::new(),
        }
    }

    /// What a command line begins with, for the variables.
    fn env(&self) -> Vec<OsString> {
        let env = ["/usr/bin/env".to_owned()].into_iter().chain(self.environment.iter().cloned());
        if self.environment.is_empty() { Vec::new() } else { env.map(Into::into).collect() }
    }
}

/// One Redis, or a Cluster.
pub enum RedisNodes {
    /// One server.
    Single(RedisServer),
    /// Three masters, each with a replica.
    Cluster(RedisCluster),
}

impl RedisNodes {
    /// One of its nodes.
    pub fn node(&mut self, number: usize) -> &mut RedisServer {
        match self {
            Self::Single(server) => server,
            Self::Cluster(cluster) => &mut cluster.nodes[number],
        }
    }

    fn nodes(&self) -> &[RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => &cluster.nodes,
        }
    }

    /// How many masters it has.
    pub fn masters(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Cluster(cluster) => cluster.nodes.len() / 2,
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Cluster(cluster) => cluster.urls().join(","),
        }
    }
}

/// All that runs.
pub struct System {
    /// Redis.
    pub redis: RedisNodes,
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
    /// Whether MongoDB refuses texts that begin with [`POISON`].
    pub(crate) poison: bool,
    has_clocks: bool,
    env: Vec<OsString>,
    clocks: Vec<(Target, Clock)>,
    redis_disk: Option<SmallDisk>,
    index_disk: Option<SmallDisk>,
    directory: TempDir,
}

impl System {
    /// Starts it, and waits until the replicas are ready. Where the servers' programs are not there, the test is skipped.
    pub async fn start(plan: Plan) -> Option<Self> {
        let mongod = mongo::installed()?;
        let shared_mongo = variable("MULTIVAC_TEST_MONGO_URL")?;
        let (directory, name) = (tempfile::tempdir().unwrap(), unique_name());
        let mut clocks = Vec::new();
        let redis_disk = if plan.small_disks && !plan.cluster { SmallDisk::mount(REDIS_DISK_MIB) } else { None };
        let redis = if plan.cluster {
            let program = crate::redis::newer();
            RedisNodes::Cluster(RedisCluster::start_with(program, &["--appendfsync", &plan.appendfsync]).await?)
        } else {
            let mut program = crate::redis::installed()?;
            if plan.clocks {
                program = under_a_clock(&mut clocks, Target::Redis(0), &program);
            }
            let mut arguments = vec!["--appendfsync", plan.appendfsync.as_str()];
            if let Some(disk) = &redis_disk {
                arguments.extend(["--dir", disk.path().to_str().expect("a path of ASCII")]);
            }
            RedisNodes::Single(RedisServer::start(&program, &arguments).await)
        };
        let replica_set = if plan.own_mongo { Some(ReplicaSet::start(&mongod).await) } else { None };
        let mongo_url = match &replica_set {
            Some(replica_set) => replica_set.url(&name),
            None => with_database(&shared_mongo, &name),
        };
        if plan.poison {
            let refused = doc! { "data": { "$not": { "$regex": format!("^{POISON}") } } };
            database(&mongo_url, &name).await.create_collection("entropy").validator(refused).await.unwrap();
        }
        let shared: Vec<OsString> = ["--redis-url", &redis.url(), "--mongo-url", &mongo_url, "--lease", plan.lease]
            .into_iter()
            .chain(["--partitions", &plan.partitions.to_string(), "--namespace", &name])
            .map(Into::into)
            .collect();
        let index_disk = if plan.small_disks { SmallDisk::mount(INDEX_DISK_MIB) } else { None };
        let (mut apis, mut bases) = (Vec::new(), Vec::new());
        for i in 0..plan.apis {
            let address = format!("127.0.0.1:{}", free_port());
            let mut line = plan.env();
            let mut program = api_beside(plan.worker_program);
            if plan.clocks {
                program = under_a_clock(&mut clocks, Target::Api(i), &program);
            }
            if let Some(disk) = &index_disk {
                line.extend(["/usr/bin/env".into(), format!("TMPDIR={}", disk.path().display()).into()]);
            }
            line.push(program.into());
            line.extend(["--listen", &address].map(Into::into));
            line.extend(shared.iter().cloned());
            if plan.cluster {
                line.extend(["--durability", "replicated"].map(Into::into));
            }
            apis.push(Service::start(&format!("api {i}"), line, directory.path().join(format!("api-{i}.log"))));
            bases.push(format!("http://{address}"));
        }
        let mut worker_line: Vec<OsString> =
            [plan.worker_program, "--health-listen", "127.0.0.1:0"].map(Into::into).into();
        worker_line.extend(shared);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let mut system = Self {
            redis,
            apis,
            workers: Vec::new(),
            bases,
            client,
            replica_set,
            mongo_url,
            name,
            worker_line,
            poison: plan.poison,
            has_clocks: plan.clocks,
            env: plan.env(),
            clocks,
            redis_disk,
            index_disk,
            directory,
        };
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
        let mut line = self.worker_line.clone();
        if self.has_clocks {
            line[0] = under_a_clock(&mut self.clocks, Target::Worker(i), Path::new(&line[0])).into();
        }
        line.splice(0..0, self.env.iter().cloned());
        self.workers.push(Service::start(&format!("worker {i}"), line, log));
    }

    /// The namespace in Redis, and the database in MongoDB.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which node of Redis or MongoDB a target is at present; 0 for others.
    pub async fn member(&mut self, target: Target) -> usize {
        match (target, &self.redis) {
            (Target::Primary, _) => self.replica_set().primary().await,
            (Target::Redis(master), RedisNodes::Cluster(cluster)) => cluster.master_at_present(master).await,
            _ => 0,
        }
    }

    /// The process of a target, which is this node of Redis or MongoDB.
    pub fn service(&mut self, target: Target, member: usize) -> &mut Service {
        match target {
            Target::Worker(number) => &mut self.workers[number],
            Target::Api(number) => &mut self.apis[number],
            Target::Redis(_) => &mut self.redis.node(member).service,
            Target::Primary => &mut self.replica_set().members[member].service,
        }
    }

    /// The clock of a target, where it has one of its own.
    pub fn clock(&self, target: Target) -> Option<&Clock> {
        self.clocks.iter().find(|(whose, _)| *whose == target).map(|(_, clock)| clock)
    }

    /// A small disk, where there is one.
    pub fn disk(&self, disk: Disk) -> Option<&SmallDisk> {
        match disk {
            Disk::Redis => self.redis_disk.as_ref(),
            Disk::Index => self.index_disk.as_ref(),
        }
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
        let redis = self.redis.nodes().iter().map(|node| &node.service);
        let all = self.apis.iter().chain(&self.workers).chain(redis);
        all.map(|service| format!("{} logged:\n{}\n", service.name, service.log_tail())).collect()
    }

    /// How many jobs each consumer of the first partition's group holds.
    pub async fn consumers(&self) -> Vec<(String, u64)> {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(format!("{}:{{0}}:stream", self.name)).arg("workers");
        let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
            self.redis.nodes()[0].ask(&command).await.unwrap();
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

/// A program that starts this one by a clock of its own.
fn under_a_clock(clocks: &mut Vec<(Target, Clock)>, whose: Target, program: &Path) -> PathBuf {
    let clock = Clock::new();
    let program = clock.under(program);
    clocks.push((whose, clock));
    program
}

/// multivac-api's program. Cargo tells a package's tests of its own programs only; this one lies beside the worker's.
fn api_beside(worker: &str) -> PathBuf {
    let api = Path::new(worker).with_file_name("multivac-api");
    assert!(api.exists(), "{} is not built: cargo build --workspace --bins", api.display());
    api
}
