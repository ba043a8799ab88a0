//! Makes each queue, empty and for one test alone, and deletes it again.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use deadpool_redis::redis::{Client, Cmd};
use multivac_core::adapters::embedded::Embedded;
use multivac_core::adapters::redis::{RedisQueue, RedisSettings};
use multivac_core::queue::{QueueAdmin, QueueSettings};
use multivac_testkit::backends::unique_name;
use multivac_testkit::environment;
use multivac_testkit::redis::delete_keys;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

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

/// Redis, under a namespace of its own.
#[derive(Clone)]
pub(crate) struct Redis(pub(crate) RedisSettings);

/// Redis at `MULTIVAC_TEST_REDIS_URL` (with commas: all the masters of a Redis Cluster).
pub(crate) fn redis(partitions: u16) -> Option<Redis> {
    let urls = environment::variable("MULTIVAC_TEST_REDIS_URL")?.split(',').map(str::to_owned).collect();
    Some(Redis(redis_settings(urls, partitions)))
}

/// Under a namespace of its own.
pub(crate) fn redis_settings(urls: Vec<String>, partitions: u16) -> RedisSettings {
    let urls = urls.into_iter().map(SecretString::from).collect();
    RedisSettings { urls, ca: None, namespace: unique_name(), partitions }
}

impl Redis {
    /// Sends a command past the adapter, to whichever node has the keys.
    pub(crate) async fn command(&self, command: &Cmd) {
        let mut done = false;
        for url in &self.0.urls {
            let mut node = Client::open(url.expose_secret()).unwrap().get_multiplexed_async_connection().await.unwrap();
            done |= command.query_async::<()>(&mut node).await.is_ok();
        }
        assert!(done, "no node has the keys");
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
        let urls: Vec<String> = self.0.urls.iter().map(|url| url.expose_secret().to_owned()).collect();
        delete_keys(&urls, &self.0.namespace).await;
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
