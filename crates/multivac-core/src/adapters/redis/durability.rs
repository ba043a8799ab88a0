//! How durable an accepted job is: waiting for disks, taking back what did not reach them, and settings that lose data.

use std::time::Duration;

use deadpool_redis::redis::{self, RedisError, RedisResult, ScriptInvocation, Value};
use tokio::time::Instant;
use tracing::warn;

use super::clock::{Late, TRIES, always_late};
use super::connection::{Connection, Pool, is_script_missing};
use super::replies::{AcceptReply, Replicas, RollbackReply};
use super::scripts::{AcceptCall, Scripts, millis};
use crate::queue::{Acceptance, Durability, QueueError, ServerMemory};

/// How long Redis may take to write a job to its disk, and to send it to a replica that does the same. With `appendfsync
/// everysec` it writes once a second.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a worker that has leased a job which did not become durable may take to store it.
const STORED_TIMEOUT: Duration = Duration::from_secs(2);

/// How often such a job is looked at meanwhile.
const ROLLBACK_INTERVAL: Duration = Duration::from_millis(50);

/// Puts jobs on the stream, and says what became of each, in their order, once it is as durable as was asked or the time
/// for that is up.
pub(super) async fn accept(
    scripts: &Scripts,
    asked: Durability,
    call: &AcceptCall<'_>,
) -> Result<Vec<Acceptance>, QueueError> {
    let replicas = match asked {
        Durability::Server => {
            return Ok(acceptances(&scripts.accept(call).await?, true));
        }
        Durability::Fsync => 0,
        Durability::Replicated => 1,
    };
    let written = accept_and_wait(scripts, call, replicas).await?;
    // From here on the jobs may be there, whatever the error.
    let replies = AcceptReply::parse_all(&written.replies).map_err(QueueError::into_unknown)?;
    let durable = written.local && written.disks >= replicas;
    let mut acceptances = acceptances(&replies, durable);
    if !durable {
        // What another call accepted before is that call's to roll back.
        let accepted = (0..replies.len()).filter(|&index| replies[index] == AcceptReply::Accepted).collect();
        rollback(scripts, call, &written, accepted, &mut acceptances).await.map_err(QueueError::into_unknown)?;
    }
    Ok(acceptances)
}

fn acceptances(replies: &[AcceptReply], durable: bool) -> Vec<Acceptance> {
    let acceptance = |reply: &AcceptReply| match reply {
        AcceptReply::Full => Acceptance::Full,
        AcceptReply::KeyOfOtherText => Acceptance::KeyOfOtherText,
        AcceptReply::Accepted if durable => Acceptance::Accepted,
        AcceptReply::AcceptedBefore(id) if durable => Acceptance::AcceptedBefore(*id),
        // The call that rolled it back got no reply, so nobody waited until the rollback was durable.
        AcceptReply::Accepted | AcceptReply::AcceptedBefore(_) | AcceptReply::RolledBack => {
            Acceptance::NotDurable { rolled_back: false }
        }
    };
    replies.iter().map(acceptance).collect()
}

/// What a script replied that wrote, and on how many disks that was in time.
struct Written {
    replies: String,
    /// Who could have got it; `None` where that is not known.
    replicas: Option<Replicas>,
    /// Redis writes an append-only file.
    has_file: bool,
    /// It is on Redis's own disk.
    local: bool,
    /// On the disks of so many replicas.
    disks: i64,
}

/// Accepts jobs, and waits until they are on the disks of Redis and of so many replicas.
async fn accept_and_wait(scripts: &Scripts, call: &AcceptCall<'_>, replicas: i64) -> Result<Written, QueueError> {
    for _ in 0..TRIES {
        // The replicas before the jobs are written, so that none who gets them is missing.
        let (before, accept) = (scripts.prepare_replicas(call), scripts.prepare_accept(call));
        let work = async |connection: &mut Connection| run_and_wait(connection, &before, &accept, (1, replicas)).await;
        match scripts.pool().call("accept jobs durably", DURABLE_TIMEOUT, work).await? {
            Ok(mut written) => {
                // When the call was executed before, others may have been connected then.
                written.replicas = written.replicas.filter(|replicas| !replicas.known_before);
                return Ok(written);
            }
            Err(late) => scripts.set_clock(call.keys, late),
        }
    }
    Err(always_late())
}

