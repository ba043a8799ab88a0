//! Documents of the collection `entropy`, from the domain and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::{RawBsonRef, cstr};
use mongodb::bson::{Bson, DateTime, Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::raw_batch_cursor::RawBatch;
use uuid::Uuid;

use super::store_error;
use crate::datum::{DatumId, Timestamp};
use crate::store::{StoreEntry, StoreError, StoredDatum};

/// The collection of data, named as the original application named it.
pub(super) const ENTROPY: &str = "entropy";

/// The largest document that is written. MongoDB takes 16 MiB, but a change event carries the document and must not
/// be larger either: a larger one would end the stream of every follower.
pub(super) const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024 - 64 * 1024;

/// The `_id` of a datum: ours is text, so that what the HTTP interface shows can be pasted into `mongosh`.
pub(super) fn key(id: DatumId) -> Bson {
    match id {
        DatumId::Original(bytes) => ObjectId::from_bytes(bytes).into(),
        DatumId::Uuid(uuid) => uuid.to_string().into(),
    }
}

/// Which datum an `_id` names; `None` if it is none that we or the original application wrote.
pub(super) fn read_key(key: RawBsonRef<'_>) -> Option<DatumId> {
    match key {
        RawBsonRef::ObjectId(id) => Some(DatumId::Original(id.bytes())),
        RawBsonRef::String(text) => match text.parse() {
            Ok(DatumId::Uuid(uuid)) => Some(DatumId::Uuid(uuid)),
            // 24 hexadecimal digits as text are not the ObjectId that looks like them.
            Ok(DatumId::Original(_)) | Err(_) => None,
        },
        _ => None,
    }
}

/// Which documents [`read`] takes for live data. `$type` looks into arrays, so each is ruled out by itself.
pub(super) fn live() -> Document {
    let mut live = not_retracted();
    live.extend(doc! { "$or": ids(), "data": { "$type": "string", "$not": { "$type": "array" } } });
    live
}

/// Which documents [`read`] takes for tombstones.
pub(super) fn tombstones() -> Document {
    let mut tombstones = retracted();
    tombstones.insert("$or", ids());
    tombstones
}

/// What is no live datum whatever its id. `$exists`, since that is what the index on tombstones is for.
pub(super) fn retracted() -> Document {
    doc! { "retracted_at": { "$exists": true, "$type": "date", "$not": { "$type": "array" } } }
}

/// All others. Live data are among them, and documents of a foreign shape.
pub(super) fn not_retracted() -> Document {
    doc! { "$nor": [retracted()] }
}

/// The `_id`s that [`read_key`] reads.
fn ids() -> [Document; 2] {
    let uuid = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\z";
    [doc! { "_id": { "$type": "objectId" } }, doc! { "_id": { "$regex": uuid } }]
}

/// A live datum's document.
pub(super) fn write(datum: &StoredDatum) -> RawDocumentBuf {
    let mut passages = RawArrayBuf::new();
    for passage in &datum.passages {
        passages.push(passage.as_str());
    }
    let mut document = RawDocumentBuf::new();
    match datum.id {
        DatumId::Original(bytes) => document.append(cstr!("_id"), ObjectId::from_bytes(bytes)),
        DatumId::Uuid(uuid) => {
            document.append(cstr!("_id"), &*uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
        }
    }
    document.append(cstr!("data"), datum.text.as_str());
    document.append(cstr!("passages"), passages);
    document.append(cstr!("received_at"), DateTime::from_millis(datum.received_at.as_millis()));
    document.append(cstr!("processed_at"), DateTime::from_millis(datum.processed_at.as_millis()));
    if let Some(trace) = &datum.trace {
        document.append(cstr!("trace"), trace.as_str());
    }
    document
}

/// What is in a document; `None` for one of a foreign shape.
///
/// An id and a text make a datum. Whatever else is missing or of another type is replaced, so that the documents of the
/// original application, which have nothing else, are data like any other: `process` makes their passages.
pub(super) fn read(document: &RawDocument, process: fn(&str) -> Vec<String>) -> Option<StoreEntry> {
    let id = read_key(document.get("_id").ok()??)?;
    let received_at = read_time(document, "received_at").or(match id {
        DatumId::Original(_) => id.created_at(),
        DatumId::Uuid(_) => None,
    });
    if let Some(retracted_at) = read_time(document, "retracted_at") {
        return Some(StoreEntry::Tombstone { id, received_at, retracted_at });
    }
    let text = document.get_str("data").ok()?;
    let received_at = received_at.or(id.created_at()).unwrap_or(Timestamp::from_millis(0));
    Some(StoreEntry::Live(StoredDatum {
        id,
        text: text.to_owned(),
        passages: read_passages(document).unwrap_or_else(|| process(text)),
        received_at,
        processed_at: read_time(document, "processed_at").unwrap_or(received_at),
        trace: document.get_str("trace").ok().map(str::to_owned),
    }))
}

fn read_time(document: &RawDocument, field: &str) -> Option<Timestamp> {
    document.get_datetime(field).ok().map(|time| Timestamp::from_millis(time.timestamp_millis()))
}

fn read_passages(document: &RawDocument) -> Option<Vec<String>> {
    let passages = document.get_array("passages").ok()?;
    passages.into_iter().map(|passage| passage.ok()?.as_str().map(str::to_owned)).collect()
}

/// Reads documents, and warns once when some cannot be read.
#[derive(Clone)]
pub(super) struct Reader {
    process: fn(&str) -> Vec<String>,
    /// This process has read all data. What comes later is followed.
    scanned: Arc<AtomicBool>,
    warned: Arc<AtomicBool>,
}

impl Reader {
    /// With this for documents that have no passages.
    pub(super) fn new(process: fn(&str) -> Vec<String>) -> Self {
        Self { process, scanned: Arc::default(), warned: Arc::default() }
    }

    /// Notes that all data have been read.
    pub(super) fn has_scanned(&self) {
        self.scanned.store(true, Ordering::Relaxed);
    }

    /// Whether every document is a datum or a tombstone, for all that this process has seen.
    pub(super) fn seen_no_foreign(&self) -> bool {
        self.scanned.load(Ordering::Relaxed) && !self.warned.load(Ordering::Relaxed)
    }

    /// What is in a document; `None` for one of a foreign shape.
    pub(super) fn read(&self, document: &RawDocument) -> Option<StoreEntry> {
        let entry = read(document, self.process);
        if entry.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                collection = ENTROPY,
                document.id = document.get_object_id("_id").ok().map(|id| id.to_hex()),
                "a document is not a datum and is skipped; further ones are skipped without a warning"
            );
        }
        entry
    }

    /// The live data of a batch.
    pub(super) fn read_batch(&self, batch: &RawBatch) -> Result<Vec<StoredDatum>, StoreError> {
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

/// Puts a tombstone in the place of what lies under an id, unless one is there. Returns what was there before.
pub(super) async fn replace_with_tombstone(
    entropy: &Collection<RawDocumentBuf>,
    id: DatumId,
    limit: Duration,
) -> Result<Option<RawDocumentBuf>, Error> {
    let tombstone = doc! {
        "_id": "$_id",
        "received_at": "$received_at",
        // Of another type it makes no tombstone.
        "retracted_at": { "$cond": [{ "$eq": [{ "$type": "$retracted_at" }, "date"] }, "$retracted_at", "$$NOW"] },
    };
    entropy
        .find_one_and_update(doc! { "_id": key(id) }, vec![doc! { "$replaceWith": tombstone }])
        .upsert(true)
        .max_time(limit)
        .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datum() -> impl Strategy<Value = StoredDatum> {
        let passages = prop::collection::vec(any::<String>(), 0..4);
        (any::<[u8; 16]>(), any::<bool>(), any::<String>(), passages, any::<Option<String>>(), any::<(i64, i64)>())
            .prop_map(|(bytes, original, text, passages, trace, (received, processed))| StoredDatum {
                id: if original {
                    DatumId::Original(std::array::from_fn(|n| bytes[n]))
                } else {
                    DatumId::Uuid(Uuid::from_bytes(bytes))
                },
                text,
                passages,
                received_at: Timestamp::from_millis(received),
                processed_at: Timestamp::from_millis(processed),
                trace,
            })
    }

    #[test]
    fn a_document_of_0_1_0_with_a_digest_is_the_same_datum_without_it() {
        let datum = StoredDatum {
            id: DatumId::Uuid(Uuid::from_bytes([7; 16])),
            text: "a text".to_owned(),
            passages: vec!["a text".to_owned()],
            received_at: Timestamp::from_millis(1),
            processed_at: Timestamp::from_millis(2),
            trace: None,
        };
        let mut document = write(&datum);
        document.append(cstr!("digest"), "8f0c6a1d");
        assert_eq!(read(&document, |_| Vec::new()), Some(StoreEntry::Live(datum)));
    }

    proptest! {
        #[test]
        fn a_datum_reads_back(datum in datum()) {
            prop_assert_eq!(read(&write(&datum), |_| Vec::new()), Some(StoreEntry::Live(datum)));
        }

        #[test]
        fn a_damaged_document_does_not_panic(datum in datum(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
            let mut bytes = write(&datum).into_bytes();
            for (index, byte) in flips {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(document) = RawDocument::from_bytes(&bytes) {
                let _ = read(document, |text| vec![text.to_owned()]);
            }
        }
    }
}
