//! Starts the real program with backends of its own, and feeds and watches them past it.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use deadpool_redis::redis;
use mongodb::bson::doc;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::queue::{Acceptance, Job, Ledger, Submission};
use multivac_worker::config::Config;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::process::{PATIENCE, Running};

/// The program with nothing of the environment that the tests run in.
pub(crate) fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multivac-worker"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("MULTIVAC_HEALTH_LISTEN", "127.0.0.1:0").args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Redis and MongoDB under names that nobody else has.
pub(crate) struct Servers {
    pub(crate) flags: Vec<String>,
    pub(crate) backends: Backends,
    redis: String,
    mongo: String,
    name: String,
}

impl Servers {
    /// `None`, aloud, where they are not there; never in CI.
    pub(crate) async fn find(flags: &[&str]) -> Option<Self> {
        let (Ok(redis), Ok(mongo)) = (env::var("MULTIVAC_TEST_REDIS_URL"), env::var("MULTIVAC_TEST_MONGO_URL")) else {
            assert!(env::var_os("CI").is_none(), "in CI no backend may be left out");
            // Past the test harness, which keeps what a passing test prints to itself.
            let _ = std::io::stderr().write_all(b"SKIPPED: no MULTIVAC_TEST_REDIS_URL or no MULTIVAC_TEST_MONGO_URL\n");
            return None;
        };
        let name = format!("multivac_test_{}", Uuid::now_v7().simple());
        let (head, options) = mongo.split_once('?').unwrap_or((&mongo, ""));
        let mongo = format!("{}/{name}?{options}", head.trim_end_matches('/'));
        let own = ["--redis-url", &redis, "--mongo-url", &mongo, "--namespace", &name];
        let flags: Vec<String> = own.iter().chain(flags).map(ToString::to_string).collect();
        let line = std::iter::once("multivac-worker").chain(flags.iter().map(String::as_str));
        let args = Config::parse_from(line).backends;
        let urls = args.server_urls().unwrap().unwrap();
        let backends = Backends::servers(urls, &args, args.queue_settings()).await.unwrap();
        let prepared = backends.prepare(&CancellationToken::new()).await.unwrap();
        assert_eq!(prepared, Prepared::Ready);
        Some(Self { flags, backends, redis, mongo, name })
    }

    pub(crate) fn worker(&self) -> Running {
        Running::start(&mut program(&self.flags.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Accepts so many data, as the api does.
    pub(crate) async fn accept(&self, count: usize) {
        let all: Vec<Submission> = (0..count).map(submission).collect();
        for batch in all.chunks(1_000) {
            let answers = self.backends.queue.accept(batch).await.unwrap();
            assert!(answers.iter().all(|answer| *answer == Acceptance::Accepted));
        }
    }

    /// Looks at the ledger until it is so. It balances at every look.
    pub(crate) async fn until(&self, so: impl Fn(&Ledger) -> bool) -> Ledger {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ledger = self.backends.queue.ledger().await.unwrap();
            assert!(ledger.balances(), "{ledger:?}");
            if so(&ledger) {
                return ledger;
            }
            assert!(Instant::now() < deadline, "it stays {ledger:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The ids that the store holds, each document by itself.
    pub(crate) async fn stored(&self) -> Vec<DatumId> {
        let database = mongodb::Client::with_uri_str(&self.mongo).await.unwrap().database(&self.name);
        let mut documents = database.collection::<mongodb::bson::Document>("entropy").find(doc! {}).await.unwrap();
        let mut ids = Vec::new();
        while documents.advance().await.unwrap() {
            ids.push(documents.current().get_str("_id").unwrap().parse().unwrap());
        }
        ids
    }

    /// Takes away what the test left.
    pub(crate) async fn clean_up(self) {
        mongodb::Client::with_uri_str(&self.mongo).await.unwrap().database(&self.name).drop().await.unwrap();
        let client = redis::Client::open(self.redis).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.name)).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut redis).await.unwrap();
            for key in keys {
                redis::cmd("UNLINK").arg(key).query_async::<()>(&mut redis).await.unwrap();
            }
            cursor = next;
            if cursor == 0 {
                return;
            }
        }
    }
}

fn submission(n: usize) -> Submission {
    submission_of(&format!("Star number {n} went out. Its light is still on the way."))
}

pub(crate) fn submission_of(text: &str) -> Submission {
    let datum = Datum::accepted_before(text);
    let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: None };
    Submission { job, idempotency_key: None }
}
