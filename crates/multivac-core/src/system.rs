//! What the system is made of at present: replicas, workers, and how full the queue is.

use std::time::Duration;

use crate::datum::Timestamp;
use crate::observe::metrics;
use crate::queue::QueueConsumer;
use crate::status::{Registry, StatusError};
use crate::store::SeenReplica;

/// The system, as one replica sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct System {
    /// This replica's version.
    pub version: &'static str,
    /// The replicas of the last minute, this one among them; in the order of their names.
    pub replicas: Vec<SeenReplica>,
    /// Those who take jobs off the queue.
    pub workers: Vec<QueueConsumer>,
    /// The queue.
    pub queue: QueueFill,
}

/// How full the queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFill {
    /// Jobs that are queued or processing.
    pub unfinished: u64,
    /// Their text.
    pub size_bytes: u64,
    /// How long ago the oldest of them was accepted.
    pub oldest: Option<Duration>,
}

impl Registry {
    /// Asks the queue and the store.
    ///
    /// # Errors
    /// When one of them is out of reach.
    pub async fn system(&self) -> Result<System, StatusError> {
        let (workers, partitions) = (self.queue.consumers().await?, self.queue.partitions().await?);
        let mut replicas = self.store.replicas().await?;
        // What this replica knows of itself is newer than what it has announced.
        let own = SeenReplica {
            name: self.follower.replica().to_owned(),
            version: Some(metrics::version().to_owned()),
            is_alive: !self.follower.fence().is_fenced(),
        };
        replicas.retain(|replica| replica.name != own.name);
        replicas.push(own);
        replicas.sort_by(|one, other| one.name.cmp(&other.name));
        let now = Timestamp::now();
        let queue = QueueFill {
            unfinished: partitions.iter().map(|partition| partition.queued + partition.processing).sum(),
            size_bytes: partitions.iter().map(|partition| partition.size_bytes).sum(),
            oldest: partitions.iter().filter_map(|partition| partition.oldest).min().map(|oldest| now.since(oldest)),
        };
        Ok(System { version: metrics::version(), replicas, workers, queue })
    }
}
