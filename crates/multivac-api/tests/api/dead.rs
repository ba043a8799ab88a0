//! Dead letters: over HTTP while the system runs; and by `multivac-api dead`, those of the embedded system while it is stopped,
//! those of Redis at any time.

use std::collections::HashSet;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use multivac_api::config::Config;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::consumer::Consumer;
use multivac_core::datum::{DatumId, Timestamp};
use multivac_core::queue::{Failure, Ledger, QueueSettings};
use multivac_core::runtime::supervise::TaskEnded;
use multivac_core::store::StoreEntry;
use multivac_testkit::backends::SharedServers;
use multivac_testkit::proxy::{Mode, Proxy};
use multivac_testkit::redis::{self, RedisServer};
use multivac_testkit::sample::submission;
use multivac_testkit::wait::until;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::program::{Program, program};
use crate::test_app::TestApp;

fn dead(words: &[&str], flags: &[&str]) -> Output {
    program(&[&["dead"], words, flags].concat()).output().unwrap()
}

/// The output of a command that succeeds.
fn done(words: &[&str], flags: &[&str]) -> String {
    let output = dead(words, flags);
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The message of a command that ends with status 1.
fn refused(words: &[&str], flags: &[&str]) -> String {
    let output = dead(words, flags);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Opens a data directory, as the program does.
fn open(data: &Path) -> Backends {
    Backends::embedded(data, QueueSettings { max_attempts: 1, ..QueueSettings::default() }).unwrap()
}

/// Makes each text a dead letter, in their order.
async fn dead_letter_each(backends: &Backends, texts: &[&str]) -> Vec<DatumId> {
    let mut ids = Vec::new();
    for text in texts {
        let submission = submission(text);
        backends.queue.accept(std::slice::from_ref(&submission)).await.unwrap();
        let lease = backends.queue.lease(1, Duration::from_secs(10)).await.unwrap().remove(0);
        let failed = backends.queue.fail(&lease, "no good\nat all", Duration::ZERO).await.unwrap();
        assert_eq!((lease.job.id, failed), (submission.job.id, Failure::Dead));
        ids.push(submission.job.id);
        // Those of one millisecond that lie in different partitions have no order.
        let died_by = Timestamp::now().as_millis();
        while Timestamp::now().as_millis() == died_by {
            tokio::task::yield_now().await;
        }
    }
    ids
}

#[tokio::test]
async fn embedded_dead_letters_are_listed_shown_retried_and_dropped_while_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let message = refused(&["list"], &flags);
    assert!(message.contains("multivac.db does not exist") && message.contains("--data-dir"), "{message}");
    assert!(!data.exists(), "a command makes nothing");

    let odd = " \r\n\0 🌌 Ωμέγα \n";
    let texts = ["Penguins eat krill.", odd, "Owls eat voles.", "Cats eat mice."];
    let backends = open(&data);
    let ids = dead_letter_each(&backends, &texts).await;
    drop(backends);
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();

    let listed = done(&["list"], &flags);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with(&names[0]) && lines[0].ends_with("19 bytes  no good"), "{listed}");
    assert_eq!(done(&["list", "--max", "3", "--json"], &flags).lines().count(), 3);
    assert_eq!(done(&["show", &names[1], "--text"], &flags), odd);
    let shown: Value = serde_json::from_str(&done(&["show", &names[1], "--json"], &flags)).unwrap();
    assert_eq!((&shown["data"], &shown["error"]), (&odd.into(), &"no good\nat all".into()));
    assert_eq!(done(&["drop", &names[1]], &flags), format!("dropped {}\n", names[1]));
    assert_eq!(done(&["retry", &names[0]], &flags), format!("retried {}\n", names[0]));
    assert!(refused(&["show", &names[0]], &flags).contains(&format!("no dead letter has the id {}", names[0])));
    assert_eq!(
        done(&["retry", "--all"], &flags),
        format!("retried {}\nretried {}\nretried 2 in all\n", names[2], names[3])
    );
    assert_eq!(done(&["list"], &flags), "there are no dead letters\n");

    let backends = open(&data);
    let ledger = Ledger { accepted: 4, queued: 3, retracted: 1, ..Ledger::default() };
    assert_eq!(backends.queue.ledger().await.unwrap(), ledger);
    assert!(matches!(backends.store.get(ids[1]).await.unwrap(), Some(StoreEntry::Tombstone { .. })));
    drop(backends);
    // What was retried is learned by the program. While it runs, the directory is its own.
    let running = Program::start(&flags);
    running.until(&Client::new(), "/multivac/stats", |stats| stats["learned"] == 3 && stats["queued"] == 0).await;
    for words in [&["list"][..], &["show", &names[0]], &["retry", "--all"], &["drop", "--all"]] {
        let message = refused(words, &flags);
        let holder = format!("is in use by process {}; stop that one", running.process.id());
        assert!(message.contains(&holder), "{message}");
    }
}