/// Takes jobs off the stream again, and waits until that is as durable as the jobs themselves can be. The replies, and
/// whether it is.
async fn rollback_and_wait(
    scripts: &Scripts,
    call: &AcceptCall<'_>,
    accepted: &Written,
    indexes: &[usize],
) -> Result<(Vec<RollbackReply>, bool), QueueError> {
    // All that were connected may have the jobs, whether they have said so or not.
    let connected = accepted.replicas.as_ref().map_or(0, |replicas| replicas.connected);
    let disks = (i64::from(accepted.has_file), connected);
    for _ in 0..TRIES {
        let (rollback, after) = (scripts.prepare_rollback(call, indexes), scripts.prepare_replicas(call));
        let work = async |connection: &mut Connection| match run_and_wait(connection, &after, &rollback, disks).await? {
            Ok(written) => Ok(Ok((written, after.invoke_async::<Vec<String>>(connection).await?))),
            Err(late) => Ok(Err(late)),
        };
        match scripts.pool().call("roll back jobs", DURABLE_TIMEOUT, work).await? {
            Ok((written, now)) => {
                // Whoever was connected anew meanwhile may have got the jobs and not the rollback.
                let both = accepted.replicas.as_ref().zip(Replicas::parse(&now));
                let no_others = both.is_some_and(|(before, now)| before.no_others_until(&now));
                let on_disks = (written.local || !accepted.has_file) && written.disks >= connected;
                return Ok((RollbackReply::parse_all(&written.replies)?, no_others && on_disks));
            }
            Err(late) => scripts.set_clock(call.keys, late),
        }
    }
    Err(always_late())
}

/// Looks at the replicas, runs a script that writes, and waits until that is on so many disks, Redis's own (0 or 1) and those
/// of replicas.
///
/// An error is that of the script, which has done nothing then.
async fn run_and_wait(
    connection: &mut Connection,
    replicas: &ScriptInvocation<'_>,
    script: &ScriptInvocation<'_>,
    (local, disks): (i64, i64),
) -> RedisResult<Result<Written, Late>> {
    type Replies = (RedisResult<Vec<String>>, RedisResult<String>, RedisResult<(i64, i64)>);
    // In one pipeline, since WAITAOF waits for what its own connection has written.
    let mut all = redis::pipe();
    all.ignore_errors().invoke_script(replicas).invoke_script(script);
    all.cmd("WAITAOF").arg(local).arg(disks).arg(millis(DURABLE_TIMEOUT));
    let mut reply = all.query_async::<Replies>(connection).await?;
    if [reply.0.as_ref().err(), reply.1.as_ref().err()].into_iter().flatten().any(is_script_missing) {
        replicas.load_async(connection).await?;
        script.load_async(connection).await?;
        reply = all.query_async(connection).await?;
    }
    let (replicas, replies, disks) = reply;
    let replies = match replies {
        Ok(replies) => replies,
        Err(error) => return Late::read(&error).map(Err).ok_or(error),
    };
    // Somebody has switched the append-only file off since the start, or Redis has become a replica.
    let has_file = disks.as_ref().err().and_then(RedisError::detail).is_none_or(|text| !text.contains("appendonly"));
    if let Err(error) = &disks
        && has_file
    {
        warn!(%error, "Redis cannot say what has reached the disks");
    }
    let (local, disks) = disks.unwrap_or_default();
    let replicas = replicas.ok().as_deref().and_then(Replicas::parse);
    Ok(Ok(Written { replies, replicas, has_file, local: local > 0, disks }))
}

/// Takes accepted jobs off the queue again, where nobody has leased them yet. One that a worker has leased may be stored
/// at any moment, and then it is accepted after all; that is waited for.
///
/// `indexes` are those of the jobs in the call, and in `acceptances`, where the outcome is written.
async fn rollback(
    scripts: &Scripts,
    call: &AcceptCall<'_>,
    accepted: &Written,
    mut indexes: Vec<usize>,
    acceptances: &mut [Acceptance],
) -> Result<(), QueueError> {
    let deadline = Instant::now() + STORED_TIMEOUT;
    while !indexes.is_empty() {
        let (replies, durable) = rollback_and_wait(scripts, call, accepted, &indexes).await?;
        let mut kept = Vec::new();
        for (index, reply) in indexes.into_iter().zip(replies) {
            acceptances[index] = match reply {
                RollbackReply::RolledBack => Acceptance::NotDurable { rolled_back: durable },
                RollbackReply::Finished => Acceptance::Stored,
                // This is another Redis than the one that accepted the job, as after a failover. The same call made
                // again gets the reply that was kept of it, if there is one by then, and is accepted anew if not.
                RollbackReply::Unknown => {
                    let message = "Redis knows nothing of a job that it has just accepted".to_owned();
                    return Err(QueueError::OutcomeUnknown { message, source: None });
                }
                RollbackReply::Kept => {
                    kept.push(index);
                    Acceptance::NotDurable { rolled_back: false }
                }
            };
        }
        if kept.is_empty() || Instant::now() >= deadline {
            break;
        }
        indexes = kept;
        tokio::time::sleep(ROLLBACK_INTERVAL).await;
    }
    Ok(())
}

