//! The port [`Store`], kept by MongoDB.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use mongodb::action::Find;
use mongodb::bson::{
    Bson, Document, RawDocument, RawDocumentBuf, Timestamp as ClusterTime, doc, serialize_to_document,
};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::{OperationType, ResumeToken};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{FullDocumentType, Hint, IndexOptions, ReadConcern};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{Collection, Database, IndexModel};
use secrecy::SecretString;
use serde::Deserialize;

use super::sightings::{Replica, Sightings};
use super::{NO_REPLICA_SET, client, code, documents, is_duplicate, is_id_taken, store_error};
use crate::datum::DatumId;
use crate::store::{
    Change, ChangeBatch, Changes, Position, Put, Retraction, Scan, Store, StoreCounts, StoreEntry, StoreError,
    StoredDatum,
};

/// The collection of data, named as the original application named it.
const ENTROPY: &str = "entropy";

/// The collection of replicas.
const REPLICAS: &str = "replicas";

/// After how long the server deletes a replica that was not announced again. Its clean-up runs once a minute anyway.
const REPLICA_LIFETIME: Duration = Duration::from_secs(60);

/// How many documents a batch of a scan has at most. The server sends 16 MiB at most, which bounds the memory.
const SCAN_BATCH: u32 = 1_000;

/// How many changes a batch has at most, within the same 16 MiB.
const FOLLOW_BATCH: u32 = 10_000;

/// How long the server waits for a change before it replies that there is none. Only such a reply brings a follower's
/// position past what was written to other collections meanwhile, and a retraction may wait for that.
const FOLLOW_MAX_WAIT: Duration = Duration::from_millis(250);

/// How long the server may take to tell what replicas have announced: its reply waits for the majority.
const REPLICAS_MAX_TIME: Duration = Duration::from_secs(2);

/// How many ids a batch has at most, within the same 16 MiB.
const ID_BATCH: u32 = 100_000;

/// Keeps data in MongoDB; see the [module](super).
pub struct MongoStore {
    database: Database,
    entropy: Collection<RawDocumentBuf>,
    replicas: Collection<Replica>,
    sightings: Mutex<Sightings>,
    reader: Reader,
}

impl MongoStore {
    /// A store at `url`. Connects to nothing yet; [`prepare`](Store::prepare) does.
    ///
    /// `process` makes the passages of documents that have none: those of the original application.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: `url` is not a MongoDB URL. [`StoreError::Unavailable`]: it is a `mongodb+srv` URL,
    /// and DNS does not answer.
    pub async fn new(url: &SecretString, process: fn(&str) -> Vec<String>) -> Result<Self, StoreError> {
        let (client, database) = client(url).await?;
        let database = client.database(&database);
        Ok(Self {
            entropy: database.collection(ENTROPY),
            replicas: database.collection(REPLICAS),
            sightings: Mutex::default(),
            database,
            reader: Reader { process, warned: Arc::default() },
        })
    }

    /// The operation time that comes with the reply to a read that finds nothing.
    async fn operation_time(&self, read_concern: Document) -> Result<ClusterTime, StoreError> {
        let read = doc! { "find": ENTROPY, "filter": { "_id": 0 }, "singleBatch": true, "readConcern": read_concern };
        let reply = self.database.run_command(read).await.map_err(store_error)?;
        reply.get_timestamp("operationTime").map_err(|_| StoreError::Misconfigured(NO_REPLICA_SET.into()))
    }

    /// Whether a datum or a tombstone lies under each of these ids, which an insert found taken.
    ///
    /// The failed insert has waited until the majority has what it found, so this read sees it.
    async fn read_taken(&self, ids: impl Iterator<Item = DatumId>) -> Result<HashMap<DatumId, Put>, StoreError> {
        let keys: Vec<Bson> = ids.map(documents::key).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.entropy.find(doc! { "_id": { "$in": keys } }).projection(doc! { "retracted_at": 1 });
        let put = |document: RawDocumentBuf| {
            let id = documents::read_key(document.get("_id").ok()??)?;
            let put = if document.get_datetime("retracted_at").is_ok() { Put::Retracted } else { Put::Stored };
            Some((id, put))
        };
        let found = found.await.map_err(store_error)?.map_err(store_error);
        found.try_filter_map(|document| ready(Ok(put(document)))).try_collect().await
    }

