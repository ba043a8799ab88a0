//! Clients that feed, retract, ask and poll the full system while parts of it are killed, and record the replies: every id
//! that got a 200, and every text whose reply was lost. What the system holds in the end is compared with that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use multivac_core::queue::Ledger;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::TEST_TIMEOUT;
use crate::system::{System, ledger};

/// The longest that a client waits before it sends again, whatever `Retry-After` says: the load must not rest while parts of
/// the system are killed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the clients have seen.
#[derive(Default)]
struct StoreEntry {
    /// Every id that got a 200, with its text.
    confirmed: HashMap<String, String>,
    /// The ids, to choose from.
    ids: Vec<String>,
    /// Ids that were retracted, and got a 204 or a 202.
    retracted: HashSet<String>,
    /// Texts without an `Idempotency-Key` that got no 200 and were not sent again, with what came instead.
    unconfirmed: HashMap<String, &'static str>,
    /// Each broken promise.
    wrong: Vec<String>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    record: Mutex<StoreEntry>,
    refused: AtomicU64,
    lost: AtomicU64,
    polls: AtomicU64,
    answers: AtomicU64,
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
            watching.spawn(poll(Arc::clone(&shared), system.client.clone(), base.clone()));
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
            if let Some(other) = texts.insert(text.clone(), id.clone()) {
                wrong.push(format!("learned twice, as {other} and {id}: {text:?}"));
            }
            live.insert(id, text);
        }
        let record = std::mem::take(&mut *self.shared.record.lock().unwrap());
        for (id, text) in &record.confirmed {
            match (record.retracted.contains(id), live.get(id), tombstones.contains(id)) {
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
        let expected = Ledger { accepted: learned + retracted, learned, retracted, ..Ledger::default() };
        if ledger != expected {
            wrong.push(format!("the ledger says {ledger:?}, the store {expected:?}"));
        }
        // Each replica reports the same of single data.
        let sample = record.ids.iter().step_by((record.ids.len() / 50).max(1));
        for (id, base) in sample.flat_map(|id| system.bases.iter().map(move |base| (id, base))) {
            let reply = system.client.get(format!("{base}/multivac/data/{id}")).send().await.unwrap();
            let status = reply.json::<Value>().await.unwrap()["status"].clone();
            let expected = if record.retracted.contains(id) { "retracted" } else { "processed" };
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
            longest_ms: count(&self.shared.longest_without_200_ms),
            unconfirmed,
            ledger,
            wrong,
        }
    }
}

/// What the clients saw, and what the system held in the end.
pub struct Report {
    /// Data that got a 200.
    pub confirmed: usize,
    /// Those of them that were retracted.
    pub retracted: usize,
    /// Replies of 503.
    pub refused: u64,
    /// Requests whose connection broke before the reply.
    pub lost: u64,
    /// How often a ledger was polled.
    pub polls: u64,
    /// Questions that were answered.
    pub answers: u64,
    /// For how long the slowest datum was sent again until it got a 200.
    pub longest_ms: u64,
    /// Data that got no 200 and were not sent again: by what came instead, how many, and how many of them were accepted.
    pub unconfirmed: BTreeMap<&'static str, (u64, u64)>,
    /// The ledger in the end.
    pub ledger: Ledger,
    /// Each broken promise.
    pub wrong: Vec<String>,
}

