//! Redis servers that a test starts, changes and kills for itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use crate::process::Service;
use crate::{TEST_TIMEOUT, environment, port};

/// The installed `redis-server`; without one the test is skipped.
pub fn installed() -> Option<PathBuf> {
    environment::program("MULTIVAC_TEST_REDIS_SERVER")
}

/// A `redis-server` of 7.2 or newer, which can say when a write has reached the disk (`WAITAOF`); without one the test is
/// skipped.
pub fn newer() -> Option<PathBuf> {
    environment::program("MULTIVAC_TEST_REDIS8_SERVER")
}

/// How long a command may take: the client's own half a second is too short for what waits for the disk on a busy machine, such
/// as `CONFIG SET appendonly`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// A server with an append-only file in a directory of its own. It ends when it is dropped.
pub struct RedisServer {
    /// The process.
    pub service: Service,
    /// Where it listens.
    pub port: u16,
    directory: TempDir,
}

impl RedisServer {
    /// Starts it with these arguments after the usual ones, and waits until it answers.
    pub async fn start(binary: &Path, arguments: &[&str]) -> Self {
        // Another process may take the port before the server does; then the next is tried.
        for _ in 0..5 {
            let (port, directory) = (port::free_port(), tempfile::tempdir().unwrap());
            let mut line: Vec<OsString> = vec![binary.into()];
            line.extend(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""].map(Into::into));
            line.extend(["--appendonly", "yes", "--dir"].map(Into::into));
            line.push(directory.path().into());
            line.extend(arguments.iter().map(Into::into));
            let service = Service::start("redis", line, directory.path().join("log"));
            let mut server = Self { service, port, directory };
            if server.answers().await {
                return server;
            }
        }
        panic!("{} does not start with {arguments:?}", binary.display());
    }

    /// Starts it again where it was, with what it had written, and waits until it answers.
    pub async fn start_again(&mut self) {
        self.service.start_again();
        assert!(self.answers().await, "Redis does not start again: {}", self.service.log_tail());
    }

    /// Waits until it answers; `false` when it has ended instead.
    async fn answers(&mut self) -> bool {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while Instant::now() < deadline && !self.service.has_ended() {
            match self.ask::<String>(&cmd("PING")).await {
                Ok(_) => return true,
                // It asks for a password.
                Err(error) if error.code() == Some("NOAUTH") => return true,
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Changes one of its settings.
    pub async fn set(&self, name: &str, value: &str) {
        self.ask::<()>(cmd("CONFIG").arg("SET").arg(name).arg(value)).await.unwrap();
    }

    /// Sends one command over a connection of its own.
    ///
    /// # Errors
    /// Whatever the server, or the way to it, has against the command.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let timeouts = AsyncConnectionConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(COMMAND_TIMEOUT));
        let mut connection = Client::open(self.url())?.get_multiplexed_async_connection_with_config(&timeouts).await?;
        command.query_async(&mut connection).await
    }
}

/// Deletes all keys of a namespace, on every node.
pub async fn delete_keys(urls: &[String], namespace: &str) {
    for url in urls {
        let mut node = Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut cursor = 0;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{namespace}:*")).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut node).await.unwrap();
            for key in keys {
                cmd("UNLINK").arg(key).query_async::<()>(&mut node).await.unwrap();
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
}
