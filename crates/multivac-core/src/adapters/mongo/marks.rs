//! How far indexes have come that are kept over restarts: collection `indexes`, see
//! [`Store::mark_index`](crate::store::Store::mark_index).
//!
//! A cluster time alone tells no older state of the database: a copy of its disk that is started again goes on at the time of the
//! clock, and its oplog reaches back to before any position. But it has the marks that it had. A mark also names the
//! collection of data by the UUID that the server gave it when it was made, so that one that was restored, dropped or made
//! anew in the meantime is another.

use std::sync::{Mutex, MutexGuard, PoisonError};
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

pub(super) const INDEXES: &str = "indexes";

/// After how long the server deletes a mark that was not made again. An oplog hardly reaches back as far, so whoever comes
/// later has to load again anyway.
const MARK_LIFETIME: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// The mark of an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) position: Position,
    /// Whether every document up to there was seen to be a datum or a tombstone.
    pub(super) seen_no_foreign: bool,
}

/// The marks, as far as this process knows of them.
#[derive(Default)]
pub(super) struct Marks {
    /// The index that was marked last, or asked for, and where.
    known: Mutex<Option<(String, Position)>>,
}

impl Marks {
    /// Makes a mark, or moves it on.
    ///
    /// # Errors
    /// [`StoreError::PositionLost`]: the mark that is known is not there, so the database is in an older state.
    pub(super) async fn set(
        &self,
        calls: &Calls,
        database: &Database,
        name: &str,
        new: Mark,
    ) -> Result<(), StoreError> {
        let known = self.known().as_ref().filter(|(known, _)| known == name).map(|(_, position)| *position);
        mark(calls, database, name, new, known).await?;
        *self.known() = Some((name.to_owned(), new.position));
        Ok(())
    }

    /// The mark of an index, if the database has one of the collection that is there now.
    pub(super) async fn get(&self, calls: &Calls, database: &Database, name: &str) -> Result<Option<Mark>, StoreError> {
        let mark = marked(calls, database, name).await?;
        *self.known() = mark.map(|mark| (name.to_owned(), mark.position));
        Ok(mark)
    }

    fn known(&self) -> MutexGuard<'_, Option<(String, Position)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a mark must be there, at `known` or behind it, and is not, [`StoreError::PositionLost`].
async fn mark(
    calls: &Calls,
    database: &Database,
    name: &str,
    mark: Mark,
    known: Option<Position>,
) -> Result<(), StoreError> {
    let (database, name) = (database.clone(), name.to_owned());
    // As in `replicas`: the bits, in a signed number.
    let signed = |Position(position): Position| position.cast_signed();
    let mut there = doc! { "_id": name };
    if let Some(known) = known {
        there.insert("position", doc! { "$gte": signed(known) });
    }
    let mark = async move {
        let indexes = database.collection::<Document>(INDEXES);
        let set = doc! {
            // A call that is carried out late does not take it back.
            "position": { "$max": ["$position", signed(mark.position)] },
            "collection": { "$literal": collection_uuid(&database).await? },
            "seen_no_foreign": mark.seen_no_foreign,
            "marked_at": "$$NOW",
        };
        let made = indexes.update_one(there, vec![doc! { "$set": set }]).upsert(known.is_none()).await?;
        if known.is_some() && made.matched_count == 0 {
            return Ok(false);
        }
        // Only with a new mark, since it is a call that would find the index there nearly always.
        if made.upserted_id.is_some() {
            let expiry = IndexOptions::builder().expire_after(MARK_LIFETIME).build();
            indexes.create_index(IndexModel::builder().keys(doc! { "marked_at": 1 }).options(expiry).build()).await?;
        }
        Ok(true)
    };
    let is_there: bool = calls.write(calls.call, mark).await?.map_err(store_error)?;
    if is_there { Ok(()) } else { Err(StoreError::PositionLost) }
}

async fn marked(calls: &Calls, database: &Database, name: &str) -> Result<Option<Mark>, StoreError> {
    let (database, name, limit) = (database.clone(), name.to_owned(), calls.call);
    let find = async move {
        let indexes = database.collection::<Document>(INDEXES);
        let Some(mark) = indexes.find_one(doc! { "_id": name }).max_time(limit).await? else { return Ok(None) };
        let collection = collection_uuid(&database).await?;
        let is_of_it = collection.is_some() && mark.get("collection") == collection.map(Bson::Binary).as_ref();
        let position = mark.get_i64("position").ok().filter(|_| is_of_it);
        let seen_no_foreign = mark.get_bool("seen_no_foreign").unwrap_or(false);
        Ok(position.map(|position| Mark { position: Position(position.cast_unsigned()), seen_no_foreign }))
    };
    calls.read(limit, find).await?.map_err(store_error)
}

/// What the server calls the collection of data; `None` where there is none.
async fn collection_uuid(database: &Database) -> Result<Option<Binary>, Error> {
    let mut found = database.list_collections().filter(doc! { "name": ENTROPY }).await?;
    Ok(found.try_next().await?.and_then(|collection| collection.info.uuid))
}
