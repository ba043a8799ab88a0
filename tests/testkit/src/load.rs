//! Clients that feed, retract, ask and poll the full system while parts of it are killed, and record the replies: every id
//! that got a 200, and every text whose reply was lost. What the system holds in the end is compared with that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use multivac_core::queue::Ledger;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::TEST_TIMEOUT;
use crate::report::Report;
use crate::system::{POISON, System, ledger};
use crate::text::new_word;

/// The longest that a client waits before it sends again, whatever `Retry-After` says: the load must not rest while parts of
/// the system are killed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What came instead of a 200 when nothing was accepted.
const REFUSED: &str = "503";

/// What the clients have seen.
#[derive(Default)]
struct Record {
    /// Every id that got a 200, with its text.
    confirmed: HashMap<String, String>,
    /// The ids, to choose from.
    ids: Vec<String>,
    /// Ids that were retracted, and got a 204 or a 202.
    retracted: HashSet<String>,
    /// Ids of data that MongoDB refuses.
    poison: HashSet<String>,
    /// Texts without an `Idempotency-Key` that got no 200 and were not sent again, with what came instead.
    unconfirmed: HashMap<String, &'static str>,
    /// Each broken promise.
    wrong: Vec<String>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    record: Mutex<Record>,
    refused: AtomicU64,
    lost: AtomicU64,
    polls: AtomicU64,
    answers: AtomicU64,
    fenced: AtomicU64,
    shown_before: AtomicU64,
    gone_after: AtomicU64,
    longest_without_200_ms: AtomicU64,
}

impl Shared {
    fn wrong(&self, what: String) {
        self.record.lock().unwrap().wrong.push(what);
    }

    fn confirm(&self, id: &Value, text: String) {
        let Some(id) = id.as_str().map(str::to_owned) else { return self.wrong(format!("no id for {text:?}")) };
        let mut record = self.record.lock().unwrap();
        match record.confirmed.insert(id.clone(), text.clone()) {
            None => record.ids.push(id),
            Some(before) if before == text => {}
            Some(before) => record.wrong.push(format!("{id} was given to {before:?} and to {text:?}")),
        }
    }
}

/// Clients, and what they have seen so far.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    watchers: JoinSet<()>,
}

impl Load {
    /// Starts `clients`, each of which rests for `rest` after each request; and for each replica one that polls its ledger
    /// and one that asks it.
    pub fn start(system: &System, clients: u64, rest: Duration, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let (mut feeding, mut watching) = (JoinSet::new(), JoinSet::new());
        for n in 0..clients {
            feeding.spawn(Feeder::new(&shared, system, seed, n).run(rest));
        }
        for base in &system.bases {
            // A Cluster that loses a master may forget what was not asked to be as durable, such as a count seen early.
            let may_fall = system.redis.masters() > 1;
            watching.spawn(poll(Arc::clone(&shared), system.client.clone(), base.clone(), may_fall));
            watching.spawn(ask(Arc::clone(&shared), system.client.clone(), base.clone()));
        }
        Self { shared, clients: feeding, watchers: watching }
    }

    /// Feeds `count` data in bulk, and only then returns; the ledger is polled and questions are asked from then on.
    pub async fn feed(system: &System, count: u64) -> Self {
        const LINES: u64 = 1_000;
        let load = Self::start(system, 0, Duration::ZERO, 0);
        let mut feeder = Feeder::new(&load.shared, system, 0, 0);
        for n in 0..count.div_ceil(LINES) {
            feeder.feed_bulk(n, LINES.min(count - n * LINES)).await;
        }
        load
    }

    /// How many ids got a 200 so far.
    pub fn confirmed(&self) -> usize {
        self.shared.record.lock().unwrap().confirmed.len()
    }

