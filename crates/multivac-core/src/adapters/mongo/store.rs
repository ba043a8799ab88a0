//! The port [`Store`], kept by MongoDB.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use mongodb::bson::{Bson, Document, RawDocumentBuf, Timestamp as ClusterTime, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{FindOptions, FullDocumentType, Hint, IndexOptions, ReadConcern};
use mongodb::{Collection, Database, IndexModel};
use secrecy::SecretString;

use super::calls::{Calls, in_time};
use super::changes::{MongoChanges, cluster_time, follow_error, position};
use super::documents::{ENTROPY, Reader};
use super::marks::{Mark, Marks};
use super::sightings::{Replica, Sightings};
use super::url::{MongoUrl, does_not_resolve};
use super::{
    NO_REPLICA_SET, backups, client, code, documents, is_duplicate, is_id_taken, is_of_a_document, parts, replied,
    snapshot, store_error,
};
use crate::datum::{DatumId, Timestamp};
use crate::observe::metrics;
use crate::store::{
    BackupKind, Changes, Disk, Position, Put, Retraction, Scan, SeenReplica, SnapshotEntries, Store, StoreCounts,
    StoreEntry, StoreError, StoredDatum, Tombstone,
};

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
    url: MongoUrl,
    calls: Calls,
    /// Not set before DNS knows the name in a `mongodb+srv` URL.
    collections: OnceLock<Collections>,
    sightings: Mutex<Sightings>,
    reader: Reader,
    marks: Marks,
}

struct Collections {
    database: Database,
    entropy: Collection<RawDocumentBuf>,
    replicas: Collection<Replica>,
}

impl MongoStore {
    /// A store at `url`. Connects to nothing yet; [`prepare`](Store::prepare) does. Options that are passed over are named
    /// in the log.
    ///
    /// `process` makes the passages of documents that have none: those of the original application.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]: `url` is not a MongoDB URL.
    pub async fn new(url: &SecretString, process: fn(&str) -> Vec<String>) -> Result<Self, StoreError> {
        let url = MongoUrl::parse(url)?;
        if !url.passed_over.is_empty() {
            tracing::warn!(options = url.passed_over.join(", "), "options in MongoDB's URL are passed over");
        }
        let calls = Calls::new(url.call_timeout);
        let reader = Reader::new(process);
        let store = Self {
            url,
            calls,
            collections: OnceLock::new(),
            sightings: Mutex::default(),
            reader,
            marks: Marks::default(),
        };
        match store.connect().await {
            Err(error) if !error.is_transient() => Err(error),
            // A name that DNS does not know yet: `prepare` asks again.
            Ok(_) | Err(_) => Ok(store),
        }
    }

    /// The driver's tasks belong to the runtime that calls this first.
    async fn connect(&self) -> Result<&Collections, StoreError> {
        if let Some(collections) = self.collections.get() {
            return Ok(collections);
        }
        let options = in_time(self.calls.call, self.url.options()).await??;
        let (client, database) = client(options, self.calls.put)?;
        let database = client.database(&database);
        let (entropy, replicas) = (database.collection(ENTROPY), database.collection(REPLICAS));
        Ok(self.collections.get_or_init(|| Collections { database, entropy, replicas }))
    }

    fn collections(&self) -> Result<&Collections, StoreError> {
        self.collections.get().ok_or_else(does_not_resolve)
    }

    fn entropy(&self) -> Result<Collection<RawDocumentBuf>, StoreError> {
        Ok(self.collections()?.entropy.clone())
    }

    /// Looks at what the replicas have announced, and tells of it.
    ///
    /// The read is linearizable: an old primary that does not know yet that there is a new one, to which replicas announce
    /// themselves, cannot reply to it. All documents have to be in the first batch for that.
    async fn look<T>(&self, tell: impl FnOnce(&Sightings, Vec<(String, Position)>) -> T) -> Result<T, StoreError> {
        let replicas = self.announcements()?;
        let asked = Instant::now();
        let find = async move {
            let all = replicas.find(doc! {}).read_concern(ReadConcern::linearizable());
            all.max_time(REPLICAS_MAX_TIME).batch_size(FOLLOW_BATCH).await?.try_collect::<Vec<_>>().await
        };
        let all = self.calls.read(self.calls.call, find).await?.map_err(store_error)?;
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        let waited_for = sightings.take(all, asked, Instant::now());
        Ok(tell(&sightings, waited_for))
    }

    fn announcements(&self) -> Result<Collection<Replica>, StoreError> {
        Ok(self.collections()?.replicas.clone())
    }

