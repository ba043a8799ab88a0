//! What `doctor` finds out about Redis, and about the queue in it.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, ConnectionAddr, IntoConnectionInfo, Value};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::connection::{Connection, Pool};
use super::durability::{is_at_least, strings};
use super::{RedisQueue, RedisSettings, consumers, rights};
use crate::adapters::findings::{self, Finding, LIMIT, QUEUE_CHECKS, Status};
use crate::queue::{Durability, Queue, QueueError, QueueSettings};

/// All of them, in their order; the first is what the others need.
const CHECKS: [&str; 10] = [
    "redis.reachable",
    "redis.version",
    "redis.role",
    "redis.persistence",
    "redis.eviction",
    "redis.memory",
    "redis.clock",
    "redis.rights",
    "redis.keys",
    "redis.group",
];

const CLUSTER: &str = "redis.cluster";

const NO_GROUP: &str = "there is none in partition";

const UNANSWERED: &str = "see Redis's log; then look again";

/// Examines Redis, for a queue with these settings. `bounds` are the data and the bytes that the queue may hold, where this
/// program says how much that is.
pub async fn examine(redis: RedisSettings, queue: QueueSettings, bounds: Option<(u64, u64)>) -> Vec<Finding> {
    let of_queue = match RedisQueue::new(redis.clone(), queue.clone()) {
        Ok(of_queue) => of_queue,
        Err(error) => return unreachable(Finding::error(CHECKS[0], error.to_string(), "mend REDIS_URL")),
    };
    let reachable = findings::in_time(CHECKS[0], reach(&redis, of_queue.pool())).await;
    if reachable.status == Status::Error {
        return unreachable(reachable);
    }
    let info = match tokio::time::timeout(LIMIT, Info::read(of_queue.pool())).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => return unreachable(Finding::error(CHECKS[0], error.to_string(), UNANSWERED)),
        Err(_) => return unreachable(Finding::error(CHECKS[0], "it no longer replies", UNANSWERED)),
    };
    let mut found = vec![
        reachable,
        version(&info, queue.durability),
        role(&info, queue.durability, redis.urls.len()),
        persistence(&info, queue.durability),
        eviction(&info),
        memory(&info, bounds),
    ];
    let pool = of_queue.pool();
    let (clock, rights, keys, cluster) = tokio::join!(
        findings::in_time(CHECKS[6], clock(pool)),
        findings::in_time(CHECKS[7], rights::rights(pool, of_queue.partitions.first(), queue.durability)),
        findings::in_time(CHECKS[8], keys(&of_queue)),
        findings::in_time(CLUSTER, cluster(pool)),
    );
    // A call of the ledger would make a group that is missing, so it is looked for before.
    let well = [&rights, &keys].iter().all(|finding| finding.status != Status::Error);
    let group = if well { findings::in_time(CHECKS[9], group(&of_queue, queue.lease)).await } else { after(CHECKS[9]) };
    let has_group = matches!(group.status, Status::Ok | Status::Warning) && !group.found.starts_with(NO_GROUP);
    found.extend([clock, rights, keys, group]);
    if let Pool::Cluster(_) = pool {
        found.push(cluster);
    }
    if !has_group {
        found.extend(QUEUE_CHECKS.map(after));
        return found;
    }
    let held = async { Ok::<_, QueueError>((of_queue.ledger().await?, of_queue.partitions().await?)) };
    match tokio::time::timeout(LIMIT, held).await {
        Ok(Ok((ledger, partitions))) => found.extend(findings::queue(&ledger, &partitions)),
        Ok(Err(error)) => found.push(Finding::failed(QUEUE_CHECKS[0], &error)),
        Err(_) => found.push(Finding::error(QUEUE_CHECKS[0], "no reply in time", UNANSWERED)),
    }
    found
}

/// Redis cannot be asked: this says why, and all else is skipped.
fn unreachable(finding: Finding) -> Vec<Finding> {
    let others = CHECKS[1..].iter().chain(&QUEUE_CHECKS);
    let skipped = others.map(|check| Finding::skipped(check, "Redis is out of reach"));
    std::iter::once(finding).chain(skipped).collect()
}

fn after(check: &'static str) -> Finding {
    Finding::skipped(check, "needs what another check has found missing")
}

async fn ask(pool: &Pool, what: &str, command: &Cmd) -> Result<Value, QueueError> {
    let work = async |connection: &mut Connection| command.query_async::<Value>(connection).await;
    pool.call(what, Duration::ZERO, work).await
}

