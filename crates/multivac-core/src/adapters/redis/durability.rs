//! How durable an accepted job is: waiting for disks, taking back what did not reach them, and settings that lose data.

use std::time::Duration;

use deadpool_redis::redis::{self, RedisResult, ScriptInvocation, Value};
use tokio::time::Instant;

use super::connection::{Connection, Pool, is_script_missing};
use super::replies::{AcceptReply, RollbackReply};
use super::scripts::{AcceptCall, Scripts, millis};
use crate::queue::{Acceptance, Durability, QueueError};

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
    let (replies, durable) = match asked {
        Durability::Server => (scripts.accept(call).await?, true),
        Durability::Fsync => accept_and_wait(scripts, call, 0).await?,
        Durability::Replicated => accept_and_wait(scripts, call, 1).await?,
    };
    let acceptance = |reply: &AcceptReply| match reply {
        AcceptReply::Full => Acceptance::Full,
        AcceptReply::KeyOfOtherText => Acceptance::KeyOfOtherText,
        AcceptReply::Accepted if durable => Acceptance::Accepted,
        AcceptReply::AcceptedBefore(id) if durable => Acceptance::AcceptedBefore(*id),
        AcceptReply::Accepted | AcceptReply::AcceptedBefore(_) => Acceptance::NotDurable { rolled_back: false },
    };
    let mut acceptances: Vec<Acceptance> = replies.iter().map(acceptance).collect();
    if !durable {
        // What another call accepted before is that call's to roll back.
        let accepted = (0..replies.len()).filter(|&index| replies[index] == AcceptReply::Accepted).collect();
        rollback(scripts, call, accepted, &mut acceptances).await?;
    }
    Ok(acceptances)
}

/// Accepts jobs, and waits until they are on the disks of Redis and of so many replicas. Whether they were there in time.
async fn accept_and_wait(
    scripts: &Scripts,
    call: &AcceptCall<'_>,
    replicas: i64,
) -> Result<(Vec<AcceptReply>, bool), QueueError> {
    let script = scripts.prepare_accept(call);
    // In one pipeline, since WAITAOF waits for what its own connection has written.
    let mut both = redis::pipe();
    both.invoke_script(&script);
    both.cmd("WAITAOF").arg(1).arg(replicas).arg(millis(DURABLE_TIMEOUT));
    let work = async |connection: &mut Connection| run_and_wait(connection, &script, &both).await;
    let (replies, (local, at_replicas)) = scripts.pool().call("accept jobs durably", DURABLE_TIMEOUT, work).await?;
    Ok((AcceptReply::parse_all(&replies)?, local >= 1 && at_replicas >= replicas))
}

/// The replies of the script and of WAITAOF: how many disks, its own and those of replicas, had the jobs in time.
type ReplyAndDisks = (Vec<String>, (i64, i64));

async fn run_and_wait(
    connection: &mut Connection,
    script: &ScriptInvocation<'_>,
    both: &redis::Pipeline,
) -> RedisResult<ReplyAndDisks> {
    let mut reply = both.query_async::<ReplyAndDisks>(connection).await;
    if reply.as_ref().is_err_and(is_script_missing) {
        script.load_async(connection).await?;
        reply = both.query_async(connection).await;
    }
    match reply {
        // Somebody switched the append-only file off since the start. The jobs are accepted by then; the script is run
        // again for its reply, which it has kept.
        Err(error) if error.to_string().contains("WAITAOF") => Ok((script.invoke_async(connection).await?, (0, 0))),
        reply => reply,
    }
}

/// Takes accepted jobs off the queue again, where nobody has leased them yet. One that a worker has leased may be stored
/// at any moment, and then it is accepted after all; that is waited for.
///
/// `accepted` are the indexes of the jobs in the call, and in `acceptances`, where the outcome is written.
async fn rollback(
    scripts: &Scripts,
    call: &AcceptCall<'_>,
    mut accepted: Vec<usize>,
    acceptances: &mut [Acceptance],
) -> Result<(), QueueError> {
    let deadline = Instant::now() + STORED_TIMEOUT;
    while !accepted.is_empty() {
        let replies = match scripts.rollback(call, &accepted).await {
            // The rollback did not happen, but the jobs are accepted by now and may stay so.
            Err(QueueError::Unavailable { message, source }) => {
                return Err(QueueError::OutcomeUnknown { message, source });
            }
            replies => replies?,
        };
        let mut kept = Vec::new();
        for (index, reply) in accepted.into_iter().zip(replies) {
            acceptances[index] = match reply {
                RollbackReply::RolledBack => Acceptance::NotDurable { rolled_back: true },
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
        accepted = kept;
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
fn strings(reply: &Value) -> Vec<String> {
    match reply {
        Value::Array(values) | Value::Set(values) => values.iter().flat_map(strings).collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(name, value)| [strings(name), strings(value)].concat()).collect(),
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn is_at_least(version: &str, least: (u32, u32)) -> bool {
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
    fn strings_are_found_however_a_cluster_wraps_them() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let pair = || vec![bulk("appendonly"), bulk("yes")];
        let map = Value::Map(vec![(bulk("appendonly"), bulk("yes"))]);
        let nodes = Value::Map(vec![(bulk("a:1"), Value::Array(pair())), (bulk("b:1"), map)]);
        assert_eq!(strings(&nodes), ["a:1", "appendonly", "yes", "b:1", "appendonly", "yes"]);
        assert_eq!(strings(&Value::Nil), Vec::<String>::new());
    }
}
