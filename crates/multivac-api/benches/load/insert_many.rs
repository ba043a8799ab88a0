//! What MongoDB alone does with the documents that a worker has stored: the measure of learning.
//!
//! They are read back as they lie there, so they are the very same, and inserted into an empty collection of the same
//! server, at the same write concern, in batches as large as a worker's and as many at once. Nobody follows that collection,
//! unless it is the one of another database that an api follows.

use std::io;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, InsertManyOptions, WriteConcern};
use mongodb::{Client, Collection};
use tokio::task::JoinSet;

/// As many as a worker leases at once.
const BATCH_SIZE: usize = 1_000;

/// How long a batch may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Inserts the first `count` documents of the collection `entropy` into that of the database `into`, or else into another one that
/// is removed again, `at_once` batches at a time. How long that took.
pub(crate) async fn insert_many(url: &str, count: usize, at_once: usize, into: Option<&str>) -> io::Result<Duration> {
    let client = Client::with_uri_str(url).await.map_err(io::Error::other)?;
    let database = client.default_database().unwrap_or_else(|| client.database("multivac"));
    let learned: Collection<RawDocumentBuf> = database.collection("entropy");
    let find = learned.find(doc! { "data": { "$exists": true } }).limit(i64::try_from(count).unwrap_or(i64::MAX));
    let documents: Vec<RawDocumentBuf> =
        find.await.map_err(io::Error::other)?.try_collect().await.map_err(io::Error::other)?;
    if documents.len() < count {
        return Err(io::Error::other(format!("insert-many: {} of {count} documents are there", documents.len())));
    }
    if let Some(into) = into {
        let followed = client.database(into).collection("entropy");
        return insert(&followed, documents, at_once).await.map_err(io::Error::other);
    }
    let copies: Collection<RawDocumentBuf> = database.collection("entropy_copies");
    copies.drop().await.map_err(io::Error::other)?;
    database.create_collection("entropy_copies").await.map_err(io::Error::other)?;
    let result = insert(&copies, documents, at_once).await;
    copies.drop().await.map_err(io::Error::other)?;
    result.map_err(io::Error::other)
}

async fn insert(
    copies: &Collection<RawDocumentBuf>,
    documents: Vec<RawDocumentBuf>,
    at_once: usize,
) -> mongodb::error::Result<Duration> {
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(TIMEOUT).build();
    let options = InsertManyOptions::builder().ordered(false).write_concern(durable).build();
    let started = Instant::now();
    let mut running = JoinSet::new();
    for batch in documents.chunks(BATCH_SIZE).map(<[RawDocumentBuf]>::to_vec) {
        if running.len() >= at_once.max(1)
            && let Some(done) = running.join_next().await
        {
            done.map_err(mongodb::error::Error::custom)??;
        }
        let (copies, options) = (copies.clone(), options.clone());
        running.spawn(async move { copies.insert_many(batch).with_options(options).await.map(drop) });
    }
    while let Some(done) = running.join_next().await {
        done.map_err(mongodb::error::Error::custom)??;
    }
    Ok(started.elapsed())
}