#[tokio::test]
async fn the_same_command_is_for_the_dead_letters_of_redis() {
    let Some(servers) = SharedServers::find() else { return };
    let flags: Vec<String> = servers.flags().into_iter().chain(["--max-attempts".to_owned(), "1".to_owned()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = Config::parse_from([&["multivac-api"], &flags[..]].concat()).backends;
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, args.queue_settings()).await.unwrap();
    assert_eq!(backends.prepare(&CancellationToken::new()).await.unwrap(), Prepared::Ready);
    let ids = dead_letter_each(&backends, &["Penguins eat krill."]).await;
    assert!(done(&["list"], &flags).starts_with(&ids[0].to_string()));
    assert_eq!(done(&["drop", "--all"], &flags), format!("dropped {}\ndropped 1 in all\n", ids[0]));
    servers.clean_up().await;
}

/// The full system with one attempt for each job, without a worker; and a queue past the application.
pub(crate) async fn start_with_servers(flags: &[String]) -> (TestApp, Backends) {
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--max-attempts", "1"]);
    let args = Config::parse_from([&["multivac-api"], &flags[..]].concat()).backends;
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, args.queue_settings()).await.unwrap();
    let app = TestApp::start(&flags).await;
    assert_eq!(backends.prepare(&CancellationToken::new()).await.unwrap(), Prepared::Ready);
    (app, backends)
}

/// What a worker runs.
pub(crate) struct Learning {
    stop: CancellationToken,
    running: JoinHandle<Result<(), TaskEnded>>,
}

impl Learning {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Learns what is queued, as a worker does.
pub(crate) fn learning(backends: &Backends) -> Learning {
    let consumer = Consumer {
        queue: backends.queue.clone(),
        store: Arc::clone(&backends.store),
        lease: Duration::from_secs(30),
        concurrency: 1,
        max_bytes_under_way: 8 << 20,
        process: multivac_core::process::process,
        process_timeout: Duration::from_secs(10),
    };
    let stop = CancellationToken::new();
    Learning { running: tokio::spawn(consumer.run(stop.clone())), stop }
}

impl TestApp {
    async fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    /// The reply to a write, which has to have this status.
    async fn wrote(&self, method: Method, path: &str, status: u16) -> Value {
        let reply = self.send(method.clone(), path).await;
        assert_eq!(reply.status(), status, "{method} {path}");
        let body = reply.bytes().await.unwrap();
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() }
    }

    async fn ledger_is(&self, expected: &Value) {
        let mut stats = self.json("/multivac/stats").await;
        stats.as_object_mut().unwrap().remove("passages");
        assert_eq!(&stats, expected);
    }

