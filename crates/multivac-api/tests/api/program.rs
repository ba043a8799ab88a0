//! The real program as a process of its own, for tests that start, signal and kill it.

use std::process::Command;
use std::time::{Duration, Instant};

use multivac_testkit::TEST_TIMEOUT;
use multivac_testkit::port::free_port;
use multivac_testkit::process::{Exit, Process, isolated_command};
use reqwest::Client;
use serde_json::Value;

/// The program with nothing of the environment that the tests run in.
pub(crate) fn program(flags: &[&str]) -> Command {
    wrapped_program(&[], flags)
}

/// The same, run by another command such as nsenter.
pub(crate) fn wrapped_program(wrapper: &[&str], flags: &[&str]) -> Command {
    isolated_command(&[wrapper, &[env!("CARGO_BIN_EXE_multivac-api")], flags].concat())
}

/// Waits until a process says where it listens; the base URL.
pub(crate) fn base_of(process: &mut Process) -> String {
    let line = process.first_line();
    let base = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    assert!(base.starts_with("http://127.0.0.1:"), "it does not listen: {line}{}", process.stderr());
    base
}

/// The program while it listens.
pub(crate) struct Program {
    pub(crate) base: String,
    pub(crate) process: Process,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(&mut program(&[&["--listen", "127.0.0.1:0", "--log-format", "text"], flags].concat()))
    }

    /// The same with a command made by [`program`], which has to have it log as text.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        Self { base: base_of(&mut process), process }
    }

    /// The same, with Redis and MongoDB where nobody listens.
    pub(crate) fn without_servers() -> Self {
        let nobody = format!("127.0.0.1:{}", free_port());
        let mut command = program(&["--listen", "127.0.0.1:0", "--log-format", "text"]);
        command
            .env("REDIS_URL", format!("redis://{nobody}"))
            .env("MONGO_URL", format!("mongodb://{nobody}/?serverSelectionTimeoutMS=300"));
        Self::spawn(&mut command)
    }

    /// What it has logged so far.
    pub(crate) fn logs(&self) -> String {
        self.process.stderr()
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Exit {
        self.process.ended().await
    }

    /// Asks until the reply fulfils `condition`; fails with the last reply and the logs.
    pub(crate) async fn until(&self, client: &Client, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut seen = Value::Null;
        loop {
            // A connection that breaks is tried again, like one that is made too early.
            if let Ok(reply) = client.get(format!("{}{path}", self.base)).send().await
                && let Ok(json) = reply.json().await
            {
                seen = json;
            }
            if condition(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}; it logged {}", self.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
