//! What `doctor` finds out about MongoDB, and about the documents in it.

use std::time::Duration;

use futures_util::future::join_all;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use secrecy::SecretString;
use tokio::time::Instant;

use super::member::{COMMAND_LIMIT, Member, found, number, why};
use super::url::MongoUrl;
use super::{MongoStore, NO_REPLICA_SET, documents, rights};
use crate::adapters::findings::{self, Finding, LIMIT, Status};
use crate::store::Disk;
use crate::store::{Store, StoreError};

/// All of them, in their order; the first is what the others need.
const CHECKS: [&str; 11] = [
    "mongodb.reachable",
    "mongodb.version",
    "mongodb.replica-set",
    "mongodb.majority",
    "mongodb.writes",
    "mongodb.oplog",
    "mongodb.rights",
    "mongodb.documents",
    "mongodb.replicas",
    "mongodb.clock",
    "mongodb.disk",
];

/// A member that has been away for longer than the oplog reaches back has to copy everything, and so has the index of an api.
const SHORT_OPLOG: Duration = Duration::from_secs(60 * 60);

/// After how long a replica that says nothing new is silent, and how far behind it may be.
const SILENT: Duration = Duration::from_secs(10);

/// Examines MongoDB. `process` is as for [`MongoStore::new`].
pub async fn examine(url: &SecretString, process: fn(&str) -> Vec<String>) -> Vec<Finding> {
    let advice = "mend MONGO_URL";
    let parsed = match MongoUrl::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return unreachable(Finding::error(CHECKS[0], error.to_string(), advice)),
    };
    let options = match tokio::time::timeout(LIMIT, parsed.options()).await {
        Ok(Ok(options)) => options,
        Ok(Err(error)) => return unreachable(Finding::error(CHECKS[0], error.to_string(), advice)),
        Err(_) => return unreachable(Finding::error(CHECKS[0], "DNS does not reply", "is DNS well?")),
    };
    let (reachable, member) = reach(&options).await;
    let Some(member) = member else { return unreachable(reachable) };
    let set = member.replica_set(&options);
    let (majority, writes, oplog) = if set.status == Status::Error {
        let skip = |check| Finding::skipped(check, "it is not the replica set that is needed");
        (skip(CHECKS[3]), skip(CHECKS[4]), skip(CHECKS[5]))
    } else {
        tokio::join!(
            findings::in_time(CHECKS[3], member.majority()),
            findings::in_time(CHECKS[4], writes(&member, url, process)),
            findings::in_time(CHECKS[5], member.oplog()),
        )
    };
    // A member that is in no set yet reads nothing.
    let of_rights = findings::in_time(CHECKS[6], rights::rights(&member)).await;
    let (documents, replicas, disk) = if member.is_in_no_set() {
        let skip = |check| Finding::skipped(check, "the replica set is not initiated");
        (skip(CHECKS[7]), skip(CHECKS[8]), skip(CHECKS[10]))
    } else {
        tokio::join!(
            findings::in_time(CHECKS[7], member.documents()),
            findings::in_time(CHECKS[8], member.replicas()),
            findings::in_time(CHECKS[10], member.disk()),
        )
    };
    let (version, clock) = (member.version(), member.clock());
    vec![reachable, version, set, majority, writes, oplog, of_rights, documents, replicas, clock, disk]
}

/// MongoDB cannot be asked: this says why, and all else is skipped.
fn unreachable(finding: Finding) -> Vec<Finding> {
    let skipped = CHECKS[1..].iter().map(|check| Finding::skipped(check, "MongoDB is out of reach"));
    std::iter::once(finding).chain(skipped).collect()
}

