//! Makes each store anew for each case, and takes it away again.

use std::env;
use std::io::{Write, stderr};
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use mongodb::bson::Document;
use mongodb::{Client, Database};
use multivac_core::adapters::embedded::Embedded;
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::queue::QueueSettings;
use multivac_core::store::Store;
use uuid::Uuid;

/// A replica set at `MULTIVAC_TEST_MONGO_URL`: a database of its own for each case, dropped at the end.
pub(crate) async fn mongo(case: impl AsyncFnOnce(&dyn Store)) {
    mongo_itself(async |mongo: &Mongo| case(&mongo.store).await).await;
}

/// One SQLite file in a directory of its own.
pub(crate) async fn embedded(case: impl AsyncFnOnce(&dyn Store)) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), QueueSettings::default()).unwrap().store();
    store.prepare().await.unwrap();
    case(&*store).await;
}

/// What a case of MongoDB alone may look into.
pub(crate) struct Mongo {
    /// The store, prepared.
    pub(crate) store: MongoStore,
    /// Its database.
    pub(crate) database: Database,
}

impl Mongo {
    /// The collection of data.
    pub(crate) fn entropy(&self) -> mongodb::Collection<Document> {
        self.database.collection("entropy")
    }
}

/// As [`mongo`], for cases that look behind the port.
pub(crate) async fn mongo_itself(case: impl AsyncFnOnce(&Mongo)) {
    let Some(url) = given("MULTIVAC_TEST_MONGO_URL") else { return };
    let name = format!("multivac_test_{}", Uuid::now_v7().simple());
    let store = MongoStore::new(&with_database(&url, &name).into(), passages).await.unwrap();
    let database = Client::with_uri_str(&url).await.unwrap().database(&name);
    store.prepare().await.unwrap();
    let mongo = Mongo { store, database };
    let outcome = AssertUnwindSafe(case(&mongo)).catch_unwind().await;
    mongo.database.drop().await.unwrap();
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

/// How the stores of the tests make passages.
pub(crate) fn passages(text: &str) -> Vec<String> {
    vec![format!("a passage of {text}")]
}

/// What a variable of the environment says; a test that cannot go on without is skipped aloud, but not in CI.
pub(crate) fn given(variable: &str) -> Option<String> {
    let value = env::var(variable).ok();
    if value.is_none() {
        assert!(env::var_os("CI").is_none(), "{variable} must be set in CI");
        // Straight to the standard error stream: what a passing test prints is not shown.
        stderr().write_all(format!("SKIPPED: {variable} is not set\n").as_bytes()).unwrap();
    }
    value
}

/// A MongoDB URL with another database in its path.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (servers, options) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, servers) = servers.split_once("://").unwrap();
    let servers = servers.split_once('/').map_or(servers, |(servers, _)| servers);
    format!("{scheme}://{servers}/{database}?{options}")
}
