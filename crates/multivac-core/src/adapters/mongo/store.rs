//! The port [`Store`], kept by MongoDB.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use mongodb::bson::{
    Bson, Document, RawDocument, RawDocumentBuf, Timestamp as ClusterTime, doc, serialize_to_document,
};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::{OperationType, ResumeToken};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{FullDocumentType, Hint, IndexOptions};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{Collection, Database, IndexModel};
use secrecy::SecretString;
use serde::Deserialize;

use super::{NO_REPLICA_SET, client, code, documents, is_duplicate, is_taken, store_error};
use crate::datum::DatumId;
use crate::store::{
    Change, ChangeBatch, Changes, Position, Put, REPLICA_ALIVE, Record, Retraction, Scan, Store, StoreCounts,
    StoreError, StoredDatum,
};

/// The collection of data, named as the original application named it.
const ENTROPY: &str = "entropy";

/// The collection of replicas.
const REPLICAS: &str = "replicas";

/// After how long the server forgets a replica; its clean-up runs once a minute anyway.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Documents asked for at a time. The server sends 16 MiB at most, so that bounds the memory.
const SCAN_BATCH: u32 = 1_000;

/// Changes asked for at a time, within the same 16 MiB.
const FOLLOW_BATCH: u32 = 10_000;

/// How long the server waits for a change before it says that there is none. A follower learns only then that it has
/// passed what others wrote to other collections meanwhile, and a retraction may wait for that.
const FOLLOW_WAIT: Duration = Duration::from_millis(250);

/// Keeps data in MongoDB; see the [module](super).
pub struct MongoStore {
    database: Database,
    entropy: Collection<RawDocumentBuf>,
    replicas: Collection<Replica>,
    reader: Reader,
}

impl MongoStore {
    /// A store at `url`. The server need not be there; [`prepare`](Store::prepare) asks it.
    ///
    /// `process` makes the passages of documents that have none: those of the original application.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: `url` is none. [`StoreError::Unavailable`]: it is a `mongodb+srv` URL, and DNS
    /// does not answer.
    pub async fn new(url: &SecretString, process: fn(&str) -> Vec<String>) -> Result<Self, StoreError> {
        let (client, database) = client(url).await?;
        let database = client.database(&database);
        Ok(Self {
            entropy: database.collection(ENTROPY),
            replicas: database.collection(REPLICAS),
            database,
            reader: Reader { process, warned: Arc::default() },
        })
    }

    /// A read of what the majority has, of nothing, for the time that comes with it.
    async fn read_nothing(&self, read_concern: Document) -> Result<ClusterTime, StoreError> {
        let read = doc! { "find": ENTROPY, "filter": { "_id": 0 }, "singleBatch": true, "readConcern": read_concern };
        let reply = self.database.run_command(read).await.map_err(store_error)?;
        reply.get_timestamp("operationTime").map_err(|_| StoreError::Misconfigured(NO_REPLICA_SET.into()))
    }

    /// What lies under ids that were taken when they were to be inserted.
    ///
    /// The failed insert has waited until the majority has what it ran into, so this sees it.
    async fn taken(&self, ids: impl Iterator<Item = DatumId>) -> Result<HashMap<DatumId, Put>, StoreError> {
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

    /// Replaces what lies under an id with its tombstone, unless one lies there; gives what lay there.
    async fn entomb(&self, id: DatumId) -> Result<Option<RawDocumentBuf>, Error> {
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
        let gone = IndexOptions::builder().expire_after(FORGOTTEN).build();
        let gone = IndexModel::builder().keys(doc! { "seen_at": 1 }).options(gone).build();
        self.replicas.create_index(gone).await.map_err(store_error)?;
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
            // The whole message is refused: one of its documents may be why, and each is asked about by itself.
            ErrorKind::Command(refused) if !code::PASSES.contains(&refused.code) => {
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
            if is_taken(failed) {
                taken.push(place);
            } else if code::PASSES.contains(&failed.code) {
                return Err(store_error(error));
            } else {
                puts[place] = refused_by(failed.code);
            }
        }
        let there = self.taken(taken.iter().map(|&place| data[place].id)).await?;
        for place in taken {
            puts[place] = there.get(&data[place].id).cloned().ok_or_else(|| StoreError::Unavailable {
                message: "a document was deleted while it was put again".into(),
                source: None,
            })?;
        }
        Ok(puts)
    }

    async fn get(&self, id: DatumId) -> Result<Option<Record>, StoreError> {
        let found = self.entropy.find_one(doc! { "_id": documents::key(id) }).await.map_err(store_error)?;
        Ok(found.and_then(|document| self.reader.read(&document)))
    }

    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError> {
        let before = match self.entomb(id).await {
            // Another put or retracted it at the same moment; now it is there to be replaced.
            Err(error) if is_duplicate(&error) => self.entomb(id).await,
            other => other,
        };
        Ok(match before.map_err(store_error)?.and_then(|document| self.reader.read(&document)) {
            Some(Record::Live(_)) => Retraction::WasLive,
            Some(Record::Tombstone { .. }) => Retraction::WasRetracted,
            None => Retraction::WasAbsent,
        })
    }

    async fn position(&self) -> Result<Position, StoreError> {
        let committed = self.read_nothing(doc! { "level": "majority" }).await?;
        // The commit point may be ahead of what majority reads see, by writes still under way beside it. A scan that
        // began in between would miss those, and following from here on as well; this waits until reads see them.
        self.read_nothing(doc! { "level": "majority", "afterClusterTime": committed }).await?;
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

    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError> {
        let stream = self
            .entropy
            .watch()
            .start_at_operation_time(cluster_time(from))
            .full_document(FullDocumentType::UpdateLookup)
            .max_await_time(FOLLOW_WAIT)
            .batch_size(FOLLOW_BATCH)
            .await
            .map_err(store_error)?;
        Ok(Box::new(MongoChanges {
            next: advance(stream.with_type()),
            asked: true,
            position: from,
            reader: self.reader.clone(),
        }))
    }

    /// Counts every document, by the index on `_id` so that none is read. The server's own figure would cost nothing
    /// but is wrong after a crash. Documents of a foreign shape are counted as live: to know them is to read all.
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
            // The bits of a position are kept, so the number turns negative in 2038; it is never compared there.
            Some(Position(position)) => {
                let seen = doc! { "$set": { "position": position.cast_signed(), "seen_at": "$$NOW" } };
                self.replicas.update_one(replica, vec![seen]).upsert(true).await.map(drop)
            }
            None => self.replicas.delete_one(replica).await.map(drop),
        }
        .map_err(store_error)
    }

    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError> {
        let alive_ms = i64::try_from(REPLICA_ALIVE.as_millis()).expect("a few seconds");
        let since = doc! { "$subtract": ["$$NOW", alive_ms] };
        let alive = self.replicas.find(doc! { "$expr": { "$gte": ["$seen_at", since] } });
        let alive: Vec<Replica> = alive.await.map_err(store_error)?.try_collect().await.map_err(store_error)?;
        Ok(alive.into_iter().filter(|r| Position(r.position.cast_unsigned()) < position).map(|r| r.name).collect())
    }
}

