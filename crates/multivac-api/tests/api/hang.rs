//! Servers that hang: requests get their replies, readiness says it, and the process stops in time.

use std::time::{Duration, Instant};

use multivac_testkit::hang::HangingServers;
use multivac_testkit::wait::until_ok;
use serde_json::Value;

use crate::program::Program;

/// How soon replies have to come, and readiness and the log have to tell.
const SECONDS: Duration = Duration::from_secs(12);

/// How soon the process has to end: orchestrators kill it after 30 s.
const STOP: Duration = Duration::from_secs(30);

impl Program {
    async fn until_ready(&self, says: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        until_ok("the replica's readiness", async || {
            let reply = reqwest::get(format!("{}/readyz", self.base)).await.map_err(|error| error.to_string())?;
            let reply: Value = reply.json().await.map_err(|error| error.to_string())?;
            if says(&reply) { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
        begun.elapsed()
    }

    async fn stops_in_time(self) {
        self.process.signal("TERM");
        let begun = Instant::now();
        let exit = self.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(begun.elapsed() < STOP, "it took {:?}: {}", begun.elapsed(), exit.stderr);
    }
}

fn missing(what: &'static str) -> impl Fn(&Value) -> bool {
    move |ready| ready["missing"].to_string().contains(what)
}

fn start(servers: &HangingServers) -> Program {
    let flags = servers.flags();
    Program::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_mongodb_takes_no_writes_a_retraction_gets_a_reply_and_nothing_holds_up_a_stop() {
    let Some(servers) = HangingServers::start().await else { return };
    let app = start(&servers);
    app.until_ready(|ready| ready["ready"] == true).await;
    let client = reqwest::Client::new();
    let feed = client.post(format!("{}/multivac/data", app.base)).form(&[("data", "Is anybody there?")]);
    let fed: Value = feed.send().await.unwrap().json().await.unwrap();
    servers.lock().await;
    let begun = Instant::now();
    let datum = format!("{}/multivac/data/{}", app.base, fed["id"].as_str().unwrap());
    let reply = client.delete(&datum).send().await.unwrap();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    let problem: Value = reply.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("may be retracted all the same"), "{problem}");
    // It can still read, and so follow; but not say how far it has come.
    let told = app.until_ready(missing("fenced")).await;
    assert!(told < SECONDS, "{told:?}");

    // What starts meanwhile says what it waits for.
    let begun = Instant::now();
    let starting = start(&servers);
    starting.process.wait_for_log("waiting for the queue and the store");
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    starting.stops_in_time().await;

    // A request under way holds up the stop for as long as it has time, and no longer.
    let retracting = tokio::spawn(client.delete(&datum).send());
    app.stops_in_time().await;
    drop(retracting);
    servers.unlock().await;
    let app = start(&servers);
    app.until_ready(|ready| ready["ready"] == true).await;
    let reply = client.delete(datum.replace(datum.split("/multivac").next().unwrap(), &app.base)).send().await.unwrap();
    assert_eq!(reply.status(), 204);
    app.stops_in_time().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_neither_server_replies_it_says_so_and_stops_in_time() {
    let Some(servers) = HangingServers::start().await else { return };
    let app = start(&servers);
    app.until_ready(|ready| ready["ready"] == true).await;
    servers.pause();
    let told = app.until_ready(missing("the queue is out of reach")).await;
    assert!(told < SECONDS, "{told:?}");
    let told = app.until_ready(missing("the store is out of reach")).await;
    assert!(told < 2 * SECONDS, "{told:?}");
    let starting = start(&servers);
    starting.process.wait_for_log("waiting for the queue and the store");
    let begun = Instant::now();
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let reply = reqwest::Client::new().delete(format!("{}/multivac/data/{id}", app.base)).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    starting.stops_in_time().await;
    app.stops_in_time().await;
    servers.resume();
}

#[tokio::test]
async fn names_that_dns_does_not_know_are_waited_for() {
    let flags = ["--redis-url", "redis://redis.invalid", "--mongo-url", "mongodb+srv://mongo.example.invalid/"];
    let app = Program::start(&flags);
    app.process.wait_for_log("DNS does not know the name in MongoDB's URL");
    app.until_ready(missing("not there yet")).await;
    app.stops_in_time().await;
}