/// Whether each URL leads to a server, and what keeps us from it: its name, its port, TLS, the password.
async fn reach(redis: &RedisSettings, pool: &Pool) -> Finding {
    let check = CHECKS[0];
    let (mut hosts, mut failures, mut tls) = (Vec::new(), Vec::new(), false);
    for url in &redis.urls {
        let Ok(node) = url.expose_secret().into_connection_info() else { continue };
        let (host, port) = match node.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            ConnectionAddr::TcpTls { host, port, .. } => {
                tls = true;
                (host.clone(), *port)
            }
            _ => continue,
        };
        hosts.push(format!("{host}:{port}"));
        failures.extend(findings::connect(&host, port).await.err());
    }
    if !failures.is_empty() && failures.len() == hosts.len() {
        let advice = "start Redis, or mend the host and the port in REDIS_URL, or the network between";
        return Finding::error(check, failures.join("; "), advice);
    }
    let begun = Instant::now();
    if let Err(error) = ask(pool, "reply", &redis::cmd("PING")).await {
        let QueueError::Misconfigured(message) = error else {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let seconds = begun.elapsed().as_secs();
            // rustls's errors name no secret; other causes are not shown.
            let (found, advice) = if tls && cause.contains("ertificate") {
                (format!("TLS fails: {cause}"), "REDIS_CA_FILE names who signed the server's certificate (PEM)")
            } else if tls && seconds == 0 {
                (format!("TLS fails: {error}"), "is this the port for TLS?")
            } else {
                (format!("it connects and is out of reach after {seconds} s: {error}"), "it hangs, or is no Redis")
            };
            return Finding::error(check, found, advice);
        };
        return Finding::error(check, message, "mend REDIS_URL, or the user in Redis (docs/redis.md)");
    }
    // On a connection that is there.
    let begun = Instant::now();
    let again = ask(pool, "reply", &redis::cmd("PING")).await;
    let found = format!("{}, a round trip takes {:.1} ms", hosts.join(", "), begun.elapsed().as_secs_f64() * 1e3);
    match again {
        _ if !failures.is_empty() => {
            Finding::warning(check, failures.join("; "), "some of the nodes in REDIS_URL are away")
        }
        Err(error) => Finding::failed(check, &error),
        Ok(_) if begun.elapsed() > Duration::from_millis(100) => {
            Finding::warning(check, found, "every accepted datum waits for it: is the network slow, or Redis busy?")
        }
        Ok(_) => Finding::ok(check, found),
    }
}

/// What Redis says of itself and of its settings; of a Cluster, each node's.
struct Info(BTreeMap<String, Vec<String>>);