    /// The ids of all dead letters, by pages of `limit`.
    async fn dead_in_pages(&self, limit: usize) -> Vec<String> {
        let (mut ids, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.json(&format!("/multivac/dead?limit={limit}{after}")).await;
            let dead = page["dead"].as_array().unwrap();
            ids.extend(dead.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else {
                assert_eq!(page["next"], Value::Null);
                return ids;
            };
            assert_eq!((dead.len(), Some(next)), (limit, ids.last().map(String::as_str)));
            after = format!("&after={next}");
        }
    }

    /// What the four of `ids` are to show and do, whatever queue holds them; the last two are on the queue again at the end.
    async fn shows_retries_and_drops(&self, ids: &[String], odd: &str) {
        let page = self.json("/multivac/dead").await;
        let letter = &page["dead"][1];
        let fields: Vec<&str> = letter.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["attempts", "died_at", "error", "id", "received_at", "size_bytes"]);
        assert_eq!((&letter["attempts"], &letter["error"]), (&json!(1), &json!("no good\nat all")));
        assert_eq!((&letter["id"], &letter["size_bytes"]), (&json!(ids[1]), &json!(odd.len())));
        for limit in [1, 2, 3, 4, 5, 1_000] {
            assert_eq!(self.dead_in_pages(limit).await, ids, "{limit}");
        }
        let whole = self.get(&format!("/multivac/dead/{}", ids[1])).await;
        assert_eq!(whole.headers()["cache-control"], "no-store");
        let whole: Value = whole.json().await.unwrap();
        assert_eq!(whole["data"], odd);
        assert_eq!(letter.as_object().unwrap().iter().find(|(name, value)| whole[name] != **value), None);
        assert_eq!(self.json(&format!("/multivac/data/{}", ids[1])).await["status"], "failed");

        // A drop is a retraction, and stays one.
        let dropped = format!("/multivac/dead/{}", ids[1]);
        self.wrote(Method::DELETE, &dropped, 204).await;
        self.wrote(Method::DELETE, &dropped, 404).await;
        self.wrote(Method::POST, &format!("{dropped}/retry"), 404).await;
        let status = self.json(&format!("/multivac/data/{}", ids[1])).await;
        assert_eq!((&status["status"], &status["visible_to"]), (&json!("retracted"), &json!(0)));

        // Two at once count once.
        let retry = format!("/multivac/dead/{}/retry", ids[0]);
        let (one, other) = tokio::join!(self.send(Method::POST, &retry), self.send(Method::POST, &retry));
        let mut statuses = [one.status().as_u16(), other.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 404]);
        let retry_all = || self.wrote(Method::POST, "/multivac/dead/retry", 202);
        let (one, other) = tokio::join!(retry_all(), retry_all());
        assert_eq!(one["retried"].as_u64().unwrap() + other["retried"].as_u64().unwrap(), 2, "{one} {other}");
        assert_eq!(retry_all().await, json!({ "retried": 0 }));
        assert_eq!(self.json("/multivac/dead").await, json!({ "dead": [], "next": null }));

        for id in [ids[0].as_str(), ids[1].as_str(), "0190163d-8694-739b-aea5-966c26f8ad91", "x", "%7b"] {
            for (method, path) in [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/retry")] {
                let reply = self.send(method.clone(), &format!("/multivac/dead/{id}{path}")).await;
                assert_eq!(
                    (reply.status().as_u16(), &reply.headers()["content-type"]),
                    (404, &"application/problem+json".parse().unwrap()),
                    "{method} {id}"
                );
            }
        }
    }
}

const ODD: &str = " \r\n\0 🌌 Ωμέγα \n";
const TEXTS: [&str; 4] = ["Penguins eat krill.", ODD, "Owls eat voles.", "Cats eat mice."];

#[actix_web::test]
async fn over_http_those_of_the_running_embedded_system_are_shown_retried_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let backends = open(directory.path());
    let ids: Vec<String> = dead_letter_each(&backends, &TEXTS).await.iter().map(ToString::to_string).collect();
    drop(backends);
    let app = TestApp::start_in(directory, &[]).await;
    app.shows_retries_and_drops(&ids, ODD).await;
    app.until("/multivac/stats", |stats| stats["learned"] == 3).await;
    app.ledger_is(&json!({ "accepted": 4, "queued": 0, "processing": 0, "learned": 3, "retracted": 1, "dead": 0 }))
        .await;
    // The index follows the store, a moment behind the ledger.
    app.until("/multivac?question=What+do+owls+eat", |answer| answer["answer"] == "Owls eat voles.").await;
    // It stays dropped.
    let app = TestApp::start_in(app.stop().await, &[]).await;
    assert_eq!(app.json(&format!("/multivac/data/{}", ids[1])).await["status"], "retracted");
    app.until("/multivac/stats", |stats| stats["learned"] == 3 && stats["retracted"] == 1).await;
    app.stop().await;
}