/// Refuses a Redis that is too old, or that cannot make jobs as durable as is asked.
///
/// # Errors
/// [`QueueError::Misconfigured`] says what is needed.
pub(super) async fn check(pool: &Pool, asked: Durability) -> Result<(), QueueError> {
    let ask =
        async |connection: &mut Connection| redis::cmd("INFO").arg("server").query_async::<Value>(connection).await;
    let info = pool.call("say its version", Duration::ZERO, ask).await?;
    for version in strings(&info).iter().flat_map(|text| text.lines()).filter_map(|l| l.strip_prefix("redis_version:"))
    {
        // Since 6.2 XPENDING takes a minimum of idle time, and ranges may exclude their ends.
        if !is_at_least(version, (6, 2)) {
            return Err(QueueError::Misconfigured(format!("Redis {version} is too old: expected 6.2 or newer")));
        }
        if asked > Durability::Server && !is_at_least(version, (7, 2)) {
            return Err(QueueError::Misconfigured(format!(
                "durability {} needs Redis 7.2 or newer (WAITAOF); this is {version}",
                asked.as_str()
            )));
        }
    }
    if asked > Durability::Server
        && let Some(values) = setting(pool, "appendonly").await
        && values.iter().any(|value| value != "yes")
    {
        return Err(QueueError::Misconfigured(format!(
            "durability {} needs an append-only file: set appendonly to yes in Redis",
            asked.as_str()
        )));
    }
    if asked > Durability::Server {
        let ask = async |connection: &mut Connection| {
            redis::cmd("WAITAOF").arg(0).arg(0).arg(1).query_async::<Value>(connection).await
        };
        // Only what waiting does not mend: a right that is missing, a command that was renamed.
        if let Err(error @ QueueError::Misconfigured(_)) =
            pool.call("wait for the disk (WAITAOF)", Duration::ZERO, ask).await
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Names the settings under which Redis could lose what it holds.
pub(super) async fn warnings(pool: &Pool) -> Vec<String> {
    let mut warnings = Vec::new();
    match setting(pool, "maxmemory-policy").await {
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
    match setting(pool, "appendonly").await {
        None => warnings.push(
            "Redis does not show whether it writes an append-only file: make sure that appendonly is yes, or accepted \
             data can be lost when it restarts"
                .to_owned(),
        ),
        Some(values) if values.iter().any(|value| value != "yes") => warnings.push(
            "Redis writes no append-only file, so accepted data are lost when it restarts: set appendonly to yes"
                .to_owned(),
        ),
        Some(_) => {}
    }
    warnings
}

/// The memory of Redis; of a Cluster, that of the node with the least room.
pub(super) async fn memory(pool: &Pool) -> Result<Option<ServerMemory>, QueueError> {
    let ask =
        async |connection: &mut Connection| redis::cmd("INFO").arg("memory").query_async::<Value>(connection).await;
    let info = pool.call("say how much memory it uses", Duration::ZERO, ask).await?;
    Ok(strings(&info).iter().filter_map(|text| memory_in(text)).min_by_key(room))
}

fn memory_in(info: &str) -> Option<ServerMemory> {
    let number = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
    Some(ServerMemory { used_bytes: number("used_memory")?, max_bytes: number("maxmemory").filter(|max| *max > 0) })
}

fn room(memory: &ServerMemory) -> u64 {
    memory.max_bytes.map_or(u64::MAX, |max| max.saturating_sub(memory.used_bytes))
}

/// The values of a setting, one from each node; `None` where Redis does not show it, as to a user without that right.
async fn setting(pool: &Pool, name: &str) -> Option<Vec<String>> {
    let ask = async |connection: &mut Connection| {
        redis::cmd("CONFIG").arg("GET").arg(name).query_async::<Value>(connection).await
    };
    let reply = pool.call("show its settings", Duration::ZERO, ask).await.ok()?;
    let strings = strings(&reply);
    let values: Vec<String> = strings.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect();
    (!values.is_empty()).then_some(values)
}

/// Every string in a reply, in its order. A Cluster wraps the replies of its nodes in maps or arrays, depending on the
/// command and the protocol's version.
pub(super) fn strings(reply: &Value) -> Vec<String> {
    match reply {
        Value::Array(values) | Value::Set(values) => values.iter().flat_map(strings).collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(name, value)| [strings(name), strings(value)].concat()).collect(),
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        _ => Vec::new(),
    }
}

pub(super) fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
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
    fn memory_is_read_and_no_limit_is_none() {
        let info = "# Memory\r\nused_memory:1048576\r\nused_memory_human:1.00M\r\nmaxmemory:4194304\r\n";
        assert_eq!(memory_in(info), Some(ServerMemory { used_bytes: 1 << 20, max_bytes: Some(4 << 20) }));
        assert_eq!(memory_in("used_memory:7\r\nmaxmemory:0"), Some(ServerMemory { used_bytes: 7, max_bytes: None }));
        assert_eq!(memory_in("a node's address"), None);
    }

    #[test]
    fn strings_are_found_however_a_cluster_wraps_them() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let pair = || vec![bulk("appendonly"), bulk("yes")];
        let map = Value::Map(vec![(bulk("appendonly"), bulk("yes"))]);
        let nodes = Value::Map(vec![(bulk("a:1"), Value::Array(pair())), (bulk("b:1"), map)]);
        assert_eq!(strings(&nodes), ["a:1", "appendonly", "yes", "b:1", "appendonly", "yes"]);
        assert_eq!(strings(&Value::Nil), Vec::<String>::new());
    }
}
