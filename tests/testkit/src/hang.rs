//! Servers of a test's own that hang: they keep their connections, and reply to nothing, or to all but writes.

use std::path::Path;

use mongodb::bson::{Document, doc};

use crate::mongo::{self, Mongod};
use crate::redis::{self, RedisServer};
use crate::wait::until;

/// A Redis, and a MongoDB that is a replica set of one.
pub struct HangingServers {
    /// Redis.
    pub redis: RedisServer,
    /// MongoDB.
    pub mongo: Mongod,
}

impl HangingServers {
    /// Starts them, and waits until they reply. Where their programs are not there, the test is skipped.
    pub async fn start() -> Option<Self> {
        let (redis, mongod) = (redis::installed()?, mongo::installed()?);
        let redis = RedisServer::start(&redis, &[]).await;
        let mut members = members(&mongod, 1);
        let mongo = members.remove(0);
        initiate(&mongo, vec![doc! { "_id": 0, "host": mongo.host() }]).await;
        Some(Self { redis, mongo })
    }

    /// The flags by which our programs find them.
    pub fn flags(&self) -> Vec<String> {
        ["--redis-url", &self.redis.url(), "--mongo-url", &self.mongo_url()].map(str::to_owned).into()
    }

    /// MongoDB's URL, with a database in its path.
    pub fn mongo_url(&self) -> String {
        format!("mongodb://{}/multivac?replicaSet=rs0", self.mongo.host())
    }

    /// Has MongoDB take no writes, as for a backup: they hang, while it goes on replying to all else.
    pub async fn lock(&self) {
        self.command(doc! { "fsync": 1, "lock": true }).await;
    }

    /// Ends that.
    pub async fn unlock(&self) {
        self.command(doc! { "fsyncUnlock": 1 }).await;
    }

    /// Has MongoDB refuse writes, or take them again.
    pub async fn block_writes(&self, block: bool) {
        self.command(doc! { "setUserWriteBlockMode": 1, "global": block }).await;
    }

    async fn command(&self, command: Document) {
        assert!(self.mongo.admin(command.clone()).await.is_some(), "{command}");
    }

    /// Neither replies any more.
    pub fn pause(&self) {
        self.redis.service.pause();
        self.mongo.service.pause();
    }

    /// Both reply again.
    pub fn resume(&self) {
        self.redis.service.resume();
        self.mongo.service.resume();
    }
}

/// A primary and an arbiter, which are enough to elect, and a member that is suspended: a majority never has what is
/// written.
pub struct NoMajority {
    /// The servers; the first is the primary.
    pub members: Vec<Mongod>,
}

impl NoMajority {
    /// Starts it with all its members. Where `mongod` is not there, the test is skipped.
    pub async fn start() -> Option<Self> {
        let members = members(&mongo::installed()?, 3);
        let hosts = vec![
            doc! { "_id": 0, "host": members[0].host(), "priority": 2 },
            doc! { "_id": 1, "host": members[1].host(), "priority": 0 },
            doc! { "_id": 2, "host": members[2].host(), "arbiterOnly": true },
        ];
        initiate(&members[0], hosts).await;
        Some(Self { members })
    }

    /// Its URL, with a database in its path.
    pub fn url(&self) -> String {
        format!("mongodb://{}/multivac?replicaSet=rs0", self.members[0].host())
    }

    /// From now on a majority never comes, though there is a primary.
    pub fn lose_majority(&self) {
        self.members[1].service.pause();
    }

    /// It comes again.
    pub fn regain_majority(&self) {
        self.members[1].service.resume();
    }
}

fn members(mongod: &Path, count: usize) -> Vec<Mongod> {
    (0..count).map(|_| Mongod::start(mongod, &["--replSet", "rs0", "--oplogSize", "64"])).collect()
}

async fn initiate(first: &Mongod, members: Vec<Document>) {
    // Refused until all listen.
    let config = doc! { "_id": "rs0", "members": members, "settings": { "heartbeatIntervalMillis": 500 } };
    until("MongoDB is a replica set", async || first.admin(doc! { "replSetInitiate": &config }).await.is_some()).await;
    until("MongoDB takes writes", async || {
        let hello = first.admin(doc! { "hello": 1 }).await;
        hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
    })
    .await;
}
