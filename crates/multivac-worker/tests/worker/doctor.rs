//! `multivac-worker doctor`: of a healthy system it finds nothing, and of each sick one exactly what it lacks.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, cmd};
use mongodb::Client;
use mongodb::bson::{DateTime, Document, doc};
use multivac_core::queue::Failure;
use multivac_testkit::clock::Clock;
use multivac_testkit::cluster::RedisCluster;
use multivac_testkit::doctor::{Diagnosis, doctor};
use multivac_testkit::hang::{HangingServers, NoMajority};
use multivac_testkit::mongo::{self, Mongod, SecureMongod};
use multivac_testkit::port::free_port;
use multivac_testkit::redis::{self, RedisServer};
use multivac_testkit::sample::{job, submission, submission_of};
use multivac_testkit::snapshot;
use multivac_testkit::wait::{until, until_ok};

use crate::test_worker::{Servers, program};

/// What the worker's doctor says with these URLs.
fn examine(redis: &str, mongo: &str, flags: &[&str]) -> Diagnosis {
    let urls = ["--redis-url", redis, "--mongo-url", mongo];
    doctor(program, &[&urls[..], flags].concat())
}

impl Servers {
    fn doctor(&self) -> Diagnosis {
        doctor(program, &self.flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_healthy_system_every_check_is_ok_and_nothing_is_left() {
    let Some(servers) = Servers::find(&[]).await else { return };
    servers.accept(3).await;
    let worker = servers.worker();
    servers.until(|ledger| ledger.learned == 3).await;
    let healthy = servers.doctor();
    assert_eq!(healthy.ill(), [""; 0], "{}", healthy.shown());
    assert_eq!(healthy.with_status("skipped"), [""; 0], "{}", healthy.shown());
    // The names are what scripts rely on.
    let checks: Vec<&str> = healthy.findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    snapshot::compare("crates/multivac-worker/tests/worker/snapshots/doctor.txt", &format!("{}\n", checks.join("\n")));
    assert!(healthy.found("ledger").contains("learned 3"), "{}", healthy.found("ledger"));
    assert!(healthy.found("mongodb.documents").starts_with('3'), "{}", healthy.found("mongodb.documents"));
    let table = program(&[&["doctor"], &servers.flags.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().count() == checks.len() + 2 && table.ends_with(" ok\n"), "{table}");
    drop(worker);
    servers.clean_up().await;
}

#[test]
fn what_is_no_finding_has_a_status_of_its_own() {
    assert_eq!(program(&["doctor", "--no-such-flag"]).status().unwrap().code(), Some(2));
    let none = doctor(program, &[]);
    none.assert_only("error settings", "REDIS_URL and MONGO_URL are needed");
    doctor(program, &["--redis-url", "redis://:geheim@127.0.0.1:1"]).assert_only("error settings", "MONGO_URL is not");
}

/// A Redis of the test's own that a queue has used, beside the shared MongoDB.
struct OwnRedis {
    redis: RedisServer,
    mongo_url: String,
    servers: Servers,
}

impl OwnRedis {
    async fn start(redis: RedisServer) -> Option<Self> {
        let shared = multivac_testkit::backends::SharedServers::find()?;
        let flags = ["--redis-url", &redis.url(), "--mongo-url", &shared.mongo_url, "--max-attempts", "1"];
        let servers = Servers::with(flags.map(str::to_owned).into()).await;
        Some(Self { redis, mongo_url: shared.mongo_url, servers })
    }

    fn doctor(&self) -> Diagnosis {
        self.servers.doctor()
    }

    /// As another user, or with a password.
    fn as_user(&self, user: &str) -> Diagnosis {
        examine(&format!("redis://{user}@127.0.0.1:{}", self.redis.port), &self.mongo_url, &[])
    }

    async fn tell(&self, words: &[&str]) {
        let mut command = Cmd::new();
        command.arg(words);
        self.redis.ask::<deadpool_redis::redis::Value>(&command).await.unwrap();
    }

    async fn clean_up(self) {
        let name = self.mongo_url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
        multivac_testkit::backends::database(&self.mongo_url, &name).await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_redis_under_which_data_are_lost_are_named() {
    let Some(binary) = redis::installed() else { return };
    let Some(own) = OwnRedis::start(RedisServer::start(&binary, &[]).await).await else { return };
    let well = own.doctor();
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());
    own.redis.set("maxmemory-policy", "allkeys-lru").await;
    own.doctor().assert_only("warning redis.eviction", "allkeys-lru");
    own.redis.set("maxmemory-policy", "noeviction").await;
    own.redis.set("appendonly", "no").await;
    own.doctor().assert_only("warning redis.persistence", "no append-only file");
    own.redis.set("appendonly", "yes").await;
    own.redis.set("appendfsync", "no").await;
    own.doctor().assert_only("warning redis.persistence", "appendfsync no");
    own.redis.set("appendfsync", "everysec").await;
    own.redis.set("maxmemory", "1kb").await;
    own.doctor().assert_only("error redis.memory", "nothing is accepted");
    own.redis.set("maxmemory", "0").await;
    own.redis.set("min-replicas-to-write", "2").await;
    own.doctor().assert_only("error redis.role", "0 replicas, and 2 are needed");
    own.redis.set("min-replicas-to-write", "0").await;
    own.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    own.doctor().assert_only("error redis.role", "a replica (of 127.0.0.1:1)");
    own.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_queue_in_redis_is_named() {
    let Some(binary) = redis::installed() else { return };
    let Some(own) = OwnRedis::start(RedisServer::start(&binary, &[]).await).await else { return };
    own.tell(&["XGROUP", "DESTROY", "multivac:{0}:stream", "workers"]).await;
    own.doctor().assert_only("warning redis.group", "none in partition 0");
    own.doctor().assert_only("warning redis.group", "none in partition 0");
    own.tell(&["XGROUP", "CREATE", "multivac:{0}:stream", "workers", "0"]).await;

    own.tell(&["SET", "multivac:{0}:dead", "mine"]).await;
    own.doctor().assert_only("error redis.keys", "multivac:{0}:dead is a string, expected a stream");
    own.tell(&["DEL", "multivac:{0}:dead"]).await;

    let queue = &own.servers.backends.queue;
    queue.accept(&[submission("a poison")]).await.unwrap();
    let lease = queue.lease(1, Duration::from_secs(10)).await.unwrap().remove(0);
    assert_eq!(queue.fail(&lease, "no good", Duration::ZERO).await.unwrap(), Failure::Dead);
    own.doctor().assert_only("warning dead-letters", "1");
    assert!(queue.retry_dead(lease.job.id).await.unwrap());
    assert_eq!(own.doctor().ill(), [""; 0]);

    let mut old = job("It waits for hours.");
    old.received_at = multivac_core::datum::Timestamp::from_millis(old.received_at.as_millis() - 7_200_000);
    own.tell(&["FLUSHALL"]).await;
    queue.prepare().await.unwrap();
    queue.accept(&[submission_of(&old)]).await.unwrap();
    own.doctor().assert_only("error oldest", "2h");
    own.tell(&["FLUSHALL"]).await;
    queue.prepare().await.unwrap();
    own.tell(&["HINCRBY", "multivac:{0}:ledger", "accepted", "1"]).await;
    own.doctor().assert_only("error ledger", "accepted is not the sum");
    own.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_redis_user_lacks_is_named() {
    for binary in [redis::installed(), redis::newer()] {
        let Some(binary) = binary else { return };
        let Some(own) = OwnRedis::start(RedisServer::start(&binary, &[]).await).await else { return };
        let user = async |rights: &[&str]| {
            let words = ["ACL", "SETUSER", "one", "reset", "on", ">geheim"];
            own.tell(&[&words[..], rights].concat()).await;
            own.as_user("one:geheim")
        };
        let rights =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/redis/rights")).unwrap();
        let documented: Vec<&str> =
            rights.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
        let enough = user(&documented).await;
        assert_eq!(enough.ill(), [""; 0], "{}", enough.shown());
        // Each right that is documented is missed, but for one with which scripts would be sent where these are named, and two
        // that only processes of 0.1.0 need.
        let mut unmissed = Vec::new();
        for right in documented.iter().filter_map(|right| right.strip_prefix('+')) {
            let kept = documented.iter().copied().filter(|kept| kept.strip_prefix('+') != Some(right));
            if user(&kept.collect::<Vec<_>>()).await.ill().is_empty() {
                unmissed.push(right);
            }
        }
        assert_eq!(unmissed, ["eval", "hexists", "unwatch"]);
        user(&["~*", "+@all", "-hset"]).await.assert_only("error redis.rights", "missing: hset");
        user(&["~*", "+@all", "-blpop", "-xinfo"]).await.assert_only("error redis.rights", "missing: blpop, xinfo");
        user(&["~*", "+@all", "-config"]).await.assert_only("warning redis.rights", "config|get");
        user(&["~other:*", "+@all"]).await.assert_only("error redis.rights", "keys such as multivac:{0}:");
        user(&["~*", "+@all", "-evalsha"]).await.assert_only("error redis.rights", "missing: evalsha");
        // Whatever was tried, nothing is left of it.
        let keys: Vec<String> = own.redis.ask(cmd("KEYS").arg("*:accepted:*")).await.unwrap();
        assert_eq!(keys, [""; 0]);
        own.as_user("one:moonlight").assert_only("error redis.reachable", "the user or the password is wrong");
        own.clean_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_server_is_out_of_reach_is_told_and_the_others_are_examined_all_the_same() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    let closed = format!("127.0.0.1:{}", free_port());
    let (redis, mongo) = (own.redis.url(), own.mongo_url());
    let found = examine(&format!("redis://:geheim@{closed}"), &mongo, &[]);
    found.assert_only("error redis.reachable", "refused");
    assert!(found.with_status("ok").contains(&"mongodb.writes"), "{}", found.shown());
    examine("redis://:geheim@redis.invalid", &mongo, &[]).assert_only("error redis.reachable", "DNS does not know");
    examine(&format!("rediss://127.0.0.1:{}", own.redis.port), &mongo, &[]).assert_only("error redis.reachable", "");
    let found = examine(&redis, &format!("mongodb://one:moonlight@{closed}/?replicaSet=rs0"), &[]);
    found.assert_only("error mongodb.reachable", "refused");
    assert!(found.with_status("ok").contains(&"redis.group"), "{}", found.shown());
    examine(&redis, "mongodb://mongo.invalid", &[]).assert_only("error mongodb.reachable", "DNS does not know");
    examine(&redis, &format!("{mongo}&tls=true"), &[]).assert_only("error mongodb.reachable", "TLS");
    examine(&redis, &mongo.replace("rs0", "other"), &[])
        .assert_only("error mongodb.replica-set", "MONGO_URL names other");
    let two = mongo.replace("mongodb://", &format!("mongodb://{closed},"));
    examine(&redis, &two, &[]).assert_only("warning mongodb.reachable", "refused");

    own.redis.service.pause();
    servers.doctor().assert_only("error redis.reachable", "out of reach after 2 s");
    own.redis.service.resume();
    own.mongo.service.pause();
    let found = servers.doctor();
    found.assert_only("error mongodb.reachable", "out of reach after 2 s");
    own.redis.service.pause();
    let found = servers.doctor();
    assert_eq!(found.ill(), ["error redis.reachable", "error mongodb.reachable"]);
    multivac_testkit::environment::report(&format!("doctor, both servers hang: {:.1} s", found.took.as_secs_f64()));
    assert!(found.took < Duration::from_secs(15), "{:?}", found.took);
    own.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_that_takes_no_writes_is_named() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    own.lock().await;
    servers.doctor().assert_only("error mongodb.writes", "did not reply within");
    own.unlock().await;
    own.block_writes(true).await;
    servers.doctor().assert_only("error mongodb.writes", "setUserWriteBlockMode");
    own.block_writes(false).await;
    let well = servers.doctor();
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());

    let database = Client::with_uri_str(own.mongo_url()).await.unwrap().database("multivac");
    let (entropy, replicas) = (database.collection::<Document>("entropy"), database.collection::<Document>("replicas"));
    entropy.insert_one(doc! { "data": "Written by the original application." }).await.unwrap();
    assert!(servers.doctor().found("mongodb.documents").ends_with("wrote 1"));
    entropy.insert_one(doc! { "data": 7 }).await.unwrap();
    servers.doctor().assert_only("warning mongodb.documents", "1 cannot be read");
    entropy.delete_one(doc! { "data": 7 }).await.unwrap();
    let before = DateTime::from_millis(DateTime::now().timestamp_millis() - 20_000);
    replicas.insert_one(doc! { "_id": "one", "position": 0_i64, "seen_at": before }).await.unwrap();
    servers.doctor().assert_only("warning mongodb.replicas", "one is silent for 2");
    let now = doc! { "$set": { "seen_at": DateTime::now() } };
    replicas.update_one(doc! { "_id": "one" }, now).await.unwrap();
    servers.doctor().assert_only("warning mongodb.replicas", "one is behind by");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_without_a_majority_and_a_server_that_is_none_are_named() {
    let Some(binary) = redis::installed() else { return };
    let Some(own) = NoMajority::start().await else { return };
    let redis = RedisServer::start(&binary, &[]).await;
    let flags = ["--redis-url", &redis.url(), "--mongo-url", &own.url()].map(str::to_owned);
    let servers = Servers::with(flags.into()).await;
    let well = servers.doctor();
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());
    own.lose_majority();
    until_ok("the set has noticed", async || {
        let ill = servers.doctor().ill();
        if ill == ["warning mongodb.majority", "error mongodb.writes"] { Ok(()) } else { Err(ill) }
    })
    .await;
    own.regain_majority();

    let alone = Mongod::start(&mongo::installed().unwrap(), &[]);
    let named = Mongod::start(&mongo::installed().unwrap(), &["--replSet", "rs0"]);
    for server in [&alone, &named] {
        until("mongod replies", async || server.admin(doc! { "ping": 1 }).await.is_some()).await;
    }
    let url = |server: &Mongod| format!("mongodb://{}/multivac?replicaSet=rs0", server.host());
    examine(&redis.url(), &url(&alone), &[]).assert_only("error mongodb.replica-set", "stand-alone");
    examine(&redis.url(), &url(&named), &[]).assert_only("error mongodb.replica-set", "not initiated");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_user_from_mongodb_is_named() {
    let Some(binary) = redis::installed() else { return };
    let Some(own) = SecureMongod::start().await else { return };
    let redis = RedisServer::start(&binary, &[]).await;
    let url = |user: &str| own.replica_set_url(user, "mongod");
    let root = url("multivac:star%40light@");
    let servers = Servers::with(["--redis-url", &redis.url(), "--mongo-url", &root].map(str::to_owned).into()).await;
    let well = servers.doctor();
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());
    let admin = Client::with_uri_str(&root).await.unwrap().database("admin");
    for (name, role) in [("writer", "readWrite"), ("reader", "read")] {
        let roles = vec![doc! { "role": role, "db": "multivac" }];
        admin.run_command(doc! { "createUser": name, "pwd": "geheim", "roles": roles }).await.unwrap();
    }
    // What compose's user has is enough, though it may not see everything.
    let enough = examine(&redis.url(), &url("writer:geheim@"), &[]);
    assert_eq!(enough.ill(), [""; 0], "{}", enough.shown());
    assert_eq!(enough.with_status("skipped"), ["mongodb.majority", "mongodb.oplog"]);
    let found = examine(&redis.url(), &url("reader:geheim@"), &[]);
    found.assert_only(
        "error mongodb.rights",
        "insert on entropy, update on entropy, createIndex on entropy, insert on replicas",
    );
    // A role with all but what a kept index needs.
    let actions = ["find", "insert", "update", "changeStream", "createIndex"].map(str::to_owned).to_vec();
    let privileges = ["entropy", "replicas", "backups"]
        .map(|collection| doc! { "resource": { "db": "multivac", "collection": collection }, "actions": &actions });
    let role = doc! { "createRole": "narrow", "privileges": privileges.to_vec(), "roles": [] };
    admin.run_command(role).await.unwrap();
    admin.run_command(doc! { "createUser": "narrow", "pwd": "geheim", "roles": ["narrow"] }).await.unwrap();
    let found = examine(&redis.url(), &url("narrow:geheim@"), &[]);
    found.assert_only("warning mongodb.rights", "with --index-dir needs: find on indexes");
    examine(&redis.url(), &url(""), &[]).assert_only("error mongodb.rights", "MONGO_URL names none");
    let found = examine(&redis.url(), &url("multivac:moonlight@"), &[]);
    found.assert_only("error mongodb.reachable", "the user name or the password");
    let untrusted = own.replica_set_url("multivac:star%40light@", "unrelated");
    examine(&redis.url(), &untrusted, &[]).assert_only("error mongodb.reachable", "certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_are_named() {
    let (Some(binary), Some(mongod)) = (redis::installed(), mongo::installed()) else { return };
    let clock = Clock::new();
    let redis = RedisServer::start(&clock.under(&binary), &[]).await;
    let mongo = Mongod::start(&clock.under(&mongod), &["--replSet", "rs0"]);
    let members = vec![doc! { "_id": 0, "host": mongo.host() }];
    let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": members } };
    until("MongoDB is a replica set", async || mongo.admin(initiate.clone()).await.is_some()).await;
    let url = format!("mongodb://{}/multivac?replicaSet=rs0", mongo.host());
    until_ok("MongoDB has a primary", async || {
        let hello = mongo.admin(doc! { "hello": 1 }).await.ok_or(())?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) { Ok(()) } else { Err(()) }
    })
    .await;
    let servers = Servers::with(["--redis-url", &redis.url(), "--mongo-url", &url].map(str::to_owned).into()).await;
    assert_eq!(servers.doctor().ill(), [""; 0]);
    for (seconds, words) in [(60, "ahead of ours"), (-60, "behind ours")] {
        clock.set_ahead(seconds);
        let found = servers.doctor();
        assert_eq!(found.ill(), ["warning redis.clock", "warning mongodb.clock"], "{}", found.shown());
        for check in ["redis.clock", "mongodb.clock"] {
            assert!(found.found(check).ends_with(words), "{}", found.found(check));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lacks_a_node_is_named() {
    let Some(shared) = multivac_testkit::backends::SharedServers::find() else { return };
    let Some(mut cluster) = RedisCluster::start(redis::newer()).await else { return };
    let urls = cluster.urls().join(",");
    let flags = ["--redis-url", &urls, "--mongo-url", &shared.mongo_url, "--partitions", "6"];
    let servers = Servers::with(flags.map(str::to_owned).into()).await;
    let well = servers.doctor();
    assert_eq!(well.ill(), [""; 0], "{}", well.shown());
    assert!(well.found("redis.cluster").starts_with("state ok, 16384 of 16384"), "{}", well.found("redis.cluster"));
    // A replica first, so that nobody takes over from its master.
    for node in [3, 0] {
        cluster.nodes[node].kill();
    }
    until_ok("the Cluster has noticed", async || {
        let ill = servers.doctor().ill();
        if ill.iter().any(|ill| ill == "error redis.cluster" || ill == "error redis.reachable") {
            Ok(())
        } else {
            Err(ill)
        }
    })
    .await;
    shared.database().await.drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_secrets_are_for_few_and_settings_have_to_fit_together() {
    let Some(servers) = Servers::find(&[]).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis_url");
    std::fs::write(&file, &servers.flags[1]).unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let flags = [
        "--redis-url-file",
        file.to_str().unwrap(),
        "--mongo-url",
        &servers.flags[3],
        "--namespace",
        &servers.flags[5],
    ];
    mode(0o640);
    assert_eq!(doctor(program, &flags).ill(), [""; 0]);
    mode(0o644);
    doctor(program, &flags).assert_only("warning secrets", "everybody on this machine may read");
    mode(0o600);
    let lease = doctor(program, &[&flags[..], &["--lease", "5s"]].concat());
    lease.assert_only("warning settings", "--lease (5s) is not longer than --process-timeout (10s)");
    doctor(program, &[&flags[..], &["--lease", "1ms"]].concat()).assert_only("error settings", "at least 100ms");
    servers.clean_up().await;
}