/// Asks each member that the URL names; the primary is the one to go on with.
async fn reach(options: &ClientOptions) -> (Finding, Option<Member>) {
    let check = CHECKS[0];
    let begun = Instant::now();
    let asked = join_all(options.hosts.iter().map(|host| Member::connect(host, options))).await;
    let (mut members, mut failures) = (Vec::new(), Vec::new());
    for member in asked {
        match member {
            Ok(member) => members.push(member),
            Err(failure) => failures.push(failure),
        }
    }
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let found = format!("{} in {:.0} ms", names.join(", "), begun.elapsed().as_secs_f64() * 1e3);
    let advice =
        "start mongod, or mend MONGO_URL (host, port, user, password, tls, authSource), or the network between";
    let reachable = match (members.is_empty(), failures.is_empty()) {
        (true, _) => Finding::error(check, failures.join("; "), advice),
        (false, false) => Finding::warning(check, format!("{found}; {}", failures.join("; ")), advice),
        (false, true) => Finding::ok(check, found),
    };
    let is_primary = |member: &Member| member.hello.get_bool("isWritablePrimary").unwrap_or(false);
    members.sort_by_key(|member| !is_primary(member));
    (reachable, members.into_iter().next())
}

impl Member {
    fn version(&self) -> Finding {
        // The wire version is in every reply; 9 is that of MongoDB 4.4, and the later releases are known by theirs.
        let wire = self.hello.get_i32("maxWireVersion").unwrap_or(0);
        let release = match wire {
            ..9 => "older than 4.4",
            9..=12 => "4.4",
            13..=16 => "5.0",
            17..=20 => "6.0",
            21..=24 => "7.0",
            _ => "8.0 or newer",
        };
        match wire {
            9.. => Finding::ok(CHECKS[1], release),
            _ => Finding::error(CHECKS[1], release, "install MongoDB 4.4 or newer"),
        }
    }

    fn is_in_no_set(&self) -> bool {
        self.hello.get_bool("isreplicaset").unwrap_or(false)
    }

