//! Who takes jobs: the consumers of the group in each partition's stream.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_redis::redis::{self, Value};
use uuid::Uuid;

use super::connection::{Connection, Pool};
use super::keys::{GROUP, Keys};
use crate::observe::metrics;
use crate::queue::{QueueConsumer, QueueError};

/// Between a consumer's own name and the version of its program.
const VERSION_MARK: char = '@';

/// A consumer that has been idle for longer, and holds nothing, is not shown: its process has ended, and Redis keeps its name
/// for a day.
const SHOWN_IDLE: Duration = Duration::from_secs(60);

/// A new name each time, so that no two processes are one consumer; with the version, so that others can tell it.
pub(super) fn new_name() -> String {
    format!("{}{VERSION_MARK}{}", Uuid::now_v7(), metrics::version())
}

/// A consumer of one partition, as Redis shows it.
pub(super) struct Consumer {
    name: String,
    pub(super) pending: u64,
    pub(super) idle: Duration,
}

impl Consumer {
    fn read(fields: &BTreeMap<String, Value>) -> Self {
        let number = |name| match fields.get(name) {
            Some(Value::Int(n)) => u64::try_from(*n).unwrap_or(0),
            _ => 0,
        };
        let name = match fields.get("name") {
            Some(Value::BulkString(name)) => String::from_utf8_lossy(name).into_owned(),
            Some(Value::SimpleString(name)) => name.clone(),
            _ => String::new(),
        };
        Self { name, pending: number("pending"), idle: Duration::from_millis(number("idle")) }
    }
}

/// Those of one partition; `None` where its group is missing.
pub(super) async fn of_partition(pool: &Pool, keys: &Keys) -> Result<Option<Vec<Consumer>>, QueueError> {
    let work = async |connection: &mut Connection| {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(keys.stream()).arg(GROUP);
        match command.query_async::<Vec<BTreeMap<String, Value>>>(connection).await {
            Err(error) if ["NOGROUP", "no such key"].iter().any(|text| error.to_string().contains(text)) => Ok(None),
            reply => reply.map(Some),
        }
    };
    let found = pool.call("show its consumers", Duration::ZERO, work).await?;
    Ok(found.map(|found| found.iter().map(Consumer::read).collect()))
}

/// One of several partitions is active where it is active in any. In the order of their names.
pub(super) fn across_partitions(found: impl IntoIterator<Item = Consumer>) -> Vec<QueueConsumer> {
    let mut by_name: BTreeMap<String, (Duration, u64)> = BTreeMap::new();
    // Failed attempts that wait for their next are held by nobody: see fail.lua.
    for Consumer { name, pending, idle } in found.into_iter().filter(|consumer| consumer.name != "nobody") {
        let (least, held) = by_name.entry(name).or_insert((idle, 0));
        *least = idle.min(*least);
        *held += pending;
    }
    by_name.retain(|_, (idle, held)| *idle <= SHOWN_IDLE || *held > 0);
    let consumer = |(name, (idle, _)): (String, (Duration, u64))| match name.split_once(VERSION_MARK) {
        Some((name, version)) => QueueConsumer { name: name.to_owned(), version: Some(version.to_owned()), idle },
        // Up to 0.1.0 the name alone.
        None => QueueConsumer { name, version: None, idle },
    };
    by_name.into_iter().map(consumer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, pending: u64, idle_s: u64) -> Consumer {
        Consumer { name: name.to_owned(), pending, idle: Duration::from_secs(idle_s) }
    }

    #[test]
    fn a_consumer_is_shown_once_until_it_is_silent_and_holds_nothing() {
        let found = [
            consumer("nobody", 3, 1),
            consumer("b@1.2.3", 0, 50),
            consumer("b@1.2.3", 0, 2),
            consumer("of 0.1.0", 0, 60),
            consumer("ended", 0, 61),
            consumer("died@1.2.3", 1, 3_600),
        ];
        let shown = across_partitions(found);
        let shown: Vec<_> = shown.iter().map(|c| (c.name.as_str(), c.version.as_deref(), c.idle.as_secs())).collect();
        assert_eq!(shown, [("b", Some("1.2.3"), 2), ("died", Some("1.2.3"), 3_600), ("of 0.1.0", None, 60)]);
    }
}