    /// Puts a tombstone in the place of what lies under an id, unless one is there. Returns what was there before.
    async fn replace_with_tombstone(&self, id: DatumId) -> Result<Option<RawDocumentBuf>, Error> {
        let tombstone = doc! {
            "_id": "$_id",
            "received_at": "$received_at",
            "retracted_at": { "$ifNull": ["$retracted_at", "$$NOW"] },
        };
        self.entropy
            .find_one_and_update(doc! { "_id": documents::key(id) }, vec![doc! { "$replaceWith": tombstone }])
            .upsert(true)
            .await
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let hello = self.database.run_command(doc! { "hello": 1 }).await.map_err(store_error)?;
        let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        if !sharded && !hello.contains_key("setName") {
            return Err(StoreError::Misconfigured(NO_REPLICA_SET.into()));
        }
        let tombstones =
            IndexOptions::builder().partial_filter_expression(doc! { "retracted_at": { "$exists": true } });
        let tombstones = IndexModel::builder().keys(doc! { "retracted_at": 1 }).options(tombstones.build()).build();
        self.entropy.create_index(tombstones).await.map_err(store_error)?;
        let expiry = IndexOptions::builder().expire_after(REPLICA_LIFETIME).build();
        let expiry = IndexModel::builder().keys(doc! { "seen_at": 1 }).options(expiry).build();
        self.replicas.create_index(expiry).await.map_err(store_error)?;
        Ok(())
    }

    async fn put(&self, data: &[StoredDatum]) -> Result<Vec<Put>, StoreError> {
        let mut puts = vec![Put::Stored; data.len()];
        let mut places = Vec::with_capacity(data.len());
        let mut batch = Vec::with_capacity(data.len());
        for (place, datum) in data.iter().enumerate() {
            let document = documents::write(datum);
            if document.as_bytes().len() > documents::MAX_DOCUMENT_BYTES {
                puts[place] = Put::Refused("with its passages it is larger than MongoDB takes (16 MiB)".into());
            } else {
                places.push(place);
                batch.push(document);
            }
        }
        if batch.is_empty() {
            return Ok(puts);
        }
        // The driver splits what is too much for one message (48 MB or 100,000 documents).
        let Err(error) = self.entropy.insert_many(&batch).ordered(false).await else { return Ok(puts) };
        let failure = match error.kind.as_ref() {
            ErrorKind::InsertMany(failure) => failure,
            // The whole message is refused. One of its documents may be the reason, so each is put by itself.
            ErrorKind::Command(refused) if !code::SERVER_FAULTS.contains(&refused.code) => {
                if let [place] = places[..] {
                    puts[place] = refused_by(refused.code);
                    return Ok(puts);
                }
                for place in places {
                    puts[place] = self.put(&data[place..=place]).await?.pop().expect("one for each");
                }
                return Ok(puts);
            }
            _ => return Err(store_error(error)),
        };
        if failure.write_concern_error.is_some() {
            return Err(store_error(error));
        }
        let mut taken = Vec::new();
        for failed in failure.write_errors.iter().flatten() {
            let place = places[failed.index];
            if is_id_taken(failed) {
                taken.push(place);
            } else if code::SERVER_FAULTS.contains(&failed.code) {
                return Err(store_error(error));
            } else {
                puts[place] = refused_by(failed.code);
            }
        }
        let there = self.read_taken(taken.iter().map(|&place| data[place].id)).await?;
        for place in taken {
            puts[place] = there.get(&data[place].id).cloned().ok_or_else(|| StoreError::Unavailable {
                message: "a document was deleted while it was put again".into(),
                source: None,
            })?;
        }
        Ok(puts)
    }

    async fn get(&self, id: DatumId) -> Result<Option<StoreEntry>, StoreError> {
        let found = self.entropy.find_one(doc! { "_id": documents::key(id) }).await.map_err(store_error)?;
        Ok(found.and_then(|document| self.reader.read(&document)))
    }

    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError> {
        let before = match self.replace_with_tombstone(id).await {
            // Another call put or retracted it at the same moment; now it is there to be replaced.
            Err(error) if is_duplicate(&error) => self.replace_with_tombstone(id).await,
            other => other,
        };
        Ok(match before.map_err(store_error)?.and_then(|document| self.reader.read(&document)) {
            Some(StoreEntry::Live(_)) => Retraction::WasLive,
            Some(StoreEntry::Tombstone { .. }) => Retraction::WasRetracted,
            None => Retraction::WasAbsent,
        })
    }

    async fn position(&self) -> Result<Position, StoreError> {
        let committed = self.operation_time(doc! { "level": "majority" }).await?;
        // The commit point may be ahead of what majority reads see, by writes that are still under way. A scan that began
        // in between would miss those, and so would following from here on. This waits until reads see them.
        self.operation_time(doc! { "level": "majority", "afterClusterTime": committed }).await?;
        Ok(position(committed))
    }

