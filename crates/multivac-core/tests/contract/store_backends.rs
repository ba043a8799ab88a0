//! Makes each store, empty and for one case alone, and deletes it again.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use mongodb::Database;
use mongodb::bson::Document;
use multivac_core::adapters::embedded::Embedded;
use multivac_core::adapters::mongo::MongoStore;
use multivac_core::queue::QueueSettings;
use multivac_core::store::Store;
use multivac_testkit::backends::{database, unique_name, with_database};
use multivac_testkit::environment;

/// A replica set at `MULTIVAC_TEST_MONGO_URL`: a database of its own for each case, dropped at the end.
pub(crate) async fn mongo(case: impl AsyncFnOnce(&dyn Store)) {
    mongo_and_its_database(async |mongo: &Mongo| case(&mongo.store).await).await;
}

/// One SQLite file in a directory of its own.
pub(crate) async fn embedded(case: impl AsyncFnOnce(&dyn Store)) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), QueueSettings::default()).unwrap().store();
    store.prepare().await.unwrap();
    case(&*store).await;
}

/// A store, and the database under it.
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

/// As [`mongo`], for cases that look past the port.
pub(crate) async fn mongo_and_its_database(case: impl AsyncFnOnce(&Mongo)) {
    let Some(url) = environment::variable("MULTIVAC_TEST_MONGO_URL") else { return };
    let name = unique_name();
    let store = MongoStore::new(&with_database(&url, &name).into(), passages).await.unwrap();
    let database = database(&url, &name).await;
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