impl Report {
    /// Fails when anything was wrong.
    pub fn assert_all_is_there(&self) {
        assert!(self.wrong.is_empty(), "{self}");
        assert!(self.confirmed > 0 && self.polls > 0 && self.answers > 0, "nothing was tried: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { accepted, queued, processing, learned, retracted, dead } = self.ledger;
        writeln!(f, "data that got a 200          {}", self.confirmed)?;
        writeln!(f, "of them retracted            {}", self.retracted)?;
        writeln!(f, "replies of 503               {}", self.refused)?;
        writeln!(f, "replies lost                 {}", self.lost)?;
        writeln!(f, "longest until a 200          {:.1} s", self.longest_ms as f64 / 1000.0)?;
        for (why, (all, there)) in &self.unconfirmed {
            writeln!(f, "not sent again after {why:<8}{all}, accepted all the same: {there}")?;
        }
        writeln!(f, "ledgers polled, all balanced {}", self.polls)?;
        writeln!(f, "questions answered           {}", self.answers)?;
        writeln!(
            f,
            "ledger                       accepted {accepted} = queued {queued} + processing {processing} + learned \
            {learned} + retracted {retracted} + dead {dead}"
        )?;
        writeln!(f, "wrong                        {}", self.wrong.len())?;
        self.wrong.iter().take(20).try_for_each(|wrong| writeln!(f, "  {wrong}"))
    }
}

/// One client.
struct Feeder {
    shared: Arc<Shared>,
    http: Client,
    bases: Vec<String>,
    rng: Rng,
    name: String,
}

/// What became of one request.
enum Attempt {
    Reply(u16, Value),
    Refused,
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
            name: format!("{seed}.{n}"),
        }
    }

    async fn run(mut self, rest: Duration) {
        for n in 0_u64.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("Star {n} of catalogue {} went out. Its light is still on the way.", self.name);
            match self.rng.u8(..20) {
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
        let reply = self
            .until(200, move |http, base| {
                http.post(format!("{base}/multivac/data")).header("Idempotency-Key", &key).form(&[("data", &body)])
            })
            .await;
        self.shared.confirm(&reply["id"], text);
    }

    /// Without a key and only once, to see how often a datum whose reply is lost was accepted.
    async fn feed_once(&mut self, text: String) {
        let base = self.any_base();
        let request = self.http.post(format!("{base}/multivac/data")).form(&[("data", &text)]);
        let why = match self.send(request).await {
            Attempt::Reply(200, reply) => return self.shared.confirm(&reply["id"], text),
            Attempt::Reply(status, reply) => return self.shared.wrong(format!("{status} for a datum: {reply}")),
            Attempt::Refused => "503",
            Attempt::Lost => "nothing",
            Attempt::NotSent => return,
        };
        self.shared.record.lock().unwrap().unconfirmed.insert(text, why);
    }

    /// Many at once, sent again for as long as some are rejected.
    async fn feed_bulk(&mut self, n: u64, lines: u64) {
        let texts: Vec<String> =
            (0..lines).map(|line| format!("Comet {n}.{line} of {} came back.", self.name)).collect();
        let body: String = texts.iter().map(|text| format!("{}\n", serde_json::json!({ "data": text }))).collect();
        let key = format!("{}.{n}.bulk", self.name);
        let started = Instant::now();
        loop {
            let (key, body) = (key.clone(), body.clone());
            let reply = self
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
        let id = {
            let mut record = self.shared.record.lock().unwrap();
            if record.ids.is_empty() {
                return;
            }
            let id = record.ids[self.rng.usize(..record.ids.len())].clone();
            // From now on it may be gone.
            if !record.retracted.insert(id.clone()) {
                return;
            }
            id
        };
        self.until(204, move |http, base| http.delete(format!("{base}/multivac/data/{id}"))).await;
    }

    /// Sends until the reply has this status (or 202), to one replica after the other.
    async fn until(&mut self, expected: u16, request: impl Fn(&Client, &str) -> RequestBuilder) -> Value {
        let started = Instant::now();
        let mut at = self.rng.usize(..self.bases.len());
        loop {
            match self.send(request(&self.http, &self.bases[at])).await {
                Attempt::Reply(status, reply) if status == expected || status == 202 => {
                    let ms = started.elapsed().as_millis() as u64;
                    self.shared.longest_without_200_ms.fetch_max(ms, Ordering::Relaxed);
                    return reply;
                }
                Attempt::Reply(status, reply) => {
                    self.shared.wrong(format!("{status} where {expected} was due: {reply}"));
                    return reply;
                }
                Attempt::Refused | Attempt::Lost | Attempt::NotSent => {}
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
            return Attempt::Refused;
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
async fn poll(shared: Arc<Shared>, http: Client, base: String) {
    let mut accepted = 0;
    loop {
        if let Ok(reply) = http.get(format!("{base}/multivac/stats")).send().await
            && reply.status() == 200
            && let Ok(stats) = reply.json::<Value>().await
        {
            shared.polls.fetch_add(1, Ordering::Relaxed);
            match ledger(&stats) {
                Some(ledger) if ledger.balances() => {
                    if ledger.accepted < accepted {
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
                503 if retry_after(&reply).is_some() => {}
                status => shared.wrong(format!("{base}: a question got {status}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