    fn scan(&self) -> Scan<'_> {
        let open = async move {
            let live = self.entropy.find(doc! { "retracted_at": { "$exists": false } }).batch_size(SCAN_BATCH);
            let batches = live.batch().await.map_err(store_error)?;
            Ok::<_, StoreError>(batches.map(|batch| self.reader.read_batch(&batch.map_err(store_error)?)))
        };
        stream::once(open).try_flatten().boxed()
    }

    /// Reads no text: all ids come out of the index on `_id`, and tombstones are small and have an index.
    async fn live_ids(&self) -> Result<HashSet<DatumId>, StoreError> {
        let all = self.entropy.find(doc! {}).hint(Hint::Keys(doc! { "_id": 1 }));
        let mut ids = read_ids(all).await?;
        for retracted in read_ids(self.entropy.find(doc! { "retracted_at": { "$exists": true } })).await? {
            ids.remove(&retracted);
        }
        Ok(ids)
    }

    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError> {
        let stream = self
            .entropy
            .watch()
            .pipeline([doc! { "$unset": "updateDescription" }])
            .start_at_operation_time(cluster_time(from))
            .full_document(FullDocumentType::UpdateLookup)
            .max_await_time(FOLLOW_MAX_WAIT)
            .batch_size(FOLLOW_BATCH)
            .await
            .map_err(follow_error)?;
        Ok(Box::new(MongoChanges {
            step: advance(stream.with_type()),
            begun_before: true,
            position: from,
            reader: self.reader.clone(),
        }))
    }

    /// Counts every document, by the index on `_id` so that none is read. The server's own figure would cost nothing
    /// but is wrong after a crash. Documents of a foreign shape are counted as live, since finding them would mean reading all.
    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        let all =
            self.entropy.count_documents(doc! {}).hint(Hint::Keys(doc! { "_id": 1 })).await.map_err(store_error)?;
        let retracted = doc! { "retracted_at": { "$exists": true } };
        let retracted = self.entropy.count_documents(retracted).await.map_err(store_error)?;
        Ok(StoreCounts { learned: all.saturating_sub(retracted), retracted })
    }

    async fn announce(&self, replica: &str, position: Option<Position>) -> Result<(), StoreError> {
        let replica = doc! { "_id": replica };
        match position {
            // MongoDB has no unsigned integers. The bits are kept, so from 2038 on the number is negative in the database,
            // where it is never compared.
            Some(Position(position)) => {
                let seen = doc! { "$set": { "position": position.cast_signed(), "seen_at": "$$NOW" } };
                self.replicas.update_one(replica, vec![seen]).upsert(true).await.map(drop)
            }
            // A mark and not a deletion, which would look like the server's own of old documents; and it outlasts an
            // announcement that is carried out late. Up to 0.1.0 the position, which is the highest, says the same.
            None => {
                let ended = doc! { "$set": { "ended": true, "position": -1_i64, "seen_at": "$$NOW" } };
                self.replicas.update_one(replica, vec![ended]).upsert(true).await.map(drop)
            }
        }
        .map_err(store_error)
    }

    /// The read is linearizable: an old primary that does not know yet that there is a new one, to which replicas announce
    /// themselves, cannot reply to it. All documents have to be in the first batch for that.
    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError> {
        let asked = Instant::now();
        let all = self.replicas.find(doc! {}).read_concern(ReadConcern::linearizable());
        let all = all.max_time(REPLICAS_MAX_TIME).batch_size(FOLLOW_BATCH).await.map_err(store_error)?;
        let all = all.try_collect().await.map_err(store_error)?;
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let waited_for = sightings.take(all, asked, Instant::now());
        Ok(waited_for.into_iter().filter(|(_, reached)| *reached < position).map(|(name, _)| name).collect())
    }
}

/// The ids of the documents that are found.
async fn read_ids(find: Find<'_, RawDocumentBuf>) -> Result<HashSet<DatumId>, StoreError> {
    let mut found = find.projection(doc! { "_id": 1 }).batch_size(ID_BATCH).await.map_err(store_error)?;
    let mut ids = HashSet::new();
    while let Some(document) = found.try_next().await.map_err(store_error)? {
        ids.extend(document.get("_id").ok().flatten().and_then(documents::read_key));
    }
    Ok(ids)
}

/// The error of a change stream. An event that is too large ends every stream that comes to it, so no position before it is
/// of any use.
fn follow_error(error: Error) -> StoreError {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == code::OBJECT_TOO_LARGE => StoreError::PositionLost,
        _ => store_error(error),
    }
}

/// The server's text is left out, since it may quote the document.
fn refused_by(code: i32) -> Put {
    Put::Refused(format!("MongoDB refuses the document (error {code})"))
}

/// Reads documents, and warns once when some cannot be read.
#[derive(Clone)]
struct Reader {
    process: fn(&str) -> Vec<String>,
    warned: Arc<AtomicBool>,
}

