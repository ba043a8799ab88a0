//! Servers that hang: the worker says so, stops in time, and goes on when they are back.

use std::time::{Duration, Instant};

use multivac_core::queue::Ledger;
use multivac_testkit::hang::HangingServers;
use multivac_testkit::port::free_port;
use multivac_testkit::process::Process;
use multivac_testkit::wait::until_ok;
use serde_json::Value;

use crate::test_worker::{Servers, program};

/// How soon `/readyz` and the log have to tell.
const SECONDS: Duration = Duration::from_secs(12);

/// How soon the process has to end: orchestrators kill it after 30 s.
const STOP: Duration = Duration::from_secs(30);

struct Worker {
    process: Process,
    readyz: String,
}

impl Worker {
    fn start(flags: &[String]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let process = Process::start(program(&flags).env("MULTIVAC_HEALTH_LISTEN", &address));
        Self { process, readyz: format!("http://{address}/readyz") }
    }

    /// Waits until its readiness says this; how long that took.
    async fn until_ready(&self, says: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        until_ok("the worker's readiness", async || {
            let reply = reqwest::get(&self.readyz).await.map_err(|error| error.to_string())?;
            let reply: Value = reply.json().await.map_err(|error| error.to_string())?;
            if says(&reply) { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
        begun.elapsed()
    }

    /// Stops it; it ends in time, with status 0.
    async fn stop(self) {
        self.process.signal("TERM");
        let begun = Instant::now();
        let exit = self.process.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(begun.elapsed() < STOP, "it took {:?}: {}", begun.elapsed(), exit.stderr);
    }
}

fn missing(what: &'static str) -> impl Fn(&Value) -> bool {
    move |ready| ready["ready"] == false && ready["missing"].to_string().contains(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_that_takes_no_writes_is_named_holds_up_no_stop_and_loses_nothing() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    let worker = Worker::start(&servers.flags);
    worker.until_ready(|ready| ready["ready"] == true).await;
    own.lock().await;
    servers.accept(2_500).await;
    let told = worker.until_ready(missing("the store is out of reach")).await;
    assert!(told < SECONDS, "{told:?}");
    worker.process.wait_for_log("did not reply within");
    worker.stop().await;

    // Another that starts meanwhile says what it waits for, goes on waiting, and can be stopped too.
    let begun = Instant::now();
    let worker = Worker::start(&servers.flags);
    worker.process.wait_for_log("waiting for the queue and the store");
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    worker.until_ready(missing("not there yet")).await;
    worker.stop().await;

    let worker = Worker::start(&servers.flags);
    own.unlock().await;
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 2_500, learned: 2_500, ..Ledger::default() });
    worker.until_ready(|ready| ready["ready"] == true).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_neither_server_replies_the_worker_and_its_commands_end_in_time() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    let worker = Worker::start(&servers.flags);
    worker.until_ready(|ready| ready["ready"] == true).await;
    own.pause();
    let told = worker.until_ready(missing("the queue is out of reach")).await;
    assert!(told < SECONDS, "{told:?}");
    worker.until_ready(missing("the store is out of reach")).await;

    let starting = Worker::start(&servers.flags);
    let flags: Vec<&str> = servers.flags.iter().map(String::as_str).collect();
    let commands: [&[&str]; 3] = [&["status"], &["dead", "list"], &["dead", "drop", "--all"]];
    for command in commands {
        let begun = Instant::now();
        let output = program(&[command, &flags].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(begun.elapsed() < SECONDS, "{command:?}: {:?}", begun.elapsed());
        assert!(String::from_utf8_lossy(&output.stderr).contains("Redis"), "{command:?}");
    }
    starting.process.wait_for_log("waiting for the queue and the store");
    starting.stop().await;
    worker.stop().await;
    own.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_mongodb_refuses_all_writes_data_wait_and_none_becomes_a_dead_letter() {
    let Some(own) = HangingServers::start().await else { return };
    let servers = Servers::with(own.flags()).await;
    let worker = Worker::start(&servers.flags);
    servers.accept(1_500).await;
    servers.until(|ledger| ledger.learned > 0).await;
    own.block_writes(true).await;
    servers.accept(1_500).await;
    worker.until_ready(missing("cannot take data")).await;
    worker.process.wait_for_log("371");
    // As long as several attempts at a job that failed would take.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ledger = servers.until(|_| true).await;
    assert!(ledger.dead == 0 && ledger.processing > 0, "{ledger:?}");
    own.block_writes(false).await;
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 3_000, learned: 3_000, ..Ledger::default() });
    worker.until_ready(|ready| ready["ready"] == true).await;
    worker.stop().await;
}

#[tokio::test]
async fn names_that_dns_does_not_know_are_waited_for() {
    for (redis, mongo) in [
        ("redis://redis.invalid", "mongodb://mongo.invalid/?replicaSet=rs0"),
        ("redis://redis.invalid", "mongodb+srv://mongo.example.invalid/"),
    ] {
        let flags = ["--redis-url", redis, "--mongo-url", mongo].map(str::to_owned);
        let worker = Worker::start(&flags);
        worker.process.wait_for_log("waiting for the queue and the store");
        worker.process.wait_for_log("DNS does not know the name in MongoDB's URL");
        worker.until_ready(missing("not there yet")).await;
        worker.stop().await;
    }
}