    /// Whether it belongs to a set, and to the one that the URL names.
    fn replica_set(&self, options: &ClientOptions) -> Finding {
        let check = CHECKS[2];
        if self.hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            return Finding::ok(check, "a sharded cluster");
        }
        if self.is_in_no_set() {
            return Finding::error(check, "it is not initiated", "run rs.initiate() in mongosh once");
        }
        let Ok(name) = self.hello.get_str("setName") else {
            return Finding::error(check, "a stand-alone server", NO_REPLICA_SET);
        };
        match options.repl_set_name.as_deref() {
            Some(named) if named != name => {
                let found = format!("it is called {name}, and MONGO_URL names {named}");
                Finding::error(check, found, "mend replicaSet in MONGO_URL")
            }
            _ => Finding::ok(check, name),
        }
    }

    async fn majority(&self) -> Finding {
        let check = CHECKS[3];
        let advice = "start the members that are away; rs.status() shows them";
        if self.hello.get_str("msg").is_ok() {
            return Finding::skipped(check, "a sharded cluster: each shard has members of its own");
        }
        let status = match self.run(Some("admin"), doc! { "replSetGetStatus": 1 }).await {
            Ok(status) => status,
            Err(failure) if self.hello.get_str("primary").is_err() => {
                return Finding::error(check, format!("there is no primary; {}", why(failure)), advice);
            }
            Err(failure) => return failure.finding(check, "the states of the members (role clusterMonitor)"),
        };
        let members = status.get_array("members").map(Vec::as_slice).unwrap_or_default();
        let states: Vec<(&str, &str)> = members
            .iter()
            .filter_map(Bson::as_document)
            .map(|member| (member.get_str("name").unwrap_or("?"), member.get_str("stateStr").unwrap_or("?")))
            .collect();
        let is_well = |(_, state): &&(&str, &str)| matches!(*state, "PRIMARY" | "SECONDARY" | "ARBITER");
        let well = states.iter().filter(is_well).count();
        let found: Vec<String> = states.iter().map(|(name, state)| format!("{name} {state}")).collect();
        let found = found.join(", ");
        match () {
            () if !states.iter().any(|(_, state)| *state == "PRIMARY") => {
                Finding::error(check, format!("there is no primary: {found}"), advice)
            }
            () if 2 * well <= states.len() => Finding::error(check, format!("there is no majority: {found}"), advice),
            () if well < states.len() => Finding::warning(check, found, advice),
            () => Finding::ok(check, found),
        }
    }

    async fn oplog(&self) -> Finding {
        let check = CHECKS[5];
        let end = |order: i32| {
            let find =
                doc! { "find": "oplog.rs", "sort": { "$natural": order }, "limit": 1, "projection": { "ts": 1 } };
            self.run(Some("local"), find)
        };
        let stats =
            doc! { "aggregate": "oplog.rs", "pipeline": [{ "$collStats": { "storageStats": {} } }], "cursor": {} };
        let (first, last, stats) = tokio::join!(end(1), end(-1), self.run(Some("local"), stats));
        let (first, last, stats) = match (first, last, stats) {
            (Ok(first), Ok(last), Ok(stats)) => (first, last, stats),
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
                return failure.finding(check, "the oplog (role clusterMonitor, or read on local)");
            }
        };
        let seconds =
            |reply: &Document| found(reply).first().and_then(|entry| Some(entry.get_timestamp("ts").ok()?.time));
        let Some((first, last)) = seconds(&first).zip(seconds(&last)) else {
            return Finding::skipped(check, "there is nothing in it");
        };
        let stats = found(&stats).first().and_then(|stats| stats.get_document("storageStats").ok().cloned());
        let size = |name| stats.as_ref().and_then(|stats| number(stats, name)).unwrap_or(0.0);
        let window = Duration::from_secs(u64::from(last.saturating_sub(first)));
        let shown = format!("it reaches back {}", humantime::format_duration(window));
        // Before it has been full once, it is as old as the set.
        if window < SHORT_OPLOG && size("size") > 0.8 * size("maxSize") {
            let advice =
                "enlarge it (replSetResizeOplog): a member or an api that is away for longer has to load all again";
            return Finding::warning(check, shown, advice);
        }
        Finding::ok(check, shown)
    }

    async fn documents(&self) -> Finding {
        let check = CHECKS[7];
        let limit = i64::try_from(COMMAND_LIMIT.as_millis()).unwrap_or(i64::MAX);
        let unreadable = doc! { "$nor": [documents::live(), documents::tombstones()] };
        let count = |filter: Document| {
            self.run(None, doc! { "count": documents::ENTROPY, "query": filter, "maxTimeMS": limit })
        };
        let some = doc! {
            "find": documents::ENTROPY, "filter": unreadable.clone(), "projection": { "_id": 1 }, "limit": 3,
            "maxTimeMS": limit,
        };
        let original = doc! { "_id": { "$type": "objectId" } };
        let (all, originals, wrong) = tokio::join!(count(doc! {}), count(original), count(unreadable));
        let (all, originals, wrong) = match (all, originals, wrong) {
            (Ok(all), Ok(originals), Ok(wrong)) => {
                let n = |reply| number(&reply, "n").unwrap_or(0.0);
                (n(all), n(originals), n(wrong))
            }
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) if failure.is_late() => {
                return Finding::skipped(check, format!("more than can be read within {} s", COMMAND_LIMIT.as_secs()));
            }
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
                return failure.finding(check, "the documents");
            }
        };
        let shown = format!("{all}, of which the original application wrote {originals}");
        if wrong == 0.0 {
            return Finding::ok(check, shown);
        }
        let ids = self.run(None, some).await.map(|reply| found(&reply)).unwrap_or_default();
        let ids: Vec<String> = ids.iter().filter_map(|document| document.get("_id")).map(short).collect();
        let advice =
            "data has to be a string, and _id an ObjectId or a UUID's text: mend or delete them; they are passed over";
        Finding::warning(check, format!("{shown}; {wrong} cannot be read, such as {}", ids.join(", ")), advice)
    }

    /// The api replicas that announce themselves.
    async fn replicas(&self) -> Finding {
        let check = CHECKS[8];
        let reply = match self.run(None, doc! { "find": "replicas", "filter": { "ended": { "$ne": true } } }).await {
            Ok(reply) => reply,
            Err(failure) => return failure.finding(check, "what api replicas announce"),
        };
        let (now, at) = (self.local_time(), self.hello.get_timestamp("operationTime").map_or(0, |at| at.time));
        let (mut well, mut ill) = (0, Vec::new());
        for replica in found(&reply) {
            let name = replica.get_str("_id").unwrap_or("?").to_owned();
            let seen = replica.get_datetime("seen_at").map_or(0, |at| at.timestamp_millis());
            let silent = Duration::from_millis(now.saturating_sub(seen).max(0).unsigned_abs());
            let position = replica.get_i64("position").map_or(0, |position| position.cast_unsigned() >> 32);
            let behind = Duration::from_secs(u64::from(at).saturating_sub(position));
            let told = |what: &str, time: Duration| format!("{name} {what} {} s", time.as_secs());
            if silent > SILENT {
                ill.push(told("is silent for", silent));
            } else if behind > SILENT {
                ill.push(told("is behind by", behind));
            } else {
                well += 1;
            }
        }
        let shown = format!("{well} follow the store");
        if ill.is_empty() {
            return Finding::ok(check, shown);
        }
        let advice =
            "one that was killed is forgotten within two minutes; of others see the log: cut off, or short of time";
        Finding::warning(check, format!("{shown}; {}", ill.join(", ")), advice)
    }

    fn clock(&self) -> Finding {
        let [before, after] = self.asked;
        findings::clock(CHECKS[9], [before, self.local_time(), after])
    }

    async fn disk(&self) -> Finding {
        let check = CHECKS[10];
        let stats = match self.run(None, doc! { "dbStats": 1 }).await {
            Ok(stats) => stats,
            Err(failure) => return failure.finding(check, "the disk (dbStats)"),
        };
        match number(&stats, "fsTotalSize").zip(number(&stats, "fsUsedSize")) {
            // Before anything was written there is no database.
            Some((0.0, _)) => Finding::skipped(check, "there is nothing in the database"),
            Some((size, used)) => {
                let disk = Disk { free_bytes: (size - used).max(0.0) as u64, size_bytes: size as u64 };
                findings::disk(check, Ok(disk), "MongoDB")
            }
            None => Finding::skipped(check, "MongoDB does not show it"),
        }
    }
}

