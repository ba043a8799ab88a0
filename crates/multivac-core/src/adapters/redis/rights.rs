//! Whether the user may do all that the queue needs. Redis 7 could be asked (`ACL DRYRUN`), but that takes a right that no
//! application has; so everything is tried where it changes nothing.

use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, Script, Value};

use super::connection::{Connection, Pool};
use super::keys::Keys;
use crate::adapters::findings::Finding;
use crate::datum::DatumId;
use crate::queue::{Durability, QueueError};

const CHECK: &str = "redis.rights";
const SCRIPT: &str = include_str!("lua/rights.lua");
const ADVICE: &str =
    "give the user in Redis's URL the rights that docs/redis.md lists (ACL SETUSER, or deploy/redis/rights)";

/// What of it is not allowed, or not there.
pub(super) async fn rights(pool: &Pool, keys: &Keys, asked: Durability) -> Finding {
    // The name that the key for a reply would have, of a call that nobody made.
    let key = keys.accepted(DatumId::generate());
    let mut missing = Vec::new();
    for command in commands(&key, asked) {
        match ask(pool, &command.1).await {
            Err(QueueError::Misconfigured(_)) => missing.push(command.0.to_owned()),
            Err(error @ QueueError::Unavailable { .. }) if is_out_of_reach(&error) => {
                return Finding::failed(CHECK, &error);
            }
            _ => {}
        }
    }
    let script = Script::new(SCRIPT);
    let work = async |connection: &mut Connection| script.key(&key).invoke_async::<Vec<String>>(connection).await;
    let failed = match pool.call("try what the scripts do", Duration::ZERO, work).await {
        Ok(failed) => failed,
        Err(QueueError::Misconfigured(_))
            if ["blpop", "hget", "xrange"].iter().all(|name| missing.contains(&(*name).to_owned())) =>
        {
            return Finding::error(CHECK, format!("the user may not use keys such as {key}"), ADVICE);
        }
        Err(QueueError::Misconfigured(_)) => {
            missing.push("evalsha".to_owned());
            Vec::new()
        }
        Err(error) => return Finding::failed(CHECK, &error),
    };
    let is_refusal = |text: &str| {
        ["NOPERM", "ACL failure", "can't run this command", "no permissions", "nknown command", "nknown Redis command"]
            .iter()
            .any(|refusal| text.contains(refusal))
    };
    if let [command, error] = &failed[..]
        && command == "DEL"
        && !is_refusal(error)
    {
        return Finding::skipped(CHECK, format!("Redis takes no writes now, so they cannot be tried: {error}"));
    }
    let refused = failed.chunks_exact(2).filter(|failed| is_refusal(&failed[1]));
    missing.extend(refused.map(|failed| failed[0].to_lowercase()));
    missing.dedup();
    match &missing[..] {
        [] => Finding::ok(CHECK, "all that the queue needs"),
        // Documented as one that may be missing.
        [one] if one == "config|get" => {
            Finding::warning(CHECK, "all but config|get, so Redis's settings are not watched", ADVICE)
        }
        _ => Finding::error(CHECK, format!("these are missing: {}", missing.join(", ")), ADVICE),
    }
}

/// What is used outside scripts, by the names of the rights. Each fails, or finds nothing, on a key that nobody has.
fn commands(key: &str, asked: Durability) -> Vec<(&'static str, Cmd)> {
    let command = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
    };
    let mut commands = vec![
        ("ping", command(&["PING"])),
        ("config|get", command(&["CONFIG", "GET", "appendonly"])),
        ("script|load", command(&["SCRIPT", "LOAD", SCRIPT])),
        ("blpop", command(&["BLPOP", key, "0.001"])),
        ("hget", command(&["HGET", key, "field"])),
        ("xrange", command(&["XRANGE", key, "-", "+"])),
        ("xpending", command(&["XPENDING", key, "none"])),
        // Without MKSTREAM it makes no stream.
        ("xgroup|create", command(&["XGROUP", "CREATE", key, "none", "0"])),
    ];
    if asked > Durability::Server {
        commands.push(("waitaof", command(&["WAITAOF", "0", "0", "1"])));
    }
    commands
}

async fn ask(pool: &Pool, command: &Cmd) -> Result<Value, QueueError> {
    let work = async |connection: &mut Connection| command.query_async::<Value>(connection).await;
    pool.call("do what the queue needs", Duration::ZERO, work).await
}

/// Whether there was no connection. A reply of Redis's own that is an error is what is expected of most.
fn is_out_of_reach(error: &QueueError) -> bool {
    matches!(error, QueueError::Unavailable { source: None, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_every_script_is_tried() {
        let lua = concat!(env!("CARGO_MANIFEST_DIR"), "/src/adapters/redis/lua");
        let mut names = 0;
        for file in std::fs::read_dir(lua).expect("the scripts") {
            let script = std::fs::read_to_string(file.expect("a file").path()).expect("text");
            for call in script.split("call('").skip(1) {
                let name = call.split('\'').next().expect("a name");
                assert!(SCRIPT.contains(&format!("try('{name}'")), "{name} is not tried");
                names += 1;
            }
        }
        assert!(names > 50, "{names}");
    }
}