/// The server's own words are left out: they may quote the document.
fn refused_by(code: i32) -> Put {
    Put::Refused(format!("MongoDB refuses the document (error {code})"))
}

/// A document of [`REPLICAS`].
#[derive(Deserialize)]
struct Replica {
    #[serde(rename = "_id")]
    name: String,
    position: i64,
}

/// Reads documents, and says once that some cannot be read.
#[derive(Clone)]
struct Reader {
    process: fn(&str) -> Vec<String>,
    warned: Arc<AtomicBool>,
}

impl Reader {
    fn read(&self, document: &RawDocument) -> Option<Record> {
        let record = documents::read(document, self.process);
        if record.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                collection = ENTROPY,
                document.id = ?document.get("_id").ok().flatten(),
                "a document is no datum and is passed over, as will be others like it"
            );
        }
        record
    }

    fn read_batch(&self, batch: &RawBatch) -> Result<Vec<StoredDatum>, StoreError> {
        let mut data = Vec::new();
        for document in batch.doc_slices().map_err(store_error)? {
            let document = document.map_err(|error| store_error(error.into()))?;
            if let Some(Record::Live(datum)) = document.as_document().and_then(|document| self.read(document)) {
                data.push(datum);
            }
        }
        Ok(data)
    }
}

/// What the change stream says of one change; the fields that we use.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    operation_type: OperationType,
    cluster_time: ClusterTime,
    document_key: Option<RawDocumentBuf>,
    full_document: Option<RawDocumentBuf>,
}

/// A step of a change stream: the stream again, and its next event, if it had one.
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
    next: Advance,
    /// Whether the server was asked already; if so, that it had nothing new says nothing of now.
    asked: bool,
    position: Position,
    reader: Reader,
}

impl MongoChanges {
    /// Takes the result of a step and begins the next one. `None`: the server had nothing new.
    fn take(
        &mut self,
        (stream, event): (ChangeStream<Event>, Result<Option<Event>, Error>),
    ) -> Result<Option<Option<Change>>, StoreError> {
        // Only a stream without news is asked how far it has come: that copies the token.
        let quiet = matches!(event, Ok(None)).then(|| (stream.is_alive(), stream.resume_token()));
        self.next = advance(stream);
        self.asked = false;
        match (event.map_err(store_error)?, quiet) {
            (Some(event), _) => {
                self.position = position(event.cluster_time);
                Ok(Some(self.read(event)?))
            }
            (None, Some((true, token))) => {
                self.position = self.position.max(token.as_ref().and_then(passed).unwrap_or_default());
                Ok(None)
            }
            (None, _) => {
                Err(StoreError::Unavailable { message: "MongoDB closed the change stream".into(), source: None })
            }
        }
    }

    /// What a follower needs of an event; nothing of a document that is no datum.
    fn read(&self, event: Event) -> Result<Option<Change>, StoreError> {
        match event.operation_type {
            OperationType::Insert | OperationType::Update | OperationType::Replace | OperationType::Delete => {}
            OperationType::Drop | OperationType::Rename | OperationType::DropDatabase | OperationType::Invalidate => {
                return Err(StoreError::PositionLost);
            }
            _ => return Ok(None),
        }
        if let Some(Record::Live(datum)) = event.full_document.and_then(|document| self.reader.read(&document)) {
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
            let asked_now = !std::mem::replace(&mut self.asked, true);
            let step = if changes.is_empty() {
                (&mut self.next).await
            } else {
                let Some(step) = (&mut self.next).now_or_never() else { break };
                step
            };
            match self.take(step)? {
                Some(change) => changes.extend(change),
                None if asked_now || !changes.is_empty() => break,
                None => {}
            }
        }
        Ok(ChangeBatch { changes, position: self.position })
    }
}

/// How far a change stream without news has come: the time in its resume token.
///
/// A token is opaque in name, but since MongoDB 4.0 it begins with the cluster time, in hexadecimal behind the tag
/// `82` (see `resume_token.h` of the server); the driver gives it in no other way. One that begins otherwise leaves
/// the follower at its last change, which is never too far.
fn passed(token: &ResumeToken) -> Option<Position> {
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
