//! How far indexes have come that are kept over restarts: collection `indexes`, see
//! [`Store::mark_index`](crate::store::Store::mark_index).
//!
//! A cluster time alone tells no older state of the database: a copy of its disk that is started again goes on at the time of the
//! clock, and its oplog reaches back to before any position. But it has the marks that it had. A mark also names the
//! collection of data by the UUID that the server gave it when it was made, so that one that was restored, dropped or made
//! anew in the meantime is another.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use super::calls::Calls;
use super::documents::ENTROPY;
use super::store_error;
use crate::store::{Position, StoreError};

const INDEXES: &str = "indexes";

/// After how long the server deletes a mark that was not made again. An oplog hardly reaches back as far, so whoever comes
/// later has to load again anyway.
const MARK_LIFETIME: Duration = Duration::from_secs(60 * 24 * 60 * 60);

pub(super) async fn mark(
    calls: &Calls,
    database: &Database,
    name: &str,
    Position(position): Position,
) -> Result<(), StoreError> {
    let (database, name) = (database.clone(), name.to_owned());
    let mark = async move {
        let indexes = database.collection::<Document>(INDEXES);
        let set = doc! {
            // As in `replicas`: the bits, in a signed number.
            "position": position.cast_signed(),
            "collection": { "$literal": collection_uuid(&database).await? },
            "marked_at": "$$NOW",
        };
        let made = indexes.update_one(doc! { "_id": name }, vec![doc! { "$set": set }]).upsert(true).await?;
        // Only with a new mark, since it is a call that would find the index there nearly always.
        if made.upserted_id.is_some() {
            let expiry = IndexOptions::builder().expire_after(MARK_LIFETIME).build();
            indexes.create_index(IndexModel::builder().keys(doc! { "marked_at": 1 }).options(expiry).build()).await?;
        }
        Ok(())
    };
    calls.write(calls.call, mark).await?.map_err(store_error)
}

pub(super) async fn marked(calls: &Calls, database: &Database, name: &str) -> Result<Option<Position>, StoreError> {
    let (database, name, limit) = (database.clone(), name.to_owned(), calls.call);
    let find = async move {
        let indexes = database.collection::<Document>(INDEXES);
        let Some(mark) = indexes.find_one(doc! { "_id": name }).max_time(limit).await? else { return Ok(None) };
        let collection = collection_uuid(&database).await?;
        let is_of_it = collection.is_some() && mark.get("collection") == collection.map(Bson::Binary).as_ref();
        let position = mark.get_i64("position").ok().filter(|_| is_of_it);
        Ok(position.map(|position| Position(position.cast_unsigned())))
    };
    calls.read(limit, find).await?.map_err(store_error)
}

/// What the server calls the collection of data; `None` where there is none.
async fn collection_uuid(database: &Database) -> Result<Option<Binary>, Error> {
    let mut found = database.list_collections().filter(doc! { "name": ENTROPY }).await?;
    Ok(found.try_next().await?.and_then(|collection| collection.info.uuid))
}