impl Reader {
    fn read(&self, document: &RawDocument) -> Option<StoreEntry> {
        let entry = documents::read(document, self.process);
        if entry.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                collection = ENTROPY,
                document.id = ?document.get("_id").ok().flatten(),
                "a document is not a datum and is skipped; further ones are skipped without a warning"
            );
        }
        entry
    }

    fn read_batch(&self, batch: &RawBatch) -> Result<Vec<StoredDatum>, StoreError> {
        let mut data = Vec::new();
        for document in batch.doc_slices().map_err(store_error)? {
            let document = document.map_err(|error| store_error(error.into()))?;
            if let Some(StoreEntry::Live(datum)) = document.as_document().and_then(|document| self.read(document)) {
                data.push(datum);
            }
        }
        Ok(data)
    }
}

/// An event of the change stream; the fields that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    operation_type: OperationType,
    cluster_time: ClusterTime,
    document_key: Option<RawDocumentBuf>,
    full_document: Option<RawDocumentBuf>,
}

/// One step of a change stream: gives the stream back, and its next event if there is one.
type Advance = BoxFuture<'static, (ChangeStream<Event>, Result<Option<Event>, Error>)>;

fn advance(mut stream: ChangeStream<Event>) -> Advance {
    async move {
        let event = stream.next_if_any().await;
        (stream, event)
    }
    .boxed()
}

/// Follows a change stream.
///
/// The step under way is kept here, so that dropping the future of [`Changes::next`] stops nothing in the middle: the
/// driver's futures must be run to their end, or the stream may skip events.
struct MongoChanges {
    step: Advance,
    /// Whether the step under way was begun before the present call of [`Changes::next`]. If so, that it finds nothing new
    /// does not mean that nothing was written before the call.
    begun_before: bool,
    position: Position,
    reader: Reader,
}

impl MongoChanges {
    /// Takes the result of a step and begins the next one. `None`: the server had nothing new.
    fn take(
        &mut self,
        (stream, event): (ChangeStream<Event>, Result<Option<Event>, Error>),
    ) -> Result<Option<Option<Change>>, StoreError> {
        // Only a stream without a new event says how far it has come, since reading its token copies it.
        let quiet = matches!(event, Ok(None)).then(|| (stream.is_alive(), stream.resume_token()));
        self.step = advance(stream);
        self.begun_before = false;
        match (event.map_err(follow_error)?, quiet) {
            (Some(event), _) => {
                self.position = position(event.cluster_time);
                Ok(Some(self.read(event)?))
            }
            (None, Some((true, token))) => {
                self.position = self.position.max(token.as_ref().and_then(position_of_token).unwrap_or_default());
                Ok(None)
            }
            (None, _) => {
                Err(StoreError::Unavailable { message: "MongoDB closed the change stream".into(), source: None })
            }
        }
    }

    /// The change that an event makes; `None` for a document that is not a datum.
    fn read(&self, event: Event) -> Result<Option<Change>, StoreError> {
        match event.operation_type {
            OperationType::Insert | OperationType::Update | OperationType::Replace | OperationType::Delete => {}
            OperationType::Drop | OperationType::Rename | OperationType::DropDatabase | OperationType::Invalidate => {
                return Err(StoreError::PositionLost);
            }
            _ => return Ok(None),
        }
        if let Some(StoreEntry::Live(datum)) = event.full_document.and_then(|document| self.reader.read(&document)) {
            return Ok(Some(Change::Put(Box::new(datum))));
        }
        let id = event.document_key.and_then(|key| documents::read_key(key.get("_id").ok()??));
        Ok(id.map(Change::Removed))
    }
}

#[async_trait]
impl Changes for MongoChanges {
    async fn next(&mut self, max: usize) -> Result<ChangeBatch, StoreError> {
        let mut changes = Vec::new();
        while changes.len() < max {
            let begun_now = !std::mem::replace(&mut self.begun_before, true);
            let step = if changes.is_empty() {
                (&mut self.step).await
            } else {
                let Some(step) = (&mut self.step).now_or_never() else { break };
                step
            };
            match self.take(step)? {
                Some(change) => changes.extend(change),
                None if begun_now || !changes.is_empty() => break,
                None => {}
            }
        }
        Ok(ChangeBatch { changes, position: self.position })
    }
}

/// How far a change stream without new events has come: the time in its resume token.
///
/// A token is documented as opaque, but since MongoDB 4.0 it begins with the cluster time, in hexadecimal behind the tag
/// `82` (see `resume_token.h` of the server), and the driver shows that time in no other way. A token that begins
/// otherwise leaves the follower at its last change, which is never too far.
fn position_of_token(token: &ResumeToken) -> Option<Position> {
    let token = serialize_to_document(token).ok()?;
    let time = token.get_str("_data").ok()?.strip_prefix("82")?.get(..16)?;
    u64::from_str_radix(time, 16).ok().map(Position)
}

fn position(time: ClusterTime) -> Position {
    Position(u64::from(time.time) << 32 | u64::from(time.increment))
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are taken apart")]
fn cluster_time(Position(position): Position) -> ClusterTime {
    ClusterTime { time: (position >> 32) as u32, increment: position as u32 }
}