    /// Waits until so many more ids got a 200.
    pub async fn until_confirmed(&self, more: usize) {
        let (target, deadline) = (self.confirmed() + more, Instant::now() + TEST_TIMEOUT);
        while self.confirmed() < target {
            assert!(Instant::now() < deadline, "the load stands still at {}", self.confirmed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops feeding, once each request under way has got its reply; waits until all is learned; compares.
    pub async fn finish(mut self, system: &System) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let ledger = system.until_quiet().await;
        self.watchers.abort_all();
        while self.watchers.join_next().await.is_some() {}
        self.compare(system, ledger).await
    }

    async fn compare(self, system: &System, ledger: Ledger) -> Report {
        let (mut live, mut texts, mut tombstones) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut wrong = std::mem::take(&mut self.shared.record.lock().unwrap().wrong);
        for document in system.stored().await {
            let id = document.get_str("_id").unwrap_or("an id that is no text").to_owned();
            if document.contains_key("retracted_at") {
                if document.contains_key("data") {
                    wrong.push(format!("the tombstone of {id} holds a text"));
                }
                tombstones.insert(id);
                continue;
            }
            let text = document.get_str("data").unwrap_or_default().to_owned();
            if text.starts_with(POISON) {
                wrong.push(format!("learned, though the store refuses it: {id}"));
            }
            if let Some(other) = texts.insert(text.clone(), id.clone()) {
                wrong.push(format!("learned twice, as {other} and {id}: {text:?}"));
            }
            live.insert(id, text);
        }
        let record = std::mem::take(&mut *self.shared.record.lock().unwrap());
        for (id, text) in &record.confirmed {
            match (record.retracted.contains(id), live.get(id), tombstones.contains(id)) {
                (_, None, false) if record.poison.contains(id) => {}
                (false, Some(learned), false) if learned == text => {}
                (true, None, true) => {}
                (true, ..) => wrong.push(format!("retracted, and there all the same: {id}")),
                (false, None, false) => wrong.push(format!("got a 200 and is lost: {id} {text:?}")),
                (false, None, true) => wrong.push(format!("got a 200 and is a tombstone: {id}")),
                (false, Some(learned), _) => wrong.push(format!("{id} was {text:?} and is {learned:?}")),
            }
        }
        let mut unconfirmed: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for (text, why) in &record.unconfirmed {
            let (all, there) = unconfirmed.entry(why).or_default();
            *all += 1;
            *there += u64::from(texts.contains_key(text));
            if *why == REFUSED && texts.contains_key(text) {
                wrong.push(format!("a 503 said that nothing was accepted, and it was learned: {text:?}"));
            }
        }
        for (id, text) in live.iter().filter(|(id, _)| !record.confirmed.contains_key(*id)) {
            if !record.unconfirmed.contains_key(text) {
                wrong.push(format!("fed by no client: {id} {text:?}"));
            }
        }
        for id in tombstones.iter().filter(|id| !record.confirmed.contains_key(*id)) {
            wrong.push(format!("a tombstone of what no client fed: {id}"));
        }
        let (learned, retracted) = (live.len() as u64, tombstones.len() as u64);
        let dead = record.poison.len() as u64;
        let expected = Ledger { accepted: learned + retracted + dead, learned, retracted, dead, ..Ledger::default() };
        if ledger != expected {
            wrong.push(format!("the ledger says {ledger:?}, the store {expected:?}"));
        }
        // Each replica reports the same of single data.
        let sample = record.ids.iter().step_by((record.ids.len() / 50).max(1));
        for (id, base) in sample.flat_map(|id| system.bases.iter().map(move |base| (id, base))) {
            let reply = system.client.get(format!("{base}/multivac/data/{id}")).send().await.unwrap();
            let status = reply.json::<Value>().await.unwrap()["status"].clone();
            let expected = match (record.retracted.contains(id), record.poison.contains(id)) {
                (true, _) => "retracted",
                (false, true) => "failed",
                (false, false) => "processed",
            };
            if status != expected {
                wrong.push(format!("{base} says {status} of {id}, which is {expected}"));
            }
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            confirmed: record.confirmed.len(),
            retracted: record.retracted.len(),
            refused: count(&self.shared.refused),
            lost: count(&self.shared.lost),
            polls: count(&self.shared.polls),
            answers: count(&self.shared.answers),
            fenced: count(&self.shared.fenced),
            poison: record.poison.len(),
            shown_before: count(&self.shared.shown_before),
            gone_after: count(&self.shared.gone_after),
            longest_ms: count(&self.shared.longest_without_200_ms),
            unconfirmed,
            ledger,
            wrong,
        }
    }
}

/// One client.
struct Feeder {
    shared: Arc<Shared>,
    http: Client,
    bases: Vec<String>,
    rng: Rng,
    seed: u64,
    name: String,
    poison: bool,
}

/// What became of one request.
enum Attempt {
    Reply(u16, Value),
    /// 503, and nothing was accepted.
    Refused,
    /// 503, and it may have been accepted.
    Unknown,
    /// The connection broke, or no reply came in time: it may have been carried out.
    Lost,
    /// Nobody listened, so it was not sent.
    NotSent,
}

impl Feeder {
    fn new(shared: &Arc<Shared>, system: &System, seed: u64, n: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            http: system.client.clone(),
            bases: system.bases.clone(),
            rng: Rng::with_seed(seed << 16 | n),
            seed: seed << 16 | n,
            poison: system.poison,
            name: format!("{seed}.{n}"),
        }
    }

    async fn run(mut self, rest: Duration) {
        for n in 0_u64.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{} {n} of catalogue {} went out.", new_word(self.seed, n as usize), self.name);
            match self.rng.u8(..20) {
                0 if self.poison => self.feed_until_accepted(n, format!("{POISON} for {text}")).await,
                0..=12 => self.feed_until_accepted(n, text).await,
                13..=16 => self.feed_once(text).await,
                17 => self.feed_bulk(n, 20).await,
                _ => self.retract_one().await,
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// With a key, so that sending it again does not make a second datum.
    async fn feed_until_accepted(&mut self, n: u64, text: String) {
        let key = format!("{}.{n}", self.name);
        let body = text.clone();
        let (_, reply) = self
            .until(200, move |http, base| {
                http.post(format!("{base}/multivac/data")).header("Idempotency-Key", &key).form(&[("data", &body)])
            })
            .await;
        if let Some(id) = reply["id"].as_str()
            && text.starts_with(POISON)
        {
            self.shared.record.lock().unwrap().poison.insert(id.to_owned());
        }
        self.shared.confirm(&reply["id"], text);
    }

    /// Without a key and only once, to see how often a datum whose reply is lost was accepted.
    async fn feed_once(&mut self, text: String) {
        let base = self.any_base();
        let request = self.http.post(format!("{base}/multivac/data")).form(&[("data", &text)]);
        let why = match self.send(request).await {
            Attempt::Reply(200, reply) => return self.shared.confirm(&reply["id"], text),
            Attempt::Reply(status, reply) => return self.shared.wrong(format!("{status} for a datum: {reply}")),
            Attempt::Refused => REFUSED,
            Attempt::Unknown => "unknown",
            Attempt::Lost => "nothing",
            Attempt::NotSent => return,
        };
        self.shared.record.lock().unwrap().unconfirmed.insert(text, why);
    }

    /// Many at once, sent again for as long as some are rejected.
    async fn feed_bulk(&mut self, n: u64, lines: u64) {
        let word = new_word(self.seed, n as usize);
        let texts: Vec<String> =
            (0..lines).map(|line| format!("{word}{line} of {} came back with comet {n}.", self.name)).collect();
        let body: String = texts.iter().map(|text| format!("{}\n", serde_json::json!({ "data": text }))).collect();
        let key = format!("{}.{n}.bulk", self.name);
        let started = Instant::now();
        loop {
            let (key, body) = (key.clone(), body.clone());
            let (_, reply) = self
                .until(200, move |http, base| {
                    let request = http.post(format!("{base}/multivac/data/bulk")).header("Idempotency-Key", &key);
                    request.header("Content-Type", "application/x-ndjson").body(body.clone())
                })
                .await;
            let rejected: HashSet<u64> =
                reply["rejected"].as_array().into_iter().flatten().filter_map(|line| line["line"].as_u64()).collect();
            let accepted = texts.iter().zip(1..).filter(|(_, line)| !rejected.contains(line));
            for ((text, _), id) in accepted.zip(reply["ids"].as_array().into_iter().flatten()) {
                self.shared.confirm(id, text.clone());
            }
            if rejected.is_empty() {
                return;
            }
            assert!(started.elapsed() < TEST_TIMEOUT, "never accepted in bulk: {reply}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Retracts a datum that got a 200.
    async fn retract_one(&mut self) {
        let (id, word) = {
            let mut record = self.shared.record.lock().unwrap();
            if record.ids.is_empty() {
                return;
            }
            let id = record.ids[self.rng.usize(..record.ids.len())].clone();
            if record.poison.contains(&id) {
                return;
            }
            // From now on it may be gone.
            if !record.retracted.insert(id.clone()) {
                return;
            }
            let word = record.confirmed[&id].split(' ').next().unwrap_or_default().to_owned();
            (id, word)
        };
        let before = self.any_base();
        if self.rests_on(&before, &word, &id).await == Some(true) {
            self.shared.shown_before.fetch_add(1, Ordering::Relaxed);
        }
        let url = format!("multivac/data/{id}");
        let (status, _) = self.until(204, |http, base| http.delete(format!("{base}/{url}"))).await;
        if status != 204 {
            return;
        }
        for base in self.bases.clone() {
            match self.rests_on(&base, &word, &id).await {
                Some(true) => self.shared.wrong(format!("{base} answers with {id} after its retraction got a 204")),
                Some(false) => _ = self.shared.gone_after.fetch_add(1, Ordering::Relaxed),
                None => {}
            }
        }
    }

    /// Whether what a replica answers to a question with this word rests on a datum; `None` without an answer.
    async fn rests_on(&self, base: &str, word: &str, id: &str) -> Option<bool> {
        let question = [("question", format!("What is {word}?"))];
        let request = self.http.get(format!("{base}/multivac")).query(&question).header("Accept", "application/json");
        let reply = request.send().await.ok()?;
        if reply.status() != 200 {
            return None;
        }
        let answer: Value = reply.json().await.ok()?;
        Some(answer["evidence"].as_array()?.iter().any(|evidence| evidence["id"] == id))
    }

    /// Sends until the reply has this status (or 202), to one replica after the other.
    async fn until(&mut self, expected: u16, request: impl Fn(&Client, &str) -> RequestBuilder) -> (u16, Value) {
        let started = Instant::now();
        let mut at = self.rng.usize(..self.bases.len());
        loop {
            match self.send(request(&self.http, &self.bases[at])).await {
                Attempt::Reply(status, reply) if status == expected || status == 202 => {
                    let ms = started.elapsed().as_millis() as u64;
                    self.shared.longest_without_200_ms.fetch_max(ms, Ordering::Relaxed);
                    return (status, reply);
                }
                Attempt::Reply(status, reply) => {
                    self.shared.wrong(format!("{status} where {expected} was due: {reply}"));
                    return (status, reply);
                }
                Attempt::Refused | Attempt::Unknown | Attempt::Lost | Attempt::NotSent => {}
            }
            assert!(started.elapsed() < 2 * TEST_TIMEOUT, "no {expected} from any replica");
            at = (at + 1) % self.bases.len();
        }
    }

    /// Sends once; after a refusal or a broken connection, waits as long as a client should.
    async fn send(&self, request: RequestBuilder) -> Attempt {
        let reply = match request.send().await {
            Ok(reply) => reply,
            Err(error) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if error.is_connect() {
                    return Attempt::NotSent;
                }
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                return Attempt::Lost;
            }
        };
        let status = reply.status().as_u16();
        if status == 503 {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            match retry_after(&reply) {
                Some(wait) => tokio::time::sleep(wait.min(MAX_RETRY_AFTER)).await,
                None => self.shared.wrong("a 503 without Retry-After".to_owned()),
            }
            let detail = reply.text().await.unwrap_or_default();
            return if detail.contains("nothing was accepted") { Attempt::Refused } else { Attempt::Unknown };
        }
        match reply.bytes().await {
            Ok(body) => Attempt::Reply(status, serde_json::from_slice(&body).unwrap_or_default()),
            Err(_) => Attempt::Lost,
        }
    }

    fn any_base(&mut self) -> String {
        let at = self.rng.usize(..self.bases.len());
        self.bases[at].clone()
    }
}

fn retry_after(reply: &Response) -> Option<Duration> {
    reply.headers().get("retry-after")?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Polls the ledger of one replica; it always balances, and `accepted` never falls.
async fn poll(shared: Arc<Shared>, http: Client, base: String, may_fall: bool) {
    let mut accepted = 0;
    loop {
        if let Ok(reply) = http.get(format!("{base}/multivac/stats")).send().await
            && reply.status() == 200
            && let Ok(stats) = reply.json::<Value>().await
        {
            shared.polls.fetch_add(1, Ordering::Relaxed);
            match ledger(&stats) {
                Some(ledger) if ledger.balances() => {
                    if ledger.accepted < accepted && !may_fall {
                        shared.wrong(format!("{base}: {accepted} were accepted, and then {}", ledger.accepted));
                    }
                    accepted = ledger.accepted;
                }
                _ => shared.wrong(format!("{base}: the ledger does not balance: {stats}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks one replica; while it runs it answers, whatever else is down, or says when to ask again: without the store it cannot
/// know what was retracted.
async fn ask(shared: Arc<Shared>, http: Client, base: String) {
    loop {
        if let Ok(reply) = http.get(format!("{base}/multivac")).send().await {
            match reply.status().as_u16() {
                200 => _ = shared.answers.fetch_add(1, Ordering::Relaxed),
                503 if retry_after(&reply).is_some() => _ = shared.fenced.fetch_add(1, Ordering::Relaxed),
                status => shared.wrong(format!("{base}: a question got {status}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