#[actix_web::test]
async fn over_http_those_of_redis_are_shown_retried_and_dropped() {
    let Some(servers) = SharedServers::find() else { return };
    for partitions in ["1", "3"] {
        let flags = [&servers.flags()[..], &["--partitions".to_owned(), partitions.to_owned()]].concat();
        let (app, backends) = start_with_servers(&flags).await;
        let ids: Vec<String> = dead_letter_each(&backends, &TEXTS).await.iter().map(ToString::to_string).collect();
        app.shows_retries_and_drops(&ids, ODD).await;
        app.ledger_is(&json!({ "accepted": 4, "queued": 3, "processing": 0, "learned": 0, "retracted": 1, "dead": 0 }))
            .await;
        let worker = learning(&backends);
        app.until("/multivac/stats", |stats| stats["learned"] == 3).await;
        worker.stop().await;
        // The index follows the store, a moment behind the ledger.
        app.until("/multivac?question=What+do+owls+eat", |answer| answer["answer"] == "Owls eat voles.").await;
        app.stop().await;
        servers.clean_up().await;
    }
}

#[actix_web::test]
async fn pages_of_many_that_died_at_once_hold_each_once_and_a_page_goes_on_where_the_last_ended() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = [&servers.flags()[..], &["--partitions".to_owned(), "3".to_owned()]].concat();
    let (app, backends) = start_with_servers(&flags).await;
    let texts: Vec<String> = (0..130).map(|n| format!("Star {n} went out.")).collect();
    let ids = dead_letter_each(&backends, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let ids: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    let first = app.json("/multivac/dead").await;
    assert_eq!(first["dead"].as_array().unwrap().len(), 100);
    for limit in [7, 100, 130, 131] {
        let listed = app.dead_in_pages(limit).await;
        assert_eq!((listed.len(), listed.into_iter().collect::<HashSet<_>>()), (130, ids.clone()), "{limit}");
    }
    // It goes on there though that one is retried, or dropped, meanwhile.
    let all = app.dead_in_pages(1_000).await;
    let page_after =
        async |at: usize| app.json(&format!("/multivac/dead?limit=1&after={}", all[at])).await["dead"][0]["id"].clone();
    app.wrote(Method::POST, &format!("/multivac/dead/{}/retry", all[49]), 202).await;
    app.wrote(Method::DELETE, &format!("/multivac/dead/{}", all[99]), 204).await;
    assert_eq!((page_after(49).await, page_after(99).await), (json!(all[50]), json!(all[100])));
    let retried = app.wrote(Method::POST, "/multivac/dead/retry", 202).await;
    assert_eq!(retried, json!({ "retried": 128 }));
    app.ledger_is(&json!({ "accepted": 130, "queued": 129, "processing": 0, "learned": 0, "retracted": 1, "dead": 0 }))
        .await;
    app.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn a_page_that_cannot_be_meant_is_refused() {
    let app = TestApp::start(&[]).await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=",
        "limit=ten",
        "limit=1e3",
        "limit=99999999999999999999",
        "limit=%ff",
        "after=",
        "after=x",
        "after=1&after=2",
        "after=%00",
    ] {
        let reply = app.get(&format!("/multivac/dead?{query}")).await;
        assert_eq!(reply.status(), 400, "{query}");
        let problem: Value = reply.json().await.unwrap();
        let name = query.split('=').next().unwrap();
        assert!(problem["detail"].as_str().unwrap().starts_with(name), "{problem}");
    }
    for query in
        ["", "?limit=1", "?limit=1000", "?limit=%31", "?other=x", "?after=0190163d-8694-739b-aea5-966c26f8ad91"]
    {
        assert_eq!(app.json(&format!("/multivac/dead{query}")).await, json!({ "dead": [], "next": null }), "{query}");
    }
    app.stop().await;
}

