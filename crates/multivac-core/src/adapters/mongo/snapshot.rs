//! All that the database holds as of one moment, for a backup.
//!
//! MongoDB 5.0 and newer read at a cluster time (read concern `snapshot`, which the driver gives to all reads of a session
//! made for that). The server keeps such moments for `minSnapshotHistoryWindowInSeconds`, five minutes unless it is set
//! otherwise, and a read that takes longer fails: then nothing can be said but to raise that. It costs little here, since what
//! it keeps is the history of changed documents, and a datum changes once, when it is retracted.
//!
//! The documents come in the order of `_id`, so reading goes on behind the last one after an interruption, at the same time.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Bson, Document, RawDocumentBuf, Timestamp as ClusterTime, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::Hint;
use mongodb::{ClientSession, Database, SessionCursor};

use super::calls::in_time;
use super::documents::{ENTROPY, Reader};
use super::{code, documents, store_error};
use crate::store::{SnapshotEntries, StoreEntry, StoreError};

/// How many documents a batch of the server has at most; and how many entries one of ours, and about how many bytes.
const BATCH: u32 = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// How often in a row reading is begun again where it was interrupted, and after how long. An election takes seconds.
const MAX_INTERRUPTIONS: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Where reading stands.
#[derive(Default)]
struct Place {
    /// The moment, once the server has named it.
    at: Option<ClusterTime>,
    /// The last `_id` of ours that was read.
    after: Option<Bson>,
    open: Option<(ClientSession, SessionCursor<RawDocumentBuf>)>,
    interruptions: u32,
    ended: bool,
}

/// The entries, in the order of their ids: of `_id`, by which text comes before an `ObjectId`.
pub(super) fn entries(database: Result<Database, StoreError>, limit: Duration, reader: &Reader) -> SnapshotEntries<'_> {
    let database = match database {
        Ok(database) => database,
        Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
    };
    stream::try_unfold((database, Place::default()), move |(database, mut place)| async move {
        loop {
            if place.ended {
                return Ok(None);
            }
            match next_batch(&database, limit, reader, &mut place).await {
                Ok(batch) => {
                    place.interruptions = 0;
                    return Ok(Some((batch, (database, place))));
                }
                // Where nothing was read yet there is nothing to go on with, and the caller may as well call again.
                Err(error) if error.is_transient() && place.at.is_some() && place.interruptions < MAX_INTERRUPTIONS => {
                    place.interruptions += 1;
                    place.open = None;
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => return Err(error),
            }
        }
    })
    .try_filter(|batch: &Vec<StoreEntry>| std::future::ready(!batch.is_empty()))
    .boxed()
}

async fn next_batch(
    database: &Database,
    limit: Duration,
    reader: &Reader,
    place: &mut Place,
) -> Result<Vec<StoreEntry>, StoreError> {
    let (mut session, mut cursor) = match place.open.take() {
        Some(open) => open,
        None => in_time(limit, open(database, place)).await??,
    };
    place.at = place.at.or(session.snapshot_time());
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH as usize && bytes < BATCH_BYTES {
        let Some(document) = in_time(limit, cursor.next(&mut session)).await? else {
            place.ended = true;
            return Ok(batch);
        };
        let document = document.map_err(snapshot_error)?;
        bytes += document.as_bytes().len();
        if let Some(entry) = reader.read(&document) {
            place.after = Some(documents::key(entry.id()));
            batch.push(entry);
        }
    }
    place.open = Some((session, cursor));
    Ok(batch)
}

async fn open(
    database: &Database,
    place: &Place,
) -> Result<(ClientSession, SessionCursor<RawDocumentBuf>), StoreError> {
    let mut start = database.client().start_session().snapshot(true);
    if let Some(at) = place.at {
        start = start.snapshot_time(at);
    }
    let mut session = start.await.map_err(snapshot_error)?;
    let filter = place.after.as_ref().map_or_else(Document::new, |after| doc! { "_id": { "$gt": after } });
    // `$gt` compares with what is of the same type alone, and an `ObjectId` comes after every text. What else comes again is
    // no datum.
    let filter = match &place.after {
        Some(Bson::String(_)) => doc! { "$or": [filter, { "_id": { "$not": { "$type": "string" } } }] },
        _ => filter,
    };
    let entropy = database.collection(ENTROPY);
    let find = entropy.find(filter).sort(doc! { "_id": 1 }).hint(Hint::Keys(doc! { "_id": 1 }));
    let cursor = find.batch_size(BATCH).session(&mut session).await.map_err(snapshot_error)?;
    Ok((session, cursor))
}

fn snapshot_error(error: Error) -> StoreError {
    let not_supported = "an export needs MongoDB 5.0 or newer, which can read all data as of one moment; for an older one \
        there is mongodump --oplog";
    match error.kind.as_ref() {
        ErrorKind::IncompatibleServer { .. } => StoreError::Misconfigured(not_supported.into()),
        ErrorKind::Command(command) if code::NO_SNAPSHOT_READS.contains(&command.code) => {
            StoreError::Misconfigured(not_supported.into())
        }
        ErrorKind::Command(command) if code::SNAPSHOT_TOO_OLD.contains(&command.code) => StoreError::Misconfigured(
            "MongoDB does not keep a moment for as long as it took to read all data as of it: raise its parameter \
             minSnapshotHistoryWindowInSeconds (300), such as by db.adminCommand({setParameter: 1, \
             minSnapshotHistoryWindowInSeconds: 3600}) on each member, and export again"
                .into(),
        ),
        _ => store_error(error),
    }
}