/// Whether a write would be done, as the worker's `/readyz` asks: nothing is written. That passes while MongoDB refuses what
/// users write, which it tells to those alone who may see its status.
async fn writes(member: &Member, url: &SecretString, process: fn(&str) -> Vec<String>) -> Finding {
    const REFUSED: i32 = 2;
    let check = CHECKS[4];
    let probe = async { MongoStore::new(url, process).await?.announce("a probe", None).await };
    let status = member.run(Some("admin"), doc! { "serverStatus": 1 });
    let (probed, status) = tokio::join!(probe, status);
    let mode = status.ok().and_then(|status| status.get_document("repl").ok()?.get_i32("userWriteBlockMode").ok());
    match probed {
        Ok(()) if mode == Some(REFUSED) => {
            let advice = "end what it is for: db.adminCommand({ setUserWriteBlockMode: 1, global: false })";
            Finding::error(check, "MongoDB refuses what users write (setUserWriteBlockMode)", advice)
        }
        Ok(()) => Finding::ok(check, "the majority takes them"),
        // The rights are a check of their own.
        Err(StoreError::Misconfigured(why)) => Finding::skipped(check, why),
        Err(error) => {
            let advice = "is there a majority? If a backup has left it locked: db.fsyncUnlock()";
            Finding::error(check, error.to_string(), advice)
        }
    }
}

fn short(id: &Bson) -> String {
    id.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checks_are_skipped_when_mongodb_is_out_of_reach() {
        let found = unreachable(Finding::error(CHECKS[0], "away", "start it"));
        assert!(found.iter().map(|finding| finding.check).eq(CHECKS));
        assert!(found[1..].iter().all(|finding| finding.status == Status::Skipped));
    }
}
