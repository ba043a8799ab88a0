//! The Redis and the MongoDB that all tests share, under names of a test's own.

use mongodb::{Client, Database};
use uuid::Uuid;

use crate::environment::variable;
use crate::redis::delete_keys;

/// A name for a namespace or a database that no other test has.
pub fn unique_name() -> String {
    format!("multivac_test_{}", Uuid::now_v7().simple())
}

/// A MongoDB URL with another database in its path.
pub fn with_database(url: &str, database: &str) -> String {
    let (servers, options) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, servers) = servers.split_once("://").unwrap();
    let servers = servers.split_once('/').map_or(servers, |(servers, _)| servers);
    format!("{scheme}://{servers}/{database}?{options}")
}

/// A database, past the adapter.
pub async fn database(url: &str, name: &str) -> Database {
    Client::with_uri_str(url).await.unwrap().database(name)
}

/// The shared servers, with a namespace in Redis and a database in MongoDB for one test.
pub struct SharedServers {
    /// Redis's URL.
    pub redis_url: String,
    /// MongoDB's URL, with the database in its path.
    pub mongo_url: String,
    /// The namespace, and the database.
    pub name: String,
}

impl SharedServers {
    /// Where they are; without them the test is skipped.
    pub fn find() -> Option<Self> {
        let (redis_url, mongo_url) = (variable("MULTIVAC_TEST_REDIS_URL")?, variable("MULTIVAC_TEST_MONGO_URL")?);
        let name = unique_name();
        Some(Self { redis_url, mongo_url: with_database(&mongo_url, &name), name })
    }

    /// The flags by which our programs find them.
    pub fn flags(&self) -> Vec<String> {
        ["--redis-url", &self.redis_url, "--mongo-url", &self.mongo_url, "--namespace", &self.name]
            .map(str::to_owned)
            .into()
    }

    /// The test's database.
    pub async fn database(&self) -> Database {
        database(&self.mongo_url, &self.name).await
    }

    /// Deletes what the test has left.
    pub async fn clean_up(&self) {
        self.database().await.drop().await.unwrap();
        delete_keys(std::slice::from_ref(&self.redis_url), &self.name).await;
    }
}