#[actix_web::test]
async fn a_page_of_another_site_retries_and_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let backends = open(directory.path());
    let id = dead_letter_each(&backends, &["Penguins eat krill."]).await[0];
    drop(backends);
    let app = TestApp::start_in(directory, &[]).await;
    for (method, path) in [
        (Method::POST, "/multivac/dead/retry".to_owned()),
        (Method::POST, format!("/multivac/dead/{id}/retry")),
        (Method::DELETE, format!("/multivac/dead/{id}")),
    ] {
        for (name, value) in [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.test")] {
            let reply = app.request(method.clone(), &path).header(name, value).send().await.unwrap();
            assert_eq!(reply.status(), 403, "{method} {path}");
        }
    }
    assert_eq!(app.json("/multivac/dead").await["dead"][0]["id"], id.to_string());
    app.stop().await;
}

#[actix_web::test]
async fn a_queue_that_is_cut_off_half_way_loses_nothing_and_the_reply_says_how_many_were_retried() {
    let (Some(servers), Some(binary)) = (SharedServers::find(), redis::installed()) else { return };
    let redis = RedisServer::start(&binary, &[]).await;
    let proxy = Proxy::start(format!("127.0.0.1:{}", redis.port)).await;
    let url = |address: &str| format!("redis://{address}");
    let flags = |url: String| {
        let mongo = servers.mongo_url.clone();
        ["--redis-url".to_owned(), url, "--mongo-url".to_owned(), mongo]
    };
    // The application is behind the proxy, and what the test does is not.
    let proxied = flags(url(&proxy.address.to_string()));
    let (app, _) = start_with_servers(&proxied).await;
    let direct = flags(url(&format!("127.0.0.1:{}", redis.port)));
    let args = Config::parse_from([&["multivac-api".to_owned()], &direct[..]].concat()).backends;
    let settings = QueueSettings { max_attempts: 1, ..args.queue_settings() };
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, settings).await.unwrap();
    let texts: Vec<String> = (0..2_000).map(|n| format!("Star {n} went out.")).collect();
    dead_letter_each(&backends, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let path = format!("{}/multivac/dead/retry", app.base);
    let retrying = tokio::spawn(app.client.post(path).send());
    until("some are retried", async || backends.queue.ledger().await.unwrap().queued > 0).await;
    proxy.set(Mode::Cut);
    let reply = retrying.await.unwrap().unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let problem: Value = reply.json().await.unwrap();
    let retried = problem["retried"].as_u64().unwrap();
    let ledger = backends.queue.ledger().await.unwrap();
    assert!(ledger.balances() && ledger.queued + ledger.dead == 2_000, "{ledger:?}");
    // Those whose replies were cut off may be there besides.
    assert!(retried < 2_000 && (retried..retried + 100).contains(&ledger.queued), "{problem} {ledger:?}");
    let text = problem["detail"].as_str().unwrap();
    assert!(text.contains("dead letters still") && !text.contains("redis://"), "{text}");

    for (method, path) in [
        (Method::GET, "/multivac/dead"),
        (Method::GET, "/multivac/dead/0190163d-8694-739b-aea5-966c26f8ad91"),
        (Method::DELETE, "/multivac/dead/0190163d-8694-739b-aea5-966c26f8ad91"),
        (Method::POST, "/multivac/dead/0190163d-8694-739b-aea5-966c26f8ad91/retry"),
        (Method::POST, "/multivac/dead/retry"),
    ] {
        let reply = app.send(method.clone(), path).await;
        assert_eq!(reply.status(), 503, "{method} {path}");
        assert!(reply.headers().contains_key("retry-after"), "{method} {path}");
    }
    proxy.set(Mode::Pass);
    until("the rest is retried", async || {
        let reply = app.send(Method::POST, "/multivac/dead/retry").await;
        reply.status() == 202 && backends.queue.ledger().await.unwrap().queued == 2_000
    })
    .await;
    app.stop().await;
    servers.clean_up().await;
}
