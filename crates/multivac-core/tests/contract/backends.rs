//! Makes each backend, empty and for one test alone, and takes it away again.

use std::env;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use deadpool_redis::redis::{self, Client, Cmd};
use multivac_core::adapters::embedded::Embedded;
use multivac_core::adapters::redis::{RedisQueue, RedisSettings};
use multivac_core::queue::{QueueAdmin, QueueSettings};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use uuid::Uuid;

/// A backend that a test has for itself.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// A queue that is ready for use. Two of one backend are two consumers of the same jobs.
    async fn queue(&self, settings: QueueSettings) -> Arc<dyn QueueAdmin>;

    /// How many parts it divides the queue's limits by.
    fn partitions(&self) -> u64 {
        1
    }

    /// Removes whatever the test left.
    async fn clean_up(&self) {}
}

/// Runs a case, and cleans up after it, however it ended.
pub(crate) async fn run<B: Backend, F>(backend: Option<B>, case: impl FnOnce(Arc<dyn Backend>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(backend) = backend else { return };
    let backend: Arc<dyn Backend> = Arc::new(backend);
    let ended = tokio::spawn(case(Arc::clone(&backend))).await;
    backend.clean_up().await;
    if let Err(panicked) = ended {
        std::panic::resume_unwind(panicked.into_panic());
    }
}

/// The value of a variable that names a server; without it, its tests are skipped, but never in CI.
pub(crate) fn server(variable: &str) -> Option<String> {
    let url = env::var(variable).ok();
    if url.is_none() {
        assert!(env::var_os("CI").is_none(), "{variable} is not set: in CI no backend may be left out");
        // Not eprintln!, which the test harness would keep to itself.
        let mut aloud = std::io::stderr();
        writeln!(aloud, "SKIPPED: {variable} is not set").unwrap();
    }
    url
}

/// Redis, under a namespace of its own.
#[derive(Clone)]
pub(crate) struct Redis(pub(crate) RedisSettings);

/// Redis at `MULTIVAC_TEST_REDIS_URL` (with commas: all the masters of a Redis Cluster).
pub(crate) fn redis(partitions: u16) -> Option<Redis> {
    let urls = server("MULTIVAC_TEST_REDIS_URL")?.split(',').map(str::to_owned).collect();
    Some(Redis(redis_settings(urls, partitions)))
}

/// Under a namespace of its own.
pub(crate) fn redis_settings(urls: Vec<String>, partitions: u16) -> RedisSettings {
    let urls = urls.into_iter().map(SecretString::from).collect();
    RedisSettings { urls, ca: None, namespace: format!("test-{}", Uuid::now_v7()), partitions }
}

impl Redis {
    /// Does something behind the adapter's back, on whichever node has the keys.
    pub(crate) async fn meddle(&self, command: &Cmd) {
        let mut done = false;
        for url in &self.0.urls {
            let mut node = Client::open(url.expose_secret()).unwrap().get_multiplexed_async_connection().await.unwrap();
            done |= command.query_async::<()>(&mut node).await.is_ok();
        }
        assert!(done, "no node did it");
    }

    /// Deletes the keys whose names match, on every node.
    async fn delete(&self, pattern: &str) {
        for url in &self.0.urls {
            let mut node = Client::open(url.expose_secret()).unwrap().get_multiplexed_async_connection().await.unwrap();
            let mut cursor = 0;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(format!("{}:{pattern}", self.0.namespace)).arg("COUNT").arg(1_000);
                let (next, keys): (u64, Vec<String>) = scan.query_async(&mut node).await.unwrap();
                for key in keys {
                    redis::cmd("DEL").arg(key).query_async::<()>(&mut node).await.unwrap();
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
    }
}

#[async_trait]
impl Backend for Redis {
    async fn queue(&self, settings: QueueSettings) -> Arc<dyn QueueAdmin> {
        let queue = RedisQueue::new(self.0.clone(), settings).unwrap();
        queue.prepare().await.unwrap();
        Arc::new(queue)
    }

    fn partitions(&self) -> u64 {
        self.0.partitions.into()
    }

    async fn clean_up(&self) {
        self.delete("*").await;
    }
}

/// One SQLite file in a directory of its own; one process, so two queues of it are the same.
pub(crate) struct File {
    directory: TempDir,
    open: OnceLock<Arc<dyn QueueAdmin>>,
}

/// The embedded adapter.
pub(crate) fn embedded() -> Option<File> {
    Some(File { directory: tempfile::tempdir().unwrap(), open: OnceLock::new() })
}

#[async_trait]
impl Backend for File {
    async fn queue(&self, settings: QueueSettings) -> Arc<dyn QueueAdmin> {
        let open = || Embedded::open(self.directory.path(), settings).unwrap().queue();
        let queue = Arc::clone(self.open.get_or_init(open));
        queue.prepare().await.unwrap();
        queue
    }
}