impl Info {
    async fn read(pool: &Pool) -> Result<Self, QueueError> {
        let mut values = BTreeMap::<String, Vec<String>>::new();
        let info = ask(pool, "tell its state", &redis::cmd("INFO")).await?;
        for line in strings(&info).iter().flat_map(|text| text.lines()) {
            if let Some((name, value)) = line.trim().split_once(':') {
                values.entry(name.to_owned()).or_default().push(value.to_owned());
            }
        }
        for name in ["appendfsync", "min-replicas-to-write", "stop-writes-on-bgsave-error"] {
            let mut command = redis::cmd("CONFIG");
            // Without that right they are not known.
            if let Ok(reply) = ask(pool, "show its settings", command.arg("GET").arg(name)).await {
                let pairs = strings(&reply);
                let shown = pairs.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect();
                values.insert(name.to_owned(), shown);
            }
        }
        Ok(Self(values))
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn first(&self, name: &str) -> &str {
        self.all(name).first().map_or("", String::as_str)
    }

    fn any(&self, name: &str, value: &str) -> bool {
        self.all(name).iter().any(|shown| shown == value)
    }

    fn number(&self, name: &str) -> u64 {
        self.first(name).parse().unwrap_or(0)
    }
}

fn version(info: &Info, asked: Durability) -> Finding {
    let (check, versions) = (CHECKS[1], info.all("redis_version"));
    let shown = versions.first().map_or("unknown", String::as_str);
    let older = |least| versions.iter().any(|version| !is_at_least(version, least));
    if older((6, 2)) {
        return Finding::error(check, format!("{shown} is too old"), "install Redis 6.2 or newer");
    }
    if asked > Durability::Server && older((7, 2)) {
        let found = format!("{shown} cannot keep --durability {} (WAITAOF)", asked.as_str());
        return Finding::error(check, found, "install Redis 7.2 or newer, or ask for less with --durability server");
    }
    Finding::ok(check, shown)
}

fn role(info: &Info, asked: Durability, nodes: usize) -> Finding {
    let (check, replicas) = (CHECKS[2], info.number("connected_slaves"));
    if nodes == 1 && info.any("role", "slave") {
        let found = format!("a replica (of {}:{})", info.first("master_host"), info.first("master_port"));
        return Finding::error(check, found, "REDIS_URL has to name the master, which takes writes");
    }
    let found = format!("a master with {replicas} replicas");
    let needed = info.number("min-replicas-to-write").max(u64::from(asked == Durability::Replicated));
    if nodes == 1 && replicas < needed {
        let advice =
            "start the replicas, or ask for fewer (--durability, min-replicas-to-write): nothing is accepted now";
        return Finding::error(check, format!("{found}, and {needed} are needed"), advice);
    }
    Finding::ok(check, found)
}

fn persistence(info: &Info, asked: Durability) -> Finding {
    let check = CHECKS[3];
    if info.any("loading", "1") {
        return Finding::error(check, "it is loading its files", "wait; INFO persistence shows how far it is");
    }
    if info.any("aof_last_write_status", "err") {
        return Finding::error(
            check,
            "the append-only file cannot be written",
            "make room on Redis's disk, or mend it",
        );
    }
    let refuses = !info.any("stop-writes-on-bgsave-error", "no");
    if info.any("rdb_last_bgsave_status", "err") && refuses {
        let advice = "make room on Redis's disk; BGSAVE tries again. Until then Redis refuses writes";
        return Finding::error(check, "the last snapshot failed", advice);
    }
    if info.any("aof_enabled", "0") {
        let advice = "CONFIG SET appendonly yes, and in redis.conf";
        let found = "it writes no append-only file: accepted data are lost when it restarts";
        return match asked {
            Durability::Server => Finding::warning(check, found, advice),
            _ => Finding::error(check, found, advice),
        };
    }
    if info.any("aof_last_bgrewrite_status", "err") {
        let advice = "make room on Redis's disk; BGREWRITEAOF tries again. Until then the file grows";
        return Finding::warning(check, "the last rewriting of the append-only file failed", advice);
    }
    let fsync = match info.first("appendfsync") {
        "" => "not shown to this user",
        fsync => fsync,
    };
    let found = format!("append-only file, appendfsync {fsync}");
    match fsync {
        "no" => Finding::warning(check, found, "set appendfsync to always or everysec: a power cut loses some 30 s"),
        "everysec" if asked > Durability::Server => {
            let advice = "set appendfsync to always: with --durability each datum waits for up to a second else";
            Finding::warning(check, found, advice)
        }
        _ => Finding::ok(check, found),
    }
}

fn eviction(info: &Info) -> Finding {
    let (check, policies) = (CHECKS[4], info.all("maxmemory_policy"));
    match policies.iter().find(|policy| *policy != "noeviction") {
        None => Finding::ok(check, "noeviction"),
        Some(policy) => {
            let advice = "CONFIG SET maxmemory-policy noeviction, and in redis.conf";
            Finding::warning(check, format!("{policy}: accepted data are deleted when its memory is full"), advice)
        }
    }
}

fn memory(info: &Info, bounds: Option<(u64, u64)>) -> Finding {
    let check = CHECKS[5];
    let size = |bytes| bytesize::ByteSize(bytes).to_string();
    let nodes = info.all("used_memory").iter().zip(info.all("maxmemory"));
    let nodes = nodes.map(|(used, max)| (used.parse().unwrap_or(0), max.parse().unwrap_or(0)));
    let nodes: Vec<(u64, u64)> = nodes.collect();
    // The fullest; one without a limit is never full.
    let fullest = nodes.iter().max_by_key(|(used, max)| used.saturating_mul(100).checked_div(*max).unwrap_or(0));
    let Some(&(used, max)) = fullest else { return Finding::skipped(check, "Redis does not show it") };
    if max == 0 {
        return Finding::ok(check, format!("{} used, no maxmemory", size(used)));
    }
    let found = format!("{} of maxmemory {} used", size(used), size(max));
    let advice = "raise maxmemory, let workers drain the queue, or bound it (--max-queued, --max-queued-bytes)";
    if used >= max {
        return Finding::error(check, format!("{found}: nothing is accepted"), advice);
    }
    if used > max / 10 * 9 {
        return Finding::warning(check, found, advice);
    }
    // docs/redis.md says where these come from.
    let needed =
        bounds.map_or(0, |(data, bytes)| bytes.saturating_add(bytes / 4).saturating_add(data.saturating_mul(300)));
    if nodes.len() == 1 && needed > max {
        let found = format!("{found}; a queue at its bounds needs {}", size(needed));
        return Finding::warning(check, found, advice);
    }
    Finding::ok(check, found)
}

async fn clock(pool: &Pool) -> Finding {
    let before = findings::now_ms();
    let work = async |connection: &mut Connection| redis::cmd("TIME").query_async::<(i64, i64)>(connection).await;
    match pool.call("tell the time", Duration::ZERO, work).await {
        Ok((seconds, micros)) => {
            findings::clock(CHECKS[6], [before, seconds * 1000 + micros / 1000, findings::now_ms()])
        }
        Err(error) => Finding::failed(CHECKS[6], &error),
    }
}

/// Whether the keys have their types.
async fn keys(queue: &RedisQueue) -> Finding {
    let check = CHECKS[8];
    let mut wrong = Vec::new();
    for keys in queue.partitions.all() {
        for (key, expected) in keys.of_partition().iter().zip(["stream", "hash", "hash", "stream", "list"]) {
            let found = match ask(queue.pool(), "tell a key's type", redis::cmd("TYPE").arg(key)).await {
                Ok(found) => strings(&found).concat(),
                // A right that is missing is another check's.
                Err(QueueError::Misconfigured(why)) => return Finding::skipped(check, why),
                Err(error) => return Finding::failed(check, &error),
            };
            if found != expected && found != "none" {
                wrong.push(format!("{key} is a {found}, expected a {expected}"));
            }
        }
    }
    match &wrong[..] {
        [] => Finding::ok(check, format!("those of {} partition(s) have their types", queue.partitions.all().len())),
        _ => Finding::error(check, wrong.join("; "), "somebody else wrote to this namespace: rename or delete the key"),
    }
}

/// Whether each partition's stream has its group, and who leases from it.
async fn group(queue: &RedisQueue, lease: Duration) -> Finding {
    let check = CHECKS[9];
    let (mut all, mut active, mut orphaned, mut missing) = (0, 0, 0, Vec::new());
    for keys in queue.partitions.all() {
        let found = match consumers::of_partition(queue.pool(), keys).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                missing.push(keys.partition().to_string());
                continue;
            }
            Err(error) => return Finding::failed(check, &error),
        };
        for consumer in found {
            all += 1;
            active += u64::from(consumer.idle < lease);
            // Its leases have run out, and whoever comes next takes them over.
            orphaned += if consumer.idle > 2 * lease { consumer.pending } else { 0 };
        }
    }
    if !missing.is_empty() {
        let found = format!("{NO_GROUP} {}", missing.join(", "));
        let advice =
            "the next program that starts makes it; if one runs, somebody deleted it, or Redis came back empty";
        return Finding::warning(check, found, advice);
    }
    let found = format!("{all} consumers, {active} of them active");
    if orphaned == 0 {
        return Finding::ok(check, found);
    }
    let found = format!("{found}; {orphaned} leases have run out and nobody takes the jobs over");
    Finding::warning(check, found, "start multivac-worker")
}

/// Whether every slot of a Cluster is served, and so those of all partitions.
async fn cluster(pool: &Pool) -> Finding {
    let Pool::Cluster(_) = pool else { return Finding::skipped(CLUSTER, "one node") };
    let reply = match ask(pool, "tell the Cluster's state", redis::cmd("CLUSTER").arg("INFO")).await {
        Ok(reply) => reply,
        Err(error) => return Finding::failed(CLUSTER, &error),
    };
    let text = strings(&reply).join("\n");
    let value = |name| text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or("unknown");
    let (state, slots, nodes) = (value("cluster_state:"), value("cluster_slots_ok:"), value("cluster_known_nodes:"));
    let found = format!("state {state}, {slots} of 16384 slots served, {nodes} nodes");
    if state == "ok" && slots == "16384" {
        return Finding::ok(CLUSTER, found);
    }
    Finding::error(CLUSTER, found, "start the nodes that are away; CLUSTER NODES shows them")
}

#[cfg(test)]
#[path = "examine_tests.rs"]
mod tests;
