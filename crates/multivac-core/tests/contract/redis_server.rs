//! Redis servers that a test starts, changes and kills for itself.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use crate::backends;

/// How long anything may take that takes milliseconds on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A Redis server of a test's own, in a directory of its own, with an append-only file; it ends with the test.
pub(crate) struct Server {
    binary: PathBuf,
    arguments: Vec<String>,
    pub(crate) port: u16,
    directory: TempDir,
    process: Option<Child>,
}

/// The installed server; `None`, aloud, where there is none.
pub(crate) fn installed() -> Option<PathBuf> {
    backends::server("MULTIVAC_TEST_REDIS_SERVER").map(PathBuf::from)
}

/// One of 7.2 or newer.
pub(crate) fn newer() -> Option<PathBuf> {
    backends::server("MULTIVAC_TEST_REDIS8_SERVER").map(PathBuf::from)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts it with these arguments more, and waits until it answers.
    pub(crate) async fn start(binary: &Path, arguments: &[&str]) -> Self {
        // Another may take a port that was free a moment ago; then the next is tried.
        for _ in 0..5 {
            let mut server = Self {
                binary: binary.to_owned(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                port: free_port(),
                directory: tempfile::tempdir().unwrap(),
                process: None,
            };
            if server.start_again().await {
                return server;
            }
        }
        panic!("{} does not start with {arguments:?}", binary.display());
    }

    /// Starts it where it was, with what it had written. Whether it runs.
    pub(crate) async fn start_again(&mut self) -> bool {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(&self.binary);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--dir"]).arg(self.directory.path()).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.ask::<String>(&cmd("PING")).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    /// Does a command past the adapter.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connect().await?).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
