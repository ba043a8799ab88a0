//! The full system as real processes: api replicas and workers on a Redis and a MongoDB that can be killed.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_redis::redis;
use mongodb::bson::{Document, doc};
use multivac_core::queue::Ledger;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::process::{PATIENCE, Program, free_port};

/// The members of the replica set: one may be lost, and there is still a majority.
const MEMBERS: usize = 3;

/// After how long without a primary the others elect one. MongoDB's own 10 s make no difference but to the waiting.
const ELECTION_MS: i32 = 2_000;

/// What to start.
pub(crate) struct Plan {
    pub(crate) apis: usize,
    pub(crate) workers: usize,
    pub(crate) lease: &'static str,
    pub(crate) partitions: u16,
    /// What Redis does to be safe from a power cut: `always` or `everysec`.
    pub(crate) appendfsync: String,
    /// A replica set of its own, or a database in the one that all tests share.
    pub(crate) own_mongo: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { apis: 2, workers: 3, lease: "3s", partitions: 1, appendfsync: "always".to_owned(), own_mongo: false }
    }
}

/// All that runs.
pub(crate) struct System {
    pub(crate) redis: Program,
    /// The members of its own replica set, if it has one.
    pub(crate) mongo: Vec<Program>,
    pub(crate) apis: Vec<Program>,
    pub(crate) workers: Vec<Program>,
    /// Where the api replicas are, in their order.
    pub(crate) bases: Vec<String>,
    pub(crate) client: Client,
    redis_url: String,
    mongo_url: String,
    name: String,
    worker_line: Vec<OsString>,
    directory: TempDir,
}