    /// Runs a command that reads.
    async fn run_command(&self, command: Document) -> Result<Document, StoreError> {
        let database = self.collections()?.database.clone();
        let call = async move { database.run_command(command).await };
        self.calls.read(self.calls.call, call).await?.map_err(store_error)
    }

    /// The operation time that comes with the reply to a read that finds nothing.
    async fn operation_time(&self, read_concern: Document) -> Result<ClusterTime, StoreError> {
        let max_time_ms = i64::try_from(self.calls.call.as_millis()).unwrap_or(i64::MAX);
        let reply = self
            .run_command(doc! {
                "find": ENTROPY, "filter": { "_id": 0 }, "singleBatch": true, "readConcern": read_concern,
                "maxTimeMS": max_time_ms,
            })
            .await?;
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
        let (entropy, limit) = (self.entropy()?, self.calls.put);
        let find = async move {
            let found = entropy.find(doc! { "_id": { "$in": keys } }).projection(doc! { "retracted_at": 1 });
            found.max_time(limit).await?.try_collect::<Vec<_>>().await
        };
        let put = |document: &RawDocumentBuf| {
            let id = documents::read_key(document.get("_id").ok()??)?;
            let put = if document.get_datetime("retracted_at").is_ok() { Put::Retracted } else { Put::Stored };
            Some((id, put))
        };
        let found = self.calls.read(limit, find).await?.map_err(store_error)?;
        Ok(found.iter().filter_map(put).collect())
    }

