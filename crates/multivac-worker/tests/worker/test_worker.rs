//! Starts the real program with backends of a test's own, and feeds and watches them past it.

use std::process::{Command, Stdio};

use clap::Parser;
use mongodb::bson::doc;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::datum::DatumId;
use multivac_core::queue::{Acceptance, Ledger, Submission};
use multivac_testkit::backends::SharedServers;
use multivac_testkit::process::{Process, isolated_command};
use multivac_testkit::sample;
use multivac_testkit::wait::until_ok;
use multivac_worker::config::Config;
use tokio_util::sync::CancellationToken;

/// The program's path.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_multivac-worker");

/// The program with nothing of the environment that the tests run in.
pub(crate) fn program(flags: &[&str]) -> Command {
    let mut command = isolated_command(&[&[PROGRAM], flags].concat());
    command.env("MULTIVAC_HEALTH_LISTEN", "127.0.0.1:0").stdout(Stdio::null());
    command
}

/// The shared Redis and MongoDB, under names of the test's own.
pub(crate) struct Servers {
    pub(crate) flags: Vec<String>,
    pub(crate) backends: Backends,
    shared: Option<SharedServers>,
}

impl Servers {
    /// Without the servers the test is skipped.
    pub(crate) async fn find(flags: &[&str]) -> Option<Self> {
        let shared = SharedServers::find()?;
        let flags = shared.flags().into_iter().chain(flags.iter().map(ToString::to_string)).collect();
        Some(Self { shared: Some(shared), ..Self::with(flags).await })
    }

    /// Servers of the test's own.
    pub(crate) async fn with(flags: Vec<String>) -> Self {
        let line = std::iter::once("multivac-worker").chain(flags.iter().map(String::as_str));
        let args = Config::parse_from(line).backends;
        let urls = args.server_urls().unwrap().unwrap();
        let backends = Backends::servers(urls, &args, args.queue_settings()).await.unwrap();
        let prepared = backends.prepare(&CancellationToken::new()).await.unwrap();
        assert_eq!(prepared, Prepared::Ready);
        Self { flags, backends, shared: None }
    }

    pub(crate) fn worker(&self) -> Process {
        Process::start(&mut program(&self.flags.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Accepts so many data, as the api does.
    pub(crate) async fn accept(&self, count: usize) {
        let text = |n| format!("Star number {n} went out. Its light is still on the way.");
        let all: Vec<Submission> = (0..count).map(|n| sample::submission(&text(n))).collect();
        for batch in all.chunks(1_000) {
            let answers = self.backends.queue.accept(batch).await.unwrap();
            assert!(answers.iter().all(|answer| *answer == Acceptance::Accepted));
        }
    }

    /// Reads the ledger until it fulfils `condition`. It balances every time.
    pub(crate) async fn until(&self, condition: impl Fn(&Ledger) -> bool) -> Ledger {
        until_ok("the ledger changes", async || {
            let ledger = self.backends.queue.ledger().await.unwrap();
            assert!(ledger.balances(), "{ledger:?}");
            if condition(&ledger) { Ok(ledger) } else { Err(ledger) }
        })
        .await
    }

    /// The ids that the store holds, each document by itself.
    pub(crate) async fn stored(&self) -> Vec<DatumId> {
        let database = self.shared.as_ref().expect("the shared servers").database().await;
        let mut documents = database.collection::<mongodb::bson::Document>("entropy").find(doc! {}).await.unwrap();
        let mut ids = Vec::new();
        while documents.advance().await.unwrap() {
            ids.push(documents.current().get_str("_id").unwrap().parse().unwrap());
        }
        ids
    }

    /// Deletes what the test has left.
    pub(crate) async fn clean_up(self) {
        self.shared.expect("the shared servers").clean_up().await;
    }
}