impl System {
    /// Starts it, and waits until the replicas are ready; `None`, aloud, where the servers' programs are not there.
    pub(crate) async fn start(plan: Plan) -> Option<Self> {
        let names = ["MULTIVAC_TEST_REDIS_SERVER", "MULTIVAC_TEST_MONGOD", "MULTIVAC_TEST_MONGO_URL"];
        let [Some(redis_server), Some(mongod), Some(mongo)] = names.map(|name| env::var(name).ok()) else {
            assert!(env::var_os("CI").is_none(), "in CI no backend may be left out");
            // Past the test harness, which keeps what a passing test prints to itself.
            let _ = std::io::stderr().write_all(b"SKIPPED: not run by scripts/test-backends.sh\n");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let log = |name: &str| at(&format!("{name}.log"));
        let name = format!("multivac_test_{}", Uuid::now_v7().simple());

        let redis_port = free_port().to_string();
        std::fs::create_dir(at("redis")).unwrap();
        let mut line: Vec<OsString> =
            [&redis_server, "--bind", "127.0.0.1", "--port", &redis_port].map(Into::into).into();
        line.extend(["--save", "", "--appendonly", "yes", "--appendfsync", &plan.appendfsync, "--dir"].map(Into::into));
        line.push(at("redis").into());
        let redis = Program::start("redis", line, log("redis"));
        let redis_url = format!("redis://127.0.0.1:{redis_port}");

        let (mongo, mongo_url) = if plan.own_mongo {
            replica_set(&mongod, directory.path(), &name).await
        } else {
            let (head, options) = mongo.split_once('?').unwrap_or((&mongo, ""));
            (Vec::new(), format!("{}/{name}?{options}", head.trim_end_matches('/')))
        };

        let shared: Vec<OsString> = ["--redis-url", &redis_url, "--mongo-url", &mongo_url, "--lease", plan.lease]
            .into_iter()
            .chain(["--partitions", &plan.partitions.to_string(), "--namespace", &name])
            .map(Into::into)
            .collect();
        let mut apis = Vec::new();
        let mut bases = Vec::new();
        for i in 0..plan.apis {
            let address = format!("127.0.0.1:{}", free_port());
            let mut line: Vec<OsString> = vec![api().into(), "--listen".into(), (&address).into()];
            line.extend(shared.iter().cloned());
            apis.push(Program::start(&format!("api {i}"), line, log(&format!("api-{i}"))));
            bases.push(format!("http://{address}"));
        }
        let mut worker_line: Vec<OsString> = vec![env!("CARGO_BIN_EXE_multivac-worker").into()];
        worker_line.extend(["--health-listen", "127.0.0.1:0"].map(Into::into));
        worker_line.extend(shared);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let mut system = Self {
            redis,
            mongo,
            apis,
            workers: Vec::new(),
            bases,
            client,
            redis_url,
            mongo_url,
            name,
            worker_line,
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

    pub(crate) fn add_worker(&mut self) {
        let i = self.workers.len();
        let log = self.directory.path().join(format!("worker-{i}.log"));
        self.workers.push(Program::start(&format!("worker {i}"), self.worker_line.clone(), log));
    }

    /// Looks at what a replica says until it is so; shows what it was otherwise.
    pub(crate) async fn until(&self, replica: usize, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request =
                self.client.get(format!("{}{path}", self.bases[replica])).header("Accept", "application/json");
            let seen = match request.send().await {
                Ok(reply) => reply.json().await.unwrap_or_default(),
                Err(error) => Value::String(error.to_string()),
            };
            if so(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is unfinished and each replica can answer with all that was learned.
    pub(crate) async fn until_quiet(&self) -> Ledger {
        let mut last = Ledger::default();
        for replica in 0..self.bases.len() {
            let quiet = |stats: &Value| ledger(stats).is_some_and(|ledger| ledger.accepted > 0 && ledger.is_quiet());
            last = ledger(&self.until(replica, "/multivac/stats", quiet).await).expect("it was one just now");
        }
        last
    }

    /// The end of what each process said.
    pub(crate) fn said(&self) -> String {
        let all = self.apis.iter().chain(&self.workers).chain([&self.redis]);
        all.map(|program| format!("{} said:\n{}\n", program.name, program.said())).collect()
    }

    /// How many jobs each consumer of the first partition's group holds.
    pub(crate) async fn consumers(&self) -> Vec<(String, u64)> {
        let client = redis::Client::open(self.redis_url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut ask = redis::cmd("XINFO");
        ask.arg("CONSUMERS").arg(format!("{}:{{0}}:stream", self.name)).arg("workers");
        let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
            ask.query_async(&mut connection).await.unwrap();
        let read = |of: &std::collections::HashMap<String, redis::Value>| {
            let name = redis::from_redis_value(of["name"].clone()).unwrap();
            (name, redis::from_redis_value(of["pending"].clone()).unwrap())
        };
        consumers.iter().map(read).collect()
    }

    /// Which of its own MongoDB's members is the primary, once there is one and the others are ready to follow it up.
    pub(crate) async fn primary(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (i, member) in self.mongo.iter().enumerate() {
                if let Some(status) = admin(&member.name, doc! { "replSetGetStatus": 1 }).await {
                    let states: Vec<i32> = status
                        .get_array("members")
                        .unwrap()
                        .iter()
                        .map(|member| member.as_document().unwrap().get_i32("state").unwrap())
                        .collect();
                    // 1: primary, 2: secondary.
                    if status.get_i32("myState").is_ok_and(|state| state == 1)
                        && states.iter().all(|state| matches!(state, 1 | 2))
                    {
                        return i;
                    }
                }
            }
            assert!(Instant::now() < deadline, "MongoDB has no primary with all its members");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Has a member that is the primary hand over to another, and stay out of elections for a while; whether it did.
    pub(crate) async fn step_down(&self, member: usize) -> bool {
        let command = doc! { "replSetStepDown": 15, "secondaryCatchUpPeriodSecs": 10 };
        admin(&self.mongo[member].name, command).await.is_some()
    }

    /// Every document of the store.
    pub(crate) async fn stored(&self) -> Vec<Document> {
        let database = mongodb::Client::with_uri_str(&self.mongo_url).await.unwrap().database(&self.name);
        let mut documents = database.collection::<Document>("entropy").find(doc! {}).await.unwrap();
        let mut all = Vec::new();
        while documents.advance().await.unwrap() {
            all.push(documents.deserialize_current().unwrap());
        }
        all
    }

    /// Takes away what is not in its directory or its memory.
    pub(crate) async fn clean_up(self) {
        if self.mongo.is_empty() {
            mongodb::Client::with_uri_str(&self.mongo_url).await.unwrap().database(&self.name).drop().await.unwrap();
        }
    }
}

/// The ledger in a reply of `/multivac/stats`.
pub(crate) fn ledger(stats: &Value) -> Option<Ledger> {
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

/// multivac-api's program. Cargo names a package's own programs to its tests; this one lies beside.
fn api() -> PathBuf {
    let api = Path::new(env!("CARGO_BIN_EXE_multivac-worker")).with_file_name("multivac-api");
    assert!(api.exists(), "{} is not built: cargo build --workspace --bins", api.display());
    api
}

/// Starts three members and makes them one replica set; the URL of a database in it.
async fn replica_set(mongod: &str, directory: &Path, database: &str) -> (Vec<Program>, String) {
    let mut members = Vec::new();
    for i in 0..MEMBERS {
        let port = free_port().to_string();
        let data = directory.join(format!("mongo-{i}"));
        std::fs::create_dir(&data).unwrap();
        let mut line: Vec<OsString> = [mongod, "--bind_ip", "127.0.0.1", "--port", &port].map(Into::into).into();
        line.extend(["--nounixsocket", "--replSet", "rs0", "--wiredTigerCacheSizeGB", "0.25"].map(Into::into));
        line.extend(["--oplogSize", "256", "--setParameter", "diagnosticDataCollectionEnabled=false"].map(Into::into));
        line.extend(["--dbpath".into(), data.into()]);
        members.push(Program::start(&format!("127.0.0.1:{port}"), line, directory.join(format!("mongo-{i}.log"))));
    }
    let list = |i: usize| doc! { "_id": i as i32, "host": &members[i].name };
    let settings = doc! { "electionTimeoutMillis": ELECTION_MS, "heartbeatIntervalMillis": 500 };
    let members_of = (0..MEMBERS).map(list).collect::<Vec<_>>();
    let config = doc! { "_id": "rs0", "members": members_of, "settings": settings };
    let deadline = Instant::now() + PATIENCE;
    // Refused until all three listen.
    while admin(&members[0].name, doc! { "replSetInitiate": &config }).await.is_none() {
        assert!(Instant::now() < deadline, "MongoDB cannot be initiated: {}", members[0].said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let hosts: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let url = format!("mongodb://{}/{database}?replicaSet=rs0", hosts.join(","));
    (members, url)
}

/// What one member of the replica set says to a command, if it does.
async fn admin(member: &str, command: Document) -> Option<Document> {
    let url = format!("mongodb://{member}/?directConnection=true&serverSelectionTimeoutMS=1000&connectTimeoutMS=1000");
    let client = mongodb::Client::with_uri_str(url).await.unwrap();
    let reply = client.database("admin").run_command(command).await.ok();
    client.shutdown().immediate(true).await;
    reply
}