    /// Scans what these options select. The one that ends last of all that are `unfinished` has seen all.
    fn scan_part(&self, options: FindOptions, unfinished: Arc<AtomicUsize>) -> Scan<'_> {
        let limit = self.calls.scan;
        let open = async move {
            let entropy = self.entropy()?;
            let live = async move {
                let live = entropy.find(documents::not_retracted()).with_options(options);
                live.batch_size(SCAN_BATCH).batch().await
            };
            let batches = self.calls.read(limit, live).await?.map_err(store_error)?;
            Ok::<_, StoreError>(stream::try_unfold(batches, move |mut batches| async move {
                let Some(batch) = in_time(limit, batches.next()).await? else { return Ok(None) };
                let data = self.reader.read_batch(&batch.map_err(store_error)?)?;
                Ok(Some((data, batches)))
            }))
        };
        let end = stream::once(async move {
            if unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.reader.has_scanned();
            }
            Ok(Vec::new())
        });
        // An error ends it.
        stream::once(open).try_flatten().chain(end).boxed()
    }

    /// The ids of the documents that are found.
    async fn ids(&self, filter: Document, hint: Option<Hint>) -> Result<HashSet<DatumId>, StoreError> {
        let (entropy, limit) = (self.entropy()?, self.calls.scan);
        let options = FindOptions::builder().projection(doc! { "_id": 1 }).batch_size(ID_BATCH).hint(hint).build();
        let find = async move { entropy.find(filter).with_options(options).await };
        let mut found = self.calls.read(limit, find).await?.map_err(store_error)?;
        let mut ids = HashSet::new();
        while let Some(document) = in_time(limit, found.try_next()).await?.map_err(store_error)? {
            ids.extend(document.get("_id").ok().flatten().and_then(documents::read_key));
        }
        Ok(ids)
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.connect().await?;
        let hello = self.run_command(doc! { "hello": 1 }).await?;
        let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        if !sharded && !hello.contains_key("setName") {
            return Err(StoreError::Misconfigured(NO_REPLICA_SET.into()));
        }
        let tombstones =
            IndexOptions::builder().partial_filter_expression(doc! { "retracted_at": { "$exists": true } });
        let tombstones = IndexModel::builder().keys(doc! { "retracted_at": 1 }).options(tombstones.build()).build();
        let expiry = IndexOptions::builder().expire_after(REPLICA_LIFETIME).build();
        let expiry = IndexModel::builder().keys(doc! { "seen_at": 1 }).options(expiry).build();
        let (entropy, replicas) = (self.entropy()?, self.announcements()?);
        // An index that takes longer to be built is waited for by trying again; the server builds it meanwhile.
        let make = async move {
            entropy.create_index(tombstones).await?;
            replicas.create_index(expiry).await
        };
        self.calls.write(self.calls.call, make).await?.map_err(store_error)?;
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
        let (entropy, documents) = (self.entropy()?, batch.len());
        // The driver splits what is too much for one message (48 MB or 100,000 documents).
        let insert = async move { entropy.insert_many(batch).ordered(false).await };
        let Err(error) = self.calls.write(self.calls.put, insert).await? else { return Ok(puts) };
        let failure = match error.kind.as_ref() {
            ErrorKind::InsertMany(failure) => failure,
            // The whole message is refused. One of its documents may be the reason, so each is put by itself.
            refused if is_of_a_document(refused) => {
                if let [place] = places[..] {
                    puts[place] = refused_by(refused);
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
        let (mut taken, mut waiting) = (Vec::new(), 0);
        for failed in failure.write_errors.iter().flatten() {
            let place = places[failed.index];
            if is_id_taken(failed) {
                taken.push(place);
            } else if code::DOCUMENT_FAULTS.contains(&failed.code) {
                puts[place] = Put::Refused(refused_with(failed.code));
            } else {
                puts[place] = Put::Unavailable(replied(failed.code_name.as_deref(), failed.code).to_string());
                waiting += 1;
            }
        }
        if waiting == documents {
            return Err(store_error(error));
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
        let (entropy, limit) = (self.entropy()?, self.calls.call);
        let find = async move { entropy.find_one(doc! { "_id": documents::key(id) }).max_time(limit).await };
        let found = self.calls.read(limit, find).await?.map_err(store_error)?;
        Ok(found.and_then(|document| self.reader.read(&document)))
    }

    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError> {
        let (entropy, limit) = (self.entropy()?, self.calls.call);
        let replace = async move {
            match documents::replace_with_tombstone(&entropy, id, limit).await {
                // Another call put or retracted it at the same moment; now it is there to be replaced.
                Err(error) if is_duplicate(&error) => documents::replace_with_tombstone(&entropy, id, limit).await,
                other => other,
            }
        };
        let before = self.calls.write(limit, replace).await?.map_err(store_error)?;
        Ok(match before.and_then(|document| self.reader.read(&document)) {
            Some(StoreEntry::Live(_) | StoreEntry::Unreadable { .. }) => Retraction::WasLive,
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
        self.scan_part(FindOptions::default(), Arc::new(AtomicUsize::new(1)))
    }

    async fn scan_in_parts(&self, parts: usize) -> Result<Vec<Scan<'_>>, StoreError> {
        let parts = parts::divide(&self.calls, &self.entropy()?, parts).await?;
        let unfinished = Arc::new(AtomicUsize::new(parts.len()));
        Ok(parts.into_iter().map(|part| self.scan_part(part, Arc::clone(&unfinished))).collect())
    }

    /// Reads no text: all ids come out of the index on `_id`, and tombstones are small and have an index.
    async fn live_ids(&self) -> Result<HashSet<DatumId>, StoreError> {
        let mut ids = self.ids(doc! {}, Some(Hint::Keys(doc! { "_id": 1 }))).await?;
        for retracted in self.ids(documents::retracted(), None).await? {
            ids.remove(&retracted);
        }
        Ok(ids)
    }

    fn snapshot(&self) -> SnapshotEntries<'_> {
        let database = self.collections().map(|collections| collections.database.clone());
        snapshot::entries(database, self.calls.scan, &self.reader)
    }

    async fn put_tombstones(&self, tombstones: &[Tombstone]) -> Result<Vec<Retraction>, StoreError> {
        let there = self.read_taken(tombstones.iter().map(|one| one.id)).await?;
        backups::put_tombstones(&self.calls, &self.collections()?.database, tombstones, &there).await
    }

    async fn record_backup(&self, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError> {
        backups::record(&self.calls, &self.collections()?.database, kind, completed_at).await
    }

    async fn last_backup(&self, kind: BackupKind) -> Result<Option<Timestamp>, StoreError> {
        backups::last(&self.calls, &self.collections()?.database, kind).await
    }

    async fn mark_index(&self, name: &str, position: Position) -> Result<(), StoreError> {
        let mark = Mark { position, seen_no_foreign: self.reader.seen_no_foreign() };
        self.marks.set(&self.calls, &self.collections()?.database, name, mark).await
    }

    async fn marked_index(&self, name: &str) -> Result<Option<Position>, StoreError> {
        let mark = self.marks.get(&self.calls, &self.collections()?.database, name).await?;
        // Whoever goes on from there sees all that has come since.
        if mark.is_some_and(|mark| mark.seen_no_foreign) {
            self.reader.has_scanned();
        }
        Ok(mark.map(|mark| mark.position))
    }

    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError> {
        let entropy = self.entropy()?;
        let watch = async move {
            entropy
                .watch()
                .pipeline([doc! { "$unset": "updateDescription" }])
                .start_at_operation_time(cluster_time(from))
                .full_document(FullDocumentType::UpdateLookup)
                .max_await_time(FOLLOW_MAX_WAIT)
                .batch_size(FOLLOW_BATCH)
                .await
        };
        let stream = self.calls.read(self.calls.scan, watch).await?.map_err(follow_error)?;
        Ok(Box::new(MongoChanges::new(stream, from, self.calls.scan, self.reader.clone())))
    }

    async fn estimate(&self) -> Result<u64, StoreError> {
        let (entropy, limit) = (self.entropy()?, self.calls.call);
        let count = async move { entropy.estimated_document_count().max_time(limit).await };
        self.calls.read(limit, count).await?.map_err(store_error)
    }

    /// Counts what is read as data and tombstones. The server's own figure would cost nothing but is wrong after a crash.
    ///
    /// While this process has seen every document, and none of a foreign shape, they are counted by their indexes alone,
    /// so that none is read. Else all are read: the index shows no foreign document, so none may count as learned.
    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        let (entropy, limit, reader) = (self.entropy()?, self.calls.scan, self.reader.clone());
        let count = async move {
            let count = async |filter: Document| entropy.count_documents(filter).max_time(limit).await;
            let retracted = count(documents::tombstones()).await?;
            if reader.seen_no_foreign() {
                let all = entropy.count_documents(doc! {}).hint(Hint::Keys(doc! { "_id": 1 })).max_time(limit).await?;
                let not_live = count(documents::retracted()).await?;
                // One may have come meanwhile.
                if reader.seen_no_foreign() {
                    return Ok(StoreCounts { learned: all.saturating_sub(not_live), retracted });
                }
            }
            Ok(StoreCounts { learned: count(documents::live()).await?, retracted })
        };
        self.calls.read(limit, count).await?.map_err(store_error)
    }

    async fn disk(&self) -> Result<Option<Disk>, StoreError> {
        let stats = self.run_command(doc! { "dbStats": 1 }).await?;
        let number = |name| stats.get(name).and_then(|value| value.as_f64().or(value.as_i64().map(|n| n as f64)));
        Ok(number("fsTotalSize")
            .zip(number("fsUsedSize"))
            .map(|(size, used)| Disk { free_bytes: (size - used).max(0.0) as u64, size_bytes: size as u64 }))
    }

    async fn announce(&self, replica: &str, position: Option<Position>) -> Result<(), StoreError> {
        let (replicas, replica) = (self.announcements()?, doc! { "_id": replica });
        let announce = async move {
            match position {
                // MongoDB has no unsigned integers. The bits are kept, so from 2038 on the number is negative in the database,
                // where it is never compared.
                Some(Position(position)) => {
                    let mut seen = doc! { "position": position.cast_signed(), "seen_at": "$$NOW" };
                    // In a pipeline, a text is taken as it is only so.
                    seen.insert("version", doc! { "$literal": metrics::version() });
                    let seen = doc! { "$set": seen };
                    replicas.update_one(replica, vec![seen]).upsert(true).await.map(drop)
                }
                // A mark and not a deletion, which would look like the server's own of old documents; and it outlasts an
                // announcement that is carried out late. Up to 0.1.0 the position, which is the highest, says the same. Of a
                // replica that was never announced nothing is written.
                None => {
                    let ended = doc! { "$set": { "ended": true, "position": -1_i64, "seen_at": "$$NOW" } };
                    replicas.update_one(replica, vec![ended]).await.map(drop)
                }
            }
        };
        self.calls.announce(self.calls.call, announce).await?.map_err(store_error)
    }

    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError> {
        let waited_for = self.look(|_, waited_for| waited_for).await?;
        Ok(waited_for.into_iter().filter(|(_, reached)| *reached < position).map(|(name, _)| name).collect())
    }

    async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError> {
        self.look(|sightings, _| sightings.list(Instant::now())).await
    }
}

/// The server's text is left out, since it may quote the document.
fn refused_with(code: i32) -> String {
    format!("MongoDB refuses the document (error {code})")
}

/// What is to be said of a document for which a whole call failed.
fn refused_by(error: &ErrorKind) -> Put {
    Put::Refused(match error {
        ErrorKind::Command(refused) => refused_with(refused.code),
        _ => "it makes no document that MongoDB takes".into(),
    })
}
