//! All of Redis: the queue that several processes share.
//!
//! A [`RedisQueue`] keeps its jobs in Redis streams (Redis 6.2 or newer, Valkey; a single node or a Redis Cluster; TLS with
//! `rediss://`, an ACL user or a password in the URL). How each promise of the [port](crate::queue) is kept:
//!
//! - **Durable**: by Redis, if it writes an append-only file and does not evict keys;
//!   [`prepare`](crate::queue::QueueAdmin::prepare) warns of settings under which it would lose jobs. Where more is asked,
//!   WAITAOF behind each accepting script waits for the disk, and a job that does not reach it in time is rolled back
//!   (`durability.rs`).
//!   "Nothing was accepted" is true whatever comes next: a rollback is believed only when every replica that may have the
//!   jobs has it too, and a call that is executed late, by Redis's own clock, accepts nothing (`clock.rs`).
//! - **At least once**: a stream with one consumer group. An entry stays with its consumer until it is acknowledged, and is
//!   claimed by another when its lease has run out. The name of a consumer is new for each
//!   [`RedisQueue`].
//! - **Counted once**: each change is one script (`lua/`), which Redis runs with nothing else in between. The script that
//!   finds a job still marked with its entry finishes it, and changes the ledger. Each looks at the types of its keys before it writes, since Redis does
//!   not undo what a script wrote before it failed. Where keys or entries were deleted by hand, `repair.lua` brings the
//!   ledger in line with what is left.
//!
//! A finished job is deleted from the stream, so memory is bounded by what is unfinished. A waiting consumer blocks on a
//! list, the wakeup key, and not on the stream: a blocked read of the stream whose connection breaks can lease a job to
//! nobody, while a lost wakeup costs a second at most. When Redis comes back empty, or another node takes over, the group is
//! made again by the first call that finds none.
//!
//! With more than one partition each has its own set of keys (`keys.rs`), and a job stays in its partition. That spreads the
//! work over the nodes of a Cluster; the order of jobs is kept within a partition only.
//!
//! `docs/redis.md` says how to set Redis up: its settings, an ACL user's rights, TLS, a Cluster.

mod clock;
mod connection;
mod consumers;
mod durability;
mod entry;
mod examine;
mod keys;
mod packed;
mod partitions;
mod queue;
mod replies;
mod rights;
mod scripts;

use secrecy::SecretString;

use crate::runtime::config::{BackendArgs, ServerUrls};

pub use examine::examine;
pub use queue::RedisQueue;

/// Where Redis is, and which of its keys are ours.
#[derive(Clone)]
pub struct RedisSettings {
    /// One URL, or those of several nodes of a Redis Cluster. They may hold passwords.
    pub urls: Vec<SecretString>,
    /// The authorities that sign the servers' certificates (PEM); `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// The prefix of every key.
    pub namespace: String,
    /// How many partitions the jobs are spread over; the same in every process.
    pub partitions: u16,
}

impl RedisSettings {
    /// Those that both programs have.
    #[must_use]
    pub fn new(urls: &ServerUrls, args: &BackendArgs) -> Self {
        let (urls, ca) = (urls.redis.clone(), urls.redis_ca.clone());
        Self { urls, ca, namespace: args.namespace.clone(), partitions: args.partitions }
    }
}
